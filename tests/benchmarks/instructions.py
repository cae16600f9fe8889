"""Counts instructions in place of time, for machines where other work makes every clock lie.

Each contestant runs in a process of its own, on one thread, and does the work once to warm up. What counts is `perf
stat` where the machine lets it: of a process that does the work once more, less that of one that does not. Else it is
valgrind's callgrind, switched on for the work alone, some fifty times slower than the processor, which it shows as one
without AVX-512. An instruction of a wide vector counts as one: compare counts of the same kind of code, such as before
and after a change.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from .measure import Comparison, table

HERE = Path(__file__).resolve().parent


@lru_cache(maxsize=1)
def counter() -> str:
    """Return the name of what counts here."""
    if shutil.which("perf") and _from_perf(_run([*_PERF, sys.executable, "-c", "pass"])) is not None:
        return "perf"
    if shutil.which("valgrind"):
        return "callgrind"
    raise SystemExit("neither `perf stat -e instructions` nor valgrind works here: instructions cannot be counted")


_PERF = ("perf", "stat", "-x", ",", "-e", "instructions:u")


def count(part: str, comparison: Comparison, options: argparse.Namespace, folder: Path) -> str:
    """Return a table of the instructions that each contestant needs for one run of the work."""
    counts: dict[str, int] = {}
    notes = []
    for contestant in comparison.contestants:
        if options.only and not contestant.name.startswith(tuple(options.only)):
            continue
        command = [sys.executable, str(HERE), part, "--rows", comparison.key, "--only", contestant.name]
        command += ["--folder", str(folder), *(["--gelu"] if options.gelu else [])]
        command += ["--compiled"] if options.compiled else []
        done = subprocess.run([*command, "--child", "0"], capture_output=True, text=True)  # makes what is missing
        if done.returncode:
            notes.append(f"{contestant.name}: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
            continue
        if counter() == "perf":
            idle, busy = (_by_perf([*command, "--child", str(runs)]) for runs in (0, 1))
            counts[contestant.name] = busy - idle
        else:
            counts[contestant.name] = _by_callgrind([*command, "--child", "1"])
    base = next((counts[name] for name in comparison.baselines if name in counts), None)
    rows = [
        [name, f"{number / 1e9:.4g}", f"{base / number:.2f}" if base and number > 0 else "",
         f"{comparison.gflop * 1e9 / number:.1f}" if comparison.gflop and number > 0 else ""]
        for name, number in counts.items()
    ]  # fmt: skip
    header = ["", "10^9 instructions", f"× {comparison.baselines[0]}", "operations in one"]
    return f"**{comparison.title}**\n\n{table(header, rows)}\n" + "".join(f"\n- {note}" for note in notes)


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Within a child: have callgrind count, if it is there, until the block ends."""
    if _BY_CALLGRIND not in os.environ:
        yield
        return
    switch = ["callgrind_control", "-i"]
    subprocess.run([*switch, "on", str(os.getpid())], check=True, capture_output=True)
    yield
    subprocess.run([*switch, "off", str(os.getpid())], check=True, capture_output=True)


_BY_CALLGRIND = "ZEROSHOT_BENCHMARKS_CALLGRIND"


def _by_perf(command: Sequence[str]) -> int:
    done = _run([*_PERF, *command])
    return _checked(command, done, _from_perf(done))


def _by_callgrind(command: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
        done = _run([*tool, *command], env={**os.environ, _BY_CALLGRIND: "1"})
    return _checked(command, done, _from_callgrind(done))


def _checked(command: Sequence[str], done: subprocess.CompletedProcess[str], number: int | None) -> int:
    if done.returncode or number is None:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return number


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=env)


def _from_perf(done: subprocess.CompletedProcess[str]) -> int | None:
    found = re.search(r"^(\d+),[^,]*,instructions", done.stderr, re.MULTILINE)
    return int(found.group(1)) if found else None


def _from_callgrind(done: subprocess.CompletedProcess[str]) -> int | None:
    found = re.findall(r"Collected : (\d+)", done.stderr)
    return int(found[-1]) if found else None
