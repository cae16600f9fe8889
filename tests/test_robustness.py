"""Effective and relative robustness: the terms by hand, what they say of the published models, and mistakes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroshot.errors import InputTypeError, OptionError
from zeroshot.robustness import (
    Baseline,
    Line,
    Robustness,
    effective_robustness,
    evaluate_robustness,
    expit,
    fit_line,
    load_baseline,
    logit,
    pm_k_accuracy,
    relative_robustness,
)
from zeroshot.shifts import available_shifts

shares = st.floats(0.01, 0.99)


# --------------------------------------------------------------------------------------------------------- the terms


def test_both_terms_by_hand() -> None:
    # Odds of 1, 3 and 9 under odds of 1/3, 1 and 3. A model with odds of 3 that has odds of 2 under the shift has 2/3
    # instead of 1/2.
    line = fit_line([1 / 2, 3 / 4, 9 / 10], [1 / 4, 1 / 2, 3 / 4])
    assert effective_robustness(3 / 4, 2 / 3, line) == pytest.approx(1 / 6)
    assert relative_robustness(2 / 3, 1 / 2) == pytest.approx(1 / 6)


@settings(max_examples=30)
@given(st.builds(Line, st.floats(-2, 2), st.floats(-2, 2), st.just(2), st.just(1.0)), shares, shares)
def test_a_model_on_the_line_is_worth_nothing_and_more_is_more(line: Line, reference: float, shifted: float) -> None:
    assert effective_robustness(reference, float(line(reference)), line) == 0
    assert effective_robustness(reference, shifted, line) < effective_robustness(reference, shifted + 0.005, line)
    if line.slope > 1e-3 and reference < 0.98:  # the better on ImageNet, the more is expected
        assert effective_robustness(reference + 0.01, shifted, line) < effective_robustness(reference, shifted, line)


def test_perfect_and_hopeless_models_have_their_limits() -> None:
    line = fit_line([0.5, 0.75, 0.9], [0.25, 0.5, 0.75])
    assert effective_robustness(1.0, 1.0, line) == 0
    assert effective_robustness(0.0, 0.0, line) == 0


def test_pm_k_counts_a_frame_only_with_its_neighbours() -> None:
    correct, frames = [1, 1, 1, 0, 1, 1, 1], [7, 7, 7, 3, 3, 3, 5]
    assert pm_k_accuracy(correct, frames) == pytest.approx(2 / 3)
    assert pm_k_accuracy(correct, range(7)) == pytest.approx(6 / 7)  # pm-0: every image for itself
    with pytest.raises(OptionError, match="expected a frame for each image"):
        pm_k_accuracy([True], [])


# ----------------------------------------------------------------------------------------------------------- results


@pytest.fixture(scope="module")
def clip() -> Robustness:
    """CLIP ViT-B/32 as the test bed measured it."""
    measured = {shift: load_baseline(shift).accuracies("vit_b_32_clip_zeroshot") for shift in available_shifts()}
    return evaluate_robustness(measured, name="CLIP ViT-B/32", base="resnet101")


def test_zero_shot_clip_is_effectively_robust_to_every_shift(clip: Robustness) -> None:
    # Figure 13: "all zero-shot CLIP models improve effective robustness by a large amount".
    assert [result.effective for result in clip.results] == pytest.approx(
        [0.0565, 0.2802, 0.3898, 0.2921, 0.1809, 0.2027, 0.1129], abs=0.001
    )
    for result in clip.rows:
        assert result.expected is not None
        assert result.expected_interval is not None
        assert result.expected_interval[0] <= result.expected <= result.expected_interval[1]
        assert result.effective == pytest.approx(result.accuracy - result.expected)
    # and relatively not: on ImageNet-V2 a ResNet-101 is better, which is better on ImageNet.
    assert clip.results[0].relative == pytest.approx(0.5577 - 0.6545)


def test_a_model_of_standard_training_is_not(clip: Robustness) -> None:
    measured = {shift: load_baseline(shift).accuracies("resnet101") for shift in available_shifts()}
    robustness = evaluate_robustness(measured, base="resnet101")
    assert robustness.average is not None
    assert clip.average is not None
    assert abs(robustness.average.effective or 1) < 0.01 < 0.2 < (clip.average.effective or 0)
    assert [result.relative for result in robustness.rows] == [0] * 8


def test_the_average_is_against_the_averages_of_the_same_models(clip: Robustness) -> None:
    assert clip.average is not None
    assert clip.average.reference == pytest.approx(np.mean([result.reference for result in clip.results]))
    assert clip.average.accuracy == pytest.approx(np.mean([result.accuracy for result in clip.results]))
    baseline = clip.baselines["average"]
    parts = [load_baseline(shift) for shift in available_shifts()]
    for model in ("resnet101", "vgg16", "alexnet"):
        expected = np.mean([part.accuracies(model) for part in parts], axis=0)
        assert baseline.accuracies(model) == pytest.approx(tuple(expected))
    assert not baseline.fitted[baseline.models.index("resnet50")]
    assert clip.average.expected == pytest.approx(float(baseline.lines[0](clip.average.reference)))


def test_one_setting_beside_the_mean_of_both_does_not_count_twice() -> None:
    robustness = evaluate_robustness(
        {"imagenet_vid": (0.97, 0.7), "imagenet_vid_pm0": (0.97, 0.8), "imagenet_r": (0.9, 0.5)}
    )
    assert robustness.average is not None
    assert robustness.average.title == "average of 2"
    assert robustness.average.accuracy == pytest.approx(0.6)
    assert robustness.results[1].title == "ImageNet-Vid (pm-0)"


def test_what_has_no_baseline_is_shown_without_one() -> None:
    robustness = evaluate_robustness({"night": (0.8, 0.5), "imagenet_r": (0.9, 0.5)}, base={"night": 0.4})
    night = robustness.results[0]
    assert (night.expected, night.effective) == (None, None)
    assert night.relative == pytest.approx(0.1)
    assert robustness.average is not None
    assert robustness.average.effective is None
    text = str(robustness)
    assert "A dash: no baseline." in text
    assert next(line for line in text.splitlines() if line.startswith("night")).split() == [
        "night", "80.0%", "50.0%", "-", "-", "+10.0",
    ]  # fmt: skip
    own = Baseline.from_points([0.6, 0.9], [0.3, 0.6])
    robustness = evaluate_robustness({"night": (0.8, 0.5)}, baselines={"night": own})
    assert robustness.results[0].effective == pytest.approx(0.5 - own.expected(0.8))
    assert robustness.average is None


def test_results_of_evaluations_are_taken_for_their_top_1() -> None:
    value = SimpleNamespace(metrics={"top_1": SimpleNamespace(value=0.7)}, n_images=10)
    robustness = evaluate_robustness({"imagenet": value, "imagenet_v2": value, "imagenet_r": (0.9, value)})
    assert [(result.accuracy, result.n_images) for result in robustness.results] == [(0.7, 10), (0.7, 10)]
    assert robustness.results[0].reference == 0.7


def test_the_table_and_the_dictionary(clip: Robustness) -> None:
    lines = str(clip).splitlines()
    assert lines[2].split() == ["shift", "ImageNet", "shifted", "expected", "effective", "relative"]
    assert lines[5].split() == ["ImageNet-R", "88.1%", "69.3%", "30.3%", "[29.5,", "31.0]", "+39.0", "+30.0"]
    assert "Relative: percentage points above resnet101." in lines[-1]
    data = json.loads(json.dumps(clip.to_dict()))
    assert data["shifts"][2]["effective"] == clip.results[2].effective
    assert data["baselines"]["imagenet_a"]["lines"][1]["n_models"] == 51
    assert "<td>ImageNet-R</td>" in clip._repr_html_()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: evaluate_robustness({}), OptionError, "measured names no shift"),
        (lambda: evaluate_robustness([0.5]), InputTypeError, "expected a mapping"),  # type: ignore[arg-type]
        (lambda: evaluate_robustness({"imagenet_r": (88.1, 69.3)}), OptionError, "in per cent, divide by 100: 0.881"),
        (lambda: evaluate_robustness({"imagenet_r": 0.7}), OptionError, "the first one on those images of ImageNet"),
        (
            lambda: evaluate_robustness({"imagenet": 0.6, "imagenet_r": 0.7}),
            OptionError,
            "that show the shift's classes, among these classes",
        ),
        (lambda: evaluate_robustness({"imagenet_v2": 0.7}), OptionError, "under the key 'imagenet'"),
        (lambda: evaluate_robustness({"imagenet_r": ("a", 0.7)}), InputTypeError, "is 'a' of type str"),
        (lambda: evaluate_robustness({"imagenet_r": (0.9, True)}), InputTypeError, "is True of type bool"),
        (lambda: evaluate_robustness({"imagenet_r": (0.9, math.nan)}), OptionError, "is nan"),
        (lambda: evaluate_robustness({"imagenet_r": (0.9, 0.7)}, base="resnet"), OptionError, "'resnet' is not in the"),
        (lambda: evaluate_robustness({"imagenet_r": (0.9, 0.7)}, base=3), InputTypeError, "base is of type"),  # type: ignore
    ],
)  # fmt: skip
def test_mistakes_are_told(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------------------------------------ figure


def test_the_figure_has_a_panel_for_each_shift_on_logit_scaled_axes(clip: Robustness, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    part = evaluate_robustness({row.shift: (row.reference, row.accuracy) for row in clip.results[:2]}, name="ours")
    figure = part.figure(compare={"the same": part})
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().partition(":")[0] for axes in panels] == ["ImageNet-V2", "ImageNet-Sketch", "average of 2"]
    for axes, row in zip(panels, part.rows, strict=True):
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert lines["ours"].get_xydata().tolist() == [[row.reference, row.accuracy]]
        assert lines["the same"].get_xydata().tolist() == [[row.reference, row.accuracy]]
        x, y = lines["fit to these, 95%"].get_data()
        assert np.ptp(np.diff(logit(y)) / np.diff(logit(x))) < 1e-6  # straight in log-odds
        # As far on the picture as in log-odds.
        low, middle, high = (axes.transData.transform((value, 0.5))[0] for value in (0.5, expit(0.5), expit(1.0)))
        assert middle - low == pytest.approx(high - middle, rel=1e-6)
    part.save_figure(tmp_path / "robustness.svg")
    assert (tmp_path / "robustness.svg").read_text().count("ImageNet-Sketch") >= 1
    with pytest.raises(OptionError, match=r"expected a suffix such as \.png"):
        part.save_figure(tmp_path / "robustness.txt")


def test_without_a_baseline_there_is_nothing_to_draw() -> None:
    with pytest.raises(OptionError, match="none of the shifts has a baseline to draw"):
        evaluate_robustness({"night": (0.8, 0.5)}).figure()
