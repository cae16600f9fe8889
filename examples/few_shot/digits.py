"""Few-shot curve of the bundled `mini` on real scans of digits, which it was not made for.

    pip install 'zeroshot-clip[probe,plot]'
    python examples/few_shot/digits.py --figure curve.png

The scans are those that scikit-learn carries, 8 by 8 pixels (Alpaydin and Kaynak, Optical Recognition of Handwritten
Digits, UCI, 1998; CC BY 4.0). Nothing is downloaded.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from zeroshot.fewshot import few_shot


def digits(count: int) -> tuple[list[Image.Image], list[str]]:
    """Return the first so many of each digit, ten times `count` // 10 in all, enlarged; and their names, '0' to '9'."""
    data = load_digits()
    chosen = np.sort(np.concatenate([np.flatnonzero(data.target == digit)[: count // 10] for digit in range(10)]))
    scans = [Image.fromarray(np.uint8(np.minimum(16 * data.images[index], 255))) for index in chosen]
    names = [str(data.target[index]) for index in chosen]
    return [scan.resize((64, 64), Image.Resampling.BICUBIC).convert("RGB") for scan in scans], names


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description="Few-shot curve on real scans of digits.")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--count", type=int, default=1000, help="scans in all, half of them to test on (at most 1740)")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--figure", help="draw the curve there")
    arguments = parser.parse_args()
    images, names = digits(arguments.count)
    curve = few_shot(arguments.model, images, names, prompts="mnist", shots=arguments.shots, seeds=arguments.seeds)
    print(curve)
    for method in curve.accuracies:
        print(f"{method}: as good as zero-shot with {curve.shots_to_match(method):.1f} images a class")
    if arguments.figure:
        curve.save_figure(arguments.figure, title=f"{curve.model} on scans of digits")


if __name__ == "__main__":
    main()
