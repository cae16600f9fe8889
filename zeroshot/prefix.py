"""Exact text encoding that computes each distinct prefix of a set of prompts once.

A causal text tower that is read at the end token never looks ahead: the activation at a position depends on the tokens
up to there and on nothing else. Prompts that start alike therefore share activations, and eighty templates over many
class names share most of theirs. The prompts form a trie of tokens; every layer runs once over its nodes, each node
attends to its ancestors, and in the last layer only the end tokens are finished. The numbers are those of
`TextTower.forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from zeroshot.lanes import each_in_lanes
from zeroshot.nets.kept import pack
from zeroshot.nets.text import TextTower
from zeroshot.nets.transformer import Block

Ints = npt.NDArray[np.int64]
ItemT = TypeVar("ItemT")

# Nodes that go through the layers' matrix products at once: their hidden activations stay in the processor's cache.
_NODES_PER_CHUNK = 1536
# The same on other devices, which have no such cache, and take as long for a few hundred rows as for thousands.
_NODES_PER_CHUNK_ELSEWHERE = 16384
# Keys gathered at once, in nodes: bounds the memory of attention.
_GATHERED_PER_CHUNK = 16384
# Up to so many nodes each looks at all of them through a mask: more arithmetic than gathering its ancestors takes, but
# one call in place of one for each depth. A GPU has arithmetic to spare.
_NODES_UNDER_A_MASK = {"cpu": 192, "cuda": 4096}
# A few names in one template.
_FEW_NODES = 64


@dataclass(frozen=True)
class Trie:
    """Distinct prefixes of a set of token sequences; nodes are numbered by depth, and in order within a depth.

    Attributes
    ----------
    tokens : ndarray of shape (n_nodes,), int64
        Last token of each prefix.
    starts : ndarray of shape (depths + 1,), int64
        Nodes ``starts[d]`` to ``starts[d + 1]`` are those of depth d, which is also their position.
    paths : list of ndarray of shape (nodes of depth d, d + 1), int64
        For each depth the nodes from the root to the node itself.
    ends : ndarray of shape (n_texts,), int64
        Node at which each text ends.
    """

    tokens: Ints
    starts: Ints
    paths: list[Ints]
    ends: Ints


def plan(tokens: Ints, *, end_id: int) -> Trie:
    """Build the trie of token sequences, each read up to its first end token.

    Parameters
    ----------
    tokens : ndarray of shape (n_texts, context), int64
        Each row holds `end_id`.
    end_id : int
    """
    lengths = (tokens == end_id).argmax(axis=1) + 1
    rows = np.where(np.arange(lengths.max()) < lengths[:, None], tokens[:, : lengths.max()], -1)
    rows, inverse = np.unique(rows, axis=0, return_inverse=True)
    inside = rows >= 0
    # Sorted rows share the longest prefixes with their neighbours: what is not shared with the row above is new.
    shared = np.zeros(rows.shape, dtype=bool)
    shared[1:] = np.logical_and.accumulate(rows[1:] == rows[:-1], axis=1)
    new = inside & ~shared
    numbers = np.where(new, new.T.cumsum().reshape(new.T.shape).T - 1, -1)
    nodes = np.maximum.accumulate(numbers, axis=0)  # a shared position has the number that stands above it
    lengths = inside.sum(axis=1)
    return Trie(
        tokens=rows.T[new.T],
        starts=np.concatenate([[0], new.sum(axis=0).cumsum()]),
        paths=[nodes[new[:, depth], : depth + 1] for depth in range(rows.shape[1])],
        ends=nodes[np.arange(len(rows)), lengths - 1][inverse.reshape(-1)],
    )


def encode(tower: TextTower, tokens: Ints) -> Tensor:
    """Return what ``tower(tokens)`` returns: (n_texts, context) int64 -> (n_texts, dim), not normalised."""
    trie = plan(tokens, end_id=tower.config.end_id)
    if len(trie.tokens) <= _FEW_NODES:
        return _encode_few(tower, trie)
    device = tower.positional_embedding.device
    blocks = _blocks(tower)
    x = _embed(tower, trie)
    qkv = x.new_empty(len(x), 3 * x.shape[1])  # one for all layers: fresh memory is slow
    # All is copied before the work begins: to copy is to wait for what a GPU has been given to do.
    ends, inverse = np.unique(trie.ends, return_inverse=True)  # in ascending order, thus by depth
    queries, queries_at_ends = _queries(trie, None, device), _queries(trie, ends, device)
    nodes, rows = _on(device, ends), _on(device, inverse.reshape(-1))
    for block in blocks[:-1]:
        _project(block, x, out=qkv)
        _advance(block, x, queries.attend(qkv, block.attn.heads))

    _project(blocks[-1], x, out=qkv)
    x = x[nodes]
    _advance(blocks[-1], x, queries_at_ends.attend(qkv, blocks[-1].attn.heads))
    return tower.project(x)[rows]


def _encode_few(tower: TextTower, trie: Trie) -> Tensor:
    """Do the same for a few nodes, filled up to the number that packed matrices ask for with some that nobody sees."""
    pack(tower, _FEW_NODES)
    x = _embed(tower, trie)
    n_nodes = len(x)
    x = F.pad(x, (0, 0, 0, _FEW_NODES - n_nodes))
    mask = torch.eye(_FEW_NODES, dtype=torch.bool, device=x.device)
    mask[:n_nodes, :n_nodes] = _on(x.device, _mask(trie.paths, n_nodes))
    queries, ends = _Queries(None, mask, []), _on(x.device, trie.ends)
    for block in _blocks(tower):
        attended = queries.attend(block.attn.project(block.ln_1(x)), block.attn.heads)
        x = block.feed(block.attn.out_proj(attended).add_(x))
    return tower.project(x[ends])


def _blocks(tower: TextTower) -> list[Block]:
    return list(tower.transformer.resblocks)  # type: ignore[arg-type]


def _embed(tower: TextTower, trie: Trie) -> Tensor:
    """Return what goes into the first block: (n_nodes, C)."""
    device = tower.positional_embedding.device
    depths = np.repeat(np.arange(len(trie.paths)), np.diff(trie.starts))
    embedded: Tensor = tower.token_embedding(_on(device, trie.tokens)) + tower.positional_embedding[_on(device, depths)]
    return embedded


def _project(block: Block, x: Tensor, *, out: Tensor) -> None:
    """Write the queries, keys and values of all nodes: x (n_nodes, C) -> out (n_nodes, 3 C)."""
    attention = block.attn

    def project(chunk: slice) -> None:
        rows = block.ln_1(x[chunk])
        weight = attention.in_proj_weight
        if attention.kept is None or not attention.kept.takes(len(rows), weight):
            torch.addmm(attention.in_proj_bias, rows, weight.T, out=out[chunk])
        else:
            out[chunk] = attention.project(rows)

    _each(project, _chunks(x), x.device)


def _advance(block: Block, x: Tensor, attended: Tensor) -> None:
    """Do what a block does behind the attention: x (n, C) is overwritten, attended (n, C)."""

    def advance(chunk: slice) -> None:
        x[chunk] = block.feed(block.attn.out_proj(attended[chunk]).add_(x[chunk]))

    _each(advance, _chunks(x), x.device)


def _chunks(x: Tensor) -> list[slice]:
    """Return the nodes that go through the products at once."""
    size = _NODES_PER_CHUNK if x.device.type == "cpu" else _NODES_PER_CHUNK_ELSEWHERE
    return [slice(start, start + size) for start in range(0, len(x), size)]


def _each(work: Callable[[ItemT], None], items: Sequence[ItemT], device: torch.device) -> None:
    """Do pieces of work that do not depend on each other: on the CPU side by side, on a GPU one after the other."""
    if device.type == "cpu":
        each_in_lanes(work, items)
    else:
        for item in items:
            work(item)


@dataclass(frozen=True)
class _Queries:
    """The nodes that look at their ancestors, and those ancestors: under a mask, or depth by depth.

    Attributes
    ----------
    nodes : Tensor of shape (n,), int64, or None
        Which nodes, in ascending order; None for all.
    mask : Tensor of shape (n, n_nodes), bool, or None
    paths : list of Tensor of shape (n of one depth, depth + 1, 2), int64
        Where keys and values of the ancestors are among the rows of ``qkv.view(-1, C)``.
    """

    nodes: Tensor | None
    mask: Tensor | None
    paths: list[Tensor]

    def attend(self, qkv: Tensor, heads: int) -> Tensor:
        """qkv: (n_nodes, 3 C) -> (n, C)."""
        width = qkv.shape[1] // 3
        if self.mask is not None:
            q, k, v = qkv.view(-1, 3, heads, width // heads).permute(1, 2, 0, 3)  # each (heads, n_nodes, head_dim)
            q = q if self.nodes is None else q[:, self.nodes]
            attended = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=self.mask)
            return attended[0].transpose(0, 1).flatten(1)
        q = qkv[:, :width] if self.nodes is None else qkv[self.nodes, :width]
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        keys_and_values = qkv.view(-1, width)

        def attend(piece: tuple[int, Tensor]) -> None:
            start, part = piece
            rows = slice(start, start + len(part))
            gathered = keys_and_values.index_select(0, part.reshape(-1))
            k, v = gathered.view(*part.shape, heads, -1).permute(2, 0, 3, 1, 4)  # each (n, heads, T, head_dim)
            out[rows] = F.scaled_dot_product_attention(q[rows].view(len(part), heads, 1, -1), k, v).flatten(1)

        pieces = []
        start = 0
        for path in self.paths:
            for part in torch.split(path, max(_GATHERED_PER_CHUNK // path.shape[1], 1)):
                pieces.append((start, part))
                start += len(part)
        _each(attend, pieces, qkv.device)
        return out


def _queries(trie: Trie, nodes: Ints | None, device: torch.device) -> _Queries:
    """Prepare the attention of some nodes, in ascending order, or of all."""
    paths = trie.paths
    if nodes is not None:
        bounds = np.searchsorted(nodes, trie.starts)
        paths = [
            path[nodes[first:last] - start]
            for path, start, first, last in zip(paths, trie.starts[:-1], bounds[:-1], bounds[1:], strict=True)
        ]
    where = None if nodes is None else _on(device, nodes)
    n_nodes = len(trie.tokens)
    if n_nodes <= _NODES_UNDER_A_MASK.get(device.type, 0):
        return _Queries(where, _on(device, _mask(paths, n_nodes)), [])
    return _Queries(
        where, None, [_on(device, np.stack([3 * path + 1, 3 * path + 2], axis=-1)) for path in paths if len(path)]
    )


def _mask(paths: list[Ints], n_nodes: int) -> npt.NDArray[np.bool_]:
    """Return which nodes each one looks at: (n, n_nodes)."""
    lengths = [path.shape[1] for path in paths for _ in path]
    mask = np.zeros((len(lengths), n_nodes), dtype=bool)
    mask[np.repeat(np.arange(len(lengths)), lengths), np.concatenate([path.reshape(-1) for path in paths])] = True
    return mask


def _on(device: torch.device, array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
