"""The image tower of the bundled `mini` model: an ImageNet classifier whose answer is a point among class names.

The convolutions are EfficientNet-Lite's (Google, 2020; after Tan and Le, arXiv:1905.11946), batch norms folded in. Its
class probabilities weigh the text embeddings of the 1000 class names: the convex combination of semantic embeddings
(ConSE, Norouzi et al., arXiv:1312.5650), which places an image in the space of the text tower.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroshot.nets.layers import Conv2d, Linear

# Images that a CPU takes through the convolutions at once: their activations stay in its cache.
_IMAGES_PER_CHUNK = 4


@dataclass(frozen=True)
class InvertedResidualConfig:
    """Sizes of one block: channels in, channels between (equal to `inputs` without expansion), channels out."""

    inputs: int
    hidden: int
    outputs: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class EfficientNetConfig:
    """Sizes of the tower.

    Attributes
    ----------
    stem : int
        Channels of the first convolution.
    blocks : tuple of InvertedResidualConfig
    features : int
        Channels that are averaged over the image.
    concepts : int
        Number of class names that span the joint space.
    dim : int
        Size of the embedding that images and texts share.
    image_size : tuple of int
        Height and width of the input, in pixels.
    """

    stem: int
    blocks: tuple[InvertedResidualConfig, ...]
    features: int
    concepts: int
    dim: int
    image_size: tuple[int, int]

    def build(self) -> EfficientNet:
        """Return the tower, without weights."""
        with torch.device("meta"):
            return EfficientNet(self)


class SameConv2d(Conv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes to the right and the bottom."""

    def shaped(self, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """Return a kernel and an even padding that do the same on images of that height and width.

        Where the padding is odd, the kernel gets a row or column of zeros in front that stands on one more pixel of
        padding: much less to copy than the image.
        """
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-length // stride) - 1) * stride + kernel - length, 0) for length in size)
        weight = F.pad(self.weight, (width % 2, 0, height % 2, 0)) if height % 2 or width % 2 else self.weight
        return weight, (-(-height // 2), -(-width // 2))


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project back; with a shortcut where the shape stays."""

    def __init__(self, config: InvertedResidualConfig) -> None:
        super().__init__()
        self.expand = Conv2d(config.inputs, config.hidden, 1) if config.hidden != config.inputs else None
        self.depthwise = SameConv2d(
            config.hidden, config.hidden, config.kernel, stride=config.stride, groups=config.hidden
        )
        self.project = Conv2d(config.hidden, config.outputs, 1)
        self.shortcut = config.stride == 1 and config.inputs == config.outputs

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, inputs, H, W) -> (n, outputs, ceil(H / stride), ceil(W / stride))."""
        hidden = x if self.expand is None else self.expand(x, limit=6)
        out: Tensor = self.project(self.depthwise(hidden, limit=6), add=x if self.shortcut else None)
        return out


class EfficientNet(nn.Module):
    """Pixels to embeddings, not normalised."""

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = SameConv2d(3, config.stem, 3, stride=2)
        self.blocks = nn.ModuleList(InvertedResidual(block) for block in config.blocks)
        self.head = Conv2d(config.blocks[-1].outputs, config.features, 1)
        self.classifier = Linear(config.features, config.concepts)
        self.concepts = Linear(config.concepts, config.dim, bias=False)
        self.feature_dim = config.features

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (n_images, 3, H, W), normalised -> (n_images, dim), not normalised."""
        return self.place(self.class_logits(pixels))

    def place(self, logits: Tensor) -> Tensor:
        """Let the class probabilities weigh the concepts: (n_images, concepts) -> (n_images, dim)."""
        embeddings: Tensor = self.concepts(logits.float().softmax(dim=-1).to(logits.dtype))
        return embeddings

    def class_logits(self, pixels: Tensor) -> Tensor:
        """What the classifier says of the concepts: (n_images, 3, H, W) -> (n_images, concepts)."""
        logits: Tensor = self.classifier(self.features(pixels))
        return logits

    def features(self, pixels: Tensor) -> Tensor:
        """What is classified: (n_images, 3, H, W) -> (n_images, feature_dim)."""
        if pixels.device.type == "cpu" and len(pixels) > _IMAGES_PER_CHUNK:
            return torch.cat([self.features(part) for part in torch.split(pixels, _IMAGES_PER_CHUNK)])
        return self.grid(pixels).mean(dim=(2, 3))

    def grid(self, pixels: Tensor) -> Tensor:
        """What is averaged: (n_images, 3, H, W) -> (n_images, feature_dim, rows, columns)."""
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last), limit=6)
        for block in self.blocks:
            x = block(x)
        last: Tensor = self.head(x, limit=6)
        return last

    def centres(self, length: int) -> Tensor:
        """Return the middles of what the cells of `grid` see along one side of an image: (cells,) float32, in pixels.

        The odd pixel of each padding goes to the end, so that the first cell looks at the very edge.
        """
        first, step = 0.5, 1  # middle of the first cell, and from one to the next
        for convolution in (module for module in self.modules() if isinstance(module, SameConv2d)):
            kernel, stride = convolution.kernel_size[0], convolution.stride[0]
            cells = -(-length // stride)
            padding = max((cells - 1) * stride + kernel - length, 0)
            first += step * ((kernel - 1) / 2 - padding // 2)
            step, length = step * stride, cells
        return first + step * torch.arange(length, dtype=torch.float32)
