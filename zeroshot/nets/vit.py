"""CLIP's image tower of the Vision Transformer kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroshot.nets.layers import LayerNorm, Linear, PatchConv2d
from zeroshot.nets.transformer import Transformer, TransformerConfig, attend


@dataclass(frozen=True)
class VisionTransformerConfig:
    """Sizes of an image tower.

    Attributes
    ----------
    transformer : TransformerConfig
    image_size : tuple of int
        Height and width of the input, in pixels.
    patch_size : tuple of int
        Height and width of a patch, in pixels.
    dim : int
        Size of the embedding that images and texts share.
    pool : {"class", "mean", "attention"}
        What is read: the class token (CLIP), the mean of the patches (CLIPA), or what a learned query finds in all of
        them (CoCa).
    norm_pre : bool
        Whether a layer norm stands before the blocks.
    norm_last : bool
        Whether the layer norm behind the blocks comes after the pooling. For the class token it is all the same.
    pool_queries, pool_heads : int
        Queries and heads of the attention pooling; only the first query makes the embedding, the others fed the
        captions.
    """

    transformer: TransformerConfig
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    dim: int
    pool: Literal["class", "mean", "attention"] = "class"
    norm_pre: bool = True
    norm_last: bool = False
    pool_queries: int = 0
    pool_heads: int = 0

    @property
    def positions(self) -> int:
        """Number of tokens: the patches and the class token."""
        (height, width), (patch_height, patch_width) = self.image_size, self.patch_size
        return 1 + (height // patch_height) * (width // patch_width)

    def build(self) -> VisionTransformer:
        """Return the tower, without weights."""
        with torch.device("meta"):
            return VisionTransformer(self)


class VisionTransformer(nn.Module):
    """Pixels to embeddings, not normalised."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        width, eps = config.transformer.width, config.transformer.norm_eps
        self.config = config
        self.conv1 = PatchConv2d(width, config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.positions, width))
        self.ln_pre = LayerNorm(width, eps=eps) if config.norm_pre else nn.Identity()
        self.transformer = Transformer(config.transformer)
        if config.pool == "attention":
            self.attn_pool = QueryPool(config)
            width = config.dim
        self.ln_post = LayerNorm(width, eps=eps)
        self.proj = nn.Parameter(torch.empty(width, config.dim))
        self.feature_dim = width

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (n_images, 3, H, W), normalised -> (n_images, dim), not normalised."""
        embeddings: Tensor = self.features(pixels) @ self.proj
        return embeddings

    def features(self, pixels: Tensor) -> Tensor:
        """What is projected: (n_images, 3, H, W) -> (n_images, feature_dim)."""
        x = self.tokens(pixels)
        if self.config.pool == "class":
            x = self.transformer.pooled(x, torch.zeros(len(x), dtype=torch.int64, device=pixels.device))
            return self._norm(x)
        x = self.transformer(x)
        if self.config.pool == "attention":
            return self._norm(self.attn_pool(x))
        if self.config.norm_last:
            return self._norm(x[:, 1:].mean(dim=1))
        return self._norm(x[:, 1:]).mean(dim=1)

    def tokens(self, pixels: Tensor) -> Tensor:
        """What goes into the blocks, the class token first: (n_images, 3, H, W) -> (n_images, positions, width)."""
        patches = self.conv1.tokens(pixels)  # (n, grid_h * grid_w, width)
        x = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1) + self.positional_embedding
        normed: Tensor = self.ln_pre(x)
        return normed

    def _norm(self, x: Tensor) -> Tensor:
        normed: Tensor = self.ln_post(x)
        return normed


class QueryPool(nn.Module):
    """CoCa's attention pooling (Yu et al., arXiv:2205.01917): learned queries look at all tokens."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(config.pool_queries, config.dim))
        self.ln_q = LayerNorm(config.dim)
        self.ln_k = LayerNorm(config.transformer.width)
        self.attn = CrossAttention(config.dim, config.transformer.width, config.pool_heads)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, T, width) -> (n, dim)."""
        pooled: Tensor = self.attn(self.ln_q(self.query[:1]), self.ln_k(x))
        return pooled


class CrossAttention(nn.Module):
    """Multi-head attention of one query to tokens of another width; names and shapes of `nn.MultiheadAttention`."""

    def __init__(self, dim: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj_weight = nn.Parameter(torch.empty(dim, dim))
        self.k_proj_weight = nn.Parameter(torch.empty(dim, width))
        self.v_proj_weight = nn.Parameter(torch.empty(dim, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * dim))
        self.out_proj = Linear(dim, dim)

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        """query: (1, dim), x: (n, T, width) -> (n, dim)."""
        b_q, b_k, b_v = self.in_proj_bias.chunk(3)
        q = F.linear(query, self.q_proj_weight, b_q).expand(len(x), -1, -1)
        k = F.linear(x, self.k_proj_weight, b_k)
        v = F.linear(x, self.v_proj_weight, b_v)
        attended: Tensor = self.out_proj(attend(q, k, v, self.heads).flatten(1))
        return attended
