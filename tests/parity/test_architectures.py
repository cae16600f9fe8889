"""Every row of the table of published checkpoints can be read: the tensors fit the networks, and nothing is left over.

Names and shapes are those that open_clip gives an architecture, or transformers in its own layout. What the tensors do
not tell, heads, activations and epsilons, is held against what open_clip builds. Rows that need timm are in
`tests/oracle`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from golden.architectures import Shapes, architecture, found, published, read
from golden.make_models import TEXT_TOWERS

from zeroshot.errors import CheckpointError
from zeroshot.layouts import open_clip
from zeroshot.layouts import transformers as transformers_layout
from zeroshot.registry import ModelEntry, _open_clip_config, available_models

ENTRIES = [entry for entry in available_models() if entry.name != "mini" and "timm" not in entry.needs]
PUBLISHED: dict[str, list[ModelEntry]] = {}  # rows of open_clip's table, those together that have one configuration
for _entry in ENTRIES:
    if _entry.layout == "open_clip":
        PUBLISHED.setdefault(json.dumps(_open_clip_config(_entry)), []).append(_entry)
OURS = [entry for entry in ENTRIES if entry.layout == "transformers"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a tokenizer, which would be opened when there are texts; and answer for the hub."""

    def configuration(name: str) -> str:
        config = transformers.AutoConfig.for_model(**TEXT_TOWERS[name])
        return str(config.to_json_string(use_diff=False))

    monkeypatch.setattr(open_clip, "hf_config", configuration)
    (tmp_path / "tokenizer.json").touch()
    return tmp_path


@pytest.mark.parametrize("entries", PUBLISHED.values(), ids=lambda entries: entries[0].name)
def test_a_checkpoint_of_open_clip_fits_its_row(entries: list[ModelEntry], folder: Path) -> None:
    expected = architecture(entries[0].architecture)
    checkpoint = read(entries[0], folder, expected.shapes)
    for entry in entries:
        assert found(checkpoint, expected.shapes) == published(entry)
    for part in ("vision", "text"):
        tower, settings = getattr(checkpoint, part), getattr(expected, part)
        if settings.get("activation") == "gelu" and entries[0].activation == "quick_gelu":
            settings = settings | {"activation": "quick_gelu"}  # the tag knows better than the architecture
        assert {key: getattr(getattr(tower, "transformer", tower), key) for key in settings} == settings


def test_a_tensor_of_another_network_is_noticed(folder: Path) -> None:
    entry = next(entry for entry in ENTRIES if entry.name == "ViT-B-32/openai")
    shapes = architecture("ViT-B-32").shapes
    for changed in (
        {name: shape for name, shape in shapes.items() if name != "visual.ln_pre.bias"},
        shapes | {"visual.transformer.resblocks.3.ls_1.gamma": [768]},
        shapes | {"visual.transformer.resblocks.3.attn.out_proj.bias": [767]},
        architecture("ViT-B-16-plus-240").shapes,
    ):
        with pytest.raises(CheckpointError):
            read(entry, folder, changed)


# -------------------------------------------------------------------------------------------- transformers' own layout

# Width, layers, heads, width of the feed-forward part; and of TinyCLIP's those of both towers, by its name.
SIGLIP_TOWERS = {
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "SO400M": (1152, 27, 16, 4304),
    "gopt": (1536, 40, 16, 6144),
}
CLIP_TOWERS = {
    "ViT-B": ((768, 12, 12, 3072), (512, 12, 8, 2048)),
    "ViT-L": ((1024, 24, 16, 4096), (768, 12, 12, 3072)),
    "TinyCLIP-ViT-8M": ((256, 10, 4, 1024), (256, 3, 4, 1024)),
    "TinyCLIP-ViT-39M": ((512, 12, 8, 2048), (512, 6, 8, 2048)),
    "TinyCLIP-ViT-40M": ((512, 12, 8, 2048), (512, 6, 8, 2048)),
    "TinyCLIP-ViT-61M": ((640, 12, 10, 2560), (512, 9, 8, 2048)),
}
VOCABULARIES = {"SigLIP2": 256_000, "SigLIP-i18n": 250_000, "SigLIP": 32_000}


def _tower(width: int, layers: int, heads: int, feed_forward: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
    }


def _siglip(entry: ModelEntry) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Return the shapes and the configuration of what transformers would build for one of Google's repositories."""
    _, size, patch, version, *_ = entry.architecture.split("-")
    kind = f"{version}-i18n" if "i18n" in entry.architecture else version
    image, text = SIGLIP_TOWERS[size], SIGLIP_TOWERS["SO400M" if size == "gopt" else size]
    config = transformers.SiglipConfig(
        vision_config=_tower(*image) | {"image_size": entry.image_size, "patch_size": int(patch)},
        text_config=_tower(*text)
        | {"vocab_size": VOCABULARIES[kind], "max_position_embeddings": entry.context, "projection_size": image[0]},
    )
    return _shapes(transformers.SiglipModel, config), config.to_dict()


def _clip(entry: ModelEntry) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Return the shapes and the configuration of what transformers would build for OpenAI's and TinyCLIP's."""
    name, patch = re.match(r"(TinyCLIP-ViT-\d+M|ViT-[BL])-(\d+)", entry.architecture).groups()  # type: ignore[union-attr]
    image, text = CLIP_TOWERS[name]
    config = transformers.CLIPConfig(
        vision_config=_tower(*image) | {"image_size": entry.image_size, "patch_size": int(patch)},
        text_config=_tower(*text),
        projection_dim=max(text[0], 512),
    )
    return _shapes(transformers.CLIPModel, config), config.to_dict()


def _shapes(model: Any, config: Any) -> dict[str, list[int]]:
    """Return what transformers would build; one layer is built, and stands for all."""
    depths = {}
    for part, tower in (("vision_model", config.vision_config), ("text_model", config.text_config)):
        depths[part], tower.num_hidden_layers = tower.num_hidden_layers, 1
    with torch.device("meta"):
        built = model(config).state_dict()
    shapes = {}
    for name, tensor in built.items():
        for layer in range(depths[name.split(".")[0]] if ".layers.0." in name else 1):
            shapes[name.replace(".layers.0.", f".layers.{layer}.")] = list(tensor.shape)
    return shapes


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: entry.name)
def test_a_checkpoint_of_transformers_fits_its_row(entry: ModelEntry, folder: Path) -> None:
    shapes, config = (_siglip if entry.family == "siglip" else _clip)(entry)
    side = {"height": entry.image_size, "width": entry.image_size}
    preprocess = {
        "size": side if entry.resize_mode == "squash" else {"shortest_edge": entry.image_size},
        "do_center_crop": entry.resize_mode == "shortest",
        "resample": {"bilinear": 2, "bicubic": 3}[entry.interpolation],
        "image_mean": entry.mean,
        "image_std": entry.std,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocess))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GemmaTokenizer"}')
    weights = Shapes(folder / "model.safetensors", shapes)
    assert found(transformers_layout.read(folder, weights, tokenizer=None), shapes) == published(entry)
