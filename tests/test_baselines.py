"""Lines between log-odds are those of SciPy, and the published ones those of the published table."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special  # type: ignore[import-untyped]
import scipy.stats  # type: ignore[import-untyped]
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zeroshot.baselines import Baseline, expit, fit_line, load_baseline, logit
from zeroshot.errors import InputTypeError, OptionError
from zeroshot.shifts import available_shifts

shares = st.floats(0.01, 0.99)
TABLE = Path(__file__).parents[1] / "zeroshot/data/imagenet_testbed.csv"
ROWS = list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))


@st.composite
def points(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    pairs = draw(st.lists(st.tuples(shares, shares), min_size=3, max_size=30))
    reference, shifted = (list(values) for values in zip(*pairs, strict=True))
    assume(np.ptp(reference) > 0.02)
    return reference, shifted


@given(st.floats(0, 1))
def test_log_odds_are_scipys_and_expit_is_their_inverse(share: float) -> None:
    assert logit(share) == pytest.approx(scipy.special.logit(share), rel=1e-12)
    assert expit(logit(share)) == pytest.approx(share, abs=1e-15)
    assert expit(800 * (share - 0.5)) == pytest.approx(scipy.special.expit(800 * (share - 0.5)), rel=1e-12)


def test_a_line_by_hand() -> None:
    # Odds of 1, 3 and 9 under odds of 1/3, 1 and 3: the line lies log(3) below the diagonal.
    line = fit_line([1 / 2, 3 / 4, 9 / 10], [1 / 4, 1 / 2, 3 / 4])
    assert (line.slope, line.intercept) == (pytest.approx(1), pytest.approx(-math.log(3)))
    assert (line.n_models, line.r_squared) == (3, pytest.approx(1))
    assert float(line(1 / 2)) == pytest.approx(1 / 4)


@given(points())
def test_the_fit_is_scipys_and_numpys(pairs: tuple[list[float], list[float]]) -> None:
    x, y = (scipy.special.logit(values) for values in pairs)
    line, expected = fit_line(*pairs), scipy.stats.linregress(x, y)
    assert line.slope == pytest.approx(expected.slope, rel=1e-6, abs=1e-9)
    assert line.intercept == pytest.approx(expected.intercept, rel=1e-6, abs=1e-9)
    if np.ptp(y) > 1e-3:
        assert line.r_squared == pytest.approx(expected.rvalue**2, abs=1e-9)
    assert [line.slope, line.intercept] == pytest.approx(np.polyfit(x, y, 1), rel=1e-6, abs=1e-9)


@settings(max_examples=30)
@given(points(), st.integers(0, 2), st.floats(0.005, 0.3))
def test_one_accuracy_that_is_moved_moves_the_line(
    pairs: tuple[list[float], list[float]], index: int, by: float
) -> None:
    reference, shifted = pairs
    moved = [*shifted]
    moved[index] = moved[index] + by if moved[index] + by < 0.995 else moved[index] - by / 2
    first, second = fit_line(reference, shifted), fit_line(reference, moved)
    assert abs(first.intercept - second.intercept) + abs(first.slope - second.slope) > 1e-6


@settings(max_examples=30)
@given(points(), st.randoms())
def test_the_order_of_the_models_does_not_matter(pairs: tuple[list[float], list[float]], random: Any) -> None:
    order = list(range(len(pairs[0])))
    random.shuffle(order)
    line, other = fit_line(*pairs), fit_line(*([values[index] for index in order] for values in pairs))
    assert (line.slope, line.intercept) == pytest.approx((other.slope, other.intercept), rel=1e-6, abs=1e-8)


@settings(max_examples=30)
@given(points())
def test_swapping_right_and_wrong_mirrors_the_line(pairs: tuple[list[float], list[float]]) -> None:
    # Log-odds of error rates are those of accuracies with the other sign.
    line, mirrored = fit_line(*pairs), fit_line(*([1 - value for value in values] for values in pairs))
    assert mirrored.slope == pytest.approx(line.slope, rel=1e-6, abs=1e-8)
    assert mirrored.intercept == pytest.approx(-line.intercept, rel=1e-6, abs=1e-8)


# ---------------------------------------------------------------------------------------------------------- baseline

# Slopes, intercepts and models of the lines that scipy.stats.linregress finds in the test bed's robustness_top1s.csv
# with all its digits, under the conditions of its plotting/paper_*.py; made apart from the code here.
PUBLISHED = {
    "imagenet_v2": (0.9232287729753482, -0.497689881660077, 85),
    "imagenet_sketch": (1.0709154135668684, -2.370072912552283, 85),
    "imagenet_r": (0.636843984281646, -2.1077156197680713, 80),
    "objectnet": (0.9809103795406259, -1.92828890654754, 85),
    "imagenet_vid_pm0": (0.5335581834563873, -1.4617231255570724, 85),
    "youtube_bb_pm0": (0.3388359668297697, -1.1118695013795978, 84),
}


@pytest.mark.parametrize(("shift", "expected"), PUBLISHED.items())
def test_the_published_lines(shift: str, expected: tuple[float, float, int]) -> None:
    (line,) = load_baseline(shift).lines
    assert (line.slope, line.intercept) == pytest.approx(expected[:2], abs=1e-4)
    assert line.n_models == expected[2]
    assert 0.8 < line.r_squared < 1


def test_two_lines_for_the_images_that_a_resnet_50_gets_wrong() -> None:
    baseline = load_baseline("imagenet_a")
    low, high = baseline.lines
    assert "resnet50" in baseline.models
    assert not baseline.fitted[baseline.models.index("resnet50")]  # 0 by construction: infinite log-odds
    assert baseline.accuracies("resnet50") == (0.9186, 0)
    assert (low.n_models, high.n_models) == (33, 51)
    assert high.slope > 4 * low.slope
    assert baseline.expected(0.91) == float(low(0.91))
    assert baseline.expected(0.93) == float(high(0.93))
    bands = baseline.band([0.91, 0.93])
    assert bands[0][1] == pytest.approx(baseline.interval(0.93)[0])


def test_frames_of_videos_are_the_mean_of_both_settings() -> None:
    both, single, ten = (load_baseline(f"imagenet_vid{end}") for end in ("", "_pm0", "_pm10"))
    index = both.models.index("resnet101")
    assert both.shifted[index] == pytest.approx((single.shifted[index] + ten.shifted[index]) / 2)
    assert (ten.shifted <= single.shifted).all()


@pytest.mark.parametrize("shift", available_shifts())
def test_the_baseline_is_the_table(shift: str) -> None:
    baseline = load_baseline(shift)
    training = {row["model"]: row["training"] for row in ROWS}
    chosen = [name for name, fitted in zip(baseline.models, baseline.fitted, strict=True) if fitted]
    assert {training[name] for name in chosen} == {"standard"}
    assert not any("aws" in name or "batch64" in name for name in chosen)
    assert "vit_b_32_clip_zeroshot" not in chosen
    assert "vit_b_32_clip_zeroshot" in baseline.models
    fitted = baseline.fitted
    # The line of the models leaves as much above as below: what least squares means, in log-odds.
    if baseline.knee is None:
        rest = logit(baseline.shifted[fitted]) - logit(baseline.lines[0](baseline.reference[fitted]))
        assert rest.mean() == pytest.approx(0, abs=1e-9)


def test_the_interval_is_a_percentile_bootstrap_over_models() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(1, 1, size=60)
    y = 0.8 * x - 1 + rng.normal(scale=0.3, size=60)
    baseline = Baseline.from_points(expit(x), expit(y))
    low, high = baseline.interval(0.7)
    assert low < baseline.expected(0.7) < high
    draws = [rng.integers(60, size=60) for _ in range(1500)]
    values = scipy.special.expit([np.polyval(np.polyfit(x[draw], y[draw], 1), logit(0.7)) for draw in draws])
    assert [low, high] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.005)
    assert baseline.interval(0.7) == (low, high)  # the same each time
    wider = Baseline.from_points(expit(x[:10]), expit(y[:10])).interval(0.7)
    assert wider[1] - wider[0] > 1.3 * (high - low)


def test_points_of_ones_own() -> None:
    baseline = Baseline.from_points([0.5, 0.6, 0.8, 0.9], [0.2, 0.3, 0.6, 0.8], models=["a", "b", "c", "d"], knee=0.7)
    assert [line.n_models for line in baseline.lines] == [2, 2]
    assert baseline.expected(0.5) == pytest.approx(0.2)
    assert baseline.expected(0.9) == pytest.approx(0.8)
    assert baseline.accuracies("c") == (0.8, 0.6)
    with pytest.raises(OptionError, match=r"model 'e' is not in the baseline; it has a, b, c, d"):
        baseline.accuracies("e")


def test_at_an_accuracy_of_1_nothing_is_uncertain() -> None:
    baseline = Baseline.from_points([0.5, 0.75, 0.9], [0.25, 0.5, 0.75])
    assert baseline.interval(1.0) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit_line([0.5, 1.0], [0.5, 0.6]), OptionError, r"reference\[1\] is 1; .* leave the model out"),
        (lambda: fit_line([0.5, 0.6], [0.0, 0.6]), OptionError, r"shifted\[0\] is 0"),
        (lambda: fit_line([0.5, 0.6], [0.5]), OptionError, "reference has 2 accuracies, shifted 1"),
        (lambda: fit_line([0.5], [0.5]), OptionError, "a line needs two models"),
        (lambda: fit_line([0.5, 0.5], [0.5, 0.6]), OptionError, "2 came with the same accuracy"),
        (lambda: fit_line([[0.5, 0.5]], [0.5]), OptionError, r"shape \(1, 2\)"),
        (lambda: fit_line("ab", [0.5]), InputTypeError, "cannot be read as accuracies"),
        (lambda: Baseline.from_points([0.5, 0.6], [0.5, 0.6], models=["a", "a"]), OptionError, "a name of its own"),
        (lambda: load_baseline("imagenet_c"), OptionError, "shift 'imagenet_c' is not known"),
    ],
)  # fmt: skip
def test_mistakes_are_told(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
