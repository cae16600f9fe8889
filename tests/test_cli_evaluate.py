"""``zeroshot evaluate`` and ``zeroshot reproduce``: options reach the library, files are written, mistakes are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from zeroshot.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples" / "images"
MINI = ("--model", "mini", "--device", "cpu")


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as error:
        return int(error.code or 0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The example photographs by class."""
    for name in ("cat", "clock", "coffee", "rocket"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(EXAMPLES / f"{name}.jpg", tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_a_folder_is_measured(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--json", tmp_path / "new" / "found.json", "--html", tmp_path / "page.html")
    assert run("evaluate", photos, *MINI, *files, "--resamples", 20, "--seed", 5) == 0
    shown = capsys.readouterr().out
    assert "images: 4, classes: 4, model: mini" in shown
    assert "top-1 accuracy" in shown
    found = json.loads((tmp_path / "new" / "found.json").read_text())
    assert found["metrics"]["top_1"]["value"] == 1.0
    assert (found["setup"]["options"]["resamples"], found["setup"]["options"]["seed"]) == (20, 5)
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg") == 4


def test_a_broken_image_fails_and_the_rest_is_measured(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "cat" / "broken.jpg").write_bytes(b"no image")
    assert run("evaluate", photos, *MINI) == 1
    printed = capsys.readouterr()
    assert "images: 4, failed: 1" in printed.out
    assert "not every image" not in printed.err  # that is Python's way to tell it


def test_prompts_labels_and_metric(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("--labels", "rocket", "cat", "a clock", "coffee", "clock")
    out = ("--json", tmp_path / "found.json")
    assert run("evaluate", photos, *MINI, "--prompts", "photo", *labels, "--metric", "macro_f1", *out) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["metric"], found["setup"]["match"], found["setup"]["prompts"]["name"]) == (
        "macro_f1",
        "name",
        "photo",
    )
    assert found["setup"]["labels"] == list(labels[1:])
    assert run("evaluate", photos, *MINI, "--prompts", "cifar10") == 0  # has classes of its own, of which one is there
    shown = capsys.readouterr().out
    assert "images: 1, left out: 3, classes: 10" in shown
    assert "1 left out: no label for the class 'clock'" in shown
    assert run("evaluate", photos, *MINI, "--prompts", "cifar10", "--labels-from-data") == 0


def test_heads_and_embeddings(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import zeroshot

    head = zeroshot.build_head(zeroshot.load("mini", device="cpu"), ["cat", "clock", "coffee", "rocket"])
    head.save(tmp_path / "head.safetensors")
    assert run("embed", photos, "--out", tmp_path / "kept.safetensors", *MINI) == 0
    kept = ("--embeddings", tmp_path / "kept.safetensors")
    assert run("evaluate", photos, "--head", tmp_path / "head.safetensors", *kept) == 0
    by_head = capsys.readouterr().out
    assert run("evaluate", photos, *MINI, *kept) == 0
    by_name = capsys.readouterr().out
    assert by_head.splitlines()[2:] == by_name.splitlines()[2:]


def test_lists_with_their_options(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        "photo,what",
        *(f"photos/{name}/{name}.jpg,{n}" for n, name in enumerate(["cat", "clock", "coffee", "rocket"])),
    ]
    (tmp_path / "list.csv").write_text("\n".join([*rows, "photos/cat/cat.jpg,9"]) + "\n")
    (tmp_path / "names.txt").write_text("cat\nclock\ncup of coffee\nrocket\n")
    columns = ("--image-column", "photo", "--label-column", "what")
    assert run("evaluate", tmp_path / "list.csv", *MINI, *columns, "--classes-file", tmp_path / "names.txt") == 0
    shown = capsys.readouterr().out
    assert "images: 4, left out: 1" in shown
    assert "the label 9 is no class" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "no folder or list at 'nowhere'"),
        (["photos", "--labels", "a", "--labels-from-data"], 1, "expected one of them"),
        (["photos", "--metric", "accuracy"], 2, "--metric"),
        (["photos", "--match", "rank"], 2, "--match"),
        (["photos", "--labels", "owl"], 1, "none of the 4 classes"),
        (["photos", "--head", "nowhere.safetensors"], 1, "nowhere.safetensors"),
        (["photos", "--json", "photos/cat/cat.jpg/x.json"], 1, "cannot be written"),
        (["photos", "--html", "photos"], 1, "cannot be written"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    message: str,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photos.parent)
    model = () if "--head" in arguments else MINI
    assert run("evaluate", *arguments, *model) == code
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message in error


def test_pictures_of_one_colour_are_hard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "rocket"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / "1.png")
    assert run("evaluate", tmp_path, *MINI) == 0
    assert "50.0%" in capsys.readouterr().out


def test_the_table_is_filled_with_what_is_there(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = tmp_path / "sets"
    for name, images in {"cat": "cat", "ship": "rocket"}.items():
        (sets / "cifar10" / name).mkdir(parents=True)
        shutil.copy(EXAMPLES / f"{images}.jpg", sets / "cifar10" / name)
    options = ("--data", sets, "--model", "mini", "ViT-B-32/openai", "--prompts", "cifar10", "food101")
    assert run("reproduce", *options, "--plan") == 0
    plan = capsys.readouterr().out
    assert "measured: 0 of 4" in plan
    assert "need: the checkpoint ViT-B-32/openai" in plan
    assert "need: images at" in plan
    assert not (sets / "zeroshot-results.json").exists()
    out = ("--markdown", tmp_path / "table.md", "--json", tmp_path / "all.json")
    assert run("reproduce", *options, *out, "--resamples", 20) == 0
    shown = capsys.readouterr()
    assert "measured: 1 of 4" in shown.out
    assert shown.err == "zeroshot: mini on cifar10: measured\n"
    assert "| cifar10 | top-1 accuracy | 50.0 | – (91.3) |" in (tmp_path / "table.md").read_text()
    cells = json.loads((tmp_path / "all.json").read_text())["cells"]
    assert [cell["status"] for cell in cells] == ["measured", "not run", "not run", "not run"]
    assert cells[2]["published"]["value"] == 0.913
