"""Random weights that need not be stored: each tensor follows from its name and shape, bit for bit, everywhere."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Drawn once and repeated: real sizes fill in a second. A prime, so that no two rows of a matrix are equal.
_BLOCK = 1_000_003
LOGIT_SCALE = 3.6109  # exp(3.6109) = 37.0: not the 100 that some hard-code
LOGIT_BIAS = -9.25
# Gains of norms, and the variances that batch norms divide by.
_AROUND_ONE = re.compile(r"(^|\.)(ln_.*|norm\d?|bn\d|downsample\.1)\.weight$|\.running_var$")
# Rows that are added to activations or looked up, in place of being multiplied with them.
_TABLE = re.compile(r"embedding|\.(pos_embed|cls_emb|latent|query)$")


def fill(name: str, shape: Sequence[int]) -> npt.NDArray[Any]:
    """Return the tensor `name`, float32: integers times a scale, so that no mathematical library can change a bit.

    The scale is what keeps activations near 1: by the fan-in for matrices, near 1 for the gains and variances of norms.
    """
    if name == "logit_scale":
        return np.full(shape, LOGIT_SCALE, dtype=np.float32)
    if name == "logit_bias":
        return np.full(shape, LOGIT_BIAS, dtype=np.float32)
    if name.endswith(".num_batches_tracked"):  # a count, which only training needs
        return np.zeros(shape, dtype=np.int64)
    size = math.prod(shape)
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    block = rng.randint(-32768, 32768, size=min(size, _BLOCK)).astype(np.float32)
    values = np.resize(block, size).reshape(shape)
    values *= np.float32(_gain(name, shape) / 32768)
    if _AROUND_ONE.search(name):
        values += np.float32(1)
    return values


def checksum(tensors: Iterable[npt.NDArray[Any]]) -> int:
    """CRC-32 of the values of several tensors: enough to see that they were filled alike, and a second for 2 GB."""
    crc = 0
    for values in tensors:
        crc = zlib.crc32(np.ascontiguousarray(values).data, crc)
    return crc


def _gain(name: str, shape: Sequence[int]) -> float:
    """Return the largest absolute value: uniform in (-gain, gain)."""
    if _TABLE.search(name):
        return 0.5
    if len(shape) == 1:
        return 0.2
    if name.endswith(("proj", "text_projection")):  # bare parameters are (in, out)
        return math.sqrt(3 / shape[0])
    return math.sqrt(3 / math.prod(shape[1:]))
