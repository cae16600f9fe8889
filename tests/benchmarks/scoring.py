"""Embeddings to predictions: heads of one to a hundred thousand classes, beside what encoding one image costs.

``clf(image)`` is measured with an encoder that knows the embedding already: what is left is all that a prediction adds
to decoding and encoding.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import zeroshot
from zeroshot.stream import EmbeddedBatch

from . import models
from .measure import Comparison, Contestant, Run, noise

CLASSES = (1, 1000, 21_000, 100_000)
DIM, SCALE, TOP_K, BATCH = 512, 100.0, 5, 32


def comparisons(folder: Path, *, threads: int, quick_gelu: bool, compiled: bool) -> list[Comparison]:
    """Return what can be compared."""
    architecture = "ViT-B-32-quickgelu" if quick_gelu else "ViT-B-32"
    checkpoint = partial(models.checkpoint, architecture, folder)
    one = [
        Comparison(
            key=f"call-{classes}",
            title=f"What clf(image) adds to decoding and encoding, {classes:,} classes",
            contestants=[
                Contestant("by hand", partial(_by_hand, classes, 1)),
                Contestant("zeroshot", partial(_call, classes)),
            ],
            baselines=("by hand",),
        )
        for classes in CLASSES
    ]
    many = [
        Comparison(
            key=f"batch-{classes}",
            title=f"{BATCH} embeddings to predictions, {classes:,} classes, and one batch of images to embeddings",
            contestants=[
                Contestant("by hand", partial(_by_hand, classes, BATCH)),
                Contestant("zeroshot", partial(_stream, classes)),
                Contestant(f"zeroshot, encoding {BATCH} images with ViT-B/32", lambda: _encode(checkpoint())),
            ],
            items=BATCH,
            baselines=("by hand",),
        )
        for classes in CLASSES
    ]
    return [*one, *many]


class Known:
    """An encoder that knows the embedding of whatever it is shown."""

    name = fingerprint = "known"
    device = torch.device("cpu")
    dim, logit_scale, logit_bias = DIM, SCALE, None

    def encode_images(self, images: list[Any]) -> Tensor:
        """(n_images, 512) float32, L2-normalised."""
        return KNOWN[: len(images)]

    def encode_texts(self, texts: list[str]) -> Tensor:
        """There are none here."""
        raise NotImplementedError


def rows(count: int, *, seed: int) -> Tensor:
    """Return random rows of length 1."""
    return F.normalize(noise(count, DIM, seed=seed), dim=-1)


KNOWN = rows(BATCH, seed=1)


def classifier(classes: int) -> zeroshot.Classifier:
    """Return a classifier with a random head."""
    labels = tuple(f"class {number}" for number in range(classes))
    head = zeroshot.Head(rows(classes, seed=0), labels, SCALE, None, Known.name, Known.fingerprint)
    return zeroshot.Classifier.from_head(head, model=Known())  # type: ignore[arg-type]


def _call(classes: int) -> Run:
    clf = classifier(classes)
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    return lambda: _found([clf(image)])


def _stream(classes: int) -> Run:
    clf = classifier(classes)
    embeddings = rows(BATCH, seed=1).numpy()
    batch = EmbeddedBatch(0, list(range(BATCH)), [None] * BATCH, embeddings)
    return lambda: _found([one.prediction for one in clf.score(one for one in [batch])])  # type: ignore[arg-type]


def _by_hand(classes: int, count: int) -> Run:
    weight, embeddings = rows(classes, seed=0), rows(count, seed=1)

    def run() -> Tensor:
        with torch.inference_mode():
            found = (SCALE * embeddings @ weight.T).softmax(dim=-1).topk(min(TOP_K, classes))
        return found.values

    return run


def _found(predictions: list[Any]) -> Tensor:
    return torch.tensor([[match.score for match in one.top(TOP_K)] for one in predictions])


def _encode(checkpoint: Path) -> Run:
    run = models.encoder_of_pixels(checkpoint, noise(BATCH, 3, 224, 224))
    return lambda: (run(), None)[1]
