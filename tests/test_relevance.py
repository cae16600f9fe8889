"""Maps of every kind of tower: the output is the tower's, sums are what they are said to be, cells are where they are.

That transformers' maps follow their equations is shown in `tests/parity/test_relevance_parity.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_nets import STACK, deviation, drawn, noise
from torch import Tensor, nn

import zeroshot
from zeroshot.nets import relevance
from zeroshot.nets.efficientnet import EfficientNet, EfficientNetConfig, InvertedResidualConfig
from zeroshot.nets.kept import fuse, pack
from zeroshot.nets.resnet import ModifiedResNet, ResNetConfig
from zeroshot.nets.siglip import SiglipVision, SiglipVisionConfig
from zeroshot.nets.vit import VisionTransformer, VisionTransformerConfig

BLOCKS = (
    InvertedResidualConfig(8, 8, 6, 3, 1),
    InvertedResidualConfig(6, 24, 8, 3, 2),
    InvertedResidualConfig(8, 32, 10, 5, 2),
    InvertedResidualConfig(10, 40, 10, 5, 1),
    InvertedResidualConfig(10, 40, 12, 3, 2),
)
VIT = {"transformer": STACK, "image_size": (32, 48), "patch_size": (8, 16), "dim": 20}


def lite(size: tuple[int, int] = (45, 68)) -> EfficientNet:
    """`mini`'s kind of tower, small."""
    return drawn(EfficientNetConfig(8, BLOCKS, 24, 7, 16, size).build().to_empty(device="cpu"))


def resnet() -> ModifiedResNet:
    tower = drawn(ResNetConfig(8, (1, 1, 1, 1), 4, (64, 96), 16).build().to_empty(device="cpu"))
    tower.fold_norms()
    return tower


def vit(**settings: Any) -> VisionTransformer:
    return drawn(VisionTransformerConfig(**(VIT | settings)).build().to_empty(device="cpu"))


def siglip() -> SiglipVision:
    return drawn(SiglipVisionConfig(STACK, (35, 48), (8, 16)).build().to_empty(device="cpu"))


TOWERS: dict[str, Any] = {
    "mini": (lite, (45, 68)),
    "resnet": (resnet, (64, 96)),
    "class": (vit, (32, 48)),
    "mean": (lambda: vit(pool="mean"), (32, 48)),
    "mean, norm last": (lambda: vit(pool="mean", norm_last=True, norm_pre=False), (32, 48)),
    "query": (lambda: vit(pool="attention", pool_queries=3, pool_heads=4), (32, 48)),
    "siglip": (siglip, (35, 48)),
}


def weighted(outputs: Tensor) -> Tensor:
    """A number that each output counts in, and not linearly."""
    weights = torch.linspace(-1, 1, outputs.shape[1], dtype=outputs.dtype)
    return (outputs / outputs.norm(dim=1, keepdim=True)) @ weights


@pytest.mark.parametrize("layers", [1, 2, 9])
@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("kind", TOWERS)
def test_the_output_is_the_towers_own(kind: str, features: bool, layers: int) -> None:
    make, size = TOWERS[kind]
    tower, pixels = make(), noise(1, 3, *size)
    with torch.inference_mode():
        before = tower.features(pixels) if features else tower(pixels)
    found = relevance.trace(tower, pixels, weighted, features=features, layers=layers)
    assert deviation(found.output, before[0]) < 1e-5
    assert found.value == pytest.approx(weighted(before).item(), abs=1e-5)
    assert found.grid.shape == (len(found.rows), len(found.columns))
    assert float(found.grid.abs().max()) > 0
    assert found.seen == ((32, 48) if kind == "siglip" else size)  # the rest beside whole patches is not looked at
    with torch.inference_mode():
        after = tower.features(pixels) if features else tower(pixels)
    assert torch.equal(after, before)  # the network is as it was, to the bit
    assert not any(parameter.requires_grad for parameter in tower.parameters())


@pytest.mark.parametrize("kind", TOWERS)
def test_kept_weights_and_inference_make_no_difference(kind: str) -> None:
    make, size = TOWERS[kind]
    tower, pixels = make(), noise(1, 3, *size)
    expected = relevance.trace(tower, pixels, weighted, layers=2)
    with torch.inference_mode():  # as when a stream was the first to ask for the tower
        kept = make()
        for name, parameter in list(kept.named_parameters()):
            module = kept.get_submodule(name.rpartition(".")[0])
            setattr(module, name.rpartition(".")[2], nn.Parameter(parameter.clone(), requires_grad=False))
        fuse(kept)
        pack(kept, 13)
        found = relevance.trace(kept, pixels.clone(), weighted, layers=2)
    assert all(parameter.is_inference() for parameter in kept.parameters())
    assert deviation(found.grid, expected.grid) < 1e-4


def test_attention_is_never_against() -> None:
    assert float(relevance.trace(vit(), noise(1, 3, 32, 48), weighted).grid.min()) >= 0


def test_half_precision() -> None:
    tower, pixels = vit(), noise(1, 3, 32, 48)
    expected = relevance.trace(tower, pixels, weighted).grid
    found = relevance.trace(tower.bfloat16(), pixels.bfloat16(), weighted)
    assert found.grid.dtype == found.output.dtype == torch.float32
    assert 0 < deviation(found.grid, expected) < 0.2


# ---------------------------------------------------------------------------------------------- class activation maps


def test_the_map_of_mini_adds_up_to_the_number() -> None:
    tower, pixels = lite(), noise(1, 3, 45, 68)
    found = relevance.trace(tower, pixels, weighted)
    assert found.baseline is not None
    empty = tower.place(tower.classifier(torch.zeros(1, 24)))
    assert found.baseline == pytest.approx(weighted(empty).item(), abs=1e-6)
    assert abs(found.value - found.baseline) > 0.1
    assert float(found.grid.sum()) == pytest.approx(found.value - found.baseline, abs=1e-5)


def test_the_gradient_alone_would_not_add_up() -> None:
    tower, pixels = lite(), noise(1, 3, 45, 68)
    found = relevance.trace(tower, pixels, weighted)
    pooled = tower.features(pixels).requires_grad_()
    (gradient,) = torch.autograd.grad(weighted(tower.place(tower.classifier(pooled))).sum(), pooled)
    plain = (gradient[0][:, None, None] * tower.grid(pixels)[0]).mean(dim=0) * gradient.shape[1] / 30
    assert found.baseline is not None
    assert abs(float(plain.sum()) - (found.value - found.baseline)) > 1e-2


def test_of_a_linear_head_it_is_the_map_of_zhou() -> None:
    tower, pixels = lite(), noise(1, 3, 45, 68)
    weight = noise(24, seed=3)
    found = relevance.trace(tower, pixels, lambda features: features @ weight - 0.5, features=True)
    grid = tower.grid(pixels)[0]
    expected = torch.zeros(grid.shape[1:])
    for channel in range(24):
        expected += weight[channel] * grid[channel]
    assert deviation(found.grid * expected.numel(), expected) < 1e-5
    assert found.baseline == pytest.approx(-0.5)
    assert deviation(found.grid * expected.numel(), expected.flip(0)) > 0.1


def test_grad_cam_by_differences() -> None:
    # The weight of a channel is what the number gains where that channel gains a little everywhere.
    tower, pixels = resnet().double(), noise(1, 3, 64, 96).double()
    grid, step = tower.grid(pixels), 1e-5
    weights = []
    for channel in range(grid.shape[1]):
        more, less = grid.clone(), grid.clone()
        more[0, channel] += step
        less[0, channel] -= step
        difference = weighted(tower.attnpool(more)) - weighted(tower.attnpool(less))
        weights.append(difference.item() / (2 * step) / 6)
    expected = torch.einsum("c,chw->hw", torch.tensor(weights, dtype=torch.float64), grid[0]).clamp(min=0)
    found = relevance.trace(tower.float(), pixels.float(), weighted)
    assert float(expected.max()) > 0
    assert deviation(found.grid.double(), expected) < 1e-4


# -------------------------------------------------------------------------------------------------- where cells are


def middles(tower: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Middles of what the cells see, by what has a gradient: rows and columns, in pixels; NaN beside the edges."""
    pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grid = tower.grid(pixels)[0].sum(dim=0)
    found: tuple[list[float], list[float]] = ([], [])
    for axis, places in enumerate(found):
        for cell in range(grid.shape[axis]):
            one = grid[cell, grid.shape[1] // 2] if axis == 0 else grid[grid.shape[0] // 2, cell]
            (gradient,) = torch.autograd.grad(one, pixels, retain_graph=True)
            touched = gradient[0].abs().sum(dim=(0, 2 - axis)).nonzero()[:, 0].float()
            first, last = float(touched.min()), float(touched.max())
            cut = first == 0 or last == size[axis] - 1
            places.append(np.nan if cut else (first + last + 1) / 2)
    return torch.tensor(found[0]), torch.tensor(found[1])


@pytest.mark.parametrize("size", [(160, 181), (190, 207)])
def test_cells_of_mini_look_at_their_middles(size: tuple[int, int]) -> None:
    tower = lite(size)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(parameter.abs() * 0.05)  # no unit may be clamped: it would have no gradient
    for found, length in zip(middles(tower, size), size, strict=True):
        expected = tower.centres(length)
        inner = ~found.isnan()
        assert len(found) == len(expected) == -(-length // 16)
        assert int(inner.sum()) >= 3
        assert torch.equal(found[inner], expected[inner])


def test_cells_of_mini_reach_from_edge_to_edge() -> None:
    centres = zeroshot.load("mini").vision.centres(260)  # type: ignore[operator]
    assert centres.tolist() == [3.5 + 32 * cell for cell in range(9)]


def test_cells_of_a_resnet_look_at_their_middles() -> None:
    tower = drawn(ResNetConfig(8, (1, 1, 1, 1), 4, (256, 288), 16).build().to_empty(device="cpu"))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(parameter.abs() * 0.1)
    tower.fold_norms()
    found = relevance.trace(tower, noise(1, 3, 256, 288), weighted)
    for seen, expected in zip(middles(tower, (256, 288)), (found.rows, found.columns), strict=True):
        inner = ~seen.isnan()
        assert int(inner.sum()) >= 1
        assert (seen[inner] - expected[inner]).abs().max() <= 0.5


def test_patches_are_where_they_are() -> None:
    found = relevance.trace(vit(), noise(1, 3, 32, 48), weighted)
    assert (found.rows.tolist(), found.columns.tolist()) == ([4, 12, 20, 28], [8, 24, 40])


def test_what_has_no_method() -> None:
    assert relevance.find_method(nn.Linear(2, 2)) is None
    assert relevance.is_differentiable(vit())
    assert not relevance.is_differentiable(nn.Linear(2, 2, device="meta"))
