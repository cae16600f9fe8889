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


def count_parameters(shapes: Mapping[str, Iterable[int]]) -> int:
    """Return how many numbers there are in all tensors that are parameters."""
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_BUFFERS))


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
