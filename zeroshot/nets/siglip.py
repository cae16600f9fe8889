"""SigLIP's image tower: a Vision Transformer without class token, read by attention pooling.

Zhai et al., arXiv:2303.15343; the pooling ("MAP") is that of Zhai et al., arXiv:2106.04560. The text tower is the
common one of `nets.text`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroshot.nets.layers import LayerNorm, Linear, PatchConv2d
from zeroshot.nets.transformer import FeedForward, Transformer, TransformerConfig, attend


@dataclass(frozen=True)
class SiglipVisionConfig:
    """Sizes of an image tower; its embedding is as wide as its transformer.

    Attributes
    ----------
    transformer : TransformerConfig
    image_size : tuple of int
        Height and width of the input, in pixels. What is left over beside whole patches is not looked at.
    patch_size : tuple of int
        Height and width of a patch, in pixels.
    """

    transformer: TransformerConfig
    image_size: tuple[int, int]
    patch_size: tuple[int, int]

    @property
    def dim(self) -> int:
        """Size of the embedding that images and texts share."""
        return self.transformer.width

    @property
    def positions(self) -> int:
        """Number of tokens: the patches."""
        (height, width), (patch_height, patch_width) = self.image_size, self.patch_size
        return (height // patch_height) * (width // patch_width)

    def build(self) -> SiglipVision:
        """Return the tower, without weights."""
        with torch.device("meta"):
            return SiglipVision(self)


class SiglipVision(nn.Module):
    """Pixels to embeddings, not normalised."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        width, eps = config.transformer.width, config.transformer.norm_eps
        self.config = config
        self.conv1 = PatchConv2d(width, config.patch_size, bias=True)
        self.positional_embedding = nn.Parameter(torch.empty(config.positions, width))
        self.transformer = Transformer(config.transformer)
        self.ln_post = LayerNorm(width, eps=eps)
        self.pool = AttentionPool(config.transformer)
        self.feature_dim = width

    def features(self, pixels: Tensor) -> Tensor:
        """The embeddings: there is no projection behind the pooling."""
        embeddings: Tensor = self(pixels)
        return embeddings

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (n_images, 3, H, W), normalised -> (n_images, dim), not normalised."""
        pooled: Tensor = self.pool(self.ln_post(self.transformer(self.tokens(pixels))))
        return pooled

    def tokens(self, pixels: Tensor) -> Tensor:
        """What goes into the blocks: (n_images, 3, H, W) -> (n_images, positions, width)."""
        return self.conv1.tokens(pixels) + self.positional_embedding


class AttentionPool(nn.Module):
    """One learned query looks at all tokens; then a feed-forward part with a shortcut."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = Linear(width, width)
        self.norm = LayerNorm(width, eps=config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, T, C) -> (n, C)."""
        width = x.shape[-1]
        w_q, w_kv = torch.split(self.in_proj_weight, [width, 2 * width])
        b_q, b_kv = torch.split(self.in_proj_bias, [width, 2 * width])
        q = F.linear(self.probe, w_q, b_q).expand(len(x), -1, -1)
        k, v = F.linear(x, w_kv, b_kv).chunk(2, dim=-1)
        y: Tensor = self.out_proj(attend(q, k, v, self.heads).flatten(1))
        y = y + self.mlp(self.norm(y))
        return y
