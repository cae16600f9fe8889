"""Tokens equal those of transformers' own tokenizer classes, loaded from the same folders, of every published kind."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from golden.strings import SPECIAL_STRINGS, strings
from transformers import AutoTokenizer, Siglip2Tokenizer

import zeroshot.tokenizer_file
from zeroshot.tokenizer_file import Clean, FileTokenizer, clean, find_tokenizer

FOLDER = Path(__file__).parents[1] / "golden" / "tokenizers"
# Folder -> the class that transformers reads it with, and how the models that have such a tokenizer clean a text.
KINDS: dict[str, tuple[str, Clean]] = {
    "hf_siglip": ("SiglipTokenizer", "siglip"),
    "hf_t5": ("T5Tokenizer", "canonicalize"),
    "hf_gemma": ("GemmaTokenizer", "siglip2"),
    "hf_bert": ("BertTokenizer", "whitespace"),
    "hf_roberta": ("RobertaTokenizer", "whitespace"),
    "hf_xlm_roberta": ("XLMRobertaTokenizer", "whitespace"),
    "hf_nllb": ("NllbTokenizer", "whitespace"),
}
TEXTS = [
    *strings(800),
    *SPECIAL_STRINGS,
    *("", " ", "...", "_", "__a__", "a▁b", "▁", "&amp;", "\x00", "\ufeffa", "a" * 300, "a photo of a cat."),
    *("<s>", "</s>", "a </s> b", "<pad>", "<unk>", "<eos>", "<bos> x", "<0x41>", "[SEP]", "[PAD]", "a [MASK] b"),
    *("<mask>", "eng_Latn", "<extra_id_0>", "A\ud800b"),
]

Tokens = npt.NDArray[np.int64]


def _ours(kind: str, folder: Path | None = None) -> FileTokenizer:
    return find_tokenizer([folder or FOLDER / kind], clean=KINDS[kind][1]).open()


def _tokenize(kind: str, texts: list[str], context: int, folder: Path | None = None) -> Tokens:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some texts are too long, on purpose
        return _ours(kind, folder).tokenize(texts, context=context)


def _expect(tokenizer: Any, texts: list[str], context: int) -> Tokens:
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=context)
    return np.array(encoded["input_ids"])


@pytest.mark.parametrize("context", [8, 64])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hf_siglip"])
def test_tokens_equal_those_of_transformers(kind: str, context: int) -> None:
    theirs = AutoTokenizer.from_pretrained(FOLDER / kind)
    assert type(theirs).__name__ == KINDS[kind][0]
    cleaned = [zeroshot.tokenizer_file.clean(text, KINDS[kind][1]) for text in TEXTS]
    np.testing.assert_array_equal(_tokenize(kind, TEXTS, context), _expect(theirs, cleaned, context))


def test_siglip_2_in_lower_case_is_transformers_class_for_it() -> None:
    # Which lowers letter by letter: a sigma at the end of a word is another one for Python.
    texts = [text for text in TEXTS if "Σ" not in text and text.isprintable()]
    theirs = Siglip2Tokenizer.from_pretrained(FOLDER / "hf_gemma")
    np.testing.assert_array_equal(_tokenize("hf_gemma", texts, 64), _expect(theirs, texts, 64))


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_writes_anew_is_read_alike(kind: str, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(FOLDER / kind).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer_config.json").read_text() != (FOLDER / kind / "tokenizer_config.json").read_text()
    np.testing.assert_array_equal(_tokenize(kind, TEXTS, 64, tmp_path), _tokenize(kind, TEXTS, 64))


# --------------------------------------------------------------------------------------------------------- SigLIP
# transformers' class cleans a text itself, so it is given the texts as they are; what it does otherwise than SigLIP's
# authors is not followed, and stands below.

_APART = re.compile(
    r"""
    ^[!-/:-@\[-`{-~]*\s    # a space in front, or punctuation and a space
    | </?(s|unk)>           # special tokens
    | (.)\2\2 | \S{40}     # pieces that are equally likely; it takes others, since it puts "<unk>" in front of a text
    | [\ud800-\udfff]       # a lone surrogate is an error there
    """,
    re.VERBOSE,
)


@pytest.mark.parametrize("context", [8, 64])
def test_tokens_of_siglip_equal_those_of_transformers(context: int) -> None:
    theirs = AutoTokenizer.from_pretrained(FOLDER / "hf_siglip")
    assert type(theirs).__name__ == "SiglipTokenizer"
    texts = [text for text in TEXTS if not _APART.search(text)]
    assert len(texts) > 600
    np.testing.assert_array_equal(_tokenize("hf_siglip", texts, context), _expect(theirs, texts, context))


def test_a_space_in_front_adds_nothing() -> None:
    """An empty piece is what transformers puts in front then, also if punctuation stood before the space."""
    theirs = AutoTokenizer.from_pretrained(FOLDER / "hf_siglip")
    empty = theirs.convert_tokens_to_ids("▁")
    for text in (" a cat", "\ta cat", "- a cat", '" a cat'):
        tokens = _tokenize("hf_siglip", [text, "a cat"], 16)
        assert tokens[0].tolist() == tokens[1].tolist()
        assert _expect(theirs, [text], 16)[0].tolist() == [empty, *tokens[0].tolist()[:-1]]


@pytest.mark.parametrize(("text", "words"), [("</s> a", "s a"), ("a <unk> b", "a unk b")])
def test_no_text_makes_the_special_tokens_of_siglip(text: str, words: str) -> None:
    """They are, for transformers, which takes them out before it drops the punctuation."""
    tokens = _tokenize("hf_siglip", [text, words], 16)
    assert tokens[0].tolist() == tokens[1].tolist()
    theirs = AutoTokenizer.from_pretrained(FOLDER / "hf_siglip")
    assert _expect(theirs, [text], 16)[0].tolist() != tokens[0].tolist()


# ------------------------------------------------------------------------------- what the comparisons must notice


@pytest.mark.parametrize("how", ["whitespace", "lower", "siglip2"])
def test_another_cleaning_for_siglip_is_noticed(how: Clean, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeroshot.tokenizer_file, "clean", lambda text, _: clean(text, how))
    theirs = AutoTokenizer.from_pretrained(FOLDER / "hf_siglip")
    texts = ["A photo of a Cat, e.g. mine"]
    assert _tokenize("hf_siglip", texts, 64).tolist() != _expect(theirs, texts, 64).tolist()


def test_padding_and_special_tokens_are_compared() -> None:
    """Shows that no kind is like another, without which comparing them all would mean little."""
    rows = {kind: tuple(_tokenize(kind, ["a cat"], 16)[0]) for kind in KINDS if kind != "hf_t5"}
    assert rows["hf_siglip"] == tuple(_tokenize("hf_t5", ["a cat"], 16)[0])  # the same vocabulary in another file
    assert len(set(rows.values())) == len(rows)
