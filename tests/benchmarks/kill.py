"""Kills runs of a large job, takes them up with `resume`, and compares the file with that of a run left in peace.

    python tests/benchmarks/kill.py [--runs 500] [--seed 0] [--all]

Each run gets SIGKILL, up to three times: at a line of the modules that write, at an operation on a file, or after a
random time. The file, and what lies beside it, must be the same byte for byte. `--all` kills once at every line and
every operation. The processes are forks of this one, since importing torch would take most of the time; and they
write to memory where that is a folder, since synchronising a disk would take the rest.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import zeroshot
from zeroshot import formats, jobs, results
from zeroshot.embeddings import Embeddings

FILES = ("results.csv", "results.jsonl", "results.parquet", "images.safetensors", "images.parquet", "scored.csv")
KINDS = ("line", "file", "time")
TRACED = {module.__file__ for module in (formats, jobs, results)}
OPERATIONS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}
BATCH, ROWS_PER_PART = 4, 8
tqdm.monitor_interval = 0  # its thread takes a lock now and then, which a fork at that moment would never see released


class Encoder:
    """Embeds images by their colours. As with rounding, an embedding depends on its neighbours, only more so."""

    name, dim, device, logit_scale, logit_bias, fingerprint = "colours", 3, torch.device("cpu"), 10.0, None, "colours-1"

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        rows = [[len(text), sum(map(ord, text)) % 7, 1.0] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        rows = np.stack([np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) for image in images])
        rows += 1e-3 * np.arange(len(rows), dtype=np.float32)[:, None] + 1e-3 * rows.mean()
        return torch.nn.functional.normalize(torch.from_numpy(rows), dim=-1)


def make_images(folder: Path) -> None:
    """Write 29 pictures, a broken one, and an archive with five of them."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(29):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(folder / f"{number:02}.png")
    (folder / "05b.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    with tarfile.open(folder.parent / "shard.tar", "w") as tar:
        for number in range(5):
            tar.add(folder / f"{number:02}.png", f"{number}.png")


def job(name: str, out: Path, *, resume: bool) -> None:
    """Do the job that makes a file of that name in the folder `out`."""
    encoder: Any = Encoder()
    options: dict[str, Any] = {"batch_size": BATCH, "resume": resume, "progress": False}
    sources = ["images", "shard.tar"]
    if name.startswith("images"):
        jobs.embed_files(encoder, sources, out / name, workers=1, **options)
        return
    classifier = zeroshot.Classifier(["red", "green", "turquoise"], model=encoder)
    if name.startswith("scored"):
        jobs.classify_files(classifier, Embeddings.load("kept.safetensors"), out / name, **options)
    else:
        jobs.classify_files(classifier, sources, out / name, workers=1, top_k=2, **options)


def fork(work: Callable[[], object], *, kill_after: float | None = None) -> int:
    """Do something in a process of its own and return how it ended: 0, or less the signal."""
    if not (pid := os.fork()):
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def watch(kind: str, strike: Callable[[], None], out: Path) -> None:
    """Call `strike` before each line of the modules that write, or before each operation on a file in `out`."""
    if kind == "file":

        def hook(event: str, details: tuple[Any, ...]) -> None:
            if event in OPERATIONS and str(details[0]).startswith(str(out)):
                strike()

        sys.addaudithook(hook)
        return

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            strike()
        return trace

    sys.settrace(trace)


def measure(kind: str, name: str, out: Path) -> int:
    """Return how many lines or operations on files a run takes that is left in peace."""
    total = Path("total")

    def work() -> None:
        counter = count()
        watch(kind, lambda: (next(counter), None)[1], out)
        job(name, out, resume=False)
        sys.settrace(None)
        total.write_text(str(next(counter)))

    if fork(work):
        raise SystemExit(f"the run for {name} failed")
    shutil.rmtree(out)
    return int(total.read_text())


def kill(kind: str, name: str, out: Path, at: float) -> bool:
    """Run, or take up, the job and kill it at a line, an operation or a time; return whether it was killed."""
    resume = out.exists()
    if kind == "time":
        ended = fork(lambda: job(name, out, resume=resume), kill_after=at)
    else:

        def work() -> None:
            counter = count(1)
            watch(kind, lambda: os.kill(os.getpid(), signal.SIGKILL) if next(counter) == at else None, out)
            job(name, out, resume=resume)
            sys.settrace(None)

        ended = fork(work)
    if ended > 0:
        raise SystemExit(f"{name}: a run that was to be killed at {kind} {at} failed by itself")
    return ended == -signal.SIGKILL


def content(folder: Path) -> dict[str, bytes]:
    """Return the files in a folder and below it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def points(arguments: argparse.Namespace, totals: dict[tuple[str, str], int]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name of a file, and the kinds and points of the kills on the way to it."""
    if arguments.all:
        for (kind, name), total in totals.items():
            for at in range(1, total + 1):
                yield name, [(kind, at)]
        return
    rng = random.Random(arguments.seed)
    for run in range(arguments.runs):
        name, kills = FILES[run % len(FILES)], []
        for _ in range(rng.choice([1, 1, 2, 3])):
            kind = rng.choice(KINDS)
            kills.append((kind, rng.uniform(0, 0.05) if kind == "time" else rng.randint(1, totals[kind, name])))
        yield name, kills


def main() -> None:
    """Kill, take up and compare; a difference ends it with a message."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # threads do not outlive a fork
    jobs._ROWS_PER_PART = ROWS_PER_PART
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        os.chdir(folder)
        os.environ["ZEROSHOT_CACHE"] = str(Path(folder, "cache"))
        out, peace = Path(folder, "out"), Path(folder, "peace")
        make_images(Path(folder, "images"))
        jobs.embed_files(Encoder(), ["images", "shard.tar"], "kept.safetensors", progress=False)  # type: ignore[arg-type]
        expected = {}
        for name in FILES:
            job(name, peace, resume=False)
            expected[name] = content(peace)
            shutil.rmtree(peace)
        totals = {(kind, name): measure(kind, name, out) for kind in KINDS[:2] for name in FILES}
        killed = done = 0
        for name, kills in points(arguments, totals):
            for kind, at in kills:
                killed += kill(kind, name, out, at)
            if fork(lambda name=name: job(name, out, resume=out.exists())):
                raise SystemExit(f"{name}: taking it up failed after {kills}")
            if content(out) != expected[name]:
                raise SystemExit(
                    f"{name}: after {kills} it differs, or {sorted(content(out))} is not what should be there"
                )
            shutil.rmtree(out)
            done += 1
    print(f"{done} runs, killed {killed} times: the same {', '.join(FILES)} each time")


if __name__ == "__main__":
    main()
