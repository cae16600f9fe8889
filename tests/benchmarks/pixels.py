"""Files to normalised pixels: open_clip's transform (torchvision) against ours, exact and approximate.

The files are JPEGs of the example photographs, made larger and given the noise of a sensor, since enlarging alone would
leave nothing fine for a resize to lose. The deviation is that of the normalised pixels, as everywhere in these tables
of rows of length 1; `zeroshot.load` says what it is in 8-bit pixels and in embeddings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zeroshot.image import Preprocess

from . import models
from .measure import Comparison, Contestant, Run

PHOTOGRAPHS = Path(__file__).parents[2] / "examples/images"
SIZES = {"500x375": (500, 375, 16), "4000x3000": (4000, 3000, 4)}
NOISE = 4.0  # standard deviation, of 255
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def comparisons(folder: Path, *, threads: int, quick_gelu: bool, compiled: bool) -> list[Comparison]:
    """Return what can be compared."""
    counts = sorted({1, threads})
    return [_pixels(size, count, folder) for size, count in itertools.product(SIZES, counts)]


def _pixels(size: str, threads: int, folder: Path) -> Comparison:
    width, height, count = SIZES[size]
    files = partial(photographs, folder / f"photographs-{size}", count, width, height)

    def each(transform: Callable[[], Callable[[Path], Any]]) -> Run:
        one, paths = transform(), files()
        pool = ThreadPoolExecutor(threads)

        def run() -> torch.Tensor:
            # torch computes in the thread that calls it, as it does in the workers of a DataLoader.
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                return _rows(map(one, paths) if threads == 1 else pool.map(one, paths))
            finally:
                torch.set_num_threads(before)

        return run

    preprocess = partial(Preprocess, (224, 224), MEAN, STD)
    return Comparison(
        key=f"{size}-{threads}",
        title=f"JPEGs of {width} x {height} to 224 x 224, {threads} thread{'s' * (threads > 1)}",
        items=count,
        contestants=[
            Contestant("open_clip", lambda: each(_open_clip)),
            Contestant("zeroshot", lambda: each(preprocess)),
            Contestant("zeroshot approximate", lambda: each(partial(preprocess, approximate=True)), exact=False),
        ],
    )


def photographs(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """Write JPEGs with the contents of the example photographs, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    originals = sorted(PHOTOGRAPHS.glob("*.jpg"))
    for number, path in enumerate(paths):
        if path.exists():
            continue
        with Image.open(originals[number % len(originals)]) as original:
            turned = original.convert("RGB").rotate(number, resample=Image.Resampling.BICUBIC)
        pixels = np.asarray(turned.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        rng = np.random.default_rng(number)
        pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * NOISE
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return paths


def _open_clip() -> Callable[[Path], Any]:
    models.needs("open_clip")
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(size=224, mean=MEAN, std=STD), is_train=False)

    def one(path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            pixels: torch.Tensor = transform(image)
        return pixels

    return one


def _rows(pixels: Any) -> torch.Tensor:
    return torch.stack([torch.as_tensor(one) for one in pixels]).flatten(1)
