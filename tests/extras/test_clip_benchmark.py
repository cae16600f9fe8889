"""CLIP_benchmark evaluates the native encoder through the adapter and finds what our own metrics find."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import zeroshot
from zeroshot.adapters import to_open_clip
from zeroshot.metrics import accuracy_top_k, mean_average_precision

pytestmark = [pytest.mark.extra, pytest.mark.filterwarnings("default")]  # its warnings are its own
NAMES = {"top_1": "acc1", "top_5": "acc5", "mean_per_class_recall": "mean_per_class_recall"}  # ours: theirs
PHOTOGRAPHS = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture
def clip_benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """CLIP_benchmark's zero-shot classification, as it is."""
    module = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    # Version 1.6.2 calls float() on arrays of one number, which NumPy takes no longer since 2.4.
    monkeypatch.setattr(module, "float", lambda value: np.asarray(value).item(), raising=False)
    return module


class Folder(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Pictures in files, as torchvision's data sets give them."""

    classes = (
        *("cat", "clock", "cup of coffee", "rocket"),
        *("kitten", "lynx", "fox", "watch", "compass", "barometer", "saucer", "spoon", "soup", "missile", "tower"),
    )

    def __init__(self, folder: Path, transform: Callable[[Any], Tensor] | None = None) -> None:
        # Pieces of the example photographs: some show what the name says, some do not.
        names = ("cat", "clock", "coffee", "rocket")
        self.files: list[tuple[Path, int]] = []
        self.transform = transform
        for target, name in enumerate(names):
            with Image.open(PHOTOGRAPHS / f"{name}.jpg") as photograph:
                folder.mkdir(parents=True, exist_ok=True)
                for row, column in itertools.product(range(2), range(3 + target)):
                    size = photograph.width // (3 + target), photograph.height // 2
                    box = (column * size[0], row * size[1], (column + 1) * size[0], (row + 1) * size[1])
                    path = folder / f"{name}-{row}-{column}.png"
                    photograph.crop(box).save(path)
                    self.files.append((path, target))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        assert self.transform is not None
        path, target = self.files[index]
        with Image.open(path) as picture:
            return self.transform(picture.convert("RGB")), target


def test_clip_benchmark_finds_the_same_accuracies(clip_benchmark: Any, tmp_path: Path) -> None:
    encoder, templates = zeroshot.load("mini", device="cpu"), ["a photo of a {c}.", "a picture of the {c}."]
    model, transform, tokenizer = to_open_clip(encoder)
    folder = Folder(tmp_path, transform)
    loader = torch.utils.data.DataLoader(folder, batch_size=16)
    theirs = clip_benchmark.evaluate(model, loader, tokenizer, list(folder.classes), templates, "cpu", amp=False)

    prompts = [template.replace("{c}", "{}") for template in templates]
    files, targets = zip(*folder.files, strict=True)
    found = zeroshot.evaluate((files, targets), model=encoder, prompts=prompts, labels=folder.classes)
    ours = {name: one.value for name, one in found.metrics.items()}
    for name, their_name in NAMES.items():
        assert ours[name] == pytest.approx(theirs[their_name], abs=1e-9)
    # The three are different numbers, and none of them is trivial.
    assert 0.2 < ours["top_1"] < ours["top_5"] < 1
    assert abs(ours["top_1"] - ours["mean_per_class_recall"]) > 0.005
    # To the last image: with one target changed they are no longer equal.
    wrong = [*targets[:-1], (targets[-1] + 1) % 4]
    other = zeroshot.evaluate((files, wrong), model=encoder, prompts=prompts, labels=folder.classes)
    assert any(abs(other.metrics[name].value - theirs[NAMES[name]]) > 1e-4 for name in NAMES)


def test_clip_benchmark_on_the_same_class_folders(clip_benchmark: Any, tmp_path: Path) -> None:
    """A tree of class folders, read by their loader in one order and by `evaluate` from the disk in another."""
    encoder = zeroshot.load("mini", device="cpu")
    model, transform, tokenizer = to_open_clip(encoder)
    folder, names = Folder(tmp_path / "all", transform), list(Folder.classes)[::-1]
    moved = []
    for number, (path, target) in enumerate(folder.files):
        place = tmp_path / "tree" / folder.classes[target].replace(" ", "_") / ("deep" if number % 3 else "")
        place.mkdir(parents=True, exist_ok=True)
        moved.append((path.rename(place / f"{97 * number % 101:03}.png"), names.index(folder.classes[target])))
    folder.files = moved
    loader = torch.utils.data.DataLoader(folder, batch_size=16)
    theirs = clip_benchmark.evaluate(model, loader, tokenizer, names, ["a photo of a {c}."], "cpu", amp=False)
    found = zeroshot.evaluate(tmp_path / "tree", model=encoder, prompts="a photo of a {}.", labels=names)
    assert (found.n_images, found.setup["match"]) == (len(moved), "name")
    for name, their_name in NAMES.items():
        assert found.metrics[name].value == pytest.approx(theirs[their_name], abs=1e-9)
    assert 0.2 < found.metrics["top_1"].value < found.metrics["top_5"].value < 1


@pytest.mark.parametrize("seed", range(5))
def test_clip_benchmarks_metrics_on_random_numbers(clip_benchmark: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, shown = torch.from_numpy(rng.random((50, 8))), torch.from_numpy(rng.integers(0, 2, size=(50, 8)))
    targets = torch.from_numpy(rng.integers(0, 8, size=50))
    top_1, top_5 = clip_benchmark.accuracy(scores, targets, topk=(1, 5))
    assert accuracy_top_k(scores, targets) == pytest.approx(top_1)
    assert accuracy_top_k(scores, targets, k=5) == pytest.approx(top_5)
    precision = float(clip_benchmark.average_precision_per_class(scores, shown).mean())
    assert mean_average_precision(scores, shown) == pytest.approx(precision, abs=1e-6)
