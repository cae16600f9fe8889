"""Few-shot curve of the bundled `mini` on pieces of photographs, where zero-shot knows much already.

    python examples/few_shot/photographs.py --figure curve.png

The pieces are random windows of the four example photographs, a fifth to a half as wide, so that many show little of
their subject. They are pieces of the same photographs, in the test too: the curve shows what the methods do with few
images, not how a class of photographs is learned.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from zeroshot.fewshot import few_shot

PHOTOGRAPHS = Path(__file__).parents[1] / "images"
LABELS = {"cat": "cat", "clock": "clock", "coffee": "cup of coffee", "rocket": "rocket"}


def pieces(count: int, *, seed: int = 0) -> tuple[list[Image.Image], list[str]]:
    """Return so many random windows of each photograph, and the names of what is on these."""
    rng = np.random.default_rng(seed)
    images: list[Image.Image] = []
    names: list[str] = []
    for name, label in LABELS.items():
        with Image.open(PHOTOGRAPHS / f"{name}.jpg") as opened:
            photograph = opened.convert("RGB")
        for _ in range(count):
            size = round(min(photograph.size) * rng.uniform(0.2, 0.5))
            left, top = (int(rng.integers(0, length - size + 1)) for length in photograph.size)
            images.append(photograph.crop((left, top, left + size, top + size)))
            names.append(label)
    return images, names


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description="Few-shot curve on pieces of photographs.")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--count", type=int, default=80, help="pieces of each, half of them to test on")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--figure", help="draw the curve there")
    arguments = parser.parse_args()
    images, names = pieces(arguments.count)
    curve = few_shot(arguments.model, images, names, shots=arguments.shots, seeds=arguments.seeds)
    print(curve)
    if arguments.figure:
        curve.save_figure(arguments.figure, title=f"{curve.model} on pieces of photographs")


if __name__ == "__main__":
    main()
