"""Gradient-weighted attention where it is known what a transformer should look at: shapes, by a small ViT.

    python examples/explain/shapes.py

Weights of CLIP's ViTs are not to be had where this was written. This trains a ViT of the same build
(`zeroshot.nets.vit`) from nothing, in some minutes, to say which two of four shapes a picture shows, and asks
`explain`'s method for each of the two in 200 pictures that it has not seen, before the training and after it. It tells
nothing of CLIP itself.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

from zeroshot.metrics import estimate
from zeroshot.nets import relevance
from zeroshot.nets.transformer import TransformerConfig
from zeroshot.nets.vit import VisionTransformer, VisionTransformerConfig

SHAPES = ("circle", "square", "triangle", "cross")
SIDE, PATCH, DIM, SCALE = 64, 8, 32, 10.0


def draw(rng: np.random.Generator) -> tuple[Image.Image, list[int], list[np.ndarray]]:
    """Return a picture of two shapes on noise, which they are, and the pixels of each: (64, 64) bool."""
    noise = rng.integers(60, 140, size=(16, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    kinds = [int(kind) for kind in rng.permutation(len(SHAPES))[:2]]
    masks, half = [], SIDE // 2
    first = int(rng.integers(2))  # which of them is on the left, or above
    sideways = bool(rng.integers(2))
    for place, kind in enumerate(kinds):
        radius = int(rng.integers(8, 13))
        along = half * ((place + first) % 2) + int(rng.integers(radius, half - radius + 1))
        across = int(rng.integers(radius, SIDE - radius + 1))
        x, y = (along, across) if sideways else (across, along)
        mask = Image.new("L", picture.size)
        pen = ImageDraw.Draw(mask)
        if kind == 0:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        elif kind == 1:
            pen.rectangle((x - radius * 0.85, y - radius * 0.85, x + radius * 0.85, y + radius * 0.85), fill=255)
        elif kind == 2:
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=255)
        else:
            width = radius / 3
            pen.rectangle((x - radius, y - width, x + radius, y + width), fill=255)
            pen.rectangle((x - width, y - radius, x + width, y + radius), fill=255)
        picture.paste((235, 235, 235), (0, 0), mask)
        masks.append(np.asarray(mask) > 127)
    return picture, kinds, masks


def pixels(pictures: list[Image.Image]) -> Tensor:
    """Pictures to (n, 3, 64, 64) in [-1, 1]."""
    return torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).permute(0, 3, 1, 2).float() / 127.5 - 1


def make(seed: int) -> tuple[VisionTransformer, Tensor]:
    """Return a tower that is not trained, and a direction for each shape, as a text tower would give them."""
    torch.manual_seed(seed)
    transformer = TransformerConfig(width=64, layers=3, heads=4, mlp_width=128, activation="quick_gelu")
    config = VisionTransformerConfig(transformer, image_size=(SIDE, SIDE), patch_size=(PATCH, PATCH), dim=DIM)
    tower = config.build().to_empty(device="cpu")
    for module in tower.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.LayerNorm):
                nn.init.constant_(parameter, float(name == "weight"))
            elif parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter[0].numel()))
            else:
                nn.init.zeros_(parameter)
    return tower.requires_grad_(), F.normalize(
        torch.eye(len(SHAPES), DIM) + 0.01 * torch.randn(len(SHAPES), DIM), dim=1
    )


def main() -> None:
    """Measure, train, measure."""
    parser = argparse.ArgumentParser(description="Gradient-weighted attention of a small ViT on shapes.")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tower, directions = make(arguments.seed)

    def logits(outputs: Tensor) -> Tensor:
        return SCALE * F.normalize(outputs, dim=1) @ directions.T

    measure(tower, logits, arguments.seed + 1)
    rng = np.random.default_rng(arguments.seed)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, arguments.steps)
    for step in range(arguments.steps):
        drawn = [draw(rng) for _ in range(64)]
        targets = torch.zeros(64, len(SHAPES))
        for row, (_, kinds, _) in enumerate(drawn):
            targets[row, kinds] = 0.5
        loss = F.cross_entropy(logits(tower(pixels([one for one, _, _ in drawn]))), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"{step + 1}: {loss.item():.3f}", flush=True)  # at best the entropy of the targets, 0.693
    measure(tower, logits, arguments.seed + 1)


def measure(tower: VisionTransformer, logits: Callable[[Tensor], Tensor], seed: int) -> None:
    """Print how often both shapes are named, and where the heat is, a pixel's mean on each shape and beside both."""
    rng, right, rows = np.random.default_rng(seed), 0, []
    for _ in range(200):
        picture, kinds, masks = draw(rng)
        one = pixels([picture])
        with torch.no_grad():
            right += {*logits(tower(one))[0].topk(2).indices.tolist()} == {*kinds}
        for place, kind in enumerate(kinds):

            def odds(outputs: Tensor, kind: int = kind) -> Tensor:
                values = logits(outputs)
                return values[:, kind] - torch.cat([values[:, :kind], values[:, kind + 1 :]], dim=1).logsumexp(dim=1)

            heat = relevance.trace(tower, one, odds).grid.numpy().repeat(PATCH, axis=0).repeat(PATCH, axis=1)
            own, other = heat[masks[place]].mean(), heat[masks[1 - place]].mean()
            beside = heat[~(masks[0] | masks[1])].mean()
            rows.append((own / (own + other), (own + other) / 2 / ((own + other) / 2 + beside)))
    print(f"both shapes named: {right} of 200")
    names = ("of both shapes, on the one asked about", "on shapes rather than beside")
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        share = estimate(lambda x: float(np.mean(x)), np.array(values))
        print(f"heat of a pixel {name}: {share.value:.1%} [{share.low:.1%}, {share.high:.1%}]", flush=True)


if __name__ == "__main__":
    main()
