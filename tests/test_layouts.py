"""SigLIP in transformers' layout and OpenAI's files: what is read, and an error for everything that does not fit.

The layouts that CLIP itself has are in test_checkpoints.py. Names and shapes are written down here a second time, so
that a mistake in `zeroshot.layouts` cannot hide behind itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import zeroshot
from zeroshot.checkpoints import read_checkpoint
from zeroshot.errors import CheckpointError, CheckpointNotFoundError
from zeroshot.layouts import base, openai
from zeroshot.nets.siglip import SiglipVisionConfig
from zeroshot.nets.text import TextConfig
from zeroshot.nets.transformer import TransformerConfig
from zeroshot.weights import Weights

TOKENIZERS = Path(__file__).parent / "golden" / "tokenizers"
VOCABULARY, CONTEXT = 300, 12

State = dict[str, torch.Tensor]
Edit = Callable[[dict[str, Any]], object]
Make = Callable[..., Path]


def _draw(shapes: dict[str, tuple[int, ...]]) -> State:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def _set(*path: str, **values: Any) -> Edit:
    """Return an edit that puts settings into a section; None takes them out."""

    def edit(content: dict[str, Any]) -> None:
        for key in path:
            content = content[key]
        content.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del content[key]

    return edit


# --------------------------------------------------------------------------------------------------------- SigLIP

TEXT_WIDTH, IMAGE_WIDTH = 20, 24  # the embedding is as wide as the image tower, the text tower need not be


def _siglip_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"logit_scale": (1,), "logit_bias": (1,)}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    for tower, width, layers in (("text_model", TEXT_WIDTH, 2), ("vision_model", IMAGE_WIDTH, 1)):
        for layer in range(layers):
            block = f"{tower}.encoder.layers.{layer}"
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                linear(f"{block}.self_attn.{part}", width, width)
            norm(f"{block}.layer_norm1", width)
            norm(f"{block}.layer_norm2", width)
            linear(f"{block}.mlp.fc1", 30, width)
            linear(f"{block}.mlp.fc2", width, 30)
    shapes["text_model.embeddings.token_embedding.weight"] = (VOCABULARY, TEXT_WIDTH)
    shapes["text_model.embeddings.position_embedding.weight"] = (CONTEXT, TEXT_WIDTH)
    norm("text_model.final_layer_norm", TEXT_WIDTH)
    linear("text_model.head", IMAGE_WIDTH, TEXT_WIDTH)
    shapes["vision_model.embeddings.patch_embedding.weight"] = (IMAGE_WIDTH, 3, 8, 8)
    shapes["vision_model.embeddings.patch_embedding.bias"] = (IMAGE_WIDTH,)
    shapes["vision_model.embeddings.position_embedding.weight"] = (9, IMAGE_WIDTH)
    norm("vision_model.post_layernorm", IMAGE_WIDTH)
    shapes["vision_model.head.probe"] = (1, 1, IMAGE_WIDTH)
    shapes["vision_model.head.attention.in_proj_weight"] = (3 * IMAGE_WIDTH, IMAGE_WIDTH)
    shapes["vision_model.head.attention.in_proj_bias"] = (3 * IMAGE_WIDTH,)
    linear("vision_model.head.attention.out_proj", IMAGE_WIDTH, IMAGE_WIDTH)
    norm("vision_model.head.layernorm", IMAGE_WIDTH)
    linear("vision_model.head.mlp.fc1", 30, IMAGE_WIDTH)
    linear("vision_model.head.mlp.fc2", IMAGE_WIDTH, 30)
    return shapes


def _siglip_config() -> dict[str, Any]:
    common = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
    return {
        "model_type": "siglip",
        "transformers_version": "5.23.0",
        "text_config": {"num_attention_heads": 5, **common},
        "vision_config": {"num_attention_heads": 3, "image_size": 26, **common},
    }


def _siglip_preprocess() -> dict[str, Any]:
    return {
        **{"do_convert_rgb": None, "do_resize": True, "do_rescale": True, "do_normalize": True},
        **{"size": {"height": 26, "width": 26}, "resample": 3, "rescale_factor": 0.00392156862745098},
        **{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    }


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that writes a tiny SigLIP; each edit changes a dictionary in place."""

    def write(
        *,
        weights: Edit | None = None,
        config: Edit | None = None,
        preprocess: Edit | None = None,
        tokenizer: str | None = "hf_siglip",
        settings: Edit | None = None,
    ) -> Path:
        folder = tmp_path / "siglip"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if tokenizer is not None:
            shutil.copytree(TOKENIZERS / tokenizer, folder, dirs_exist_ok=True)
        state = _draw(_siglip_shapes())
        if weights is not None:
            weights(state)
        safetensors.torch.save_file(state, folder / "model.safetensors")
        for name, content, edit in (
            ("config.json", _siglip_config(), config),
            ("preprocessor_config.json", _siglip_preprocess(), preprocess),
        ):
            if edit is not None:
                edit(content)
            (folder / name).write_text(json.dumps(content))
        if settings is not None:
            path = folder / "tokenizer_config.json"
            content = json.loads(path.read_text())
            settings(content)
            path.write_text(json.dumps(content))
        return folder

    return write


def test_what_is_read_of_siglip(make: Make) -> None:
    checkpoint = read_checkpoint(make())
    assert checkpoint.vision == SiglipVisionConfig(
        transformer=TransformerConfig(width=24, layers=1, heads=3, mlp_width=30, activation="gelu_tanh", norm_eps=1e-6),
        image_size=(26, 26),
        patch_size=(8, 8),
    )
    assert checkpoint.text == TextConfig(
        transformer=TransformerConfig(width=20, layers=2, heads=5, mlp_width=30, activation="gelu_tanh", norm_eps=1e-6),
        vocab_size=300,
        context=12,
        dim=24,
        end_id=-1,
        causal=False,
        pool="last",
        projection="linear",
    )
    assert checkpoint.context == 12
    assert (checkpoint.preprocess.size, checkpoint.preprocess.resize_mode) == ((26, 26), "squash")
    assert checkpoint.preprocess.interpolation == "bicubic"
    state = _draw(_siglip_shapes())
    assert checkpoint.logit_scale == pytest.approx(float(state["logit_scale"].exp()))
    assert checkpoint.logit_bias == float(state["logit_bias"])


def test_siglip_encodes(make: Make, pictures: list[Any]) -> None:
    encoder = zeroshot.load(make())
    assert encoder.encode_images(pictures[:2]).shape == (2, 24)
    assert encoder.encode_texts(["a cat", "a dog"]).shape == (2, 24)
    # Every position is computed and sees every other, so that texts are not encoded by their shared beginnings.
    texts = [f"cat {i}" for i in range(20)]
    one_by_one = torch.cat([encoder.encode_texts(text) for text in texts])
    torch.testing.assert_close(encoder.encode_texts(texts), one_by_one, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", sorted(_siglip_shapes()))
def test_a_missing_tensor_of_siglip_is_named(make: Make, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"Missing|lack") as caught:
        read_checkpoint(make(weights=lambda state: state.pop(name)))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("vision_model.head.probe", (1, 1, 23), r"head.probe has shape \(1, 1, 23\); expected \(1, 1, 24\)"),
        ("vision_model.head.attention.in_proj_weight", (72, 23), r"in_proj_weight has .*; expected \(72, 24\)"),
        ("vision_model.head.attention.in_proj_bias", (71,), r"in_proj_bias has .*; expected \(72,\)"),
        ("vision_model.encoder.layers.0.self_attn.k_proj.weight", (24, 23), r"k_proj.*\(24, 23\).*expected \(72, 24\)"),
        ("text_model.head.weight", (23, 20), r"text_model.head.bias has shape \(24,\); expected \(23,\)"),
        ("text_model.head.weight", (24, 21), "does not divide the width 21 of the weights"),
        ("text_model.head.bias", (23,), r"text_model.head.bias has shape \(23,\); expected \(24,\)"),
        ("text_model.final_layer_norm.weight", (24,), r"final_layer_norm.weight has .*; expected \(20,\)"),
        ("vision_model.embeddings.patch_embedding.weight", (24, 3, 16, 16), "make 1 positions; the weights have 9"),
        ("vision_model.embeddings.position_embedding.weight", (10, 24), "make 9 positions; the weights have 10"),
        ("logit_bias", (2,), r"logit_bias has shape \(2,\); expected a single number"),
    ],
)
def test_a_tensor_of_siglip_of_another_shape(make: Make, name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(make(weights=lambda state: state.update({name: torch.zeros(shape)})))


@pytest.mark.parametrize("name", ["vision_model.embeddings.class_embedding", "vision_model.pre_layrnorm.bias", "lora"])
def test_an_unexpected_tensor_of_siglip_is_named(make: Make, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"Missing: none. Unexpected: {name}"):
        read_checkpoint(make(weights=lambda state: state.update({name: torch.zeros(3)})))


def test_an_image_tower_without_its_pooling(make: Make) -> None:
    def strip(state: State) -> None:
        for name in [name for name in state if name.startswith("vision_model.head.")]:
            del state[name]

    with pytest.raises(CheckpointError, match=r"Missing: vision_model.head.attention.in_proj_bias, .* and \d+ more"):
        read_checkpoint(make(weights=strip))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set("text_config", num_attention_heads=3), "num_attention_heads is 3, which does not divide the width 20"),
        (_set("vision_config", num_attention_heads=0), "vision_config.num_attention_heads is 0; expected a positive"),
        (_set("vision_config", num_attention_heads=None), "has no vision_config.num_attention_heads"),
        (_set("text_config", hidden_act="gelu_fast"), "text_config.hidden_act is 'gelu_fast'; expected one of quick_g"),
        (_set("text_config", hidden_act=None), "has no text_config.hidden_act, and the weights cannot tell it"),
        (_set("vision_config", layer_norm_eps="small"), "the eps of the layer norms is 'small'"),
        (_set("vision_config", image_size=32), "images of 32 x 32, which make 16 positions; the weights have 9"),
        (_set("vision_config", image_size=None), "has no vision_config.image_size"),
        (_set(model_type="siglip2"), "is of model type 'siglip2'; expected 'clip' or 'siglip'"),
        (_set(model_type=None), "has no 'model_type'"),
    ],
)
def test_a_configuration_of_siglip_that_does_not_fit(make: Make, edit: Edit, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(make(config=edit))
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set(size={"height": 32, "width": 26}), r"makes images of \(32, 26\); expected the image tower's \(26, 26\)"),
        (_set(size={"shortest_edge": 32}, crop_size={"height": 26, "width": 26}), "crops to"),
        (_set(size={"longest_edge": 26}), "has no 'height'"),
        (_set(resample=0), "has resample 0"),
        (_set(rescale_factor=1.0), "has rescale_factor 1.0"),
        (_set(do_normalize=False), "switches a step off"),
        (_set(image_std=None), "has no 'image_std'"),
    ],
)
def test_a_preprocessing_of_siglip_that_does_not_fit(make: Make, edit: Edit, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(make(preprocess=edit))


def test_the_approximate_gelu_is_not_the_exact_one(make: Make, pictures: list[Any]) -> None:
    def double(state: State) -> None:
        for name in [name for name in state if "mlp.fc1.weight" in name]:
            state[name] = state[name] * 5

    approximate = zeroshot.load(make(weights=double))
    exact = zeroshot.load(make(weights=double, config=_set("vision_config", hidden_act="gelu")))
    difference = approximate.encode_images(pictures) - exact.encode_images(pictures)
    assert 1e-6 < difference.abs().max() < 1e-2


# ------------------------------------------------------------------------------------------- tokenizers of SigLIP


@pytest.mark.parametrize(
    ("folder", "name", "how"),
    [
        ("hf_siglip", "SiglipTokenizer", "siglip"),
        ("hf_t5", "SiglipTokenizer", "siglip"),  # the conversion that some repositories hold
        ("hf_gemma", "GemmaTokenizer", "siglip2"),
        ("hf_gemma", "GemmaTokenizerFast", "siglip2"),
        ("hf_gemma", "Siglip2Tokenizer", "siglip2"),
    ],
)
def test_the_class_of_the_tokenizer_says_how_texts_are_cleaned(make: Make, folder: str, name: str, how: str) -> None:
    checkpoint = read_checkpoint(make(tokenizer=folder, settings=_set(tokenizer_class=name)))
    assert checkpoint.tokenizer is not None
    assert checkpoint.tokenizer.clean == how


def test_siglips_own_file_goes_before_a_conversion(make: Make) -> None:
    folder = make()
    (folder / "tokenizer.json").write_text("{}")
    assert zeroshot.load(folder).tokenize("a cat").shape == (1, 12)


def test_siglip_without_a_tokenizer(make: Make, tmp_path: Path) -> None:
    folder = make(tokenizer=None)
    with pytest.raises(CheckpointNotFoundError, match=r"hold no tokenizer.json"):
        read_checkpoint(folder)
    checkpoint = read_checkpoint(folder, tokenizer=TOKENIZERS / "hf_siglip")
    assert checkpoint.tokenizer is not None
    assert checkpoint.tokenizer.path == TOKENIZERS / "hf_siglip" / "spiece.model"
    shutil.copy(TOKENIZERS / "hf_siglip" / "spiece.model", folder)
    with pytest.raises(CheckpointNotFoundError, match=r"tokenizer_config.json does not exist; it says how texts are"):
        read_checkpoint(folder, tokenizer=TOKENIZERS / "hf_siglip")


def test_a_vocabulary_that_is_larger_than_the_text_tower(make: Make) -> None:
    # Not an error by itself: the multilingual SigLIP has 100 entries to spare, which no text leads to.
    def shrink(state: State) -> None:
        name = "text_model.embeddings.token_embedding.weight"
        state[name] = state[name][:50].clone()

    encoder = zeroshot.load(make(weights=shrink))
    assert encoder.encode_texts("a").shape == (1, 24)
    with pytest.raises(CheckpointError, match=r"makes the token \d+, and its text tower has 50, from 0 on") as caught:
        encoder.encode_texts(["a", "a photo of the house"])
    assert "expected the tokenizer that the weights were trained with" in str(caught.value)
    assert encoder.tokenize([]).shape == (0, 12)


# --------------------------------------------------------------------------------------------------- OpenAI's files


def _openai_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "input_resolution": (),
        "context_length": (),
        "vocab_size": (),
        "logit_scale": (),
        "positional_embedding": (10, 64),
        "text_projection": (64, 32),
        "token_embedding.weight": (49408, 64),
        "ln_final.weight": (64,),
        "ln_final.bias": (64,),
        "visual.class_embedding": (128,),
        "visual.positional_embedding": (10, 128),
        "visual.conv1.weight": (128, 3, 8, 8),
        "visual.proj": (128, 32),
    }
    for norm in ("ln_pre", "ln_post"):
        shapes[f"visual.{norm}.weight"] = shapes[f"visual.{norm}.bias"] = (128,)
    for prefix, width in (("", 64), ("visual.", 128)):
        block = f"{prefix}transformer.resblocks.0"
        shapes[f"{block}.attn.in_proj_weight"], shapes[f"{block}.attn.in_proj_bias"] = (3 * width, width), (3 * width,)
        for part, outputs, inputs in (
            ("attn.out_proj", width, width),
            ("mlp.c_fc", 4 * width, width),
            ("mlp.c_proj", width, 4 * width),
        ):
            shapes[f"{block}.{part}.weight"], shapes[f"{block}.{part}.bias"] = (outputs, inputs), (outputs,)
        for norm in ("ln_1", "ln_2"):
            shapes[f"{block}.{norm}.weight"] = shapes[f"{block}.{norm}.bias"] = (width,)
    return shapes


class InMemory(Weights):
    """Weights that are in no file: with OpenAI's vocabulary, each test would write ten megabytes."""

    def __init__(self, state: State) -> None:
        self.files = (Path(__file__),)
        self._tensors = state
        self.shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in state.items()}


def _openai(edit: Edit | None = None) -> InMemory:
    shapes = _openai_shapes()
    vocabulary = shapes.pop("token_embedding.weight")
    state = _draw(shapes) | {"token_embedding.weight": torch.zeros(1).expand(vocabulary)}
    if edit is not None:
        edit(state)
    return InMemory(state)


def test_what_is_read_of_openais_files() -> None:
    weights = _openai()
    assert openai.is_openai(weights)
    checkpoint: Any = openai.read(weights)
    for tower, width in ((checkpoint.text, 64), (checkpoint.vision, 128)):
        stack = tower.transformer
        assert (stack.width, stack.layers, stack.heads, stack.mlp_width) == (width, 1, width // 64, 4 * width)
        assert (stack.activation, stack.norm_eps) == ("quick_gelu", 1e-5)
        assert tower.dim == 32
    assert (checkpoint.vision.image_size, checkpoint.vision.patch_size) == ((24, 24), (8, 8))
    assert (checkpoint.text.causal, checkpoint.text.pool, checkpoint.text.end_id) == (True, "end", 49407)
    assert (checkpoint.context, checkpoint.tokenizer, checkpoint.logit_bias) == (10, None, None)
    assert checkpoint.preprocess.size == (24, 24)
    assert checkpoint.preprocess.mean == (0.48145466, 0.4578275, 0.40821073)
    assert checkpoint.preprocess.std == (0.26862954, 0.26130258, 0.27577711)


def test_openais_files_encode(tmp_path: Path, pictures: list[Any]) -> None:
    torch.save(_draw(_openai_shapes()), tmp_path / "model.pt")
    encoder = zeroshot.load(tmp_path / "model.pt")
    assert encoder.encode_images(pictures[:2]).shape == (2, 32)
    assert encoder.encode_texts(["a cat", "a dog"]).shape == (2, 32)


@pytest.mark.parametrize("name", sorted(_openai_shapes().keys() - {"input_resolution", "context_length", "vocab_size"}))
def test_a_missing_tensor_of_openais_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"Missing|lack") as caught:
        openai.read(_openai(lambda state: state.pop(name)))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("token_embedding.weight", (32000, 64), "vocabulary of 32000 tokens; expected CLIP's 49408"),
        ("visual.positional_embedding", (9, 128), "has 9 rows; expected a square number and one"),
        ("visual.class_embedding", (96,), "the width of a head is 64, which does not divide the width 96"),
        ("text_projection", (64, 48), "embedded in 48 dimensions and images in 32"),
        ("visual.conv1.weight", (128, 1, 8, 8), r"expected \(width, 3, height, width\)"),
        ("visual.attnpool.positional_embedding", (5, 128), "the weights lack visual.attnpool.c_proj.weight"),
        ("visual.something", (5,), "Unexpected: visual.something"),
        ("logit_scale", (2,), "expected a single number"),
    ],
)
def test_tensors_of_openais_that_do_not_fit(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        openai.read(_openai(lambda state: state.update({name: torch.zeros(shape)})))


@pytest.mark.parametrize("halved", ["text_projection", "all", "none"])
@pytest.mark.parametrize("numbers", [0, 2, 3])
def test_what_tells_openais_files(numbers: int, halved: str) -> None:
    """Their three numbers, or their mixture of precisions; open_clip's files have one precision for all."""

    def edit(state: State) -> None:
        for name in ("input_resolution", "context_length", "vocab_size")[numbers:]:
            del state[name]
        for name, tensor in state.items():
            state[name] = tensor.half() if halved in (name, "all") else tensor

    weights = _openai(edit)
    assert openai.is_openai(weights) == (numbers == 3 or halved == "text_projection")
    if halved == "text_projection":
        assert openai.read(weights).dtype == torch.float16  # the lowest of several


# ------------------------------------------------------------------------------- the questions that all layouts ask

PATH = Path("config.json")


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", None, [3]])
def test_what_is_no_positive_number(value: Any) -> None:
    assert base.positive({"heads": 3}, "heads", None, PATH) == 3
    assert base.positive({}, "heads", 4, PATH) == 4
    with pytest.raises(CheckpointError, match=r"config.json: heads is .*; expected a positive whole number"):
        base.positive({"heads": value}, "heads", 4, PATH)


def test_heads_by_their_number_and_by_their_width() -> None:
    assert base.divide(96, 32, "head_width", PATH) == 3
    assert base.divide(96, 32, "heads", PATH, count=True) == 32
    with pytest.raises(CheckpointError, match=r"head_width is 36, which does not divide the width 96"):
        base.divide(96, 36, "head_width", PATH)


def test_axes_of_length_one_in_front_mean_nothing() -> None:
    shapes = {"a": (1, 3, 4), "b": (1, 1, 4), "c": (4,)}
    assert base.matrix(shapes, "a") == (3, 4)
    for name in ("b", "c"):
        with pytest.raises(CheckpointError, match=rf"{name} has shape .*; expected two axes"):
            base.matrix(shapes, name)


def test_numbers_for_two_sides_and_three_channels() -> None:
    assert base.pair(8) == (8, 8)
    assert base.pair([6, 8]) == (6, 8)
    assert base.triple({"mean": 0.5}, "mean", PATH) == (0.5, 0.5, 0.5)
    assert base.triple({"mean": [0.1, 0.2, 0.3]}, "mean", PATH) == (0.1, 0.2, 0.3)
    with pytest.raises(CheckpointError, match=r"mean is \[0.1, 0.2\]; expected three numbers"):
        base.triple({"mean": [0.1, 0.2]}, "mean", PATH)


def test_names_of_another_layout() -> None:
    rename = base.block_names(
        "layers.",
        {"attn.in_proj": ("q", "k", "v"), "mlp.c_fc": ("fc1",)},
        {"conv1": ("patch",), "proj": ("head.weight",), "pool.in_proj_weight": ("pool.qkv",)},
    )
    assert rename("transformer.resblocks.11.attn.in_proj_weight") == (
        "layers.11.q.weight",
        "layers.11.k.weight",
        "layers.11.v.weight",
    )
    assert rename("transformer.resblocks.0.mlp.c_fc.bias") == ("layers.0.fc1.bias",)
    assert rename("conv1.bias") == ("patch.bias",)
    assert rename("proj") == ("head.weight",)
    assert rename("pool.in_proj_weight") == ("pool.qkv",)


def test_projections_are_turned_by_layout_not_by_shape(transformers_folder: Path, open_clip_folder: Path) -> None:
    # The text projection of the shared checkpoint is square.
    turned, straight = (zeroshot.load(f).text.text_projection for f in (transformers_folder, open_clip_folder))
    np.testing.assert_array_equal(turned.numpy(), straight.numpy())  # type: ignore[operator]
