"""Robustness to natural distribution shifts: how far accuracy drops, and how much more it does for other models.

*Effective robustness* is what a model reaches above the line through other models (`zeroshot.baselines`), *relative
robustness* what it reaches above another model (Taori et al., Measuring Robustness to Natural Distribution Shifts in
Image Classification, NeurIPS 2020); CLIP's paper measures both in section 3.3 and figures 13 to 15. All accuracies are
shares, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zeroshot.baselines import Baseline as Baseline
from zeroshot.baselines import Floats, check_share
from zeroshot.baselines import Line as Line
from zeroshot.baselines import expit as expit
from zeroshot.baselines import fit_line as fit_line
from zeroshot.baselines import load_baseline as load_baseline
from zeroshot.baselines import logit as logit
from zeroshot.display import Html, literal
from zeroshot.errors import InputTypeError, OptionError
from zeroshot.figures import new_figure, save_figure
from zeroshot.shifts import IMAGENET, shift_table
from zeroshot.tables import aligned, as_html

AVERAGE = "average"


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
    x, y = check_share("reference", reference), check_share("shifted", shifted)
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
    return check_share("shifted", shifted) - check_share("base", base)


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
        lines = aligned(self._table(), right=range(1, 6))
        return "\n".join([f"model: {self.name}", "", *lines, "", self._note(), *self.notes])

    def _repr_html_(self) -> str:
        return literal(Html(as_html(f"model: {self.name}", self._table(), self._note())))

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
    return {shift: check_share(f"base[{shift!r}]", value) for shift, value in base.items()}


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
        return check_share(name, metrics["top_1"].value), getattr(value, "n_images", None)
    return check_share(name, value), None


def _is_published(shift: str) -> bool:
    return any(shift == name or shift in entry["accuracy"] for name, entry in shift_table().items())


def _title(shift: str) -> str:
    name, mark, setting = shift.rpartition("_pm")
    title = shift_table().get(name if mark else shift, {}).get("title")
    return shift if title is None else f"{title} (pm-{setting})" if mark else str(title)


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
