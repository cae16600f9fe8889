"""Runs the parts that the command line names, and prints them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import torch

from . import instructions
from .gpu import card
from .measure import Comparison, MissingError, machine, peak_gflops, render, take_turns


def run(options: argparse.Namespace, parts: Sequence[str], folder: Path) -> None:
    """Print the machine, then each comparison."""
    threads = _threads(options)
    torch.set_num_threads(threads)
    if options.child is not None:
        _as_child(options, parts[0], folder)
        return
    if options.list:
        for part in parts:
            print(part, *(comparison.key for comparison in of_part(part, options, folder)))
        return
    print(machine(threads), flush=True)
    if options.device:
        try:
            torch.empty(0, device=options.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise SystemExit(f"--device {options.device} is not there: {reason}; expected such as 'cuda'") from error
        print(f"{card(options.device)}\n", flush=True)
    peak = 0.0
    if options.count:
        print(f"Instructions by {instructions.counter()}, on one thread.\n", flush=True)
    elif not options.device:
        peak = peak_gflops()
        print(f"Peak of matrix products {peak:.0f} GFLOP/s in float32.\n", flush=True)
    for part in parts:
        for report in of_processes(part, options, folder):
            print(report, flush=True)
        for comparison in of_part(part, options, folder):
            if options.rows and comparison.key not in options.rows:
                continue
            if options.count:
                print(instructions.count(part, comparison, options, folder), flush=True)
                continue
            measured, notes = take_turns(comparison, rounds=options.rounds, clock=options.clock, only=options.only)
            print(render(comparison, measured, notes, peak=peak), flush=True)
    if not options.count and not options.device:
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"At the end: peak of matrix products {peak_gflops():.0f} GFLOP/s, load {load}.", flush=True)


def of_part(part: str, options: argparse.Namespace, folder: Path) -> Iterator[Comparison]:
    """Yield the comparisons of a part."""
    module = import_module(f"benchmarks.{part}")
    settings = {"quick_gelu": not options.gelu, "compiled": options.compiled}
    if options.device:
        settings["device"] = options.device
    yield from module.comparisons(folder, threads=_threads(options), **settings)


def of_processes(part: str, options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the tables of a part that measures whole processes, if it is such a one."""
    reports = getattr(import_module(f"benchmarks.{part}"), "reports", None)
    if reports is not None and options.count:
        yield f"{part}: whole processes are not counted, only timed"
    elif reports is not None:
        yield from reports(folder, options)


def _as_child(options: argparse.Namespace, part: str, folder: Path) -> None:
    """Prepare one contestant, warm it up, and run it so many times."""
    comparison = next(one for one in of_part(part, options, folder) if one.key in options.rows)
    contestant = next(one for one in comparison.contestants if one.name in options.only)
    try:
        work = contestant.prepare()
        work()
        with instructions.counted():
            for _ in range(options.child):
                work()
    except MissingError as reason:
        raise SystemExit(str(reason)) from reason


def _threads(options: argparse.Namespace) -> int:
    return 1 if options.count or options.child is not None else options.threads
