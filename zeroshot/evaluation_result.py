"""What `zeroshot.evaluate` found: text for people, tables and figures for notebooks, JSON and a page to keep.

What is measured, and how, is in `zeroshot.evaluation`; the page is made in `zeroshot.report`.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot import display
from zeroshot.cache import write_atomically
from zeroshot.display import printable
from zeroshot.errors import OptionError, ZeroShotError, check_positive
from zeroshot.figures import new_figure, plot_matrix
from zeroshot.formats import import_pandas
from zeroshot.image import thumbnail
from zeroshot.labelled_images import LabelledImages
from zeroshot.metrics import Confusion, Estimate, Ranked
from zeroshot.prompts import METRICS
from zeroshot.report import Gallery, Picture, html_page

FORMAT = "zeroshot-evaluation/1"
EXAMPLES = 5  # names and messages that are shown of many
_PICTURES = 18
_CLASSES_SHOWN = 30  # in a notebook
_THUMBNAIL = 144  # pixels of the longer side of a picture
_CELL = re.compile(r"\[\n\s+(\d+),\n\s+(\d+),\n\s+(\d+)\n\s+\]")  # a cell of the confusions goes on one line


@dataclass(frozen=True)
class ClassResult:
    """One class: how many images show it, and how well they are found.

    Attributes
    ----------
    index : int
        Position among the labels; names may repeat.
    label : str
    images : int
        Measured ones that show it.
    recall, precision, f1 : float or None
        In [0, 1]; None without images, without images taken for it, or where images show several classes.
    average_precision : float or None
        Where images show several classes.

    Examples
    --------
    >>> from zeroshot import evaluate
    >>> photographs = ["examples/images/cat.jpg", "examples/images/rocket.jpg"]
    >>> found = evaluate((photographs, ["cat", "rocket"]), model="mini").classes[0]
    >>> found.label, found.images, found.recall, found.average_precision
    ('cat', 1, 1.0, None)
    """

    index: int
    label: str
    images: int
    recall: float | None = None
    precision: float | None = None
    f1: float | None = None
    average_precision: float | None = None


@dataclass(frozen=True)
class Failure:
    """An image that has a class and could not be read: its name, and kind and text of the error.

    Attributes
    ----------
    source : str
        Name of the image.
    error, message : str
        The class of the error, and its text.

    Examples
    --------
    >>> import warnings
    >>> from zeroshot import evaluate
    >>> with warnings.catch_warnings(action="ignore"):
    ...     found = evaluate((["examples/images/cat.jpg", "nowhere.jpg"], ["cat", "dog"]), model="mini")
    >>> found.failed[0].source, found.failed[0].error
    ('nowhere.jpg', 'ImageNotFoundError')
    """

    source: str
    error: str
    message: str


@dataclass(frozen=True)
class LeftOut:
    """Images that were not measured for one reason: how many, and the names of the first ones.

    Attributes
    ----------
    reason : str
    images : int
    examples : tuple of str
        Names of the first ones.

    Examples
    --------
    >>> import warnings
    >>> from zeroshot import evaluate
    >>> photographs = ["examples/images/cat.jpg", "examples/images/rocket.jpg"]
    >>> with warnings.catch_warnings(action="ignore"):
    ...     found = evaluate((photographs, ["cat", "rocket"]), model="mini", labels=["cat", "dog"], match="name")
    >>> found.left_out
    (LeftOut(reason="no label for the class 'rocket'", images=1, examples=('examples/images/rocket.jpg',)),)
    """

    reason: str
    images: int
    examples: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found; `print` shows it in short, a notebook as tables.

    Attributes
    ----------
    metric : str
        Name of the metric that counts, a key of `metrics`.
    metrics : dict of str to Estimate
        In [0, 1]: ``top_1``, ``top_5`` (with five classes or more), ``mean_per_class_recall``, ``macro_f1``,
        ``expected_calibration_error`` (whose interval is NaN: resampling alone makes it larger); where images show
        several classes ``mean_average_precision``, ``voc2007_mean_average_precision`` and ``roc_auc``.
    labels : tuple of str
    classes : tuple of ClassResult
        One for each label.
    sources : tuple of str
        Names of the measured images, in order.
    ranked : Ranked or None
        What became of each of them; None where images show several classes.
    scores, shown : ndarray of shape (n_images, n_classes), or None
        Logits and which classes the images show, kept where the metrics need them.
    failed : tuple of Failure
    left_out : tuple of LeftOut
    notes : tuple of str
        What a reader should know: how names were matched, classes without images, labels without a class.
    setup : dict
        Everything that is needed to repeat it.

    Examples
    --------
    >>> from zeroshot import evaluate
    >>> photographs = [f"examples/images/{name}.jpg" for name in ("cat", "clock", "rocket")]
    >>> found = evaluate((photographs, ["cat", "clock", "clock"]), model="mini", labels=["cat", "clock", "rocket"])
    >>> found.metric, round(found.value, 3), found.n_images
    ('top_1', 0.667, 3)
    >>> found.confusion().tolist()
    [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    >>> found.most_confused(1), found.to_dict()["metrics"]["top_1"]["value"] == found.value
    ([Confusion(target=1, predicted=2, images=1)], True)
    >>> found.save_json("result.json"), found.save_html("page.html")  # doctest: +SKIP
    >>> len(found.to_frame())  # with the extra `frame`
    3
    >>> found.plot()  # doctest: +SKIP
    """

    metric: str
    metrics: dict[str, Estimate]
    labels: tuple[str, ...]
    classes: tuple[ClassResult, ...]
    sources: tuple[str, ...]
    ranked: Ranked | None
    scores: npt.NDArray[np.float32] | None
    shown: npt.NDArray[np.bool_] | None
    failed: tuple[Failure, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    setup: dict[str, Any]
    _data: LabelledImages = field(repr=False)
    _ordinals: tuple[int, ...] = field(repr=False)

    @property
    def value(self) -> float:
        """Return the metric that counts, in [0, 1]."""
        return self.metrics[self.metric].value

    @property
    def n_images(self) -> int:
        """Return how many images were measured."""
        return len(self.sources)

    def confusion(self) -> npt.NDArray[np.int64]:
        """Count the images of each class (rows) that are taken for each class (columns).

        Returns
        -------
        ndarray of shape (n_classes, n_classes), int64

        Raises
        ------
        OptionError
            If images show several classes: there is no such table then.
        """
        return self._single().confusion_matrix()

    def most_confused(self, k: int = 10) -> list[Confusion]:
        """Return the pairs of classes that are most often confused, as `zeroshot.metrics.most_confused` does.

        Parameters
        ----------
        k : int
            How many pairs at most, at least 1.

        Returns
        -------
        list of Confusion

        Raises
        ------
        OptionError
            If images show several classes.
        """
        return self._single().most_confused(k)

    def _single(self) -> Ranked:
        if self.ranked is None:
            raise OptionError("the images show several classes; confusions are only counted where each shows one")
        return self.ranked

    # --------------------------------------------------------------------------------------------------- showing

    def __repr__(self) -> str:
        return f"<Evaluation: {METRICS[self.metric]} {self.metrics[self.metric]} on {images_in_words(self)}>"

    def __str__(self) -> str:
        """A few lines, for `print`."""
        lines = [self._about(), ""]
        names = [self.metric, *(name for name in self.metrics if name != self.metric)]
        width = max(len(METRICS[name]) for name in names)
        lines += [f"{METRICS[name]:<{width}}  {_percent(self.metrics[name])}" for name in names]
        if self.ranked is not None and (confused := self.most_confused(5)):
            pairs = [
                [f"{self.labels[one.target]!r} taken for {self.labels[one.predicted]!r}", str(one.images)]
                for one in confused
            ]
            lines += ["", "most confused", *(f"  {pair}  {images}" for pair, images in pairs)]
        if self.notes or self.failed or self.left_out:
            lines += ["", *self.notes]
            lines += [f"{len(self.failed)} failed, such as {self.failed[0].message}"] if self.failed else []
            lines += [f"{one.images} left out: {one.reason}" for one in self.left_out[:EXAMPLES]]
            more = len(self.left_out) - EXAMPLES
            lines += [f"and {more} more reasons"] if more > 0 else []
        room = max(shutil.get_terminal_size((120, 24)).columns, 40)
        return "\n".join(line if len(line) <= room else f"{line[: room - 1]}…" for line in map(printable, lines))

    def _repr_html_(self) -> str:
        """The metrics with their intervals, confusions and what was not measured, for notebooks."""
        first = self.metrics[self.metric]
        names = [self.metric, *(name for name in self.metrics if name != self.metric)]
        rows = [(METRICS[name], _percent(self.metrics[name]).strip().split("  ")) for name in names]
        pairs = [] if self.ranked is None else self.most_confused(5)
        notes = [*self.notes]
        notes += [f"failed: {one.message}" for one in self.failed[:EXAMPLES]]
        more = len(self.failed) - EXAMPLES
        notes += [f"and {more:,} more failed"] if more > 0 else []
        notes += [f"{one.images:,} left out: {one.reason}" for one in self.left_out[:EXAMPLES]]
        more = len(self.left_out) - EXAMPLES
        notes += [f"and {more} more reasons"] if more > 0 else []
        confused = [(self.labels[one.target], self.labels[one.predicted], f"{one.images:,}") for one in pairs]
        worst = sorted((one for one in self.classes if one.recall is not None), key=lambda one: (one.recall, one.index))
        return display.page(
            display.title(f"{METRICS[self.metric]} {_percent(first).strip()}", self._about()),
            display.table(
                ["metric", "value", "interval"],
                [(name, value, "".join(interval)) for name, (value, *interval) in rows],
                numbers=(1, 2),
            ),
            display.table(["shows", "taken for", "images"], confused, numbers=(2,)) if confused else "",
            display.details(
                "Classes, the worst first",
                display.bars(display.Bar(one.label, one.recall or 0, is_chosen=True) for one in worst[:_CLASSES_SHOWN]),
            )
            if worst
            else "",
            display.lines(notes, shown=len(notes), monospace=False) if notes else "",
        )

    def plot(self, *, classes: int = 24) -> Any:
        """Draw the confusions: rows are what the images show, columns what they are taken for.

        Parameters
        ----------
        classes : int
            How many classes at most: where there are more, those that are most often confused, in their order.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        OptionError
            If images show several classes, or `classes` is below 1.
        MissingExtraError
            If matplotlib is not installed.
        """
        shown = self._shown_classes(check_positive("classes", classes))
        side = 2.2 + 0.34 * len(shown)
        figure = new_figure(side, side)
        names = [self.labels[index] for index in shown]
        axes = figure.subplots()
        plot_matrix(axes, self.confusion()[np.ix_(shown, shown)], names)
        axes.set_title(f"{METRICS[self.metric]} {self.value:.1%}", fontsize=10)
        return figure

    def _shown_classes(self, most: int) -> list[int]:
        if len(self.labels) <= most:
            return list(range(len(self.labels)))
        shown: list[int] = []
        for pair in self.most_confused(most * most):
            new = [index for index in dict.fromkeys((pair.target, pair.predicted)) if index not in shown]
            if len(shown) + len(new) > most:
                break
            shown += new
        rest = (index for index in range(len(self.labels)) if index not in set(shown))
        return sorted([*shown, *itertools.islice(rest, most - len(shown))])

    def to_frame(self) -> Any:
        """Return a table of the classes.

        Returns
        -------
        pandas.DataFrame
            A row for each class, in the order of the labels; columns as `ClassResult` has them.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return import_pandas().DataFrame([asdict(one) for one in self.classes])

    def _about(self) -> str:
        left_out = sum(one.images for one in self.left_out)
        parts = [f"images: {self.n_images:,}"]
        parts += [f"failed: {len(self.failed):,}"] if self.failed else []
        parts += [f"left out: {left_out:,}"] if left_out else []
        parts += [f"classes: {len(self.labels):,}", f"model: {self.setup['model']['name']}"]
        prompts = self.setup["prompts"]["name"]
        return ", ".join([*parts, f"prompts: {prompts}"] if prompts else parts)

    # --------------------------------------------------------------------------------------------------- keeping

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it: the metrics, the classes, the confusions, and how to repeat it.

        The same images, model and options give the same, also on another day.

        Returns
        -------
        dict
            Of strings, numbers, lists and dicts; of images that show several classes without confusions.
        """
        confusions = [] if self.ranked is None else self._cells()
        return {
            "format": FORMAT,
            "metric": self.metric,
            "metrics": {name: _numbers(one) for name, one in self.metrics.items()},
            "images": self.n_images,
            "failed": [asdict(one) for one in self.failed],
            "left_out": [{**asdict(one), "examples": list(one.examples)} for one in self.left_out],
            "notes": list(self.notes),
            "classes": [asdict(one) for one in self.classes],
            # [right class, most probable class, images], by positions of labels; those that are not 0
            "confusion": confusions,
            "reliability": [] if self.ranked is None else [one._asdict() for one in self.ranked.reliability()],
            "setup": self.setup,
        }

    def _cells(self) -> list[list[int]]:
        ranked = self._single()
        pairs, counts = np.unique(np.stack([ranked.targets, ranked.predicted], axis=1), axis=0, return_counts=True)
        return [[int(pair[0]), int(pair[1]), int(count)] for pair, count in zip(pairs, counts, strict=True)]

    def save_json(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` to a file, whole or not at all.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        text = _CELL.sub(r"[\1, \2, \3]", text)
        content = text.encode("utf-8", "backslashreplace")
        write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))

    def save_html(self, path: str | os.PathLike[str], *, pictures: int = _PICTURES) -> None:
        """Write a page with pictures of hits and misses to a file, whole or not at all; it needs no other file.

        The images are read once more for it.

        Parameters
        ----------
        path : path
        pictures : int
            How many hits, and how many misses, at most; 0 for none.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        page = html_page(self.to_dict(), self._galleries(pictures)).encode("utf-8", "backslashreplace")
        write_atomically(Path(path), lambda temporary: temporary.write_bytes(page))

    def _galleries(self, count: int) -> list[Gallery]:
        if count <= 0:
            return []
        predicted, confidence, right = self._verdicts()
        order = np.argsort(-confidence, kind="stable")
        misses, hits = order[~right[order]], order[right[order]]
        unsure = hits[::-1][: count // 2]
        sure = hits[: count - len(unsure)]
        sure = sure[~np.isin(sure, unsure)]
        chosen = {
            "Misses": ("the most confident ones first", misses[:count]),
            "Hits": ("the most confident ones", sure),
            "Narrow hits": ("the least confident ones", unsure),
        }
        images = self._open({int(i) for _, some in chosen.values() for i in some})
        galleries = []
        for title, (note, some) in chosen.items():
            pictures = [
                Picture(
                    self._data.relative(self.sources[i]),
                    self._shown(i),
                    self.labels[predicted[i]],
                    float(confidence[i]),
                    bool(right[i]),
                    images[i],
                )
                for i in map(int, some)
                if i in images
            ]
            if pictures:
                galleries.append(Gallery(title, note, tuple(pictures)))
        return galleries

    def _verdicts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Most probable class, its probability (among all of them), and whether it is right; each (n_images,)."""
        if self.ranked is not None:
            return self.ranked.predicted, self.ranked.confidence, self.ranked.rank == 0
        assert self.scores is not None
        assert self.shown is not None
        scores = self.scores.astype(np.float64)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        predicted = scores.argmax(axis=1).astype(np.int64)
        right = np.take_along_axis(self.shown, predicted[:, None], axis=1)[:, 0]
        return predicted, weights.max(axis=1) / weights.sum(axis=1), right

    def _shown(self, index: int) -> str:
        if self.ranked is not None:
            return self.labels[int(self.ranked.targets[index])]
        assert self.shown is not None
        return ", ".join(self.labels[i] for i in np.flatnonzero(self.shown[index])) or "none of them"

    def _open(self, wanted: set[int]) -> dict[int, bytes]:
        """Small pictures of some of the measured images; without those that cannot be read any more."""
        ordinals = {self._ordinals[i]: i for i in wanted}
        pictures = {}
        for ordinal, item in enumerate(self._data.items()):
            if ordinal in ordinals:
                try:
                    image = item.image() if callable(item.image) else item.image
                    pictures[ordinals[ordinal]] = thumbnail(image, _THUMBNAIL)
                except (ZeroShotError, OSError):
                    continue
                if len(pictures) == len(wanted):
                    break
        return pictures


# -------------------------------------------------------------------------------------------------------------- text


def _numbers(one: Estimate) -> dict[str, float | None]:
    return {name: number_or_none(value) for name, value in one._asdict().items()}


def number_or_none(value: float) -> float | None:
    """Return a number as JSON has it: NaN becomes None."""
    return None if np.isnan(value) else float(value)


def _percent(one: Estimate) -> str:
    if np.isnan(one.value):
        return "not defined: no class has an example"
    return (
        f"{one.value:>6.1%}" if np.isnan(one.low) else f"{one.value:>6.1%}  [{100 * one.low:.1f}, {100 * one.high:.1f}]"
    )


def images_in_words(found: Evaluation) -> str:
    """Return how many images were measured, and how many were not."""
    left_out = sum(one.images for one in found.left_out)
    parts = [display.plural(found.n_images, "image")]
    parts += [f"{left_out:,} left out"] if left_out else []
    return ", ".join([*parts, f"{len(found.failed):,} failed"] if found.failed else parts)
