"""What the page of `zeroshot app` does, without the page: text fields become settings, pictures and settings scores.

Pictures and prompts are embedded once and remembered, so that a changed label costs its own prompts and a product of
two small matrices. Heat maps are computed when they are asked for. All that is remembered is bounded.
"""

from __future__ import annotations

import io
import json
import re
import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zeroshot.classifier import Classifier, as_encoder
from zeroshot.encoder import Encoder
from zeroshot.errors import ImageError, LabelError, OptionError, PromptError, ZeroShotError, check_positive
from zeroshot.head import Head, build_head
from zeroshot.image import open_image
from zeroshot.jobs import csv_table
from zeroshot.prediction import DEFAULT_TOP_K, Outcome
from zeroshot.prompts import DEFAULT_TEMPLATE, LabelWarning, PromptSet, as_prompt_set, parse_labels
from zeroshot.registry import MINI
from zeroshot.stream import EmbeddedBatch
from zeroshot.tokenizer import CutWarning

DEFAULT_PROMPTS = "default"
_SYNONYMS = re.compile(r"(.*?\S)\s+=(?:\s+(.*))?")
_EMBEDDINGS, _PICTURES, _HEADS, _MAPS = 4096, 256, 16, 256  # remembered of each
_THUMBNAIL = 320  # pixels of the longer side
_MANY = 50  # prompts from which on it is told that they are being read: a second or so
_WARNINGS = threading.RLock()  # what is done with warnings is so for all threads
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Limits:
    """What a page takes, so that one careless drop does not fill the memory.

    Attributes
    ----------
    pictures : int
        Those beyond are left out, and the page says so.
    megabytes : int
        Of one file.
    pixels : int
        Of one picture.
    prompts : int
        Of all labels and background classes together; so many embeddings of texts are remembered.

    Raises
    ------
    OptionError
        If one is no whole number of at least 1.
    """

    pictures: int = 64
    megabytes: int = 32
    pixels: int = 50_000_000
    prompts: int = 10_000

    def __post_init__(self) -> None:
        for name in ("pictures", "megabytes", "pixels", "prompts"):
            check_positive(name, getattr(self, name))


@dataclass(frozen=True)
class Question:
    """What the fields of the page hold.

    Attributes
    ----------
    labels : str
        One a line; ``cat = cat, kitten, tabby`` gives the words that stand for a label in the prompts.
    model : str
        As `zeroshot.load` takes it.
    prompts : str
        Name of the prompt set that `templates` began as; `DEFAULT_PROMPTS` is the default of the library.
    templates : str
        One a line.
    background : str
        Names of what is none of the labels, one a line.
    threshold : float
    multi_label : bool
    """

    labels: str
    model: str = MINI
    prompts: str = DEFAULT_PROMPTS
    templates: str = DEFAULT_TEMPLATE
    background: str = ""
    threshold: float = 0.0
    multi_label: bool = False

    def arguments(self) -> dict[str, Any]:
        r"""Return the arguments of `Classifier` that say the same; those that are the default are left out.

        Raises
        ------
        LabelError
            If a label with synonyms is named twice; what else is wrong the classifier says.

        Examples
        --------
        >>> Question("cat = cat, kitten\ndog", prompts="imagenet", templates="a {}.").arguments()
        {'labels': {'cat': ['cat', 'kitten'], 'dog': ['dog']}, 'model': 'mini', 'prompts': ['a {}.']}
        """
        templates = tuple(line for line in self.templates.split("\n") if line.strip())
        edited = templates != shipped_set(self.prompts).templates
        found: dict[str, Any] = {"labels": read_labels(self.labels), "model": self.model.strip()}
        if edited:
            found["prompts"] = list(templates)
        elif self.prompts != DEFAULT_PROMPTS:
            found["prompts"] = self.prompts
        if background := _lines(self.background):
            found["background"] = background
        if self.multi_label:
            found["multi_label"] = True
        return found

    def python(
        self,
        names: Sequence[str] = (),
        *,
        top_k: int = DEFAULT_TOP_K,
        explained: Sequence[tuple[str, str | int]] = (),
    ) -> str:
        """Return Python that does the same with files of these names in the working folder.

        Parameters
        ----------
        names : sequence of str
        top_k : int
        explained : sequence of (str, str or int)
            Pictures and labels, as `Classifier.explain` takes them, of which a heat map is drawn.
        """
        options = self.arguments()
        labels = options.pop("labels")
        lines = ["import zeroshot", "", "clf = zeroshot.Classifier("]
        lines += [f"    {_literal(labels)},"]
        lines += [f"    {name}={_literal(value)}," for name, value in options.items()]
        shown: dict[str, Any] = {"top_k": top_k} if top_k != DEFAULT_TOP_K else {}
        shown |= {"threshold": self.threshold} if self.threshold else {}
        call = "".join(f", {name}={value!r}" for name, value in shown.items())
        lines += [")", f"images = {_literal(list(names))}"]
        lines += [f"for image, prediction in zip(images, clf(images{call})):"]
        lines += [r'    print(f"{image}\n{prediction}\n")']
        for name, label in explained:
            heat = f"{Path(name).stem}.why.png"
            lines += [f"clf.explain({_literal(name)}, {_literal(label)}).overlay().save({_literal(heat)})"]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Picture:
    """A picture as the encoder sees it before it is cut: its size in pixels, and a small JPEG; or what is wrong."""

    width: int = 0
    height: int = 0
    jpeg: bytes = b""
    error: ImageError | None = None


@dataclass(frozen=True)
class HeatMap:
    """What in a picture speaks for a label, drawn over it; or why there is no such map.

    Attributes
    ----------
    label : str
    index : int
        Position of the label.
    jpeg : bytes
        As large as that of the `Picture`.
    method, citation : str
        As of `Explanation`.
    error : ZeroShotError or None
        What is in the way: a model whose maps nobody knows how to draw, or a label that has nothing beside it.
    """

    label: str
    index: int
    jpeg: bytes = b""
    method: str = ""
    citation: str = ""
    error: ZeroShotError | None = None


@dataclass(frozen=True)
class Scores:
    """An answer of the page.

    Attributes
    ----------
    pictures : tuple of Picture
    outcomes : tuple of Outcome
        One for each picture, under its name.
    labels : tuple of str
    python : str
        Code that does the same.
    left_out : int
        Pictures beyond the limit, of which there is nothing here.
    maps : mapping from int to HeatMap
        Those that were asked for, under the positions of their pictures.
    notes : tuple of str
        Sentences on what was typed: it has scores, and perhaps not those that were meant.
    """

    pictures: tuple[Picture, ...]
    outcomes: tuple[Outcome, ...]
    labels: tuple[str, ...]
    python: str
    left_out: int = 0
    maps: Mapping[int, HeatMap] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def csv(self) -> bytes:
        """Return the table that `zeroshot classify --out table.csv` writes, with all classes in it."""
        return csv_table(self.outcomes, top_k=len(self.labels))


@dataclass(frozen=True)
class Progress:
    """What is being waited for: a sentence."""

    text: str


class Workbench:
    r"""Scores pictures against settings that change all the time.

    Parameters
    ----------
    device : str, optional
        As for `zeroshot.load`.
    limits : Limits, optional

    Examples
    --------
    >>> bench = Workbench()
    >>> *_, scores = bench.answer(["examples/images/cat.jpg"], Question("cat\ndog"))
    >>> scores.outcomes[0].prediction.label
    'cat'
    """

    def __init__(self, *, device: str | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._device = device
        self._embeddings: Memory[Tensor] = Memory(_EMBEDDINGS)
        self._texts: Memory[tuple[Tensor, bool]] = Memory(self.limits.prompts)
        self._pictures: Memory[Picture] = Memory(_PICTURES)
        self._heads: Memory[tuple[Head, tuple[str, ...]]] = Memory(_HEADS)
        self._maps: Memory[HeatMap] = Memory(_MAPS)
        self._loaded: set[str] = set()

    def answer(
        self, files: Sequence[str], question: Question, why: Mapping[int, int] | None = None
    ) -> Iterator[Progress | Scores]:
        """Score files: what is waited for, as often as there is something new, and at the end the scores.

        Parameters
        ----------
        files : sequence of str
            Paths, whose last parts are the names of the pictures.
        question : Question
        why : mapping from int to int, optional
            For which pictures a heat map is drawn, and of which label: positions of both. What is at none of them, or
            cannot be read, has no map.

        Yields
        ------
        Progress or Scores
            The last one is `Scores`.

        Raises
        ------
        ZeroShotError
            What is wrong with labels, templates, options or the model. A broken picture has its own outcome.
        """
        arguments = question.arguments()
        if not arguments["labels"]:
            raise LabelError("no label was typed; expected one a line, such as 'cat'")
        if arguments.get("prompts") == []:
            raise PromptError(f"no template was typed; expected one a line, such as {DEFAULT_TEMPLATE!r}")
        labels, prompts = parse_labels(arguments["labels"]), as_prompt_set(arguments.get("prompts"))
        background = arguments.get("background", [])
        self._check_size(prompts, labels.synonyms, background)
        model = arguments["model"]
        if not model:
            raise OptionError("no model was named; expected one such as 'mini'")
        if model not in self._loaded:
            yield Progress(f"Loading {model}: from this machine, or else from the Hugging Face hub …")
        encoder = as_encoder(model, device=self._device)
        self._loaded.add(model)
        key = (encoder.fingerprint, labels, prompts, tuple(background))
        head, cut = self._heads.get(key) or (None, ())
        if head is None:
            # Not kept on disk: there is one for every letter that is typed.
            remembering = RememberingEncoder(encoder, self._texts)
            words = [word for words in labels.synonyms for word in words]
            texts = {text for row in prompts.expand([*words, *background]) for text in row}
            new = sum(self._texts.get((encoder.fingerprint, text)) is None for text in texts)
            if new >= _MANY:
                yield Progress(f"Reading {new:,} prompts …")
            with _WARNINGS, warnings.catch_warnings(action="ignore", category=LabelWarning):  # `_notes` says it
                head = build_head(
                    remembering, labels, prompts=prompts, background=background, cache=False, progress=False
                )
            cut = tuple(remembering.cut)
            self._heads.put(key, (head, cut))
        classifier = Classifier.from_head(head, model=encoder, multi_label=question.multi_label)
        taken = list(files[: self.limits.pictures])
        pictures, embeddings = [], []
        for count, file in enumerate(taken, 1):
            path = Path(file)
            stamp = _stamp(path)
            picture, embedding = self._pictures.get(stamp), self._embeddings.get((encoder.fingerprint, stamp))
            if picture is None or (embedding is None and picture.error is None):
                yield Progress(f"Looking at picture {count} of {len(taken)} …")
                picture, embedding = self._look(path, encoder, embedding)
                self._pictures.put(stamp, picture)
                if embedding is not None:
                    self._embeddings.put((encoder.fingerprint, stamp), embedding)
            pictures.append(picture)
            if picture.error is None:
                assert embedding is not None
                embeddings.append(embedding)
        rows = torch.stack(embeddings).numpy() if embeddings else np.empty((0, encoder.dim), dtype=np.float32)
        names = [Path(file).name for file in taken]
        batch = EmbeddedBatch(0, names, [picture.error for picture in pictures], rows)
        # All classes: how many are drawn is the page's matter, and the table has every one.
        options: dict[str, Any] = {"top_k": len(labels.names), "threshold": question.threshold}
        outcomes = tuple(classifier.score((one for one in [batch]), **options))
        maps = {}
        for place, index in sorted((why or {}).items()):
            if not (0 <= place < len(taken) and 0 <= index < len(labels.names)) or pictures[place].error:
                continue
            map_key = (key, question.multi_label, _stamp(Path(taken[place])), index)
            found = self._maps.get(map_key)
            if found is None:
                yield Progress(f"Looking for what speaks for {labels.names[index]!r} in {names[place]} …")
                found = _explain(classifier, taken[place], index)
                if found.error is None:  # another time there may be memory enough
                    self._maps.put(map_key, found)
            maps[place] = found
        readable = [outcome.source for outcome in outcomes if outcome.error is None]
        explained = [
            (names[place], found.label if labels.names.count(found.label) == 1 else found.index)
            for place, found in maps.items()
            if found.error is None
        ]
        python = question.python(readable, explained=explained)
        left_out = len(files) - len(taken)
        notes = (*_notes(labels.names, background), *_note_cuts(cut, encoder))
        yield Scores(tuple(pictures), outcomes, labels.names, python, left_out, maps, notes)

    def _check_size(self, prompts: PromptSet, synonyms: Sequence[Sequence[str]], background: Sequence[str]) -> None:
        words = sum(map(len, synonyms)) + len(background)
        count = words * len(prompts.templates)
        if count > self.limits.prompts:
            raise OptionError(
                f"{words:,} labels in {len(prompts.templates):,} templates are {count:,} prompts; the page takes "
                f"{self.limits.prompts:,}. Take fewer, or the command 'zeroshot classify' for any number"
            )

    def _look(self, path: Path, encoder: Encoder, embedding: Tensor | None) -> tuple[Picture, Tensor | None]:
        """Decode a picture, once for both: one at a time, so that memory holds no more than one."""
        try:
            self._check_pixels(path)
            image = open_image(path)
            if embedding is None:
                embedding = encoder.encode_images([image])[0].float().cpu()
        except ImageError as error:
            # The folder is the page's own and tells nobody anything.
            return Picture(error=type(error)(str(error).replace(str(path), path.name))), None
        return Picture(image.width, image.height, _thumbnail(image)), embedding

    def _check_pixels(self, path: Path) -> None:
        try:
            with path.open("rb") as file, Image.open(file) as opened:
                width, height = opened.size
        except Exception:  # whatever Pillow has against it, `open_image` says it better
            return
        if width * height > self.limits.pixels:
            raise ImageError(
                f"{path.name!r} has {width} x {height} pixels; the page takes {self.limits.pixels:,}. Make it smaller, "
                "or start the page with a larger --max-pixels"
            )


class Memory(Generic[ValueT]):
    """A bounded mapping that forgets what was not asked for the longest.

    >>> memory = Memory(2)
    >>> for letter in "aba" "c":
    ...     memory.put(letter, letter.upper())
    >>> memory.get("a"), memory.get("b"), len(memory)
    ('A', None, 2)
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[Hashable, ValueT] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable) -> ValueT | None:
        """Return what was put under a key, or None."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: Hashable, value: ValueT) -> None:
        """Remember a value, and forget the oldest one if there are too many."""
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._size:
                self._items.popitem(last=False)


class RememberingEncoder:
    """An encoder whose embeddings of texts are remembered: a new template costs its own prompts, not those of all.

    Attributes
    ----------
    base : Encoder
        What embeds; the other attributes are its.
    cut : list of str
        Those of the texts that it was asked for which are longer than the model reads.
    """

    def __init__(self, base: Encoder, memory: Memory[tuple[Tensor, bool]]) -> None:
        self.base = base
        self.cut: list[str] = []
        self._memory = memory
        self.name, self.dim, self.device = base.name, base.dim, base.device
        self.logit_scale, self.logit_bias, self.fingerprint = base.logit_scale, base.logit_bias, base.fingerprint

    def encode_images(self, images: Any) -> Tensor:
        """Return embeddings of images: (n_images, dim) float32, L2-normalised."""
        return self.base.encode_images(images)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings of texts: (n_texts, dim) float32, L2-normalised, on the CPU."""
        known = {text: self._memory.get((self.fingerprint, text)) for text in texts}
        if missing := [text for text, row in known.items() if row is None]:
            found, cut = _encode(self.base, missing)
            known |= {text: (row, text in cut) for text, row in zip(missing, found, strict=True)}
        rows = []
        for text in texts:
            entry = known[text]
            assert entry is not None
            self._memory.put((self.fingerprint, text), entry)
            rows.append(entry[0])
            if entry[1]:
                self.cut.append(text)
        return torch.stack(rows) if rows else torch.empty(0, self.dim)


def read_labels(text: str) -> list[str] | dict[str, list[str]]:
    r"""Read labels as they are typed: one a line, and with `` = `` between a label and the words that stand for it.

    Raises
    ------
    LabelError
        If one of several with synonyms is named twice, or has none.

    Examples
    --------
    >>> read_labels("cat\n\n dog ")
    ['cat', 'dog']
    >>> read_labels("cat = cat, kitten\nE=mc2")
    {'cat': ['cat', 'kitten'], 'E=mc2': ['E=mc2']}
    """
    lines = _lines(text)
    matches = [_SYNONYMS.fullmatch(line) for line in lines]
    if not any(matches):
        return lines
    labels: dict[str, list[str]] = {}
    for line, match in zip(lines, matches, strict=True):
        name = match[1] if match else line
        if name in labels:
            raise LabelError(f"the label {name!r} is named twice; expected all its synonyms in one line")
        words = (match[2] or "").split(",") if match else [line]
        labels[name] = [word.strip() for word in words if word.strip()]
        if not labels[name]:
            raise LabelError(f"{line!r} has no words behind its =; expected some, such as 'cat = cat, kitten'")
    return labels


def write_labels(prompts: PromptSet) -> str:
    """Return the classes of a prompt set as `read_labels` takes them.

    >>> from zeroshot.prompts import load_prompts
    >>> write_labels(load_prompts("cifar10")).splitlines()[:2]
    ['airplane', 'automobile']
    """
    synonyms = prompts.synonyms or tuple((name,) for name in prompts.classes)
    lines = [
        name if words == (name,) else f"{name} = {', '.join(words)}"
        for name, words in zip(prompts.classes, synonyms, strict=True)
    ]
    return "\n".join(lines)


def shipped_set(name: str) -> PromptSet:
    """Return the prompt set of that name; of `DEFAULT_PROMPTS` that of a `Classifier` which is given none."""
    return as_prompt_set(None if name == DEFAULT_PROMPTS else name)


def _encode(encoder: Encoder, texts: Sequence[str]) -> tuple[Tensor, set[str]]:
    """Return embeddings on the CPU, and which texts were cut; the page says it, so that nobody else is warned."""
    with _WARNINGS, warnings.catch_warnings(record=True, action="always") as caught:
        rows = encoder.encode_texts(texts).cpu()
        others = [one for one in caught if one.category is not CutWarning]
        cut = set()
        if len(others) < len(caught):
            for text in texts:
                before = len(caught)
                encoder.tokenize(text)  # type: ignore[attr-defined]  # it is what warned
                cut |= {text} if len(caught) > before else set()
    for one in others:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return rows, cut


def _notes(labels: Sequence[str], background: Sequence[str] = ()) -> Iterator[str]:
    if len(labels) == 1 and "," in labels[0]:
        yield f"{labels[0]!r} is taken as one label; several stand one a line."
    several = [name for name, count in Counter([*labels, *background]).items() if count > 1]
    if several:
        yield f"{several[0]!r} stands there more than once: what it would have is shared between them."


def _note_cuts(cut: Sequence[str], encoder: Encoder) -> Iterator[str]:
    if cut:
        count = f"{len(cut)} prompts are" if len(cut) > 1 else "1 prompt is"
        first = cut[0] if len(cut[0]) <= 60 else cut[0][:60] + "…"
        limit = getattr(encoder, "context", 0)
        yield f"{count} longer than the {limit} tokens that the model reads; the rest has no effect: {first!r}."


def _explain(classifier: Classifier, file: str, index: int) -> HeatMap:
    label = classifier.labels[index]
    try:
        if len(classifier.head.weight) == 1 and not classifier.multi_label:
            raise OptionError(
                f"{label!r} is the only label, so that it has 100% whatever the picture shows. Type another one to "
                "hold it against, or under 'None of these' a name of what it is not"
            )
        found = classifier.explain(file, index)
    except ZeroShotError as error:
        return HeatMap(label, index, error=error)
    return HeatMap(label, index, _jpeg(found.overlay(longest=_THUMBNAIL)), found.method, found.citation)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _literal(value: Any) -> str:
    """Return a value as it is written in Python: in double quotes, and lists over several lines if they are long."""
    if isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        # JSON's strings are Python's, as long as nothing outside of its escapes is written in halves.
        return json.dumps(value, ensure_ascii=False)
    pairs = isinstance(value, dict)
    items = [f"{_literal(k)}: {_literal(v)}" for k, v in value.items()] if pairs else list(map(_literal, value))
    opening, closing = "{}" if pairs else "[]"
    line = f"{opening}{', '.join(items)}{closing}"
    if len(line) <= 90:
        return line
    return f"{opening}\n" + "".join(f"        {item},\n" for item in items) + f"    {closing}"


def _stamp(path: Path) -> tuple[str, int, int]:
    """What tells a file from another one: its place, and when and how long it was written."""
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_mtime_ns, found.st_size


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return _jpeg(small)


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
