"""The published table of zero-shot results: model by data set, what is needed, what was published, what was measured.

What is on the disk is measured, and the rest is marked as not run. Results are kept in a file, so that a second run
fills the gaps only.

The published numbers are facts in ``data/published.csv``, in per cent, each row with its source: see `SOURCES`.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch

from zeroshot.cache import write_atomically
from zeroshot.classifier import ModelLike
from zeroshot.encoder import Encoder
from zeroshot.errors import OptionError, ZeroShotError
from zeroshot.evaluation import evaluate
from zeroshot.prompts import METRICS, PromptSet, load_prompts
from zeroshot.registry import is_on_disk
from zeroshot.tables import aligned

FORMAT = "zeroshot-reproduce/1"
RESULTS = "zeroshot-results.json"
SOURCES = {
    "clip_table_11": "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021, "
    "table 11",
    "clip_figure_13": "the same, figure 13",
    "open_clip": "mlfoundations/open_clip, docs/openclip_results.csv, at 89fb801",
}
PAPER = "clip_table_11"
# In this order one of these is the data of a set: a folder, or a file.
_ENDINGS = ("", ".tar", ".parquet", ".jsonl", ".csv", ".tsv")
Status = Literal["measured", "not run", "failed"]


@dataclass(frozen=True)
class Published:
    """A published number: whose, of what, in [0, 1], and a key of `SOURCES`."""

    model: str
    prompts: str
    value: float
    source: str


@dataclass(frozen=True)
class Measured:
    """What was measured here.

    Attributes
    ----------
    value, low, high : float or None
        The metric of the data set and its interval, in [0, 1].
    images, failed, left_out : int
        Images that were measured, could not be read, or have no usable class.
    notes : tuple of str
    setup : mapping
        All that is needed to repeat it, as `Evaluation.setup`.
    """

    value: float | None
    low: float | None
    high: float | None
    images: int
    failed: int
    left_out: int
    notes: tuple[str, ...]
    setup: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One model on one data set.

    Attributes
    ----------
    model, prompts : str
        Names of the model, and of the prompt set, which is the data set's.
    metric : str
        A key of `zeroshot.prompts.METRICS`.
    published : Published or None
        The first source that has a number.
    measured : Measured or None
    status : {"measured", "not run", "failed"}
    needs : tuple of str
        What is missing on this disk, if it was not run.
    error : str
        What went wrong, if it failed.
    """

    model: str
    prompts: str
    metric: str
    published: Published | None
    measured: Measured | None
    status: Status
    needs: tuple[str, ...] = ()
    error: str = ""

    @property
    def difference(self) -> float | None:
        """Measured less published, in [-1, 1]; None without one of them."""
        if self.published is None or self.measured is None or self.measured.value is None:
            return None
        return self.measured.value - self.published.value


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` found; `print` shows what was measured, and what is missing for the rest."""

    cells: tuple[Cell, ...]

    def __str__(self) -> str:
        """Measured cells as a table; the others in short."""
        done = [cell for cell in self.cells if cell.status == "measured"]
        head = ["model", "set", "metric", "published", "measured", "difference"]
        lines = [*aligned([head, *map(_row, done)]), ""] if done else []
        for cell in self.cells:
            if cell.status == "failed":
                lines.append(f"failed: {cell.model} on {cell.prompts}: {cell.error}")
            elif cell.measured is not None and (cell.measured.failed or cell.measured.left_out):
                lines.append(
                    f"{cell.model} on {cell.prompts}: {cell.measured.failed} images failed, {cell.measured.left_out} "
                    "left out"
                )
        waiting = [cell for cell in self.cells if cell.status == "not run"]
        lines.append(f"measured: {len(done)} of {len(self.cells)}, not run: {len(waiting)}")
        needs = Counter(need for cell in waiting for need in cell.needs)
        lines += [f"{cells} of these need: {need}" for need, cells in needs.items()]
        if ready := sum(not cell.needs for cell in waiting):
            lines.append(f"{ready} of these need nothing more")
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Return the table with a row for each data set and a column for each model: measured (published).

        A dash stands for what was not measured.
        """
        models = list(dict.fromkeys(cell.model for cell in self.cells))
        by_set: dict[str, dict[str, Cell]] = {}
        for cell in self.cells:
            by_set.setdefault(cell.prompts, {})[cell.model] = cell
        lines = [f"| set | metric | {' | '.join(models)} |", f"|---|---|{'---:|' * len(models)}"]
        for name, cells in by_set.items():
            row = [_cell(cells[model]) if model in cells else "" for model in models]
            lines.append(f"| {name} | {METRICS[next(iter(cells.values())).metric]} | {' | '.join(row)} |")
        return "\n".join(lines) + "\n\nIn per cent: measured here, in brackets what was published. – not run.\n"

    def to_dict(self) -> dict[str, Any]:
        """Return all cells as JSON has them."""
        return {"format": FORMAT, "sources": SOURCES, "cells": [asdict(cell) for cell in self.cells]}


@lru_cache(maxsize=1)
def published_results() -> tuple[Published, ...]:
    """Return the published numbers.

    Examples
    --------
    >>> results = {(one.model, one.prompts): one.value for one in published_results() if one.source == PAPER}
    >>> len(results), results["ViT-L-14-336/openai", "imagenet"]
    (243, 0.762)
    """
    text = resources.files("zeroshot").joinpath("data/published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(row["model"], prompts, round(float(number) / 100, 6), row["source"])
        for row in csv.DictReader(text.splitlines())
        for prompts, number in row.items()
        if number and prompts not in ("source", "model")
    )


def reproduce(
    data: str | os.PathLike[str],
    *,
    models: Sequence[ModelLike] | None = None,
    prompts: Sequence[str] | None = None,
    results: str | os.PathLike[str] | None = None,
    run: bool = True,
    again: bool = False,
    device: str | torch.device | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    each: Callable[[Cell], object] | None = None,
) -> Reproduction:
    """Measure what is on the disk of the published table.

    Parameters
    ----------
    data : path
        A folder that has for each data set a folder, or a list or an archive, with the name of its prompt set:
        ``data/food101/…``, ``data/mnist.parquet``. What each may be says `zeroshot.labelled.load_labelled`.
    models : sequence of str, path or Encoder, optional
        By default those of the paper's table.
    prompts : sequence of str, optional
        Names of shipped prompt sets; by default the 27 of the paper.
    results : path, optional
        Where results are kept; by default `RESULTS` in `data`. What is there already is not measured again, as long as
        the prompts are the same.
    run : bool
        False: plan only.
    again : bool
        Measure also what is in `results`.
    device, batch_size, workers, resamples, seed
        As for `zeroshot.evaluate`.
    each : callable, optional
        Called with each cell as soon as it is settled.

    Returns
    -------
    Reproduction
        One cell for each model and data set, by models.

    Raises
    ------
    OptionError
        If a prompt set has no classes, or `results` is something else.
    PromptNotFoundError, ModelNotFoundError
        If there is no such prompt set or model.
    """
    folder = Path(data).expanduser()
    numbers = published_results()
    if prompts is None:
        prompts = list(dict.fromkeys(one.prompts for one in numbers if one.source == PAPER))
    if models is None:
        models = list(dict.fromkeys(one.model for one in numbers if one.source == PAPER))
    sets = [_with_classes(load_prompts(name)) for name in prompts]
    kept = _Kept(Path(results) if results is not None else folder / RESULTS)
    options = {
        "device": device,
        "batch_size": batch_size,
        "workers": workers,
        "resamples": resamples,
        "seed": seed,
    }
    cells = []
    for model in models:
        name = model.name if isinstance(model, Encoder) else os.fspath(model)
        is_there = isinstance(model, Encoder) or is_on_disk(name)
        for each_set in sets:
            cell = _settle(model, name, each_set, folder, kept, options, is_there=is_there, run=run, again=again)
            cells.append(cell)
            if each is not None:
                each(cell)
    return Reproduction(tuple(cells))


def _settle(
    model: ModelLike,
    name: str,
    prompts: PromptSet,
    folder: Path,
    kept: _Kept,
    options: Mapping[str, Any],
    *,
    is_there: bool,
    run: bool,
    again: bool,
) -> Cell:
    """Find a cell among the kept results, measure it, or say what it needs."""
    metric = prompts.metric or "top_1"
    number = _published(name, prompts.name)

    def cell(status: Status, measured: Measured | None = None, **rest: Any) -> Cell:
        return Cell(name, prompts.name, metric, number, measured, status, **rest)

    known = kept.find(name, prompts, metric)
    if known is not None and not again:
        return cell("measured", known)
    images = next((path for ending in _ENDINGS if (path := folder / f"{prompts.name}{ending}").exists()), None)
    needs = []
    if not is_there:
        needs.append(f"the checkpoint {name}, which zeroshot.load({name!r}) fetches")
    if images is None:
        source = f": {prompts.data}" if prompts.data else ""
        needs.append(f"images at {folder / prompts.name}{source}")
    if needs or not run or images is None:
        return cell("not run", known, needs=tuple(needs))
    try:
        found = evaluate(images, model=model, prompts=prompts, metric=metric, **options)
    except ZeroShotError as error:
        return cell("failed", error=str(error))
    one = found.metrics[found.metric]
    value, low, high = (None if math.isnan(number) else number for number in one)
    measured = Measured(
        value=value,
        low=low,
        high=high,
        images=found.n_images,
        failed=len(found.failed),
        left_out=sum(reason.images for reason in found.left_out),
        notes=found.notes,
        setup=found.setup,
    )
    kept.keep(name, prompts, metric, measured)
    return cell("measured", measured)


def _with_classes(prompts: PromptSet) -> PromptSet:
    if not prompts.classes:
        raise OptionError(
            f"the prompt set {prompts.name!r} has no classes, so it is of no data set; expected one that has"
        )
    return prompts


def _published(model: str, prompts: str) -> Published | None:
    return next((one for one in published_results() if (one.model, one.prompts) == (model, prompts)), None)


class _Kept:
    """The file of results: model -> prompt set -> what was measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, dict[str, Any]] = {}
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise OptionError(
                    f"{path} is {data['format']!r}; expected {FORMAT!r}: give another file for the results"
                )
            self.cells = {model: dict(sets) for model, sets in data["results"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, ZeroShotError):
                raise
            raise OptionError(
                f"{path} cannot be read as results of this command: {error}; remove it, or give another file"
            ) from error

    def find(self, model: str, prompts: PromptSet, metric: str) -> Measured | None:
        """Return what was measured with these very prompts."""
        found = self.cells.get(model, {}).get(prompts.name)
        if found is None or found["prompts"] != prompts.digest or found["metric"] != metric:
            return None
        return Measured(**{**found["measured"], "notes": tuple(found["measured"]["notes"])})

    def keep(self, model: str, prompts: PromptSet, metric: str, measured: Measured) -> None:
        """Write it down at once: a run may be killed."""
        entry = {"prompts": prompts.digest, "metric": metric, "measured": asdict(measured)}
        self.cells.setdefault(model, {})[prompts.name] = entry
        content = json.dumps({"format": FORMAT, "results": self.cells}, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.path, lambda temporary: temporary.write_text(content, encoding="utf-8"))


# -------------------------------------------------------------------------------------------------------------- text


def _row(cell: Cell) -> list[str]:
    measured = cell.measured
    assert measured is not None
    value = "not defined" if measured.value is None else f"{100 * measured.value:.1f}"
    if measured.low is not None and measured.high is not None:
        value += f" [{100 * measured.low:.1f}, {100 * measured.high:.1f}]"
    published = "" if cell.published is None else f"{100 * cell.published.value:.1f}"
    difference = "" if cell.difference is None else f"{100 * cell.difference:+.1f}"
    return [cell.model, cell.prompts, METRICS[cell.metric], published, value, difference]


def _cell(cell: Cell) -> str:
    measured = None if cell.measured is None else cell.measured.value
    shown = "–" if measured is None else f"{100 * measured:.1f}"
    return shown if cell.published is None else f"{shown} ({100 * cell.published.value:.1f})"
