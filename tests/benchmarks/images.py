"""Image towers: pixels that are decoded already to embeddings, ours against the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import models
from .measure import Comparison, Contestant, Run, noise

OURS: dict[str, dict[str, Any]] = {
    "zeroshot": {},
    "zeroshot bfloat16": {"dtype": "bfloat16"},
    "zeroshot int8": {"dtype": "int8"},
}
# With --compiled: compiling takes up to a minute for each number of images.
COMPILED: dict[str, dict[str, Any]] = {"zeroshot compiled": {"compile": True}}
CASES = {"vit-1": ("ViT-B-32", 1), "vit-8": ("ViT-B-32", 8), "vit-32": ("ViT-B-32", 32), "rn50-8": ("RN50", 8)}
SIZE = 224
# 10^9 operations for one image, as torch.utils.flop_counter counts them.
RN50_GFLOP, MINI_GFLOP = 11.59, 1.154


def comparisons(folder: Path, *, threads: int, quick_gelu: bool, compiled: bool) -> list[Comparison]:
    """Return what can be compared."""
    ours = OURS | (COMPILED if compiled else {})
    found = []
    for key, (name, batch) in CASES.items():
        architecture = f"{name}-quickgelu" if quick_gelu or name == "RN50" else name
        found.append(_clip(key, architecture, batch, folder, threads, ours))
    return [*found, _mini(folder, threads, ours, batch=8)]


def _clip(
    key: str, architecture: str, batch: int, folder: Path, threads: int, ours: dict[str, dict[str, Any]]
) -> Comparison:
    pixels = noise(batch, 3, SIZE, SIZE)
    checkpoint = partial(models.checkpoint, architecture, folder)
    onnx = partial(_onnx, lambda: models.open_clip_model(checkpoint()).visual, folder, architecture, batch)
    return Comparison(
        key=key,
        title=f"{architecture}, {batch} image{'s' if batch > 1 else ''} at a time",
        items=batch,
        gflop=batch * (vit_gflop() if architecture.startswith("ViT-B-32") else RN50_GFLOP),
        contestants=[
            Contestant("open_clip", lambda: _inference(models.open_clip_model(checkpoint()).encode_image, pixels)),
            *(
                [Contestant("open_clip compiled", lambda: _compiled(checkpoint(), pixels))]
                if "zeroshot compiled" in ours
                else []
            ),
            Contestant(
                "transformers",
                lambda: _inference(models.transformers_model(checkpoint()).get_image_features, pixels),
            ),
            Contestant("openai-clip", lambda: _inference(models.openai_exact(checkpoint()).encode_image, pixels)),
            Contestant("onnxruntime", lambda: _session(onnx(), threads, pixels)),
            Contestant("onnxruntime int8", lambda: _session(models.quantized(onnx()), threads, pixels), exact=False),
            *_ours(checkpoint, pixels, ours),
        ],
    )


def _mini(folder: Path, threads: int, ours: dict[str, dict[str, Any]], *, batch: int) -> Comparison:
    size = 224
    pixels = noise(batch, 3, size, size)
    onnx = partial(_onnx, lambda: models.Tower(models.ours("mini")), folder, "mini", batch)
    return Comparison(
        key="mini-8",
        title=f"mini, {batch} images at a time",
        items=batch,
        gflop=batch * MINI_GFLOP,
        baselines=("onnxruntime",),
        contestants=[
            Contestant("onnxruntime", lambda: _session(onnx(), threads, pixels)),
            *_ours(lambda: "mini", pixels, ours),
        ],
    )


def _ours(checkpoint: Callable[[], Path | str], pixels: Tensor, ours: dict[str, dict[str, Any]]) -> list[Contestant]:
    def prepare(options: dict[str, Any]) -> Run:
        return models.encoder_of_pixels(checkpoint(), pixels, **options)

    return [Contestant(name, partial(prepare, options), exact="dtype" not in options) for name, options in ours.items()]


def _compiled(checkpoint: Path, pixels: Tensor) -> Run:
    return _inference(torch.compile(models.open_clip_model(checkpoint).encode_image), pixels)


def _inference(encode: Callable[[Tensor], Any], pixels: Tensor) -> Run:
    def run() -> Tensor:
        with torch.inference_mode():
            return models.features(encode(pixels))

    return run


def _onnx(network: Callable[[], nn.Module], folder: Path, name: str, batch: int) -> Path:
    # The batch is fixed, which gives onnxruntime the most to optimise.
    return models.exported(network, folder / "onnx" / f"{name}-{batch}.onnx", size=SIZE, batch=batch)


def _session(path: Path, threads: int, pixels: Tensor) -> Run:
    session = models.onnxruntime_session(path, threads)
    return lambda: session(pixels)


# ------------------------------------------------------------------------------------------------------------ work


def vit_gflop(*, width: int = 768, layers: int = 12, tokens: int = 50, patch: int = 32, dim: int = 512) -> float:
    """Count 10^9 operations of a ViT for one image, every token in every layer: 8.82 for B/32."""
    block = 24 * tokens * width**2 + 4 * tokens**2 * width
    return (layers * block + 2 * (tokens - 1) * 3 * patch**2 * width + 2 * width * dim) / 1e9
