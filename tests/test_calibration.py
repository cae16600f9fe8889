"""Calibration: the temperature is where the likelihood is highest, heads keep it, and it helps new images."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

import zeroshot
from zeroshot.calibration import calibrate, calibrate_head, fit_temperature, reliability
from zeroshot.errors import InputTypeError, OptionError
from zeroshot.head import Head, build_head
from zeroshot.metrics import expected_calibration_error

Floats = npt.NDArray[np.float64]


def drawn(n: int, classes: int, temperature: float, *, seed: int = 0) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Draw logits, and targets that follow ``softmax(logits / temperature)``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, size=(n, classes))
    noise = rng.gumbel(size=(n, classes))
    return logits, (logits / temperature + noise).argmax(axis=1)


def softmax(logits: Floats) -> Floats:
    probabilities: Floats = torch.from_numpy(logits).softmax(dim=-1).numpy()
    return probabilities


def head_of(classes: int, **settings: Any) -> Head:
    labels = tuple(f"class {index}" for index in range(classes))
    return Head(torch.eye(classes), labels, 1.0, None, "m", "f", **settings)


# ------------------------------------------------------------------------------------------------------ temperature


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.sampled_from([0.3, 1.0, 2.5, 7.0]), st.integers(0, 1000))
def test_the_temperature_is_where_the_likelihood_is_highest(classes: int, temperature: float, seed: int) -> None:
    logits, targets = drawn(60, classes, temperature, seed=seed)
    own = logits[np.arange(60), targets]
    assume((own < logits.max(axis=1)).any())
    assume((logits.mean(axis=1) < own).mean() > 0.6)

    def loss(log_temperature: float) -> float:
        return float(log_loss(targets, softmax(logits / math.exp(log_temperature)), labels=range(classes)))

    found = minimize_scalar(loss, bracket=(-1, 1), tol=1e-10)
    fitted = fit_temperature(logits, targets)
    assert math.log(fitted) == pytest.approx(found.x, abs=1e-4)
    assert loss(math.log(fitted)) <= min(loss(math.log(fitted * 1.01)), loss(math.log(fitted / 1.01)))


def test_the_temperature_that_was_drawn_with_comes_back() -> None:
    for temperature in (0.5, 1.0, 3.0):
        assert fit_temperature(*drawn(20_000, 5, temperature)) == pytest.approx(temperature, rel=0.03)


def test_logits_that_are_scaled_scale_the_temperature() -> None:
    logits, targets = drawn(200, 4, 2.0)
    assert fit_temperature(10 * logits, targets) == pytest.approx(10 * fit_temperature(logits, targets))


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.eye(4), [0, 1, 2, 3], "all 4 images are right"),
        (np.eye(4), [1, 2, 3, 0], "no temperature helps"),
        (np.zeros((4, 2)), [0, 1, 0, 1], "all 4 images are right|no temperature helps"),
        (np.full((4, 2), np.nan), [0, 1, 0, 1], "finite"),
        (np.eye(4)[:0], [], "finite numbers"),
        (np.eye(4), [0, 1], r"shape \(2,\) for 4 images"),
        (np.eye(4), [0, 1, 2, 4], "target 4 is no class"),
    ],
)
def test_there_may_be_no_best_temperature(logits: Any, targets: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        fit_temperature(logits, targets)


# ------------------------------------------------------------------------------------------------------------ diagram


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(1, 20), st.integers(0, 1000))
def test_the_diagram_has_the_error_of_the_metrics(classes: int, bins: int, seed: int) -> None:
    logits, targets = drawn(80, classes, 2.0, seed=seed)
    rows = softmax(logits)
    found = reliability(rows, targets, bins=bins)
    assert found.error == pytest.approx(expected_calibration_error(rows, targets, bins=bins), abs=1e-12)
    assert found.log_loss == pytest.approx(log_loss(targets, rows, labels=range(classes)))
    assert found.counts.sum() == 80
    filled = found.counts > 0
    by_hand = np.abs(found.confidence - found.accuracy)[filled] @ found.counts[filled] / 80
    assert found.error == pytest.approx(by_hand)
    assert np.isnan(found.confidence[~filled]).all()


def test_the_diagram_is_scikit_learns() -> None:
    logits, targets = drawn(500, 3, 2.0)
    rows = softmax(logits)
    found = reliability(rows, targets, bins=10)
    accuracy, confidence = calibration_curve(rows.argmax(axis=1) == targets, rows.max(axis=1), n_bins=10)
    filled = found.counts > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy)
    np.testing.assert_allclose(found.confidence[filled], confidence)


def test_a_diagram_of_several_labels_counts_each() -> None:
    rows = np.array([[0.9, 0.1], [0.8, 0.3]])
    found = reliability(rows, np.array([[True, False], [False, True]]), bins=2)
    assert found.counts.tolist() == [2, 2]
    np.testing.assert_allclose(found.accuracy, [0.5, 0.5])
    np.testing.assert_allclose(found.confidence, [0.2, 0.85])
    assert found.log_loss == pytest.approx(-np.log([0.9, 0.9, 0.2, 0.3]).mean())


# --------------------------------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_a_calibrated_head_is_nearer_to_the_truth_and_ranks_as_before(temperature: float, tmp_path: Path) -> None:
    logits, targets = drawn(2000, 4, temperature)
    fresh, truth = drawn(2000, 4, temperature, seed=1)
    head = head_of(4)
    found = calibrate_head(head, logits, targets)
    assert found.temperature == pytest.approx(temperature, rel=0.1) == found.head.temperature
    assert found.after.error < 0.4 * found.before.error
    assert found.after.log_loss < found.before.log_loss
    found.head.save(tmp_path / "head")
    again = Head.load(tmp_path / "head")
    scores = again.logits(torch.from_numpy(np.float32(fresh))).numpy()
    np.testing.assert_allclose(scores, fresh / found.temperature, rtol=1e-5, atol=1e-6)
    before, after = (expected_calibration_error(softmax(each), truth) for each in (fresh, np.float64(scores)))
    assert after < 0.4 * before
    assert (scores.argmax(axis=1) == fresh.argmax(axis=1)).all()
    assert found.accuracy == (logits.argmax(axis=1) == targets).mean()


def test_after_is_measured_on_images_that_took_no_part() -> None:
    logits, targets = drawn(60, 4, 3.0)
    found = calibrate_head(head_of(4), logits, targets)
    best_there_is = log_loss(targets, softmax(logits / found.temperature), labels=range(4))
    assert found.after.log_loss > best_there_is


def test_a_calibrated_head_can_be_calibrated_again() -> None:
    logits, targets = drawn(500, 4, 3.0)
    first = calibrate_head(head_of(4), logits, targets).head
    second = calibrate_head(first, logits / first.temperature, targets)
    assert second.temperature == pytest.approx(1.0)
    assert second.head.temperature == pytest.approx(first.temperature)


def test_classifiers_of_a_calibrated_head_use_it(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    head = build_head(fake, ["cat", "dog", "fox"], cache=False)
    monkeypatch.setattr("zeroshot.stream.open_image", lambda image: image)  # the images of `fake` are names
    images = [f"image {index}" for index in range(60)]
    logits = head.logits(fake.encode_images(images)).double().numpy()
    targets = (logits / 4 + np.random.default_rng(0).gumbel(size=logits.shape)).argmax(axis=1)
    classifier = zeroshot.Classifier.from_head(head, model=fake)
    found = calibrate(classifier, images, targets)
    assert found.head.digest == ""  # no longer what the prompts alone make
    assert found.temperature == pytest.approx(fit_temperature(logits, targets), rel=1e-4)
    calibrated = zeroshot.Classifier.from_head(found.head, model=fake).predict_proba(images)
    np.testing.assert_allclose(calibrated, softmax(logits / found.temperature), atol=1e-5)
    assert np.abs(calibrated - classifier.predict_proba(images)).max() > 0.1


def test_probes_and_background_classes_are_calibrated_too() -> None:
    logits, targets = drawn(300, 4, 2.0)
    head = replace(head_of(3), weight=torch.eye(4), background=1)
    assert calibrate_head(head, logits, targets).head.background == 1
    biased = replace(head_of(4), bias=torch.tensor([1.0, 0.0, -1.0, 0.0]))
    changed = calibrate_head(biased, logits, targets).head
    rows = torch.from_numpy(np.float32(logits))
    torch.testing.assert_close(changed.logits(rows), biased.logits(rows) / changed.temperature)


# ------------------------------------------------------------------------------------------------------------ sigmoid


def test_a_sigmoid_gets_a_slope_and_an_offset(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    head = replace(head_of(3), logit_scale=10.0, logit_bias=-4.0, temperature=1.25)
    rows = rng.normal(size=(2000, 3))
    logits = head.logits(torch.from_numpy(np.float32(rows))).double().numpy()
    shown = rng.random(logits.shape) < 1 / (1 + np.exp(-(0.5 * logits + 1.5)))
    found = calibrate_head(head, logits, shown, multi_label=True)
    assert 1 / found.temperature == pytest.approx(0.5, rel=0.1)
    assert found.offset == pytest.approx(1.5, rel=0.1)

    def loss(parameters: Any) -> float:
        scores = parameters[0] * logits + parameters[1]
        return float((np.logaddexp(0, scores) - shown * scores).mean())

    by_scipy = minimize(loss, [1.0, 0.0], tol=1e-9).x
    np.testing.assert_allclose([1 / found.temperature, found.offset], by_scipy, atol=1e-4)
    scores = found.head.logits(torch.from_numpy(np.float32(rows))).double().numpy()
    np.testing.assert_allclose(scores, logits / found.temperature + found.offset, rtol=1e-4, atol=1e-4)
    assert found.after.error < 0.3 * found.before.error
    found.head.save(tmp_path / "head")
    assert Head.load(tmp_path / "head").logit_bias == found.head.logit_bias


def test_positions_do_for_a_sigmoid_too() -> None:
    logits, targets = drawn(300, 3, 2.0)
    head = replace(head_of(3), logit_bias=0.0)
    one_hot = targets[:, None] == np.arange(3)
    by_position, by_table = (calibrate_head(head, logits, each, multi_label=True) for each in (targets, one_hot))
    assert (by_position.temperature, by_position.offset) == (by_table.temperature, by_table.offset)


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (np.zeros((4, 4), dtype=bool), "all classes, or none"),
        (np.eye(4, dtype=bool), "grows without end"),
        (~np.eye(4, dtype=bool), "no slope above 0 helps"),
        (np.eye(4), "targets are float64"),
        (np.eye(4, dtype=int) * 2, "targets are int64"),
        (np.eye(3, dtype=bool), r"booleans of shape \(4, 4\)"),
    ],
)
def test_sigmoids_that_cannot_be_calibrated(shown: Any, message: str) -> None:
    logits = np.eye(4) + np.linspace(0, 0.1, 16).reshape(4, 4)
    with pytest.raises(OptionError, match=message):
        calibrate_head(replace(head_of(4), logit_bias=0.0), logits, shown, multi_label=True)


# ----------------------------------------------------------------------------------------------------- what is shown


def test_it_prints_and_becomes_json() -> None:
    found = calibrate_head(head_of(4), *drawn(300, 4, 3.0))
    lines = str(found).splitlines()
    assert lines[0] == f"temperature {found.temperature:.3f}; accuracy {found.accuracy:.1%}"
    assert [line.split()[0] for line in lines[3:]] == ["before", "after"]
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["temperature"] == found.temperature
    assert told["before"]["counts"] == found.before.counts.tolist()


def test_the_diagram_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = calibrate_head(head_of(4), *drawn(300, 4, 3.0))
    titles = [axes.get_title() for axes in found.figure().axes]
    assert titles == [
        f"{name}: calibration error {each.error:.1%}"
        for name, each in (("before", found.before), ("after", found.after))
    ]
    found.save_figure(tmp_path / "diagram.png")
    assert (tmp_path / "diagram.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("logits", "targets", "error", "message"),
    [
        (np.eye(3), [0, 1, 2], OptionError, r"shape \(3, 3\); expected \(n_images, 4\)"),
        (np.eye(4), [0.0, 1.0, 2.0, 3.0], InputTypeError, "targets are float64"),
        (np.full((2, 4), np.inf), [0, 1], OptionError, "finite"),
    ],
)
def test_what_does_not_fit_is_told(logits: Any, targets: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        calibrate_head(head_of(4), logits, targets)


def test_probabilities_that_are_none() -> None:
    for rows in (np.eye(2) * 2, np.eye(2) - 1, np.zeros((0, 2)), np.zeros(3)):
        with pytest.raises(OptionError, match=r"numbers in \[0, 1\]"):
            reliability(rows, [0, 1])
