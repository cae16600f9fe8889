"""Zero-shot heads: names and templates to the rows of a classifier, ours against open_clip's builder and transformers.

ViT-B/32's text tower (12 layers, width 512). transformers' users go class by class and pad to the longest prompt of
the class; OpenAI's notebook goes class by class too, and pads to 77 as open_clip does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

import zeroshot
from zeroshot.tokenizer import tokenize

from . import cold, models
from .measure import Comparison, Contestant, Run, table

# Classes and templates; how many rounds at most; whether the peers take part, who need minutes where we need seconds.
CASES = {
    "10x1": (10, 1, 1000, True),
    "10x80": (10, 80, 5, True),
    "50x80": (50, 80, 1, True),
    "1000x80": (1000, 80, 1, False),
}
# Memory, in a process of its own: by its key, and the large one only if it is named.
MEMORY = {"memory-10x80": (10, 80), "memory-1000x80": (1000, 80)}
SCRIPT = """
import zeroshot
from pathlib import Path

def memory(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))

imagenet = zeroshot.load_prompts("imagenet")
encoder = zeroshot.load({checkpoint!r}, device="cpu")
encoder.encode_texts(["a"])
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
options = {{"prompts": list(imagenet.templates[:{templates}]), "cache": False, "progress": False}}
zeroshot.build_head(encoder, list(imagenet.classes[:{classes}]), **options)
probabilities = [before, memory("VmHWM")]
"""
WIDTH, LAYERS, END = 512, 12, 49407
Row = tuple[int, ...]


def comparisons(folder: Path, *, threads: int, quick_gelu: bool, compiled: bool) -> list[Comparison]:
    """Return what can be compared."""
    checkpoint = partial(models.checkpoint, "ViT-B-32-quickgelu" if quick_gelu else "ViT-B-32", folder)
    return [_heads(key, *case, checkpoint) for key, case in CASES.items()]


def reports(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """Yield the table of memory."""
    keys = [key for key in MEMORY if key in options.rows or (not options.rows and key == "memory-10x80")]
    if not keys:
        return
    checkpoint = models.checkpoint("ViT-B-32" if options.gelu else "ViT-B-32-quickgelu", folder)
    rows = []
    for key in keys:
        classes, templates = MEMORY[key]
        script = SCRIPT.format(checkpoint=str(checkpoint), classes=classes, templates=templates)
        _, _, _, (before, peak) = cold.run(script + cold.LAST, options.threads)
        rows.append([f"{classes} x {templates}", *(f"{value / 1e6:.0f}" for value in (before, peak, peak - before))])
    header = ["names x templates", "MB with torch and weights", "peak MB", "above"]
    yield f"**Memory of making a head, ours**\n\n{table(header, rows)}\n"


def _heads(
    key: str, classes: int, templates: int, rounds: int, peers: bool, checkpoint: Callable[[], Path]
) -> Comparison:
    names, texts = wording(classes, templates)
    prompts = zeroshot.PromptSet(tuple(texts)).expand(names)
    contestants = [
        Contestant("open_clip", lambda: _open_clip(checkpoint(), names, texts)),
        Contestant("transformers", lambda: _transformers(checkpoint(), prompts)),
        Contestant("openai-clip", lambda: _openai(checkpoint(), prompts)),
    ]
    return Comparison(
        key=key,
        title=f"Head of {classes} names x {templates} template{'s' if templates > 1 else ''}, ViT-B/32's text tower",
        contestants=[
            *(contestants if peers else []),
            Contestant("zeroshot", lambda: _ours(checkpoint(), names, texts)),
        ],
        gflop=trie_gflop(tokenize([prompt for row in prompts for prompt in row])),
        rounds=rounds,
    )


def wording(classes: int, templates: int) -> tuple[list[str], list[str]]:
    """Return the first of ImageNet's names and templates."""
    imagenet = zeroshot.load_prompts("imagenet")
    return list(imagenet.classes[:classes]), list(imagenet.templates[:templates])


def trie_gflop(tokens: npt.NDArray[np.int64]) -> float:
    """Count 10^9 operations that no exact scheme can leave out: one activation for each distinct prefix.

    In the last layer only keys and values are needed, but at the ends of the prompts.
    """
    rows, prefixes = distinct(tokens)
    whole = 24 * WIDTH**2
    attention = 4 * WIDTH * ((LAYERS - 1) * sum(map(len, prefixes)) + sum(map(len, rows)))
    matrices = ((LAYERS - 1) * whole + 4 * WIDTH**2) * len(prefixes) + 20 * WIDTH**2 * len(rows)
    return (matrices + attention) / 1e9


def distinct(tokens: npt.NDArray[np.int64]) -> tuple[set[Row], set[Row]]:
    """Return the distinct texts up to their end token, and their distinct prefixes."""
    ends = tokens.argmax(axis=1)  # the end token has the highest number
    rows = {tuple(row[: end + 1]) for row, end in zip(tokens.tolist(), ends.tolist(), strict=True)}
    return rows, {row[:length] for row in rows for length in range(1, len(row) + 1)}


def _ours(checkpoint: Path, names: list[str], templates: list[str]) -> Run:
    encoder = models.ours(checkpoint)
    return lambda: zeroshot.build_head(encoder, names, prompts=templates, cache=False, progress=False).weight


def _open_clip(checkpoint: Path, names: list[str], templates: list[str]) -> Run:
    model = models.open_clip_model(checkpoint)
    import open_clip

    tokenizer = open_clip.get_tokenizer(checkpoint.name)

    def run() -> Tensor:
        with torch.inference_mode():
            built: Tensor = open_clip.build_zero_shot_classifier(
                model, tokenizer=tokenizer, classnames=names, templates=templates
            )
        return built.T

    return run


def _transformers(checkpoint: Path, prompts: list[list[str]]) -> Run:
    model = models.transformers_model(checkpoint)

    def embed(tokens: Tensor) -> Tensor:
        length = int((tokens == END).int().argmax(dim=1).max()) + 1
        return models.features(model.get_text_features(input_ids=tokens[:, :length]))

    return lambda: _class_by_class(embed, prompts)


def _openai(checkpoint: Path, prompts: list[list[str]]) -> Run:
    model = models.openai_exact(checkpoint)
    return lambda: _class_by_class(model.encode_text, prompts)


def _class_by_class(embed: Callable[[Tensor], Tensor], prompts: list[list[str]]) -> Tensor:
    rows = []
    with torch.inference_mode():
        for texts in prompts:
            embeddings = F.normalize(embed(torch.from_numpy(tokenize(texts))), dim=-1)
            rows.append(F.normalize(embeddings.mean(dim=0), dim=-1))
    return torch.stack(rows)
