"""Write architectures.json.gz: the tensors of all architectures for which open_clip 3.3 publishes weights.

    python -m venv oracle && . oracle/bin/activate
    pip install torch torchvision open_clip_torch==3.3.0 timm transformers
    python tests/golden/make_architectures.py

Nothing of `zeroshot` is imported, and nothing is downloaded: the networks are built without memory. Two runs give the
same bytes. For each architecture the file holds

towers        numbers in the list ``towers``: names and shapes of the tensors of the image tower, and of all else
vision, text  what the tensors do not tell: heads, activation and epsilon of the layer norms; empty for towers that
              are timm's or transformers'
"""

from __future__ import annotations

import gzip
import json
import logging
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

FOLDER = Path(__file__).resolve().parent
FILE = FOLDER / "architectures.json.gz"
if not __package__:  # run as a script: the siblings are imported as the tests import them
    sys.path.insert(0, str(FOLDER.parent))

from golden.make_models import TEXT_TOWERS  # noqa: E402


def main() -> None:
    """Write the file."""
    import open_clip

    logging.disable(logging.WARNING)  # of open_clip, that the weights are random
    towers: list[dict[str, list[int]]] = []
    architectures: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in open_clip.list_pretrained()):
        model = build(name)
        shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        image = {key: shape for key, shape in shapes.items() if key.startswith("visual.")}
        other = {key: shape for key, shape in shapes.items() if key not in image}
        towers += [tower for tower in (image, other) if tower not in towers]
        architectures[name] = {
            "towers": [towers.index(image), towers.index(other)],
            "vision": image_settings(model.visual),
            "text": text_settings(getattr(model, "text", model)),
        }
    versions = {package: version(package) for package in ("open_clip_torch", "timm", "transformers")}
    content = {
        "versions": {"python": platform.python_version(), **versions},
        "architectures": architectures,
        "towers": towers,
    }
    text = json.dumps(content, separators=(",", ":"))
    FILE.write_bytes(gzip.compress(text.encode("ascii"), mtime=0))


def build(name: str) -> Any:
    """Return the model that open_clip builds, without memory."""
    import open_clip
    import torch
    from transformers import AutoConfig

    def text_tower(repository: str) -> Any:
        return AutoConfig.for_model(**TEXT_TOWERS[repository])

    with mock.patch("open_clip.hf_model.AutoConfig.from_pretrained", text_tower), torch.device("meta"):
        return open_clip.create_model(name, load_weights=False, pretrained_text=False, device="meta")


def image_settings(tower: Any) -> dict[str, Any]:
    """Return what the tensors of an image tower do not tell."""
    if hasattr(tower, "attnpool"):
        return {"heads": tower.attnpool.num_heads}
    if hasattr(tower, "transformer"):
        return _block_settings(tower.transformer.resblocks[0])
    if "siglip" in tower.trunk.default_cfg["architecture"]:
        block = tower.trunk.blocks[0]
        return {"heads": block.attn.num_heads, "activation": _activation(block.mlp.act), "norm_eps": block.norm1.eps}
    return {}


def text_settings(tower: Any) -> dict[str, Any]:
    """Return what the tensors of a text tower do not tell."""
    blocks = getattr(tower.transformer, "resblocks", None)  # transformers' towers have none
    return {} if blocks is None else _block_settings(blocks[0])


def _block_settings(block: Any) -> dict[str, Any]:
    return {"heads": block.attn.num_heads, "activation": _activation(block.mlp.gelu), "norm_eps": block.ln_1.eps}


def _activation(layer: Any) -> str:
    """Return the name that `zeroshot` has for it."""
    kind = type(layer).__name__
    if kind == "QuickGELU":
        return "quick_gelu"
    if kind == "GELUTanh" or (kind == "GELU" and layer.approximate == "tanh"):
        return "gelu_tanh"
    if kind == "GELU":
        return "gelu"
    raise SystemExit(f"an activation that is not known: {layer}")


if __name__ == "__main__":
    main()
