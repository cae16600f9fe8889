"""What a classifier says of images, and how that is looked at: in a terminal, in a notebook, as a table or a figure."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import Any, NamedTuple, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from zeroshot import display, pictures
from zeroshot.display import Html
from zeroshot.errors import HeadError, OptionError, ZeroShotError, check_positive
from zeroshot.figures import Panel, plot_panels, shorten
from zeroshot.formats import import_pandas

DEFAULT_TOP_K = 5
NONE = "(none of these)"
# Results that a grid shows, and classes of each.
_SHOWN, _CLASSES_OF_EACH = 24, 3
_NAME = 60  # letters of a name in a line of text
# Pixels of the longer side of a picture: alone, in a grid, and in a figure.
_ALONE, _IN_GRID, _IN_FIGURE = 360, 200, 480


class Match(NamedTuple):
    """One class of a prediction: its name, its probability in [0, 1], and its position among the labels.

    Examples
    --------
    >>> Match("cat", 0.75, 0).label
    'cat'
    """

    label: str
    score: float
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody looks for on a result


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the classifier says of one image.

    Attributes
    ----------
    label : str or None
        Name of the most probable class; None if its probability is below `threshold`, or if the background is more
        probable.
    score : float
        Probability of the most probable class, in [0, 1].
    index : int or None
        Position of `label` among `labels`, which tells classes of the same name apart; None where `label` is.
    probabilities : ndarray of shape (n_classes,), float32
        In the order of `labels`. They sum to 1, together with `background`; for several labels at once (`multi_label`)
        each stands for itself.
    labels : tuple of str
    top_k : int
        How many classes `top` gives when it is not told, and how many are printed.
    threshold : float
        Probability below which there is no label, in [0, 1].
    background : float
        Probability that the image shows none of the labels, in [0, 1]; 0 without background classes.
    multi_label : bool
        Whether the probabilities are independent of each other.
    image : image or None
        What was classified, as it was given: a path is read again when the prediction is shown. An image in memory is
        not kept for long: it is here as long as somebody else holds it, or it is one of the last ones, of 256 MB at the
        most. None if it is gone, after pickling, for file objects and in streams, where `Outcome.source` is.

    Examples
    --------
    >>> prediction = Prediction(np.array([0.2, 0.7, 0.1], np.float32), ("cat", "dog", "car"))
    >>> prediction.label, round(prediction.score, 2), prediction.index
    ('dog', 0.7, 1)
    """

    probabilities: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    top_k: int = DEFAULT_TOP_K
    threshold: float = 0.0
    background: float = 0.0
    multi_label: bool = False
    _image: Any = field(default=None, repr=False)  # as `pictures.hold` returns it
    index: int | None = field(init=False)

    def __post_init__(self) -> None:
        if not np.isfinite(self.probabilities).all():
            raise HeadError(
                "the probabilities are not finite: the weights hold NaN, or their numbers are too large for the dtype. "
                "Try dtype='float32' or 'bfloat16'"
            )
        none = self.score < self.threshold or self.background > self.score
        object.__setattr__(self, "index", None if none else int(self.probabilities.argmax()))

    @property
    def label(self) -> str | None:
        """Name of the most probable class, or None if nothing is probable enough."""
        return None if self.index is None else self.labels[self.index]

    @property
    def score(self) -> float:
        """Probability of the most probable class, in [0, 1]."""
        return float(self.probabilities.max())

    @property
    def image(self) -> Any:
        """What was classified, as it was given, or None."""
        return pictures.given(self._image)

    def above(self, threshold: float | None = None) -> list[Match]:
        """Return all classes with at least a probability, the most probable first.

        Parameters
        ----------
        threshold : float, optional
            In [0, 1]; by default that of the prediction.

        Returns
        -------
        list of Match

        Examples
        --------
        >>> prediction = Prediction(np.array([0.2, 0.7, 0.1], np.float32), ("cat", "dog", "car"))
        >>> [match.label for match in prediction.above(0.5)]
        ['dog']
        """
        limit = self.threshold if threshold is None else threshold
        return [match for match in self.top(len(self.labels)) if match.score >= limit]

    def top(self, k: int | None = None) -> list[Match]:
        """Return the most probable classes, the most probable first; of equal ones, the earlier label first.

        Parameters
        ----------
        k : int, optional
            How many at most, at least 1; by default `top_k`.

        Returns
        -------
        list of Match

        Raises
        ------
        OptionError
            If `k` is below 1.

        Examples
        --------
        >>> prediction = Prediction(np.array([0.2, 0.7, 0.1], np.float32), ("cat", "dog", "car"))
        >>> [match.label for match in prediction.top(2)]
        ['dog', 'cat']
        """
        k = check_positive("top_k", self.top_k if k is None else k)
        count = len(self.probabilities)
        k = min(k, count)
        order = np.argpartition(-self.probabilities, k - 1)[:k] if k < count else np.arange(count)
        threshold = self.probabilities[order].min()
        order = np.flatnonzero(self.probabilities >= threshold)  # ties at the edge, in the order of the labels
        order = order[np.argsort(-self.probabilities[order], kind="stable")][:k]
        return [Match(self.labels[i], float(self.probabilities[i]), int(i)) for i in order]

    # --------------------------------------------------------------------------------------------------- showing

    def __repr__(self) -> str:
        rows = self._bars(self.top_k)[0 if self.label is None else 1 :]
        others = ", ".join(_short(row.name) + ("" if row.share is None else f" {row.share:.1%}") for row in rows)
        first = "None" if self.label is None else f"{_short(self.label)!r}, {self.score:.1%}"
        return f"Prediction({first}{'; ' + others if others else ''})"

    def __str__(self) -> str:
        """A table with bars, for `print`."""
        room = max(shutil.get_terminal_size((80, 24)).columns - 32, 10)
        rows = self._bars(self.top_k)
        names = [row.name if len(row.name) <= room else row.name[: room - 1] + "…" for row in rows]
        width = max(len(name) for name, row in zip(names, rows, strict=True) if row.share is not None)
        return "\n".join(
            name if row.share is None else f"{name:<{width}}  {row.share:>6.1%}  {_bar(row.share, 20)}".rstrip()
            for name, row in zip(names, rows, strict=True)
        )

    def _repr_html_(self) -> str:
        """The picture beside a bar chart, for notebooks."""
        chart = display.bars(self._bars(self.top_k))
        jpeg = pictures.small(self._image, _ALONE)
        if jpeg is None:
            return display.page(chart)
        return display.page(display.beside(display.picture(jpeg, pictures.name(self._image) or ""), chart))

    def plot(self, *, top_k: int | None = None) -> Any:
        """Draw the picture beside a bar chart of the most probable classes.

        Parameters
        ----------
        top_k : int, optional
            How many classes; by default `top_k` of the prediction.

        Returns
        -------
        matplotlib.figure.Figure
            Of its own: pyplot does not know it. A notebook shows it as a value, and ``savefig`` writes it.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.

        Examples
        --------
        >>> import zeroshot
        >>> figure = zeroshot.classify("examples/images/cat.jpg", ["cat", "dog"], model="mini").plot()
        >>> [label.get_text() for label in figure.axes[1].get_yticklabels()]
        ['cat', 'dog']
        """
        return plot_panels([self._panel(self._top_k(top_k))])

    def _bars(self, top_k: int) -> list[display.Bar]:
        """Lines of a bar chart, the background's among them; where there is no label, the first one says why."""
        chosen = {match.index for match in self.above()} if self.multi_label else {self.index}
        rows = [display.Bar(match.label, match.score, match.index in chosen) for match in self.top(top_k)]
        if self.background:
            place = sum(match.score >= self.background for match in self.top(top_k))
            rows.insert(place, display.Bar(NONE, self.background, is_none=True))
        if self.index is None and self.background <= self.score:
            rows.insert(0, display.Bar(f"(none reaches {100 * self.threshold:.6g}%)", None, is_none=True))
        return rows

    def _panel(self, top_k: int) -> Panel:
        return Panel(pictures.small(self._image, _IN_FIGURE), self._bars(top_k))

    def _top_k(self, top_k: int | None) -> int:
        return self.top_k if top_k is None else check_positive("top_k", top_k)

    # --------------------------------------------------------------------------------------------------- passing on

    def to_dict(self, *, top_k: int | None = None) -> dict[str, Any]:
        """Return the label and the most probable classes as JSON has it.

        Parameters
        ----------
        top_k : int, optional
            How many classes; by default `top_k` of the prediction.

        Returns
        -------
        dict
            ``image`` (its path or URL, or None), ``label``, ``score``, ``index``, ``background``, and ``top``: a list
            of dicts with ``label``, ``score`` and ``index``.

        Examples
        --------
        >>> import zeroshot
        >>> found = zeroshot.classify("examples/images/cat.jpg", ["cat", "dog"], model="mini").to_dict(top_k=1)
        >>> found["image"], found["label"], [match["label"] for match in found["top"]]
        ('examples/images/cat.jpg', 'cat', ['cat'])
        """
        return {
            "image": pictures.name(self._image),
            "label": self.label,
            "score": self.score,
            "index": self.index,
            "background": self.background,
            "top": [match._asdict() for match in self.top(self._top_k(top_k))],
        }

    def to_frame(self) -> Any:
        """Return all classes as a table, the most probable first.

        Returns
        -------
        pandas.DataFrame
            Columns ``label``, ``score`` and ``index``, the position among the labels.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.

        Examples
        --------
        >>> import zeroshot
        >>> frame = zeroshot.classify("examples/images/cat.jpg", ["dog", "cat"], model="mini").to_frame()
        >>> frame["label"].tolist(), frame["index"].tolist()
        (['cat', 'dog'], [1, 0])
        """
        return import_pandas().DataFrame(self.top(len(self.labels)), columns=list(Match._fields))


class Predictions(list[Prediction]):
    """A list of predictions that shows itself as a grid; in all else it is a list.

    Examples
    --------
    >>> import zeroshot
    >>> clf = zeroshot.Classifier(["cat", "cup of coffee"], model="mini")
    >>> found = clf(["examples/images/cat.jpg", "examples/images/coffee.jpg"])
    >>> isinstance(found, list), [prediction.label for prediction in found]
    (True, ['cat', 'cup of coffee'])
    >>> type(found.plot(columns=2)).__name__, found.to_dict(top_k=1)[0]["label"]
    ('Figure', 'cat')
    """

    __slots__ = ()

    @overload
    def __getitem__(self, index: SupportsIndex) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Prediction | Predictions:
        """One of them, or a part that is shown as the whole is."""
        return Predictions(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def _repr_html_(self) -> str:
        """Pictures with their labels, for notebooks; the first ones where there are many."""
        cards = [
            display.Card(
                pictures.small(one._image, _IN_GRID),
                pictures.name(one._image) or "",
                one._bars(min(one.top_k, _CLASSES_OF_EACH)),
            )
            for one in self[:_SHOWN]
        ]
        more = len(self) - _SHOWN
        if not cards:
            return display.page(display.title("no predictions"))
        return display.page(display.grid(cards), f"and {display.plural(more, 'more image')}" if more > 0 else "")

    def plot(self, *, columns: int = 4, limit: int = _SHOWN) -> Any:
        """Draw the pictures with bar charts of their most probable classes in a grid.

        Parameters
        ----------
        columns : int
            How many stand beside each other, at least 1.
        limit : int
            How many are drawn at most: the first ones.

        Returns
        -------
        matplotlib.figure.Figure
            As `Prediction.plot` returns it.

        Raises
        ------
        OptionError
            If there are none, or an option is out of its range.
        MissingExtraError
            If matplotlib is not installed.
        """
        columns, limit = check_positive("columns", columns), check_positive("limit", limit)
        if not self:
            raise OptionError("there are no predictions to draw; expected at least one")
        panels = [one._panel(min(one.top_k, _CLASSES_OF_EACH)) for one in self[:limit]]
        return plot_panels(panels, columns=columns)

    def to_dict(self, *, top_k: int | None = None) -> list[dict[str, Any]]:
        """Return what `Prediction.to_dict` returns of each, in order.

        Parameters
        ----------
        top_k : int, optional
            As `Prediction.to_dict` takes it.
        """
        return [one.to_dict(top_k=top_k) for one in self]

    def to_frame(self, *, probabilities: bool = False) -> Any:
        """Return a table with a row for each image, in order.

        Parameters
        ----------
        probabilities : bool
            Add a column for each class, called as its label, in the order of the labels; names may repeat.

        Returns
        -------
        pandas.DataFrame
            Columns ``image`` (path or URL, or missing), ``label`` (or missing), ``score``, and ``index``, the position
            among the labels (or missing).

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        OptionError
            If columns are asked for and the predictions are of several classifiers.

        Examples
        --------
        >>> import zeroshot
        >>> zeroshot.classify(["examples/images/cat.jpg"], ["cat", "dog"], model="mini").to_frame()["label"].tolist()
        ['cat']
        """
        pandas = import_pandas()
        frame = pandas.DataFrame(
            {
                "image": pandas.Series([pictures.name(one._image) for one in self], dtype=object),
                "label": pandas.Series([one.label for one in self], dtype=object),
                "score": pandas.Series([one.score for one in self], dtype="float64"),
                "index": pandas.Series([one.index for one in self], dtype="Int64"),
            }
        )
        if not probabilities or not self:
            return frame
        labels = self[0].labels
        if any(one.labels != labels for one in self):
            raise OptionError("probabilities were asked for of predictions with different labels; expected the same")
        columns = pandas.DataFrame(np.stack([one.probabilities for one in self]), columns=list(labels))
        return pandas.concat([frame, columns], axis=1)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One image of a stream: its prediction, or why there is none.

    Attributes
    ----------
    index : int
        Its position in the iterable, from 0.
    source : Any
        What the iterable gave; of an `Item`, its source.
    prediction : Prediction or None
    error : ZeroShotError or None

    Examples
    --------
    >>> import zeroshot
    >>> clf = zeroshot.Classifier(["cat", "dog"], model="mini")
    >>> outcome = next(clf.stream(["examples/images/cat.jpg"]))
    >>> outcome.index, outcome.source, outcome.prediction.label, outcome.error
    (0, 'examples/images/cat.jpg', 'cat', None)
    """

    index: int
    source: Any
    prediction: Prediction | None
    error: ZeroShotError | None

    def _repr_html_(self) -> str:
        """The bar chart, or what is wrong, for notebooks."""
        source = pictures.name(self.source) or type(self.source).__name__
        if self.prediction is None:
            return display.page(display.title(source, self.error or ""))
        return display.page(display.title(source), Html(self.prediction._repr_html_()))


def _short(name: str) -> str:
    """A name in a line of text."""
    return name if len(name) <= _NAME else shorten(name, _NAME)


def _bar(share: float, width: int) -> str:
    """A bar of block characters, to an eighth of a character."""
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")
