"""torch's layers without their initialisation: here weights always come from a checkpoint.

Besides the work that it saves, drawing random numbers on the meta device makes torch import its compiler, 1.5 seconds.

Matrices may be kept in another form than a tensor (`nets.kept`), and a convolution takes what comes behind it along.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeptMatrix(Protocol):
    """A matrix with its bias, in a form that multiplies faster than a tensor does."""

    def takes(self, rows: int, weight: Tensor) -> bool:
        """Whether it is meant for that many rows, and still what the weight is."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """x: (rows, inputs) -> (rows, outputs)."""
        ...


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, kept: KeptMatrix | None = None) -> Tensor:
    """Multiply the rows of x by a matrix: (..., inputs) -> (..., outputs)."""
    if kept is not None:
        rows = x.reshape(-1, x.shape[-1])
        if kept.takes(len(rows), weight):
            return kept(rows).view(*x.shape[:-1], -1)
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`nn.Linear`, not initialised."""

    kept: KeptMatrix | None = None

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., inputs) -> (..., outputs)."""
        return linear(x, self.weight, self.bias, self.kept)

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias: (outputs, inputs) and (outputs,)."""
        return self.weight, self.bias

    def drop_matrix(self) -> None:
        """Give the memory of the weight back, once it is kept in another form."""
        self.weight = nn.Parameter(self.weight.to("meta"), requires_grad=False)


class KeptConvolution(Protocol):
    """A convolution that computes what comes behind it along."""

    def __call__(self, x: Tensor, limit: float | None, add: Tensor | None) -> Tensor:
        """x: (n, C, H, W) -> (n, C', H', W')."""
        ...


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, not initialised; it can add a shortcut and clamp what it computes."""

    kept: KeptConvolution | None = None

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""

    def forward(self, x: Tensor, *, limit: float | None = None, add: Tensor | None = None) -> Tensor:
        """Convolve, add, and clamp to [0, limit] if there is one (6: ReLU6, infinity: ReLU).

        x: (n, C, H, W), add: (n, C', H', W') -> (n, C', H', W').
        """
        if self.kept is not None:
            return self.kept(x, limit, add)
        weight, padding = self.shaped((x.shape[2], x.shape[3]))
        y = convolve(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return finish(y, limit, add)

    def shaped(self, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """Return kernel and padding for images of that height and width, in pixels."""
        return self.weight, self.padding  # type: ignore[return-value]  # never a string here


class PatchConv2d(Conv2d):
    """The convolution of a Vision Transformer, whose patches do not overlap: a matrix product, and computed as one."""

    def __init__(self, width: int, patch_size: tuple[int, int], *, bias: bool) -> None:
        super().__init__(3, width, patch_size, stride=patch_size, bias=bias)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Pixels: (n, 3, H, W) -> (n, (H // patch) * (W // patch), width); pixels beside whole patches are left out."""
        height, width = self.kernel_size
        rows, columns = pixels.shape[2] // height, pixels.shape[3] // width
        pixels = pixels[:, :, : rows * height, : columns * width]
        patches = pixels.reshape(-1, 3, rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
        return F.linear(patches.reshape(len(pixels), rows * columns, -1), self.weight.flatten(1), self.bias)


Pair = tuple[int, ...]


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Convolve; on GPUs, what is float32 is not rounded to TF32.

    torch does that to convolutions (not to matrix products) unless a switch for the whole process is turned, which is
    not ours. The operator behind `F.conv2d` takes the switch as an argument; it has a place in no other path.
    """
    if x.device.type != "cuda" or x.dtype != torch.float32 or torch.is_grad_enabled():
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    cudnn = torch.backends.cudnn
    how = (cudnn.benchmark, cudnn.deterministic, cudnn.enabled)
    allow_tf32 = False
    return torch._convolution(x, weight, bias, stride, padding, dilation, False, (0, 0), groups, *how, allow_tf32)


def convolves(tower: nn.Module) -> bool:
    """Whether a tower has convolutions that are computed as such."""
    return any(isinstance(one, nn.Conv2d) and not isinstance(one, PatchConv2d) for one in tower.modules())


class ForeignConv2d(nn.Conv2d):
    """What the convolutions of networks of other libraries become, so that float32 is float32 there too."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, C, H, W) -> (n, C', H', W')."""
        if isinstance(self.padding, str) or self.padding_mode != "zeros":
            return super().forward(x)
        return convolve(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def finish(y: Tensor, limit: float | None, add: Tensor | None) -> Tensor:
    """Add to a fresh tensor and clamp it, in place."""
    if add is not None:
        y += add
    if limit is None:
        return y
    return F.relu(y, inplace=True) if limit == float("inf") else F.hardtanh(y, 0.0, limit, inplace=True)


class Embedding(nn.Embedding):
    """`nn.Embedding`, not initialised."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm`, not initialised."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class BatchNorm2d(nn.Module):
    """Batch norm by the statistics of training; torch's own also counts batches, which only training needs."""

    eps = 1e-5  # torch's default, which the published networks have
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, C, H, W) -> (n, C, H, W)."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
