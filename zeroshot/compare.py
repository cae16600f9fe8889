"""Which prompts are better on images whose classes are known, and whether there are enough images to tell.

All prompt sets are scored on the same embeddings of the same images, so their difference is paired: an image that both
get right, or both get wrong, says nothing about it. That shows much smaller differences than two separate intervals do.
"""

from __future__ import annotations

import html
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zeroshot.cache import write_atomically
from zeroshot.classifier import ModelLike, as_encoder
from zeroshot.display import Html, literal
from zeroshot.errors import InputTypeError, LabelError, OptionError, PromptError
from zeroshot.head import Head, build_head
from zeroshot.image import as_image_list
from zeroshot.labelled import labelled_folder
from zeroshot.prompts import LabelsLike, PromptsLike, as_prompt_set, parse_labels
from zeroshot.registry import DEFAULT_MODEL
from zeroshot.tables import aligned, as_html, columns

BASELINE, BETTER, WORSE, NOT_SHOWN = "baseline", "better", "worse", "no difference shown"
LEVEL = 0.95
RESAMPLES, SEED = 10_000, 0  # a fixed seed: the same images give the same intervals

# The picture: a fixed-width font, so that the room for a text is known without its metrics; grey and blue that can be
# read on white and on black.
_CELL, _ROW, _GAP, _TOP, _PLOT = 8, 28, 16, 48, 320
_GREY, _BLUE = "#767676", "#4c8bf5"
_LONGEST_NAME = 48


@dataclass(frozen=True, eq=False)
class PromptResult:
    """What one prompt set reached, and its difference to the first one.

    Attributes
    ----------
    name : str
    templates : int
        How many there are; 0 where the prompts are written out or come from a function.
    correct : ndarray of shape (n_images,), bool
        Which images it gets right, in their order.
    accuracy : float
        Top-1, in [0, 1].
    interval : tuple of float
        95% interval of `accuracy`, in [0, 1]: `wilson_interval`.
    difference : float
        `accuracy` less that of the first set, in [-1, 1].
    difference_interval : tuple of float
        95% interval of `difference`, in [-1, 1]: `paired_interval`.
    gained, lost : int
        Images that this set gets right and the first one wrong, and the other way round.
    p_value : float
        In [0, 1], how often chance alone would split these so unevenly: `mcnemar`.
    verdict : {"baseline", "better", "worse", "no difference shown"}
        Better or worse where the interval of the difference leaves out 0 *and* `p_value` is below 0.05: on few images
        the bootstrap's interval is too narrow, and three images in a row are no proof. It does not allow for the number
        of sets: the best of many looks better than it is, so confirm it on other images.
    """

    name: str
    templates: int
    correct: npt.NDArray[np.bool_]
    accuracy: float
    interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]
    gained: int
    lost: int
    p_value: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found; `print` shows a table, a notebook the table and a picture.

    Attributes
    ----------
    results : tuple of PromptResult
        In the order of the prompt sets; the first one is what the others are compared with.
    n_images, n_classes : int
    model : str
        Name of the encoder.
    """

    results: tuple[PromptResult, ...]
    n_images: int
    n_classes: int
    model: str

    def __str__(self) -> str:
        """A table, for `print`; differences are percentage points."""
        table = self._table()
        rest = sum(max(map(columns, column)) + 2 for column in list(zip(*table, strict=True))[1:])
        room = max(shutil.get_terminal_size((80, 24)).columns - rest, 24)
        table = [[_shorten(name, room), *cells] for name, *cells in table]
        return "\n".join([self._about(), "", *aligned(table), "", self._note()])

    def _repr_html_(self) -> str:
        """The table and the picture, for notebooks."""
        table = as_html(self._about(), self._table(), self._note())
        return literal(Html(f'{table}<div style="overflow-x:auto">{self.svg()}</div>'))

    def svg(self) -> str:
        """Draw the accuracies as dots with their intervals; a whole SVG file, to be read on light and dark."""
        names = [_shorten(result.name, _LONGEST_NAME) for result in self.results]
        notes = [self._summary(result) for result in self.results]
        title = f"Top-1 accuracy and 95% interval ({self._about()})"
        left = _GAP + max(map(columns, names)) * _CELL + 2 * _GAP
        right = left + _PLOT + 2 * _GAP
        width = max(right + max(map(columns, notes)) * _CELL, _GAP + columns(title) * _CELL) + _GAP
        bottom = _TOP + _ROW * len(self.results)
        height = bottom + _ROW + _GAP
        ticks = _ticks(min(r.interval[0] for r in self.results), max(r.interval[1] for r in self.results))

        def x(share: float) -> str:
            return f"{left + _PLOT * (100 * share - ticks[0]) / (ticks[-1] - ticks[0]):.1f}"

        parts = [_text(_GAP, _TOP // 2, title)]
        for tick in ticks:
            parts.append(_line(f"M{x(tick / 100)} {_TOP}V{bottom}", 'stroke-opacity=".3"'))
            parts.append(_text(x(tick / 100), bottom + 20, f"{tick}%", anchor="middle"))
        parts.append(_line(f"M{x(self.results[0].accuracy)} {_TOP}V{bottom}", 'stroke-dasharray="4 4"'))
        for row, (result, name, note) in enumerate(zip(self.results, names, notes, strict=True)):
            y = _TOP + _ROW * row + _ROW // 2
            parts.append(f"<g><title>{_escape(result.name)}</title>")
            parts.append(_text(left - 2 * _GAP, y + 4, name, anchor="end"))
            parts.append(_dot(x(result.accuracy), x(result.interval[0]), x(result.interval[1]), y))
            parts.append(_text(right, y + 4, note) + "</g>")
        return _document(width, height, title, parts)

    def save_svg(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file, whole or not at all.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        write_atomically(Path(path), lambda temporary: temporary.write_text(self.svg(), encoding="utf-8"))

    def _about(self) -> str:
        return f"images: {self.n_images}, classes: {self.n_classes}, model: {_shorten(self.model, _LONGEST_NAME)}"

    def _note(self) -> str:
        note = "In brackets: 95% intervals."
        if len(self.results) > 1:
            note += f" Differences: percentage points to {_printable(self.results[0].name)!r}, on the same images."
        return note

    def _table(self) -> list[list[str]]:
        table = [["prompts", "templates", "accuracy", "difference", "verdict"]]
        for result in self.results:
            low, high = (f"{100 * bound:.1f}" for bound in result.interval)
            lower, upper = map(_points, result.difference_interval)
            cells = [_printable(result.name), f"{result.templates or '-':>9}"]
            cells.append(f"{result.accuracy:>6.1%} [{low}, {high}]")
            cells.append("" if result.verdict == BASELINE else f"{_points(result.difference)} [{lower}, {upper}]")
            table.append([*cells, result.verdict])
        return table

    def _summary(self, result: PromptResult) -> str:
        difference = "" if result.verdict == BASELINE else f"{_points(result.difference)}  "
        return f"{result.accuracy:>6.1%}  {difference}{result.verdict}"


def compare(
    images: Any,
    targets: Sequence[int] | npt.NDArray[np.integer[Any]],
    prompts: Mapping[str, PromptsLike | None],
    *,
    labels: LabelsLike | None = None,
    model: ModelLike = DEFAULT_MODEL,
    device: str | torch.device | None = None,
) -> Comparison:
    """Score prompt sets on images whose classes are known.

    The images are embedded once, whatever the number of prompt sets.

    Parameters
    ----------
    images : iterable of images
        As `Classifier` takes them.
    targets : sequence of int, of shape (n_images,)
        Positions of the right classes among the labels, from 0.
    prompts : mapping from name to prompts
        Each as `build_head` takes them; the first one is what the others are compared with.
    labels : sequence of str, or mapping from name to synonyms, optional
        By default each prompt set's own classes, of which all must have the same number: so two ways of naming the
        classes can be compared too.
    model, device
        As for `Classifier`.

    Returns
    -------
    Comparison

    Raises
    ------
    OptionError
        If there are no images, not one target for each, or a target that is no class.
    LabelError, PromptError
        If labels or prompts are not usable.
    ImageError
        If an image cannot be decoded; the message names it.

    Examples
    --------
    >>> photographs = ["examples/images/cat.jpg", "examples/images/rocket.jpg"]
    >>> prompts = {"name alone": "{}", "photo": "a photo of a {}."}
    >>> comparison = compare(photographs, [0, 1], prompts, labels=["cat", "rocket"], model="mini")
    >>> [result.name for result in comparison.results]
    ['name alone', 'photo']
    """
    images = as_image_list(images)
    classes = _check_targets(targets, len(images))
    _check_prompts(prompts)
    encoder = as_encoder(model, device=device)
    parsed = None if labels is None else parse_labels(labels)
    sets = {name: as_prompt_set(each) for name, each in prompts.items()}
    heads = {name: build_head(encoder, parsed, prompts=each) for name, each in sets.items()}
    n_classes = _check_classes(heads, classes)  # before the images, which take longest
    embeddings = encoder.encode_images(images)
    results: list[PromptResult] = []
    for name, head in heads.items():
        correct = head.logits(embeddings).argmax(dim=-1).cpu().numpy() == classes
        results.append(_result(name, len(sets[name].templates), correct, results[0].correct if results else None))
    return Comparison(tuple(results), len(images), n_classes, encoder.name)


def compare_folder(
    folder: str | os.PathLike[str],
    prompts: Iterable[str],
    *,
    labels: Sequence[str] | None = None,
    model: ModelLike = DEFAULT_MODEL,
    device: str | torch.device | None = None,
) -> Comparison:
    """Score prompt sets on a folder with one subfolder a class: `zeroshot prompts compare`.

    Parameters
    ----------
    folder : path
        As `labelled_folder` takes it.
    prompts : iterable of str
        Names of prompt sets, paths, or templates.
    labels : sequence of str, optional
        Names of the classes in the order of the sorted subfolders; by default the subfolders' names, as they are.
    model, device
        As for `Classifier`.

    Raises
    ------
    LabelError
        If there are not as many labels as subfolders.
    ZeroShotError
        As `labelled_folder` and `compare` do.
    """
    paths, targets, names = labelled_folder(folder)
    if labels is not None and len(labels) != len(names):
        raise LabelError(
            f"{len(labels)} labels came for the {len(names)} class folders of {os.fspath(folder)!r}; expected one for "
            f"each, in the order {_some(names)}"
        )
    by_name = {each: each for each in prompts}
    return compare(paths, targets, by_name, labels=names if labels is None else labels, model=model, device=device)


# -------------------------------------------------------------------------------------------------------- statistics


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95% interval of a proportion, in [0, 1].

    Wilson's score interval (Probable inference, the law of succession, and statistical inference, 1927): the
    proportions p that a normal test does not reject, ``|p - k/n| <= z sqrt(p (1 - p) / n)``. It keeps its level for few
    images and for accuracies near 0 or 1, where the textbook interval collapses.

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson_interval(9, 10)]
    [0.5958, 0.9821]
    """
    share, square = successes / trials, NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    centre = share + square / (2 * trials)
    radius = math.sqrt(square * (share * (1 - share) / trials + square / (4 * trials**2)))
    scale = 1 + square / trials
    # Rounding must not push the ends past the proportion itself, which they touch at 0 and 1.
    return max(min((centre - radius) / scale, share), 0.0), min(max((centre + radius) / scale, share), 1.0)


def paired_interval(gained: int, lost: int, images: int) -> tuple[float, float]:
    """Return the 95% interval of a difference of accuracies on the same images, in [-1, 1].

    The percentile bootstrap (Efron, Bootstrap methods: another look at the jackknife, 1979): images are drawn with
    replacement 10,000 times, with a fixed seed. The difference of a draw depends only on how many gained and how many
    lost images are in it, and these counts are multinomial: so they are drawn, however many images there are.
    Where no image is gained or lost it has no width, which is as little proof as there are images.

    Parameters
    ----------
    gained, lost : int
        Images that only the one set gets right, and only the other.
    images : int

    Examples
    --------
    >>> paired_interval(0, 0, 50)
    (0.0, 0.0)
    """
    shares = np.array([gained, lost, images - gained - lost]) / images
    counts = np.random.default_rng(SEED).multinomial(images, shares, size=RESAMPLES)
    low, high = np.percentile((counts[:, 0] - counts[:, 1]) / images, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def mcnemar(gained: int, lost: int) -> float:
    """Return how often chance alone splits ``gained + lost`` images at least so unevenly, in [0, 1].

    McNemar's test (Note on the sampling error of the difference between correlated proportions or percentages, 1947) in
    its exact, two-sided form: without a difference each of these images is as likely gained as lost.

    Examples
    --------
    >>> mcnemar(5, 0), mcnemar(2, 2)
    (0.0625, 1.0)
    """
    total = gained + lost
    ways = tail = 1  # ways to lose none; of these, and of all with fewer than the next count
    for count in range(min(gained, lost)):
        ways = ways * (total - count) // (count + 1)
        tail += ways
    return min(2 * tail / (1 << total), 1.0)  # whole numbers until here: no overflow, and underflow only to 0


def _result(
    name: str, templates: int, correct: npt.NDArray[np.bool_], first: npt.NDArray[np.bool_] | None
) -> PromptResult:
    reference = correct if first is None else first
    gained, lost = int((correct & ~reference).sum()), int((reference & ~correct).sum())
    low, high = paired_interval(gained, lost, len(correct))
    p_value = mcnemar(gained, lost)
    shown = p_value < 1 - LEVEL and not low <= 0 <= high
    verdict = BASELINE if first is None else (BETTER if gained > lost else WORSE) if shown else NOT_SHOWN
    return PromptResult(
        name=name,
        templates=templates,
        correct=correct,
        accuracy=float(correct.mean()),
        interval=wilson_interval(int(correct.sum()), len(correct)),
        difference=(gained - lost) / len(correct),
        difference_interval=(low, high),
        gained=gained,
        lost=lost,
        p_value=p_value,
        verdict=verdict,
    )


# ------------------------------------------------------------------------------------------------------------ checks


def _check_targets(targets: Any, n_images: int) -> npt.NDArray[np.int64]:
    if n_images == 0:
        raise OptionError("images is empty; expected at least one, better some hundreds: few show no difference")
    try:
        array = np.asarray(targets)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"targets cannot be read: {error}; expected a list of class indices") from error
    if array.shape != (n_images,):
        raise OptionError(f"images are {n_images}, targets of shape {array.shape}; expected one target for each image")
    if array.dtype.kind not in "iu":
        raise InputTypeError(
            f"targets are {array.dtype}, such as {array[0]!r}; expected class indices, whole numbers from 0: the "
            "positions among the labels"
        )
    return array.astype(np.int64)


def _check_prompts(prompts: object) -> None:
    example = "{'photo': 'a photo of a {}.', 'ensemble': 'imagenet'}"
    if not isinstance(prompts, Mapping):
        raise InputTypeError(
            f"prompts is of type {type(prompts).__name__}; expected a mapping from names to prompts, such as {example}"
        )
    if not prompts:
        raise PromptError(f"prompts is empty; expected at least one set, such as {example}")


def _check_classes(heads: Mapping[str, Head], targets: npt.NDArray[np.int64]) -> int:
    """Return the number of classes, which is the same for all heads and covers the targets."""
    counts = {name: len(head.labels) for name, head in heads.items()}
    if len(set(counts.values())) > 1:
        raise LabelError(
            f"the prompt sets have different numbers of classes ({', '.join(f'{n!r}: {c}' for n, c in counts.items())})"
            "; give labels, which then hold for all of them"
        )
    n_classes = next(iter(counts.values()))
    outside = np.flatnonzero((targets < 0) | (targets >= n_classes))
    if len(outside):
        raise OptionError(
            f"target {outside[0]} is {targets[outside[0]]}; expected a class index from 0 to {n_classes - 1}, the "
            "position among the labels"
        )
    return n_classes


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# -------------------------------------------------------------------------------------------------------------- text


def _points(difference: float) -> str:
    return f"{round(100 * difference, 1) + 0.0:+.1f}"  # + 0.0: no "-0.0"


def _printable(text: str) -> str:
    """Replace what a terminal would obey and XML forbids, such as escape characters in the name of a file."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _shorten(text: str, room: int) -> str:
    """Cut the middle out: templates differ at both ends."""
    text = _printable(text)
    if columns(text) <= room:
        return text
    keep = room - 1
    while columns(text[: (keep + 1) // 2]) + columns(text[len(text) - keep // 2 :]) >= room:
        keep -= 1
    return f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"


def _ticks(low: float, high: float) -> list[int]:
    """Whole percentages at even steps, from at most `low` to at least `high`."""
    step = next((step for step in (1, 2, 5, 10) if 100 * (high - low) <= 5 * step), 20)
    first, last = math.floor(100 * low / step), math.ceil(100 * high / step)
    return [step * tick for tick in range(first, max(last, first + 1) + 1)]


def _text(x: int | str, y: int, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{_escape(text)}</text>'


def _line(path: str, style: str) -> str:
    return f'<path d="{path}" stroke="{_GREY}" {style}/>'


def _dot(x: str, low: str, high: str, y: int) -> str:
    interval = f'<path d="M{low} {y}H{high}" stroke="{_BLUE}" stroke-width="3" stroke-linecap="round"/>'
    return f'{interval}<circle cx="{x}" cy="{y}" r="6" fill="{_BLUE}"/>'


def _document(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    # Where there is little room it is made smaller, but not smaller than can be read: then it is moved.
    room = f'style="max-width:100%;min-width:{3 * width // 4}px;height:auto"'
    style = f'font-family="monospace" font-size="13" fill="{_GREY}" xml:space="preserve" {room}'
    label = f'role="img" aria-label="{_escape(title)}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style} {label}>\n{body}\n</svg>\n'


def _escape(text: str) -> str:
    return html.escape(_printable(text))
