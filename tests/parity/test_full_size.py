"""Models of real size: embeddings equal those that open_clip computed with the same weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from golden.checkpoints import FULL_SIZE, Deviations

import zeroshot

TOLERANCE = 1e-5
LARGE = {"ViT-L-14", "ViT-B-16-SigLIP"}  # of a gigabyte and more


def deviations(folder: Path) -> Iterator[tuple[str, Deviations]]:
    """Yield each model's name and how far it is from open_clip; `folder` is an empty one to work in."""
    for name, reference in FULL_SIZE.items():
        yield name, reference.deviations(zeroshot.load(reference.write(folder / name), device="cpu"))
        shutil.rmtree(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that does not exist yet, and will not stay: pytest keeps those of three runs."""
    yield tmp_path / "checkpoint"
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full_size] * (name in LARGE)) for name in FULL_SIZE]
)
def test_embeddings_equal_those_of_open_clip(name: str, folder: Path) -> None:
    reference = FULL_SIZE[name]
    encoder = zeroshot.load(reference.write(folder), device="cpu")
    np.testing.assert_array_equal(encoder.tokenize(reference.texts), reference.values["tokens"])
    assert max(reference.deviations(encoder)) < TOLERANCE
    assert encoder.logit_scale == reference.entry["logit_scale"]
    assert encoder.logit_bias == reference.entry["logit_bias"]


@pytest.mark.parametrize("part", ["images", "texts"])
@pytest.mark.parametrize("name", FULL_SIZE)
def test_inputs_are_told_apart(name: str, part: str) -> None:
    """Shows that the embeddings depend on the inputs, without which comparing them would mean little."""
    rows = FULL_SIZE[name].values[part]
    distances = np.abs(rows[:, None] - rows).max(axis=-1) + np.eye(len(rows))
    assert distances.min() > 100 * TOLERANCE
