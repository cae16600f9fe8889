"""CLIP's byte-level byte-pair encoding: text in, (n, context) int64 token ids out.

The vocabulary is that of OpenAI's CLIP (2021): 256 bytes, the same 256 at the end of a word, 48,894 merges, and the
two tokens that mark start and end, 49,408 in all. Text is repaired (ftfy), HTML entities are resolved twice, runs of
whitespace become one space, and everything is lower-cased, in that order, as the published models were trained.
"""

from __future__ import annotations

import gzip
import html
import itertools
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
import regex

from zeroshot.errors import InputTypeError, OptionError, levels_to_caller

START = "<|startoftext|>"
END = "<|endoftext|>"

# How CLIP cuts text into words before merging (openai/CLIP, simple_tokenizer.py).
_WORD = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)
_WORD_CACHE_SIZE = 1 << 17


def clean(text: str) -> str:
    r"""Return `text` as CLIP's tokenizer sees it: repaired, unescaped, single-spaced, lower case.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> clean("  Caf&amp;eacute;\n AU  lait ")
    'café au lait'
    """
    return " ".join(repair(text).split()).lower()


def repair(text: str) -> str:
    """Return `text` with its encoding mended (ftfy) and HTML entities resolved twice, as open_clip does too.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> repair("&amp;eacute; schÃ¶n")
    'é schön'
    """
    # For printable ASCII without entities ftfy and html change nothing; that is nearly every prompt, and ftfy is
    # most of the time that tokenizing takes. tests/test_tokenizer.py holds this short cut against ftfy itself.
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text)))


class Tokenizer:
    """Byte-pair encoder with CLIP's merges.

    Use `get_tokenizer()` for the shared instance; building one reads the merges from disk.

    Examples
    --------
    >>> tokenizer = get_tokenizer()
    >>> tokenizer.encode("a photo of a cat."), tokenizer.vocab_size
    ([320, 1125, 539, 320, 2368, 269], 49408)
    >>> tokenizer.tokenize(["a cat", "a very old cat"], context=6).tolist()
    [[49406, 320, 2368, 49407, 0, 0], [49406, 320, 1070, 896, 2368, 49407]]
    >>> tokenizer.start_id, tokenizer.end_id
    (49406, 49407)
    """

    def __init__(self) -> None:
        byte_symbols = _byte_symbols()
        merges = _read_merges()
        symbols = sorted(byte_symbols.values())  # printable bytes first, then the others
        vocabulary = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in merges] + [START, END]
        self._ids = {symbol: i for i, symbol in enumerate(vocabulary)}
        self._symbols = vocabulary
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._byte_symbols = byte_symbols
        self._symbol_bytes = {symbol: byte for byte, symbol in byte_symbols.items()}
        self._words: dict[str, tuple[int, ...]] = {START: (self.start_id,), END: (self.end_id,)}

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens, 49,408."""
        return len(self._symbols)

    @property
    def start_id(self) -> int:
        """Return the id of the token that every sequence starts with, 49,406."""
        return self._ids[START]

    @property
    def end_id(self) -> int:
        """Return the id of the token that ends every sequence and at which text towers are pooled, 49,407."""
        return self._ids[END]

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without start and end, of any length.

        Parameters
        ----------
        text : str
        """
        return list(self._iter_ids(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; words are separated by one space, start and end tokens are dropped.

        Parameters
        ----------
        ids : sequence of int

        Examples
        --------
        >>> tokenizer = get_tokenizer()
        >>> tokenizer.decode(tokenizer.encode("A photo of a Cat."))
        'a photo of a cat .'
        """
        symbols = "".join(self._symbols[i] for i in ids if i not in (self.start_id, self.end_id))
        raw = bytearray()
        for part in symbols.split("</w>"):
            raw += bytes(self._symbol_bytes[s] for s in part) + b" "
        return raw.decode("utf-8", errors="replace").strip()

    def tokenize(self, texts: str | Sequence[str], *, context: int = 77) -> npt.NDArray[np.int64]:
        """Return token ids with start and end tokens, padded with zeros.

        Parameters
        ----------
        texts : str or sequence of str
            One text or several.
        context : int
            Length of the rows, at least 3; 77 for OpenAI's models.

        Returns
        -------
        ndarray of shape (n_texts, context), int64
            A text that needs more than `context` tokens is cut, its last token replaced by the end token, and a
            warning says so (as `clip.tokenize(truncate=True)` and open_clip do, which do not warn).

        Raises
        ------
        InputTypeError
            If a text is not a string.
        OptionError
            If `context` is below 3.
        """
        texts = check_texts(texts, context)
        tokens = np.zeros((len(texts), context), dtype=np.int64)
        too_long: list[str] = []
        for row, text in zip(tokens, texts, strict=True):
            length = 1
            row[0] = self.start_id
            for token in self._iter_ids(text):
                if length == context - 1:
                    too_long.append(text)
                    break
                row[length] = token
                length += 1
            row[length] = self.end_id
        warn_of_cuts(too_long, len(texts), context)
        return tokens

    def _iter_ids(self, text: str) -> Iterator[int]:
        for match in _WORD.finditer(clean(text)):
            word = match.group()
            ids = self._words.get(word)
            if ids is None:
                ids = tuple(self._ids[s] for s in self._merge(word))
                if len(self._words) < _WORD_CACHE_SIZE:
                    self._words[word] = ids
            yield from ids

    def _merge(self, word: str) -> list[str]:
        """Split a word into bytes and join neighbours, the earliest learned merge first, until none applies."""
        symbols = [self._byte_symbols[byte] for byte in word.encode("utf-8")]
        symbols[-1] += "</w>"
        unknown = len(self._ranks)
        while len(symbols) > 1:
            pairs = itertools.pairwise(symbols)
            best = min(pairs, key=lambda pair: self._ranks.get(pair, unknown))
            if best not in self._ranks:
                break
            joined = []
            i = 0
            while i < len(symbols):
                if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == best:
                    joined.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    joined.append(symbols[i])
                    i += 1
            symbols = joined
        return symbols


@lru_cache(maxsize=1)
def get_tokenizer() -> Tokenizer:
    """Return the shared tokenizer, built at the first call.

    Examples
    --------
    >>> get_tokenizer() is get_tokenizer()
    True
    """
    return Tokenizer()


def tokenize(texts: str | Sequence[str], context: int = 77) -> npt.NDArray[np.int64]:
    """Tokenize with CLIP's own vocabulary; no encoder needed.

    Parameters
    ----------
    texts : str or sequence of str
    context : int
        Row length, at least 3.

    Returns
    -------
    ndarray of shape (n_texts, context), int64

    Raises
    ------
    InputTypeError
        If a text is not a string.
    OptionError
        If `context` is below 3.

    Examples
    --------
    >>> tokenize("a photo of a cat.", context=10).tolist()
    [[49406, 320, 1125, 539, 320, 2368, 269, 49407, 0, 0]]
    """
    return get_tokenizer().tokenize(texts, context=context)


def check_texts(texts: str | Sequence[str], context: int) -> Sequence[str]:
    """Return one text or several as a sequence.

    Parameters
    ----------
    texts : str or sequence of str
    context : int

    Returns
    -------
    sequence of str

    Raises
    ------
    InputTypeError
        If a text is not a string.
    OptionError
        If `context` is below 3.

    Examples
    --------
    >>> check_texts("a cat", 77)
    ['a cat']
    """
    if isinstance(texts, str):
        texts = [texts]
    if not hasattr(texts, "__iter__") or not hasattr(texts, "__len__"):
        raise InputTypeError(f"texts is of type {type(texts).__name__}; expected a string or a list of strings")
    for text in texts:
        if not isinstance(text, str):
            raise InputTypeError(f"a text is {text!r} of type {type(text).__name__}; expected str")
    if context < 3:
        raise OptionError(f"context is {context}; expected at least 3: start, one token, end")
    return texts


class CutWarning(UserWarning):
    """Of texts that are longer than what the model reads.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     tokens = tokenize("a very long text", context=4)
    >>> caught[0].category.__name__
    'CutWarning'
    """


def warn_of_cuts(too_long: Sequence[str], count: int, context: int) -> None:
    """Warn, at the line outside this package, of texts that did not fit; nothing for none.

    Parameters
    ----------
    too_long : sequence of str
        The texts that were cut.
    count : int
        Of how many.
    context : int
        To how many tokens.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     warn_of_cuts(["a very long text"], 2, 4)
    >>> str(caught[0].message).partition(" and ")[0]
    '1 of 2 texts are longer than 4 tokens'
    """
    if too_long:
        first = too_long[0] if len(too_long[0]) <= 60 else too_long[0][:60] + "…"
        warnings.warn(
            f"{len(too_long)} of {count} texts are longer than {context} tokens and were cut; "
            f"what follows the cut has no effect. The first: {first!r}",
            CutWarning,
            stacklevel=levels_to_caller(),
        )


def _byte_symbols() -> dict[int, str]:
    """Map each byte to one printable character, so that merges can be written as text (GPT-2, 2019)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _read_merges() -> list[tuple[str, str]]:
    packed = resources.files("zeroshot").joinpath("data/clip_bpe_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    return [(first, second) for first, second in (line.split(" ") for line in lines)]
