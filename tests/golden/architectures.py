"""The architectures of `make_architectures.py`, as checkpoints of which only names and shapes exist."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zeroshot.image import Preprocess
from zeroshot.layouts import open_clip
from zeroshot.layouts.base import Checkpoint
from zeroshot.registry import ModelEntry, _open_clip_config
from zeroshot.weights import Weights

_GOLDEN: dict[str, Any] = json.loads(gzip.decompress(Path(__file__).with_name("architectures.json.gz").read_bytes()))
NAMES: list[str] = list(_GOLDEN["architectures"])
# The batch norms' statistics and counts, which are no parameters.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Architecture:
    """What open_clip builds.

    Attributes
    ----------
    shapes : dict of str to list of int
        Of all tensors.
    vision, text : dict
        ``heads``, ``activation`` and ``norm_eps``, as far as open_clip builds the tower itself.
    """

    shapes: dict[str, list[int]]
    vision: dict[str, Any]
    text: dict[str, Any]


def architecture(name: str) -> Architecture:
    """Return one of `NAMES`."""
    row = _GOLDEN["architectures"][name]
    image, other = (_GOLDEN["towers"][number] for number in row["towers"])
    return Architecture(image | other, row["vision"], row["text"])


class Shapes(Weights):
    """Weights of which only names and shapes exist: every number is zero."""

    def __init__(self, path: Path, shapes: Mapping[str, Iterable[int]]) -> None:
        path.touch()
        self.files = (path,)
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.dtypes = dict.fromkeys(self.shapes, torch.float32)

    def read(self, names: tuple[str, ...]) -> torch.Tensor:
        """Return zeros: the scale, in logarithm, and the bias."""
        (name,) = names
        return torch.zeros(self.shapes[name])


def read(entry: ModelEntry, folder: Path, shapes: Mapping[str, Iterable[int]]) -> Checkpoint:
    """Read a row of open_clip's table as if weights of these shapes were in the folder; raises if they do not fit."""
    weights = Shapes(folder / "open_clip_model.safetensors", shapes)
    return open_clip.read(folder, weights, config=_open_clip_config(entry), tokenizer=None)


def found(checkpoint: Checkpoint, shapes: Mapping[str, Iterable[int]]) -> dict[str, Any]:
    """Return what was read of a checkpoint, and how large it is, to compare with `published`."""
    parameters = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_BUFFERS))
    return {
        "context": checkpoint.context,
        "preprocess": checkpoint.preprocess,
        "own tokenizer": checkpoint.tokenizer is not None,
        "parameters": round(parameters / 1e6, 2),
    }


def published(entry: ModelEntry) -> dict[str, Any]:
    """Return what the table says of a checkpoint."""
    return {
        "context": entry.context,
        "preprocess": Preprocess(
            size=(entry.image_size, entry.image_size),
            mean=entry.mean,
            std=entry.std,
            interpolation=entry.interpolation,
            resize_mode=entry.resize_mode,
        ),
        "own tokenizer": entry.tokenizer != "clip",
        "parameters": entry.parameters_million,
    }
