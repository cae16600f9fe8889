"""Exact text encoding that computes each distinct prefix of a set of prompts once.

A causal text tower that is read at the end token never looks ahead: the activation at a position depends on the tokens
up to there and on nothing else. Prompts that start alike therefore share activations, and eighty templates over many
class names share most of theirs. The prompts form a trie of tokens; every layer runs once over its nodes, each node
attends to its ancestors, and in the last layer only the end tokens are finished. The numbers are those of
`TextTower.forward`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from zeroshot.nets.text import TextTower
from zeroshot.nets.transformer import Block

Ints = npt.NDArray[np.int64]

# Nodes that go through the layers' matrix products at once: their hidden activations stay in the processor's cache.
_NODES_PER_CHUNK = 1536
# Keys gathered at once, in nodes: bounds the memory of attention.
_GATHERED_PER_CHUNK = 16384


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
    device = tower.positional_embedding.device
    blocks: list[Block] = list(tower.transformer.resblocks)  # type: ignore[arg-type]
    depths = np.repeat(np.arange(len(trie.paths)), np.diff(trie.starts))
    x = tower.token_embedding(_on(device, trie.tokens)) + tower.positional_embedding[_on(device, depths)]

    paths = [_on(device, path) for path in trie.paths]
    for block in blocks[:-1]:
        x = _advance(block, x, x, paths)

    ends, inverse = np.unique(trie.ends, return_inverse=True)  # in ascending order, thus by depth
    bounds = np.searchsorted(ends, trie.starts)
    paths = [
        _on(device, path[ends[first:last] - start])
        for path, start, first, last in zip(trie.paths, trie.starts[:-1], bounds[:-1], bounds[1:], strict=True)
    ]
    x = _advance(blocks[-1], x, x[_on(device, ends)], paths)
    embeddings = tower.project(x)
    return embeddings[_on(device, inverse.reshape(-1))]


def _advance(block: Block, x: Tensor, queries: Tensor, paths: list[Tensor]) -> Tensor:
    """Run a block for some nodes.

    x: (n_nodes, C), all nodes, from which keys and values are made; queries: (n, C), the nodes to advance, by depth;
    paths: for each depth the nodes that its queries attend to, (n of that depth, depth + 1) -> (n, C).
    """
    attention = block.attn
    width = x.shape[1]
    w_q, w_kv = torch.split(attention.in_proj_weight, [width, 2 * width])
    b_q, b_kv = torch.split(attention.in_proj_bias, [width, 2 * width])
    keys_values = torch.cat([F.linear(block.ln_1(part), w_kv, b_kv) for part in torch.split(x, _NODES_PER_CHUNK)])
    out = torch.empty_like(queries)
    attended = torch.empty_like(queries)
    start = 0
    for path in paths:
        if not len(path):
            continue
        for part in torch.split(path, max(_GATHERED_PER_CHUNK // path.shape[1], 1)):
            rows = queries[start : start + len(part)]
            q = F.linear(block.ln_1(rows), w_q, b_q)
            attended[start : start + len(part)] = _attend(q, keys_values, part, attention.heads)
            start += len(part)
    for start in range(0, len(queries), _NODES_PER_CHUNK):
        chunk = slice(start, start + _NODES_PER_CHUNK)
        y = queries[chunk] + attention.out_proj(attended[chunk])
        out[chunk] = y + block.mlp(block.ln_2(y))
    return out


def _attend(q: Tensor, keys_values: Tensor, path: Tensor, heads: int) -> Tensor:
    """Attend from each node to its path: q (n, C), keys_values (n_nodes, 2 C), path (n, T) -> (n, C)."""
    n, length = path.shape
    gathered = keys_values.index_select(0, path.reshape(-1)).view(n, length, 2, heads, -1)
    k, v = gathered.permute(2, 0, 3, 1, 4)  # each (n, heads, T, head_dim)
    return F.scaled_dot_product_attention(q.view(n, heads, 1, -1), k, v).reshape(n, -1)


def _on(device: torch.device, array: Ints) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
