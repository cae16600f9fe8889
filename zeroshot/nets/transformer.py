"""The pre-norm residual blocks that CLIP's image and text towers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroshot.nets.layers import KeptMatrix, LayerNorm, Linear, linear

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a stack of residual attention blocks.

    Attributes
    ----------
    width : int
        Channels of the residual stream.
    layers : int
        Number of blocks.
    heads : int
        Attention heads; each has ``width / heads`` channels.
    mlp_width : int
        Hidden channels of the feed-forward part.
    activation : {"gelu", "gelu_tanh", "quick_gelu"}
        ``quick_gelu`` is ``x * sigmoid(1.702 x)``, which OpenAI's models were trained with; ``gelu_tanh`` is the
        approximation that SigLIP's were. The weights do not tell which one a model needs, and the wrong one costs
        accuracy in silence.
    norm_eps : float
        Epsilon of the layer norms.
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation
    norm_eps: float = 1e-5


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention of projected tokens: q (B, Tq, C), k and v (B, T, C) -> (B, Tq, C)."""

    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], heads, -1).transpose(1, 2)  # (B, heads, T, head_dim)

    return F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    kept: KeptMatrix | None = None  # the fused projection

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor, *, causal: bool, visible: Tensor | None = None) -> Tensor:
        """x: (B, T, C), visible: (B, 1, T or 1, T) bool, the keys that a query may look at -> (B, T, C)."""
        q, k, v = self.project(x).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(
            self._split(q), self._split(k), self._split(v), attn_mask=visible, is_causal=causal
        )
        return self._merge(y)

    def pooled(self, x: Tensor, at: Tensor, *, causal: bool, visible: Tensor | None = None) -> Tensor:
        """Attend from one position of each row; the row `at` of what `forward` gives.

        x: (B, T, C), at: (B,) int64, visible: (B, 1, T, T) bool -> (B, C).
        """
        rows = torch.arange(len(x), device=x.device)
        # The queries of all positions, for one product in place of two: they are a hundredth of a tower's work.
        q, k, v = self.project(x).chunk(3, dim=-1)
        q = q[rows, at].unsqueeze(1)  # (B, 1, C)
        if visible is not None:
            visible = visible[rows, :, at].unsqueeze(2)  # (B, 1, 1, T)
        elif causal:
            visible = torch.arange(x.shape[1], device=x.device) <= at[:, None, None, None]  # (B, 1, 1, T)
        y = F.scaled_dot_product_attention(self._split(q), self._split(k), self._split(v), attn_mask=visible)
        return self._merge(y).squeeze(1)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values side by side: (..., C) -> (..., 3 C)."""
        return linear(x, self.in_proj_weight, self.in_proj_bias, self.kept)

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of the fused projection: (3 C, C) and (3 C,)."""
        return self.in_proj_weight, self.in_proj_bias

    def drop_matrix(self) -> None:
        """Give the memory of that weight back, once it is kept in another form."""
        self.in_proj_weight = nn.Parameter(self.in_proj_weight.to("meta"), requires_grad=False)

    def _split(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        return x.view(n, length, self.heads, width // self.heads).transpose(1, 2)  # (B, heads, T, head_dim)

    def _merge(self, y: Tensor) -> Tensor:
        merged: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return merged


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply an activation to each number; any shape. What needs no gradient is overwritten: a pass over fresh memory
    takes several times as long.
    """
    approximate = "tanh" if activation == "gelu_tanh" else "none"
    if torch.is_grad_enabled() and x.requires_grad:
        return x * torch.sigmoid(1.702 * x) if activation == "quick_gelu" else F.gelu(x, approximate=approximate)
    if activation == "quick_gelu":  # x * sigmoid(1.702 x) = silu(1.702 x) / 1.702
        return F.silu(x.mul_(1.702), inplace=True).div_(1.702)
    gelu: Tensor = torch.ops.aten.gelu_(x, approximate=approximate)
    return gelu


class FeedForward(nn.Module):
    """Two linear layers with the activation between them."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.width, config.mlp_width)
        self.c_proj = Linear(config.mlp_width, config.width)
        self.activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., C) -> (..., C)."""
        projected: Tensor = self.c_proj(activate(self.c_fc(x), self.activation))
        return projected


class Block(nn.Module):
    """One pre-norm residual block: attention, then feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config.width, config.heads)
        self.ln_2 = LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, *, causal: bool, visible: Tensor | None = None) -> Tensor:
        """x: (B, T, C) -> (B, T, C)."""
        y: Tensor = self.attn(self.ln_1(x), causal=causal, visible=visible)
        y += x
        return self.feed(y)

    def feed(self, x: Tensor) -> Tensor:
        """Apply the feed-forward part with its shortcut: x: (..., C) -> (..., C)."""
        y: Tensor = self.mlp(self.ln_2(x))
        y += x
        return y

    def pooled(self, x: Tensor, at: Tensor, *, causal: bool, visible: Tensor | None = None) -> Tensor:
        """What `forward` gives at one position of each row, without computing the others. x: (B, T, C) -> (B, C)."""
        rows = torch.arange(len(x), device=x.device)
        y = self.attn.pooled(self.ln_1(x), at, causal=causal, visible=visible)
        y += x[rows, at]
        return self.feed(y)


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """x: (B, T, C) -> (B, T, C)."""
        for block in self.resblocks:
            x = block(x, causal=causal)
        return x

    def pooled(self, x: Tensor, at: Tensor, *, causal: bool = False, visible: Tensor | None = None) -> Tensor:
        """Run all blocks and read position `at` (B,) of each row: x: (B, T, C) -> (B, C).

        The other positions of the last block serve as keys and values alone, so the rest of it is computed for the
        one position that is read: less work, the same numbers. `visible`, (B, 1, T, T) bool, takes the place of
        `causal` where what a position sees is more than the past.
        """
        for block in self.resblocks[:-1]:
            x = block(x, causal=causal, visible=visible)
        last: Block = self.resblocks[-1]  # type: ignore[assignment]
        return last.pooled(x, at, causal=causal, visible=visible)
