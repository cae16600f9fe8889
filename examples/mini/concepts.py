"""The matrix that ties mini's image tower to its text tower: one row of the joint space for each ImageNet class.

A class is placed where the text tower puts its name, drawn a little towards its parent in WordNet and its definition:
images of things that ImageNet has no class for then fall nearer to their own names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import phrases

import zeroshot

FRAMES = ("{}", "a photo of a {}.", "a photo of the {}.", "a photo of {}.")
PARENT_WEIGHT = 0.5
GLOSS_WEIGHT = 0.5
EmbedTexts = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class Concepts:
    """Rows for images, and the rows of the bare names against which they are judged; both (1000, dim), unit length."""

    rows: np.ndarray
    names: np.ndarray


def build(embed: EmbedTexts, wordnet: Path) -> Concepts:
    """Place the 1000 classes with `embed`: texts -> (n_texts, dim) unit vectors."""
    ids = (Path(zeroshot.__file__).parent / "data" / "imagenet_wordnet_ids.txt").read_text().split()
    nouns = phrases.read_nouns(wordnet)
    synsets = [nouns[i.removeprefix("n")] for i in ids]
    names = unit(framed(embed, zeroshot.load_prompts("imagenet").classes))
    parents = unit(framed(embed, [s.parent or s.words[0] for s in synsets]))
    rows = unit(names + PARENT_WEIGHT * parents + GLOSS_WEIGHT * embed([s.gloss for s in synsets]))
    # Every image shares the mean of the rows; without it the differences count.
    return Concepts(rows - rows.mean(axis=0), names)


def framed(embed: EmbedTexts, words: tuple[str, ...] | list[str]) -> np.ndarray:
    """Return the mean embedding of each word over the frames."""
    embeddings = embed([frame.replace("{}", word) for word in words for frame in FRAMES])
    return embeddings.reshape(len(words), len(FRAMES), -1).mean(axis=1)


def unit(x: np.ndarray) -> np.ndarray:
    """Return rows of length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Simulation:
    """How well classes are told apart when their own row is missing, without any picture.

    top1_314, top1_10 : shares of right answers among 314 and among 10 random class names
    scale : the logit scale with the best likelihood among ten names, own row at work in half of the cases
    """

    top1_314: float
    top1_10: float
    scale: float


def simulate(concepts: Concepts, classifier: np.ndarray, *, sharpness: float = 20.0) -> Simulation:
    """Pretend that each class is unknown: its picture is answered with the classes whose weights are most like its own.

    `classifier` holds the weights of the last layer, (1000, features). Likeness is the cosine of the centred rows.
    """
    centred = unit(classifier - classifier.mean(axis=0))
    likeness = sharpness * centred @ centred.T
    np.fill_diagonal(likeness, -np.inf)
    unknown = np.exp(likeness - likeness.max(axis=1, keepdims=True))
    unknown /= unknown.sum(axis=1, keepdims=True)
    scores = {
        share: unit(((1 - share) * unknown + share * np.eye(1000)) @ concepts.rows) @ concepts.names.T
        for share in (0.0, 0.5)
    }
    rng = np.random.default_rng(0)
    choices = np.stack([[c, *rng.permutation(np.delete(np.arange(1000), c))[:313]] for c in range(1000)])
    picked = {share: np.take_along_axis(s, choices, axis=1) for share, s in scores.items()}
    ten = np.concatenate([p[:, :10] for p in picked.values()])
    scales = np.arange(5.0, 60.0, 0.5)
    losses = [np.mean(np.log(np.exp(k * (ten - ten[:, :1])).sum(axis=1))) for k in scales]
    right = picked[0.0]
    return Simulation(
        top1_314=float((right.argmax(axis=1) == 0).mean()),
        top1_10=float((right[:, :10].argmax(axis=1) == 0).mean()),
        scale=float(scales[int(np.argmin(losses))]),
    )
