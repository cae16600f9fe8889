"""Accuracy under shifts, measured: on folders of ImageNet's natural shifts, or on images corrupted on purpose."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from zeroshot.classifier import ModelLike, as_encoder
from zeroshot.corruptions import SEVERITIES, available_corruptions, check_corruption, corrupted_item
from zeroshot.display import Html, literal
from zeroshot.encoder import Encoder
from zeroshot.errors import ImageError, OptionError, check_positive
from zeroshot.evaluation import Evaluation, evaluate
from zeroshot.figures import new_figure, save_figure
from zeroshot.head import Head, build_head
from zeroshot.image import Item, open_image
from zeroshot.labelled import LabelledLike, labelled_folder, load_labelled
from zeroshot.labelled_images import LabelledImages
from zeroshot.metrics import Estimate
from zeroshot.prompts import LabelsLike, PromptsLike, load_prompts
from zeroshot.registry import DEFAULT_MODEL
from zeroshot.robustness import Baseline, Robustness, evaluate_robustness
from zeroshot.shifts import IMAGENET, Shift, available_shifts, load_shift
from zeroshot.stream import embed_batches
from zeroshot.tables import aligned, as_html

_FRAMES = ("imagenet_vid", "youtube_bb")

# ----------------------------------------------------------------------------------------------------- natural shifts


def evaluate_shifts(
    folders: Mapping[str, str | os.PathLike[str]],
    *,
    model: ModelLike = DEFAULT_MODEL,
    prompts: PromptsLike = IMAGENET,
    base: str | Mapping[str, float] | None = None,
    baselines: Mapping[str, Baseline] | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 32,
) -> Robustness:
    """Measure a model on folders of ImageNet and its natural shifts, and compute its robustness.

    One classifier over ImageNet's 1000 classes serves all (`Shift.pool`), on ImageNet's validation part too, of which
    each shift gets the images and classes that it has.

    Parameters
    ----------
    folders : mapping from name to folder
        ``"imagenet"``, the validation part with one subfolder a class, and the shifts: names from
        `shifts.available_shifts`, of the videos ``imagenet_vid_pm0`` and ``youtube_bb_pm0`` with one frame a video.
        Class folders have their published names (`Shift.place_folders`).
    model, device, batch_size
        As for `Classifier`.
    prompts : str, path, list, callable or PromptSet
        Templates for ImageNet's class names; by default the paper's 80.
    base, baselines
        As for `evaluate_robustness`.

    Returns
    -------
    Robustness
        With a note on images that could not be read; they do not count.

    Raises
    ------
    OptionError
        If ImageNet's folder, or any shift's, is lacking, or a name is none.
    LabelError
        If a class folder is none of the shift.
    ImageError
        If a folder has no images, or none that can be read, or ImageNet's none of a shift's classes.

    Examples
    --------
    ::

        evaluate_shifts({"imagenet": "val/", "imagenet_r": "imagenet-r/"}, model="ViT-B-32/openai", base="resnet101")

    A shift without ImageNet has nothing to be compared with:

    >>> evaluate_shifts({"imagenet_r": "imagenet-r/"}, model="mini")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.OptionError: folders are ['imagenet_r']; expected 'imagenet', its validation part, ...
    """
    shifts = {name: _shift(name) for name in folders if name != IMAGENET}
    if IMAGENET not in folders or not shifts:
        raise OptionError(
            f"folders are {list(folders)}; expected 'imagenet', its validation part, and at least one of "
            f"{', '.join(available_shifts())}"
        )
    sets = {name: _list_images(folders[name], shift) for name, shift in {IMAGENET: _shift(IMAGENET), **shifts}.items()}
    encoder = as_encoder(model, device=device)
    head = build_head(encoder, load_prompts(IMAGENET).labels, prompts=prompts)
    if len(head.labels) != len(load_prompts(IMAGENET).classes):
        raise OptionError(f"the prompts have {len(head.labels)} classes; expected ImageNet's 1000")

    notes: list[str] = []
    counts = {name: np.zeros(2, dtype=np.int64) for name in (*shifts, *(f"{name}/reference" for name in shifts))}
    for scores, targets in _scores(encoder, head, *sets[IMAGENET], "ImageNet", notes, batch_size):
        for name, shift in shifts.items():
            places = shift.positions(targets)
            counts[f"{name}/reference"] += _right(shift, scores[places >= 0], places[places >= 0])
    for name, shift in shifts.items():
        for scores, targets in _scores(encoder, head, *sets[name], shift.title, notes, batch_size):
            counts[name] += _right(shift, scores, targets)
    for name, shift in shifts.items():
        if not counts[f"{name}/reference"][1]:
            raise ImageError(
                f"{str(folders[IMAGENET])!r} has no readable image of the classes of {shift.title}; expected "
                "ImageNet's validation part"
            )
        if not counts[name][1]:
            raise ImageError(f"{str(folders[name])!r} has no image that can be read; {notes[-1]}")
    measured = {name: tuple(_share(counts[each]) for each in (f"{name}/reference", name)) for name in shifts}
    found = evaluate_robustness(measured, name=encoder.name, base=base, baselines=baselines)
    results = tuple(replace(one, n_images=int(counts[one.shift][1])) for one in found.results)
    return replace(found, results=results, notes=tuple(notes))


def _shift(name: str) -> Shift:
    if name in _FRAMES:
        raise OptionError(
            f"{name!r} is the mean of two accuracies on frames of videos; a folder can be measured as '{name}_pm0', "
            "and evaluate_robustness takes both as numbers (pm_k_accuracy computes them)"
        )
    return load_shift(name.removesuffix("_pm0") if name.removesuffix("_pm0") in _FRAMES else name)


def _list_images(folder: str | os.PathLike[str], shift: Shift) -> tuple[list[Item], list[int]]:
    paths, classes, names = labelled_folder(folder)
    places = shift.place_folders(names)
    pairs = [(path, places[index]) for path, index in zip(paths, classes, strict=True) if places[index] >= 0]
    read = functools.partial(_without_border, border=shift.border) if shift.border else None
    items = [Item(str(path), functools.partial(read, path) if read else path) for path, _ in pairs]
    return items, [place for _, place in pairs]


def _without_border(path: Path, *, border: int) -> Image.Image:
    return ImageOps.crop(open_image(path), border)


def _scores(
    encoder: Encoder,
    head: Head,
    items: Sequence[Item],
    targets: Sequence[int],
    title: str,
    notes: list[str],
    batch_size: int,
) -> Iterator[tuple[Any, Any]]:
    """Yield logits (n, 1000) and classes (n,), batch by batch; note what could not be read."""
    errors = []
    for batch in embed_batches(encoder, items, batch_size=check_positive("batch_size", batch_size)):
        places = [batch.start + index for index, error in enumerate(batch.errors) if error is None]
        errors += [error for error in batch.errors if error is not None]
        if places:
            logits = head.logits(torch.from_numpy(batch.embeddings).to(head.weight.device)).cpu().numpy()
            yield logits, np.asarray([targets[place] for place in places])
    if errors:
        notes.append(f"{title}: {len(errors)} of {len(items)} images could not be read, such as: {errors[0]}")


def _right(shift: Shift, scores: Any, places: Any) -> Any:
    if not len(scores):
        return np.zeros(2, dtype=np.int64)
    return np.array([(shift.pool(scores).argmax(axis=1) == places).sum(), len(places)])


def _share(counts: Any) -> float:
    return float(counts[0] / counts[1])


# ------------------------------------------------------------------------------------------------------- corruptions


@dataclass(frozen=True)
class CorruptionResult:
    """Top-1 accuracy under one kind of corruption, by severity; `error` is the mean over severities of the errors.

    Attributes
    ----------
    kind : str
    accuracies : tuple of float
        In [0, 1], by severity.

    Examples
    --------
    >>> CorruptionResult("fog", (1.0, 0.5)).error
    0.25
    """

    kind: str
    accuracies: tuple[float, ...]

    @property
    def error(self) -> float:
        """Return the mean error rate over the severities, in [0, 1]."""
        return 1 - sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True, eq=False)
class CorruptionRobustness:
    """What `evaluate_corruptions` found; `print` shows a table.

    Attributes
    ----------
    results : tuple of CorruptionResult
    clean : Estimate
        Top-1 on the same crops without corruption, with its bootstrap interval.
    severities : tuple of int
    model : str
    n_images : int
    seed : int
    failed : int
        Images that could not be read.

    Examples
    --------
    >>> photographs = ["examples/images/cat.jpg", "examples/images/rocket.jpg"]
    >>> found = evaluate_corruptions((photographs, ["cat", "rocket"]), model="mini", kinds=["fog"], severities=[1])
    >>> found.mean_error, found.relative_error, found.to_dict()["n_images"]
    (0.0, 0.0, 2)
    >>> found.mean_corruption_error(found)
    Traceback (most recent call last):
    ...
    zeroshot.errors.OptionError: the baseline makes no error under 'fog' that one could divide by
    >>> found.save_figure("corruptions.png")  # doctest: +SKIP
    >>> type(found.figure()).__name__  # with the extra `plot`
    'Figure'
    """

    results: tuple[CorruptionResult, ...]
    clean: Estimate
    severities: tuple[int, ...]
    model: str
    n_images: int
    seed: int
    failed: int

    @property
    def mean_error(self) -> float:
        """Return the mean over kinds of the mean error over severities, in [0, 1]: not divided by another model's."""
        return sum(one.error for one in self.results) / len(self.results)

    @property
    def relative_error(self) -> float:
        """Return `mean_error` less the error without corruption: how much the corruptions cost, in [-1, 1]."""
        return self.mean_error - (1 - self.clean.value)

    def mean_corruption_error(self, baseline: CorruptionRobustness, *, relative: bool = False) -> float:
        """Return the mean corruption error against a baseline: 1 is as bad as it.

        For each kind the errors, summed over severities, are divided by those of the baseline; the mean over kinds is
        the result (Hendrycks and Dietterich, 2019, section 4.1). Published figures have AlexNet as the baseline, on
        ImageNet-C: they compare with this only if both models were measured there.

        Parameters
        ----------
        baseline : CorruptionRobustness
            Another model on the same images, kinds and severities.
        relative : bool
            Take each model's error without corruption off before: the relative mean corruption error.

        Raises
        ------
        OptionError
            If the baseline is of other images, kinds or severities, or has no error to divide by.
        """
        mine, theirs = (
            ([one.kind for one in each.results], each.severities, each.n_images, each.seed) for each in (self, baseline)
        )
        if mine != theirs:
            raise OptionError(f"the baseline is of {theirs} (kinds, severities, images, seed); expected {mine}")
        ratios = []
        for one, other in zip(self.results, baseline.results, strict=True):
            error, reference = one.error, other.error
            if relative:
                error, reference = error - (1 - self.clean.value), reference - (1 - baseline.clean.value)
            if reference <= 0:
                raise OptionError(f"the baseline makes no error under {one.kind!r} that one could divide by")
            ratios.append(error / reference)
        return sum(ratios) / len(ratios)

    def __str__(self) -> str:
        """A table, for `print`, in per cent."""
        table = self._table()
        lines = aligned(table, right=range(1, len(table[0])))
        return "\n".join([self._about(), "", *lines, "", self._note()])

    def _repr_html_(self) -> str:
        return literal(Html(as_html(self._about(), self._table(), self._note())))

    def to_dict(self) -> dict[str, Any]:
        """Return all that is known as plain lists, dicts and numbers, ready for JSON."""
        return {
            "model": self.model,
            "n_images": self.n_images,
            "failed": self.failed,
            "seed": self.seed,
            "severities": list(self.severities),
            "clean": {"top_1": self.clean.value, "interval": [self.clean.low, self.clean.high]},
            "mean_error": self.mean_error,
            "relative_error": self.relative_error,
            "corruptions": {one.kind: list(one.accuracies) for one in self.results},
        }

    def figure(self) -> Any:
        """Draw accuracy over severity: each kind, and the mean of all.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        figure = new_figure(8, 5)
        axes = figure.subplots()
        steps = [0, *self.severities]
        for number, one in enumerate(self.results):
            values = [self.clean.value, *one.accuracies]
            style = ("-", "--", ":")[number // 10 % 3]
            axes.plot(
                steps, [100 * value for value in values], style, c=f"C{number % 10}", lw=1, alpha=0.8, label=one.kind
            )
        mean = np.mean([one.accuracies for one in self.results], axis=0)
        axes.plot(steps, [100 * value for value in (self.clean.value, *mean)], "k-o", lw=2.5, label="mean")
        axes.set_xticks(steps)
        axes.set_xlabel("severity")
        axes.set_ylabel("top-1, %")
        axes.set_title(self._about())
        axes.grid(alpha=0.25)
        figure.legend(loc="outside right upper", frameon=False)
        return figure

    def save_figure(self, path: str | os.PathLike[str]) -> None:
        """Write `figure` to a file whose suffix names the format: ``.png``, ``.svg`` or ``.pdf``.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        save_figure(self.figure(), path)

    def _about(self) -> str:
        return f"model: {self.model}, images: {self.n_images}, without corruption: {self.clean}"

    def _table(self) -> list[list[str]]:
        table = [["corruption", *(str(severity) for severity in self.severities), "mean"]]
        for one in self.results:
            table.append(
                [one.kind, *(f"{100 * value:.1f}" for value in one.accuracies), f"{100 * (1 - one.error):.1f}"]
            )
        means = np.mean([one.accuracies for one in self.results], axis=0)
        table.append(["mean", *(f"{100 * value:.1f}" for value in means), f"{100 * (1 - self.mean_error):.1f}"])
        return table

    def _note(self) -> str:
        note = (
            f"Top-1 by severity. Mean corruption error {self.mean_error:.1%}, {100 * self.relative_error:+.1f} points "
            "to the error without corruption. No baseline: it is not divided by another model's."
        )
        return note + (f" {self.failed} images could not be read." if self.failed else "")


def evaluate_corruptions(
    data: LabelledLike,
    *,
    model: ModelLike = DEFAULT_MODEL,
    prompts: PromptsLike | None = None,
    labels: LabelsLike | None = None,
    kinds: Iterable[str] | None = None,
    severities: Iterable[int] = SEVERITIES,
    seed: int = 0,
    device: str | torch.device | None = None,
    batch_size: int = 32,
    progress: Callable[[str, int], object] | None = None,
) -> CorruptionRobustness:
    """Measure a model on labelled images that are corrupted in several kinds and severities.

    Every image is decoded and embedded once for each kind and severity: 76 times by default.

    Parameters
    ----------
    data : folder, list, data set or pair
        As `evaluate` takes it.
    model, prompts, labels, device, batch_size
        As for `evaluate`.
    kinds : iterable of str, optional
        By default the 15 of ImageNet-C's mean corruption error.
    severities : iterable of int
        Of 1 to 5.
    seed : int
        The same seed gives the same images.
    progress : callable, optional
        Told kind and severity before each is measured.

    Returns
    -------
    CorruptionRobustness

    Raises
    ------
    OptionError
        If there is no such kind or severity, or images show several classes.
    ZeroShotError
        As `evaluate` does.

    Examples
    --------
    >>> photographs = ["examples/images/cat.jpg", "examples/images/rocket.jpg"]
    >>> found = evaluate_corruptions((photographs, ["cat", "rocket"]), model="mini", kinds=["fog"], severities=[1, 5])
    >>> found.clean.value, [one.kind for one in found.results]
    (1.0, ['fog'])
    """
    names = available_corruptions(benchmark=True) if kinds is None else list(kinds)
    levels = tuple(severities)
    if not names or not levels or 0 in levels:
        raise OptionError(f"kinds are {names}, severities {list(levels)}; expected one of each at least, from 1 to 5")
    for kind in names:
        for level in levels:
            check_corruption(kind, level)
    opened = load_labelled(data)
    if opened.multi_label:
        raise OptionError(f"the images of {opened.name} show several classes; expected such that show one each")
    encoder = as_encoder(model, device=device)

    def measure(kind: str, level: int, resamples: int = 1) -> Evaluation:
        if progress is not None:
            progress(kind, level)
        worse = replace(opened, read=functools.partial(_read_corrupted, opened, kind, level, seed))
        return evaluate(
            worse,
            model=encoder,
            prompts=prompts,
            labels=labels,
            metric="top_1",
            batch_size=batch_size,
            resamples=resamples,
        )

    clean = measure(names[0], 0, 1000)
    results = [
        CorruptionResult(kind, tuple(measure(kind, level).metrics["top_1"].value for level in levels)) for kind in names
    ]
    failed = len(clean.failed)
    return CorruptionRobustness(
        tuple(results), clean.metrics["top_1"], levels, encoder.name, clean.n_images, seed, failed
    )


def _read_corrupted(data: LabelledImages, kind: str, severity: int, seed: int) -> Iterator[tuple[Item, Any]]:
    for index, (item, label) in enumerate(data.read()):
        yield corrupted_item(item, kind, severity, seed=(seed, index)), label
