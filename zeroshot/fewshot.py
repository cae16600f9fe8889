"""Few-shot curves: what a few labelled images add to zero-shot (CLIP's paper, section 3.1.5, figures 6 and 7)."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch

from zeroshot.classifier import ModelLike, as_encoder
from zeroshot.display import Html, literal
from zeroshot.encoder import Encoder, feature_encoder, has_features
from zeroshot.errors import LabelError, OptionError, check_positive
from zeroshot.figures import new_figure, save_figure
from zeroshot.head import Head, Space, build_head
from zeroshot.probe import DEFAULT_L2, as_targets, embed_images, fit_probe, is_array_of_vectors
from zeroshot.prompts import PromptsLike
from zeroshot.tables import as_html

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.int64]

Method = Literal["from zero-shot", "linear probe"]
METHODS: tuple[Method, ...] = get_args(Method)
_SHOTS = (1, 2, 4, 8, 16)
_TEST_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class FewShotCurve:
    """What `few_shot` measured; `print` and notebooks show a table, `save_figure` draws it.

    Attributes
    ----------
    shots : tuple of int
        Labelled images a class.
    zero_shot : float
        Accuracy of the head of names, in [0, 1]: the line at 0 shots.
    accuracies : dict from method to ndarray of shape (n_seeds, n_shots), float64
        In [0, 1], on the same test images, with the same shots for all methods.
    seeds : tuple of int
    n_test, n_classes : int
    model : str
        Name of the encoder.

    Examples
    --------
    >>> accuracies = {"linear probe": np.array([[0.2, 0.4, 0.6], [0.4, 0.4, 0.8]])}
    >>> curve = FewShotCurve((1, 2, 4), 0.5, accuracies, (0, 1), 100, 2, "mini")
    >>> curve.mean("linear probe").round(2).tolist(), curve.spread("linear probe").round(2).tolist()
    ([0.3, 0.4, 0.7], [0.14, 0.0, 0.14])
    >>> curve.to_dict()["shots"]
    [1, 2, 4]
    >>> curve.save_figure("curve.png")  # doctest: +SKIP
    >>> type(curve.figure()).__name__  # with the extra `plot`
    'Figure'
    """

    shots: tuple[int, ...]
    zero_shot: float
    accuracies: Mapping[str, npt.NDArray[np.float64]]
    seeds: tuple[int, ...]
    n_test: int
    n_classes: int
    model: str

    def mean(self, method: str) -> npt.NDArray[np.float64]:
        """Return the mean over the seeds.

        Parameters
        ----------
        method : str, a key of `accuracies`

        Returns
        -------
        ndarray of shape (n_shots,), float64

        Raises
        ------
        OptionError
            If there is no such method.
        """
        mean: npt.NDArray[np.float64] = self._of(method).mean(axis=0)
        return mean

    def spread(self, method: str) -> npt.NDArray[np.float64]:
        """Return the standard deviation over the seeds, each of which draws other images.

        Parameters
        ----------
        method : str, a key of `accuracies`

        Returns
        -------
        ndarray of shape (n_shots,), float64
            NaN for one seed.

        Raises
        ------
        OptionError
            If there is no such method.
        """
        values = self._of(method)
        if len(values) < 2:
            return np.full(len(self.shots), np.nan)
        spread: npt.NDArray[np.float64] = values.std(axis=0, ddof=1)
        return spread

    def shots_to_match(self, method: str) -> float:
        """Return how many images a class bring a method to zero-shot: the paper's data efficiency (figure 7).

        Read off between the measured points, in the logarithm of the shots. 0 if it is never below, ``inf`` if it does
        not get there.

        Parameters
        ----------
        method : str, a key of `accuracies`

        Raises
        ------
        OptionError
            If there is no such method.

        Examples
        --------
        >>> values = {"linear probe": np.array([[0.2, 0.4, 0.6]])}
        >>> FewShotCurve((1, 2, 4), 0.5, values, (0,), 100, 2, "mini").shots_to_match("linear probe")
        2.8284271247461903
        """
        mean = self.mean(method)
        above = np.flatnonzero(mean >= self.zero_shot)
        if not len(above):
            return math.inf
        first = int(above[0])
        if first == 0:
            return 0.0 if mean[0] > self.zero_shot else float(self.shots[0])
        low, high = mean[first - 1], mean[first]
        logs = math.log2(self.shots[first - 1]), math.log2(self.shots[first])
        return float(2 ** (logs[0] + (logs[1] - logs[0]) * (self.zero_shot - low) / (high - low)))

    def __str__(self) -> str:
        """A table, for `print`."""
        width = max(map(len, self.accuracies), default=0)
        head = f"{'shots a class':<{width}}" + f"{0:>8}" + "".join(f"{shot:>14}" for shot in self.shots)
        lines = [head, f"{'zero-shot':<{width}}{self.zero_shot:>8.1%}"]
        for method in self.accuracies:
            lines.append(f"{method:<{width}}{'':>8}{''.join(self._cells(method))}".rstrip())
        return "\n".join([self._about()[: max(shutil.get_terminal_size((80, 24)).columns, 40)], "", *lines])

    def _repr_html_(self) -> str:
        """The same table, for notebooks."""
        table = [
            ["shots a class", "0", *map(str, self.shots)],
            ["zero-shot", f"{self.zero_shot:.1%}", *[""] * len(self.shots)],
        ]
        table += [[method, "", *(cell.strip() for cell in self._cells(method))] for method in self.accuracies]
        return literal(
            Html(as_html(self._about(), table, "±: standard deviation over the draws" if len(self.seeds) > 1 else ""))
        )

    def _about(self) -> str:
        seeds = f"{len(self.seeds)} draw{'s' * (len(self.seeds) != 1)} of the shots"
        return f"{self.model}, {self.n_classes} classes, {self.n_test} test images, {seeds}"

    def _cells(self, method: str) -> list[str]:
        return [
            f"{mean:>8.1%}" + ("      " if math.isnan(spread) else f" ±{100 * spread:>4.1f}")
            for mean, spread in zip(self.mean(method), self.spread(method), strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as numbers, lists and strings, for JSON."""
        return {
            "model": self.model,
            "n_classes": self.n_classes,
            "n_test": self.n_test,
            "shots": list(self.shots),
            "seeds": list(self.seeds),
            "zero_shot": self.zero_shot,
            "accuracies": {method: values.tolist() for method, values in self.accuracies.items()},
        }

    def figure(self, *, title: str = "") -> Any:
        """Draw the curves, with zero-shot as the line at 0.

        Parameters
        ----------
        title : str

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        figure = new_figure(6.0, 3.8)
        axes = figure.subplots()
        places = np.arange(1, len(self.shots) + 1)
        axes.axhline(100 * self.zero_shot, color="#767676", linestyle="--", linewidth=1)
        axes.plot([0], [100 * self.zero_shot], color="#202020", marker="*", markersize=11, linewidth=0)
        axes.annotate("zero-shot", (0, 100 * self.zero_shot), (6, 6), textcoords="offset points", color="#404040")
        for colour, method in zip(("#4c8bf5", "#b3261e"), self.accuracies, strict=False):
            mean, spread = 100 * self.mean(method), 100 * np.nan_to_num(self.spread(method))
            axes.plot(places, mean, color=colour, marker="o", markersize=4, label=method)
            axes.fill_between(places, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
        axes.set_xticks([0, *places], ["0", *map(str, self.shots)])
        axes.set(xlabel="labelled images a class", ylabel="accuracy (%)", title=title)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="lower right", edgecolor="none")  # over the line of zero-shot, which runs behind it
        return figure

    def save_figure(self, path: str | os.PathLike[str], *, title: str = "") -> None:
        """Write the curves to a file: ``.png``, ``.svg`` or ``.pdf``.

        Parameters
        ----------
        path : str or path-like
        title : str

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        save_figure(self.figure(title=title), path)

    def _of(self, method: str) -> npt.NDArray[np.float64]:
        if method not in self.accuracies:
            raise OptionError(f"method is {method!r}; expected one of {', '.join(map(repr, self.accuracies))}")
        return self.accuracies[method]


def few_shot(
    encoder: ModelLike,
    images: Any,
    labels: Sequence[str] | Sequence[int] | npt.NDArray[Any],
    *,
    classes: Sequence[str] | None = None,
    prompts: PromptsLike | None = None,
    head: Head | None = None,
    test: tuple[Any, Any] | None = None,
    shots: Sequence[int] | None = None,
    seeds: int = 5,
    methods: Sequence[Method] = METHODS,
    space: Space | None = None,
    batch_size: int = 32,
) -> FewShotCurve:
    """Measure what a few labelled images a class add to zero-shot.

    Images are embedded once. The shots of a draw are nested, so that those of 4 are among those of 8, and are the same
    for all methods. All follow from the seeds: 0, 1, ….

    Parameters
    ----------
    encoder : str, path or Encoder
        Of images and texts.
    images, labels, classes
        As for `fit_probe`.
    prompts : str, path, sequence of str, callable or PromptSet, optional
        For the zero-shot head, as `build_head` takes them; its labels are `classes`.
    head : Head, optional
        The zero-shot head itself, in place of `prompts`: with synonyms, or labels other than `classes`, in their order.
    test : pair of images and labels, optional
        By default half of the images of each class, the same for all draws.
    shots : sequence of int, optional
        Labelled images a class; by default 1, 2, 4, 8 and 16, as far as the rarest class goes.
    seeds : int
        How many times shots are drawn.
    methods : sequence of {"from zero-shot", "linear probe"}
        `fit_probe` with and without the zero-shot head as `anchor`.
    space : {"features", "embeddings"}, optional
        What the linear probe reads, as for `fit_probe`.
    batch_size : int
        Images that go through the network at once.

    Returns
    -------
    FewShotCurve

    Raises
    ------
    OptionError
        If an option is out of its range, or a class has fewer images than the largest of `shots`.
    LabelError, PromptError
        If labels or prompts are not usable.
    ImageError
        If an image cannot be decoded; the message names it.
    MissingExtraError
        If scikit-learn is not installed.

    Notes
    -----
    The strength of the penalties is searched on the shots alone, by holding out some of them in turn, as `fit_probe`
    does. With one shot that leaves none for the linear probe, which takes 3.16: the ``C=0.316`` of the example in
    CLIP's repository. No test image takes part in anything.

    Examples
    --------
    ::

        curve = few_shot("mini", images, labels, prompts="mnist")
        print(curve)
        curve.save_figure("curve.png")

    On four photographs, two of which are tested on; that shows the form, and proves nothing:

    >>> cat, rocket = "examples/images/cat.jpg", "examples/images/rocket.jpg"
    >>> curve = few_shot("mini", [cat, cat, rocket, rocket], ["cat", "cat", "rocket", "rocket"], shots=[1], seeds=2)
    >>> curve.zero_shot, curve.mean("linear probe").tolist(), curve.n_test
    (1.0, [1.0], 2)
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise OptionError(f"methods are {list(methods)!r}; expected some of {', '.join(map(repr, METHODS))}")
    check_positive("seeds", seeds)
    loaded = as_encoder(encoder)
    names, targets = as_targets(labels, classes)
    zero_shot = (
        build_head(loaded, names, prompts=prompts) if head is None else _check_head(head, loaded, names, prompts)
    )
    if is_array_of_vectors(images):
        raise OptionError("an array was given; expected images, of which embeddings and features are both needed")
    spaces = _spaces(loaded, methods, space)
    rows = {kind: embed_images(source, images, batch_size=batch_size) for kind, source in spaces.items()}
    if len(targets) != len(rows["embeddings"]):
        raise OptionError(f"images are {len(rows['embeddings'])}, labels {len(targets)}; expected one for each image")
    if test is None:
        pool, held = _split(targets)
        test_rows = {kind: each[held] for kind, each in rows.items()}
        test_targets = targets[held]
    else:
        pool = np.arange(len(targets))
        test_rows = {kind: embed_images(source, test[0], batch_size=batch_size) for kind, source in spaces.items()}
        _, test_targets = as_targets(test[1], names)
        if len(test_targets) != len(test_rows["embeddings"]):
            raise OptionError(
                f"test images are {len(test_rows['embeddings'])}, labels {len(test_targets)}; expected one for each"
            )
    counts = _check_shots(shots, targets[pool], names)

    def accuracy(fitted: Head) -> float:
        logits = fitted.logits(torch.from_numpy(test_rows[fitted.space]))[:, : len(names)]
        return float((logits.argmax(dim=-1).numpy() == test_targets).mean())

    accuracies: dict[str, npt.NDArray[np.float64]] = {method: np.empty((seeds, len(counts))) for method in methods}
    for seed in range(seeds):
        order = _order(targets[pool], seed)
        for column, count in enumerate(counts):
            chosen = pool[order < count]
            for method in methods:
                kind: Space = zero_shot.space if method == "from zero-shot" else _last(spaces)
                fitted = fit_probe(
                    loaded,
                    rows[kind][chosen],
                    targets[chosen],
                    classes=names if method == "linear probe" else None,
                    space=kind,
                    anchor=zero_shot if method == "from zero-shot" else None,
                    l2=DEFAULT_L2 if count == 1 and method == "linear probe" else None,
                    seed=seed,
                )
                accuracies[method][seed, column] = accuracy(fitted)
    return FewShotCurve(
        shots=counts,
        zero_shot=accuracy(zero_shot),
        accuracies=accuracies,
        seeds=tuple(range(seeds)),
        n_test=len(test_targets),
        n_classes=len(names),
        model=loaded.name,
    )


def _spaces(encoder: Encoder, methods: Sequence[Method], space: Space | None) -> dict[Space, Encoder]:
    """Return what has to be computed, and by what; what the linear probe reads is the last."""
    spaces: dict[Space, Encoder] = {"embeddings": encoder}
    wanted = space or ("features" if has_features(encoder) else "embeddings")
    if wanted not in get_args(Space):
        raise OptionError(f"space is {space!r}; expected 'features' or 'embeddings'")
    if "linear probe" in methods and wanted == "features":
        spaces["features"] = feature_encoder(encoder)
    return spaces


def _last(spaces: dict[Space, Encoder]) -> Space:
    return list(spaces)[-1]


def _split(targets: Integers) -> tuple[Integers, Integers]:
    """Return positions of images to draw from, and of those to test on: of each class half, rounded down."""
    order = _order(targets, 0, stream=1)
    sizes = np.bincount(targets)[targets]
    held = order < np.floor(sizes * _TEST_SHARE)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _order(targets: Integers, seed: int, *, stream: int = 0) -> Integers:
    """Return for each image its place in a random order of the images of its class."""
    rng = np.random.default_rng([seed, stream])
    order = np.empty(len(targets), dtype=np.int64)
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target)
        order[members] = rng.permutation(len(members))
    return order


def _check_shots(shots: Sequence[int] | None, targets: Integers, names: Sequence[str]) -> tuple[int, ...]:
    available = np.bincount(targets, minlength=len(names))
    least = int(available.argmin())
    if available[least] == 0:
        raise LabelError(
            f"no image of the class {names[least]!r} is there to draw from; expected at least two of each class, one "
            "of them to test on, or test=(images, labels)"
        )
    if shots is None:
        return tuple(count for count in _SHOTS if count <= available[least])
    counts = tuple(sorted({check_positive("shots", count) for count in shots}))
    if not counts:
        raise OptionError("shots is empty; expected numbers of images a class, such as [1, 2, 4, 8, 16]")
    if counts[-1] > available[least]:
        raise OptionError(
            f"shots reach {counts[-1]}, and the class {names[least]!r} has {available[least]} images to draw from; "
            "expected no more, or give more images"
        )
    return counts


def _check_head(head: Head, encoder: Encoder, names: Sequence[str], prompts: object) -> Head:
    if prompts is not None:
        raise OptionError("head and prompts were both given; expected one of them")
    if head.fingerprint != encoder.fingerprint:
        raise OptionError(f"the head is of another state of {head.model!r} than {encoder.name!r}; build it again")
    if len(head.labels) != len(names):
        raise LabelError(f"the head has {len(head.labels)} labels for {len(names)} classes; expected one for each")
    return head
