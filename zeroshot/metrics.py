"""Metrics of probabilities and targets: how good a classifier is, and how far chance may have moved that number.

Nothing here knows a model, and nothing but NumPy is needed. `probabilities` is always (n_images, n_classes), columns in
the order of the labels; `targets` are positions of classes, (n_images,), or for images that show several classes at
once (n_images, n_classes) of True and False.

- Of equally probable classes the earlier one counts as the more probable, as in `Prediction.top`.
- Means over classes leave out classes without examples, and weigh all others alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from zeroshot.errors import InputTypeError, OptionError, check_positive

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]


class Estimate(NamedTuple):
    """A metric, and the ends of its bootstrap interval.

    Examples
    --------
    >>> evaluate_probabilities([[0.75, 0.25], [0.25, 0.75]], [0, 1]).top_1
    Estimate(value=1.0, low=1.0, high=1.0)
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """In per cent: ``76.2% (75.1% to 77.2%)``."""
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


class Confusion(NamedTuple):
    """Images of one class that are taken for another: positions of both among the labels, and how many they are.

    Examples
    --------
    >>> most_confused([[0.9, 0.1], [0.8, 0.2]], [0, 1])
    [Confusion(target=1, predicted=0, images=1)]
    """

    target: int
    predicted: int
    images: int


class Bin(NamedTuple):
    """Images whose most probable class has a probability in (`low`, `high`]: mean of it, and share that is right.

    Examples
    --------
    >>> rank_classes([[0.75, 0.25], [0.75, 0.25]], [0, 1]).reliability(bins=2)
    [Bin(low=0.5, high=1.0, images=2, confidence=0.75, accuracy=0.5)]
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Ranked:
    """What the metrics need of the probabilities of images of one class each: four numbers for an image.

    So there can be more images and classes than their probabilities would fit into memory.

    Attributes
    ----------
    targets : ndarray of shape (n_images,), int64
    predicted : ndarray of shape (n_images,), int64
        The most probable class.
    rank : ndarray of shape (n_images,), int64
        How many classes come before the right one: 0 where that is the most probable.
    confidence : ndarray of shape (n_images,), float64
        Probability of the most probable class.
    n_classes : int

    Examples
    --------
    >>> ranked = rank_classes([[0.75, 0.25], [0.75, 0.25], [0.0, 1.0]], [0, 1, 1])
    >>> ranked.confusion_matrix().tolist(), ranked.most_confused(k=1)
    ([[1, 0], [1, 1]], [Confusion(target=1, predicted=0, images=1)])
    >>> [(bin.images, bin.accuracy) for bin in ranked.reliability(bins=2)]
    [(3, 0.6666666666666666)]
    >>> round(ranked.expected_calibration_error(bins=2), 4)
    0.1667
    """

    targets: Integers
    predicted: Integers
    rank: Integers
    confidence: npt.NDArray[np.float64]
    n_classes: int

    def confusion_matrix(self) -> Integers:
        """Count the images of each class that are taken for each class: `confusion_matrix`.

        Returns
        -------
        ndarray of shape (n_classes, n_classes), int64
            Rows are the right classes, columns the most probable ones.
        """
        cells = self.targets * self.n_classes + self.predicted
        counts = np.bincount(cells, minlength=self.n_classes * self.n_classes)
        return counts.reshape(self.n_classes, self.n_classes).astype(np.int64)

    def most_confused(self, k: int = 10) -> list[Confusion]:
        """Return the pairs of classes that are most often confused: `most_confused`.

        Parameters
        ----------
        k : int
            How many pairs at most.

        Raises
        ------
        OptionError
            If `k` is below 1.
        """
        check_positive("k", k)
        wrong = self.predicted != self.targets
        # Not from the matrix, which for tens of thousands of classes would fill the memory.
        found = np.stack([self.targets[wrong], self.predicted[wrong]], axis=1)
        pairs, counts = np.unique(found, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:k]
        return [Confusion(int(pairs[i, 0]), int(pairs[i, 1]), int(counts[i])) for i in order]

    def reliability(self, bins: int = 15) -> list[Bin]:
        """Return confidence and accuracy in each bin that holds images: the points of a reliability diagram.

        The bins are those of `expected_calibration_error`.

        Parameters
        ----------
        bins : int
            How many there are, of equal width, with those that are empty.

        Raises
        ------
        OptionError
            If the confidences are no probabilities.
        """
        check_positive("bins", bins)
        confidence, correct = self.confidence, self.rank == 0
        if confidence.min() < 0 or confidence.max() > 1 + 1e-6:  # a softmax in float32 may round past 1
            raise OptionError(
                f"probabilities of the predicted classes reach from {confidence.min():.4g} to {confidence.max():.4g}; "
                "expected numbers in [0, 1], not logits"
            )
        index = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
        images, sums = np.bincount(index, minlength=bins), np.bincount(index, weights=confidence, minlength=bins)
        right = np.bincount(index, weights=correct, minlength=bins)
        return [
            Bin(i / bins, (i + 1) / bins, int(images[i]), float(sums[i] / images[i]), float(right[i] / images[i]))
            for i in np.flatnonzero(images).tolist()
        ]

    def expected_calibration_error(self, bins: int = 15) -> float:
        """Return how far confidence and accuracy are apart on average: `expected_calibration_error`.

        Parameters
        ----------
        bins : int
            As for `reliability`.

        Raises
        ------
        OptionError
            If the confidences are no probabilities.
        """
        distances = [one.images * abs(one.confidence - one.accuracy) for one in self.reliability(bins)]
        return float(sum(distances) / len(self.targets))


@dataclass(frozen=True)
class Metrics:
    """What `evaluate_probabilities` found; every metric lies in [0, 1].

    Attributes
    ----------
    n_images, n_classes : int
    top_1 : Estimate
        Share of the images whose most probable class is the right one.
    top_5 : Estimate or None
        Share of the images whose right class is among the five most probable; None with fewer than five classes.
    mean_per_class_recall, macro_f1 : Estimate
    expected_calibration_error : float
        Without an interval: resampling alone makes it larger, so a percentile interval would lie too high.

    Examples
    --------
    >>> metrics = evaluate_probabilities([[0.75, 0.25], [0.25, 0.75]], [0, 1])
    >>> metrics.top_1, metrics.top_5, metrics.expected_calibration_error
    (Estimate(value=1.0, low=1.0, high=1.0), None, 0.25)
    """

    n_images: int
    n_classes: int
    top_1: Estimate
    top_5: Estimate | None
    mean_per_class_recall: Estimate
    macro_f1: Estimate
    expected_calibration_error: float


def evaluate_probabilities(
    probabilities: Any, targets: Any, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Metrics:
    """Compute all metrics for images of one class each.

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        In [0, 1].
    targets : array-like of shape (n_images,)
        Positions of the right classes.
    level, resamples, seed
        As for `bootstrap_interval`.

    Returns
    -------
    Metrics

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> metrics = evaluate_probabilities([[0.7, 0.3], [0.4, 0.6], [0.8, 0.2], [0.1, 0.9]], [0, 1, 1, 1])
    >>> metrics.top_1.value, round(metrics.mean_per_class_recall.value, 3)
    (0.75, 0.833)
    """
    ranked = rank_classes(probabilities, targets)
    _check_unit_interval(np.asarray(probabilities))
    return evaluate_ranked(ranked, level=level, resamples=resamples, seed=seed)


def rank_classes(probabilities: Any, targets: Any) -> Ranked:
    """Reduce the probabilities of images of one class each to what the metrics need.

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        In [0, 1]; or logits, for all that is not about calibration.
    targets : array-like of shape (n_images,)
        Positions of the right classes.

    Returns
    -------
    Ranked

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> rank_classes([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], [1, 2]).rank.tolist()
    [1, 0]
    """
    rows, classes = _check(probabilities, targets)
    predicted = rows.argmax(axis=1).astype(np.int64)
    confidence = rows.max(axis=1).astype(np.float64)
    return Ranked(classes, predicted, _rank(rows, classes), confidence, rows.shape[1])


def evaluate_ranked(ranked: Ranked, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Metrics:
    """Compute all metrics, as `evaluate_probabilities` does, of what `rank_classes` made of the probabilities.

    Parameters
    ----------
    ranked : Ranked
    level, resamples, seed
        As for `bootstrap_interval`.

    Returns
    -------
    Metrics

    Raises
    ------
    OptionError
        If the confidences are no probabilities, or `level` is out of its range.

    Examples
    --------
    >>> evaluate_ranked(rank_classes([[0.7, 0.3], [0.4, 0.6]], [0, 1])).top_1.value
    1.0
    """
    options = {"level": level, "resamples": resamples, "seed": seed}
    predicted, classes = ranked.predicted, ranked.targets
    return Metrics(
        n_images=len(classes),
        n_classes=ranked.n_classes,
        top_1=estimate(_share, ranked.rank < 1, **options),
        top_5=estimate(_share, ranked.rank < 5, **options) if ranked.n_classes >= 5 else None,
        mean_per_class_recall=estimate(_recall, predicted, classes, **options),
        macro_f1=estimate(_f1, predicted, classes, **options),
        expected_calibration_error=ranked.expected_calibration_error(),
    )


def estimate(statistic: Callable[..., float], *arrays: Any, **options: Any) -> Estimate:
    """Return a statistic and its interval; everything is passed on to `bootstrap_interval`.

    Parameters
    ----------
    statistic, *arrays, **options
        As for `bootstrap_interval`.

    Returns
    -------
    Estimate

    Raises
    ------
    OptionError
        As `bootstrap_interval` does.

    Examples
    --------
    >>> estimate(np.mean, [1.0, 1.0])
    Estimate(value=1.0, low=1.0, high=1.0)
    """
    interval = bootstrap_interval(statistic, *arrays, **options)
    return Estimate(float(statistic(*(np.asarray(array) for array in arrays))), *interval)


def bootstrap_interval(
    statistic: Callable[..., float], *arrays: Any, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic.

    Images are drawn with replacement, as many as there are, and the statistic is computed on them; the interval holds
    the middle `level` of these values (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). It is
    as narrow as the sample makes it look: where all images agree it has no width, however few they are.

    Parameters
    ----------
    statistic : callable
        Takes as many arrays as are given, and returns a number; draws on which it is NaN do not count.
    *arrays : array-like of shape (n_images, ...)
        The same images along the first axis of each.
    level : float
        In (0, 1).
    resamples : int
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    tuple of float
        NaN where the statistic is NaN on all draws.

    Raises
    ------
    OptionError
        If lengths differ, there is no image, or `level` is out of its range.

    Examples
    --------
    >>> low, high = bootstrap_interval(np.mean, [1, 1, 1, 0] * 25)
    >>> low < 0.75 < high
    True
    """
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise OptionError(f"level is {level!r}; expected a number between 0 and 1, such as 0.95")
    check_positive("resamples", resamples)
    columns = [np.asarray(array) for array in arrays]
    lengths = [len(column) if column.ndim else 0 for column in columns]
    if not lengths or min(lengths) < 1 or len(set(lengths)) > 1:
        raise OptionError(
            f"arrays have the lengths {lengths}; expected at least one array, and one length of 1 or more"
        )
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for draw in range(resamples):
        chosen = rng.integers(lengths[0], size=lengths[0])
        values[draw] = statistic(*(column[chosen] for column in columns))
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# ------------------------------------------------------------------------------------------------ one class an image


def accuracy_top_k(probabilities: Any, targets: Any, *, k: int = 1) -> float:
    """Return the share of the images whose right class is among the `k` most probable, in [0, 1].

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        Or logits: only their order counts.
    targets : array-like of shape (n_images,)
        Positions of the right classes.
    k : int
        1 to n_classes.

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> accuracy_top_k([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], [1, 2], k=2)
    1.0
    """
    rows, classes = _check(probabilities, targets)
    if check_positive("k", k) > rows.shape[1]:
        raise OptionError(f"k is {k} for {rows.shape[1]} classes; expected at most as many as there are classes")
    return _share(_rank(rows, classes) < k)


def mean_per_class_recall(probabilities: Any, targets: Any) -> float:
    """Return the mean over classes of the share of a class's images that are recognised, in [0, 1].

    Also called balanced accuracy.

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        Or logits: only their order counts.
    targets : array-like of shape (n_images,)
        Positions of the right classes.

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> mean_per_class_recall([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], [0, 0, 1])
    0.5
    """
    rows, classes = _check(probabilities, targets)
    return _recall(rows.argmax(axis=1), classes)


def macro_f1(probabilities: Any, targets: Any) -> float:
    """Return the mean over classes of F1, the harmonic mean of precision and recall, in [0, 1].

    Images wrongly taken for a class without examples count against the recall of their own.

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        Or logits: only their order counts.
    targets : array-like of shape (n_images,)
        Positions of the right classes.

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> macro_f1([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 0, 1])
    1.0
    """
    rows, classes = _check(probabilities, targets)
    return _f1(rows.argmax(axis=1), classes)


def expected_calibration_error(probabilities: Any, targets: Any, *, bins: int = 15) -> float:
    """Return how far confidence and accuracy are apart on average, in [0, 1].

    Images are sorted by the probability of their most probable class into bins of equal width, each with its upper end
    and without its lower; the distances between the mean of that probability and the accuracy in a bin are averaged,
    weighted by images (Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, equation 3
    and section 4, from where the 15 bins are).

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        In [0, 1].
    targets : array-like of shape (n_images,)
    bins : int

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> expected_calibration_error([[0.75, 0.25]] * 4, [0, 0, 0, 1])
    0.0
    """
    ranked = rank_classes(probabilities, targets)
    _check_unit_interval(np.asarray(probabilities))
    return ranked.expected_calibration_error(bins)


def _check_unit_interval(rows: npt.NDArray[Any]) -> None:
    if rows.min() < 0 or rows.max() > 1 + 1e-6:  # a softmax in float32 may round past 1
        raise OptionError(
            f"probabilities reach from {rows.min():.4g} to {rows.max():.4g}; expected numbers in [0, 1], not logits"
        )


def confusion_matrix(probabilities: Any, targets: Any) -> Integers:
    """Count the images of each class that are taken for each class.

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        Or logits: only their order counts.
    targets : array-like of shape (n_images,)
        Positions of the right classes.

    Returns
    -------
    ndarray of shape (n_classes, n_classes), int64
        Rows are the right classes, columns the most probable ones.

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> confusion_matrix([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1]).tolist()
    [[1, 0], [1, 1]]
    """
    return rank_classes(probabilities, targets).confusion_matrix()


def most_confused(probabilities: Any, targets: Any, *, k: int = 10) -> list[Confusion]:
    """Return the `k` pairs of classes that are most often confused.

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        Or logits: only their order counts.
    targets : array-like of shape (n_images,)
        Positions of the right classes.
    k : int
        How many pairs at most, at least 1.

    Returns
    -------
    list of Confusion
        The most frequent first; of equally frequent ones the earlier classes first. Pairs that are never confused are
        left out.

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> most_confused([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1])
    [Confusion(target=1, predicted=0, images=1)]
    """
    return rank_classes(probabilities, targets).most_confused(k)


# ------------------------------------------------------------------------------------------ several classes an image


def mean_average_precision(probabilities: Any, targets: Any) -> float:
    """Return the mean over classes of average precision, in [0, 1].

    Average precision is the mean, over the images that show the class, of the precision among all images that are at
    least as probable; it is not interpolated. Equally probable images are taken in together, whatever their order.

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        Or any scores: only their order within a column counts.
    targets : array-like of shape (n_images, n_classes) or (n_images,)
        Which classes an image shows; or positions, where it shows one.

    Returns
    -------
    float
        NaN if no class has an example.

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> shown = [[True, False], [False, True], [True, True]]
    >>> round(mean_average_precision([[0.9, 0.2], [0.8, 0.6], [0.1, 0.7]], shown), 4)
    0.9167
    """
    return _mean_over_classes(_average_precision, *_check_several(probabilities, targets))


def voc2007_mean_average_precision(probabilities: Any, targets: Any) -> float:
    """Return the mean over classes of average precision as PASCAL VOC defined it until 2009, in [0, 1].

    At each recall of 0, 0.1, …, 1 the largest precision at that recall or above; the mean of these eleven (Everingham,
    Van Gool, Williams, Winn and Zisserman, The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010, section 4.2).
    Published results on VOC2007, those of CLIP's paper among them, are by this definition. It compares counts and not
    rounded quotients, so a recall of exactly 3/10 reaches 0.3.

    Parameters
    ----------
    probabilities, targets
        As for `mean_average_precision`.

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> round(voc2007_mean_average_precision([[0.9], [0.8], [0.1]], [[True], [False], [True]]), 4)
    0.8485
    """
    return _mean_over_classes(_eleven_point_precision, *_check_several(probabilities, targets))


def roc_auc(probabilities: Any, targets: Any) -> float:
    """Return the mean over classes of the area under the ROC curve, in [0, 1].

    The area is how often an image that shows the class is more probable than one that does not; of equally probable
    ones half count. Classes that all images show, or none, are left out.

    Parameters
    ----------
    probabilities, targets
        As for `mean_average_precision`.

    Raises
    ------
    InputTypeError, OptionError
        If shapes, types or values do not fit.

    Examples
    --------
    >>> roc_auc([[0.9], [0.8], [0.8], [0.1]], [[True], [True], [False], [False]])
    0.875
    """
    return _mean_over_classes(_area, *_check_several(probabilities, targets))


# ---------------------------------------------------------------------------------------------------------- formulas


def _rank(rows: Floats, targets: Integers) -> Integers:
    """Position of the right class, from 0, when classes are sorted by probability, then by position."""
    own = np.take_along_axis(rows, targets[:, None], axis=1)
    before = np.arange(rows.shape[1]) < targets[:, None]
    rank: Integers = ((rows > own) | ((rows == own) & before)).sum(axis=1, dtype=np.int64)
    return rank


def _share(correct: Booleans) -> float:
    return float(correct.mean())


def _recall(predicted: Integers, targets: Integers) -> float:
    examples = np.bincount(targets)
    found = np.bincount(targets[predicted == targets], minlength=len(examples))
    shown = examples > 0
    return float((found[shown] / examples[shown]).mean())


def _f1(predicted: Integers, targets: Integers) -> float:
    size = int(max(predicted.max(), targets.max())) + 1
    examples, taken = np.bincount(targets, minlength=size), np.bincount(predicted, minlength=size)
    found = np.bincount(targets[predicted == targets], minlength=size)
    shown = examples > 0
    return float((2 * found[shown] / (examples + taken)[shown]).mean())


def _mean_over_classes(metric: Callable[[Integers, Integers], float], rows: Floats, targets: Booleans) -> float:
    values = np.array([metric(*_thresholds(rows[:, index], targets[:, index])) for index in range(rows.shape[1])])
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


def _thresholds(scores: Floats, positive: Booleans) -> tuple[Integers, Integers]:
    """For each distinct score, from the highest: positives, and images, that reach it; each (n_scores,) int64."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of the images with one score
    return np.cumsum(positive[order], dtype=np.int64)[last], last + 1


def _average_precision(found: Integers, taken: Integers) -> float:
    if found[-1] == 0:
        return np.nan
    return float((np.diff(found, prepend=0) * (found / taken)).sum() / found[-1])


def _eleven_point_precision(found: Integers, taken: Integers) -> float:
    if found[-1] == 0:
        return np.nan
    best_from_here = np.maximum.accumulate((found / taken)[::-1])[::-1]
    reached = np.searchsorted(10 * found, np.arange(11) * found[-1])  # where recall is first 0, 0.1, …, 1
    return float(best_from_here[reached].mean())


def _area(found: Integers, taken: Integers) -> float:
    wrong = taken - found
    if found[-1] == 0 or wrong[-1] == 0:
        return np.nan
    heights = found - np.diff(found, prepend=0) / 2
    return float((np.diff(wrong, prepend=0) * heights).sum() / (int(found[-1]) * int(wrong[-1])))


# ------------------------------------------------------------------------------------------------------------ checks


def _check(probabilities: Any, targets: Any) -> tuple[Floats, Integers]:
    rows, array = _check_probabilities(probabilities), _as_array("targets", targets)
    if array.dtype.kind not in "iu":
        raise InputTypeError(f"targets are {array.dtype}; expected positions of classes, whole numbers from 0")
    if array.shape != rows.shape[:1]:
        raise OptionError(
            f"targets have the shape {array.shape} for {len(rows)} rows of probabilities; expected one class for each"
        )
    outside = np.flatnonzero((array < 0) | (array >= rows.shape[1]))
    if len(outside):
        raise OptionError(
            f"target {outside[0]} is {array[outside[0]]}; expected the position of a class, 0 to {rows.shape[1] - 1}"
        )
    return rows, array.astype(np.int64)


def _check_several(probabilities: Any, targets: Any) -> tuple[Floats, Booleans]:
    array = _as_array("targets", targets)
    if array.ndim == 1:
        rows, classes = _check(probabilities, array)
        return rows, classes[:, None] == np.arange(rows.shape[1])
    rows = _check_probabilities(probabilities)
    if array.shape != rows.shape:
        raise OptionError(
            f"targets have the shape {array.shape}, probabilities {rows.shape}; expected the same, or one class each"
        )
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise InputTypeError(f"targets are {array.dtype} other than 0 and 1; expected which classes an image shows")
    return rows, array.astype(np.bool_)


def _check_probabilities(probabilities: Any) -> Floats:
    array = _as_array("probabilities", probabilities)
    if array.dtype.kind not in "biuf":
        raise InputTypeError(f"probabilities are {array.dtype}; expected numbers")
    if array.ndim != 2 or array.size == 0:
        raise OptionError(
            f"probabilities have the shape {array.shape}; expected (n_images, n_classes), at least one of each"
        )
    rows: Floats = array if array.dtype.kind == "f" else array.astype(np.float64)
    if not np.isfinite(rows).all():
        raise OptionError("probabilities hold NaN or infinity; expected finite numbers")
    return rows


def _as_array(name: str, values: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors on a GPU, or attached to autograd
        raise InputTypeError(f"{name} cannot be read as an array: {error}; expected an array or a list") from error
