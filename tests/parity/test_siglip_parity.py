"""Embeddings, tokens and logits equal those of transformers' SiglipModel, loaded from the folders that it writes."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
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
from transformers import AutoTokenizer, SiglipConfig, SiglipModel, SiglipProcessor, SiglipTextConfig, SiglipVisionConfig
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import zeroshot.tokenizer_file
from parity.live import (
    LOGIT_BIAS,
    Edit,
    Outputs,
    compare,
    compute,
    copy,
    edit,
    fill,
    load,
    perturb,
    put,
)

TOKENIZERS = Path(__file__).parents[1] / "golden" / "tokenizers"
TEXTS = ["a photo of a cat.", "a photo of a dog.", "A BLURRY photo of the Tree!", "", "x", "e-mail & food_1"]
# Each a text configuration, an image configuration and a tokenizer. They differ where a loader can go wrong: width of a
# head and of the feed-forward part, depth, context, patches that leave a rest of the image, a text tower of another
# width than the embeddings (SigLIP 2's giant), activations (also one for each tower), epsilons.
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "patch16": (
        {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 3},
        {"hidden_size": 48, "intermediate_size": 192, "num_attention_heads": 3, "num_hidden_layers": 3}
        | {"image_size": 64, "patch_size": 16},
        "hf_siglip",
    ),
    "patch14 with a rest": (
        {"hidden_size": 66, "intermediate_size": 107, "num_attention_heads": 3, "num_hidden_layers": 2}
        | {"max_position_embeddings": 32},
        {"hidden_size": 66, "intermediate_size": 101, "num_attention_heads": 1, "num_hidden_layers": 1}
        | {"image_size": 50, "patch_size": 14},
        "hf_siglip",
    ),
    "narrow texts": (
        {"hidden_size": 40, "intermediate_size": 100, "num_attention_heads": 5, "num_hidden_layers": 2}
        | {"projection_size": 72},
        {"hidden_size": 72, "intermediate_size": 80, "num_attention_heads": 9, "num_hidden_layers": 2}
        | {"image_size": 32, "patch_size": 16},
        "hf_gemma",
    ),
    "exact gelu": (
        {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"hidden_act": "gelu"},
        {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"image_size": 48, "patch_size": 16, "hidden_act": "gelu"},
        "hf_siglip",
    ),
    "exact gelu for images": (
        {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2},
        {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2}
        | {"image_size": 48, "patch_size": 16, "hidden_act": "gelu"},
        "hf_gemma",
    ),
    "epsilons": (
        {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"layer_norm_eps": 3e-3},
        {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
        | {"image_size": 32, "patch_size": 16, "layer_norm_eps": 1e-2},
        "hf_siglip",
    ),
}


class Reference:
    """A random SiglipModel with its processor and tokenizer, and what they compute."""

    def __init__(self, text: dict[str, Any], vision: dict[str, Any], tokenizer: str, **settings: Any) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(TOKENIZERS / tokenizer)
        self.tokenizer_folder = TOKENIZERS / tokenizer
        ids = {"bos_token_id": 0, "eos_token_id": 1, "vocab_size": len(self.tokenizer)}
        self.model = SiglipModel(SiglipConfig(text_config=ids | text, vision_config=vision)).eval()
        fill(self.model, gain=1.5)  # the poolings average much away
        self.size: int = vision["image_size"]
        self.context: int = text.get("max_position_embeddings", 64)
        self.processor = SiglipImageProcessorPil(**({"size": {"height": self.size, "width": self.size}} | settings))

    @property
    def pictures(self) -> list[Image.Image]:
        """Images of several ratios; the first needs no resize."""
        size = self.size
        return [picture(size, size), picture(100, 75), picture(75, 101), picture(3 * size, size + 1)]

    def save(self, folder: Path, **settings: Any) -> Path:
        """Write model, processor and tokenizer; `settings` go to the model's save_pretrained."""
        self.model.save_pretrained(folder, **settings)
        self.processor.save_pretrained(folder)
        shutil.copytree(self.tokenizer_folder, folder, dirs_exist_ok=True)
        return folder

    @cached_property
    def pixels(self) -> torch.Tensor:
        """(n_images, 3, H, W), float32."""
        pixels: torch.Tensor = self.processor(self.pictures, return_tensors="pt")["pixel_values"]
        return pixels

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """(n_texts, context), int64. Texts for SigLIP 2 are in lower case, as its model card has the user do."""
        if "siglip" not in self.tokenizer_folder.name:
            texts = [text.lower() for text in texts]
        options = {"padding": "max_length", "truncation": True, "max_length": self.context, "return_tensors": "pt"}
        tokens: torch.Tensor = self.tokenizer(texts, **options)["input_ids"]
        return tokens

    @cached_property
    def outputs(self) -> Outputs:
        """What the model makes of `pictures` and `TEXTS`."""
        return compute(self.model, input_ids=self.tokens(TEXTS), pixel_values=self.pixels)

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
def test_tokens_equal_those_of_transformers(
    shape: str, references: dict[str, Reference], saved: dict[str, Path]
) -> None:
    reference, encoder = references[shape], load(saved[shape])
    texts = [*TEXTS, "one of many. " * 40]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the last is too long, on purpose
        np.testing.assert_array_equal(encoder.tokenize(texts), reference.tokens(texts).numpy())


@pytest.mark.parametrize("shape", SHAPES)
def test_towers_and_logits_equal_those_of_transformers(
    shape: str, references: dict[str, Reference], saved: dict[str, Path]
) -> None:
    reference, encoder = references[shape], load(saved[shape])
    assert max(reference.compare(saved[shape])) < 1e-5
    assert encoder.logit_scale == float(reference.model.logit_scale.detach().exp())
    assert encoder.logit_bias == LOGIT_BIAS
    assert encoder.context == reference.context


@pytest.mark.parametrize("shape", SHAPES)
def test_features_equal_those_of_transformers(
    shape: str, references: dict[str, Reference], saved: dict[str, Path]
) -> None:
    """They are the embeddings before these are normalised."""
    reference, encoder = references[shape], load(saved[shape])
    with torch.inference_mode():
        expected = reference.model.vision_model(pixel_values=reference.pixels).pooler_output.numpy()
    features = encoder.encode_features(reference.pictures)
    assert deviation(features, expected) < 1e-5 * abs(expected).max()
    assert (features.norm(dim=1) - 1).abs().min() > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_inputs_are_told_apart(shape: str, references: dict[str, Reference]) -> None:
    """Shows that the embeddings depend on the inputs, without which comparing them would mean little."""
    for rows in references[shape].outputs[:2]:
        differences = np.abs(rows[:, None] - rows).max(axis=2) + np.eye(len(rows))
        assert differences.min() > 1e-3


# -------------------------------------------------------------------------------------------------- kinds of files


@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": NORMALIZATIONS["openai"][0], "image_std": NORMALIZATIONS["openai"][1]},
        {"resample": 2},  # as SigLIP 2 has it
    ],
    ids=["mean and std", "bilinear"],
)
def test_settings_of_the_processor_are_followed(settings: dict[str, Any], tmp_path: Path) -> None:
    reference = Reference(*SHAPES["patch16"], **settings)
    assert max(reference.compare(reference.save(tmp_path))) < 1e-5


def test_sharded_files_load(references: dict[str, Reference], tmp_path: Path) -> None:
    reference = references["patch16"]
    folder = reference.save(tmp_path, max_shard_size="200KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert not (folder / "model.safetensors").exists()
    assert max(reference.compare(folder)) < 1e-5


def test_a_torch_archive_loads(references: dict[str, Reference], saved: dict[str, Path], tmp_path: Path) -> None:
    reference = references["patch16"]
    folder = copy(saved["patch16"], tmp_path / "bin")
    (folder / "model.safetensors").unlink()
    torch.save(reference.model.state_dict(), folder / "pytorch_model.bin")
    assert max(reference.compare(folder)) < 1e-5


@pytest.mark.parametrize("shape", ["patch16", "narrow texts"])
def test_what_a_whole_processor_writes_is_read(
    shape: str, references: dict[str, Reference], saved: dict[str, Path], tmp_path: Path
) -> None:
    """Since transformers 5 the settings of images are inside processor_config.json; it writes tokenizers anew, too."""
    reference = references[shape]
    folder = copy(saved[shape], tmp_path / "whole")
    for name in ("preprocessor_config.json", "tokenizer_config.json", "tokenizer.json", "spiece.model"):
        (folder / name).unlink(missing_ok=True)
    SiglipProcessor(reference.processor, reference.tokenizer).save_pretrained(folder)
    assert not (folder / "preprocessor_config.json").exists()
    assert max(reference.compare(folder)) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str)
def test_files_of_half_precision(dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    reference = Reference(*SHAPES["patch14 with a rest"])
    reference.model.to(dtype)
    folder = reference.save(tmp_path)
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert max(reference.compare(folder)) < 1e-5  # the reference computes with the rounded weights, in float32
    for asked in ("auto", dtype):
        assert load(folder, dtype=asked).dtype == dtype
        assert 1e-5 < max(reference.compare(folder, dtype=asked)) < tolerance


# ----------------------------------------------------------------------------------- configurations of transformers 4


def _as_transformers_4_wrote_it(config: dict[str, Any]) -> None:
    """Leave out what equals the defaults, as google/siglip-base-patch16-224 does."""
    config["transformers_version"] = "4.37.0.dev0"
    for part, kind in (("text_config", SiglipTextConfig), ("vision_config", SiglipVisionConfig)):
        defaults = kind().to_dict() | {"model_type": None}
        config[part] = {key: value for key, value in config[part].items() if value != defaults.get(key)}


def test_defaults_that_are_left_out(tmp_path: Path) -> None:
    """The defaults are those of the installed transformers: 12 heads, the approximate GELU, epsilon, 224 pixels."""
    text, vision, tokenizer = SHAPES["patch16"]
    defaults = {"num_attention_heads": 12}
    reference = Reference(text | defaults, vision | defaults | {"image_size": 224, "patch_size": 56}, tokenizer)
    whole = reference.save(tmp_path / "whole")
    folder = copy(whole, tmp_path / "short", config=_as_transformers_4_wrote_it)
    sections = json.loads((folder / "config.json").read_text())
    left = {"hidden_size", "intermediate_size", "num_hidden_layers", "model_type"}
    assert sections["text_config"].keys() == left | {"vocab_size", "bos_token_id", "eos_token_id", "projection_size"}
    assert sections["vision_config"].keys() == left | {"patch_size"}
    assert max(reference.compare(folder)) < 1e-5


# ------------------------------------------------------------------------------- what the comparisons must notice


@pytest.mark.parametrize(
    ("tower", "key", "index"),
    [
        ("image", "vision_model.embeddings.patch_embedding.weight", (3, 1, 5, 5)),
        ("image", "vision_model.embeddings.patch_embedding.bias", (3,)),
        ("image", "vision_model.embeddings.position_embedding.weight", (15, 4)),
        ("image", "vision_model.encoder.layers.0.layer_norm1.weight", (4,)),
        ("image", "vision_model.encoder.layers.1.self_attn.q_proj.weight", (3, 4)),
        ("image", "vision_model.encoder.layers.1.self_attn.k_proj.weight", (3, 4)),
        ("image", "vision_model.encoder.layers.1.self_attn.v_proj.bias", (3,)),
        ("image", "vision_model.encoder.layers.2.self_attn.out_proj.bias", (3,)),
        ("image", "vision_model.encoder.layers.2.mlp.fc1.weight", (3, 4)),
        ("image", "vision_model.post_layernorm.bias", (3,)),
        ("image", "vision_model.head.probe", (0, 0, 5)),
        ("image", "vision_model.head.attention.in_proj_weight", (3, 4)),  # of the query
        ("image", "vision_model.head.attention.in_proj_weight", (51, 4)),  # of the keys
        ("image", "vision_model.head.attention.in_proj_bias", (100,)),  # of the values
        ("image", "vision_model.head.attention.out_proj.weight", (3, 4)),
        ("image", "vision_model.head.layernorm.weight", (3,)),
        ("image", "vision_model.head.mlp.fc1.bias", (3,)),
        ("image", "vision_model.head.mlp.fc2.weight", (3, 4)),
        ("text", "text_model.embeddings.token_embedding.weight", (1, 0)),  # the padding
        ("text", "text_model.embeddings.position_embedding.weight", (63, 3)),
        ("text", "text_model.encoder.layers.1.self_attn.q_proj.weight", (3, 4)),
        ("text", "text_model.encoder.layers.2.mlp.fc2.weight", (3, 4)),
        ("text", "text_model.final_layer_norm.bias", (3,)),
        ("text", "text_model.head.weight", (3, 4)),
        ("text", "text_model.head.bias", (3,)),
        ("logits", "logit_scale", (0,)),
        ("logits", "logit_bias", (0,)),
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
    folder = perturb(saved["patch16"], tmp_path / "changed", key, index)
    _check_noticed(tower, references["patch16"].compare(folder))


@pytest.mark.parametrize(
    ("shape", "tower", "file", "change"),
    [
        ("patch16", "image", "config", put("vision_config", hidden_act="gelu")),
        ("patch16", "text", "config", put("text_config", hidden_act="gelu")),
        ("exact gelu", "image", "config", put("vision_config", hidden_act="gelu_pytorch_tanh")),
        ("exact gelu", "text", "config", put("text_config", hidden_act="gelu_pytorch_tanh")),
        ("patch16", "image", "config", put("vision_config", num_attention_heads=4)),
        ("patch16", "text", "config", put("text_config", num_attention_heads=3)),
        ("epsilons", "image", "config", put("vision_config", layer_norm_eps=1e-6)),
        ("epsilons", "text", "config", put("text_config", layer_norm_eps=1e-6)),
        ("patch16", "image", "preprocessor_config", put(image_mean=[0.48, 0.46, 0.41])),
        ("patch16", "image", "preprocessor_config", put(resample=2)),
        ("patch16", "image", "preprocessor_config", put(size={"shortest_edge": 64})),
        ("patch16", "text", "tokenizer_config", put(pad_token="<pad>")),
        ("narrow texts", "text", "tokenizer_config", put(pad_token="<eos>")),
        ("narrow texts", "text", "tokenizer_config", put(add_eos_token=False)),
        ("narrow texts", "text", "tokenizer_config", put(add_bos_token=True)),
        ("narrow texts", "text", "tokenizer_config", put(tokenizer_class="SiglipTokenizer")),  # drops punctuation
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


@pytest.mark.parametrize("shape", ["patch16", "narrow texts"])
def test_a_text_that_keeps_its_capitals_is_noticed(
    shape: str, references: dict[str, Reference], saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zeroshot.tokenizer_file, "clean", lambda text, how: text)
    _check_noticed("text", references[shape].compare(saved[shape]))


def _check_noticed(tower: str, found: Deviations) -> None:
    images, texts, logits = (difference > 2e-5 for difference in found)  # twice what is allowed
    assert (images, texts, logits) == (tower == "image", tower == "text", True)


# ------------------------------------------------------------------------------------------------------- full size


@pytest.mark.full_size
def test_siglip_base_at_full_size(tmp_path: Path) -> None:
    """google/siglip-base-patch16-224, whose configuration says nearly nothing."""
    reference = Reference({"vocab_size": 32000}, {"image_size": 224, "patch_size": 16}, "hf_siglip")
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:  # pytest would keep 800 MB for a while
        saved = edit(reference.save(Path(folder)), config=_as_transformers_4_wrote_it)
        assert max(reference.compare(saved)) < 1e-5
