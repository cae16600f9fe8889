"""Compute open_clip's contrastive loss, and its gradients, for the test of the pre-training example.

    python -m venv oracle && . oracle/bin/activate
    pip install torch torchvision open_clip_torch
    python tests/golden/make_contrastive.py

Writes contrastive.json and contrastive.safetensors. Nothing of `zeroshot` is imported. Two runs give the same bytes.
"""

from __future__ import annotations

import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

FOLDER = Path(__file__).resolve().parent
# Pairs, dimensions, temperature: as it starts, as it ends, and a batch of one, whose loss is 0.
CASES = {"start": (16, 24, 1 / 0.07), "end": (24, 8, 100.0), "soft": (5, 40, 1.0), "one": (1, 8, 14.0)}
DTYPES = ("float32", "float64")


def features(case: str) -> dict[str, torch.Tensor]:
    """Return the embeddings of a batch, L2-normalised, and the logarithm of the scale, which is what is learned."""
    count, dim, scale = CASES[case]
    rng = np.random.default_rng([count, dim])
    texts = rng.normal(size=(count, dim))
    images = texts + rng.normal(size=(count, dim))  # a pair is near to each other, not the same
    drawn = {"images": images, "texts": texts}
    out = {name: torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)) for name, rows in drawn.items()}
    return out | {"log_scale": torch.tensor(math.log(scale), dtype=torch.float64)}


def compute(case: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return what goes in and what comes out: logits, loss, and the gradients of the loss."""
    given = {name: tensor.to(dtype).requires_grad_() for name, tensor in features(case).items()}
    from open_clip.loss import ClipLoss

    criterion = ClipLoss()
    scale = given["log_scale"].exp()
    logits, _ = criterion.get_logits(given["images"], given["texts"], scale)
    loss = criterion(given["images"], given["texts"], scale)
    loss.backward()
    gradients = {f"{name}.gradient": tensor.grad for name, tensor in given.items()}
    return {name: t.detach() for name, t in (given | {"logits": logits, "loss": loss} | gradients).items()}


def main() -> None:
    """Write both files."""
    values = {
        f"{case}.{dtype}.{name}": tensor.contiguous().numpy()
        for case in CASES
        for dtype in DTYPES
        for name, tensor in compute(case, getattr(torch, dtype)).items()
    }
    safetensors.numpy.save_file(values, FOLDER / "contrastive.safetensors")
    settings = {"cases": list(CASES), "versions": {name: version(name) for name in ("open_clip_torch", "torch")}}
    (FOLDER / "contrastive.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
