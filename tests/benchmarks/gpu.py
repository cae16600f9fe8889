"""Towers on a GPU: ours against open_clip and transformers, eager and compiled, in float32 and in half precision.

Pixels lie on the GPU already; heads begin with strings. A run is over when the GPU is done. The peers are compiled with
``mode="reduce-overhead"``, which records CUDA graphs, as ``compile=True`` does here. In half precision all weights are.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import zeroshot

from . import heads, models
from .measure import Comparison, Contestant, Run, noise

BATCHES = (1, 8, 32, 256)
DTYPES = ("float32", "float16", "bfloat16")
# Classes and templates.
HEADS = {"head-10x1": (10, 1), "head-10x80": (10, 80), "head-1000x80": (1000, 80)}
SIZE = 224


def comparisons(
    folder: Path, *, threads: int, quick_gelu: bool, compiled: bool, device: str | torch.device = "cuda"
) -> list[Comparison]:
    """Return what can be compared."""
    where = torch.device(device)
    checkpoint = partial(models.checkpoint, "ViT-B-32-quickgelu" if quick_gelu else "ViT-B-32", folder)
    found = [_images(batch, dtype, checkpoint, where, compiled) for dtype in DTYPES for batch in BATCHES]
    return [*found, *(_heads(key, dtype, checkpoint, where) for dtype in DTYPES[:2] for key in HEADS)]


def card(device: str | torch.device) -> str:
    """Return the name of a device, and what it is driven by."""
    where = torch.device(device)
    if where.type != "cuda":
        return f"Device {where}: {platform.processor() or platform.machine()}"
    properties = torch.cuda.get_device_properties(where)
    size = f"{properties.total_memory / 2**30:.0f} GB, {properties.multi_processor_count} multiprocessors"
    libraries = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"Device {where}: {properties.name}, {size}, {libraries}"


def _images(batch: int, dtype: str, checkpoint: Callable[[], Path], device: torch.device, compiled: bool) -> Comparison:
    def pixels() -> Tensor:
        return noise(batch, 3, SIZE, SIZE).to(device)

    def ours(*, compile: bool) -> Run:
        encoder = zeroshot.load(checkpoint(), device=device, dtype=dtype, compile=compile)  # type: ignore[arg-type]
        given = pixels()
        return finished(lambda: encoder.encode_pixels(given), device)

    def peer(load: Callable[[Path], Any], method: str, *, compile: bool) -> Run:
        model = placed(load(checkpoint()), device, dtype)
        encode = getattr(model, method)
        given = pixels().to(getattr(torch, dtype))
        if compile:
            encode = torch.compile(encode, mode="reduce-overhead")
        return finished(lambda: models.features(encode(given)), device)

    contestants = []
    for suffix, compile in (("", False), (" compiled", True)) if compiled else (("", False),):
        contestants += [
            Contestant(f"open_clip{suffix}", partial(peer, models.open_clip_model, "encode_image", compile=compile)),
            Contestant(
                f"transformers{suffix}", partial(peer, models.transformers_model, "get_image_features", compile=compile)
            ),
            Contestant(f"zeroshot{suffix}", partial(ours, compile=compile)),
        ]
    return Comparison(
        key=f"vit-{batch}-{dtype}",
        title=f"ViT-B/32 on {device}, {dtype}, {batch} image{'s' if batch > 1 else ''} at a time",
        contestants=[Contestant(one.name, one.prepare, exact=dtype == "float32") for one in contestants],
        items=batch,
    )


def _heads(key: str, dtype: str, checkpoint: Callable[[], Path], device: torch.device) -> Comparison:
    classes, templates = HEADS[key]
    names, texts = heads.wording(classes, templates)

    def ours() -> Run:
        encoder = zeroshot.load(checkpoint(), device=device, dtype=dtype)  # type: ignore[arg-type]
        build = partial(zeroshot.build_head, encoder, names, prompts=texts, cache=False, progress=False)
        return finished(lambda: build().weight, device)

    def open_clip() -> Run:
        model = placed(models.open_clip_model(checkpoint()), device, dtype)
        import open_clip as library

        tokenizer = library.get_tokenizer(checkpoint().name)

        def build() -> Tensor:
            rows: Tensor = library.build_zero_shot_classifier(
                model, tokenizer=tokenizer, classnames=names, templates=texts, device=device
            )
            return rows.T

        return finished(build, device)

    return Comparison(
        key=f"{key}-{dtype}",
        title=f"Head of {classes} names x {templates} template{'s' if templates > 1 else ''} on {device}, {dtype}",
        contestants=[
            Contestant("open_clip", open_clip, exact=dtype == "float32"),
            Contestant("zeroshot", ours, exact=dtype == "float32"),
        ],
    )


def placed(model: nn.Module, device: torch.device, dtype: str) -> nn.Module:
    """Return a copy of a peer's model on the device, in a precision; the one that is given stays on the CPU."""
    return copy.deepcopy(model).to(device, getattr(torch, dtype))


def finished(run: Run, device: torch.device) -> Run:
    """Return a function that runs, and waits for the GPU; what it returns is nobody else's memory."""

    def finish() -> Tensor:
        with torch.inference_mode():
            out: Tensor = run().clone()  # graphs write to the same memory again
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return out

    return finish
