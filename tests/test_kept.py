"""Weights kept in other forms: the same numbers but for int8, and for int8 those of a slow reference."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_nets import STACK, deviation, drawn, noise
from torch import Tensor, nn

from zeroshot.errors import DeviceError
from zeroshot.nets import kept
from zeroshot.nets.efficientnet import SameConv2d
from zeroshot.nets.layers import Conv2d, PatchConv2d
from zeroshot.nets.transformer import Transformer


class Tower(nn.Module):
    """Blocks, and nothing around them."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = Transformer(STACK)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, C) -> (B, T, C)."""
        out: Tensor = self.transformer(x)
        return out


def held(tower: nn.Module) -> list[Any]:
    """Return the forms that a tower's parts are kept in."""
    return [form for module in tower.modules() if (form := getattr(module, "kept", None)) is not None]


# ---------------------------------------------------------------------------------------------------------- packed


def test_packed_gives_the_same_for_its_rows_and_stays_out_of_the_way_of_others() -> None:
    plain = drawn(Tower())
    packed = copy.deepcopy(plain)
    kept.pack(packed, 7)
    assert len(held(packed)) == 2 * 4  # in_proj, out_proj, c_fc, c_proj of both blocks
    for x in (noise(1, 7, STACK.width), noise(3, 7, STACK.width), noise(1, 5, STACK.width)):
        assert deviation(packed(x), plain(x)) < 1e-6
    forms = held(packed)
    kept.pack(packed, 9)
    assert held(packed) == forms  # once is enough


def test_packed_is_used_and_not_when_somebody_wrote_to_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, x = drawn(Tower()), noise(1, 7, STACK.width)
    kept.pack(tower, 7)
    before = tower(x)
    monkeypatch.setattr(kept.PackedMatrix, "__call__", lambda self, x: x.new_zeros(len(x), len(self.weight)))
    assert deviation(tower(x), before) > 1e-2  # so it was what multiplied
    for module in tower.modules():
        if hasattr(module, "matrix"):
            module.matrix()[0].mul_(1.0)
    assert deviation(tower(x), before) < 1e-6


def test_packing_is_left_where_it_would_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    half = drawn(Tower()).to(torch.bfloat16)
    kept.pack(half, 7)
    many = drawn(Tower())
    kept.pack(many, 5000)
    monkeypatch.setattr(kept, "_LARGEST_COPY", 100)
    large = drawn(Tower())
    kept.pack(large, 7)
    assert held(half) == held(many) == held(large) == []


# ----------------------------------------------------------------------------------------------------- convolutions


@pytest.mark.parametrize("limit", [None, 6.0, math.inf])
@pytest.mark.parametrize("add", [False, True])
@given(
    height=st.integers(3, 12),
    width=st.integers(3, 12),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_fused_convolutions_give_the_same(
    limit: float | None, add: bool, height: int, width: int, kernel: int, stride: int
) -> None:
    plain = drawn(SameConv2d(4, 8, kernel, stride=stride))
    fused = copy.deepcopy(plain)
    kept.fuse(fused)
    x = noise(2, 4, height, width).contiguous(memory_format=torch.channels_last) * 3
    # TensorFlow's SAME: as many outputs as strides fit, the odd pixel of padding behind.
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (height, width)]
    padded = nn.functional.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
    expected = nn.functional.conv2d(padded, plain.weight, plain.bias, stride)
    shortcut = noise(*expected.shape, seed=2) if add else None
    expected = expected + shortcut if shortcut is not None else expected
    expected = expected if limit is None else expected.clamp(0, limit)
    kwargs = {"limit": limit, "add": shortcut}
    assert deviation(plain(x, **kwargs), expected) < 1e-5
    assert deviation(fused(x, **kwargs), expected) < 1e-5
    fused.weight.mul_(0.5)
    fused.bias.mul_(0.5)
    halved = fused(x, limit=None)
    assert deviation(halved, plain(x) / 2) < 1e-5  # what was written to is prepared anew


def test_patches_are_a_convolution() -> None:
    patches = drawn(PatchConv2d(10, (4, 3), bias=True))
    pixels = noise(2, 3, 17, 13)  # a row and a column are left over
    expected = Conv2d.forward(patches, pixels).flatten(2).transpose(1, 2)
    assert deviation(patches.tokens(pixels), expected) < 1e-5


# ------------------------------------------------------------------------------------------------------------ int8


def slow(x: Tensor, weight: Tensor, bias: Tensor, levels: int) -> Tensor:
    """The same in whole numbers of double precision."""
    x, weight = x.double(), weight.double()
    rows, columns = x.abs().amax(1, keepdim=True) / 127, weight.abs().amax(1, keepdim=True) / levels
    sums = (x / rows).round() @ (weight / columns).round().T
    return (sums * rows * columns.T + bias).float()


@given(seed=st.integers(0, 1000), rows=st.integers(1, 40), outlier=st.sampled_from([1.0, 1000.0]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_int8_is_the_product_of_rounded_numbers(seed: int, rows: int, outlier: float) -> None:
    x, weight, bias = noise(rows, 96, seed=seed), noise(64, 96, seed=seed + 1), noise(64, seed=seed + 2)
    x[0, 0] *= outlier
    levels = kept._levels()
    found = kept.Int8Matrix(weight, bias)(x)
    # Halves are rounded up here and to even there: a unit in the last place of a few numbers at most.
    assert deviation(found, slow(x, weight, bias, levels)) < 2 / levels
    assert deviation(found, x @ weight.T + bias) < 0.05
    if rows > 1:  # a large number costs its own row digits, not the others
        assert deviation(found[1:], (x @ weight.T + bias)[1:]) < 0.05


def test_int8_of_zeros_and_of_more_rows_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias, x = noise(64, 96), noise(64, seed=2), noise(20, 96, seed=3)
    x[3] = 0
    matrix = kept.Int8Matrix(weight, bias)
    whole = matrix(x)
    assert torch.equal(whole[3], bias)
    monkeypatch.setattr(kept, "_NUMBERS_AT_ONCE", 7 * x.shape[1])
    assert torch.equal(matrix(x), whole)


def test_quantize_keeps_no_copy_of_the_weights() -> None:
    plain = drawn(Tower())
    tower = copy.deepcopy(plain)
    kept.quantize(tower)
    assert all(not hasattr(m, "matrix") or m.matrix()[0].device.type == "meta" for m in tower.modules())
    x = noise(2, 7, STACK.width)
    assert 1e-4 < deviation(tower(x), plain(x)) < 0.1


def test_a_torch_without_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_has", lambda library, operator: False)
    tower = drawn(Tower())
    kept.pack(tower, 7)
    kept.fuse(tower)
    assert held(tower) == []
    with pytest.raises(DeviceError, match=r"multiplies no 8-bit matrices"):
        kept.quantize(tower)
