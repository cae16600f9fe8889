"""What the live comparisons with transformers share: random models, and copies of their folders with one change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from golden.checkpoints import Deviations, deviation

import zeroshot
from zeroshot.clip import ClipEncoder

LOGIT_SCALE = 3.6109  # exp(3.6109) = 37.0: not the 100 that some hard-code
LOGIT_BIAS = -9.25

Array = npt.NDArray[np.float32]
Edit = Callable[[dict[str, Any]], object]


class Outputs(NamedTuple):
    """What a model makes of pictures and texts: embeddings, normalised by itself, and logits (n_images, n_texts)."""

    images: Array
    texts: Array
    logits: Array


def compute(model: Any, **inputs: torch.Tensor) -> Outputs:
    """Run a model of transformers in float32."""
    with torch.inference_mode():
        out = model.float()(**inputs)
    return Outputs(out.image_embeds.numpy(), out.text_embeds.numpy(), out.logits_per_image.numpy())


def compare(encoder: ClipEncoder, pictures: list[Any], texts: list[str], expected: Outputs) -> Deviations:
    """Encode pictures and texts, and compare."""
    images, weight = encoder.encode_images(pictures), encoder.encode_texts(texts)
    head = zeroshot.Head(
        weight=weight,
        labels=tuple(texts),
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        model=encoder.name,
        fingerprint="",
    )
    return Deviations(
        images=deviation(images, expected.images),
        texts=deviation(weight, expected.texts),
        logits=deviation(head.logits(images), expected.logits) / encoder.logit_scale,
    )


def load(folder: Path, **options: Any) -> ClipEncoder:
    """Load on the CPU, wherever the tests run."""
    return zeroshot.load(folder, device="cpu", **options)


def fill(model: torch.nn.Module, *, gain: float = 1.0) -> None:
    """Fill a model so that every bias and gain counts: its own values are too small.

    Matrices keep the size of activations at a `gain` of 1.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name == "logit_scale":
            parameter.data.fill_(LOGIT_SCALE)
        elif name == "logit_bias":
            parameter.data.fill_(LOGIT_BIAS)
        elif "norm" in name or "layrnorm" in name:
            parameter.data.copy_(0.1 * values + (1.0 if name.endswith("weight") else 0.0))
        elif ("embedding" in name and "patch" not in name) or name.endswith("probe"):
            parameter.data.copy_(0.3 * values)
        elif parameter.ndim == 1:
            parameter.data.copy_(0.1 * values)
        else:
            parameter.data.copy_(gain * values / parameter[0].numel() ** 0.5)


def copy(source: Path, target: Path, **edits: Edit) -> Path:
    """Copy a folder, with edits of JSON files, each by its name without ``.json``."""
    return edit(shutil.copytree(source, target), **edits)


def edit(folder: Path, **edits: Edit) -> Path:
    """Edit JSON files in a folder."""
    for name, change in edits.items():
        path = folder / f"{name}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return folder


def perturb(source: Path, target: Path, name: str, index: tuple[int, ...]) -> Path:
    """Copy a folder, with one weight changed."""
    copy(source, target)
    tensors = safetensors.torch.load_file(source / "model.safetensors")
    tensors[name][index] += 0.5
    safetensors.torch.save_file(tensors, target / "model.safetensors")
    return target


def put(section: str = "", **values: Any) -> Edit:
    """Return an edit that puts settings into a section, or into the whole."""
    return lambda content: (content[section] if section else content).update(values)


def swap_mean_and_std(content: dict[str, Any]) -> None:
    """An edit of the settings of images."""
    content["image_mean"], content["image_std"] = content["image_std"], content["image_mean"]
