"""Times streams of photographs against their parts, and counts what becomes of broken files.

    python tests/benchmarks/stream.py [--images 256] [--model mini] [--side 500] [--workers N] [--rounds 3]
    python tests/benchmarks/stream.py --broken 10000

The first form gives images per second of decoding alone (the stream's threads), of encoding alone (pixels in memory,
torch's threads) and of the stream. Two bounds: the slower of the two parts, which is the right one where each has a
processor of its own, as with a network on a GPU; and one after the other, 1 / (1/decoding + 1/encoding), which is all
that can be had where both need the same cores. Each round runs all of them once, in turn; the table gives medians,
also of processor time, which other work on the machine disturbs less.

The second form streams a folder of that many odd files, one in twenty of them broken, and one of a tenth as many, each
in a process of its own, through a stand-in for a network. It checks that each file is accounted for, that each good one
has the embedding that it has alone, and that no file stays open, and compares the peaks of memory.
"""

from __future__ import annotations

import argparse
import collections
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
from zeroshot.image import Preprocess
from zeroshot.stream import embed_stream
from zeroshot.threads import usable_cpus

sys.path.insert(0, str(Path(__file__).parents[1]))
import odd_files

PHOTOGRAPHS = Path(__file__).parents[2] / "examples/images"
# Of a folder of odd files, one in so many is broken.
ONE_IN = 20


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


def account(paths: list[Path], workers: int) -> tuple[collections.Counter[str], float]:
    """Stream files; return how many ended how, and the peak of memory in MB."""
    mosaic = Mosaic()
    found: collections.Counter[str] = collections.Counter()
    opened = open_files()
    for index, result in enumerate(embed_stream(mosaic, paths, workers=workers)):
        assert (result.index, result.source) == (index, paths[index])
        found["broken" if result.error else "good"] += 1
        if result.embedding is not None:
            alone = mosaic.encode_images([result.source])[0].numpy()
            found["wrong"] += not np.allclose(result.embedding, alone, atol=1e-5)
    found["unaccounted"] = len(paths) - found["good"] - found["broken"]
    found["left open"] = open_files() - opened
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return found, peak / 1024


def open_files() -> int:
    """Count this process's open files."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def broken(options: argparse.Namespace) -> None:
    """Stream both folders and print the table in Markdown."""
    print("| files | good | broken | wrong | unaccounted | left open | peak MB |\n|---:|---:|---:|---:|---:|---:|---:|")
    peaks = []
    for count in (options.broken // 10, options.broken):
        with tempfile.TemporaryDirectory() as folder:
            bad = count // ONE_IN
            paths = [path for path, _ in odd_files.fill(Path(folder), count - bad, bad, scale=5)]
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                found, peak = process.submit(account, paths, options.workers).result()
        numbers = [count, *(found[key] for key in ("good", "broken", "wrong", "unaccounted", "left open")), round(peak)]
        print("| " + " | ".join(map(str, numbers)) + " |", flush=True)
        peaks.append(peak)
    print(f"\nten times the files, {peaks[1] / peaks[0]:.3f} times the memory")


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
