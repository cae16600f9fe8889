"""Which places of an image an output of a tower comes from, for each kind of tower by a published method.

- Transformers: the attention maps of the last layers, each number times its gradient, what is negative left out, the
  mean over the heads, multiplied through the layers (Chefer, Gur and Wolf, ICCV 2021, arXiv:2103.15679, equations 5 and
  6). The authors take the last layer alone for CLIP. A pooling by attention, which SigLIP and CoCa have, is the last
  layer by their rule for attention between two sets (equations 8 to 10).
- ResNets: Grad-CAM on the last grid (Selvaraju et al., ICCV 2017, arXiv:1610.02391, equations 1 and 2).
- `mini`: the class activation map (Zhou et al., CVPR 2016, arXiv:1512.04150), whose weights are the gradients averaged
  on the way from an empty grid to the grid (integrated gradients, Sundararajan et al., ICML 2017, arXiv:1703.01365):
  behind the average over the grid stand a softmax and a norm. Where it is linear there, that is the plain class
  activation map.

The towers run as ever up to the layers that count, which are computed here from the same weights, in float32 and in
plain operators that have gradients. The networks know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroshot.nets.efficientnet import EfficientNet
from zeroshot.nets.layers import Linear
from zeroshot.nets.resnet import AttentionPool2d, ModifiedResNet
from zeroshot.nets.siglip import AttentionPool, SiglipVision
from zeroshot.nets.transformer import Attention, Block, FeedForward, activate
from zeroshot.nets.vit import QueryPool, VisionTransformer

# From outputs (n, dim) to one number for each (n,): what is to be explained.
Objective = Callable[[Tensor], Tensor]
# Points on the way from an empty grid to the grid. Gauss-Legendre; 16 leave an error of 1e-6.
_NODES = 32


@dataclass(frozen=True)
class Method:
    """A published method: its name, and where it was published."""

    name: str
    citation: str


CAM = Method(
    "class activation map, weights by integrated gradients",
    "Zhou et al., CVPR 2016, arXiv:1512.04150; Sundararajan et al., ICML 2017, arXiv:1703.01365",
)
GRAD_CAM = Method("Grad-CAM", "Selvaraju et al., ICCV 2017, arXiv:1610.02391")
ATTENTION = Method("gradient-weighted attention", "Chefer, Gur and Wolf, ICCV 2021, arXiv:2103.15679")


@dataclass(frozen=True)
class Relevance:
    """What each place of one image had to do with a number.

    Attributes
    ----------
    grid : Tensor of shape (rows, columns), float32
        On the CPU.
    rows, columns : Tensor of shape (rows,) and (columns,), float32
        Where the cells have their middles in the input of the tower, in pixels from its top and left.
    seen : tuple of float
        Height and width of what the tower looks at, in pixels; it leaves out what is beside whole patches.
    output : Tensor of shape (dim,), float32
        What the tower gave: its embedding, not normalised, or its features.
    value : float
        The number.
    baseline : float or None
        The number for an empty grid, where the sum of `grid` is the difference to it; None where there is no such sum.
    method : Method
    """

    grid: Tensor
    rows: Tensor
    columns: Tensor
    seen: tuple[float, float]
    output: Tensor
    value: float
    baseline: float | None
    method: Method


def find_method(tower: nn.Module) -> Method | None:
    """Return the method for a tower; None if there is none, because it is another library's."""
    if isinstance(tower, EfficientNet):
        return CAM
    if isinstance(tower, ModifiedResNet):
        return GRAD_CAM
    return ATTENTION if isinstance(tower, (VisionTransformer, SiglipVision)) else None


def is_differentiable(tower: nn.Module) -> bool:
    """Whether the weights are there as numbers; those in 8 bits have no gradients."""
    return not any(parameter.is_meta for parameter in tower.parameters())


def trace(
    tower: nn.Module, pixels: Tensor, objective: Objective, *, features: bool = False, layers: int = 1
) -> Relevance:
    """Explain a number that comes of a tower's output for one image.

    Parameters
    ----------
    tower : EfficientNet, ModifiedResNet, VisionTransformer or SiglipVision
    pixels : Tensor of shape (1, 3, H, W)
        Normalised, in the precision and on the device of the tower.
    objective : callable
        From outputs (n, dim), float32, to numbers (n,), differentiable; of `mini` it gets several outputs at once.
    features : bool
        Whether the output is the tower's features rather than its embedding.
    layers : int
        How many layers of attention count, from the last; all if there are no more. For transformers alone.
    """
    with torch.inference_mode(False), torch.enable_grad():
        if pixels.is_inference():
            pixels = pixels.clone()
        if isinstance(tower, EfficientNet):
            return _activation_map(tower, pixels, objective, features)
        if isinstance(tower, ModifiedResNet):
            return _grad_cam(tower, pixels, objective)
        assert isinstance(tower, (VisionTransformer, SiglipVision))
        return _attention(tower, pixels, objective, features, layers)


# ---------------------------------------------------------------------------------------------------- convolutions


def _activation_map(tower: EfficientNet, pixels: Tensor, objective: Objective, features: bool) -> Relevance:
    with torch.no_grad():
        grid = tower.grid(pixels)[0].float()  # (C, rows, columns)

    def output(pooled: Tensor) -> Tensor:
        return pooled if features else _linear(tower.concepts, _linear(tower.classifier, pooled).softmax(dim=-1))

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    parts, shares = (torch.from_numpy(x).to(grid) for x in ((nodes + 1) / 2, weights / 2))  # of the way, in [0, 1]
    pooled = grid.mean(dim=(1, 2))
    way = (parts[:, None] * pooled).requires_grad_()  # (nodes, C)
    (gradients,) = torch.autograd.grad(objective(output(way)).sum(), way)
    contributions = torch.einsum("c,chw->hw", shares @ gradients, grid) / grid[0].numel()
    with torch.no_grad():
        outputs = output(torch.stack([pooled, torch.zeros_like(pooled)]))
        value, baseline = objective(outputs).tolist()
    height, width = pixels.shape[2:]
    return Relevance(
        grid=contributions.cpu(),
        rows=tower.centres(height),
        columns=tower.centres(width),
        seen=(height, width),
        output=outputs[0],
        value=value,
        baseline=baseline,
        method=CAM,
    )


def _grad_cam(tower: ModifiedResNet, pixels: Tensor, objective: Objective) -> Relevance:
    with torch.no_grad():
        grid = tower.grid(pixels).float()
    grid.requires_grad_()
    outputs = _pool_grid(tower.attnpool, grid)
    value = objective(outputs).sum()
    (gradients,) = torch.autograd.grad(value, grid)
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    activations = (weights * grid.detach()).sum(dim=1)[0].relu()
    height, width = pixels.shape[2:]
    rows, columns = ((torch.arange(size, dtype=torch.float32) + 0.5) * 32 for size in activations.shape)
    return Relevance(
        grid=activations.cpu(),
        rows=rows - 0.5,  # of five halvings the first is a convolution, whose first middle is the first pixel
        columns=columns - 0.5,
        seen=(height, width),
        output=outputs.detach()[0],
        value=value.item(),
        baseline=None,
        method=GRAD_CAM,
    )


def _pool_grid(pool: AttentionPool2d, grid: Tensor) -> Tensor:
    x = grid.flatten(2).transpose(1, 2)
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + _number(pool.positional_embedding)
    q, k, v = _linear(pool.q_proj, x[:, :1]), _linear(pool.k_proj, x), _linear(pool.v_proj, x)
    return _linear(pool.c_proj, _attend(q, k, v, pool.heads)[0].flatten(1))


# ---------------------------------------------------------------------------------------------------- transformers


def _attention(
    tower: VisionTransformer | SiglipVision, pixels: Tensor, objective: Objective, features: bool, layers: int
) -> Relevance:
    pool = tower.pool if isinstance(tower, SiglipVision) else getattr(tower, "attn_pool", None)
    blocks: list[Block] = list(tower.transformer.resblocks)  # type: ignore[arg-type]
    count = min(layers if pool is None else layers - 1, len(blocks))
    with torch.no_grad():
        x = tower.tokens(pixels)
        for block in blocks[: len(blocks) - count]:
            x = block(x, causal=False)
    x = x.float().requires_grad_()
    maps: list[Tensor] = []  # each (1, heads, queries, tokens)
    for block in blocks[len(blocks) - count :]:
        y, probabilities = _self_attention(block.attn, _norm(block.ln_1, x))
        maps.append(probabilities)
        x = x + y
        x = x + _feed(block.mlp, _norm(block.ln_2, x))
    if isinstance(tower, SiglipVision):
        outputs, probabilities = _pool_siglip(tower.pool, _norm(tower.ln_post, x))
        maps.append(probabilities)
    else:
        if isinstance(pool, QueryPool):
            x, probabilities = _pool_query(pool, x)
            maps.append(probabilities)
        outputs = _read(tower, x)
        outputs = outputs if features else outputs @ _number(tower.proj)
    value = objective(outputs).sum()
    gradients = torch.autograd.grad(value, maps)
    weights = [(a.detach() * g).clamp(min=0).mean(dim=1)[0] for a, g in zip(maps, gradients, strict=True)]  # equation 5
    height, width = tower.config.patch_size
    rows, columns = pixels.shape[2] // height, pixels.shape[3] // width
    relevance = _through_layers(weights, pool is not None)
    relevance = _of_what_is_read(tower, relevance)
    return Relevance(
        grid=relevance.view(rows, columns).cpu(),
        rows=(torch.arange(rows, dtype=torch.float32) + 0.5) * height,
        columns=(torch.arange(columns, dtype=torch.float32) + 0.5) * width,
        seen=(rows * height, columns * width),
        output=outputs.detach()[0],
        value=value.item(),
        baseline=None,
        method=ATTENTION,
    )


def _through_layers(weights: list[Tensor], pools: bool) -> Tensor:
    """Multiply the layers: each (tokens, tokens), with a pooling the last (1, tokens) -> (tokens or 1, tokens)."""
    tokens = weights[0].shape[-1]
    relevance = torch.eye(tokens, device=weights[0].device)
    for layer in weights[: len(weights) - pools]:
        relevance = relevance + layer @ relevance  # equation 6
    if not pools:
        return relevance
    own = relevance - torch.eye(tokens, device=relevance.device)  # equation 8
    sums = own.sum(dim=1, keepdim=True)
    own = torch.where(sums > 0, own / sums, own) + torch.eye(tokens, device=own.device)  # equation 9
    return weights[-1] @ own  # equation 10


def _of_what_is_read(tower: VisionTransformer | SiglipVision, relevance: Tensor) -> Tensor:
    """Return the relevance of the patches for what is read: (tokens or 1, tokens) -> (patches,)."""
    if isinstance(tower, SiglipVision):
        return relevance[0]
    if tower.config.pool == "mean":
        return relevance[1:, 1:].mean(dim=0)  # each patch is read alike
    return relevance[0, 1:]  # by the class token, or the query


def _read(tower: VisionTransformer, x: Tensor) -> Tensor:
    """Read the features: tokens (1, T, width), or what was pooled (1, dim) -> (1, feature_dim)."""
    if tower.config.pool == "attention":
        return _norm(tower.ln_post, x)
    if tower.config.pool == "class":
        return _norm(tower.ln_post, x[:, 0])
    patches = x[:, 1:]
    return (
        _norm(tower.ln_post, patches.mean(dim=1))
        if tower.config.norm_last
        else _norm(tower.ln_post, patches).mean(dim=1)
    )


def _self_attention(attention: Attention, x: Tensor) -> tuple[Tensor, Tensor]:
    projected = F.linear(x, _number(attention.in_proj_weight), _number(attention.in_proj_bias))
    q, k, v = projected.chunk(3, dim=-1)
    y, probabilities = _attend(q, k, v, attention.heads)
    return _linear(attention.out_proj, y), probabilities


def _pool_siglip(pool: AttentionPool, x: Tensor) -> tuple[Tensor, Tensor]:
    width = x.shape[-1]
    w_q, w_kv = torch.split(_number(pool.in_proj_weight), [width, 2 * width])
    b_q, b_kv = torch.split(_number(pool.in_proj_bias), [width, 2 * width])
    k, v = F.linear(x, w_kv, b_kv).chunk(2, dim=-1)
    y, probabilities = _attend(F.linear(_number(pool.probe), w_q, b_q), k, v, pool.heads)
    y = _linear(pool.out_proj, y.flatten(1))
    return y + _feed(pool.mlp, _norm(pool.norm, y)), probabilities


def _pool_query(pool: QueryPool, x: Tensor) -> tuple[Tensor, Tensor]:
    attention = pool.attn
    b_q, b_k, b_v = _number(attention.in_proj_bias).chunk(3)
    x = _norm(pool.ln_k, x)
    q = F.linear(_norm(pool.ln_q, _number(pool.query)[:1]), _number(attention.q_proj_weight), b_q)[None]
    k, v = F.linear(x, _number(attention.k_proj_weight), b_k), F.linear(x, _number(attention.v_proj_weight), b_v)
    y, probabilities = _attend(q, k, v, attention.heads)
    return _linear(attention.out_proj, y.flatten(1)), probabilities


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Attend, and return the maps too: q (1, Tq, C), k and v (1, T, C) -> (1, Tq, C), (1, heads, Tq, T)."""
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))  # (1, heads, T, head_dim)
    probabilities = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return (probabilities @ v).transpose(1, 2).flatten(2), probabilities


def _feed(mlp: FeedForward, x: Tensor) -> Tensor:
    return _linear(mlp.c_proj, activate(_linear(mlp.c_fc, x), mlp.activation))


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, _number(norm.weight), _number(norm.bias), norm.eps)


def _linear(layer: Linear, x: Tensor) -> Tensor:
    return F.linear(x, _number(layer.weight), None if layer.bias is None else _number(layer.bias))


def _number(weight: Tensor) -> Tensor:
    """Return a weight in float32; a copy of one that was made for inference alone, which lets no gradient through."""
    weight = weight.detach().float()
    return weight.clone() if weight.is_inference() else weight
