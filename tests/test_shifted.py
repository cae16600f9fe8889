"""Accuracy under shifts on folders and on corrupted images, with encoders that read the answer off the picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zeroshot.cli import main
from zeroshot.errors import ImageError, LabelError, OptionError
from zeroshot.evaluation import evaluate
from zeroshot.metrics import Estimate
from zeroshot.prompts import load_prompts
from zeroshot.robustness import evaluate_robustness, load_baseline
from zeroshot.shifted import CorruptionResult, CorruptionRobustness, evaluate_corruptions, evaluate_shifts
from zeroshot.shifts import load_shift

NAMES = load_prompts("imagenet").classes
WRONG = 200  # the red of a picture whose class is told wrongly: as the class after it


class Reader:
    """An encoder that reads ImageNet's class off the first pixel of a picture: red apart, green and blue its digits."""

    name, dim, logit_scale, logit_bias, fingerprint = "reader", 64, 40.0, None, "reader"
    device = torch.device("cpu")

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [np.random.default_rng(list(text.encode())).normal(size=self.dim) for text in texts]
        return torch.from_numpy(np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32))

    def encode_images(self, images: Any) -> torch.Tensor:
        pixels = [np.asarray(image)[0, 0].astype(int) for image in images]
        return self.encode_texts([NAMES[green * 250 + blue + (red == WRONG)] for red, green, blue in pixels])


def picture(folder: Path, number: int, index: int, *, wrong: bool = False, border: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((4 + 2 * border, 4 + 2 * border, 3), (WRONG if wrong else 0, index // 250, index % 250), np.uint8)
    if border:  # ObjectNet's frame says another class
        pixels[:border], pixels[-border:], pixels[:, :border], pixels[:, -border:] = ((0, 0, 7),) * 4
    Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Four classes of ImageNet and of four shifts; one image of two is told wrongly in some."""
    ids = load_shift("imagenet").folders
    found = {
        name: tmp_path / name for name in ("imagenet", "imagenet_r", "imagenet_v2", "objectnet", "imagenet_vid_pm0")
    }
    for index in (1, 2, 5, 409):  # goldfish, white shark, electric ray (not in R), analog clock (in ObjectNet)
        picture(found["imagenet"] / ids[index], 0, index)
        picture(found["imagenet"] / ids[index], 1, index, wrong=index == 2)
        picture(found["imagenet_v2"] / str(index), 0, index, wrong=index in (1, 409))
    picture(found["imagenet"] / ids[151], 0, 151)  # a dog
    for index in (1, 2):
        picture(found["imagenet_r"] / ids[index], 0, index, wrong=index == 1)
    picture(found["objectnet"] / "alarm_clock", 0, 530, border=2)  # digital clock: the same class of ObjectNet
    picture(found["objectnet"] / "air_freshener", 0, 7)  # none of ImageNet's: does not count
    picture(found["imagenet_vid_pm0"] / "dog", 0, 200)  # another dog than 151
    picture(found["imagenet_vid_pm0"] / "dog", 1, 268, wrong=True)  # 269 is a wolf, which no class of the set has
    return found


def test_folders_are_pooled_and_counted(folders: dict[str, Path]) -> None:
    found = evaluate_shifts(folders, model=Reader(), prompts="{}", base="resnet101")
    results = {one.shift: one for one in found.results}
    # Of ImageNet's 9 images one is wrong: a white shark, 2, taken for 3, which is no class of ImageNet-R; there the
    # classifier has only R's columns, and something else is on top.
    assert results["imagenet_v2"].reference == pytest.approx(8 / 9)
    assert results["imagenet_v2"].accuracy == pytest.approx(2 / 4)
    assert results["imagenet_r"].reference == pytest.approx(4 / 5)  # goldfish, white shark and dog
    assert results["imagenet_r"].accuracy in (0.5, 1.0)
    assert (results["objectnet"].accuracy, results["objectnet"].n_images) == (1.0, 1)
    assert results["imagenet_vid_pm0"].reference == 1.0
    assert results["imagenet_vid_pm0"].n_images == 2
    assert [one.n_images for one in found.results] == [2, 4, 1, 2]
    v2 = results["imagenet_v2"]
    assert v2.expected == load_baseline("imagenet_v2").expected(8 / 9)
    assert v2.relative == pytest.approx(0.5 - load_baseline("imagenet_v2").accuracies("resnet101")[1])
    assert (found.name, found.notes) == ("reader", ())


def test_a_picture_that_is_told_otherwise_changes_the_figure(folders: dict[str, Path]) -> None:
    picture(folders["imagenet_v2"] / "1", 0, 1)
    found = evaluate_shifts({name: folders[name] for name in ("imagenet", "imagenet_v2")}, model=Reader(), prompts="{}")
    assert found.results[0].accuracy == pytest.approx(3 / 4)


def test_what_cannot_be_read_is_left_out_and_told(folders: dict[str, Path]) -> None:
    (folders["imagenet_v2"] / "1" / "broken.jpg").write_bytes(b"no image")
    chosen = {name: folders[name] for name in ("imagenet", "imagenet_v2")}
    found = evaluate_shifts(chosen, model=Reader(), prompts="{}")
    assert found.results[0].accuracy == pytest.approx(2 / 4)
    assert "ImageNet-V2: 1 of 5 images could not be read, such as: " in found.notes[0]
    assert str(found).endswith(found.notes[0])


def test_mistakes_with_folders_are_told(folders: dict[str, Path]) -> None:
    def call(**chosen: Path) -> None:
        evaluate_shifts(chosen, model=Reader(), prompts="{}")  # type: ignore[arg-type]

    with pytest.raises(OptionError, match=r"folders are \['imagenet_r'\]; expected 'imagenet'"):
        call(imagenet_r=folders["imagenet_r"])
    with pytest.raises(OptionError, match="can be measured as 'youtube_bb_pm0'"):
        call(imagenet=folders["imagenet"], youtube_bb=folders["imagenet_r"])
    with pytest.raises(OptionError, match="shift 'imagenet_q' is not known"):
        call(imagenet=folders["imagenet"], imagenet_q=folders["imagenet_r"])
    with pytest.raises(LabelError, match="is none of ImageNet-A"):
        call(imagenet=folders["imagenet"], imagenet_a=folders["imagenet_r"])
    picture(folders["imagenet"].parent / "tench" / "n01440764", 0, 0)
    with pytest.raises(ImageError, match="has no readable image of the classes of ImageNet-R"):
        call(imagenet=folders["imagenet"].parent / "tench", imagenet_r=folders["imagenet_r"])


def test_evaluations_are_taken_as_they_are(folders: dict[str, Path]) -> None:
    pairs = {
        name: evaluate(DATA, model="mini", prompts=template) for name, template in {"a": "{}", "b": "a {}"}.items()
    }
    found = evaluate_robustness({"imagenet": pairs["a"], "imagenet_v2": pairs["b"], "imagenet_r": (0.9, pairs["b"])})
    assert [(one.accuracy, one.n_images) for one in found.results] == [(1.0, 4), (1.0, 4)]
    assert found.results[0].reference == 1.0
    several = evaluate((PHOTOGRAPHS, [["cat"], ["clock"], [], ["rocket"]]), model="mini")
    with pytest.raises(OptionError, match="is an evaluation without top-1: its images show several classes"):
        evaluate_robustness({"imagenet_r": (0.9, several)})


# -------------------------------------------------------------------------------------------------------- corruptions

PHOTOGRAPHS = [f"examples/images/{name}.jpg" for name in ("cat", "clock", "coffee", "rocket")]
DATA = (PHOTOGRAPHS, ["cat", "clock", "cup of coffee", "rocket"])


def test_accuracy_falls_with_severity() -> None:
    found = evaluate_corruptions(DATA, model="mini", kinds=["contrast", "brightness"], severities=[1, 5])
    contrast, brightness = found.results
    assert found.clean.value == 1.0
    assert contrast.accuracies[0] >= contrast.accuracies[1]
    assert contrast.accuracies[1] < 1.0
    assert brightness.accuracies[0] == 1.0
    assert found.mean_error == pytest.approx((contrast.error + brightness.error) / 2)
    assert found.relative_error == pytest.approx(found.mean_error)
    again = evaluate_corruptions(DATA, model="mini", kinds=["contrast", "brightness"], severities=[1, 5])
    assert again.to_dict() == found.to_dict()
    lines = str(found).splitlines()
    assert lines[2].split() == ["corruption", "1", "5", "mean"]
    assert lines[3].split()[0] == "contrast"
    assert "No baseline: it is not divided by another model's" in lines[-1]


def made(errors: dict[str, tuple[float, ...]], clean: float) -> CorruptionRobustness:
    results = tuple(CorruptionResult(kind, tuple(1 - e for e in row)) for kind, row in errors.items())
    return CorruptionRobustness(results, Estimate(1 - clean, 0, 1), (1, 5), "m", 10, 0, 0)


def test_the_mean_corruption_error_by_hand() -> None:
    ours = made({"fog": (0.2, 0.4), "snow": (0.3, 0.6)}, clean=0.1)
    base = made({"fog": (0.4, 0.8), "snow": (0.5, 0.7)}, clean=0.2)
    # (0.6 / 1.2 + 0.9 / 1.2) / 2, and without what is lost anyway: (0.4 / 0.8 + 0.7 / 0.8) / 2.
    assert ours.mean_corruption_error(base) == pytest.approx(0.625)
    assert ours.mean_corruption_error(base, relative=True) == pytest.approx(0.6875)
    assert base.mean_corruption_error(base) == pytest.approx(1)
    assert ours.mean_error == pytest.approx(0.375)
    assert ours.relative_error == pytest.approx(0.275)
    with pytest.raises(OptionError, match="the baseline is of "):
        ours.mean_corruption_error(made({"fog": (0.4, 0.8)}, 0.2))
    with pytest.raises(OptionError, match="makes no error under 'fog'"):
        ours.mean_corruption_error(made({"fog": (0, 0), "snow": (0, 0)}, 0))


@pytest.mark.filterwarnings("ignore:not every image")
def test_broken_images_are_counted(tmp_path: Path) -> None:
    data = ([*PHOTOGRAPHS, "no such.jpg"], [*DATA[1], "cat"])
    found = evaluate_corruptions(data, model="mini", kinds=["fog"], severities=[1])
    assert (found.n_images, found.failed) == (4, 1)
    assert "1 images could not be read." in str(found)


@pytest.mark.parametrize("options", [{"kinds": []}, {"severities": []}, {"severities": [0]}, {"kinds": ["frog"]}])
def test_mistakes_with_corruptions_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="expected"):
        evaluate_corruptions(DATA, model="mini", **options)


def test_figures_have_a_line_for_each_kind() -> None:
    pytest.importorskip("matplotlib")
    figure = made({"fog": (0.2, 0.4), "snow": (0.3, 0.6)}, clean=0.1).figure()
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    assert list(lines) == ["fog", "snow", "mean"]
    assert lines["mean"] == pytest.approx([90, 75, 50])


# -------------------------------------------------------------------------------------------------------- command line


def test_shifts_of_accuracies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    arguments = [
        "imagenet=0.633",
        "imagenet_v2=0.558",
        "imagenet_r=0.881,0.693",
        "--name",
        "B/32",
        "--base",
        "resnet101",
    ]
    assert main(["robustness", "shifts", *arguments, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("model: B/32\n")
    assert "+39.0     +30.0" in out
    assert json.loads(file.read_text())["shifts"][1]["shift"] == "imagenet_r"


def test_corruptions_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "rocket"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(Path(f"examples/images/{name}.jpg").read_bytes())
    arguments = [str(tmp_path), "--model", "mini", "--kinds", "fog", "--severities", "1", "2"]
    assert main(["robustness", "corruptions", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["corruption", "1", "2", "mean"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["imagenet_r"], "'imagenet_r' is no measurement; expected such as"),
        (["imagenet=0.5", "imagenet_r=folder"], "both folders (imagenet_r) and accuracies came"),
        (["imagenet_r=88,69"], "in per cent, divide by 100"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robustness", "shifts", *arguments]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
