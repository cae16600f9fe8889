"""Images and the classes that they show, whatever they were read from; their embeddings, with the classes beside them.

What is wrong with one label is told of that image, and takes nothing from the others. `zeroshot.labelled` makes them of
folders, lists, archives and data sets.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zeroshot.encoder import Encoder
from zeroshot.errors import LabelError, ZeroShotError
from zeroshot.image import Item
from zeroshot.matching import near_names
from zeroshot.stream import EmbeddedBatch, embed_batches

Target: TypeAlias = "int | tuple[int, ...]"
# A label as the data has it: a name, a position, several of those, none, or why it cannot be known.
RawLabel: TypeAlias = "str | int | Sequence[str | int] | ZeroShotError | None"

NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # a position that is written as text


@dataclass(frozen=True, eq=False)
class LabelledItem(Item):
    """An image, and which classes it shows.

    Attributes
    ----------
    target : int, tuple of int, or None
        Positions among the classes of the data: one; or, where an image can show several, all of them. None if the
        label cannot be used.
    problem : str
        Why not; empty otherwise.
    """

    target: Target | None = None
    problem: str = ""


@dataclass(frozen=True, eq=False)
class LabelledBatch(EmbeddedBatch):
    """Neighbours in a stream of labelled images, embedded together.

    Attributes
    ----------
    targets : list of int, or of tuple of int
        As long as `sources`; those of images with an error too.
    """

    targets: list[Target] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and their classes, to be gone through as often as needed; `load_labelled` makes them.

    Attributes
    ----------
    name : str
        What messages and reports call the data.
    kind : str
        ``folder``, ``list``, ``webdataset``, ``datasets`` or ``pairs``.
    classes : tuple of str
        Names of the classes, as the data has them, by position; names may repeat. Empty if labels are numbers and
        nothing says what they stand for.
    multi_label : bool
        Whether an image can show several classes, or none.
    read : callable
        Returns an iterator of ``(Item, label)``, with labels as the data has them.
    root : str
        What `relative` takes off the names of the images.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    multi_label: bool
    read: Callable[[], Iterator[tuple[Item, RawLabel]]] = field(repr=False)
    root: str = ""

    def items(self) -> Generator[LabelledItem, None, None]:
        """Yield the images in order, each with the position of its class.

        Raises
        ------
        ZeroShotError
            If the data cannot be read any more.
        """
        positions: dict[str, list[int]] = {}
        for position, name in enumerate(self.classes):
            positions.setdefault(name, []).append(position)
        for item, label in self.read():
            try:
                target = self._target(label, positions)
            except LabelError as error:
                yield LabelledItem(item.source, item.image, None, str(error))
            else:
                yield LabelledItem(item.source, item.image, target)

    def relative(self, source: str) -> str:
        """Return the name of an image without the folder of the data: the same wherever the data lies."""
        inside = self.root and source.startswith(self.root)
        return source[len(self.root) :].lstrip("/\\") if inside else source

    def _target(self, label: RawLabel, positions: Mapping[str, Sequence[int]]) -> Target:
        if isinstance(label, ZeroShotError):
            raise LabelError(str(label))
        if isinstance(label, (list, tuple)):
            if self.multi_label:
                return tuple(sorted({self._position(one, positions) for one in label}))
            if len(label) != 1:
                raise LabelError(f"there are {len(label)} labels for one image; expected one")
            label = label[0]
        elif self.multi_label:
            return () if label is None else (self._position(label, positions),)
        return self._position(label, positions)

    def _position(self, label: Any, positions: Mapping[str, Sequence[int]]) -> int:
        if label is None or (isinstance(label, str) and not label.strip()):
            raise LabelError("there is no label")
        if isinstance(label, str):
            found = positions.get(label, ())
            if len(found) == 1:
                return found[0]
            if found:
                raise LabelError(
                    f"the label {label!r} stands for the classes {', '.join(map(str, found))}; give its number"
                )
            if not (self.classes and NUMBER.fullmatch(label)):
                raise LabelError(f"the label {label!r} is no class{near_names(label, self.classes)}")
            label = int(label)
        if isinstance(label, bool) or not hasattr(label, "__index__"):
            raise LabelError(f"the label is {label!r} of type {type(label).__name__}; expected a name or a position")
        position = int(label)
        if position < 0 or (self.classes and position >= len(self.classes)):
            last = f" to {len(self.classes) - 1}" if self.classes else ""
            raise LabelError(f"the label {position} is no class; expected a position from 0{last}")
        return position


def embed_labelled(
    encoder: Encoder | Sequence[Encoder],
    items: Iterable[LabelledItem],
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Generator[LabelledBatch, None, None]:
    """Embed labelled images as `embed_batches` does, with their targets beside them.

    Parameters
    ----------
    encoder, batch_size, workers
        As for `zeroshot.stream.embed_stream`.
    items : iterable of LabelledItem
        Such as ``data.items()``; those without a target are left out, and not read.

    Yields
    ------
    LabelledBatch

    Examples
    --------
    >>> import zeroshot
    >>> from zeroshot.labelled import load_labelled
    >>> data = load_labelled((["examples/images/cat.jpg", "examples/images/rocket.jpg"], ["cat", "rocket"]))
    >>> [(batch.embeddings.shape, batch.targets) for batch in embed_labelled(zeroshot.load("mini"), data.items())]
    [((2, 384), [0, 1])]
    """
    ahead: deque[Target] = deque()

    def usable() -> Iterator[Item]:
        for item in items:
            if item.target is not None:
                ahead.append(item.target)
                yield item

    for batch in embed_batches(encoder, usable(), batch_size=batch_size, workers=workers):
        targets = [ahead.popleft() for _ in batch.sources]
        yield LabelledBatch(batch.start, batch.sources, batch.errors, batch.embeddings, targets)


def data_digest(rows: Iterable[tuple[str, Target]]) -> str:
    """Return a SHA-256 over names of images and their classes, in order: the same images give the same digest."""
    digest = hashlib.sha256()
    for name, target in rows:
        digest.update(json.dumps([name, target]).encode())
    return digest.hexdigest()
