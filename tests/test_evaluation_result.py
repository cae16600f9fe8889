"""What an evaluation found as text, as JSON, as a page, and in a notebook."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeroshot
from tests.colours import COLOURS, ColourEncoder, write_tree
from tests.reader import Reader
from zeroshot import build_head, evaluate
from zeroshot.evaluation import Evaluation
from zeroshot.metrics import Estimate
from zeroshot.prompts import PromptSet

pytestmark = pytest.mark.filterwarnings("ignore:not every image")  # broken ones are what is tested


@pytest.fixture
def encoder() -> ColourEncoder:
    return ColourEncoder()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "pictures")


@pytest.fixture
def found(tree: Path, encoder: ColourEncoder) -> Evaluation:
    (tree / "red" / "broken<&.png").write_bytes(b"no image")
    return evaluate(tree, model=encoder, prompts="{}")


def test_the_json_has_all_that_is_needed(found: Evaluation, tree: Path, tmp_path: Path, encoder: ColourEncoder) -> None:
    found.save_json(tmp_path / "found.json")
    data = json.loads((tmp_path / "found.json").read_text())
    assert data == found.to_dict()
    setup = data["setup"]
    assert setup["versions"]["zeroshot"] == zeroshot.__version__
    assert setup["model"] == {
        "name": "colours",
        "fingerprint": "colours-fingerprint",
        "device": "cpu",
        "dtype": None,
        "approximate": False,
        "logit_scale": 20.0,
        "logit_bias": None,
    }
    assert setup["prompts"] == {
        "name": "custom",
        "digest": PromptSet(("{}",)).digest,
        "templates": ["{}"],
        "written": {},
        "function": False,
    }
    assert setup["labels"] == sorted(COLOURS)
    assert setup["head"] == build_head(encoder, sorted(COLOURS), prompts="{}").digest
    assert setup["options"] == {"level": 0.95, "resamples": 1000, "seed": 0, "batch_size": 32}
    matrix = np.zeros((6, 6), dtype=int)
    for target, predicted, images in data["confusion"]:
        matrix[target, predicted] = images
    np.testing.assert_array_equal(matrix, found.confusion())
    assert data["metrics"]["expected_calibration_error"]["low"] is None


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def test_the_page_shows_hits_and_misses_and_needs_nothing_else(found: Evaluation, tmp_path: Path) -> None:
    found.save_html(tmp_path / "page.html", pictures=6)
    page = read(tmp_path / "page.html")
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    text = page.text
    for word in ("Misses", "Hits", "Narrow hits", "Confusions", "Reliability", "To repeat it", "broken<&.png"):
        assert word in text
    misses = found.n_images - int(np.trace(found.confusion()))
    assert misses >= 6
    assert len(page.sources) == 6 + 6
    assert "http" not in re.sub(r"<svg.*?</svg>", "", (tmp_path / "page.html").read_text(), flags=re.DOTALL)
    found.save_html(tmp_path / "bare.html", pictures=0)
    assert read(tmp_path / "bare.html").sources == []


def test_the_page_shows_the_right_pictures(found: Evaluation, tmp_path: Path) -> None:
    galleries = {gallery.title: gallery for gallery in found._galleries(8)}
    assert found.ranked is not None
    for title, is_right in (("Misses", False), ("Hits", True), ("Narrow hits", True)):
        for picture in galleries[title].pictures:
            index = next(i for i, source in enumerate(found.sources) if source.endswith("/" + picture.source))
            assert (found.ranked.rank[index] == 0) is np.True_ if is_right else found.ranked.rank[index] > 0
            assert picture.predicted == found.labels[found.ranked.predicted[index]]
            assert picture.target == picture.source.split("/")[0]
            # and the picture is the one of that name
            (tmp_path / "one.jpg").write_bytes(picture.jpeg)
            with Image.open(tmp_path / "one.jpg") as shown, Image.open(found.sources[index]) as original:
                ours, theirs = shown.getpixel((0, 0)), original.getpixel((0, 0))
                np.testing.assert_allclose(ours, theirs, atol=6)
    confidences = [picture.confidence for picture in galleries["Misses"].pictures]
    assert confidences == sorted(confidences, reverse=True)


def test_images_that_are_gone_are_not_shown(found: Evaluation, tree: Path, tmp_path: Path) -> None:
    for path in tree.rglob("*.png"):
        path.unlink()
    found.save_html(tmp_path / "page.html")
    assert read(tmp_path / "page.html").sources == []


def test_names_of_all_kinds(encoder: ColourEncoder, tmp_path: Path) -> None:
    labels = ["red <b>&\x1b[31m", "blue " * 40, "green\u202e", "blue"]
    images = [Image.new("RGB", (2, 2), COLOURS[name]) for name in ("red", "blue", "green", "red")]
    found = evaluate((images, [0, 1, 2, 3]), model=encoder, prompts="{}", labels=labels)
    found.save_html(tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert any("red <b>&" in text for text in page.texts)
    for text in (str(found), found._repr_html_(), (tmp_path / "page.html").read_text()):
        assert "\x1b" not in text
    found.save_json(tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["setup"]["labels"] == labels


def test_a_notebook_and_a_terminal(found: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[2].startswith("top-1 accuracy ")
    assert re.fullmatch(r"<Evaluation: top-1 accuracy \d+\.\d% \(.*\) on 70 images, 1 failed>", repr(found))
    assert "top-1 accuracy" in Reader(found._repr_html_()).text
    small = replace(found, metrics=found.metrics | {"expected_calibration_error": Estimate(0.046, 0.01, 0.095)})
    cells = r"<td[^>]*>expected calibration error</td><td[^>]*>4\.6%</td><td[^>]*>\[1\.0, 9\.5\]</td>"
    assert re.search(cells, small._repr_html_())


def test_pictures_of_archives_and_tables_are_shown_too(encoder: ColourEncoder, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for number, name in enumerate(["red", "blue", "red"]):
            file = io.BytesIO()
            Image.new("RGB", (4, 4), COLOURS[name]).save(file, "PNG")
            for ending, content in (("png", file.getvalue()), ("cls", str(number % 2).encode())):
                info = tarfile.TarInfo(f"{number}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    found = evaluate(tmp_path / "0.tar", model=encoder, prompts="{}", labels=["red", "blue"])
    assert found.value == 1.0
    found.save_html(tmp_path / "page.html")
    assert len(read(tmp_path / "page.html").sources) == 3
