"""Tokenizers that come with a checkpoint: ``tokenizer.json``, or ``spiece.model`` of SentencePiece.

CLIP's own vocabulary is in `zeroshot.tokenizer` and needs no file. SigLIP, CLIPA, MetaCLIP 2 and the multilingual
models bring theirs; it is run by the library that it was made with (the extra ``tokenizers``). What is around it is
the checkpoint's too: how a text is cleaned, how long a row is, what pads it. One of these wrong costs ten points of
accuracy and more, in silence.
"""

from __future__ import annotations

import json
import string
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from zeroshot.errors import CheckpointError, CheckpointNotFoundError, MissingExtraError
from zeroshot.files import TOKENIZER_FILES, TOKENIZER_SETTINGS, read_json
from zeroshot.tokenizer import check_texts, repair, warn_of_cuts

Clean = Literal["whitespace", "lower", "canonicalize", "siglip", "siglip2"]
CLEANS: tuple[Clean, ...] = get_args(Clean)

TOKENIZER_JSON, SENTENCEPIECE = TOKENIZER_FILES
# How a text of BERT's and of RoBERTa's kin begins -> what pads it, in repositories that do not say so. T5's kin have
# neither, and no usual padding: SigLIP pads with the end token, the others do not.
_USUAL_PADDING = {"[CLS]": "[PAD]", "<s>": "<pad>"}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, how: Clean) -> str:
    """Return a text as a tokenizer wants it.

    Parameters
    ----------
    text : str
    how : {"whitespace", "lower", "canonicalize", "siglip", "siglip2"}
        The first three are open_clip's: repair, resolve entities and single-space; then lower case; then also drop
        ASCII punctuation, the underscore becoming a space. ``siglip`` is what SigLIP's authors do: lower case, and drop
        punctuation, the underscore included; transformers keeps a space that begins a text, and tells ``</s>`` from
        words. ``siglip2`` is lower case alone.

    Examples
    --------
    >>> clean("A  photo of a T-Shirt_1, &amp; more.", "canonicalize")
    'a photo of a tshirt 1 more'
    """
    if how in ("siglip", "siglip2"):
        # Lone surrogates, as in names of files that are not UTF-8, would be refused.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").lower()
        return text if how == "siglip2" else " ".join(text.translate(_NO_PUNCTUATION).split())
    text = repair(text)
    if how == "canonicalize":
        text = text.replace("_", " ").translate(_NO_PUNCTUATION)
    if how in ("lower", "canonicalize"):
        text = text.lower()
    return " ".join(text.split())


@dataclass(frozen=True)
class TokenizerFile:
    """Where a checkpoint's tokenizer is, and how it was used in training.

    Attributes
    ----------
    path : Path
        A ``tokenizer.json`` or ``spiece.model``.
    clean : {"whitespace", "lower", "canonicalize", "siglip", "siglip2"}
    drop_separator : bool
        Whether the ``[SEP]`` at the end of a text is replaced by id 0 (CLIPA).
    """

    path: Path
    clean: Clean
    drop_separator: bool = False

    @property
    def files(self) -> list[Path]:
        """All files that the tokens depend on."""
        settings = (self.path.with_name(name) for name in TOKENIZER_SETTINGS)
        return [self.path, *(path for path in settings if path.is_file())]

    def open(self) -> FileTokenizer:
        """Read the file.

        Raises
        ------
        MissingExtraError
            If the library that reads it is not installed.
        CheckpointError
            If the file is damaged, or nothing says what pads a text.
        """
        settings = _read_settings(self.path)
        for key in ("padding_side", "truncation_side"):
            if settings.get(key, "right") != "right":
                raise CheckpointError(
                    f"{self.path}: {key} is {settings[key]!r} in the files beside it; expected 'right'"
                )
        encode = _open_sentencepiece if self.path.name == SENTENCEPIECE else _open_tokenizer_json
        return FileTokenizer(self, *encode(self.path, settings))


def find_tokenizer(
    folders: Sequence[Path], *, clean: Clean, drop_separator: bool = False, names: Sequence[str] = TOKENIZER_FILES
) -> TokenizerFile:
    """Return the tokenizer file in the first of the folders that has one.

    Parameters
    ----------
    folders : sequence of Path
    clean, drop_separator
        As in `TokenizerFile`.
    names : sequence of str
        Names of the file, the preferred one first.

    Raises
    ------
    CheckpointNotFoundError
        If none has.
    """
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return TokenizerFile(folder / name, clean, drop_separator)
    raise CheckpointNotFoundError(
        f"{' and '.join(map(str, folders))} hold no {TOKENIZER_JSON}; this checkpoint has a vocabulary of its own. "
        "Copy it from where the weights came from"
    )


# Texts and a length -> for each text its ids, at most that many, and whether it was cut.
_Encode = Callable[[list[str], int], list[tuple[list[int], bool]]]


class FileTokenizer:
    """A checkpoint's tokenizer; made by `TokenizerFile.open`."""

    def __init__(self, file: TokenizerFile, encode: _Encode, pad_id: int, separator_id: int | None) -> None:
        self._file = file
        self._encode = encode
        self._separator_id = separator_id if file.drop_separator else None
        self.pad_id = pad_id

    def tokenize(self, texts: str | Sequence[str], *, context: int) -> npt.NDArray[np.int64]:
        """Return token ids, padded to `context`: ndarray of shape (n_texts, context), int64.

        Texts that are longer are cut, with a warning.
        """
        texts = check_texts(texts, context)
        tokens = np.full((len(texts), context), self.pad_id, dtype=np.int64)
        encoded = self._encode([clean(text, self._file.clean) for text in texts], context)
        for row, (ids, _) in zip(tokens, encoded, strict=True):
            row[: len(ids)] = ids
        if self._separator_id is not None:
            tokens[tokens == self._separator_id] = 0
        warn_of_cuts([text for text, (_, cut) in zip(texts, encoded, strict=True) if cut], len(texts), context)
        return tokens


def _open_tokenizer_json(path: Path, settings: Mapping[str, Any]) -> tuple[_Encode, int, int | None]:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise _missing_extra(path) from error
    try:
        tokenizer: Any = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise CheckpointError(f"{path} is no tokenizer that can be read: {error}; fetch it again") from error
    own = json.loads(tokenizer.to_str()).get("padding") or {}
    tokenizer.no_padding()
    around = _special_tokens(settings)
    if around is not None:
        tokenizer.post_processor = _surround(tokenizer, *around, path)

    lock = threading.Lock()  # the length is a state of the tokenizer, and it uses all cores by itself

    def encode(texts: list[str], length: int) -> list[tuple[list[int], bool]]:
        with lock:
            tokenizer.enable_truncation(length)
            encodings = tokenizer.encode_batch(texts)
        return [(encoding.ids, bool(encoding.overflowing)) for encoding in encodings]

    padding = _name(settings.get("pad_token")) or own.get("pad_token")
    usual = [pad for start, pad in _USUAL_PADDING.items() if tokenizer.token_to_id(start) is not None]
    ids = [i for i in map(tokenizer.token_to_id, [padding] if padding else usual) if i is not None]
    if not ids:
        raise _no_padding(path, padding)
    return encode, ids[0], tokenizer.token_to_id("[SEP]")


def _special_tokens(settings: Mapping[str, Any]) -> tuple[list[str], list[str]] | None:
    """Return the tokens before and behind a text, where transformers' tokenizers do not ask the file for them."""
    kind = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    if kind == "NllbTokenizer":  # files of 2022 have the language at the end, where it stood until 2023
        language, end = _name(settings.get("src_lang")) or "eng_Latn", _name(settings.get("eos_token")) or "</s>"
        return ([], [end, language]) if settings.get("legacy_behaviour") else ([language], [end])
    if kind == "GemmaTokenizer" and ("add_bos_token" in settings or "add_eos_token" in settings):
        start, end = (_name(settings.get(f"{key}_token")) or f"<{key}>" for key in ("bos", "eos"))
        return [start] * bool(settings.get("add_bos_token")), [end] * bool(settings.get("add_eos_token"))
    return None


def _surround(tokenizer: Any, before: list[str], behind: list[str], path: Path) -> Any:
    from tokenizers.processors import TemplateProcessing

    tokens = [(token, tokenizer.token_to_id(token)) for token in (*before, *behind)]
    for token, number in tokens:
        if number is None:
            raise CheckpointError(f"{path}: {token!r} belongs to each text, but is not in the vocabulary")
    return TemplateProcessing(single=[*before, "$A", *behind], special_tokens=tokens)


def _open_sentencepiece(path: Path, settings: Mapping[str, Any]) -> tuple[_Encode, int, int | None]:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise _missing_extra(path) from error
    try:
        processor: Any = SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no SentencePiece model that can be read: {error}; fetch it again") from error
    end = processor.eos_id()

    def encode(texts: list[str], length: int) -> list[tuple[list[int], bool]]:
        rows = processor.encode(texts)
        return [([*row[: length - 1], end], len(row) >= length) for row in rows]

    padding = _name(settings.get("pad_token"))
    pad_id = processor.piece_to_id(padding) if padding else processor.unk_id()
    if pad_id == processor.unk_id():  # also what the library returns for a token that it does not know
        raise _no_padding(path, padding)
    return encode, pad_id, None


def _read_settings(path: Path) -> dict[str, Any]:
    """Return what the files beside a tokenizer say of it; the first of `TOKENIZER_SETTINGS` goes before the second."""
    settings: dict[str, Any] = {}
    for name in reversed(TOKENIZER_SETTINGS):
        if (path.parent / name).is_file():
            content = read_json(path.parent / name)
            settings |= {key: value for key, value in content.items() if value is not None}
    return settings


def _name(token: Any) -> str | None:
    """Return the text of a special token, given that or an object that holds it."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _no_padding(path: Path, token: str | None) -> CheckpointError:
    said = f"the padding {token!r} is not in its vocabulary" if token else "nothing says what pads a text"
    return CheckpointError(f"{path}: {said}; expected 'pad_token' in a {TOKENIZER_SETTINGS[0]} beside it")


def _missing_extra(path: Path) -> MissingExtraError:
    return MissingExtraError(
        f"{path.name} needs a library that is not installed; pip install 'zeroshot-clip[tokenizers]' brings it"
    )
