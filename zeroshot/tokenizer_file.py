"""Tokenizers that come with a checkpoint: ``tokenizer.json``, or ``spiece.model`` of SentencePiece.

CLIP's own vocabulary is in `zeroshot.tokenizer` and needs no file. SigLIP, CLIPA, MetaCLIP 2 and the multilingual
models bring theirs; it is run by the library that it was made with (the extra ``tokenizers``). What is around it is
the checkpoint's too: how a text is cleaned, how long a row is, what pads it. One of these wrong costs ten points of
accuracy and more, in silence.
"""

from __future__ import annotations

import html
import json
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from zeroshot.errors import CheckpointError, CheckpointNotFoundError, MissingExtraError
from zeroshot.files import TOKENIZER_FILES, TOKENIZER_SETTINGS, read_json
from zeroshot.tokenizer import check_texts, warn_of_cuts

Clean = Literal["whitespace", "lower", "canonicalize", "siglip", "siglip2"]
CLEANS: tuple[Clean, ...] = get_args(Clean)

TOKENIZER_JSON, SENTENCEPIECE = TOKENIZER_FILES
_USUAL_PADDING = ("[PAD]", "<pad>")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, how: Clean) -> str:
    """Return a text as a tokenizer wants it.

    Parameters
    ----------
    text : str
    how : {"whitespace", "lower", "canonicalize", "siglip", "siglip2"}
        The first three are open_clip's: repair, resolve entities and single-space; then lower case; then also drop
        ASCII punctuation, the underscore becoming a space. ``siglip`` is what transformers does for SigLIP: lower case
        and drop punctuation, the underscore included. ``siglip2`` is lower case alone.

    Examples
    --------
    >>> clean("A  photo of a T-Shirt_1, &amp; more.", "canonicalize")
    'a photo of a tshirt 1 more'
    """
    if how == "siglip2":
        return text.lower()
    if how == "siglip":
        return " ".join(text.lower().translate(_NO_PUNCTUATION).split())
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
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

    def open(self) -> FileTokenizer:
        """Read the file.

        Raises
        ------
        MissingExtraError
            If the library that reads it is not installed.
        CheckpointError
            If the file is damaged, or nothing says what pads a text.
        """
        encode = _open_sentencepiece if self.path.name == SENTENCEPIECE else _open_tokenizer_json
        return FileTokenizer(self, *encode(self.path))


def find_tokenizer(folders: Sequence[Path], *, clean: Clean, drop_separator: bool = False) -> TokenizerFile:
    """Return the tokenizer file in the first of the folders that has one.

    Raises
    ------
    CheckpointNotFoundError
        If none has.
    """
    for folder in folders:
        for name in TOKENIZER_FILES:
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


def _open_tokenizer_json(path: Path) -> tuple[_Encode, int, int | None]:
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

    def encode(texts: list[str], length: int) -> list[tuple[list[int], bool]]:
        tokenizer.enable_truncation(length)
        return [(found.ids, bool(found.overflowing)) for found in tokenizer.encode_batch(texts)]

    padding = _padding_token(path) or own.get("pad_token")
    candidates = (padding,) if padding else _USUAL_PADDING
    ids = [i for i in map(tokenizer.token_to_id, candidates) if i is not None]
    if not ids:
        raise _no_padding(path, padding)
    return encode, ids[0], tokenizer.token_to_id("[SEP]")


def _open_sentencepiece(path: Path) -> tuple[_Encode, int, int | None]:
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

    padding = _padding_token(path)
    pad_id = processor.piece_to_id(padding) if padding else processor.pad_id()
    if pad_id < 0:
        raise _no_padding(path, padding)
    return encode, pad_id, None


def _padding_token(path: Path) -> str | None:
    """Return what the files beside a tokenizer say that a text is padded with."""
    for name in TOKENIZER_SETTINGS:
        if (path.parent / name).is_file():
            token = read_json(path.parent / name).get("pad_token")
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                return token
    return None


def _no_padding(path: Path, token: str | None) -> CheckpointError:
    said = f"the padding {token!r} is not in its vocabulary" if token else "nothing says what pads a text"
    return CheckpointError(f"{path}: {said}; expected 'pad_token' in a {TOKENIZER_SETTINGS[0]} beside it")


def _missing_extra(path: Path) -> MissingExtraError:
    return MissingExtraError(
        f"{path.name} needs a library that is not installed; pip install 'zeroshot-clip[tokenizers]' brings it"
    )
