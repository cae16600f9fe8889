"""The trie gives the numbers of the plain text tower, and computes every prefix once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroshot import load_prompts, prefix
from zeroshot.nets.text import TextConfig, TextTower
from zeroshot.nets.transformer import TransformerConfig
from zeroshot.tokenizer import get_tokenizer

END = 19
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def tower(*, layers: int = 3, vocab_size: int = 20, end_id: int = END, context: int = 12) -> TextTower:
    """A small random tower with weights large enough that every token matters."""
    torch.manual_seed(0)
    config = TextConfig(TransformerConfig(32, layers, 4, 48, "quick_gelu"), vocab_size, context, 24, end_id)
    built = TextTower(config)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return built.eval().requires_grad_(False)


@st.composite
def token_rows(draw: st.DrawFn) -> np.ndarray:
    """Rows over a tiny vocabulary, so that they share prefixes, repeat and are each other's beginnings."""
    texts = draw(st.lists(st.lists(st.integers(0, 3), max_size=9), min_size=1, max_size=30))
    rows = np.zeros((len(texts), 12), dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text) + 2] = [18, *text, END]
        row[len(text) + 2 :] = draw(st.integers(0, END))  # what follows the end token must not matter
    return rows


@pytest.mark.parametrize("way", ["few", "mask", "paths"])
@pytest.mark.parametrize("device", DEVICES)
@given(rows=token_rows())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_equals_the_plain_tower(device: str, way: str, rows: np.ndarray) -> None:
    net = tower().to(device)
    expected = net(torch.from_numpy(rows).to(device))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "_FEW_NODES", 512 if way == "few" else 0)
        patch.setattr(prefix, "_NODES_UNDER_A_MASK", {device: 512 if way == "mask" else 0})
        assert (prefix.encode(net, rows) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_weights_that_are_written_to_are_packed_no_longer() -> None:
    net, rows = tower(), np.array([[18, 1, END, 0], [18, 2, 3, END]])
    before = prefix.encode(net, rows)
    net.transformer.resblocks[1].mlp.c_fc.weight[0] += 1  # type: ignore[union-attr, operator, index]
    after, expected = prefix.encode(net, rows), net(torch.from_numpy(rows))
    assert (after - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (after - before).abs().max() > 1e-3


@given(rows=token_rows())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_plan_has_one_node_for_each_distinct_prefix(rows: np.ndarray) -> None:
    trie = prefix.plan(rows, end_id=END)
    ends = (rows == END).argmax(axis=1)
    texts = [tuple(row[: end + 1]) for row, end in zip(rows.tolist(), ends, strict=True)]
    prefixes = {text[: i + 1] for text in texts for i in range(len(text))}
    assert len(trie.tokens) == len(prefixes)
    for text, end in zip(texts, trie.ends, strict=True):
        path = trie.paths[len(text) - 1][end - trie.starts[len(text) - 1]]
        assert tuple(trie.tokens[path]) == text


def test_one_layer_is_its_own_last() -> None:
    net = tower(layers=1)
    rows = np.array([[18, 1, END, 0], [18, 2, 3, END], [18, 1, END, 5]])
    expected = net(torch.from_numpy(rows))
    assert (prefix.encode(net, rows) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_prompts_of_imagenet_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real prompts, with the chunks made so small that every loop takes several turns."""
    monkeypatch.setattr(prefix, "_NODES_PER_CHUNK", 100)
    monkeypatch.setattr(prefix, "_GATHERED_PER_CHUNK", 64)
    tokenizer = get_tokenizer()
    net = tower(vocab_size=tokenizer.vocab_size, end_id=tokenizer.end_id, context=77)
    imagenet = load_prompts("imagenet")
    texts = [prompt for prompts in imagenet.expand(imagenet.classes[:5]) for prompt in prompts]
    tokens = tokenizer.tokenize(texts)
    expected = torch.nn.functional.normalize(net(torch.from_numpy(tokens)), dim=-1)
    found = torch.nn.functional.normalize(prefix.encode(net, tokens), dim=-1)
    assert (found - expected).abs().max() < 1e-5
    net.transformer.resblocks[1].mlp.c_fc.weight[0] += 1  # type: ignore[union-attr, operator, index]
    assert (torch.nn.functional.normalize(prefix.encode(net, tokens), dim=-1) - expected).abs().max() > 1e-4
