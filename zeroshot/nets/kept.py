"""Forms in which the weights of a finished tower are kept, so that a CPU multiplies them faster than plain tensors.

None of them changes what is computed but the int8 form, which a caller asks for (``load(dtype="int8")``):

- `fuse`: convolutions in oneDNN's layout, computed together with the addition and the clamp behind them;
- `pack`: matrices in oneMKL's layout for one number of rows, that of a single image. Few rows are a bad case for plain
  matrix products: packed ones run at twice the speed (`tests/benchmarks/README.md`). For a whole batch it is a few per
  cent, not worth a second copy of the weights;
- `quantize`: matrices in 8 bits, rows of activations too, with a scale for each row of both.

The operators behind `fuse` and `pack` are those that torch's own compiler emits; they are not public. Where torch lacks
them, towers go on with plain tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn

from zeroshot.errors import DeviceError
from zeroshot.nets.layers import Conv2d, Linear, finish
from zeroshot.nets.transformer import Attention

# Packed matrices pay for so many rows at most, and for towers of up to so many bytes.
_FEW_ROWS, _LARGEST_COPY = 256, 1 << 29
# Sizes of images that a convolution is kept for.
_FORMS = 4
# Numbers that are quantised at once: half a megabyte, which stays in a core's cache from one step to the next.
_NUMBERS_AT_ONCE = 1 << 17


# --------------------------------------------------------------------------------------------------------- float32


class PackedMatrix:
    """A matrix in oneMKL's packed layout; it multiplies exactly `rows` rows."""

    def __init__(self, weight: Tensor, bias: Tensor, rows: int) -> None:
        self.weight, self.bias, self.rows = weight, bias, rows
        self.packed: Tensor = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
        self._version = _version(weight)

    def takes(self, rows: int, weight: Tensor) -> bool:
        """Whether it is packed for that many rows, and nobody has written to the weight since."""
        return rows == self.rows and weight is self.weight and _version(weight) == self._version

    def __call__(self, x: Tensor) -> Tensor:
        """x: (rows, inputs) -> (rows, outputs)."""
        product: Tensor = torch.ops.mkl._mkl_linear(x, self.packed, self.weight, self.bias, self.rows)
        return product


def pack(tower: nn.Module, rows: int) -> None:
    """Pack the matrices of a tower's blocks for products with `rows` rows; takes another copy of them in memory.

    Does nothing where it would not help, or again: on other devices than the CPU, in other precisions than float32, for
    towers without blocks of ours, for many rows, and for towers of which a copy is too much to ask.
    """
    if rows > _FEW_ROWS or not _has("mkl", "_mkl_linear"):
        return
    matrices = [(module, *module.matrix()) for module in _with_matrices(tower) if module.kept is None]
    if sum(weight.nbytes for _, weight, _ in matrices) > _LARGEST_COPY:
        return
    for module, weight, bias in matrices:
        if weight.dtype == torch.float32 and weight.device.type == "cpu" and bias is not None:
            module.kept = PackedMatrix(weight, bias, rows)


class FusedConvolution:
    """A convolution in oneDNN's layout, with what comes behind it."""

    def __init__(self, convolution: Conv2d) -> None:
        self.convolution = convolution
        # By the size of the image, and the state of the weight.
        self._forms: dict[tuple[int, int, int, int], tuple[Tensor, list[list[int]]]] = {}

    def __call__(self, x: Tensor, limit: float | None, add: Tensor | None) -> Tensor:
        """x: (n, C, H, W), channels last -> (n, C', H', W')."""
        weight = self.convolution.weight
        key = (x.shape[2], x.shape[3], id(weight), _version(weight))
        form = self._forms.get(key)
        if form is None:  # several threads may find that at once: each makes the same form
            if len(self._forms) >= _FORMS:
                self._forms.clear()
            form = self._forms[key] = self._form(key[:2])
        weight, how = form
        bias, groups = self.convolution.bias, self.convolution.groups
        y: Tensor
        if add is None:
            if limit is None:
                clamp: tuple[str, list[float], str] = ("none", [], "")
            else:
                clamp = ("relu", [], "") if limit == float("inf") else ("hardtanh", [0.0, limit], "")
            y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *how, groups, *clamp)
            return y
        then = "relu" if limit == float("inf") else None
        y = torch.ops.mkldnn._convolution_pointwise.binary(
            x, add, weight, bias, *how, groups, "add", 1.0, then, [], None
        )
        return y if limit is None or then else finish(y, limit, None)

    def _form(self, size: tuple[int, int]) -> tuple[Tensor, list[list[int]]]:
        weight, padding = self.convolution.shaped(size)
        how = [list(padding), list(self.convolution.stride), list(self.convolution.dilation)]
        weight = weight.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._reorder_convolution_weight(weight, *how, self.convolution.groups), how


def fuse(tower: nn.Module) -> None:
    """Let the convolutions of a tower compute what comes behind them along: on the CPU, in float32."""
    if not _has("mkldnn", "_convolution_pointwise"):
        return
    for module in tower.modules():
        if isinstance(module, Conv2d) and module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
            module.kept = FusedConvolution(module)


# ------------------------------------------------------------------------------------------------------------ int8


class Int8Matrix:
    """A matrix in 8 bits with a scale for each output, for rows that get 8 bits and a scale each as they come.

    Symmetric, nearest neighbour; products are summed in 32 bits. A scale for each row of activations, not one for all
    of them, keeps one large activation from taking the digits of every other token (Yao et al., ZeroQuant,
    arXiv:2206.01861).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        levels = _levels()
        scales = weight.abs().amax(dim=1).clamp_(min=torch.finfo(torch.float32).tiny) / levels  # (outputs,)
        self.packed: Tensor = torch.ops.onednn.qlinear_prepack((weight / scales[:, None]).round_().to(torch.int8), None)
        self.scales = scales / 127
        self.zeros = torch.zeros(len(scales), dtype=torch.int32)
        self.bias = torch.zeros_like(scales) if bias is None else bias
        self.middle = torch.full((1, 1), 128.5)  # of a byte, and a half, with which cutting off is rounding

    def takes(self, rows: int, weight: Tensor) -> bool:
        """Any number of rows; the weight is gone."""
        return True

    def __call__(self, x: Tensor) -> Tensor:
        """x: (rows, inputs) float32 -> (rows, outputs) float32."""
        bytes_, peaks = self._to_bytes(x)
        sums = _multiply_bytes(bytes_, self.packed, self.scales, self.zeros)
        return torch.addcmul(self.bias, sums, peaks, out=sums)

    def _to_bytes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows in 8 bits, 128 for 0, and the largest absolute value of each: (rows, inputs), (rows, 1)."""
        bytes_ = torch.empty(x.shape, dtype=torch.uint8)
        peaks = x.new_empty(len(x), 1)
        few = max(1, _NUMBERS_AT_ONCE // x.shape[1])
        room = x.new_empty(min(few, len(x)), x.shape[1])
        for start in range(0, len(x), few):
            rows, peak = x[start : start + few], peaks[start : start + few]
            scaled = room[: len(rows)]
            torch.amax(torch.abs(rows, out=scaled), dim=1, keepdim=True, out=peak)
            torch.div(rows, peak, out=scaled)  # of a row of zeros 0 / 0, times 0 in the end
            bytes_[start : start + few] = torch.add(self.middle, scaled, alpha=127, out=scaled)
        return bytes_, peaks


def quantize(tower: nn.Module) -> None:
    """Keep the matrices of a tower's blocks in 8 bits.

    Everything else stays in float32: patches, embeddings, norms, attention itself, the projection; and convolutions,
    which gain no time from it (`mini`'s took a fifth longer, and named another class for 1 of 32 pictures).

    Raises
    ------
    DeviceError
        If this torch multiplies no 8-bit matrices.
    """
    if not (_has("mkldnn", "_convolution_pointwise") and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        raise DeviceError(
            f"torch {torch.__version__} multiplies no 8-bit matrices on this processor; expected torch 2.6 or newer on "
            "x86; other values of dtype run everywhere"
        )
    for module in _with_matrices(tower):
        module.kept = Int8Matrix(*module.matrix())
        module.drop_matrix()


def _multiply_bytes(x: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """Multiply 8-bit rows, of which 128 stands for 0: (rows, inputs) uint8 -> (rows, outputs) float32, scaled."""
    product: Tensor = torch.ops.onednn.qlinear_pointwise(
        x, 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return product


@lru_cache(maxsize=1)
def _levels() -> int:
    """Return the largest number that weights may have: 127, or 63 where this processor's sums of pairs overflow.

    Without VNNI, products of two bytes are added in pairs in 16 bits, where they are cut off in silence.
    """
    size = 64
    packed = torch.ops.onednn.qlinear_prepack(torch.full((size, size), 127, dtype=torch.int8), None)
    largest = torch.full((size, size), 255, dtype=torch.uint8)
    sums = _multiply_bytes(largest, packed, torch.ones(size), torch.zeros(size, dtype=torch.int32))
    return 127 if int(sums[0, 0]) == size * 127 * 127 else 63


def _version(weight: Tensor) -> int:
    """Return how often a tensor was written to; one that was made for inference alone cannot be."""
    return -1 if weight.is_inference() else weight._version


def _has(library: str, operator: str) -> bool:
    """Whether this torch was built with a library, and has an operator of it."""
    available: bool = getattr(torch.backends, library).is_available()
    return available and hasattr(getattr(torch.ops, library), operator)


def _with_matrices(tower: nn.Module) -> Iterator[Linear | Attention]:
    """Yield the parts of a tower's blocks that multiply by a matrix."""
    for block in getattr(getattr(tower, "transformer", None), "resblocks", ()):
        yield from (module for module in block.modules() if isinstance(module, (Linear, Attention)))
