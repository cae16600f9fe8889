"""Linear probes: a head that is fitted on labelled images, from nothing or from a zero-shot head.

From nothing it is the probe of CLIP's paper (Radford et al., Learning Transferable Visual Models From Natural Language
Supervision, 2021, appendix A.3): scikit-learn's logistic regression by L-BFGS on the features before the projection, at
most 1,000 iterations, the L2 strength found on a validation part.

From a zero-shot head it is the same objective, but the penalty pulls towards the zero-shot weights in place of 0
(L2-SP: Li, Grandvalet, Davoine, Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML 2018;
for CLIP: Silva-Rodriguez et al., A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models, CVPR 2024).
An infinite strength is the zero-shot head itself, so that few images need not do harm.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zeroshot.classifier import ModelLike, as_encoder
from zeroshot.embeddings import Embeddings
from zeroshot.encoder import Encoder, FeatureEncoder, dtype_name, feature_encoder, has_features
from zeroshot.errors import HeadError, InputTypeError, LabelError, MissingExtraError, OptionError, check_positive
from zeroshot.head import Head, Space
from zeroshot.stream import EmbeddedBatch, embed_batches

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.int64]

MAX_ITERATIONS = 1000
# Where nothing can be held out: 1 / 0.316, of the example in CLIP's repository.
DEFAULT_L2 = 10**0.5
# Of the slope, for fits of a search: scikit-learn's.
_TOLERANCE = 1e-4
# Strengths that are looked at: 10^(k / 8), from 1e-6 to 1e6, which is 96 steps. The search begins with every sixteenth.
_PER_DECADE, _DECADES, _FIRST_STEP = 8, 6, 16
# Below so many images of the rarest class one validation part says too little, and all take turns at being one.
_ENOUGH_TO_SPLIT, _SHARE, _FOLDS = 20, 0.2, 5


@dataclass(frozen=True)
class Trial:
    """One strength of the penalty, and how the probe does with it on images that it has not seen.

    Attributes
    ----------
    l2 : float
        Strength; ``inf`` for the zero-shot head as it is.
    accuracy : float
        Top-1, in [0, 1].
    log_loss : float
        Mean negative log-likelihood, in nats.

    Examples
    --------
    >>> trials = search_l2(lambda l2: (1 - abs(math.log10(l2) - 1.3) / 10, 0.0))
    >>> round(trials[0].accuracy, 3), trials[0].log_loss
    (0.995, 0.0)
    """

    l2: float
    accuracy: float
    log_loss: float


def fit_probe(
    encoder: ModelLike,
    images: Any,
    labels: Sequence[str] | Sequence[int] | npt.NDArray[Any],
    *,
    classes: Sequence[str] | None = None,
    anchor: Head | None = None,
    space: Space | None = None,
    l2: float | None = None,
    validation: tuple[Any, Any] | None = None,
    standardize: bool = False,
    seed: int = 0,
    batch_size: int = 32,
) -> Head:
    """Fit a linear classifier on labelled images.

    Parameters
    ----------
    encoder : str, path or Encoder
        Also one for images alone, as `zeroshot.adapters.from_timm` and `from_functions` make them.
    images : iterable of images, array of shape (n_images, dim) of floats, or Embeddings
        Images as `Classifier` takes them; or what `space` says of them, computed before; or kept embeddings.
    labels : sequence of str or int, of shape (n_images,)
        The class of each image: its name, or its position among `classes`.
    classes : sequence of str, optional
        Names of the classes in the order of the head's rows. By default the names among `labels`, sorted; or those of
        `anchor`.
    anchor : Head, optional
        A zero-shot head for the same classes, to begin with and to stay near; the pull to it takes the place of the
        pull to 0, and the result reads embeddings as it does. Without it the probe begins with nothing.
    space : {"features", "embeddings"}, optional
        What the probe reads. By default features, as in CLIP's paper, where the encoder has them, else embeddings. It
        has to be said of an array, which does not tell.
    l2 : float, optional
        Strength of the penalty, above 0: ``1 / C`` of scikit-learn. By default it is searched: see Notes.
    validation : pair of images and labels, optional
        On which it is searched; afterwards they join the others, as in the paper. By default a fifth of the images of
        each class; with fewer than 20 images in the rarest class, each of five parts in turn, and with `anchor` of ten.
    standardize : bool
        Bring each dimension to mean 0 and variance 1 first. It is folded into the head. The paper does not.
    seed : int
        Which images are held out for validation.
    batch_size : int
        Images that go through the network at once.

    Returns
    -------
    Head
        With ``logit_scale`` 1 and the intercepts as ``bias``; ``softmax(head.logits(x))`` is scikit-learn's
        ``predict_proba``, and ``weight`` its ``coef_``. For two classes it has one row w, which is -w/2 and w/2 here.
        ``head.origin`` says how it was made.

    Raises
    ------
    OptionError
        If an option is out of its range, there are not as many labels as images, or too few images for a search.
    LabelError
        If a label is none of the classes, or a class has no image.
    HeadError
        If `anchor` or kept embeddings are of another encoder.
    ImageError
        If an image cannot be decoded; the message names it.
    MissingExtraError
        If scikit-learn is not installed.

    Notes
    -----
    The search is the paper's: accuracies for strengths 1e-6, 1e-4, …, 1e6; then the interval around the best is halved
    four times, down to eight steps a decade. Of equally accurate ones the one with the lower log loss is better. With
    `anchor` the log loss decides alone, and the zero-shot head itself takes part: it stays unless something is better.

    The penalty of scikit-learn leaves the intercepts free. With `anchor` they are pulled to 0, since else no strength
    would bring back the zero-shot head.

    Examples
    --------
    >>> import zeroshot
    >>> photographs = [f"examples/images/{name}.jpg" for name in ("cat", "rocket", "coffee")]
    >>> head = fit_probe("mini", photographs, ["animal", "thing", "thing"], l2=1.0)
    >>> head
    <Head: 2 classes (animal, thing), 1280-d features, for 'mini', linear probe on 3 images, l2 1>
    >>> zeroshot.Classifier.from_head(head)("examples/images/cat.jpg").label
    'animal'
    """
    source = _source(encoder, space, anchor, images)
    kind: Space = "features" if isinstance(source, FeatureEncoder) else "embeddings"
    if l2 is not None:
        _check_l2(l2)
    if anchor is not None and standardize:
        raise OptionError("standardize and anchor were both given; the zero-shot head reads embeddings as they are")
    names, targets = as_targets(labels, classes if anchor is None else _classes_of(anchor, classes))
    rows = embed_images(source, images, batch_size=batch_size)
    _check_counts(rows, targets, names)
    parts = []
    if l2 is None and validation is None:
        parts = _parts(targets, seed) if anchor is None else _anchored_parts(targets, seed)
    if validation is not None:
        if l2 is not None:
            raise OptionError("l2 and validation were both given; images for validation serve the search of l2 alone")
        held_rows = embed_images(source, validation[0], batch_size=batch_size)
        _, held_targets = as_targets(validation[1], names)
        _check_lengths(held_rows, held_targets)
        parts = [(np.arange(len(targets)), np.arange(len(targets), len(targets) + len(held_targets)))]
        rows, targets = np.concatenate([rows, held_rows]), np.concatenate([targets, held_targets])
    if anchor is None:
        return _from_nothing(source, kind, rows, targets, names, l2, parts, standardize)
    return _from_anchor(source, anchor, rows, targets, l2, parts)


def _from_nothing(
    source: Encoder,
    kind: Space,
    rows: Floats,
    targets: Integers,
    names: tuple[str, ...],
    l2: float | None,
    parts: Sequence[tuple[Integers, Integers]],
    standardize: bool,
) -> Head:
    mean, spread = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    if standardize:
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        spread[spread == 0] = 1  # a dimension that is always the same says nothing, and stays
        rows = (rows - mean) / spread
    found = ""
    if l2 is None:
        if not parts:
            raise OptionError(
                "a class has one image only, so none can be held out to find the strength of the penalty; give l2, or "
                "validation=(images, labels), or more images"
            )
        searched = rotated(rows)[0] if len(rows) < rows.shape[1] else rows  # the same fits, in fewer dimensions
        best = search_l2(lambda strength: _try(searched, targets, parts, strength))[0]
        l2, found = best.l2, f", validation accuracy {best.accuracy:.1%}"
    weight, bias = logistic_regression(rows, targets, l2)
    weight = weight / spread
    bias = bias - weight @ mean
    return Head(
        weight=torch.from_numpy(weight.astype(np.float32)),
        labels=names,
        logit_scale=1.0,
        logit_bias=None,
        model=source.name,
        fingerprint=source.fingerprint,
        dtype=dtype_name(source),
        bias=torch.from_numpy(bias.astype(np.float32)),
        space=kind,
        origin=f"linear probe on {len(targets)} images, l2 {l2:.3g}{found}",
    )


def _from_anchor(
    source: Encoder,
    anchor: Head,
    rows: Floats,
    targets: Integers,
    l2: float | None,
    parts: Sequence[tuple[Integers, Integers]],
) -> Head:
    problem = _Anchored(rows, targets, anchor)
    found = ""
    if l2 is None:
        best = problem.search(parts)
        l2, found = best.l2, f", validation accuracy {best.accuracy:.1%}"
    weight, bias = problem.fit(l2)
    heat = anchor.temperature  # what was fitted is added behind the division by it
    origin = f"probe from zero-shot on {len(targets)} images, l2 {l2:.3g}{found}"
    return replace(
        anchor,
        weight=anchor.weight + torch.from_numpy((weight * (heat / anchor.logit_scale)).astype(np.float32)),
        bias=torch.from_numpy((bias * heat).astype(np.float32)) + (0 if anchor.bias is None else anchor.bias),
        model=source.name,
        digest="",
        origin=origin,
    )


# --------------------------------------------------------------------------------------------------------- the fits


def logistic_regression(rows: Floats, targets: Integers, l2: float) -> tuple[Floats, Floats]:
    """Fit scikit-learn's multinomial logistic regression, as CLIP's paper does.

    Parameters
    ----------
    rows : ndarray of shape (n_images, dim)
        Computed with in float64.
    targets : ndarray of shape (n_images,), int64
        Positions of the classes; each class has an image.
    l2 : float
        ``1 / C``.

    Returns
    -------
    weight : ndarray of shape (n_classes, dim), float64
    bias : ndarray of shape (n_classes,), float64

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.

    Examples
    --------
    >>> weight, bias = logistic_regression(np.eye(3), np.array([0, 1, 2]), 1.0)
    >>> weight.shape, bool((np.eye(3) @ weight.T + bias).argmax(axis=1).tolist() == [0, 1, 2])
    ((3, 3), True)
    """
    weight, bias, is_settled = _fit(rows, targets, l2)
    if not is_settled:
        warnings.warn(
            f"the probe had not settled after {MAX_ITERATIONS} iterations, where CLIP's paper stops too; a larger l2 "
            f"than {l2:.3g}, or standardize=True, settles sooner",
            stacklevel=2,
        )
    return weight, bias


def _fit(rows: Floats, targets: Integers, l2: float) -> tuple[Floats, Floats, bool]:
    """Weight, bias, and whether it settled."""
    linear_model = _import("sklearn.linear_model")
    model = linear_model.LogisticRegression(C=1 / l2, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not settle: told by the count
        model.fit(np.asarray(rows, dtype=np.float64), targets)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: the logit of the second against the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias, bool(model.n_iter_.max() < MAX_ITERATIONS)


class _Anchored:
    """Softmax regression with weights that are pulled to those of a head.

    ``sum of cross-entropies + l2 / 2 · (|W - W0|² + |b|²)``, where ``W0`` are the head's rows as they count in its
    logits, with scale and temperature: with ``W0 = 0`` scikit-learn's objective, with a constant dimension in place of
    its intercept. Solutions differ from ``W0`` by combinations of the images, so it is solved in coordinates of as many
    dimensions as there are images at most.
    """

    def __init__(self, rows: Floats, targets: Integers, head: Head) -> None:
        self._optimize = _import("scipy.optimize")
        rows = np.asarray(rows, dtype=np.float64)
        self._targets = targets
        scores: Floats = head.logits(torch.from_numpy(rows)).double().numpy()
        self._scores = scores
        self._inputs, self._axes = rotated(np.column_stack([rows, np.ones(len(rows))]))
        self._classes = scores.shape[1]
        self._dim = rows.shape[1]
        self._counts = np.bincount(targets, minlength=self._classes)

    def fit(self, l2: float) -> tuple[Floats, Floats]:
        """Return what is added to the scaled rows, (n_classes, dim), and to the biases, (n_classes,)."""
        change = self._solve(np.arange(len(self._targets)), l2, tolerance=1e-7) @ self._axes
        return change[:, : self._dim], change[:, self._dim]

    def search(self, parts: Sequence[tuple[Integers, Integers]]) -> Trial:
        """Return the best strength by log loss; the zero-shot head if none is better."""
        as_it_is = Trial(math.inf, *self._judge(self._scores, np.concatenate([held for _, held in parts])))
        trials = search_l2(lambda l2: self._try(parts, l2), key=lambda trial: (-trial.log_loss, trial.l2))
        return trials[0] if trials[0].log_loss < as_it_is.log_loss else as_it_is

    def _try(self, parts: Sequence[tuple[Integers, Integers]], l2: float) -> tuple[float, float]:
        scores = self._scores.copy()
        for train, held in parts:
            scores[held] += self._inputs[held] @ self._solve(train, l2).T
        return self._judge(scores, np.concatenate([held for _, held in parts]))

    def _judge(self, scores: Floats, held: Integers) -> tuple[float, float]:
        return judge(scores[held], self._targets[held])

    def _solve(self, chosen: Integers, l2: float, *, tolerance: float = _TOLERANCE) -> Floats:
        """Return the change in rotated coordinates: (n_classes, n_axes)."""
        inputs, offset, targets = self._inputs[chosen], self._scores[chosen], self._targets[chosen]
        shape = (self._classes, inputs.shape[1])
        if math.isinf(l2):
            return np.zeros(shape)
        count = len(targets)
        places = (np.arange(count), targets)
        # What is held out of a class is made up for by the rest of it: else the classes of held images would be rarer.
        share = np.bincount(targets, minlength=self._classes) / np.maximum(self._counts, 1)
        weights = 1 / share[targets]

        def objective(flat: Floats) -> tuple[float, Floats]:
            change = flat.reshape(shape)
            scores = offset + inputs @ change.T
            scores -= scores.max(axis=1, keepdims=True)
            exponentials = np.exp(scores)
            sums = exponentials.sum(axis=1, keepdims=True)
            loss = weights @ (np.log(sums[:, 0]) - scores[places]) + l2 / 2 * (change**2).sum()
            residuals = exponentials / sums
            residuals[places] -= 1
            gradient = (residuals * weights[:, None]).T @ inputs + l2 * change
            return float(loss) / count, gradient.ravel() / count

        options = {"maxiter": MAX_ITERATIONS, "gtol": tolerance, "ftol": 0.0}
        found = self._optimize.minimize(
            objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options
        )
        change: Floats = found.x.reshape(shape)
        return change


def rotated(rows: Floats) -> tuple[Floats, Floats]:
    """Return coordinates of rows in the space that they span, (n, rank), and its axes, (rank, dim).

    A penalty on the length of weights is the same there, and so is what is fitted: weights with a part outside that
    space would be longer and say the same of the rows.
    """
    left, sizes, axes = np.linalg.svd(np.asarray(rows, dtype=np.float64), full_matrices=False)
    rank = max(int((sizes > sizes[0] * max(rows.shape) * np.finfo(np.float64).eps).sum()), 1)
    return left[:, :rank] * sizes[:rank], axes[:rank]


def judge(scores: Floats, targets: Integers) -> tuple[float, float]:
    """Return accuracy, in [0, 1], and mean log loss, in nats, of logits (n_images, n_classes)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]
    return float((scores.argmax(axis=1) == targets).mean()), float(losses.mean())


# ------------------------------------------------------------------------------------------------------- the search


def search_l2(
    measure: Callable[[float], tuple[float, float]],
    *,
    key: Callable[[Trial], Any] = lambda trial: (trial.accuracy, -trial.log_loss, trial.l2),
) -> list[Trial]:
    """Search the strength of the penalty as CLIP's paper does (A.3).

    Parameters
    ----------
    measure : callable
        From a strength to accuracy and log loss on images that were held out.
    key : callable
        What is best is what has the largest one: by default the more accurate, then the lower log loss, then the
        stronger penalty.

    Returns
    -------
    list of Trial
        All that were measured, at most 15 of the 97 strengths, the best first.

    Examples
    --------
    >>> trials = search_l2(lambda l2: (1 - abs(math.log10(l2) - 1.3) / 10, 0.0))
    >>> round(math.log10(trials[0].l2), 3), len(trials)
    (1.25, 15)
    """
    last = _PER_DECADE * _DECADES
    trials: dict[int, Trial] = {}

    def look(position: int) -> None:
        if -last <= position <= last and position not in trials:
            l2 = 10.0 ** (position / _PER_DECADE)
            trials[position] = Trial(l2, *measure(l2))

    step = _FIRST_STEP
    for position in range(-last, last + 1, step):
        look(position)
    while step > 1:
        step //= 2
        best = max(trials, key=lambda position: key(trials[position]))
        look(best - step)
        look(best + step)
    return sorted(trials.values(), key=key, reverse=True)


def _try(rows: Floats, targets: Integers, parts: Sequence[tuple[Integers, Integers]], l2: float) -> tuple[float, float]:
    scores, truth = [], []
    for train, held in parts:
        weight, bias, _ = _fit(rows[train], targets[train], l2)
        scores.append(rows[held] @ weight.T + bias)
        truth.append(targets[held])
    return judge(np.concatenate(scores), np.concatenate(truth))


def _parts(targets: Integers, seed: int) -> list[tuple[Integers, Integers]]:
    """Return positions to fit on and to hold out, one pair or several; none if a class has one image."""
    rng = np.random.default_rng(seed)
    least = np.bincount(targets).min()
    if least < 2:
        return []
    folds = _FOLDS if least >= _FOLDS else int(least)
    turn = np.empty(len(targets), dtype=np.int64)
    for target in range(int(targets.max()) + 1):
        members = rng.permutation(np.flatnonzero(targets == target))
        turn[members] = np.arange(len(members)) % folds  # the first parts get what is left over
    turns = range(1) if least >= _ENOUGH_TO_SPLIT else range(folds)
    return [(np.flatnonzero(turn != fold), np.flatnonzero(turn == fold)) for fold in turns]


def _anchored_parts(targets: Integers, seed: int) -> list[tuple[Integers, Integers]]:
    """The same for what begins with a zero-shot head, which knows classes without an image: a tenth, or one, at a time.

    The less is held out, the nearer the search is to what is fitted in the end. Of a class with one image nothing is
    left then, and what the others say of it can only harm: the zero-shot head stays, unless they all speak for a
    change.
    """
    if np.bincount(targets).min() >= _ENOUGH_TO_SPLIT:
        return _parts(targets, seed)
    order = np.random.default_rng(seed).permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]  # by class, so that those of a class are held out in turn
    turn = np.empty(len(targets), dtype=np.int64)
    turn[order] = np.arange(len(targets)) % min(len(targets), 2 * _FOLDS)
    return [(np.flatnonzero(turn != fold), np.flatnonzero(turn == fold)) for fold in range(int(turn.max()) + 1)]


# ------------------------------------------------------------------------------------------------- images and labels


def as_targets(labels: Any, classes: Sequence[str] | None) -> tuple[tuple[str, ...], Integers]:
    """Return the names of the classes, and the position of each label among them, (n_images,) int64.

    Raises
    ------
    LabelError
        If a label is none of the classes, or the labels are positions and there are no classes.
    """
    if isinstance(labels, str) or not isinstance(labels, (Iterable, np.ndarray)):
        raise InputTypeError(f"labels is of type {type(labels).__name__}; expected a class for each image")
    items = labels.tolist() if isinstance(labels, (np.ndarray, Tensor)) else list(labels)
    if not items:
        raise OptionError("labels is empty; expected a class for each image")
    names = None if classes is None else tuple(classes)
    if all(isinstance(item, str) for item in items):
        names = tuple(sorted(set(items))) if names is None else names
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise LabelError(f"the class {repeated[0]!r} stands twice among the classes; give positions as labels")
        positions = {name: position for position, name in enumerate(names)}
        unknown = [item for item in items if item not in positions]
        if unknown:
            shown = ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
            raise LabelError(f"label {unknown[0]!r} is none of the classes {shown}; expected one of those")
        targets = np.array([positions[item] for item in items], dtype=np.int64)
    elif all(isinstance(item, (int, np.integer)) and not isinstance(item, bool) for item in items):
        if names is None:
            raise LabelError("labels are positions, and no classes were given; expected their names as classes=[…]")
        targets = np.array(items, dtype=np.int64)
        outside = targets[(targets < 0) | (targets >= len(names))]
        if len(outside):
            raise LabelError(f"label {outside[0]} is no class; expected positions from 0 to {len(names) - 1}")
    else:
        kinds = " and ".join(sorted({type(item).__name__ for item in items}))
        raise InputTypeError(
            f"labels are of type {kinds}, such as {items[0]!r}; expected names alone, or positions alone"
        )
    if len(names) < 2:
        raise LabelError(f"there is one class, {names[0]!r}; expected at least two to tell apart")
    return names, targets


def embed_images(source: Encoder, images: Any, *, batch_size: int = 32) -> npt.NDArray[np.float32]:
    """Return what an encoder makes of images, (n_images, dim) float32; of arrays and kept embeddings, themselves.

    Raises
    ------
    OptionError
        If an array has another shape.
    HeadError
        If kept embeddings are of another encoder.
    ImageError
        If an image cannot be decoded, or could not be when it was embedded.
    """
    check_positive("batch_size", batch_size)
    if isinstance(images, Embeddings):
        if images.fingerprint != source.fingerprint:
            raise HeadError(
                f"{images.path} was made with another state of {images.model!r} than {source.name!r} is now, or of its "
                "embeddings where features are wanted, or the other way round; embed the images again, or say space="
            )
        return _joined(images.batches(), source.dim)
    if not is_array_of_vectors(images):
        return _joined(embed_batches(source, images, batch_size=batch_size), source.dim)
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if array.shape[1] != source.dim:
        raise OptionError(
            f"the array has the shape {array.shape}; expected (n_images, {source.dim}) for {source.name!r}: "
            "embeddings, or features with space='features'"
        )
    if not np.isfinite(array).all():
        raise OptionError("the array holds NaN or infinity; expected finite numbers")
    is_plain = not isinstance(source, FeatureEncoder)
    lengths = np.linalg.norm(array, axis=1)
    if is_plain and len(array) and np.abs(lengths - 1).max() > 1e-2:  # half precision is within 1e-3
        raise OptionError(
            f"the rows have lengths from {lengths.min():.3g} to {lengths.max():.3g}; expected embeddings, "
            "L2-normalised as encode_images returns them, or space='features'"
        )
    return array.astype(np.float32)


def is_array_of_vectors(images: object) -> bool:
    """Whether it is an array (n_images, dim) of floats, which no image is."""
    if isinstance(images, Tensor):
        return images.ndim == 2 and images.is_floating_point()
    return isinstance(images, np.ndarray) and images.ndim == 2 and images.dtype.kind == "f"


def _joined(batches: Iterable[EmbeddedBatch], dim: int) -> npt.NDArray[np.float32]:
    parts = [np.empty((0, dim), dtype=np.float32)]
    for batch in batches:
        for error in batch.errors:
            if error is not None:
                raise error
        parts.append(batch.embeddings)
    return np.concatenate(parts)


def _source(model: ModelLike | FeatureEncoder, space: Space | None, anchor: Head | None, images: Any) -> Encoder:
    """Return the encoder whose "embeddings" the probe reads."""
    if space not in (None, "features", "embeddings"):
        raise OptionError(f"space is {space!r}; expected 'features' or 'embeddings'")
    encoder = as_encoder(model)
    if anchor is not None:
        if space not in (None, anchor.space):
            raise OptionError(f"space is {space!r}; the anchor reads {anchor.space}, and so does what begins with it")
        space = anchor.space
    elif space is None and is_array_of_vectors(images):
        raise OptionError("an array was given, which does not tell what it is; say space='features' or 'embeddings'")
    elif space is None and isinstance(images, Embeddings):
        space = "embeddings" if images.fingerprint == encoder.fingerprint else "features"
    elif space is None:
        space = "features" if has_features(encoder) else "embeddings"
    source = feature_encoder(encoder) if space == "features" else encoder
    if anchor is not None and anchor.fingerprint != source.fingerprint:
        raise HeadError(
            f"the anchor was built with another state of {anchor.model!r} than {source.name!r} is now (weights, "
            "configuration or dtype differ); load that one, or build the head again"
        )
    return source


def _classes_of(anchor: Head, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None and tuple(classes) != anchor.labels:
        raise OptionError(
            f"classes are {len(classes)} other than the {len(anchor.labels)} labels of the anchor; leave them out: the "
            "probe has the classes of the head that it begins with"
        )
    return anchor.labels


def _check_l2(l2: object) -> None:
    if isinstance(l2, bool) or not isinstance(l2, (int, float)) or not 0 < l2 < math.inf:
        raise OptionError(f"l2 is {l2!r}; expected a number above 0, such as 1.0")


def _check_lengths(rows: Floats, targets: Integers) -> None:
    if len(rows) != len(targets):
        raise OptionError(f"images are {len(rows)}, labels {len(targets)}; expected one label for each image")


def _check_counts(rows: Floats, targets: Integers, names: Sequence[str]) -> None:
    _check_lengths(rows, targets)
    counts = np.bincount(targets, minlength=len(names))
    if not counts.all():
        empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
        raise LabelError(
            f"no image shows the class {empty[0]!r}"
            + (f" (nor {len(empty) - 1} others)" if len(empty) > 1 else "")
            + "; expected at least one of each class: add some, or leave the class out"
        )


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"probes need scikit-learn: pip install 'zeroshot-clip[probe]' ({error})") from error
