"""Calibration: probabilities that come true as often as they say, by one number fitted on held-out images.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017: logits are divided by a
temperature that minimises the negative log-likelihood. No class changes its rank, so accuracy stays what it is. For
scores that stand each for themselves (sigmoid) a slope and an offset take its place: Platt, Probabilistic Outputs for
Support Vector Machines, 1999.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from zeroshot.classifier import Classifier
from zeroshot.errors import InputTypeError, OptionError, check_positive
from zeroshot.figures import new_figure, save_figure
from zeroshot.head import Head
from zeroshot.probe import embed_images

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.int64]

BINS = 15  # Guo et al.'s
_FOLDS = 5
# Slopes beyond these make no difference that float32 could show: the likelihood then grows without end.
_LEAST, _MOST = 1e-6, 1e6


@dataclass(frozen=True, eq=False)
class Reliability:
    """How confidence and accuracy go together: what a reliability diagram shows.

    Attributes
    ----------
    edges : ndarray of shape (bins + 1,), float64
        Of the bins, from 0 to 1; each holds its upper end.
    counts : ndarray of shape (bins,), int64
        Images in each bin; for sigmoids, images times classes.
    confidence : ndarray of shape (bins,), float64
        Mean probability in each bin; NaN where it is empty.
    accuracy : ndarray of shape (bins,), float64
        Share that is right in each bin; NaN where it is empty.
    error : float
        Expected calibration error, in [0, 1], as `zeroshot.metrics.expected_calibration_error` has it.
    log_loss : float
        Mean negative log-likelihood, in nats.

    Examples
    --------
    >>> found = reliability([[0.75, 0.25]] * 4, [0, 0, 0, 1], bins=2)
    >>> found.edges.tolist(), found.counts.tolist(), round(found.log_loss, 4)
    ([0.0, 0.5, 1.0], [0, 4], 0.5623)
    >>> found.to_dict()["accuracy"]
    [None, 0.75]
    """

    edges: npt.NDArray[np.float64]
    counts: Integers
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    error: float
    log_loss: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as numbers and lists, None for what is empty, for JSON."""
        means = {name: getattr(self, name).tolist() for name in ("confidence", "accuracy")}
        return {
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            **{name: [None if math.isnan(value) else value for value in values] for name, values in means.items()},
            "expected_calibration_error": self.error,
            "log_loss": self.log_loss,
        }


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibrate` found.

    Attributes
    ----------
    head : Head
        The head with the temperature; classifiers of it give calibrated probabilities.
    temperature : float
        What logits are divided by, above 0; above 1 where the head was too sure.
    offset : float
        What is added after that; 0 but for sigmoids.
    accuracy : float
        Top-1, in [0, 1], the same before and after; for sigmoids the share of right yes and no at 0.5, before.
    before, after : Reliability
        Without and with the calibration. `after` is measured on images that took no part: each fifth with what the
        other four give.

    Examples
    --------
    >>> import zeroshot
    >>> clf = zeroshot.Classifier(["cat", "rocket"], model="mini")
    >>> cat, rocket = "examples/images/cat.jpg", "examples/images/rocket.jpg"
    >>> found = calibrate(clf, [cat, rocket, cat, rocket, cat, cat], [0, 1, 0, 1, 0, 1])  # the last is wrong
    >>> round(found.temperature, 1), round(found.accuracy, 3), found.head.temperature == found.temperature
    (4.1, 0.833, True)
    >>> sorted(found.to_dict())
    ['accuracy', 'after', 'before', 'model', 'offset', 'temperature']
    >>> found.save_figure("reliability.png")  # doctest: +SKIP
    >>> type(found.figure()).__name__  # with the extra `plot`
    'Figure'
    """

    head: Head
    temperature: float
    offset: float
    accuracy: float
    before: Reliability
    after: Reliability

    def __str__(self) -> str:
        """A small table, for `print`."""
        offset = f", offset {self.offset:+.3f}" if self.offset else ""
        rows = [
            f"{name:<8}{reliability.error:>18.1%}{reliability.log_loss:>12.3f}"
            for name, reliability in (("before", self.before), ("after", self.after))
        ]
        title = f"temperature {self.temperature:.3f}{offset}; accuracy {self.accuracy:.1%}"
        return "\n".join([title, "", f"{'':<8}{'calibration error':>18}{'log loss':>12}", *rows])

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the head, for JSON."""
        return {
            "model": self.head.model,
            "temperature": self.temperature,
            "offset": self.offset,
            "accuracy": self.accuracy,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }

    def figure(self) -> Any:
        """Draw the reliability diagrams before and after.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        figure = new_figure(7.2, 3.8)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name, reliability in zip(panels, ("before", "after"), (self.before, self.after), strict=True):
            _draw(axes, name, reliability)
        panels[0].set_ylabel("accuracy")
        return figure

    def save_figure(self, path: str | os.PathLike[str]) -> None:
        """Write the reliability diagrams to a file: ``.png``, ``.svg`` or ``.pdf``.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        save_figure(self.figure(), path)


def calibrate(
    classifier: Classifier,
    images: Any,
    targets: Sequence[int] | npt.NDArray[Any],
    *,
    bins: int = BINS,
    batch_size: int = 32,
) -> Calibration:
    """Fit the temperature of a classifier on images whose classes are known, and that nothing was fitted on.

    Parameters
    ----------
    classifier : Classifier
        Its head may be one of names or a probe. With `multi_label` a slope and an offset for all classes are fitted.
    images : iterable of images
        As `Classifier` takes them; some hundreds are enough for one number.
    targets : sequence of int, of shape (n_images,)
        Positions of the right classes among the labels, from 0; with `multi_label` also booleans of shape (n_images,
        n_classes), which classes an image shows.
    bins : int
        Of the reliability diagrams.
    batch_size : int
        Images that go through the network at once.

    Returns
    -------
    Calibration

    Raises
    ------
    OptionError
        If shapes or values do not fit; or if no temperature is the best: all images are right, or no better than
        chance.
    ImageError
        If an image cannot be decoded; the message names it.

    Examples
    --------
    ::

        calibration = zeroshot.calibration.calibrate(classifier, held_out_images, held_out_targets)
        print(calibration)
        calibration.head.save("pets.safetensors")
        classifier = zeroshot.Classifier.from_head("pets.safetensors")

    What it gives, on the example photographs with one wrong name among them:

    >>> import zeroshot
    >>> clf = zeroshot.Classifier(["cat", "rocket"], model="mini")
    >>> cat, rocket = "examples/images/cat.jpg", "examples/images/rocket.jpg"
    >>> found = calibrate(clf, [cat, rocket, cat, rocket, cat, cat], [0, 1, 0, 1, 0, 1])
    >>> clf(cat).score > 0.99, round(zeroshot.Classifier.from_head(found.head)(cat).score, 2)
    (True, 0.83)
    """
    check_positive("bins", bins)
    logits = _logits(classifier, images, check_positive("batch_size", batch_size))
    return calibrate_head(classifier.head, logits, targets, multi_label=classifier.multi_label, bins=bins)


def calibrate_head(
    head: Head, logits: Any, targets: Any, *, multi_label: bool = False, bins: int = BINS
) -> Calibration:
    """Fit the temperature on logits that are computed already; else as `calibrate`.

    Parameters
    ----------
    head : Head
    logits : array-like of shape (n_images, n_classes + background)
        As `Head.logits` gives them.
    targets, multi_label, bins
        As for `calibrate`; `multi_label` as for `Classifier`.

    Returns
    -------
    Calibration

    Raises
    ------
    OptionError
        As `calibrate` does.
    InputTypeError
        If targets are no whole numbers, or what comes is no array.

    Examples
    --------
    >>> import zeroshot
    >>> head = zeroshot.build_head(zeroshot.load("mini"), ["cat", "dog"])
    >>> found = calibrate_head(head, [[2.0, 0.0]] * 3 + [[0.0, 2.0]], [0, 0, 0, 0])
    >>> round(found.temperature, 4), found.accuracy
    (1.8205, 0.75)
    """
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] != len(head.weight) or not len(scores):
        raise OptionError(
            f"logits have the shape {scores.shape}; expected (n_images, {len(head.weight)}), at least one image, as "
            "Head.logits gives them"
        )
    if not np.isfinite(scores).all():
        raise OptionError("the logits hold NaN or infinity; expected finite numbers")
    truth = _check_targets(targets, scores, multi_label=multi_label)
    fit = _fit_sigmoid if multi_label else _fit_softmax
    slope, offset = fit(scores, truth)
    after = _cross_fitted(scores, truth, fit, (slope, offset))
    probabilities = _sigmoid(scores) if multi_label else _softmax(scores)
    changed = replace(head, temperature=head.temperature / slope, digest="")
    if multi_label:
        # (z + b) / T is slope · z / T₀ + offset: the offset becomes part of the bias, which stands before the division.
        assert head.logit_bias is not None
        changed = replace(changed, logit_bias=head.logit_bias + offset * changed.temperature)
    return Calibration(
        head=changed,
        temperature=1 / slope,
        offset=offset,
        accuracy=float(((scores > 0) == truth).mean() if multi_label else (scores.argmax(axis=1) == truth).mean()),
        before=_reliability(probabilities, truth, bins),
        after=_reliability((_sigmoid if multi_label else _softmax)(after), truth, bins),
    )


def fit_temperature(logits: Any, targets: Any) -> float:
    """Return the temperature that minimises the negative log-likelihood of ``softmax(logits / temperature)``.

    The derivative by the inverse temperature is increasing (the likelihood is that of an exponential family), so its
    only zero is found by halving, to the last digit; there is no step size and no start to choose.

    Parameters
    ----------
    logits : array-like of shape (n_images, n_classes)
    targets : array-like of shape (n_images,)
        Positions of the right classes.

    Raises
    ------
    OptionError
        If shapes or values do not fit; or if no temperature is the best: all images are right, or no better than
        chance.
    InputTypeError
        If targets are no whole numbers, or what comes is no array.

    Examples
    --------
    >>> round(fit_temperature([[2.0, 0.0]] * 3 + [[0.0, 2.0]], [0, 0, 0, 0]), 4)  # right three times in four
    1.8205
    """
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim != 2 or not len(scores) or not np.isfinite(scores).all():
        raise OptionError(f"logits have the shape {scores.shape}; expected (n_images, n_classes), finite numbers")
    slope, _ = _fit_softmax(scores, _check_targets(targets, scores, multi_label=False))
    return 1 / slope


def reliability(probabilities: Any, targets: Any, *, bins: int = BINS) -> Reliability:
    """Return what a reliability diagram shows.

    Parameters
    ----------
    probabilities : array-like of shape (n_images, n_classes)
        In [0, 1].
    targets : array-like of shape (n_images,), int, or of shape (n_images, n_classes), bool
        Positions of the right classes; or which classes an image shows, each probability then standing for itself.
    bins : int

    Returns
    -------
    Reliability

    Raises
    ------
    OptionError
        If shapes or values do not fit.
    InputTypeError
        If targets are no whole numbers, or what comes is no array.

    Examples
    --------
    >>> found = reliability([[0.75, 0.25]] * 4, [0, 0, 0, 1], bins=2)
    >>> found.counts.tolist(), found.accuracy.tolist()[1], found.error
    ([0, 4], 0.75, 0.0)
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or not len(rows) or not (np.isfinite(rows).all() and rows.min() >= 0 and rows.max() <= 1 + 1e-6):
        raise OptionError(
            f"probabilities have the shape {rows.shape}; expected (n_images, n_classes), numbers in [0, 1]"
        )
    return _reliability(
        rows, _check_targets(targets, rows, multi_label=np.ndim(targets) == 2), check_positive("bins", bins)
    )


# --------------------------------------------------------------------------------------------------------- formulas


def _fit_softmax(scores: Floats, targets: Integers) -> tuple[float, float]:
    """Return the factor on the logits that is most likely, and no offset."""
    own = scores[np.arange(len(scores)), targets]

    def derivative(slope: float) -> float:
        return float(((_softmax(slope * scores) * scores).sum(axis=1) - own).mean())

    if (own >= scores.max(axis=1)).all():
        raise OptionError(
            f"all {len(scores)} images are right, so the likelihood grows without end as the temperature falls to 0; "
            "expected held-out images that the classifier finds hard, some of them wrong"
        )
    if derivative(0.0) >= 0:
        raise OptionError(
            "the right classes have no higher logits than the others on average, so no temperature helps; expected a "
            "classifier that is better than chance, and targets in the order of its labels"
        )
    return _root(derivative), 0.0


def _root(derivative: Any) -> float:
    """Return where an increasing function that is negative at 0 and positive far out is 0."""
    low, high = _LEAST, _MOST
    if derivative(low) >= 0 or derivative(high) <= 0:
        raise OptionError("the best temperature lies outside of 1e-6 to 1e6; are these logits?")
    while True:
        middle = math.sqrt(low * high)
        if not low < middle < high:
            return middle
        low, high = (middle, high) if derivative(middle) < 0 else (low, middle)


def _fit_sigmoid(scores: Floats, shown: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and offset that are most likely, by Newton's method on a convex function of two numbers."""
    logits, truth = scores.ravel(), shown.ravel().astype(np.float64)
    if not 0 < truth.sum() < len(truth):
        raise OptionError("the images show all classes, or none; expected some of both for a slope and an offset")
    positive, negative = logits[truth == 1], logits[truth == 0]
    if positive.min() >= negative.max():
        raise OptionError(
            "all that is shown scores above all that is not, so the likelihood grows without end; expected held-out "
            "images that the classifier finds hard, some of them wrong"
        )
    centre, spread = logits.mean(), logits.std()
    inputs = np.column_stack([(logits - centre) / spread, np.ones(len(logits))])

    def loss(coefficients: Floats) -> float:
        return float(_binary_losses(inputs @ coefficients, truth).mean())

    share = truth.mean()
    found = np.array([0.0, math.log(share / (1 - share))])
    for _ in range(100):
        odds = _sigmoid(inputs @ found)
        gradient = inputs.T @ (odds - truth) / len(truth)
        curvature = (inputs * (odds * (1 - odds))[:, None]).T @ inputs / len(truth)
        step = np.linalg.solve(curvature + 1e-15 * np.eye(2), gradient)
        size = 1.0
        while size > 1e-10 and loss(found - size * step) > loss(found):
            size /= 2
        found = found - size * step
        if np.abs(gradient).max() < 1e-12:
            break
    slope = float(found[0] / spread)
    if slope <= 0:
        raise OptionError(
            "what is shown scores no higher than what is not, so no slope above 0 helps; expected a classifier that is "
            "better than chance, and targets in the order of its labels"
        )
    return slope, float(found[1] - slope * centre)


def _cross_fitted(scores: Floats, truth: Any, fit: Any, whole: tuple[float, float]) -> Floats:
    """Return calibrated logits, each fifth by what the others give: what new images may expect."""
    turn = np.random.default_rng(0).permutation(len(scores)) % _FOLDS
    calibrated = np.empty_like(scores)
    for fold in range(_FOLDS):
        held = turn == fold
        try:
            slope, offset = fit(scores[~held], truth[~held])
        except OptionError:  # too few images without these: what all give stands for it
            slope, offset = whole
        calibrated[held] = slope * scores[held] + offset
    return calibrated


def _reliability(probabilities: Floats, truth: Any, bins: int) -> Reliability:
    if truth.ndim == 2:
        chosen, right = probabilities.ravel(), truth.ravel()
        own = np.where(right, chosen, 1 - chosen)
    else:
        chosen, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
        own = probabilities[np.arange(len(truth)), truth]
    edges = np.arange(bins + 1) / bins
    index = np.digitize(chosen, edges[1:-1], right=True)
    counts = np.bincount(index, minlength=bins)
    sums = np.bincount(index, weights=chosen, minlength=bins), np.bincount(index, weights=right, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence, accuracy = sums[0] / counts, sums[1] / counts
    return Reliability(
        edges=edges,
        counts=counts.astype(np.int64),
        confidence=confidence,
        accuracy=accuracy,
        error=float(np.abs(sums[0] - sums[1]).sum() / len(chosen)),
        log_loss=float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean()),
    )


def _softmax(scores: Floats) -> Floats:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def _sigmoid(scores: Floats) -> Floats:
    odds: Floats = np.exp(-np.logaddexp(0, -scores))
    return odds


def _binary_losses(scores: Floats, truth: Floats) -> Floats:
    losses: Floats = np.logaddexp(0, scores) - truth * scores
    return losses


# ---------------------------------------------------------------------------------------------------- images, checks


def _logits(classifier: Classifier, images: Any, batch_size: int) -> Floats:
    rows = embed_images(classifier.encoder, images, batch_size=batch_size)
    logits: Floats = classifier.head.logits(torch.from_numpy(rows)).double().numpy()
    return logits


def _check_targets(targets: Any, scores: Floats, *, multi_label: bool) -> Any:
    truth = np.asarray(targets)
    if multi_label and truth.ndim == 2:
        if truth.shape != scores.shape or truth.dtype.kind not in "biu" or not np.isin(truth, (0, 1)).all():
            raise OptionError(
                f"targets are {truth.dtype} of shape {truth.shape}; expected booleans of shape {scores.shape}"
            )
        return truth.astype(np.bool_)
    if truth.shape != scores.shape[:1]:
        raise OptionError(f"targets have the shape {truth.shape} for {len(scores)} images; expected one for each")
    if truth.dtype.kind not in "iu":
        raise InputTypeError(f"targets are {truth.dtype}; expected positions of classes, whole numbers from 0")
    outside = truth[(truth < 0) | (truth >= scores.shape[1])]
    if len(outside):
        raise OptionError(f"target {outside[0]} is no class; expected positions from 0 to {scores.shape[1] - 1}")
    return truth[:, None] == np.arange(scores.shape[1]) if multi_label else truth.astype(np.int64)


def _draw(axes: Any, name: str, found: Reliability) -> None:
    filled = found.counts > 0
    width = 1 / len(found.counts)
    left = found.edges[:-1][filled]
    share = found.counts[filled] / found.counts.sum()
    axes.plot([0, 1], [0, 1], color="#767676", linestyle="--", linewidth=1)
    bars = axes.bar(left, found.accuracy[filled], width=width, align="edge", color="#4c8bf5", edgecolor="white")
    for bar, part in zip(bars, share, strict=True):  # pale where few images stand behind it
        bar.set_alpha(0.25 + 0.75 * float(part) / float(share.max()))
    axes.plot(found.confidence[filled], found.accuracy[filled], color="#b3261e", marker="o", markersize=3, linewidth=0)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=f"{name}: calibration error {found.error:.1%}")
    axes.set_aspect("equal")
