"""The models of `make_golden.py`, in the folders that open_clip would publish, and what open_clip made of them.

open_clip needs torchvision, which is no test dependency: what it computed is in files. Weights are not stored there
but follow from their names and shapes (`weights.py`); a checksum shows that they follow rightly.
"""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from PIL import Image

import zeroshot
from golden import weights
from golden.images import picture
from zeroshot.clip import ClipEncoder

FOLDER = Path(__file__).parent
TOKENIZERS = FOLDER / "tokenizers"

Array = npt.NDArray[Any]
State = dict[str, Array]
Edit = Callable[[Any], object]


class Deviations(NamedTuple):
    """Largest absolute differences of embeddings, and of logits over their scale, which makes cosines of them."""

    images: float
    texts: float
    logits: float


@dataclass(frozen=True, eq=False)
class Reference:
    """A random model, and what open_clip makes of it.

    Attributes
    ----------
    name : str
    entry : dict
        ``config``, what open_clip publishes as its configuration; ``tensors``, the shapes of all that it publishes;
        their ``checksum``; ``logit_scale`` and ``logit_bias``.
    values : dict of str to ndarray
        ``tokens`` of the texts; ``images`` and ``texts``, the embeddings; ``logits``; for the small models ``head``.
    pictures : list of PIL.Image.Image
    texts : list of str
    """

    name: str
    entry: dict[str, Any]
    values: dict[str, Array]
    pictures: list[Image.Image]
    texts: list[str]

    def write(
        self, folder: Path, *, state: Edit | None = None, config: Edit | None = None, tokenizer: Edit | None = None
    ) -> Path:
        """Write the checkpoint as open_clip does, and return its folder, which is new.

        Each edit changes in place: the tensors by their names, the configuration, or the tokenizer's settings.
        """
        folder.mkdir()
        tensors = _kept(self).copy() if self.name in SMALL else _fill(self)
        settings = json.loads(json.dumps(self.entry["config"]))
        if state is not None:
            state(tensors)
        if config is not None:
            config(settings)
        safetensors.numpy.save_file(tensors, folder / "open_clip_model.safetensors")
        (folder / "open_clip_config.json").write_text(json.dumps(settings))
        if name := self.entry["config"]["model_cfg"]["text_cfg"].get("hf_tokenizer_name"):
            shutil.copytree(TOKENIZERS / name, folder, dirs_exist_ok=True)
        if tokenizer is not None:
            path = folder / "tokenizer_config.json"
            settings = json.loads(path.read_text())
            tokenizer(settings)
            path.write_text(json.dumps(settings))
        return folder

    def deviations(self, encoder: ClipEncoder, *, pictures: list[Image.Image] | None = None) -> Deviations:
        """Encode the pictures, or others in their place, and the texts, and compare."""
        images = encoder.encode_images(self.pictures if pictures is None else pictures)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of texts that are too long, on purpose
            texts = encoder.encode_texts(self.texts)
        head = zeroshot.Head(
            weight=texts.cpu(),
            labels=tuple(self.texts),
            logit_scale=encoder.logit_scale,
            logit_bias=encoder.logit_bias,
            model=encoder.name,
            fingerprint="",
        )
        return Deviations(
            images=deviation(images, self.values["images"]),
            texts=deviation(texts, self.values["texts"]),
            logits=deviation(head.logits(images), self.values["logits"]) / self.entry["logit_scale"],
        )


def deviation(ours: torch.Tensor, theirs: Array) -> float:
    """Return the largest absolute difference."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours.cpu().numpy() - theirs).max())


def _fill(reference: Reference) -> State:
    tensors = {name: weights.fill(name, shape) for name, shape in reference.entry["tensors"].items()}
    assert weights.checksum(tensors.values()) == reference.entry["checksum"], "filled otherwise than in the golden file"
    return tensors


_kept = lru_cache(maxsize=1)(_fill)  # tests of one model follow each other


def _read(name: str, content: bytes) -> tuple[dict[str, Any], dict[str, Reference]]:
    golden: dict[str, Any] = json.loads(content)
    pictures = [picture(*size) for size in golden["pictures"]]
    values = safetensors.numpy.load_file(FOLDER / f"{name}.safetensors")
    references = {}
    for model, entry in golden["models"].items():
        prefix = f"{model}/"
        own = {key.removeprefix(prefix): array for key, array in values.items() if key.startswith(prefix)}
        references[model] = Reference(model, entry, own, pictures, golden["texts"])
    return golden, references


_golden, SMALL = _read("open_clip", (FOLDER / "open_clip.json").read_bytes())
_, FULL_SIZE = _read("full_size", gzip.decompress((FOLDER / "full_size.json.gz").read_bytes()))
NAMES: list[str] = _golden["names"]  # of the classes in ``head``
TEMPLATES: int = _golden["templates"]  # how many there are of open_clip's for ImageNet
VERSIONS: dict[str, str] = _golden["versions"]  # of what computed it
