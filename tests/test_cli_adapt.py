"""``zeroshot probe``, ``fewshot`` and ``calibrate`` as a shell user meets them, on pieces of the four photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from zeroshot.cli import main
from zeroshot.head import Head

IMAGES = Path(__file__).parent.parent / "examples" / "images"
MINI = ("--model", "mini", "--device", "cpu")


def run(*arguments: object) -> int:
    """Run in this process; argparse leaves by SystemExit."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six pieces each; not to be changed."""
    root = tmp_path_factory.mktemp("photos")
    for name in ("cat", "rocket"):
        (root / name).mkdir()
        with Image.open(IMAGES / f"{name}.jpg") as image:
            picture = image.convert("RGB").resize((240, 240))
        for index in range(6):
            left, top = 20 * (index % 3), 30 * (index // 3)
            picture.crop((left, top, left + 180, top + 180)).save(root / name / f"{index}.png")
    return root


def test_a_probe_is_fitted_and_classifies(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "probe.safetensors"
    assert run("probe", photos, "--out", out, "--l2", "1", *MINI) == 0
    assert capsys.readouterr().out == f"{out}: linear probe on 12 images, l2 1\n"
    assert (Head.load(out).labels, Head.load(out).space) == (("cat", "rocket"), "features")
    assert run("classify", photos / "rocket" / "3.png", "--head", out, "--device", "cpu", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] == "rocket"
    assert run("classify", photos / "rocket", "--head", out, "--out", tmp_path / "rows.csv", *MINI) == 0
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == ["rocket"] * 6


def test_from_zero_shot_with_images_for_validation(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("tabby cat\nspace rocket\n")
    options = ("--from-zero-shot", "--labels-file", names, "--validation", photos)
    assert run("probe", photos, "--out", tmp_path / "head", *options, *MINI) == 0
    assert "probe from zero-shot on 24 images, l2 " in capsys.readouterr().out
    assert (Head.load(tmp_path / "head").labels, Head.load(tmp_path / "head").space) == (
        ("tabby cat", "space rocket"),
        "embeddings",
    )


def test_curves_are_printed_and_written(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = tmp_path / "curve.json"
    assert run("fewshot", photos, "--shots", "1", "2", "--seeds", "2", "--json", numbers, *MINI) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mini, 2 classes, 6 test images, 2 draws of the shots"
    assert [line.split()[0] for line in lines[2:]] == ["shots", "zero-shot", "from", "linear"]
    assert json.loads(numbers.read_text())["shots"] == [1, 2]
    assert run("fewshot", photos, "--shots", "9", *MINI) == 1
    assert "shots reach 9, and the class 'cat' has 3 images" in capsys.readouterr().err


def test_a_head_that_is_always_right_has_no_temperature(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("calibrate", photos, *MINI) == 1
    assert "all 12 images are right" in capsys.readouterr().err


def test_a_head_is_calibrated(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = tmp_path / "mixed"
    for name, other in (("cat", "rocket"), ("rocket", "cat")):  # every sixth image lies in the wrong folder
        (mixed / name).mkdir(parents=True)
        for index in range(5):
            (mixed / name / f"{index}.png").hardlink_to(photos / name / f"{index}.png")
        (mixed / name / "5.png").hardlink_to(photos / other / "5.png")
    head, out, numbers = tmp_path / "probe", tmp_path / "calibrated", tmp_path / "numbers.json"
    assert run("probe", photos, "--out", head, "--l2", "1", *MINI) == 0
    assert run("calibrate", mixed, "--head", head, "--out", out, "--json", numbers, "--device", "cpu") == 0
    told = json.loads(numbers.read_text())
    assert Head.load(out).temperature == pytest.approx(told["temperature"])
    assert told["temperature"] > 1  # it was surer than five times in six
    assert told["after"]["log_loss"] < told["before"]["log_loss"]
    assert "calibration error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["probe", "DATA"], 2, "--out"),
        (["probe", "DATA", "--out", "x", "--prompts", "photo"], 2, "go with --from-zero-shot"),
        (["calibrate", "DATA", "--head", "x", "--prompts", "photo"], 2, "--head stands in the place"),
        (["classify", "x.jpg", "--head", "x", "--prompts", "photo"], 2, "--head has its own classes"),
        (["probe", "nowhere", "--out", "x", *MINI], 1, "no folder or list at 'nowhere'"),
        (["calibrate", "DATA", "--head", "nowhere"], 1, "nowhere"),
        (["fewshot", "DATA", "--shots", "none"], 2, "'none' is not a whole number"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    photos: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*[photos if argument == "DATA" else argument for argument in arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]


@pytest.mark.parametrize(
    "command",
    [
        ["head", "build", "--labels", "cat", "rocket"],
        ["probe", "DATA", "--l2", "1"],
        ["calibrate", "DATA"],
    ],
    ids=lambda command: command[0],
)
def test_a_head_is_written_over_heads_only(
    command: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [photos if word == "DATA" else word for word in command]
    embeddings, text, head = tmp_path / "photos.safetensors", tmp_path / "notes.txt", tmp_path / "head"
    assert run("embed", photos / "cat" / "0.png", "--out", embeddings, *MINI) == 0
    text.write_text("notes")
    capsys.readouterr()
    for path, what in ((embeddings, " but a file of the format 'zeroshot-embeddings/1'"), (text, "")):
        content = path.read_bytes()
        assert run(*words, "--out", path, "--model", "/no/such/model") == 1
        assert capsys.readouterr().err == f"zeroshot: {path} exists and is no head{what}; choose another name\n"
        assert path.read_bytes() == content
    assert run("head", "build", "--labels", "dog", "--out", head, *MINI) == 0
    if command[0] != "calibrate":  # these are all right, so that nothing is to be calibrated
        assert run(*words, "--out", head, *MINI) == 0
        assert Head.load(head).labels == ("cat", "rocket")


def test_classes_that_the_head_does_not_have(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("probe", photos, "--out", tmp_path / "head", "--l2", "1", *MINI) == 0
    (tmp_path / "other" / "dog").mkdir(parents=True)
    (tmp_path / "other" / "dog" / "1.png").hardlink_to(photos / "cat" / "1.png")
    assert run("calibrate", tmp_path / "other", "--head", tmp_path / "head") == 1
    assert "the class 'dog' of" in capsys.readouterr().err
