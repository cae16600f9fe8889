"""Print the table of fidelity: how far embeddings are from those of the reference implementations, in float32.

    python tests/parity/fidelity.py

The comparisons are those of the tests: random weights in the files that the publisher's own library writes. Rows that
need open_clip and timm are there if both are installed; `tests/oracle` says how.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import transformers

FOLDER = Path(__file__).resolve().parent
if not __package__:  # run as a script: the siblings are imported as the tests import them
    sys.path.insert(0, str(FOLDER.parent))

from golden import archives, checkpoints  # noqa: E402

OPEN_CLIP = f"open_clip {checkpoints.VERSIONS['open_clip_torch']}"


class Source(NamedTuple):
    """A module with a function `deviations`, and what its rows are called."""

    module: str
    layout: str
    reference: str
    family: Callable[[str], str]  # of a model's name


def main() -> None:
    """Print the table, in Markdown: one row a family, with the largest deviations of its models."""
    warnings.simplefilter("ignore")  # of texts that are too long, on purpose, and of the libraries' own doings
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    print("| family | layout | held against | models | images | texts | cosines |")
    print("|---|---|---|--:|--:|--:|--:|")
    for source in sources():
        families: dict[str, list[checkpoints.Deviations]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, found in importlib.import_module(source.module).deviations(Path(folder)):
                families.setdefault(source.family(name), []).append(found)
        for family, rows in families.items():
            largest = " | ".join(f"{max(column):.0e}" for column in zip(*rows, strict=True))
            print(f"| {family} | {source.layout} | {source.reference} | {len(rows)} | {largest} |", flush=True)


def sources() -> list[Source]:
    """Return all comparisons that can be made here."""
    hugging_face = f"transformers {version('transformers')}"
    openai = f"openai-clip {archives.GOLDEN['versions']['openai-clip']}"
    found = [
        Source("parity.test_open_clip_parity", "open_clip", OPEN_CLIP, _family),
        Source("parity.test_full_size", "open_clip", OPEN_CLIP, _full_size),
        Source(
            "parity.test_hf_text_parity",
            "open_clip",
            hugging_face,
            lambda name: "texts by RoBERTa, XLM-R, NLLB, mT5",
        ),
        Source("parity.test_transformers_parity", "transformers", hugging_face, lambda name: "CLIP"),
        Source("parity.test_siglip_parity", "transformers", hugging_face, lambda name: "SigLIP, SigLIP 2"),
        Source("parity.test_openai_parity", "OpenAI's archives", openai, _openai),
    ]
    if all(importlib.util.find_spec(name) for name in ("open_clip", "timm")):
        reference = f"open_clip {version('open_clip_torch')}, timm {version('timm')}"
        found.append(Source("oracle.test_timm_oracle", "open_clip", reference, _timm))
    return found


def _family(name: str) -> str:
    """Return the family of one of the small models, whose names begin with it where it is not the ViT of CLIP."""
    families = {
        "resnet": "CLIP, ResNet",
        "coca": "CoCa",
        "clipa": "CLIPA",
        "metaclip2": "MetaCLIP 2",
        "mobileclip": "MobileCLIP's text tower",
        "siglip2": "SigLIP 2",
        "siglip": "SigLIP",
    }
    return _first(families, name, "CLIP, ViT")


def _timm(name: str) -> str:
    families = {"convnext": "ConvNeXt", "EVA": "EVA and EVA02", "MobileCLIP": "MobileCLIP, MobileCLIP2", "PE": "PE"}
    return _first(families, name, "ViTamin")


def _openai(name: str) -> str:
    return {"vit": "CLIP, ViT", "resnet": "CLIP, ResNet"}[name]


def _full_size(name: str) -> str:
    layers = checkpoints.FULL_SIZE[name].entry["config"]["model_cfg"]["vision_cfg"].get("layers")
    return f"{name}, {layers} of its layers" if layers == 2 else f"{name}, full size"


def _first(families: dict[str, str], name: str, otherwise: str) -> str:
    return next((family for start, family in families.items() if name.startswith(start)), otherwise)


if __name__ == "__main__":
    main()
