"""What accuracy under a distribution shift a model's accuracy on ImageNet leads one to expect: lines between log-odds.

Across models trained on ImageNet the accuracy under a distribution shift is a straight line over the accuracy on
ImageNet when both are written as log-odds (Taori et al., Measuring Robustness to Natural Distribution Shifts in Image
Classification, NeurIPS 2020). The line is fitted here to the accuracies that they published
(`data/imagenet_testbed.csv`), or to points of your own. All accuracies are shares, 0 to 1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zeroshot.errors import InputTypeError, OptionError
from zeroshot.shifts import available_shifts, shift_table

LEVEL, RESAMPLES, SEED = 0.95, 1000, 0
STANDARD = "standard"

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
        return float(self._line(reference)(check_share("reference", reference)))

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


# ------------------------------------------------------------------------------------------------------------ checks


def check_share(name: str, value: Any) -> float:
    """Return an accuracy as a float, if it is one.

    Parameters
    ----------
    name : str
        What messages call it.
    value : float, in [0, 1]

    Raises
    ------
    InputTypeError
        If it is no number.
    OptionError
        If it lies outside of [0, 1].

    Examples
    --------
    >>> check_share("the accuracy", 0.5)
    0.5
    >>> check_share("the accuracy", 76.2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.OptionError: the accuracy is 76.2; expected an accuracy in [0, 1]; if it is in per cent, ... 0.762
    """
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
