"""Draw the figure of this page: the zero-shot CLIP models of the published table, as in figure 13 of CLIP's paper.

python examples/robustness/figure.py clip.png
"""

from __future__ import annotations

import sys

from zeroshot.figures import save_figure
from zeroshot.robustness import Robustness, evaluate_robustness, load_baseline
from zeroshot.shifts import available_shifts


def published(model: str, name: str) -> Robustness:
    """Return the robustness of a model of the table, as if its accuracies had been measured here."""
    measured = {shift: load_baseline(shift).accuracies(model) for shift in available_shifts()}
    return evaluate_robustness(measured, name=name, base="resnet101")


if __name__ == "__main__":
    larger = published("vit_b_32_clip_zeroshot", "CLIP ViT-B/32, zero-shot")
    smaller = published("resnet50_clip_zeroshot", "CLIP RN50, zero-shot")
    print(larger)
    save_figure(larger.figure(compare={smaller.name: smaller}), sys.argv[1])
