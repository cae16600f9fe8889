"""WiSE-FT: fine-tune, then go part of the way back, to gain on the target without losing elsewhere.

    python examples/contrastive_pretraining/wise_ft.py --model clip-of-scenes --out wise-ft

Wortsman et al., "Robust fine-tuning of zero-shot models" (2022). The image tower and a head that starts as the
zero-shot one are fine-tuned end to end on a target set; the weights of the result are averaged with those at the start,
(1 - alpha) theta_0 + alpha theta_1, and each average is tested on the target and where the images are others.
The target: large things, plain, on light and plain grounds. The shift: small ones with textures, on dark patterns.
`model` is what `pretrain.py` wrote. Needs the extra `plot`.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from figure_2 import CLASSES, new_axes
from pretrain import Row, Schedule, make_optimizer, print_table
from scenes import portrait
from torch import Tensor, nn

import zeroshot
from zeroshot.clip import ClipEncoder

TARGET = {"sizes": ["large"], "textures": ["plain"], "backgrounds": ["white", "grey", "beige"], "patterns": ["plain"]}
SHIFT = {
    "sizes": ["small"],
    "textures": ["striped", "dotted"],
    "backgrounds": ["black", "navy"],
    "patterns": ["checked", "striped", "grainy"],
}


class Classifier(nn.Module):
    """An image tower and a head that starts as the zero-shot one: all of it starts as the zero-shot classifier."""

    def __init__(self, encoder: ClipEncoder, head: zeroshot.Head) -> None:
        super().__init__()
        self.vision = copy.deepcopy(encoder.vision).requires_grad_()
        self.weight = nn.Parameter(head.logit_scale * head.weight.to(encoder.device))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (n, 3, H, W) -> logits (n, n_classes)."""
        return F.normalize(self.vision(pixels), dim=-1) @ self.weight.T


def interpolate(start: nn.Module, end: nn.Module, alpha: float) -> nn.Module:
    """Return a network with the weights (1 - alpha) start + alpha end."""
    weights = {name: tensor.lerp(end.state_dict()[name], alpha) for name, tensor in start.state_dict().items()}
    between = copy.deepcopy(start)
    between.load_state_dict(weights)
    return between


def draw(encoder: ClipEncoder, count: int, kinds: dict[str, Any], *, seed: str) -> tuple[Tensor, Tensor]:
    """Return pixels (n, 3, H, W) and targets (n,) of images of one thing."""
    rng = random.Random(seed)
    targets = [rng.randrange(len(CLASSES)) for _ in range(count)]
    images = [encoder.preprocess(portrait(rng, *CLASSES[target], **kinds)) for target in targets]
    return torch.from_numpy(np.stack(images)).to(encoder.device), torch.tensor(targets, device=encoder.device)


def fine_tune(start: Classifier, pixels: Tensor, targets: Tensor, schedule: Schedule) -> Classifier:
    """Return a copy that was trained on images and their classes."""
    model = copy.deepcopy(start).train()
    optimizer = make_optimizer(model, schedule)
    rng = np.random.default_rng(schedule.seed)
    order = np.concatenate([rng.permutation(len(targets)) for _ in range(-(-schedule.examples // len(targets)))])
    for step in range(schedule.steps):
        rows = torch.from_numpy(order[step * schedule.batch_size : (step + 1) * schedule.batch_size]).to(targets.device)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        loss = F.cross_entropy(model(pixels[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, pixels: Tensor, targets: Tensor) -> float:
    """Return the share of the images that are classified rightly, in per cent."""
    found = torch.cat([model(part).argmax(dim=1) for part in pixels.split(250)])
    return 100 * (found == targets).float().mean().item()


def run(encoder: ClipEncoder, schedule: Schedule, *, train_images: int, test_images: int) -> list[Row]:
    """Fine-tune, and return the accuracies of eleven averages between start and end."""
    labels = [" ".join(kind) for kind in CLASSES]
    start = Classifier(encoder, zeroshot.build_head(encoder, labels, prompts="a photo of a(n) {}.", cache=False))
    end = fine_tune(start, *draw(encoder, train_images, TARGET, seed=f"train {schedule.seed}"), schedule)
    tests = {
        name: draw(encoder, test_images, kinds, seed="test") for name, kinds in (("target", TARGET), ("shift", SHIFT))
    }
    rows = []
    for step in range(11):
        model = interpolate(start, end, step / 10)
        rows.append({"alpha": step / 10} | {name: accuracy(model, *test) for name, test in tests.items()})
    return rows


def plot(rows: list[Row], path: Path) -> None:
    """Draw accuracy under shift over accuracy on the target, as in the paper's figure 1."""
    figure, axes = new_axes(4.6, 3.6)
    axes.plot([row["target"] for row in rows], [row["shift"] for row in rows], color="C0", marker="o", ms=3)
    for row, name in ((rows[0], "zero-shot"), (rows[5], "alpha 0.5"), (rows[-1], "fine-tuned")):
        axes.annotate(name, (row["target"], row["shift"]), xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel="accuracy on the target, %", ylabel="accuracy under shift, %")
    axes.margins(0.2)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Fine-tune, interpolate, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder of pretrain.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figure")
    parser.add_argument("--train", type=int, default=1000, help="images of the target to learn from")
    parser.add_argument("--test", type=int, default=1000, help="images of the target and of the shift to test with")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    schedule = Schedule(
        arguments.passes * arguments.train, batch_size=100, rate=arguments.rate, weight_decay=0.1, seed=arguments.seed
    )
    rows = run(zeroshot.load(arguments.model), schedule, train_images=arguments.train, test_images=arguments.test)
    print_table(iter(rows))
    arguments.out.mkdir(parents=True, exist_ok=True)
    plot(rows, arguments.out / "wise_ft.png")


if __name__ == "__main__":
    main()
