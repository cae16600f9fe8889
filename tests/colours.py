"""Pictures of one colour each, and an encoder that knows the names of colours: what evaluations are tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zeroshot.image import open_image

COLOURS = {
    "red": (250, 0, 0),
    "green": (0, 250, 0),
    "blue": (0, 0, 250),
    "yellow": (250, 250, 0),
    "cyan": (0, 250, 250),
    "white": (250, 250, 250),
}


class ColourEncoder:
    """Puts a picture where its mean colour is, and a text where the colour is that it names; knows nothing else."""

    name, dim, fingerprint = "colours", 3, "colours-fingerprint"
    device, logit_scale = torch.device("cpu"), 20.0

    def __init__(self, bias: float | None = None) -> None:
        self.logit_bias = bias
        self.seen = 0

    def encode_images(self, images: Any) -> torch.Tensor:
        self.seen += len(images)
        return self._rows([np.asarray(open_image(image), dtype=np.float32).mean(axis=(0, 1)) for image in images])

    def encode_texts(self, texts: Any) -> torch.Tensor:
        return self._rows([np.sum([c for name, c in COLOURS.items() if name in text], axis=0) for text in texts])

    def _rows(self, rows: Any) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(rows).astype(np.float32)), dim=-1)


def mixed(rng: np.random.Generator, colour: str) -> Image.Image:
    """A colour, not quite: some are nearer to another name."""
    noisy = np.clip(np.array(COLOURS[colour]) + rng.normal(scale=95, size=3), 1, 255)
    return Image.new("RGB", (6, 6), tuple(int(value) for value in noisy))


def write_tree(root: Path) -> Path:
    """Write a folder of class folders of several sizes, with pictures that are taken for others."""
    rng = np.random.default_rng(3)
    for position, colour in enumerate(COLOURS):
        (root / colour).mkdir(parents=True)
        for number in range(4 + 3 * position):
            mixed(rng, colour).save(root / colour / f"{number:02}.png")
    Image.new("RGB", (6, 6), COLOURS["cyan"]).save(root / "red" / "99.png")  # nothing is less red
    return root
