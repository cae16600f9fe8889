"""Write models.json: what open_clip 3.3 says of its architectures and of its published checkpoints.

And zeroshot/data/architectures.json: its configurations of these architectures, which are shipped.

    python -m venv oracle && . oracle/bin/activate
    pip install torch torchvision open_clip_torch==3.3.0 timm transformers
    python tests/golden/make_models.py

Nothing of `zeroshot` is imported, and nothing is downloaded: parameters are counted on networks without memory. The
sizes of Hugging Face's text towers, which open_clip would fetch, stand below as their repositories publish them.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

FILE = Path(__file__).resolve().parent / "models.json"
CONFIGURATIONS = FILE.parents[2] / "zeroshot" / "data" / "architectures.json"
CLIP_CONTEXT = 77  # where open_clip's configuration of an architecture does not say

_NLLB = {"vocab_size": 256206, "d_model": 1024, "max_position_embeddings": 1024}
_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1}
TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "roberta-base": {"model_type": "roberta", "vocab_size": 50265, **_ROBERTA},
    "xlm-roberta-base": {"model_type": "xlm-roberta", "vocab_size": 250002, **_ROBERTA},
    "xlm-roberta-large": {
        **{"model_type": "xlm-roberta", "vocab_size": 250002, **_ROBERTA},
        **{"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    },
    "facebook/nllb-200-distilled-600M": {
        **{"model_type": "m2m_100", **_NLLB, "encoder_layers": 12, "encoder_ffn_dim": 4096},
    },
    "facebook/nllb-200-distilled-1.3B": {
        **{"model_type": "m2m_100", **_NLLB, "encoder_layers": 24, "encoder_ffn_dim": 8192},
    },
}


def main() -> None:
    """Write the file: one line a row."""
    architectures = published_architectures()
    for name, row in architectures.items():
        row["parameters"] = count_parameters(name)
    tables = {"architectures": architectures, "checkpoints": published_checkpoints()}
    lines = [f'"versions": {json.dumps(versions())}']
    for title, table in tables.items():
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
        lines.append(f'"{title}": {{\n{rows}\n}}')
    FILE.write_text("{" + ",\n".join(lines) + "}\n", encoding="ascii")
    rows = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in configurations().items())
    CONFIGURATIONS.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="ascii")


def versions() -> dict[str, str]:
    """Return the versions that the tables depend on."""
    return {package: version(package) for package in ("open_clip_torch", "timm", "transformers")}


def configurations() -> dict[str, dict[str, Any]]:
    """Return open_clip's configurations of the architectures that have published weights."""
    import open_clip

    names = sorted({name for name, _ in open_clip.list_pretrained()})
    return {name: open_clip.get_model_config(name) for name in names}


def published_architectures() -> dict[str, dict[str, Any]]:
    """Return what open_clip's configurations say of the architectures that have published weights.

    ``image_tower`` and ``text_tower`` are names in timm and on the Hugging Face hub; None where open_clip builds the
    tower itself.
    """
    import open_clip

    found: dict[str, dict[str, Any]] = {}
    for name, _ in open_clip.list_pretrained():
        config = open_clip.get_model_config(name)
        image, text = config["vision_cfg"], config["text_cfg"]
        found[name] = {
            "image_size": image["image_size"],
            "context": text.get("context_length", CLIP_CONTEXT),
            "tokenizer": text.get("hf_tokenizer_name", "clip"),
            "image_tower": image.get("timm_model_name"),
            "text_tower": text.get("hf_model_name"),
        }
    return found


def published_checkpoints() -> dict[str, dict[str, Any]]:
    """Return the rows of open_clip's table of pretrained models, by ``architecture/tag``."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    found: dict[str, dict[str, Any]] = {}
    for architecture, tag in open_clip.list_pretrained():
        row = get_pretrained_cfg(architecture, tag)
        found[f"{architecture}/{tag}"] = {
            **{key: row[key] for key in ("hf_hub", "url", "interpolation", "resize_mode")},
            **{key: list(row[key]) for key in ("mean", "std")},
            "activation": _activation(open_clip.get_model_config(architecture), row),
        }
    return found


def _activation(config: dict[str, Any], row: dict[str, Any]) -> str | None:
    """Return the activation of the towers that open_clip builds itself; None if it builds neither.

    The tag tells how the weights were trained, and open_clip 3.3 only warns if the configuration of the architecture
    disagrees; where the tag is silent, the configuration holds.
    """
    image, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in image and "hf_model_name" in text:
        return None
    if row.get("quick_gelu", False) or config.get("quick_gelu", False):
        return "quick_gelu"
    return "gelu_tanh" if text.get("act_kwargs") == {"approximate": "tanh"} else "gelu"


def count_parameters(architecture: str) -> int:
    """Return the number of parameters of both towers, and of the caption decoder where there is one."""
    import open_clip
    import torch
    from transformers import AutoConfig

    def text_tower(name: str) -> Any:
        return AutoConfig.for_model(**TEXT_TOWERS[name])

    with mock.patch("open_clip.hf_model.AutoConfig.from_pretrained", text_tower), torch.device("meta"):
        model = open_clip.create_model(architecture, load_weights=False, pretrained_text=False, device="meta")
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
