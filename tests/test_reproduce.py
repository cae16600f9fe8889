"""The published table: its numbers, what is measured of it, and that a second run fills the gaps only."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zeroshot.errors import ModelNotFoundError, OptionError, PromptNotFoundError
from zeroshot.evaluation import evaluate
from zeroshot.prompts import available_prompts, load_prompts
from zeroshot.registry import available_models
from zeroshot.reproduce import PAPER, RESULTS, SOURCES, Cell, published_results, reproduce

# A few cells of the paper's table 11, read a second time by hand: first and last columns, first and last rows.
TABLE_11 = {
    ("RN50/openai", "food101"): 0.811,
    ("RN50/openai", "imagenet"): 0.596,
    ("RN50x64/openai", "mnist"): 0.908,
    ("ViT-B-32/openai", "cifar10"): 0.913,
    ("ViT-B-32/openai", "oxford_pets"): 0.870,
    ("ViT-L-14-336/openai", "food101"): 0.938,
    ("ViT-L-14-336/openai", "sst2"): 0.679,
    ("ViT-L-14-336/openai", "imagenet"): 0.762,
}


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two of the paper's sets, with a few pictures of some classes."""
    for name, classes in {"cifar10": ["cat", "ship", "frog"], "eurosat": ["forest", "river"]}.items():
        for position, label in enumerate(classes):
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(2):
                picture = Image.new("RGB", (40, 40), (90 * position, 60 * number, 120))
                picture.save(tmp_path / name / label / f"{number}.png")
    return tmp_path


def test_the_numbers_are_the_papers() -> None:
    numbers = {(one.model, one.prompts): one.value for one in published_results() if one.source == PAPER}
    assert len(numbers) == 9 * 27
    assert {key: numbers[key] for key in TABLE_11} == TABLE_11
    assert all(0 < value < 1 for value in numbers.values())


def test_two_sources_agree_about_the_same_checkpoints() -> None:
    # open_clip evaluated them anew; a number in the wrong row would be off by more.
    by_source: dict[str, dict[str, float]] = {}
    for one in published_results():
        if one.prompts == "imagenet":
            by_source.setdefault(one.source, {})[one.model] = one.value
    assert len(by_source[PAPER]) == 9
    for model, value in by_source[PAPER].items():
        assert by_source["open_clip"][model] == pytest.approx(value, abs=0.006)
    ordered = sorted(by_source[PAPER].values())
    assert min(b - a for a, b in itertools.pairwise(ordered)) > 0.006


def test_every_number_has_a_source_a_model_and_a_set() -> None:
    models = {entry.name for entry in available_models()}
    seen = set()
    for one in published_results():
        assert one.source in SOURCES
        assert one.model in models
        assert one.prompts in available_prompts()
        assert load_prompts(one.prompts).classes
        assert 0 < one.value < 1
        seen.add((one.source, one.model, one.prompts))
    assert len(seen) == len(published_results())


def test_what_is_there_is_measured_and_the_rest_is_marked(sets: Path, clip: Any) -> None:
    found = reproduce(sets, models=[clip, "ViT-B-32/openai"], prompts=["cifar10", "eurosat", "mnist"], resamples=20)
    assert [cell.status for cell in found.cells] == ["measured", "measured", *["not run"] * 4]
    for cell in found.cells[:2]:
        assert cell.measured is not None
        expected = evaluate(sets / cell.prompts, model=clip, prompts=cell.prompts, resamples=20)
        assert (cell.metric, cell.measured.value) == (expected.metric, expected.value)
        assert cell.measured.setup == expected.setup
        assert (cell.measured.images, cell.measured.failed) == (expected.n_images, 0)
        assert cell.difference is None  # nothing was published of this one
    missing, absent = found.cells[2], found.cells[3]
    (images,) = missing.needs
    assert images.startswith(f"images at {sets / 'mnist'}: http")
    assert absent.needs == ("the checkpoint ViT-B-32/openai, which zeroshot.load('ViT-B-32/openai') fetches",)
    assert len(found.cells[5].needs) == 2
    assert absent.published is not None
    assert absent.published.value == 0.913
    text = str(found)
    assert "measured: 2 of 6, not run: 4" in text
    assert "3 of these need: the checkpoint ViT-B-32/openai" in text
    assert f"2 of these need: {images}" in text
    assert json.loads(json.dumps(found.to_dict()))["cells"][0]["status"] == "measured"


def test_a_second_run_fills_the_gaps_only(sets: Path, make_fake: Any, clip: Any) -> None:
    first: list[Cell] = []
    options: dict[str, Any] = {"prompts": ["cifar10", "eurosat"], "resamples": 20}
    shutil.move(sets / "eurosat", sets / "elsewhere")
    reproduce(sets, models=[clip], each=first.append, **options)
    assert [cell.status for cell in first] == ["measured", "not run"]
    shutil.move(sets / "elsewhere", sets / "eurosat")
    shutil.rmtree(sets / "cifar10")  # not looked at again
    second = reproduce(sets, models=[clip], **options).cells
    assert [cell.status for cell in second] == ["measured", "measured"]
    assert second[0] == first[0]
    assert reproduce(sets, models=[clip], again=True, **options).cells[0].status == "not run"


def test_results_of_other_prompts_are_not_taken(sets: Path, clip: Any) -> None:
    reproduce(sets, models=[clip], prompts=["cifar10"], resamples=20)
    kept = json.loads((sets / RESULTS).read_text())
    kept["results"][clip.name]["cifar10"]["prompts"] = "of another day"
    (sets / RESULTS).write_text(json.dumps(kept))
    found = reproduce(sets, models=[clip], prompts=["cifar10"], run=False)
    assert (found.cells[0].status, found.cells[0].needs) == ("not run", ())
    assert "1 of these need nothing more" in str(found)


def test_what_fails_takes_nothing_from_the_others(sets: Path, clip: Any) -> None:
    for path in (sets / "cifar10").rglob("*.png"):
        path.write_bytes(b"no image")
    found = reproduce(sets, models=[clip], prompts=["cifar10", "eurosat"], resamples=20)
    assert [cell.status for cell in found.cells] == ["failed", "measured"]
    assert "can be measured: 6 failed" in found.cells[0].error
    assert "failed: " in str(found)
    assert "cifar10" not in json.loads((sets / RESULTS).read_text())["results"][clip.name]


def test_the_table_in_markdown(sets: Path, clip: Any) -> None:
    found = reproduce(sets, models=[clip, "RN50/openai"], prompts=["eurosat", "voc2007"], resamples=20)
    head, _, eurosat, voc, *_ = found.to_markdown().splitlines()
    assert head == f"| set | metric | {clip.name} | RN50/openai |"
    value = found.cells[0].measured.value  # type: ignore[union-attr]
    assert eurosat == f"| eurosat | top-1 accuracy | {100 * value:.1f} | – (41.1) |"
    assert voc == "| voc2007 | 11-point mean average precision | – | – (82.1) |"


def test_without_anything_it_is_a_plan_of_the_whole_table(tmp_path: Path) -> None:
    found = reproduce(tmp_path)
    assert len(found.cells) == 243
    assert {cell.status for cell in found.cells} == {"not run"}
    assert all(cell.published is not None for cell in found.cells)
    assert list(tmp_path.iterdir()) == []


def test_mistakes(tmp_path: Path, clip: Any) -> None:
    with pytest.raises(OptionError, match="'photo' has no classes"):
        reproduce(tmp_path, prompts=["photo"])
    with pytest.raises(PromptNotFoundError, match="'mnist'"):
        reproduce(tmp_path, prompts=["mnits"])
    with pytest.raises(ModelNotFoundError, match="ViT-B-32"):
        reproduce(tmp_path, models=["ViT-B-32/openia"])
    for content in ("no json", "[]", '{"format": "other"}', '{"format": "zeroshot-reproduce/1"}'):
        (tmp_path / "kept.json").write_text(content)
        with pytest.raises(OptionError, match=r"kept\.json"):
            reproduce(tmp_path, models=[clip], prompts=["mnist"], results=tmp_path / "kept.json")
