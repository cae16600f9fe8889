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
from zeroshot.metrics import accuracy_top_k, evaluate_probabilities, mean_average_precision

pytestmark = [pytest.mark.extra, pytest.mark.filterwarnings("default")]  # its warnings are its own
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
    classifier = zeroshot.Classifier(folder.classes, model=encoder, prompts=prompts)
    probabilities = classifier.predict_proba([path for path, _ in folder.files])
    ours = evaluate_probabilities(probabilities, [target for _, target in folder.files])
    assert ours.top_5 is not None
    assert ours.top_1.value == pytest.approx(theirs["acc1"], abs=1e-9)
    assert ours.top_5.value == pytest.approx(theirs["acc5"], abs=1e-9)
    assert ours.mean_per_class_recall.value == pytest.approx(theirs["mean_per_class_recall"], abs=1e-9)
    # The three are different numbers, and none of them is trivial.
    assert 0.2 < ours.top_1.value < ours.top_5.value < 1
    assert abs(ours.top_1.value - ours.mean_per_class_recall.value) > 0.005


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
