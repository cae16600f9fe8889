"""What is measured and how it is shown: rounds in which everybody takes a turn, medians, ratios, tables in Markdown.

A `Comparison` is one piece of work and those who do it. Everybody does it once before the clock runs; then each round
runs all of them once, in turn, so that a machine that slows down slows all of them. The table has the median, its
ratio to the first who is there of `baselines`, and how far the result is from the baseline's.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

PACKAGES = ("torch", "open_clip_torch", "transformers", "openai-clip", "onnxruntime", "torchvision", "pillow", "numpy")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "neon", "asimd")
# A clock that is read more often than this measures itself.
SHORTEST_SECONDS = 0.05
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}

Run = Callable[[], Any]


class MissingError(Exception):
    """Why somebody does not take part; the table says it in a line."""


@dataclass(frozen=True)
class Contestant:
    """Somebody who does the work.

    Attributes
    ----------
    name : str
        ``zeroshot``, or ``zeroshot`` and an option, or a peer.
    prepare : callable
        Does what is not measured, and returns a function that does the work once and returns what can be compared,
        a tensor of rows, or None. Raises `MissingError` where it cannot take part.
    exact : bool
        Whether the result should be that of the baseline up to rounding; others are compared by the cosine.
    """

    name: str
    prepare: Callable[[], Run]
    exact: bool = True


@dataclass(frozen=True)
class Comparison:
    """One piece of work and those who do it.

    Attributes
    ----------
    key : str
        For ``--rows``.
    title : str
    contestants : sequence of Contestant
    items : int
        How many images are done in one run, for a rate; 0 for a time.
    gflop : float
        10^9 additions and multiplications that the work takes, however it is done; 0 where that says nothing.
    rounds : int
        At most so many, where a round takes minutes.
    baselines : sequence of str
        Whose median is 1.
    """

    key: str
    title: str
    contestants: Sequence[Contestant]
    items: int = 0
    gflop: float = 0.0
    rounds: int = 1000
    baselines: Sequence[str] = ("open_clip",)


@dataclass
class Measured:
    """The times of one contestant, in seconds for one run, and its result."""

    name: str
    exact: bool = True
    seconds: list[float] = field(default_factory=list)
    result: Any = None

    @property
    def median(self) -> float:
        """Seconds for one run."""
        return statistics.median(self.seconds)


def take_turns(
    comparison: Comparison, *, rounds: int, clock: str = "wall", only: Sequence[str] = ()
) -> tuple[list[Measured], list[str]]:
    """Run a comparison; return the times, in the order of the contestants, and why others are missing.

    Parameters
    ----------
    only : sequence of str
        Names, or beginnings of names, of those who shall take part; by default everybody.
    """
    runs: list[tuple[Measured, Run, int]] = []
    notes: list[str] = []
    for contestant in comparison.contestants:
        if only and not contestant.name.startswith(tuple(only)):
            continue
        measured = Measured(contestant.name, contestant.exact)
        try:
            run = contestant.prepare()
            start = time.perf_counter()
            measured.result = run()  # warm
            took = time.perf_counter() - start
            if took < 1:  # the first run may have made what the others only use
                start = time.perf_counter()
                run()
                took = time.perf_counter() - start
        except MissingError as reason:
            notes.append(f"{contestant.name}: {reason}")
            continue
        runs.append((measured, run, max(1, round(SHORTEST_SECONDS / max(took, 1e-7)))))
    gc.collect()
    now = CLOCKS[clock]
    for _ in range(min(rounds, comparison.rounds)):
        for measured, run, number in runs:
            start = now()
            for _ in range(number):
                run()
            measured.seconds.append((now() - start) / number)
    return [measured for measured, _, _ in runs], notes


# ------------------------------------------------------------------------------------------------------- comparing


def deviation(rows: Any, reference: Any) -> float:
    """Return the largest absolute difference of rows of length 1."""
    ours, theirs = _unit(rows), _unit(reference)
    if ours.shape != theirs.shape:
        raise ValueError(f"results of shapes {tuple(ours.shape)} and {tuple(theirs.shape)} cannot be compared")
    return float((ours - theirs).abs().max())


def least_cosine(rows: Any, reference: Any) -> float:
    """Return the least cosine of rows with those of the reference."""
    return float((_unit(rows) * _unit(reference)).sum(dim=-1).min())


def _unit(rows: Any) -> torch.Tensor:
    return F.normalize(torch.as_tensor(rows).detach().double().cpu(), dim=-1)


# ---------------------------------------------------------------------------------------------------------- tables


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first are flushed right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def render(comparison: Comparison, measured: Sequence[Measured], notes: Sequence[str], *, peak: float = 0.0) -> str:
    """Return the title, the table and the notes of a comparison in Markdown.

    Parameters
    ----------
    peak : float
        GFLOP/s of matrix products on this machine, for the share that is reached; 0 for none.
    """
    by_name = {one.name: one for one in measured}
    base = next((by_name[name] for name in comparison.baselines if name in by_name), None)
    if base is None and measured:
        base = measured[0]
    roofline = comparison.gflop > 0 and peak > 0
    header = ["", "images/s" if comparison.items else "time", f"× {base.name}" if base else "ratio", "min to max"]
    header += ["GFLOP/s", "of the peak"] if roofline else []
    header += ["deviation"]
    rows = []
    for one in measured:
        assert base is not None
        row = [one.name, _amount(comparison, one.median), f"{base.median / one.median:.2f}"]
        row += [" to ".join(_amount(comparison, f(one.seconds)) for f in _span(comparison))]
        if roofline:
            rate = comparison.gflop / one.median
            row += [f"{rate:.0f}", f"{rate / peak:.0%}"]
        rows.append([*row, _difference(one, base)])
    text = f"**{comparison.title}**\n\n{table(header, rows)}\n" if rows else f"**{comparison.title}**\n"
    return text + "".join(f"\n- {note}" for note in notes) + ("\n" if notes else "")


def _span(comparison: Comparison) -> tuple[Callable[..., float], Callable[..., float]]:
    return (max, min) if comparison.items else (min, max)


def _amount(comparison: Comparison, seconds: float) -> str:
    if comparison.items:
        rate = comparison.items / seconds
        return f"{rate:.1f}" if rate < 1000 else f"{rate:.0f}"
    return duration(seconds)


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.3g} min"


def _difference(one: Measured, base: Measured) -> str:
    if one.result is None or base.result is None:
        return ""
    if one is base:
        return "0"
    if one.exact and base.exact:
        return f"{deviation(one.result, base.result):.1e}"
    return f"cosine {least_cosine(one.result, base.result):.4f}"


# --------------------------------------------------------------------------------------------------------- machine


def machine(threads: int) -> str:
    """Return versions, processor and load in a few lines of Markdown."""
    name, flags = _processor()
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    known = [flag for flag in FLAGS if flag in flags]
    return (
        f"{name} ({', '.join(known) or 'no vector flags known'}), {os.cpu_count()} CPUs, {threads} threads, "
        f"load {load}, Python {platform.python_version()}; {', '.join(versions)}"
    )


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    entries = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    return entries.get("model name", platform.machine()), set(entries.get("flags", entries.get("Features", "")).split())


def peak_gflops(seconds: float = 2.0) -> float:
    """Measure how fast torch multiplies float32 matrices on its threads: GFLOP/s, the best of many products."""
    best = 0.0
    until = time.perf_counter() + seconds
    operands = {
        size: (torch.rand(size, size), torch.rand(size, size), torch.empty(size, size)) for size in (1024, 2048)
    }
    while time.perf_counter() < until:
        for size, (a, b, out) in operands.items():
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return pixels that are normalised already: float32, about N(0, 1)."""
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values)
