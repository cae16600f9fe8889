"""Where it fails: verdicts on small drawn sets of what contrastive models are known not to do, before production does.

The sets, and who found that they fail, are in `zeroshot.drawings`. A verdict is not a benchmark; it says whether an
encoder does better than chance at what a person finds easy. Where a control fails, failures on the other sets say
nothing of the limit.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zeroshot.cache import write_atomically
from zeroshot.classifier import ModelLike, as_encoder
from zeroshot.display import Html, literal
from zeroshot.drawings import LIMITS as LIMITS
from zeroshot.drawings import PER_CLASS as PER_CLASS
from zeroshot.drawings import Limit as Limit
from zeroshot.drawings import photograph_limits as photograph_limits
from zeroshot.errors import OptionError, check_positive
from zeroshot.evaluation import Evaluation, evaluate
from zeroshot.image import ImageLike
from zeroshot.prompts import PromptSet
from zeroshot.registry import DEFAULT_MODEL
from zeroshot.tables import aligned, as_html

ABOVE, CHANCE, BELOW = "above chance", "no better than chance", "below chance"


@dataclass(frozen=True)
class LimitResult:
    """What an encoder reached on one set.

    Attributes
    ----------
    limit : Limit
    n_images : int
    accuracy : float
        Top-1, in [0, 1].
    interval : tuple of float
        95% interval of `accuracy`: Clopper and Pearson's, which is never too narrow.
    chance : float
        One over the number of classes: what guessing reaches, and what always saying the same reaches.
    p_value : float
        In [0, 1]: how often guessing does at least as well (exact binomial test, one-sided).
    favourite : str
        The label that is given most often, and
    favourite_share : float
        how often; 1 means that the pictures make no difference.
    verdict : {"above chance", "no better than chance", "below chance"}
        Above or below where the interval leaves chance out.

    Examples
    --------
    >>> result = find_limits("mini", sets=["size"], per_class=5).results[0]
    >>> result.limit.name, result.n_images, result.chance, result.verdict
    ('size', 10, 0.5, 'no better than chance')
    """

    limit: Limit
    n_images: int
    accuracy: float
    interval: tuple[float, float]
    chance: float
    p_value: float
    favourite: str
    favourite_share: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Limits:
    """What `find_limits` found; `print` shows a table, a notebook the table too.

    Attributes
    ----------
    results : tuple of LimitResult
    model : str
    per_class, seed : int
        Of the drawn sets.

    Examples
    --------
    >>> limits = find_limits("mini", sets=["size"], per_class=5)
    >>> limits.to_dict()["per_class"], "| Size | 2 | 10 |" in limits.markdown()
    (5, True)
    >>> limits.save_html("limits.html")  # doctest: +SKIP
    """

    results: tuple[LimitResult, ...]
    model: str
    per_class: int
    seed: int

    def __str__(self) -> str:
        """A table, for `print`."""
        lines = aligned(self._table(), right=(1, 2, 3, 5))
        return "\n".join([f"model: {self.model}", "", *lines, "", self._note()])

    def _repr_html_(self) -> str:
        return literal(Html(as_html(f"model: {self.model}", self._table(), self._note())))

    def to_dict(self) -> dict[str, Any]:
        """Return all that is known as plain lists, dicts and numbers, ready for JSON."""
        return {
            "model": self.model,
            "per_class": self.per_class,
            "seed": self.seed,
            "sets": [
                {
                    "name": one.limit.name,
                    "control": one.limit.control,
                    "labels": list(one.limit.labels),
                    "prompts": list(one.limit.prompts),
                    "source": one.limit.source,
                    "n_images": one.n_images,
                    "accuracy": one.accuracy,
                    "interval": list(one.interval),
                    "chance": one.chance,
                    "p_value": one.p_value,
                    "favourite": one.favourite,
                    "favourite_share": one.favourite_share,
                    "verdict": one.verdict,
                }
                for one in self.results
            ],
        }

    def markdown(self) -> str:
        """Return the table and what each set asks, in Markdown: the page of `zeroshot limits --markdown`."""
        head, *rows = self._table()
        lines = [f"| {' | '.join(head)} |", "|---|--:|--:|--:|---|--:|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        about = [
            f"- **{one.limit.title}**{' (a control)' if one.limit.control else ''}: {one.limit.asks} "
            f"`{one.limit.prompts[0]}`, … {one.limit.source}"
            for one in self.results
        ]
        return "\n".join([f"Measured: `{self.model}`. {self._note()}", "", *lines, "", *about, ""])

    def save_html(self, path: str | os.PathLike[str], *, pictures: int = 3) -> None:
        """Write a page with the table and pictures of every class, all in one file.

        Parameters
        ----------
        path : str or path-like
        pictures : int
            Of each class, at least 1.

        Raises
        ------
        OptionError
            If `pictures` is below 1.
        OSError
            If the folder cannot be written.
        """
        check_positive("pictures", pictures)
        parts = [_HEAD, f"<h1>Where {html.escape(self.model)} fails</h1>", self._repr_html_()]
        for one in self.results:
            limit = one.limit
            parts.append(
                f"<h2>{html.escape(limit.title)}: {one.accuracy:.0%}, {html.escape(one.verdict)}</h2>"
                f"<p>{html.escape(limit.asks)} {html.escape(limit.source)}</p><div class=row>"
            )
            for label in range(len(limit.labels)):
                shown = "".join(
                    f'<img src="{_data_url(limit.image(label, number, seed=self.seed))}" alt="" width=112 height=112>'
                    for number in range(min(pictures, self.per_class))
                )
                parts.append(f"<figure>{shown}<figcaption>{html.escape(limit.prompts[label])}</figcaption></figure>")
            parts.append("</div>")
        text = "\n".join([*parts, "</html>\n"])
        write_atomically(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def _table(self) -> list[list[str]]:
        table = [["set", "classes", "images", "accuracy", "95%", "chance", "verdict", "says most often"]]
        for one in self.results:
            low, high = one.interval
            name = one.limit.title + (" (control)" if one.limit.control else "")
            cells = [name, str(len(one.limit.labels)), str(one.n_images), f"{one.accuracy:.1%}"]
            cells += [f"{100 * low:.0f} to {100 * high:.0f}", f"{one.chance:.1%}", one.verdict]
            table.append([*cells, f"{one.favourite!r}, {one.favourite_share:.0%}"])
        return table

    def _note(self) -> str:
        failed = [one.limit.title for one in self.results if one.limit.control and one.verdict != ABOVE]
        note = f"{self.per_class} pictures a class, seed {self.seed}."
        if failed:
            note += (
                f" A control failed ({', '.join(failed)}): this encoder hardly knows such pictures, and failures on "
                "pictures of that kind say nothing of the limit."
            )
        return note


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Where it fails</title><style>
body{font-family:system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.25rem .7rem;text-align:left;border-bottom:1px solid #ddd}
.row{display:flex;flex-wrap:wrap;gap:.8rem}figure{margin:0}figcaption{font-size:.8rem;max-width:22rem}
img{border:1px solid #ddd;margin-right:2px}</style>"""


def find_limits(
    model: ModelLike = DEFAULT_MODEL,
    *,
    sets: Iterable[str] | None = None,
    photographs: Mapping[str, ImageLike] | None = None,
    per_class: int = PER_CLASS,
    seed: int = 0,
    device: str | torch.device | None = None,
    batch_size: int = 32,
) -> Limits:
    """Measure an encoder on drawn sets of what is known to fail: ``zeroshot limits``.

    Parameters
    ----------
    model : str, path or Encoder
        As `load` takes it, or any object with the members of `Encoder`.
    sets : iterable of str, optional
        Keys of `LIMITS`; by default all.
    photographs : mapping from name to image, optional
        Two things or more, such as ``{"a cat": "cat.jpg", "a rocket": "rocket.jpg"}``: sets that are composed of these
        are measured too, for encoders that know photographs and no drawings (`photograph_limits`).
    per_class : int
        Pictures of each class. With 20, two classes are told from chance at 65%.
    seed : int
        Another seed draws other pictures of the same kind.
    device, batch_size
        As for `Classifier`.

    Returns
    -------
    Limits

    Raises
    ------
    OptionError
        If there is no such set, or `per_class` is below 1.
    ZeroShotError
        As `load` does.

    Examples
    --------
    >>> limits = find_limits("mini", sets=["left_right"], per_class=10)
    >>> limits.results[0].n_images, limits.results[0].chance
    (20, 0.5)
    """
    chosen = _choose(sets)
    if photographs is not None:
        chosen += photograph_limits(photographs)
    check_positive("per_class", per_class)
    encoder = as_encoder(model, device=device)
    results = []
    for limit in chosen:
        images, targets = limit.images(per_class, seed=seed)
        written = PromptSet.from_descriptions(
            {label: [prompt] for label, prompt in zip(limit.labels, limit.prompts, strict=True)}, name=limit.name
        )
        names = [limit.labels[target] for target in targets]
        found = evaluate((images, names), model=encoder, prompts=written, resamples=1, batch_size=batch_size)
        results.append(_result(limit, found))
    return Limits(tuple(results), encoder.name, per_class, seed)


def _choose(sets: Iterable[str] | None) -> list[Limit]:
    names = list(LIMITS) if sets is None else [sets] if isinstance(sets, str) else list(sets)
    unknown = [name for name in names if name not in LIMITS]
    if unknown or not names:
        raise OptionError(f"sets are {names}; expected some of {', '.join(LIMITS)}")
    return [LIMITS[name] for name in names]


def _result(limit: Limit, found: Evaluation) -> LimitResult:
    matrix = found.confusion()
    images, right, classes = int(matrix.sum()), int(np.trace(matrix)), len(limit.labels)
    given = matrix.sum(axis=0)
    low, high = clopper_pearson(right, images)
    chance = 1 / classes
    verdict = ABOVE if low > chance else BELOW if high < chance else CHANCE
    favourite = int(given.argmax())
    return LimitResult(
        limit=limit,
        n_images=images,
        accuracy=right / images,
        interval=(low, high),
        chance=chance,
        p_value=binomial_tail(right, images, chance),
        favourite=limit.labels[favourite],
        favourite_share=float(given[favourite] / images),
        verdict=verdict,
    )


# -------------------------------------------------------------------------------------------------------- statistics


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Return how often at least so many of `trials` succeed if each does with probability `share`.

    Parameters
    ----------
    successes, trials : int
    share : float, in [0, 1]

    Examples
    --------
    >>> round(binomial_tail(9, 10, 0.5), 6)
    0.010742
    """
    if successes <= 0:
        return 1.0
    if share <= 0 or share >= 1:
        return float(share >= 1)
    counts = np.arange(successes, trials + 1)
    steps = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])  # logarithms of factorials
    logs = steps[trials] - steps[counts] - steps[trials - counts]
    logs = logs + counts * np.log(share) + (trials - counts) * np.log1p(-share)
    return min(float(np.exp(logs).sum()), 1.0)


def clopper_pearson(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a proportion, in [0, 1]: Clopper and Pearson, Biometrika 26, 1934.

    The proportions that neither one-sided binomial test rejects at ``(1 - level) / 2``; it covers at least `level`,
    however few trials there are.

    Parameters
    ----------
    successes, trials : int
    level : float, in (0, 1)

    Examples
    --------
    >>> [round(end, 4) for end in clopper_pearson(9, 10)]
    [0.555, 0.9975]
    """
    alpha = (1 - level) / 2
    low = _root(lambda share: binomial_tail(successes, trials, share) - alpha) if successes > 0 else 0.0
    # At most k succeed: at least n - k fail.
    high = (
        1 - _root(lambda share: binomial_tail(trials - successes, trials, share) - alpha) if successes < trials else 1.0
    )
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
