"""Robustness to natural distribution shifts: how far accuracy drops, and how much more it does for other models.

Across models trained on ImageNet the accuracy under a distribution shift is a straight line over the accuracy on
ImageNet when both are written as log-odds (Taori et al., Measuring Robustness to Natural Distribution Shifts in Image
Classification, NeurIPS 2020). *Effective robustness* is what a model reaches above that line, *relative robustness*
what it reaches above another model; CLIP's paper measures both in section 3.3 and figures 13 to 15.

The line is fitted here to the accuracies that Taori et al. published (`data/imagenet_testbed.csv`), or to points of
your own.
All accuracies are shares, 0 to 1.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zeroshot.errors import InputTypeError, OptionError
from zeroshot.figures import new_figure, save_figure
from zeroshot.shifts import IMAGENET, available_shifts, shift_table

LEVEL, RESAMPLES, SEED = 0.95, 1000, 0
STANDARD = "standard"
AVERAGE = "average"

Floats: TypeAlias = npt.NDArray[np.float64]


def logit(accuracy: Any) -> Floats:
    """Return the log-odds ``log(p / (1 - p))`` of accuracies in [0, 1]; infinite at 0 and 1.

    Parameters
    ----------
    accuracy : array-like of float, in [0, 1]

    Returns
    -------
    ndarray of float64, of the shape of `accuracy`

    Examples
    --------
    >>> logit([0.5, 0.75]).round(4).tolist()
    [0.0, 1.0986]
    """
    share = np.asarray(accuracy, dtype=np.float64)
    with np.errstate(divide="ignore"):
        result: Floats = np.log(share) - np.log1p(-share)
    return result


def expit(log_odds: Any) -> Floats:
    """Return the accuracies that have these log-odds: the inverse of `logit`.

    Parameters
    ----------
    log_odds : array-like of float

    Returns
    -------
    ndarray of float64, of the shape of `log_odds`; in [0, 1]

    Examples
    --------
    >>> float(expit(0.0)), float(expit(float("-inf")))
    (0.5, 0.0)
    """
    values = np.asarray(log_odds, dtype=np.float64)
    small = np.exp(-np.abs(values))  # never overflows
    result: Floats = np.where(values >= 0, 1, small) / (1 + small)
    return result


# ----------------------------------------------------------------------------------------------------------- the line


@dataclass(frozen=True)
class Line:
    """A straight line between log-odds: ``logit(shifted) = slope * logit(reference) + intercept``.

    Attributes
    ----------
    slope, intercept : float
    n_models : int
        How many points it was fitted to.
    r_squared : float
        Share of the variance of the log-odds that it explains, in [0, 1].

    Examples
    --------
    >>> line = Line(slope=1.0, intercept=0.0, n_models=2, r_squared=1.0)
    >>> round(float(line(0.75)), 3)
    0.75
    """

    slope: float
    intercept: float
    n_models: int
    r_squared: float

    def __call__(self, reference: Any) -> Floats:
        """Return the accuracy under the shift that goes with one on the reference.

        Parameters
        ----------
        reference : array-like of float, in [0, 1]

        Returns
        -------
        ndarray of the shape of `reference`, float64
            In [0, 1].
        """
        return expit(self.slope * logit(reference) + self.intercept)


def fit_line(reference: Any, shifted: Any) -> Line:
    """Fit a line to the log-odds of accuracies by least squares.

    Parameters
    ----------
    reference, shifted : array-like of shape (n_models,)
        Accuracies of the same models on the reference and under the shift, in (0, 1).

    Returns
    -------
    Line

    Raises
    ------
    InputTypeError
        If they are no numbers.
    OptionError
        If they differ in length, lie outside of (0, 1), where log-odds are infinite, or do not make a line: two models
        with different accuracies on the reference are the least.

    Examples
    --------
    >>> line = fit_line([0.5, 0.75, 0.9], [0.25, 0.5, 0.75])
    >>> round(line.slope, 3), round(float(line(0.75)), 3)
    (1.0, 0.5)
    """
    x, y = logit(_inner("reference", reference)), logit(_inner("shifted", shifted))
    if x.shape != y.shape:
        raise OptionError(f"reference has {len(x)} accuracies, shifted {len(y)}; expected one of each for every model")
    if len(x) < 2 or not np.ptp(x) > 0:
        raise OptionError(
            f"a line needs two models that differ on the reference; {len(x)} came"
            + ("" if len(x) < 2 else " with the same accuracy")
        )
    slope, intercept = _least_squares(x, y)
    rest, spread = np.square(y - slope * x - intercept).sum(), np.square(y - y.mean()).sum()
    return Line(float(slope), float(intercept), len(x), float(1 - rest / spread) if spread > 0 else 1.0)


def _least_squares(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept over the last axis."""
    x_mean, y_mean = x.mean(axis=-1, keepdims=True), y.mean(axis=-1, keepdims=True)
    slope = ((x - x_mean) * (y - y_mean)).sum(axis=-1) / np.square(x - x_mean).sum(axis=-1)
    return slope, y_mean[..., 0] - slope * x_mean[..., 0]


@dataclass(frozen=True, eq=False)
class Baseline:
    """Models to be compared with, and the line through those of standard training.

    Attributes
    ----------
    models : tuple of str
        All models of which both accuracies are known.
    reference, shifted : ndarray of shape (n_models,), float64
        Their accuracies, in [0, 1].
    fitted : ndarray of shape (n_models,), bool
        Which of them the line is fitted to.
    lines : tuple of Line
        One; or two, below and above `knee`.
    knee : float or None
        The accuracy on the reference at which the line bends.
    source : str
        Where the accuracies are from.

    Examples
    --------
    >>> baseline = load_baseline("imagenet_r")
    >>> round(baseline.expected(0.881), 3), [round(end, 3) for end in baseline.interval(0.881)]
    (0.303, [0.295, 0.31])
    >>> low, high = baseline.band([0.7, 0.8, 0.9])
    >>> low.shape, bool((low < high).all())
    ((3,), True)
    >>> baseline.accuracies("resnet101")
    (0.9288, 0.393067)
    """

    models: tuple[str, ...]
    reference: Floats
    shifted: Floats
    fitted: npt.NDArray[np.bool_]
    knee: float | None = None
    source: str = "your own points"
    lines: tuple[Line, ...] = field(init=False)

    def __post_init__(self) -> None:
        parts = [(self.reference[part], self.shifted[part]) for part in self._parts()]
        object.__setattr__(self, "lines", tuple(fit_line(x, y) for x, y in parts))

    @classmethod
    def from_points(
        cls, reference: Any, shifted: Any, *, models: Sequence[str] | None = None, knee: float | None = None
    ) -> Baseline:
        """Make a baseline of your own models; the line is fitted to all of them.

        Parameters
        ----------
        reference, shifted : array-like of shape (n_models,)
            Accuracies in (0, 1).
        models : sequence of str, optional
            Their names; with names an average over several shifts can be formed.
        knee : float, optional
            Fit one line to the models below this accuracy on the reference, and another one to those above.

        Returns
        -------
        Baseline

        Raises
        ------
        InputTypeError, OptionError
            As `fit_line` does.

        Examples
        --------
        >>> baseline = Baseline.from_points([0.6, 0.7, 0.8], [0.4, 0.5, 0.6])
        >>> round(baseline.expected(0.7), 2)
        0.49
        """
        x, y = _inner("reference", reference), _inner("shifted", shifted)
        if x.shape != y.shape:
            raise OptionError(f"reference has {len(x)} accuracies, shifted {len(y)}; expected one of each for a model")
        names = tuple(f"model {index}" for index in range(len(x))) if models is None else tuple(models)
        if len(names) != len(x) or len(set(names)) != len(names):
            raise OptionError(f"models are {len(names)} names for {len(x)} accuracies; expected a name of its own each")
        return cls(names, x, y, np.ones(len(x), dtype=np.bool_), knee)

    def expected(self, reference: float) -> float:
        """Return the accuracy under the shift that the line gives for an accuracy on the reference.

        Parameters
        ----------
        reference : float, in (0, 1)

        Raises
        ------
        InputTypeError, OptionError
            If `reference` is no number in [0, 1].
        """
        return float(self._line(reference)(_share("reference", reference)))

    def interval(self, reference: float) -> tuple[float, float]:
        """Return the 95% interval of `expected`: the percentile bootstrap over models, 1000 draws with a fixed seed.

        It says how sure the line is, not how far single models lie from it.

        Parameters
        ----------
        reference : float, in (0, 1)
        """
        low, high = self.band([reference])
        return float(low[0]), float(high[0])

    def band(self, reference: Any) -> tuple[Floats, Floats]:
        """Return the ends of `interval` for several accuracies on the reference; each (n,) float64.

        Parameters
        ----------
        reference : array-like of shape (n,), in (0, 1)
        """
        values = np.asarray(reference, dtype=np.float64)
        low, high = np.empty_like(values), np.empty_like(values)
        for number, part in enumerate(self._parts()):
            here = np.array([self._part_of(value) == number for value in values], dtype=np.bool_)
            if here.any():
                low[here], high[here] = _bootstrap(logit(self.reference[part]), logit(self.shifted[part]), values[here])
        return low, high

    def accuracies(self, model: str) -> tuple[float, float]:
        """Return the accuracies of one of the models on the reference and under the shift.

        Parameters
        ----------
        model : str
            One of `models`.

        Raises
        ------
        OptionError
            If there is no such model.
        """
        if model not in self.models:
            raise OptionError(f"model {model!r} is not in the baseline; it has {', '.join(self.models[:5])}, …")
        index = self.models.index(model)
        return float(self.reference[index]), float(self.shifted[index])

    def _parts(self) -> list[npt.NDArray[np.bool_]]:
        if self.knee is None:
            return [self.fitted]
        return [self.fitted & (self.reference < self.knee), self.fitted & (self.reference > self.knee)]

    def _part_of(self, reference: float) -> int:
        return 0 if self.knee is None or reference <= self.knee else 1

    def _line(self, reference: float) -> Line:
        return self.lines[self._part_of(reference)]


def _bootstrap(x: Floats, y: Floats, reference: Floats) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(SEED)
    chosen = rng.integers(len(x), size=(RESAMPLES, len(x)))
    chosen = chosen[np.ptp(x[chosen], axis=1) > 0]  # a draw of one model alone makes no line
    slope, intercept = _least_squares(x[chosen], y[chosen])
    # Log-odds of 0 and 1 are infinite, and so are both ends of the band there.
    values = expit(slope[:, None] * logit(reference)[None, :] + intercept[:, None])
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return low, high


def load_baseline(shift: str) -> Baseline:
    """Return the published accuracies of ImageNet models for a shift, with the line through those of standard training.

    Parameters
    ----------
    shift : str
        A name from `shifts.available_shifts`; for ``imagenet_vid`` and ``youtube_bb`` the mean of both settings, as in
        CLIP's paper, or with the suffix ``_pm0`` or ``_pm10`` one of them.

    Raises
    ------
    OptionError
        If there is no such shift.

    Examples
    --------
    >>> baseline = load_baseline("imagenet_r")
    >>> baseline.lines[0].n_models
    80
    >>> baseline.accuracies("resnet101")
    (0.9288, 0.393067)
    """
    return _baseline(shift)


@lru_cache(maxsize=32)
def _baseline(shift: str) -> Baseline:
    entry, columns = _columns(shift)
    rows = [row for row in _testbed() if all(row[column] for column in (entry["classes"], *columns))]
    models = tuple(row["model"] for row in rows)
    # From per cent; the published figures have no more than these digits.
    reference = np.array([round(float(row[entry["classes"]]) / 100, 6) for row in rows])
    shifted = np.array([np.mean([round(float(row[column]) / 100, 6) for column in columns]) for row in rows])
    fitted = np.array([_is_fitted(row, entry) for row in rows])
    knee = entry["knee"] / 100 if "knee" in entry else None
    return Baseline(models, reference, shifted, fitted, knee, "Taori et al., 2020")


def _columns(shift: str) -> tuple[dict[str, Any], list[str]]:
    for entry in shift_table().values():
        if shift in entry["accuracy"]:
            return entry, [shift]
    if shift not in shift_table():
        raise OptionError(f"shift {shift!r} is not known; expected one of {', '.join(available_shifts())}")
    return shift_table()[shift], shift_table()[shift]["accuracy"]


def _is_fitted(row: Mapping[str, str], entry: Mapping[str, Any]) -> bool:
    # As in the test bed: single classes of one training run (aws, batch64) would weigh it too much.
    return (
        row["training"] == STANDARD
        and float(row[entry["classes"]]) >= entry["lowest"]
        and not any(part in row["model"] for part in ("aws", "batch64"))
        and row["model"] not in entry.get("without", ())
    )


@lru_cache(maxsize=1)
def _testbed() -> list[dict[str, str]]:
    text = resources.files("zeroshot").joinpath("data/imagenet_testbed.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


# ---------------------------------------------------------------------------------------------------------- the terms


def effective_robustness(reference: float, shifted: float, baseline: Baseline | Line) -> float:
    """Return the accuracy under a shift less what the baseline's line gives: ``shifted - line(reference)``.

    Taori et al., section 2. In [-1, 1]; 0 for a model on the line, whatever its accuracy.

    Parameters
    ----------
    reference, shifted : float, in [0, 1]
        Top-1 on the reference and under the shift.
    baseline : Baseline or Line

    Raises
    ------
    InputTypeError, OptionError
        If an accuracy is no number in [0, 1].

    Examples
    --------
    >>> round(effective_robustness(0.881, 0.692566, load_baseline("imagenet_r")), 3)  # CLIP ViT-B/32
    0.39
    """
    x, y = _share("reference", reference), _share("shifted", shifted)
    return y - (baseline.expected(x) if isinstance(baseline, Baseline) else float(baseline(x)))


def relative_robustness(shifted: float, base: float) -> float:
    """Return the accuracy under a shift less that of another model, in [-1, 1].

    Taori et al., section 2, where the other one is the model that an intervention was made on.

    Parameters
    ----------
    shifted, base : float, in [0, 1]
        Top-1 under the shift of the model, and of the other one.

    Raises
    ------
    InputTypeError, OptionError
        If an accuracy is no number in [0, 1].

    Examples
    --------
    >>> relative_robustness(0.75, 0.5)
    0.25
    """
    return _share("shifted", shifted) - _share("base", base)


def pm_k_accuracy(correct: Any, frames: Any) -> float:
    """Return the share of frames of videos that are recognised together with all their neighbours, in [0, 1].

    The pm-k accuracy of Shankar et al., Do Image Classifiers Generalize Across Time?, 2019: with neighbours up to k
    frames away in both directions, pm-10 for ImageNet-Vid and YouTube-BB; pm-0 takes the frames alone.

    Parameters
    ----------
    correct : array-like of shape (n_images,), bool
        Whether each image is recognised.
    frames : array-like of shape (n_images,)
        Which frame each image belongs to, as itself or as a neighbour: any value, equal for those that go together.

    Raises
    ------
    OptionError
        If they differ in length or are empty.

    Examples
    --------
    >>> pm_k_accuracy([True, True, True, False], ["a", "a", "b", "b"])
    0.5
    """
    right, groups = np.asarray(correct, dtype=np.bool_), np.asarray(frames)
    if right.ndim != 1 or right.shape != groups.shape or not len(right):
        raise OptionError(
            f"correct has the shape {right.shape}, frames {groups.shape}; expected a frame for each image"
        )
    names, place = np.unique(groups, return_inverse=True)
    wrong = np.bincount(place.reshape(-1), weights=~right, minlength=len(names))
    return float((wrong == 0).mean())


# ----------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class ShiftResult:
    """What a model reaches under one shift.

    Attributes
    ----------
    shift, title : str
    reference, accuracy : float
        Top-1 on ImageNet's images of the shift's classes, and under the shift; in [0, 1].
    expected : float or None
        What the baseline's line gives at `reference`; None without a baseline.
    expected_interval : tuple of float or None
        95% interval of that.
    effective, relative : float or None
        Effective robustness; relative robustness, where there is a model to compare with.
    n_images : int or None
        How many images `accuracy` was measured on, where that is known.

    Examples
    --------
    >>> result = evaluate_robustness({"imagenet_r": (0.881, 0.693)}).results[0]
    >>> result.title, round(result.expected, 3), round(result.effective, 3), result.relative
    ('ImageNet-R', 0.303, 0.39, None)
    """

    shift: str
    title: str
    reference: float
    accuracy: float
    expected: float | None = None
    expected_interval: tuple[float, float] | None = None
    effective: float | None = None
    relative: float | None = None
    n_images: int | None = None


@dataclass(frozen=True, eq=False)
class Robustness:
    """What `evaluate_robustness` found; `print` shows a table, a notebook the table and the figure.

    Attributes
    ----------
    results : tuple of ShiftResult
        In the order given.
    average : ShiftResult or None
        Over several shifts, as in figure 13 of CLIP's paper: the means of both accuracies, against a line through such
        means of the models that all the baselines have.
    name : str
        What the model is called.
    base : str or None
        The model that `relative` compares with.
    baselines : dict of str to Baseline
        By the names of the shifts, and ``"average"``.
    notes : tuple of str
        What a reader should know, such as images that could not be read.

    Examples
    --------
    >>> found = evaluate_robustness({"imagenet_r": (0.881, 0.693)}, base="resnet101")
    >>> found.rows == found.results, sorted(found.to_dict())
    (True, ['average', 'base', 'baselines', 'model', 'notes', 'shifts'])
    >>> found.save_figure("robustness.png")  # doctest: +SKIP
    >>> type(found.figure()).__name__  # with the extra `plot`
    'Figure'
    """

    results: tuple[ShiftResult, ...]
    average: ShiftResult | None
    name: str
    base: str | None
    baselines: Mapping[str, Baseline]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[ShiftResult, ...]:
        """Return the results, and the average if there is one."""
        return self.results if self.average is None else (*self.results, self.average)

    def __str__(self) -> str:
        """A table, for `print`, in per cent and percentage points."""
        table = self._table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in table
        ]
        return "\n".join([f"model: {self.name}", "", *(line.rstrip() for line in lines), "", self._note(), *self.notes])

    def _repr_html_(self) -> str:
        head, *rows = self._table()
        lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
        lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
        return (
            f"<p>model: {html.escape(self.name)}</p><table>{''.join(lines)}</table><p>{html.escape(self._note())}</p>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all that is known as plain lists, dicts and numbers, ready for JSON."""
        return {
            "model": self.name,
            "base": self.base,
            "notes": list(self.notes),
            "shifts": [_as_dict(result) for result in self.results],
            "average": None if self.average is None else _as_dict(self.average),
            "baselines": {
                name: {
                    "source": baseline.source,
                    "knee": baseline.knee,
                    "lines": [
                        {"slope": x.slope, "intercept": x.intercept, "n_models": x.n_models, "r_squared": x.r_squared}
                        for x in baseline.lines
                    ],
                }
                for name, baseline in self.baselines.items()
            },
        }

    def figure(self, *, compare: Mapping[str, Robustness] | None = None) -> Any:
        """Draw accuracy under each shift over accuracy on ImageNet, on logit-scaled axes, as figure 13 of the paper.

        One panel a shift, and one for the average: the baseline's models, the line through those of standard training
        with its 95% band, the diagonal of an ideally robust model, and this model as a star.

        Parameters
        ----------
        compare : mapping from name to Robustness, optional
            Other models, or the same one adapted, drawn as well: figures 14 and 15.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        OptionError
            If there is no baseline for any of the shifts.
        """
        shown = [row for row in self.rows if row.shift in self.baselines]
        if not shown:
            raise OptionError("none of the shifts has a baseline to draw; give one with baselines={name: Baseline…}")
        columns = min(len(shown), 4)
        lines = -(-len(shown) // columns)
        figure = new_figure(4.2 * columns, 4.2 * lines + 0.5)
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, row in zip(grid, shown, strict=False):
            others = {
                name: other
                for name, result in (compare or {}).items()
                for other in result.rows
                if other.shift == row.shift
            }
            _draw(axes, row, self.baselines[row.shift], self.name, others)
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        return figure

    def save_figure(self, path: str | Any) -> None:
        """Write `figure` to a file whose suffix names the format: ``.png``, ``.svg`` or ``.pdf``.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        OptionError
            If there is no baseline for any of the shifts.
        """
        save_figure(self.figure(), path)

    def _table(self) -> list[list[str]]:
        head = ["shift", "ImageNet", "shifted", "expected", "effective"]
        table = [head if self.base is None else [*head, "relative"]]
        for row in self.rows:
            expected = "-"
            if row.expected is not None and row.expected_interval is not None:
                low, high = (f"{100 * end:.1f}" for end in row.expected_interval)
                expected = f"{row.expected:.1%} [{low}, {high}]"
            cells = [row.title, f"{row.reference:.1%}", f"{row.accuracy:.1%}", expected, _points(row.effective)]
            table.append(cells if self.base is None else [*cells, _points(row.relative)])
        return table

    def _note(self) -> str:
        note = "ImageNet: on the shift's classes."
        sources = sorted({baseline.source for baseline in self.baselines.values()})
        if sources:
            note += (
                f" Expected: by the line of the baseline ({'; '.join(sources)}) and its 95% interval. Effective: "
                "percentage points above it."
            )
        if any(result.shift not in self.baselines for result in self.results):
            note += " A dash: no baseline."
        return note + ("" if self.base is None else f" Relative: percentage points above {self.base}.")


def evaluate_robustness(
    measured: Mapping[str, Any],
    *,
    name: str = "this model",
    base: str | Mapping[str, float] | None = None,
    baselines: Mapping[str, Baseline] | None = None,
) -> Robustness:
    """Compute effective and relative robustness from measured accuracies.

    Parameters
    ----------
    measured : mapping from shift to accuracies
        For each shift a pair (on ImageNet's images of the shift's classes, under the shift) of top-1 accuracies in
        [0, 1], or of results that hold them, such as `Evaluation`. For shifts with all of ImageNet's classes the one
        under the shift is enough where the key ``"imagenet"`` holds the other. Shifts of other names have a baseline
        only if `baselines` gives it.
    name : str
        What the model is called.
    base : str, or mapping from shift to accuracy under the shift, optional
        The model that relative robustness compares with: one of the test bed, such as ``"resnet101"``, with which the
        paper compares its best model, or the accuracies of another one.
    baselines : mapping from shift to Baseline, optional
        In place of the published ones.

    Returns
    -------
    Robustness

    Raises
    ------
    OptionError
        If there is no shift, an accuracy lies outside of [0, 1], or one on ImageNet is lacking.
    InputTypeError
        If an accuracy is none.

    Examples
    --------
    >>> robustness = evaluate_robustness(
    ...     {"imagenet": 0.633, "imagenet_v2": 0.558, "imagenet_r": (0.881, 0.693)}, name="CLIP ViT-B/32"
    ... )
    >>> [f"{result.shift} {result.effective:+.1%}" for result in robustness.rows]
    ['imagenet_v2 +5.7%', 'imagenet_r +39.0%', 'average +22.6%']
    """
    if not isinstance(measured, Mapping):
        raise InputTypeError(
            f"measured is of type {type(measured).__name__}; expected a mapping such as {{'imagenet_r': (0.88, 0.69)}}"
        )
    pairs = {
        shift: _pair(shift, value, measured.get(IMAGENET)) for shift, value in measured.items() if shift != IMAGENET
    }
    if not pairs:
        raise OptionError(
            f"measured names no shift, only {list(measured)}; expected at least one, such as "
            "{'imagenet_r': (0.88, 0.69)}"
        )
    lines: dict[str, Baseline] = {}
    for shift in pairs:
        if baselines is not None and shift in baselines:
            lines[shift] = baselines[shift]
        elif _is_published(shift):
            lines[shift] = load_baseline(shift)
    others = _base(base, pairs, lines)
    results = tuple(_result(shift, *pair, lines.get(shift), others.get(shift)) for shift, pair in pairs.items())
    average = None
    if len(results) > 1:
        means = [result for result in results if result.shift.rpartition("_pm")[0] not in pairs]
        average, line = _average(means, lines)
        if line is not None:
            lines[AVERAGE] = line
    return Robustness(results, average, name, base if isinstance(base, str) else "the base" if base else None, lines)


def _result(
    shift: str,
    reference: float,
    accuracy: float,
    n_images: int | None,
    baseline: Baseline | None,
    other: float | None,
    title: str | None = None,
) -> ShiftResult:
    relative = None if other is None else relative_robustness(accuracy, other)
    title = _title(shift) if title is None else title
    if baseline is None:
        return ShiftResult(shift, title, reference, accuracy, relative=relative, n_images=n_images)
    expected, interval = baseline.expected(reference), baseline.interval(reference)
    return ShiftResult(shift, title, reference, accuracy, expected, interval, accuracy - expected, relative, n_images)


def _average(results: Sequence[ShiftResult], lines: Mapping[str, Baseline]) -> tuple[ShiftResult, Baseline | None]:
    reference = float(np.mean([result.reference for result in results]))
    accuracy = float(np.mean([result.accuracy for result in results]))
    relatives = [result.relative for result in results if result.relative is not None]
    relative = float(np.mean(relatives)) if len(relatives) == len(results) else None
    found = [lines[result.shift] for result in results if result.shift in lines]
    line = _mean_baseline(found) if len(found) == len(results) else None
    title = f"average of {len(results)}"
    mean = _result(AVERAGE, reference, accuracy, None, line, None, title)
    return ShiftResult(**{**vars(mean), "relative": relative}), line


def _mean_baseline(baselines: Sequence[Baseline]) -> Baseline | None:
    """Average the accuracies of the models that all have; the line goes through those that all fit theirs to."""
    models = [name for name in baselines[0].models if all(name in other.models for other in baselines[1:])]
    if not models:
        return None
    rows = [[baseline.models.index(name) for name in models] for baseline in baselines]
    reference = np.mean([baseline.reference[row] for baseline, row in zip(baselines, rows, strict=True)], axis=0)
    shifted = np.mean([baseline.shifted[row] for baseline, row in zip(baselines, rows, strict=True)], axis=0)
    fitted = np.all([baseline.fitted[row] for baseline, row in zip(baselines, rows, strict=True)], axis=0)
    if fitted.sum() < 2:
        return None
    return Baseline(tuple(models), reference, shifted, fitted, None, baselines[0].source)


def _base(
    base: str | Mapping[str, float] | None, shifts: Iterable[str], lines: Mapping[str, Baseline]
) -> dict[str, float]:
    if base is None:
        return {}
    if isinstance(base, str):
        return {shift: lines[shift].accuracies(base)[1] for shift in shifts if shift in lines}
    if not isinstance(base, Mapping):
        raise InputTypeError(
            f"base is of type {type(base).__name__}; expected a model's name, or a mapping from shifts"
        )
    return {shift: _share(f"base[{shift!r}]", value) for shift, value in base.items()}


def _pair(shift: str, value: Any, imagenet: Any) -> tuple[float, float, int | None]:
    reference, shifted = value if isinstance(value, (tuple, list)) and len(value) == 2 else (None, value)
    if reference is None:
        whole = shift in shift_table() and shift_table()[shift]["classes"] == IMAGENET
        if imagenet is None or not whole:
            raise OptionError(
                f"measured[{shift!r}] is {value!r}; expected a pair of accuracies, the first one on those images of "
                "ImageNet that show the shift's classes"
                + (", or that one under the key 'imagenet'" if whole else ", among these classes")
            )
        reference = imagenet
    return (
        _top_1(f"the accuracy on ImageNet of {shift!r}", reference)[0],
        *_top_1(f"the accuracy of {shift!r}", shifted),
    )


def _top_1(name: str, value: Any) -> tuple[float, int | None]:
    metrics = getattr(value, "metrics", None)
    if isinstance(metrics, Mapping):  # an `Evaluation`, which stands above this module
        if "top_1" not in metrics:
            raise OptionError(f"{name} is an evaluation without top-1: its images show several classes")
        return _share(name, metrics["top_1"].value), getattr(value, "n_images", None)
    return _share(name, value), None


def _is_published(shift: str) -> bool:
    return any(shift == name or shift in entry["accuracy"] for name, entry in shift_table().items())


def _title(shift: str) -> str:
    name, mark, setting = shift.rpartition("_pm")
    title = shift_table().get(name if mark else shift, {}).get("title")
    return shift if title is None else f"{title} (pm-{setting})" if mark else str(title)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputTypeError(f"{name} is {value!r} of type {type(value).__name__}; expected an accuracy in [0, 1]")
    if not 0 <= value <= 1:
        hint = f"; if it is in per cent, divide by 100: {value / 100:g}" if 1 < value <= 100 else ""
        raise OptionError(f"{name} is {value!r}; expected an accuracy in [0, 1]{hint}")
    return float(value)


def _inner(name: str, values: Any) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{name} cannot be read as accuracies: {error}; expected a list of numbers") from error
    if array.ndim != 1:
        raise OptionError(f"{name} has the shape {array.shape}; expected (n_models,)")
    outside = np.flatnonzero(~((array > 0) & (array < 1)))
    if len(outside):
        raise OptionError(
            f"{name}[{outside[0]}] is {array[outside[0]]:g}; expected accuracies between 0 and 1 and neither of them, "
            "since their log-odds are infinite: leave the model out"
        )
    return array


def _as_dict(result: ShiftResult) -> dict[str, Any]:
    values = dict(vars(result))
    if result.expected_interval is not None:
        values["expected_interval"] = list(result.expected_interval)
    return values


def _points(difference: float | None) -> str:
    return "-" if difference is None else f"{round(100 * difference, 1) + 0.0:+.1f}"  # + 0.0: no "-0.0"


# ------------------------------------------------------------------------------------------------------------ figure

# Grey and coloured so that print and colour blindness leave them apart.
_STANDARD, _OTHER, _OURS, _LINE = "#4c78a8", "#bab0ac", "#c8102e", "#4c78a8"
_MARKERS = ("P", "X", "D", "v", "s")


def _draw(axes: Any, row: ShiftResult, baseline: Baseline, name: str, others: Mapping[str, ShiftResult]) -> None:
    inside = (baseline.shifted > 0) & (baseline.shifted < 1) & (baseline.reference > 0) & (baseline.reference < 1)
    fitted, rest = baseline.fitted & inside, ~baseline.fitted & inside
    # What lies far below the models of the line (adversarially trained ones) would squeeze the rest.
    rest &= baseline.reference >= baseline.reference[fitted].min() - 0.02
    measured = [row, *others.values()]
    x = np.concatenate([baseline.reference[fitted | rest], [each.reference for each in measured]])
    y = np.concatenate([baseline.shifted[fitted | rest], [each.accuracy for each in measured]])
    x, y = (np.clip(values, 0.002, 0.998) for values in (x, y))
    limits = [expit(np.array([logit(v.min()) - 0.25, logit(v.max()) + 0.25])) for v in (x, y)]
    ends = limits[0]
    grid = expit(np.linspace(logit(ends[0]), logit(ends[1]), 200))
    line = np.array([baseline.expected(float(value)) for value in grid])
    low, high = baseline.band(grid)
    if rest.any():
        axes.scatter(baseline.reference[rest], baseline.shifted[rest], s=10, c=_OTHER, label="other models")
    axes.scatter(baseline.reference[fitted], baseline.shifted[fitted], s=14, c=_STANDARD, label="standard training")
    axes.plot(grid, line, c=_LINE, lw=1.5, label="fit to these, 95%")
    axes.fill_between(grid, low, high, color=_LINE, alpha=0.25, lw=0)
    axes.plot(grid, grid, c="black", lw=1, ls="--", label="ideally robust")
    for marker, (other, result) in zip(_MARKERS * len(others), others.items(), strict=False):
        axes.plot([result.reference], [result.accuracy], marker, ms=8, mec="black", mew=0.6, ls="none", label=other)
    axes.plot([row.reference], [row.accuracy], "*", ms=15, c=_OURS, mec="black", mew=0.6, ls="none", label=name)
    axes.set_title(row.title if row.effective is None else f"{row.title}: {_points(row.effective)} effective")
    axes.set_xlabel("ImageNet, these classes (top-1)")
    axes.set_ylabel("shifted (top-1)")
    for axis, (lower, upper) in zip("xy", limits, strict=True):
        getattr(axes, f"set_{axis}scale")("function", functions=(_safe_logit, expit))
        ticks = _ticks(lower, upper)
        getattr(axes, f"set_{axis}ticks")(ticks, [f"{100 * tick:g}" for tick in ticks], minor=False)
        getattr(axes, f"set_{axis}lim")(lower, upper)
    axes.grid(alpha=0.25)


def _safe_logit(values: Any) -> Floats:
    return logit(np.clip(values, 1e-6, 1 - 1e-6))  # matplotlib tries the scale on 0 and 1


def _ticks(lower: float, upper: float) -> list[float]:
    """At most seven percentages between two shares, as far apart as log-odds make them."""
    candidates = [0.002, 0.005, 0.01, 0.02, 0.05, *np.arange(0.1, 0.95, 0.1), 0.95, 0.98, 0.99, 0.995, 0.998]
    dense = [0.005, 0.01, 0.02, *np.arange(0.05, 1, 0.05), 0.98, 0.99, 0.995]
    inside = [round(float(tick), 4) for tick in candidates if lower <= tick <= upper]
    if len(inside) < 4:
        inside = [round(float(tick), 4) for tick in dense if lower <= tick <= upper]
    return inside
