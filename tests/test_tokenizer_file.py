"""Tokenizers that come with a checkpoint: cleaning, padding, cutting, and files that cannot be used."""

from __future__ import annotations

import html
import json
import shutil
import string
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeroshot.errors import CheckpointError, CheckpointNotFoundError, InputTypeError, MissingExtraError, OptionError
from zeroshot.tokenizer_file import CLEANS, Clean, FileTokenizer, TokenizerFile, clean, find_tokenizer

FOLDER = Path(__file__).parent / "golden" / "tokenizers"
# Folder -> ids in front of a text, behind it, and of the padding.
AROUND: dict[str, tuple[list[int], list[int], int]] = {
    "hf_siglip": ([], [1], 1),
    "hf_t5": ([], [1], 1),
    "hf_gemma": ([], [1], 0),
    "hf_bert": ([2], [3], 0),
    "hf_roberta": ([0], [2], 1),
    "hf_xlm_roberta": ([0], [2], 1),
    "hf_nllb": ([300], [2], 1),
}
KINDS = list(AROUND)
PRINTABLE_ASCII = "".join(map(chr, range(32, 127)))

Make = Callable[..., Path]


def open_tokenizer(folder: Path, how: Clean = "whitespace", **options: Any) -> FileTokenizer:
    return find_tokenizer([folder], clean=how, **options).open()


def ids(folder: Path, text: str, *, how: Clean = "whitespace", **options: Any) -> list[int]:
    row: list[int] = open_tokenizer(folder, how, **options).tokenize(text, context=16)[0].tolist()
    return row


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that copies a tokenizer with other settings; None leaves a setting out."""

    def copy(kind: str, **settings: Any) -> Path:
        folder = Path(shutil.copytree(FOLDER / kind, tmp_path / kind, dirs_exist_ok=True))
        path = folder / "tokenizer_config.json"
        content = json.loads(path.read_text()) | settings
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return folder

    return copy


# --------------------------------------------------------------------------------------------------------- clean


@pytest.mark.parametrize(
    ("how", "text", "expected"),
    [
        ("whitespace", " A  T-Shirt_1,\n&amp;amp; more ", "A T-Shirt_1, & more"),
        ("lower", " A  T-Shirt_1,\n&amp;amp; more ", "a t-shirt_1, & more"),
        ("canonicalize", " A  T-Shirt_1,\n&amp;amp; more ", "a tshirt 1 more"),
        ("siglip", " A  T-Shirt_1,\n&amp; more ", "a tshirt1 amp more"),
        ("siglip2", " A  T-Shirt_1,\n&amp; more ", " a  t-shirt_1,\n&amp; more "),
        ("whitespace", "it’s CafÃ© ﬁsh", "it's Café fish"),
        ("siglip", "it’s CafÃ©", "it’s cafã©"),
        # What is lowered last is lowered otherwise: the sigma in front of a comma ends a word.
        ("canonicalize", "ΑΣ,Β", "ασβ"),
        ("canonicalize", "...", ""),
        ("siglip", "...", ""),
    ],
)
def test_clean_of_known_texts(how: Clean, text: str, expected: str) -> None:
    assert clean(text, how) == expected


@given(st.text(alphabet=PRINTABLE_ASCII))
@example("AT&amp;T")
@example("a &lt; b")
@example("``quoted'' -- (c) 1/2 ...")
def test_the_short_cut_for_ascii_is_exact(text: str) -> None:
    repaired = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert clean(text, "whitespace") == " ".join(repaired.split())
    assert clean(text, "lower") == " ".join(repaired.split()).lower()
    bare = repaired.replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    assert clean(text, "canonicalize") == " ".join(bare.lower().split())


@given(st.text())
def test_what_siglip_reads_is_clean_already(text: str) -> None:
    cleaned = clean(text, "siglip")
    assert not set(cleaned) & set(string.punctuation)
    assert cleaned == " ".join(cleaned.split())
    assert clean(cleaned, "siglip") == clean(cleaned, "siglip2")


# ------------------------------------------------------------------------------------------------------ tokenize


@pytest.fixture(scope="module")
def opened() -> dict[tuple[str, Clean], FileTokenizer]:
    return {(kind, how): open_tokenizer(FOLDER / kind, how) for kind in KINDS for how in CLEANS}


@settings(max_examples=50)
@given(st.text(), st.sampled_from(KINDS), st.sampled_from(CLEANS), st.sampled_from([3, 8, 64]))
@example("\ud800 lone surrogate \udcff", "hf_siglip", "siglip", 64)  # as os.fsdecode makes of Latin-1
@example("\ud800 lone surrogate \udcff", "hf_gemma", "siglip2", 64)
@example("\x00", "hf_siglip", "siglip", 8)
@example("word " * 200, "hf_nllb", "lower", 64)
def test_any_text_becomes_one_row_of_the_same_form(
    opened: dict[tuple[str, Clean], FileTokenizer], text: str, kind: str, how: Clean, context: int
) -> None:
    tokenizer = opened[kind, how]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tokens = tokenizer.tokenize(text, context=context)
    assert (tokens.shape, tokens.dtype) == ((1, context), np.int64)
    assert tokens.min() >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_independent_of_their_neighbours(kind: str) -> None:
    tokenizer = open_tokenizer(FOLDER / kind)
    texts = ["a photo of a cat", "", "the red tree and the house", "x"]
    together = tokenizer.tokenize(texts, context=32)
    assert together.tolist() == [tokenizer.tokenize(text, context=32)[0].tolist() for text in texts]
    assert tokenizer.tokenize([], context=32).shape == (0, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_around_a_text(kind: str) -> None:
    tokenizer = open_tokenizer(FOLDER / kind)
    before, behind, pad = AROUND[kind]
    assert tokenizer.pad_id == pad
    assert ids(FOLDER / kind, "") == (before + behind + [pad] * 16)[:16]
    row = tokenizer.tokenize("a photo of a cat", context=64)[0].tolist()
    text = row[len(before) : row.index(behind[0], len(before))]
    assert row == (before + text + behind + [pad] * 64)[:64]
    assert len(text) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_long_texts_are_cut_with_a_warning_and_keep_their_end(kind: str) -> None:
    tokenizer = open_tokenizer(FOLDER / kind)
    before, behind, _ = AROUND[kind]
    row = tokenizer.tokenize("a photo of a cat", context=64)[0].tolist()
    length = row.index(behind[0], len(before)) + 1
    assert tokenizer.tokenize("a photo of a cat", context=length)[0].tolist() == row[:length]  # it just fits
    with pytest.warns(UserWarning, match=f"1 of 2 texts are longer than {length - 1} tokens and were cut") as caught:
        cut = tokenizer.tokenize(["a photo of a cat", ""], context=length - 1)
    assert "The first: 'a photo of a cat'" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert cut[0].tolist() == row[: length - 2] + behind


@pytest.mark.parametrize("kind", ["hf_siglip", "hf_gemma"])
def test_several_threads_and_lengths_at_once(kind: str) -> None:
    tokenizer = open_tokenizer(FOLDER / kind)
    texts = [f"a photo of cat number {i}" for i in range(200)]
    expected = {context: tokenizer.tokenize(texts, context=context).tolist() for context in (48, 64)}
    with ThreadPoolExecutor(4) as pool:
        contexts = [48, 64] * 8
        found = pool.map(lambda context: tokenizer.tokenize(texts, context=context).tolist(), contexts)
        assert [rows == expected[context] for rows, context in zip(found, contexts, strict=True)] == [True] * 16


@pytest.mark.parametrize("texts", [5, ["a", None], [b"a"], None])
def test_texts_that_are_none(texts: Any) -> None:
    with pytest.raises(InputTypeError, match="expected"):
        open_tokenizer(FOLDER / "hf_bert").tokenize(texts, context=16)


def test_a_context_that_holds_nothing() -> None:
    with pytest.raises(OptionError, match="context is 2; expected at least 3"):
        open_tokenizer(FOLDER / "hf_bert").tokenize("a", context=2)


# ----------------------------------------------------------------------------------------- what files beside it say


@pytest.mark.parametrize("form", ["<unk>", {"content": "<unk>", "lstrip": False}])
@pytest.mark.parametrize("kind", ["hf_t5", "hf_gemma", "hf_nllb"])
def test_the_padding_is_what_the_settings_say(make: Make, kind: str, form: Any) -> None:
    folder = make(kind, pad_token=form)
    unknown = {"hf_t5": 2, "hf_gemma": 3, "hf_nllb": 3}[kind]
    assert open_tokenizer(folder).pad_id == unknown
    assert ids(folder, "")[-1] == unknown


@pytest.mark.parametrize("kind", ["hf_siglip", "hf_t5"])
def test_the_padding_may_stand_in_the_older_file(make: Make, kind: str) -> None:
    folder = make(kind, pad_token=None)
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "</s>"}}))
    assert open_tokenizer(folder).pad_id == 1
    make(kind, pad_token="<pad>")
    assert open_tokenizer(folder).pad_id == 0  # the newer one goes first


def test_the_padding_may_stand_in_the_tokenizer_itself(make: Make) -> None:
    from tokenizers import Tokenizer

    folder = make("hf_t5", pad_token=None)
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=1, pad_token="</s>", length=99)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert ids(folder, "a photo of a cat") == ids(FOLDER / "hf_t5", "a photo of a cat")


@pytest.mark.parametrize("kind", ["hf_bert", "hf_roberta", "hf_xlm_roberta"])
def test_a_usual_padding_needs_no_settings(make: Make, kind: str) -> None:
    # As the repositories of bert-base-uncased and xlm-roberta-base leave it out.
    folder = make(kind, pad_token=None)
    assert ids(folder, "a cat") == ids(FOLDER / kind, "a cat")
    (folder / "tokenizer_config.json").unlink()
    assert ids(folder, "a cat") == ids(FOLDER / kind, "a cat")


@pytest.mark.parametrize("kind", ["hf_siglip", "hf_t5", "hf_gemma"])
def test_no_padding_is_guessed_for_others(make: Make, kind: str) -> None:
    # SigLIP pads with </s>, mT5 with <pad>, and the vocabularies hold both.
    with pytest.raises(CheckpointError, match="nothing says what pads a text; expected 'pad_token' in a tokenizer_"):
        open_tokenizer(make(kind, pad_token=None))


@pytest.mark.parametrize("kind", ["hf_siglip", "hf_t5"])
def test_a_padding_that_is_not_in_the_vocabulary(make: Make, kind: str) -> None:
    with pytest.raises(CheckpointError, match=r"the padding '\[PAD\]' is not in its vocabulary"):
        open_tokenizer(make(kind, pad_token="[PAD]"))


@pytest.mark.parametrize("key", ["padding_side", "truncation_side"])
@pytest.mark.parametrize("kind", ["hf_siglip", "hf_gemma"])
def test_the_left_side(make: Make, kind: str, key: str) -> None:
    with pytest.raises(CheckpointError, match=f"{key} is 'left' in the files beside it; expected 'right'"):
        open_tokenizer(make(kind, **{key: "left"}))


def test_the_language_stands_in_front(make: Make) -> None:
    # The file itself has it at the end, as it was published; transformers has put it in front since 2023.
    text = ids(FOLDER / "hf_nllb", "a cat")
    assert text[0] == 300
    french = ids(make("hf_nllb", src_lang="fra_Latn"), "a cat")
    assert (french[0], french[1:]) == (301, text[1:])
    end = text.index(2)
    legacy = ids(make("hf_nllb", legacy_behaviour=True), "a cat")
    assert legacy[: end + 1] == [*text[1:end], 2, 300]
    assert ids(make("hf_nllb", tokenizer_class="NllbTokenizerFast"), "a cat") == text
    with pytest.raises(CheckpointError, match=r"'deu_Latn' belongs to each text, but is not in the vocabulary"):
        open_tokenizer(make("hf_nllb", src_lang="deu_Latn"))


@pytest.mark.parametrize(
    ("settings", "before", "behind"),
    [
        ({"add_bos_token": True}, [2], [1]),
        ({"add_bos_token": True, "add_eos_token": False}, [2], []),
        ({"add_bos_token": False, "add_eos_token": False}, [], []),
        ({"add_bos_token": None, "add_eos_token": True}, [], [1]),
        ({"add_eos_token": True, "eos_token": {"content": "<unk>"}}, [], [3]),
        ({"add_bos_token": None, "add_eos_token": None}, [], [1]),  # then the file itself decides
        ({"add_bos_token": True, "tokenizer_class": "PreTrainedTokenizerFast"}, [], [1]),
    ],
)
def test_start_and_end_of_gemma(make: Make, settings: dict[str, Any], before: list[int], behind: list[int]) -> None:
    text = ids(FOLDER / "hf_gemma", "cat")
    text = text[: text.index(1)]
    assert ids(make("hf_gemma", **settings), "cat") == (before + text + behind + [0] * 16)[:16]


def test_the_separator_of_clipa_is_dropped() -> None:
    kept = ids(FOLDER / "hf_bert", "a cat")
    assert kept.count(3) == 1
    dropped = ids(FOLDER / "hf_bert", "a cat", drop_separator=True)
    assert dropped == [0 if token == 3 else token for token in kept]


# ------------------------------------------------------------------------------------------- files that are not there


def test_a_tokenizer_is_found_in_the_first_folder_that_has_one(tmp_path: Path) -> None:
    found = find_tokenizer([tmp_path, FOLDER / "hf_siglip", FOLDER / "hf_t5"], clean="siglip")
    assert found == TokenizerFile(FOLDER / "hf_siglip" / "spiece.model", "siglip")
    with pytest.raises(CheckpointNotFoundError, match=r"hold no tokenizer.json; this checkpoint has a vocabulary"):
        find_tokenizer([tmp_path], clean="siglip")


def test_the_preferred_file_of_a_folder(tmp_path: Path) -> None:
    for kind, name in (("hf_siglip", "spiece.model"), ("hf_t5", "tokenizer.json")):
        shutil.copy(FOLDER / kind / name, tmp_path)
    assert find_tokenizer([tmp_path], clean="lower").path.name == "tokenizer.json"
    names = ("spiece.model", "tokenizer.json")
    assert find_tokenizer([tmp_path], clean="lower", names=names).path.name == "spiece.model"


@pytest.mark.parametrize(("kind", "library"), [("hf_siglip", "sentencepiece"), ("hf_t5", "tokenizers")])
def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, kind: str, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'zeroshot-clip\[tokenizers\]' brings it") as caught:
        open_tokenizer(FOLDER / kind)
    assert isinstance(caught.value, ImportError)


# ------------------------------------------------------------------------------------------------------ damaged files


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", b"\xff\xfe\x00 no text", b"<html>not found</html>"])
@pytest.mark.parametrize("kind", ["hf_siglip", "hf_t5"])
def test_a_file_that_is_no_tokenizer(make: Make, kind: str, content: bytes) -> None:
    folder = make(kind)
    path = folder / ("spiece.model" if kind == "hf_siglip" else "tokenizer.json")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"that can be read: .*; fetch it again") as caught:
        open_tokenizer(folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["hf_siglip", "hf_t5", "hf_bert"])
def test_a_file_that_was_cut_short(make: Make, kind: str, share: float) -> None:
    folder = make(kind)
    path = folder / ("spiece.model" if kind == "hf_siglip" else "tokenizer.json")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError):
        open_tokenizer(folder)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '"pad"'])
def test_damaged_settings(make: Make, name: str, content: str) -> None:
    folder = make("hf_t5")
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=name):
        open_tokenizer(folder)


@pytest.mark.parametrize("value", [5, [], {}, True, "x", ["</s>"]], ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_of_any_kind_is_usable_or_a_checkpoint_error(make: Make, kind: str, value: Any) -> None:
    keys = ["pad_token", "eos_token", "bos_token", "tokenizer_class", "src_lang", "add_bos_token", "add_eos_token"]
    escaped = []
    for key in [*keys, "legacy_behaviour", "padding_side", "model_max_length"]:
        try:
            open_tokenizer(make(kind, **{key: value})).tokenize("a cat", context=16)
        except CheckpointError:
            continue
        except Exception as error:
            escaped.append(f"{key} = {value!r}: {error!r}")
    assert escaped == []


def test_settings_beside_the_file_are_files_that_tokens_depend_on(make: Make) -> None:
    folder = make("hf_bert")
    file = find_tokenizer([folder], clean="whitespace")
    names = [path.name for path in file.files]
    assert names[0] == "tokenizer.json"
    assert "tokenizer_config.json" in names
    (folder / "tokenizer_config.json").unlink()
    assert "tokenizer_config.json" not in [path.name for path in file.files]
