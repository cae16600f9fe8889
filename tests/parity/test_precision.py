"""Checkpoints in half precision: embeddings stay near those that open_clip computed in single precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from golden.checkpoints import NAMES, SMALL, deviation

import zeroshot
from zeroshot.clip import ClipEncoder

# Largest deviation of a number in a normalised embedding: two to three units in the last place of numbers near 1.
TOLERANCES = {"float16": 2e-3, "bfloat16": 2e-2}
FAMILIES = ("patch16", "resnet", "coca", "clipa", "metaclip2", "siglip", "siglip2-gopt")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*longer than .* tokens:UserWarning"),  # some are, on purpose
    pytest.mark.parametrize("precision", TOLERANCES),
]


def _assert_near(encoder: ClipEncoder, name: str, precision: str) -> None:
    assert encoder.dtype == getattr(torch, precision)
    for change in SMALL[name].deviations(encoder):
        assert 1e-5 < change < TOLERANCES[precision]  # less could not be in half precision


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_as_asked(name: str, precision: str, tmp_path: Path) -> None:
    folder = SMALL[name].write(tmp_path / "checkpoint")
    _assert_near(zeroshot.load(folder, device="cpu", dtype=getattr(torch, precision)), name, precision)


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_as_stored(name: str, precision: str, tmp_path: Path) -> None:
    folder = SMALL[name].write(tmp_path / "checkpoint")
    path = folder / "open_clip_model.safetensors"
    state = safetensors.torch.load_file(path)
    half = {key: tensor.to(getattr(torch, precision)) for key, tensor in state.items() if tensor.is_floating_point()}
    safetensors.torch.save_file(state | half, path)
    _assert_near(zeroshot.load(folder, device="cpu", dtype="auto"), name, precision)
    encoder = zeroshot.load(folder, device="cpu")  # in single precision, with what the file lost
    assert encoder.dtype == torch.float32
    assert max(SMALL[name].deviations(encoder)) < TOLERANCES[precision]


@pytest.mark.parametrize("name", ["patch16", "metaclip2"])
def test_heads_of_towers_that_share_prefixes(name: str, precision: str, tmp_path: Path) -> None:
    encoder = zeroshot.load(SMALL[name].write(tmp_path / "checkpoint"), device="cpu", dtype=getattr(torch, precision))
    head = zeroshot.build_head(encoder, NAMES, prompts="imagenet", cache=False, progress=False)
    assert head.weight.dtype == torch.float32
    assert 1e-5 < deviation(head.weight, SMALL[name].values["head"]) < TOLERANCES[precision]
