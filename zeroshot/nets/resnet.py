"""CLIP's image tower of the ResNet kind (the paper's section 2.4): ResNet-D with antialiasing, read by attention.

Names are OpenAI's. A stem of three convolutions; strides are average pools before the convolution; and in place of the
mean over the last grid, an attention whose one query is that mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroshot.nets.layers import BatchNorm2d, Conv2d, Linear, finish
from zeroshot.nets.transformer import attend

_EXPANSION = 4  # channels that leave a block, for each that is filtered in it


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of the tower.

    Attributes
    ----------
    width : int
        Channels behind the stem; 64 for RN50.
    layers : tuple of int
        Blocks of each of the four stages; (3, 4, 6, 3) for RN50.
    heads : int
        Heads of the attention pooling.
    image_size : tuple of int
        Height and width of the input, in pixels; multiples of 32.
    dim : int
        Size of the embedding that images and texts share.
    """

    width: int
    layers: tuple[int, int, int, int]
    heads: int
    image_size: tuple[int, int]
    dim: int

    @property
    def positions(self) -> int:
        """Number of tokens of the attention pooling: the last grid and its mean."""
        return 1 + (self.image_size[0] // 32) * (self.image_size[1] // 32)

    def build(self) -> ModifiedResNet:
        """Return the tower, without weights."""
        with torch.device("meta"):
            return ModifiedResNet(self)


class ModifiedResNet(nn.Module):
    """Pixels to embeddings, not normalised."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.conv1 = Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width // 2)
        self.conv2 = Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width // 2)
        self.conv3 = Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = BatchNorm2d(width)
        self.layer1 = _stage(width, width, config.layers[0], stride=1)
        self.layer2 = _stage(4 * width, 2 * width, config.layers[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, config.layers[2], stride=2)
        self.layer4 = _stage(16 * width, 8 * width, config.layers[3], stride=2)
        self.attnpool = AttentionPool2d(config.positions, 32 * width, config.heads, config.dim)
        self.feature_dim = config.dim

    def features(self, pixels: Tensor) -> Tensor:
        """The embeddings: CLIP's paper (A.3) leaves out the projection of ViT alone; this one is the attention's."""
        embeddings: Tensor = self(pixels)
        return embeddings

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (n_images, 3, H, W), normalised -> (n_images, dim), not normalised."""
        embeddings: Tensor = self.attnpool(self.grid(pixels))
        return embeddings

    def grid(self, pixels: Tensor) -> Tensor:
        """What the attention pools: (n_images, 3, H, W) -> (n_images, 32 * width, H / 32, W / 32)."""
        x = pixels.contiguous(memory_format=torch.channels_last)
        x = normed(self.conv1, self.bn1, x, limit=inf)
        x = normed(self.conv2, self.bn2, x, limit=inf)
        x = normed(self.conv3, self.bn3, x, limit=inf)
        x = F.avg_pool2d(x, 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x

    def fold_norms(self) -> None:
        """Multiply each batch norm into the convolution before it: the same numbers, fewer passes over the pixels."""
        for module in list(self.modules()):
            children = dict(module.named_children())
            for name, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
                if isinstance(children.get(norm), BatchNorm2d):
                    _fold(children[name], children[norm])  # type: ignore[arg-type]
                    module.add_module(norm, nn.Identity())


def _stage(inputs: int, channels: int, count: int, *, stride: int) -> nn.Sequential:
    """Return blocks of which the first has the stride."""
    first = Bottleneck(inputs, channels, stride=stride)
    return nn.Sequential(first, *(Bottleneck(channels * _EXPANSION, channels, stride=1) for _ in range(count - 1)))


def normed(
    convolution: Conv2d, norm: BatchNorm2d | nn.Identity, x: Tensor, *, limit: float, add: Tensor | None = None
) -> Tensor:
    """Convolve, normalise, add and clamp: (n, C, H, W) -> (n, C', H', W')."""
    if isinstance(norm, nn.Identity):  # folded into the convolution
        y: Tensor = convolution(x, limit=limit, add=add)
        return y
    return finish(norm(convolution(x)), limit, add)


def _fold(conv: nn.Conv2d, norm: BatchNorm2d) -> None:
    """Fold in double precision: the product is then as near to the two steps as float32 can tell.

    On the CPU, since not every device has it (Apple's do not).
    """
    weight = conv.weight
    gain = norm.weight.cpu().double() / (norm.running_var.cpu().double() + norm.eps).sqrt()
    bias = norm.bias.cpu().double() - norm.running_mean.cpu().double() * gain
    folded = weight.cpu().double() * gain[:, None, None, None]
    conv.weight, conv.bias = (
        nn.Parameter(one.to(weight.dtype).to(weight.device), requires_grad=False) for one in (folded, bias)
    )


class Bottleneck(nn.Module):
    """Reduce, filter, expand; the shortcut is pooled and projected where the shape changes."""

    def __init__(self, inputs: int, channels: int, *, stride: int) -> None:
        super().__init__()
        outputs = channels * _EXPANSION
        self.stride = stride
        self.conv1 = Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, inputs, H, W) -> (n, 4 * channels, H / stride, W / stride)."""
        out = normed(self.conv1, self.bn1, x, limit=inf)
        out = normed(self.conv2, self.bn2, out, limit=inf)
        if self.stride > 1:
            out, x = F.avg_pool2d(out, self.stride), F.avg_pool2d(x, self.stride)
        shortcut = x if self.downsample is None else self.downsample(x)
        return normed(self.conv3, self.bn3, out, limit=inf, add=shortcut)


class AttentionPool2d(nn.Module):
    """Multi-head attention over the grid, with the mean of the grid as the only query."""

    def __init__(self, positions: int, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.c_proj = Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, C, H, W) -> (n, dim)."""
        x = x.flatten(2).transpose(1, 2)  # (n, H * W, C)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding
        y = attend(self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x), self.heads)
        embeddings: Tensor = self.c_proj(y.flatten(1))
        return embeddings
