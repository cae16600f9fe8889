"""Times streams of photographs against their parts, and counts what becomes of broken files.

    python tests/benchmarks/stream.py [--images 256] [--model mini] [--side 500] [--workers N] [--rounds 3]
    python tests/benchmarks/stream.py --broken 10000

The first form gives images per second of decoding alone (the stream's threads), of encoding alone (pixels in memory,
torch's threads) and of the stream. Two bounds: the slower of the two parts, which is the right one where each has a
processor of its own, as with a network on a GPU; and one after the other, 1 / (1/decoding + 1/encoding), which is all
that can be had where both need the same cores. Each round runs all of them once, in turn; the table gives medians,
also of processor time, which other work on the machine disturbs less. Then rows of results are written to a table, as
`zeroshot classify --out results.parquet` does: `examples/large_jobs/sizing.py` wants the rates of all three.

The second form goes through a folder of that many odd files, one in twenty of them broken, and one of a tenth as many,
each in a process of its own, and compares the peaks of memory: once with `embed_stream` and a stand-in for a network,
once with the command ``zeroshot classify FOLDER --out results.csv`` and a tiny random checkpoint. It checks that each
file is accounted for, the broken ones and no others as broken, that each good one has the embedding or the scores that
it has alone, and that no file stays open.
"""

from __future__ import annotations

import argparse
import collections
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import zeroshot
from zeroshot import jobs
from zeroshot.image import Preprocess
from zeroshot.prediction import Match
from zeroshot.results import Results
from zeroshot.stream import embed_stream
from zeroshot.threads import usable_cpus

sys.path.insert(0, str(Path(__file__).parents[1]))
import odd_files
from golden import checkpoints

PHOTOGRAPHS = Path(__file__).parents[2] / "examples/images"
# Of a folder of odd files, one in so many is broken.
ONE_IN = 20
LABELS = ["cat", "dog", "tree"]


def photographs(folder: Path, count: int, side: int) -> list[Path]:
    """Write JPEG files with the contents of the example photographs, the longer side of this length."""
    originals = [Image.open(path).convert("RGB") for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    paths = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        original = originals[number % len(originals)].rotate(number % 90, resample=Image.Resampling.BICUBIC)
        original.resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def throughput(options: argparse.Namespace) -> None:
    """Run the rounds and print the table in Markdown."""
    encoder = zeroshot.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), options.images, options.side)
        pixels = [
            np.stack([encoder.preprocess(path) for path in part])
            for part in (paths[i : i + options.batch_size] for i in range(0, len(paths), options.batch_size))
        ]

        def decode() -> None:
            with ThreadPoolExecutor(options.workers) as pool:
                collections.deque(pool.map(encoder.preprocess, paths), maxlen=0)

        def encode() -> None:
            for batch in pixels:
                encoder.encode_pixels(batch).cpu()

        def stream() -> None:
            results = embed_stream(encoder, paths, batch_size=options.batch_size, workers=options.workers)
            assert sum(result.error is None for result in results) == len(paths)

        runs: dict[str, Callable[[], None]] = {"decoding": decode, "encoding": encode, "stream": stream}
        rates: dict[str, list[float]] = {name: [] for name in runs}
        processor: dict[str, list[float]] = {name: [] for name in runs}
        encode()  # warm
        for _ in range(options.rounds):
            for name, run in runs.items():
                start, used = time.perf_counter(), time.process_time()
                run()
                rates[name].append(len(paths) / (time.perf_counter() - start))
                processor[name].append((time.process_time() - used) / len(paths) * 1000)
    decoding, encoding, streamed = (statistics.median(rates[name]) for name in runs)
    costs = [statistics.median(processor[name]) for name in runs]
    shared = 1 / (1 / decoding + 1 / encoding)
    print(f"{options.model} on {encoder.device}, {options.images} JPEGs of {options.side} x {options.side * 3 // 4}")
    print(f"{options.workers} decoding threads, {torch.get_num_threads()} of torch, {usable_cpus()} CPUs\n")
    print("| | images/s | processor ms an image |\n|---|---:|---:|")
    print(f"| decoding alone | {decoding:.1f} | {costs[0]:.1f} |\n| encoding alone | {encoding:.1f} | {costs[1]:.1f} |")
    print(f"| one after the other | {shared:.1f} | {costs[0] + costs[1]:.1f} |")
    print(f"| stream | {streamed:.1f} | {costs[2]:.1f} |")
    slower = min(decoding, encoding)
    print(f"\nstream / slower part {streamed / slower:.2f}, stream / one after the other {streamed / shared:.2f}")
    rate, size = writing()
    print(f"writing: {rate:,.0f} rows a second of {size:.0f} bytes, five classes in each")


def writing(count: int = 65_536) -> tuple[float, float]:
    """Write rows of results to a table; return how many a second, and the bytes of one."""
    rng = np.random.default_rng(0)
    scores = np.sort(rng.dirichlet(np.full(6, 0.5), size=count).astype(np.float32), axis=1)[:, :0:-1].tolist()
    rows = []
    for number in range(count):
        source = f"s3://bucket/photographs/2024/{number // 1000:06d}/{rng.integers(2**63):016x}.jpg"
        places = rng.integers(1000, size=5).tolist()
        top = [Match(f"class {i}", p, i)._asdict() for i, p in zip(places, scores[number], strict=True)]
        rows.append({"source": source, **top[0], "top": top, "error": None, "message": None})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.parquet")
        start = time.perf_counter()
        results = Results(path, jobs._results_format(path, 5), {"task": "benchmark"})
        results.begin()
        for first in range(0, count, jobs._ROWS_PER_PART):
            results.append(rows[first : first + jobs._ROWS_PER_PART])
        results.finish()
        return count / (time.perf_counter() - start), path.stat().st_size / count


class Mosaic:
    """A stand-in for a network that costs nothing: the embedding of an image is its colours on a grid of 7 x 7."""

    name = fingerprint = "mosaic"
    device = torch.device("cpu")
    dim, logit_scale, logit_bias = 147, 1.0, None
    preprocess = Preprocess((224, 224), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        """Nothing is classified here."""
        raise NotImplementedError

    def encode_images(self, images: list[object]) -> torch.Tensor:
        """(n_images, 147) float32, L2-normalised."""
        return self.encode_pixels(torch.from_numpy(np.stack([self.preprocess(image) for image in images])))

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n_images, 3, 224, 224) float32 to (n_images, 147) float32, L2-normalised."""
        return F.normalize(F.adaptive_avg_pool2d(pixels, 7).flatten(1), dim=-1)


def account(files: list[tuple[Path, str]], workers: int) -> tuple[collections.Counter[str], float]:
    """Stream files, given with their kinds; return how many ended how, and the peak of memory in MB."""
    mosaic = Mosaic()
    found: collections.Counter[str] = collections.Counter()
    opened = open_files()
    paths = [path for path, _ in files]
    for index, result in enumerate(embed_stream(mosaic, iter(paths), workers=workers)):
        path, kind = files[index]
        found["accounted"] += (result.index, result.source) == (index, path)
        found["good" if result.error is None else "broken"] += 1
        if (result.error is None) != (kind in odd_files.USABLE):
            found["wrong"] += 1
        elif result.embedding is not None:
            alone = mosaic.encode_images([path])[0].numpy()
            found["wrong"] += not np.allclose(result.embedding, alone, atol=1e-5)
    found["left open"] = open_files() - opened
    return found, _peak()


def open_files() -> int:
    """Count this process's open files."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _peak() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def command(folder: Path, workers: int) -> tuple[list[int], float]:
    """Classify a folder on the command line, as whoever types it; return the sizes of output and the peak in MB."""
    from zeroshot.cli import main as zeroshot_command

    options = ("--model", str(folder.parent / "model"), "--out", str(folder.parent / "results.csv"))
    opened = open_files()
    code = zeroshot_command(["classify", str(folder), "--labels", *LABELS, *options, "--workers", str(workers)])
    return [code, open_files() - opened], _peak()


def check_rows(folder: Path, files: list[tuple[Path, str]]) -> collections.Counter[str]:
    """Compare the rows that the command wrote with the files that should be there, and their scores alone."""
    classifier = zeroshot.Classifier(LABELS, model=folder.parent / "model")
    with (folder.parent / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Of a folder the command takes what has the extension of an image; one in it is looked into, and is empty.
    expected = [(path, kind) for path, kind in files if path.suffix and os.path.lexists(path) and not path.is_dir()]
    found = collections.Counter({"accounted": 0, "left out": len(files) - len(expected)})
    for row, (path, kind) in zip(rows, expected, strict=True):
        found["accounted"] += row["source"] == str(path).encode("utf-8", "backslashreplace").decode()
        found["broken" if row["error"] else "good"] += 1
        if bool(row["error"]) != (kind in odd_files.BROKEN):
            found["wrong"] += 1
        elif not row["error"]:
            alone = classifier(path)
            score = alone.probabilities[LABELS.index(row["label"])]  # by rounding the best may be another
            found["wrong"] += abs(float(row["score"]) - score) > 1e-5 or alone.score - score > 1e-5
    return found


def broken(options: argparse.Namespace) -> None:
    """Go through both folders, in two ways, and print the table in Markdown."""
    heads = ("through", "files", "good", "broken", "accounted", "wrong", "left open", "peak MB")
    print("| " + " | ".join(heads) + " |\n|:--|" + "--:|" * (len(heads) - 1), flush=True)
    peaks: dict[str, list[float]] = {"embed_stream": [], "zeroshot classify": []}
    for count in (options.broken // 10, options.broken):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "files")
            folder.mkdir()
            next(iter(checkpoints.SMALL.values())).write(folder.parent / "model")
            files = list(odd_files.fill(folder, count - count // ONE_IN, count // ONE_IN, scale=5))
            for name, one in peaks.items():
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    if name == "embed_stream":
                        found, peak = process.submit(account, files, options.workers).result()
                    else:
                        (code, left), peak = process.submit(command, folder, options.workers).result()
                        assert code == 1, "some files are broken"
                        found = check_rows(folder, files) + collections.Counter({"left open": left})
                numbers = [found[key] for key in heads[2:-1]]
                print("| " + " | ".join(map(str, [name, count, *numbers, round(peak)])) + " |", flush=True)
                one.append(peak)
    for name, (few, many) in peaks.items():
        print(f"\n{name}: ten times the files, {many / few:.3f} times the memory")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option, default in (("--images", 256), ("--side", 500), ("--batch-size", 32), ("--rounds", 3)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--workers", type=int, default=usable_cpus())
    parser.add_argument("--model", default="mini")
    parser.add_argument("--broken", type=int, metavar="FILES")
    options = parser.parse_args()
    if options.broken:
        broken(options)
    else:
        throughput(options)


if __name__ == "__main__":
    main()
