"""Whether heat maps show what a classifier goes by: the deletion and insertion tests, against maps that know nothing.

The places that a map calls the hottest are taken out of the picture first; the probability of the label has to fall
faster than with a random map. Put into a blurred picture first, it has to rise faster. Both are summed up by the area
under the curve (Petsiuk, Das and Saenko, RISE, BMVC 2018, arXiv:1806.07421, section 4.2).

Random maps have as many cells as the map that is judged, and are drawn to the size of the picture in the same way.
Noise of single pixels would be another thing: it ruins a picture evenly, long before half of it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from zeroshot.classifier import Classifier
from zeroshot.errors import ImageError, OptionError, check_positive
from zeroshot.explain import Explanation, Of, find_label
from zeroshot.image import ImageLike, open_image
from zeroshot.metrics import Estimate, estimate

Test = Literal["deletion", "insertion"]
Floats = npt.NDArray[np.float64]
STEPS = 24
DRAWS = 5
# What is left where something was taken out: the mean of ImageNet, which networks see as zeros, or nearly so.
_GREY = (124, 116, 104)
_BLUR = 0.04  # standard deviation, of the shorter side; RISE takes 5 pixels of 224 and cuts the kernel off at 11


@dataclass(frozen=True, eq=False)
class Curve:
    """The probability of a label while a picture is taken away, or put back.

    Attributes
    ----------
    shares : ndarray of shape (steps + 1,), float64
        Of the picture that was changed: from 0 to 1.
    scores : ndarray of shape (steps + 1,), float64
        Probability of the label, in [0, 1].
    """

    shares: Floats
    scores: Floats

    @property
    def area(self) -> float:
        """Area under the curve, in [0, 1]: of deletion the lower the better, of insertion the higher."""
        middles = (self.scores[1:] + self.scores[:-1]) / 2  # NumPy 1 has no trapezoid, NumPy 2 no trapz
        return float(middles @ np.diff(self.shares))


def trace_curve(
    classifier: Classifier,
    image: ImageLike,
    heat: npt.NDArray[Any],
    label: str | int,
    *,
    test: Test = "deletion",
    steps: int = STEPS,
) -> Curve:
    """Take a picture away, or put it back, in the order of a map, and watch the probability of a label.

    Parameters
    ----------
    classifier : Classifier
    image : image
    heat : ndarray of shape (height, width)
        Hot places go first; NaN goes last. The size is that of the picture.
    label : str or int
        A name or a position.
    test : {"deletion", "insertion"}
        From the picture to grey, or from the blurred picture to the picture.
    steps : int
        Into how many equal parts the picture is divided, at least 1.

    Raises
    ------
    ImageError
        If the map has another size than the picture.
    OptionError
        If an option is out of its range.
    LabelError
        If there is no such label.

    Examples
    --------
    >>> clf = Classifier(["cat", "dog", "car"], model="mini")
    >>> heat = clf.explain("examples/images/cat.jpg", "cat").map
    >>> good, bad = (trace_curve(clf, "examples/images/cat.jpg", x, "cat", steps=8).area for x in (heat, -heat))
    >>> good < bad
    True
    """
    if test not in get_args(Test):
        raise OptionError(f"test is {test!r}; expected one of {', '.join(get_args(Test))}")
    check_positive("steps", steps)
    picture = open_image(image)
    if heat.shape != (picture.height, picture.width):
        raise ImageError(
            f"the map has the shape {heat.shape} and the picture {(picture.height, picture.width)}, height and width; "
            "expected the same"
        )
    index = find_label(classifier.labels, label)
    pictures = list(_pictures(picture, heat, test, steps))
    scores = classifier.predict_proba(pictures)[:, index].astype(np.float64)
    return Curve(np.linspace(0, 1, steps + 1), scores)


def _pictures(picture: Image.Image, heat: npt.NDArray[Any], test: Test, steps: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield what becomes of a picture, from the whole or blurred one to grey or the whole one: steps + 1 of them."""
    whole = np.asarray(picture)
    if test == "deletion":
        first, last = whole, np.broadcast_to(np.array(_GREY, dtype=np.uint8), whole.shape)
    else:
        blurred = picture.filter(ImageFilter.GaussianBlur(_BLUR * min(picture.size)))
        first, last = np.asarray(blurred), whole
    order = np.argsort(np.where(np.isnan(heat), np.inf, -heat), axis=None, kind="stable")
    current = first.reshape(-1, 3).copy()
    yield current.reshape(whole.shape).copy()
    for part in np.array_split(order, steps):
        current[part] = last.reshape(-1, 3)[part]
        yield current.reshape(whole.shape).copy()


def _areas(
    classifier: Classifier, picture: Image.Image, heats: Sequence[npt.NDArray[Any]], index: int, test: Test, steps: int
) -> list[float]:
    """Return the areas under the curves of several maps, which begin and end with the same pictures."""
    series = [list(_pictures(picture, heat, test, steps)) for heat in heats]
    inner = [one for pictures in series for one in pictures[1:-1]]
    scores = classifier.predict_proba([series[0][0], series[0][-1], *inner])[:, index].astype(np.float64)
    curves = [np.array([scores[0], *part, scores[1]]) for part in scores[2:].reshape(len(heats), steps - 1)]
    return [Curve(np.linspace(0, 1, steps + 1), curve).area for curve in curves]


# ------------------------------------------------------------------------------------------------------ many pictures


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """How a classifier's maps stand against maps that know nothing, on the same pictures.

    Attributes
    ----------
    deletion, insertion : dict of str to ndarray of shape (n_images,), float64
        Areas under the curves for each kind of map: ``"map"``, ``"random"`` (the mean of `draws` maps), ``"inverted"``
        and ``"centre"``, which is hot in the middle: where photographers put things.
    labels : tuple of str
        What was explained in each picture.
    scores : ndarray of shape (n_images,), float64
        Probability of that label in the whole picture.
    method : str
    model : str
    steps, draws, seed : int
    """

    deletion: dict[str, Floats]
    insertion: dict[str, Floats]
    labels: tuple[str, ...]
    scores: Floats
    method: str
    model: str
    steps: int
    draws: int
    seed: int

    def gain(self, test: Test = "deletion", against: str = "random") -> Estimate:
        """Return by how much the maps are better than others, the mean over the pictures, with its interval of 95%.

        Pictures are drawn with replacement, and both maps of a picture stay together (`metrics.bootstrap_interval`).
        """
        areas = self.deletion if test == "deletion" else self.insertion
        better = areas[against] - areas["map"] if test == "deletion" else areas["map"] - areas[against]
        return estimate(lambda x: float(np.mean(x)), better)

    def wins(self, test: Test = "deletion", against: str = "random") -> int:
        """Return on how many pictures the map is the better one."""
        areas = self.deletion if test == "deletion" else self.insertion
        better = areas["map"] < areas[against] if test == "deletion" else areas["map"] > areas[against]
        return int(better.sum())

    def __str__(self) -> str:
        """A table for `print`: areas, and the gain of the map over each other kind."""
        lines = [
            f"{self.model}, {self.method}:",
            f"{len(self.labels)} pictures, {self.steps} steps, {self.draws} random maps each",
            "",
            f"{'map':<10}{'deletion':>10}{'the map is lower by':>28}{'insertion':>12}{'the map is higher by':>28}",
        ]
        for kind in self.deletion:
            cells = f"{kind if kind != 'map' else 'the map':<10}"
            for width, test in ((10, "deletion"), (12, "insertion")):
                areas = self.deletion if test == "deletion" else self.insertion
                cells += f"{areas[kind].mean():>{width}.3f}"
                cells += f"{'' if kind == 'map' else _gain(self.gain(test, kind)):>28}"  # type: ignore[arg-type]
            lines.append(cells.rstrip())
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        areas = {
            test: {kind: values.tolist() for kind, values in kinds.items()}
            for test, kinds in (("deletion", self.deletion), ("insertion", self.insertion))
        }
        names = ("method", "model", "steps", "draws", "seed")
        return {name: getattr(self, name) for name in names} | {
            "labels": list(self.labels),
            "scores": self.scores.tolist(),
            **areas,
        }


def evaluate_maps(
    classifier: Classifier,
    images: Iterable[ImageLike],
    labels: Sequence[str | int] | None = None,
    *,
    of: Of = "probability",
    layers: int = 1,
    steps: int = STEPS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Faithfulness:
    """Hold the maps of a classifier against random, inverted and central ones.

    Of each picture `steps` - 1 changed ones are classified for two tests and `draws` + 3 maps: with the defaults 368.
    Pictures are taken as the network sees them, resized and cropped, so that every pixel counts.

    Parameters
    ----------
    classifier : Classifier
        With an encoder of `zeroshot.load`.
    images : iterable of images
    labels : sequence of str or int, optional
        What is explained in each; by default the most probable label.
    of, layers
        As for `Classifier.explain`.
    steps : int
    draws : int
        Random maps of each picture, at least 1.
    seed : int
        The same seed draws the same maps.

    Raises
    ------
    OptionError
        If there is no image, if there is not a label for each, or an option is out of its range.
    LabelError, ImageError, InputTypeError
        As `Classifier.explain`.
    """
    check_positive("draws", draws)
    pictures = list(images)
    if not pictures or (labels is not None and len(labels) != len(pictures)):
        count = "none" if labels is None else len(labels)
        raise OptionError(f"images are {len(pictures)} and labels {count}; expected an image or more, a label for each")
    rng = np.random.default_rng(seed)
    areas: dict[Test, dict[str, list[float]]] = {"deletion": {}, "insertion": {}}
    explained: list[Explanation] = []
    for position, image in enumerate(pictures):
        label = None if labels is None else labels[position]
        first = classifier.explain(image, label, of=of, layers=layers)
        seen = classifier.encoder.preprocess.resize(first.image)  # type: ignore[attr-defined]  # explain has checked it
        found = classifier.explain(seen, first.index, of=of, layers=layers)
        explained.append(found)
        grids = {
            "map": [found.grid],
            "random": [rng.random(found.grid.shape, dtype=np.float32) for _ in range(draws)],
            "inverted": [-found.grid],
            "centre": [_centre(found.grid.shape)],
        }
        for test, kinds in areas.items():
            heats = [replace(found, grid=grid).map for several in grids.values() for grid in several]
            areas_of_all = _areas(classifier, seen, heats, found.index, test, steps)
            for kind, several in grids.items():
                kinds.setdefault(kind, []).append(float(np.mean(areas_of_all[: len(several)])))
                del areas_of_all[: len(several)]
    as_arrays = {test: {kind: np.array(values) for kind, values in kinds.items()} for test, kinds in areas.items()}
    return Faithfulness(
        deletion=as_arrays["deletion"],
        insertion=as_arrays["insertion"],
        labels=tuple(one.label for one in explained),
        scores=np.array([one.score for one in explained]),
        method=explained[0].method,
        model=explained[0].model,
        steps=steps,
        draws=draws,
        seed=seed,
    )


def _centre(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    down, across = (np.linspace(-1, 1, length, dtype=np.float32) if length > 1 else np.zeros(1) for length in shape)
    heat: npt.NDArray[np.float32] = -(down[:, None] ** 2 + across**2).astype(np.float32)
    return heat


def _gain(gain: Estimate) -> str:
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
