"""Embeddings equal those of transformers' CLIPModel, loaded from the folders that it and its processor write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from golden.checkpoints import Deviations, deviation
from golden.images import NORMALIZATIONS, picture
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import zeroshot
from parity.live import (
    Edit,
    Outputs,
    compare,
    compute,
    copy,
    fill,
    load,
    perturb,
    put,
    swap_mean_and_std,
)

VOCABULARY, END = 49408, 49407
TEXTS = ["a photo of a cat.", "a photo of a dog.", "A BLURRY photo of “Ångström's café” 😀", "", "x", "one of " * 12]
# Each a text configuration, an image configuration and the size of the embeddings. They differ where a loader can go
# wrong: patch, width of a head, width of the feed-forward part, depth, context, activations (also one for each tower).
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "patch32 quick_gelu": (
        {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4, "num_hidden_layers": 3},
        {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 3, "num_hidden_layers": 3}
        | {"image_size": 64, "patch_size": 32},
        48,
    ),
    "patch14 gelu": (
        {"hidden_size": 96, "intermediate_size": 200, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"hidden_act": "gelu"},
        {"hidden_size": 176, "intermediate_size": 866, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"image_size": 56, "patch_size": 14, "hidden_act": "gelu"},
        80,
    ),
    "patch8 context32": (
        {"hidden_size": 48, "intermediate_size": 100, "num_attention_heads": 6, "num_hidden_layers": 1}
        | {"max_position_embeddings": 32},
        {"hidden_size": 80, "intermediate_size": 321, "num_attention_heads": 1, "num_hidden_layers": 1}
        | {"image_size": 40, "patch_size": 8},
        64,
    ),
    "gelu images, quick_gelu texts": (
        {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1, "num_hidden_layers": 2},
        {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 8, "num_hidden_layers": 2}
        | {"image_size": 48, "patch_size": 16, "hidden_act": "gelu"},
        56,
    ),
    "square projections": (
        {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "num_hidden_layers": 2},
        {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"image_size": 64, "patch_size": 32},
        64,
    ),
    "epsilons": (
        {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"layer_norm_eps": 3e-3},
        {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"image_size": 32, "patch_size": 16, "layer_norm_eps": 1e-2},
        32,
    ),
}


class Reference:
    """A random CLIPModel with its processor, and what it computes."""

    def __init__(self, text: dict[str, Any], vision: dict[str, Any], dim: int, **settings: Any) -> None:
        config = CLIPConfig(
            text_config={"vocab_size": VOCABULARY, "bos_token_id": END - 1, "eos_token_id": END, **text},
            vision_config=vision,
            projection_dim=dim,
        )
        self.size: int = vision["image_size"]
        self.context: int = text.get("max_position_embeddings", 77)
        self.model = CLIPModel(config).eval()
        fill(self.model)
        sizes = {"size": {"shortest_edge": self.size}, "crop_size": {"height": self.size, "width": self.size}}
        self.processor = CLIPImageProcessorPil(**(sizes | settings))

    @property
    def pictures(self) -> list[Image.Image]:
        """Images of which transformers and torchvision cut out the same window: see test_preprocess_parity.py."""
        size = self.size
        return [picture(size, size), picture(size + 4, size), picture(size, size + 8), picture(3 * size, 3 * size)]

    def save(self, folder: Path, **settings: Any) -> Path:
        """Write the model and the processor; `settings` go to the model's save_pretrained."""
        self.model.save_pretrained(folder, **settings)
        self.processor.save_pretrained(folder)
        return folder

    @cached_property
    def pixels(self) -> torch.Tensor:
        """(n_images, 3, H, W), float32."""
        pixels: torch.Tensor = self.processor(self.pictures, return_tensors="pt")["pixel_values"]
        return pixels

    @cached_property
    def outputs(self) -> Outputs:
        """What the model makes of `pictures` and `TEXTS`; tokens have a comparison of their own."""
        tokens = torch.from_numpy(zeroshot.tokenizer.tokenize(TEXTS, context=self.context))
        return compute(self.model, input_ids=tokens, pixel_values=self.pixels)

    @property
    def logit_scale(self) -> float:
        """The factor that the model applies."""
        return float(self.model.logit_scale.detach().float().exp())

    def compare(self, folder: Path, **options: Any) -> Deviations:
        """Load a folder and compare."""
        return compare(load(folder, **options), self.pictures, TEXTS, self.outputs)


@pytest.fixture(scope="module")
def references() -> dict[str, Reference]:
    """Each shape once; not to be changed."""
    return {shape: Reference(*SHAPES[shape]) for shape in SHAPES}


@pytest.fixture(scope="module")
def saved(references: dict[str, Reference], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders that the references wrote; not to be changed."""
    return {shape: reference.save(tmp_path_factory.mktemp("saved")) for shape, reference in references.items()}


def deviations(folder: Path) -> Iterator[tuple[str, Deviations]]:
    """Yield each shape's name and how far it is from transformers; `folder` is an empty one to work in."""
    for shape in SHAPES:
        reference = Reference(*SHAPES[shape])
        yield shape, reference.compare(reference.save(folder / shape))


# ----------------------------------------------------------------------------------------------------- the ladder


@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_equal_those_of_transformers(
    shape: str, references: dict[str, Reference], saved: dict[str, Path]
) -> None:
    reference, encoder = references[shape], load(saved[shape])
    ours = torch.from_numpy(np.stack([encoder.preprocess(image) for image in reference.pictures]))
    assert deviation(ours, reference.pixels.numpy()) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_towers_and_logits_equal_those_of_transformers(
    shape: str, references: dict[str, Reference], saved: dict[str, Path]
) -> None:
    reference, encoder = references[shape], load(saved[shape])
    assert max(reference.compare(saved[shape])) < 1e-5
    assert encoder.logit_scale == reference.logit_scale
    assert encoder.logit_bias is None


@pytest.mark.parametrize("shape", SHAPES)
def test_features_equal_those_of_transformers(
    shape: str, references: dict[str, Reference], saved: dict[str, Path], tmp_path: Path
) -> None:
    reference = references[shape]
    with torch.inference_mode():
        expected = reference.model.vision_model(pixel_values=reference.pixels).pooler_output.numpy()
    features = load(saved[shape]).encode_features(reference.pictures)
    assert features.dtype == torch.float32
    assert deviation(features, expected) < 1e-5
    changed = perturb(saved[shape], tmp_path / "changed", "vision_model.post_layernorm.bias", (4,))
    assert deviation(load(changed).encode_features(reference.pictures), expected) > 0.1
    projected = perturb(saved[shape], tmp_path / "projected", "visual_projection.weight", (3, 4))
    assert torch.equal(load(projected).encode_features(reference.pictures), features)


@pytest.mark.parametrize("shape", SHAPES)
def test_inputs_are_told_apart(shape: str, references: dict[str, Reference]) -> None:
    """Shows that the embeddings depend on the inputs, without which comparing them would mean little."""
    for rows in references[shape].outputs[:2]:
        assert (rows @ rows.T - np.eye(len(rows))).max() < 0.999


# -------------------------------------------------------------------------------------------------- kinds of files


@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": NORMALIZATIONS["imagenet"][0], "image_std": NORMALIZATIONS["imagenet"][1]},
        {"resample": 2},
        {"size": {"height": 64, "width": 64}, "do_center_crop": False},
    ],
    ids=["mean and std", "bilinear", "squash"],
)
def test_settings_of_the_processor_are_followed(settings: dict[str, Any], tmp_path: Path) -> None:
    reference = Reference(*SHAPES["patch32 quick_gelu"], **settings)
    assert max(reference.compare(reference.save(tmp_path))) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str)
def test_files_of_half_precision(dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    reference = Reference(*SHAPES["patch14 gelu"])
    reference.model.to(dtype)
    folder = reference.save(tmp_path)
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert max(reference.compare(folder)) < 1e-5  # the reference computes with the rounded weights, in float32
    for asked in ("auto", dtype):
        encoder = load(folder, dtype=asked)
        assert encoder.dtype == dtype
        assert encoder.logit_scale == reference.logit_scale
        assert 1e-5 < max(reference.compare(folder, dtype=asked)) < tolerance


def test_sharded_files_load(references: dict[str, Reference], tmp_path: Path) -> None:
    reference = references["patch14 gelu"]
    folder = reference.save(tmp_path, max_shard_size="1MB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert not (folder / "model.safetensors").exists()
    assert max(reference.compare(folder)) < 1e-5
    assert load(folder).logit_scale == reference.logit_scale


def test_a_torch_archive_loads(references: dict[str, Reference], saved: dict[str, Path], tmp_path: Path) -> None:
    reference = references["patch14 gelu"]
    folder = copy(saved["patch14 gelu"], tmp_path / "bin")
    (folder / "model.safetensors").unlink()
    torch.save(reference.model.state_dict(), folder / "pytorch_model.bin")
    assert max(reference.compare(folder)) < 1e-5


def test_settings_that_a_whole_processor_writes_are_read(
    references: dict[str, Reference], saved: dict[str, Path], tmp_path: Path
) -> None:
    """Since transformers 5 CLIPProcessor writes them inside processor_config.json, and no preprocessor_config.json."""
    reference = references["patch14 gelu"]
    folder = copy(saved["patch14 gelu"], tmp_path / "whole")
    (folder / "preprocessor_config.json").unlink()
    CLIPProcessor(reference.processor, CLIPTokenizer()).save_pretrained(folder)
    assert (folder / "processor_config.json").exists()
    assert not (folder / "preprocessor_config.json").exists()
    assert max(reference.compare(folder)) < 1e-5


# ----------------------------------------------------------------------------------- configurations of transformers 4


def _as_transformers_4_wrote_it(config: dict[str, Any]) -> None:
    """Leave out what equals the defaults, as openai/clip-vit-base-patch32 and others do."""
    config["transformers_version"] = "4.16.0.dev0"
    for part, kind in (("text_config", CLIPTextConfig), ("vision_config", CLIPVisionConfig)):
        defaults = kind().to_dict()
        config[part] = {key: value for key, value in config[part].items() if value != defaults.get(key)}


def test_defaults_that_are_left_out(tmp_path: Path) -> None:
    """The defaults are those of the installed transformers: 8 and 12 heads, QuickGELU, epsilon, 224 pixels."""
    text, vision, dim = SHAPES["patch32 quick_gelu"]
    vision = vision | {"num_attention_heads": 12, "image_size": 224, "patch_size": 56}
    reference = Reference(text | {"num_attention_heads": 8}, vision, dim)
    folder = copy(reference.save(tmp_path / "whole"), tmp_path / "short", config=_as_transformers_4_wrote_it)
    sections = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        assert not sections[part].keys() & {"hidden_act", "num_attention_heads", "layer_norm_eps", "image_size"}
    assert max(reference.compare(folder)) < 1e-5


# ------------------------------------------------------------------------------- what the comparisons must notice


@pytest.mark.parametrize(
    ("tower", "key", "index"),
    [
        ("image", "vision_model.embeddings.patch_embedding.weight", (3, 1, 5, 5)),
        ("image", "vision_model.embeddings.class_embedding", (3,)),
        ("image", "vision_model.embeddings.position_embedding.weight", (3, 4)),
        ("image", "vision_model.pre_layrnorm.weight", (4,)),
        ("image", "vision_model.encoder.layers.1.self_attn.k_proj.weight", (3, 4)),
        ("image", "vision_model.encoder.layers.1.self_attn.v_proj.bias", (3,)),
        ("image", "vision_model.encoder.layers.2.mlp.fc1.weight", (3, 4)),
        ("image", "vision_model.post_layernorm.bias", (4,)),
        ("image", "visual_projection.weight", (3, 4)),
        ("text", "text_model.embeddings.token_embedding.weight", (2368, 0)),  # "cat"
        ("text", "text_model.embeddings.position_embedding.weight", (1, 3)),
        ("text", "text_model.encoder.layers.1.self_attn.q_proj.weight", (3, 4)),
        ("text", "text_model.encoder.layers.2.mlp.fc2.weight", (3, 4)),
        ("text", "text_model.final_layer_norm.bias", (3,)),
        ("text", "text_projection.weight", (3, 4)),
        ("logits", "logit_scale", ()),
    ],
)
def test_one_changed_weight_is_noticed(
    tower: str,
    key: str,
    index: tuple[int, ...],
    references: dict[str, Reference],
    saved: dict[str, Path],
    tmp_path: Path,
) -> None:
    folder = perturb(saved["patch32 quick_gelu"], tmp_path / "changed", key, index)
    _check_noticed(tower, references["patch32 quick_gelu"].compare(folder))


@pytest.mark.parametrize(
    ("shape", "tower", "file", "change"),
    [
        ("patch32 quick_gelu", "image", "config", put("vision_config", hidden_act="gelu")),
        ("patch32 quick_gelu", "text", "config", put("text_config", hidden_act="gelu")),
        ("patch14 gelu", "image", "config", put("vision_config", hidden_act="quick_gelu")),
        ("patch14 gelu", "text", "config", put("text_config", hidden_act="quick_gelu")),
        ("patch14 gelu", "image", "config", put("vision_config", num_attention_heads=4)),
        ("patch14 gelu", "text", "config", put("text_config", num_attention_heads=4)),
        ("epsilons", "image", "config", put("vision_config", layer_norm_eps=1e-5)),
        ("epsilons", "text", "config", put("text_config", layer_norm_eps=1e-5)),
        ("patch32 quick_gelu", "image", "preprocessor_config", swap_mean_and_std),
        ("patch32 quick_gelu", "image", "preprocessor_config", put(resample=2)),
        ("patch32 quick_gelu", "image", "preprocessor_config", put(size={"height": 64, "width": 64})),
    ],
)
def test_a_changed_setting_is_noticed(
    shape: str,
    tower: str,
    file: str,
    change: Edit,
    references: dict[str, Reference],
    saved: dict[str, Path],
    tmp_path: Path,
) -> None:
    folder = copy(saved[shape], tmp_path / "changed", **{file: change})
    _check_noticed(tower, references[shape].compare(folder))


def _check_noticed(tower: str, found: Deviations) -> None:
    images, texts, logits = (difference > 1e-4 for difference in found)  # ten times what is allowed
    assert (images, texts, logits) == (tower == "image", tower == "text", True)


def test_a_crop_that_is_off_is_noticed(references: dict[str, Reference], saved: dict[str, Path]) -> None:
    """A remainder of three pixels is halved to one by transformers and to two by torchvision, and by us."""
    reference = references["patch32 quick_gelu"]
    encoder = load(saved["patch32 quick_gelu"])
    other = picture(reference.size + 3, reference.size)
    pixels = reference.processor(other, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        theirs = torch.nn.functional.normalize(encoder.vision(pixels), dim=-1)
    assert (encoder.encode_images(other) - theirs).abs().max() > 1e-4
