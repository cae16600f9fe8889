"""``zeroshot explain``: a picture, numbers, one line of what they are; and one line for a mistake."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import zeroshot
from zeroshot.cli import main

CAT = "examples/images/cat.jpg"
LABELS = ["--labels", "cat", "dog", "car", "--model", "mini"]


def test_a_picture_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, numbers = tmp_path / "heat.png", tmp_path / "heat.json"
    assert main(["explain", CAT, *LABELS, "--out", str(out), "--json", str(numbers)]) == 0
    found = zeroshot.Classifier(["cat", "dog", "car"], model="mini").explain(CAT)
    line = f"cat  {found.score:.1%}  class activation map, weights by integrated gradients (Zhou et al., CVPR 2016"
    said = capsys.readouterr().out
    assert said.startswith(line)
    assert said.splitlines()[1:] == [f"{out}: the picture, with what speaks for 'cat' from dark to light"]
    with Image.open(out) as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(found.overlay()))
    assert json.loads(numbers.read_text(encoding="utf-8")) == found.to_dict()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["heat.json", "heat.png"]


def test_another_label_another_number_a_saved_head_and_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = zeroshot.Classifier(["cat", "dog"], model="mini")
    classifier.head.save(tmp_path / "head.safetensors")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(Path(CAT).read_bytes())))
    numbers = tmp_path / "heat.json"
    options = ["--head", str(tmp_path / "head.safetensors"), "--label", "dog", "--of", "similarity"]
    assert main(["explain", "-", *options, "--json", str(numbers)]) == 0
    data = json.loads(numbers.read_text(encoding="utf-8"))
    assert (data["label"], data["index"], data["of"]) == ("dog", 1, "similarity")
    assert data == classifier.explain(CAT, "dog", of="similarity").to_dict()
    assert capsys.readouterr().out.startswith("dog  ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "cats", "--out", "heat.png"], "no label is called 'cats'; near it: 'cat'"),
        (["--out", "heat.mp4"], "--out is 'heat.mp4'; expected a name that ends in .png, .jpg or .webp"),
        (["--out", "heat"], "--out is 'heat'; expected"),
        (["--model", "/no/such/model", "--label", "cats", "--out", "heat.png"], "no label is called 'cats'"),
    ],
)
def test_a_mistake_is_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", CAT, *LABELS, *options]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"zeroshot: {message}")
    assert (captured.err.count("\n"), captured.out) == (1, "")
    assert not Path(options[-1]).exists()


def test_an_image_that_was_taken_for_a_label(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--labels", "cat", CAT, "--out", "heat.png"]) == 2
    assert capsys.readouterr().err.startswith(f"zeroshot: {CAT!r} was read as a label; put the image before")
    assert main(["explain", "--labels", "cat", "--out", "heat.png"]) == 2
    assert "required: IMAGE" in capsys.readouterr().err


def test_a_broken_image_is_told_before_a_model_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(CAT).read_bytes()[:2000])
    assert main(["explain", str(broken), *LABELS, "--model", "/no/such/model", "--out", "heat.png"]) == 1
    assert capsys.readouterr().err.startswith(f"zeroshot: {str(broken)!r} cannot be decoded")


@pytest.mark.parametrize(("option", "name"), [("--out", "cat.jpg"), ("--out", "./link.png"), ("--json", "cat.json")])
def test_the_picture_itself_is_not_written_over(
    option: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Path(CAT).read_bytes()
    monkeypatch.chdir(tmp_path)
    Path("cat.jpg").write_bytes(content)
    Path("link.png").symlink_to("cat.jpg")
    Path("cat.json").hardlink_to("cat.jpg")
    assert main(["explain", "cat.jpg", *LABELS, option, name]) == 2
    said = f"zeroshot: {option} is {str(Path(name))!r}, the picture itself; expected another name. Try"
    assert capsys.readouterr().err.startswith(said)
    assert Path("cat.jpg").read_bytes() == content


def test_a_document_in_place_of_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", CAT, *LABELS, "--label", "dog", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == zeroshot.Classifier(["cat", "dog", "car"], model="mini").explain(CAT, "dog").to_dict()


def test_a_picture_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "heat.png"  # a file is no folder, for root neither
    assert main(["explain", CAT, *LABELS, "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"zeroshot: {out} cannot be written: ")
    assert (captured.err.count("\n"), captured.out) == (1, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "one of --out and --json is required"),
        (["--labels", "cat", "--out", "heat.png"], "'cat' is the only label, so that nothing speaks against it"),
        (["--jsn"], "there is no option --jsn; did you mean '--json'? Try"),
        (["--out", "heat.png", "--head", "head.safetensors"], "--head has its own classes"),
        (["--out", "heat.png", "--layers", "0"], "argument --layers: '0' is not a whole number of at least 1"),
        (["--out", "heat.png", "--of", "probabilty"], "argument --of: 'probabilty' is none of probability, similarity"),
        (["--json=heat.txt"], "argument --json: 'heat.txt' does not end in .json"),
    ],
)
def test_a_wrong_command_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", CAT, *LABELS, *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"zeroshot: {message}")
    assert "Try 'zeroshot explain --help'" in captured.err
    assert (captured.err.count("\n"), captured.out) == (1, "")
