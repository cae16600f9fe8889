"""Metrics: equal to scikit-learn's and to slow references that are their definitions, word for word."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics  # type: ignore[import-untyped]
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroshot.errors import InputTypeError, OptionError
from zeroshot.metrics import (
    Confusion,
    Estimate,
    accuracy_top_k,
    bootstrap_interval,
    confusion_matrix,
    evaluate_probabilities,
    expected_calibration_error,
    macro_f1,
    mean_average_precision,
    mean_per_class_recall,
    most_confused,
    rank_classes,
    roc_auc,
    voc2007_mean_average_precision,
)
from zeroshot.prediction import Prediction

Array = npt.NDArray[Any]
Problem = tuple[Array, Array]

SINGLE = [accuracy_top_k, mean_per_class_recall, macro_f1, expected_calibration_error, confusion_matrix, most_confused]
SEVERAL = [mean_average_precision, voc2007_mean_average_precision, roc_auc]


@st.composite
def problems(draw: st.DrawFn, *, several: bool = False) -> Problem:
    """Draw probabilities and targets; coarse, so that ties and classes without examples are frequent."""
    images, classes = draw(st.integers(1, 25)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 5, 1000]))
    weights = rng.integers(0, levels, size=(images, classes)) + (0 if several else 1e-3)
    rows = weights / levels if several else weights / weights.sum(axis=1, keepdims=True)
    targets = rng.integers(0, 2, size=rows.shape) if several else rng.integers(0, classes, size=images)
    return rows.astype(draw(st.sampled_from([np.float32, np.float64]))), targets


def most_probable(rows: Array) -> list[int]:
    return [max(range(len(row)), key=lambda index: (row[index], -index)) for row in rows]


# ------------------------------------------------------------------------------------------------ one class an image


@given(problems())
def test_top_k_counts_the_first_k_of_a_stable_sort(problem: Problem) -> None:
    rows, targets = problem
    order = np.argsort(-rows, axis=1, kind="stable")
    for k in range(1, rows.shape[1] + 1):
        expected = sum(target in row[:k] for row, target in zip(order, targets, strict=True)) / len(rows)
        assert accuracy_top_k(rows, targets, k=k) == pytest.approx(expected)


@given(problems())
def test_top_k_is_what_predictions_show(problem: Problem) -> None:
    rows, targets = problem
    labels = tuple(map(str, range(rows.shape[1])))
    for k in range(1, len(labels) + 1):
        shown = [[match.index for match in Prediction(row, labels).top(k)] for row in rows]
        expected = np.mean([target in row for row, target in zip(shown, targets, strict=True)])
        assert accuracy_top_k(rows, targets, k=k) == pytest.approx(expected)


def test_of_equally_probable_classes_the_earlier_one_is_ahead() -> None:
    rows = [[0.25, 0.25, 0.25, 0.25]]
    for target in range(4):
        assert [accuracy_top_k(rows, [target], k=k) for k in (1, 2, 3, 4)] == [target < k for k in (1, 2, 3, 4)]
    assert confusion_matrix(rows, [3])[3, 0] == 1


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(problems())
def test_recall_f1_and_confusions_are_those_of_scikit_learn(problem: Problem) -> None:
    rows, targets = problem
    predicted, classes = most_probable(rows), list(range(rows.shape[1]))
    matrix = sklearn.metrics.confusion_matrix(targets, predicted, labels=classes)
    np.testing.assert_array_equal(confusion_matrix(rows, targets), matrix)
    options: dict[str, Any] = {"labels": np.unique(targets), "average": "macro", "zero_division": 0}
    recall = sklearn.metrics.recall_score(targets, predicted, **options)
    assert mean_per_class_recall(rows, targets) == pytest.approx(recall)
    assert macro_f1(rows, targets) == pytest.approx(sklearn.metrics.f1_score(targets, predicted, **options))
    pairs = [
        Confusion(target, other, int(matrix[target, other]))
        for target in classes
        for other in classes
        if target != other and matrix[target, other]
    ]
    assert most_confused(rows, targets, k=1000) == sorted(pairs, key=lambda pair: -pair.images)


def test_classes_without_examples_are_left_out_of_means() -> None:
    # Class 2 has no example, but one image of class 1 is taken for it.
    rows = np.eye(3)[[0, 0, 1, 2]]
    assert mean_per_class_recall(rows, [0, 0, 1, 1]) == 0.75
    assert macro_f1(rows, [0, 0, 1, 1]) == pytest.approx((1 + 2 / 3) / 2)


def test_the_most_confused_come_first_and_no_more_than_asked() -> None:
    rows = np.eye(4)[[1, 1, 2, 0, 0, 3]]
    assert most_confused(rows, [0, 0, 0, 3, 2, 3]) == [(0, 1, 2), (0, 2, 1), (2, 0, 1), (3, 0, 1)]
    assert most_confused(rows, [0, 0, 0, 3, 2, 3], k=2) == [(0, 1, 2), (0, 2, 1)]
    assert most_confused(np.eye(3), [0, 1, 2]) == []


@given(problems(), st.integers(1, 20))
def test_calibration_error_is_the_sum_over_bins(problem: Problem, bins: int) -> None:
    rows, targets = problem
    expected = 0.0
    for index in range(bins):
        sure = [float(row.max()) for row in rows]
        chosen = [image for image, value in enumerate(sure) if index / bins < value <= (index + 1) / bins]
        if chosen:
            confidence = np.mean([sure[image] for image in chosen])
            accuracy = np.mean([most_probable(rows[[image]])[0] == targets[image] for image in chosen])
            expected += len(chosen) / len(rows) * abs(accuracy - confidence)
    assert expected_calibration_error(rows, targets, bins=bins) == pytest.approx(expected)


def test_calibration_error_of_known_cases() -> None:
    sure = np.tile([1.0, 0.0], (10, 1))
    assert expected_calibration_error(sure, [0] * 10) == 0
    assert expected_calibration_error(sure, [1] * 10) == 1
    # Two bins whose errors would cancel each other out in one.
    rows = [[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]]
    assert expected_calibration_error(rows, [0, 0, 0, 1]) == pytest.approx(0.4)
    assert expected_calibration_error(rows, [0, 0, 0, 1], bins=1) == pytest.approx(0.0)


@given(problems())
def test_parts_put_together_are_the_whole(problem: Problem) -> None:
    rows, targets = problem
    whole, parts = (
        rank_classes(rows, targets),
        [rank_classes(rows[i : i + 1], targets[i : i + 1]) for i in range(len(rows))],
    )
    for name in ("targets", "predicted", "rank", "confidence"):
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(one, name) for one in parts]))
    for k in range(1, rows.shape[1] + 1):
        assert (whole.rank < k).mean() == accuracy_top_k(rows, targets, k=k)
    np.testing.assert_array_equal(whole.confusion_matrix(), confusion_matrix(rows, targets))


def test_the_points_of_a_reliability_diagram() -> None:
    rows = [[0.75, 0.25], [0.25, 0.75], [0.75, 0.25], [0.55, 0.45]]
    ranked = rank_classes(rows, [0, 1, 1, 0])
    first, second = ranked.reliability(10)
    assert first == (0.5, 0.6, 1, pytest.approx(0.55), 1.0)
    assert second == (0.7, 0.8, 3, pytest.approx(0.75), pytest.approx(2 / 3))
    distance = (3 * abs(0.75 - 2 / 3) + 0.45) / 4
    assert ranked.expected_calibration_error(10) == pytest.approx(distance)
    with pytest.raises(OptionError, match="not logits"):
        rank_classes([[3.0, 1.0]], [0]).reliability()


def test_the_upper_end_belongs_to_a_bin() -> None:
    # 0.5 is in the lower of two bins together with 0.4, not in the upper one together with 0.6.
    rows, targets = [[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]], [1, 0, 0]
    assert expected_calibration_error(rows, targets, bins=2) == pytest.approx((abs(1 - 0.9) + abs(1 - 0.6)) / 3)


# ------------------------------------------------------------------------------------------ several classes an image


def mean_where_defined(metric: Callable[[Array, Array], float], rows: Array, shown: Array, *, both: bool) -> float:
    columns = [
        index
        for index in range(rows.shape[1])
        if shown[:, index].any() and not (both and shown[:, index].all())  # scikit-learn warns on the others
    ]
    return float(np.mean([metric(shown[:, i], rows[:, i]) for i in columns])) if columns else math.nan


@given(problems(several=True))
def test_average_precision_and_area_are_those_of_scikit_learn(problem: Problem) -> None:
    rows, shown = problem
    precision = mean_where_defined(sklearn.metrics.average_precision_score, rows, shown, both=False)
    assert mean_average_precision(rows, shown) == pytest.approx(precision, nan_ok=True)
    area = mean_where_defined(sklearn.metrics.roc_auc_score, rows, shown, both=True)
    assert roc_auc(rows, shown) == pytest.approx(area, nan_ok=True)


def eleven_points(shown: Array, scores: Array) -> float:
    """The definition in whole numbers: for each recall the largest precision at any threshold that reaches it."""
    points = []
    for threshold in set(scores.tolist()):
        taken = [bool(one) for one, score in zip(shown, scores, strict=True) if score >= threshold]
        points.append((Fraction(sum(taken), int(shown.sum())), Fraction(sum(taken), len(taken))))
    best = [max(precision for recall, precision in points if recall >= Fraction(i, 10)) for i in range(11)]
    return float(sum(best) / 11)


@given(problems(several=True))
def test_eleven_point_precision_is_its_definition(problem: Problem) -> None:
    rows, shown = problem
    expected = mean_where_defined(eleven_points, rows, shown, both=False)
    assert voc2007_mean_average_precision(rows, shown) == pytest.approx(expected, nan_ok=True)


def test_a_recall_of_three_tenths_reaches_it() -> None:
    # Three right ones, then seven after many wrong ones: in floating point 3 / 10 < 0.1 * 3, and the point is lost.
    shown = np.array([1] * 3 + [0] * 90 + [1] * 7)[:, None]
    rows = -np.arange(100.0)[:, None]
    assert voc2007_mean_average_precision(rows, shown) == pytest.approx((4 * 1 + 7 * 0.1) / 11)


@given(problems())
def test_positions_are_the_same_as_what_images_show(problem: Problem) -> None:
    rows, targets = problem
    shown = np.eye(rows.shape[1], dtype=bool)[targets]
    for metric in SEVERAL:
        assert metric(rows, targets) == pytest.approx(metric(rows, shown), nan_ok=True)


@settings(max_examples=30)
@given(problems(several=True), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_count(problem: Problem, random: Any) -> None:
    rows, shown = problem
    order = list(range(len(rows)))
    random.shuffle(order)
    for metric in SEVERAL:
        assert metric(rows[order], shown[order]) == pytest.approx(metric(rows, shown), nan_ok=True)


def test_without_examples_there_is_no_average_precision() -> None:
    rows = np.array([[0.5], [0.7]])
    assert all(math.isnan(metric(rows, np.zeros((2, 1), dtype=bool))) for metric in SEVERAL)
    assert math.isnan(roc_auc(rows, np.ones((2, 1), dtype=bool)))
    assert mean_average_precision(rows, np.ones((2, 1), dtype=bool)) == 1


# --------------------------------------------------------------------------------------------------------- intervals


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    # 400 samples of 80 images with an accuracy of 0.7: 95% +- 2.2% (two standard deviations), and the bootstrap's
    # own shortfall on 80 images, some 1%.
    rng = np.random.default_rng(3)
    held = 0
    for sample in range(400):
        correct = rng.random(80) < 0.7
        low, high = bootstrap_interval(np.mean, correct, resamples=200, seed=sample)
        held += low <= 0.7 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_the_interval_follows_level_and_seed() -> None:
    values = np.random.default_rng(0).normal(size=200)
    narrow, wide = (bootstrap_interval(np.mean, values, level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]
    assert bootstrap_interval(np.mean, values) == bootstrap_interval(np.mean, values, seed=0)
    assert bootstrap_interval(np.mean, values) != bootstrap_interval(np.mean, values, seed=1)
    # The standard error of a mean of 200 normal numbers is known; the interval is 1.96 of it to either side.
    low, high = bootstrap_interval(np.mean, values, resamples=4000)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(200), rel=0.05)


def test_images_keep_their_targets_when_they_are_drawn() -> None:
    rows, targets = np.eye(4)[[0, 1, 2, 3]], np.arange(4)
    assert bootstrap_interval(accuracy_top_k, rows, targets, resamples=50) == (1.0, 1.0)


def test_draws_without_a_value_do_not_count() -> None:
    scores, shown = np.array([[0.1], [0.9], [0.8]]), np.array([[False], [True], [True]])
    assert bootstrap_interval(roc_auc, scores, shown, resamples=100) == (1.0, 1.0)
    low, high = bootstrap_interval(lambda values: math.nan, [1, 2])
    assert math.isnan(low)
    assert math.isnan(high)


def test_all_metrics_together_are_those_one_by_one() -> None:
    rng = np.random.default_rng(5)
    rows = rng.dirichlet(np.ones(6), size=120)
    targets = np.where(rng.random(120) < 0.6, rows.argmax(axis=1), rng.integers(0, 6, size=120))
    metrics = evaluate_probabilities(rows, targets, level=0.9, resamples=100, seed=4)
    assert (metrics.n_images, metrics.n_classes) == (120, 6)
    assert metrics.top_5 is not None
    single: list[tuple[Estimate, Callable[..., float]]] = [
        (metrics.top_1, accuracy_top_k),
        (metrics.top_5, partial(accuracy_top_k, k=5)),
        (metrics.mean_per_class_recall, mean_per_class_recall),
        (metrics.macro_f1, macro_f1),
    ]
    for estimate, metric in single:
        assert estimate.value == metric(rows, targets)
        interval = bootstrap_interval(metric, rows, targets, level=0.9, resamples=100, seed=4)
        assert (estimate.low, estimate.high) == pytest.approx(interval)
        assert estimate.low < estimate.value < estimate.high
    assert metrics.expected_calibration_error == expected_calibration_error(rows, targets)
    assert evaluate_probabilities(rows[:, :4], targets % 4, resamples=2).top_5 is None


def test_an_estimate_reads_as_percentages() -> None:
    assert str(Estimate(0.7625, 0.7512, 0.772)) == "76.2% (75.1% to 77.2%)"


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("metric", [*SINGLE, *SEVERAL, evaluate_probabilities], ids=lambda metric: metric.__name__)
@pytest.mark.parametrize(
    ("rows", "targets", "error", "message"),
    [
        ([], [], OptionError, "at least one of each"),
        ([0.5, 0.5], [0, 1], OptionError, r"shape \(2,\); expected \(n_images, n_classes\)"),
        (np.ones((2, 0)), [0, 0], OptionError, "at least one of each"),
        ([[0.5, math.nan]], [0], OptionError, "NaN"),
        ([["a", "b"]], [0], InputTypeError, "expected numbers"),
        ([[0.5, 0.5], [1.0]], [0, 1], InputTypeError, "cannot be read"),
        ([[0.5, 0.5]], [2], OptionError, "target 0 is 2; .* 0 to 1"),
        ([[0.5, 0.5]], [-1], OptionError, "target 0 is -1"),
        ([[0.5, 0.5]], [0.0], InputTypeError, "targets are float64"),
        ([[0.5, 0.5]], ["cat"], InputTypeError, "whole numbers"),
        ([[0.5, 0.5]], [0, 1], OptionError, r"shape \(2,\) for 1 rows"),
        ([[0.5, 0.5]], None, InputTypeError, "targets are object"),
    ],
)
def test_what_does_not_fit_is_refused(
    metric: Callable[..., object], rows: Any, targets: Any, error: type[Exception], message: str
) -> None:
    if targets is None and metric in SEVERAL:
        error, message = OptionError, r"shape \(\)"
    with pytest.raises(error, match=message):
        metric(rows, targets)


@pytest.mark.parametrize("metric", SEVERAL, ids=lambda metric: metric.__name__)
def test_what_images_show_is_true_or_false(metric: Callable[..., float]) -> None:
    rows = [[0.5, 0.5], [0.1, 0.9]]
    assert metric(rows, [[1.0, 0.0], [0.0, 1.0]]) == metric(rows, [[True, False], [False, True]])
    with pytest.raises(InputTypeError, match="other than 0 and 1"):
        metric(rows, [[2, 0], [0, 1]])
    with pytest.raises(OptionError, match=r"shape \(2, 3\), probabilities \(2, 2\)"):
        metric(rows, [[1, 0, 0], [0, 1, 0]])


def test_options_out_of_range() -> None:
    rows, targets = [[0.5, 0.5]], [0]
    for k in (0, 3, 1.5):
        with pytest.raises(OptionError, match="k is"):
            accuracy_top_k(rows, targets, k=k)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="bins is 0"):
        expected_calibration_error(rows, targets, bins=0)
    with pytest.raises(OptionError, match=r"from -3 to 7; expected numbers in \[0, 1\], not logits"):
        expected_calibration_error([[7.0, -3.0]], targets)
    for level in (0, 1, 95, "high"):
        with pytest.raises(OptionError, match="level is"):
            bootstrap_interval(np.mean, [1, 2], level=level)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="resamples is 0"):
        bootstrap_interval(np.mean, [1, 2], resamples=0)
    no_arrays: list[tuple[Any, ...]] = [(), ([],), ([1, 2], [1]), (3,)]
    for arrays in no_arrays:
        with pytest.raises(OptionError, match="lengths"):
            bootstrap_interval(np.mean, *arrays)


def test_tensors_are_taken_and_those_with_gradients_refused() -> None:
    rows, targets = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1])
    assert accuracy_top_k(rows, targets) == 1
    assert mean_average_precision(rows, torch.eye(2)) == 1
    with pytest.raises(InputTypeError, match="cannot be read as an array"):
        accuracy_top_k(rows.requires_grad_(), targets)


def test_metrics_cost_no_torch() -> None:
    code = "import sys, zeroshot.metrics; print([name for name in ('torch', 'PIL', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
