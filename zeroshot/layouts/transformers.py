"""transformers' layout: ``vision_model.embeddings…`` …, with ``config.json`` and the settings of the image processor.

Two model types: ``clip`` (OpenAI's repositories, TinyCLIP and many fine-tuned ones) and ``siglip`` (SigLIP, and
SigLIP 2 at a fixed resolution).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeroshot.errors import CheckpointError, CheckpointNotFoundError
from zeroshot.files import (
    TOKENIZER_SETTINGS,
    TRANSFORMERS_CONFIG,
    TRANSFORMERS_PREPROCESS,
    read_json,
    required,
)
from zeroshot.image import Preprocess
from zeroshot.layouts.base import (
    Checkpoint,
    block_names,
    check_positions,
    divide,
    epsilon,
    finish,
    matrix,
    pair,
    patch,
    shape_of,
    triple,
)
from zeroshot.nets.siglip import SiglipVisionConfig
from zeroshot.nets.text import TextConfig
from zeroshot.nets.transformer import Activation, TransformerConfig
from zeroshot.nets.vit import VisionTransformerConfig
from zeroshot.tokenizer import get_tokenizer
from zeroshot.tokenizer_file import SENTENCEPIECE, TOKENIZER_JSON, Clean, TokenizerFile, find_tokenizer
from zeroshot.weights import Weights

_BLOCK = {
    "ln_1": ("layer_norm1",),
    "ln_2": ("layer_norm2",),
    "attn.in_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.out_proj": ("self_attn.out_proj",),
    "mlp.c_fc": ("mlp.fc1",),
    "mlp.c_proj": ("mlp.fc2",),
}
_VISION = {
    "conv1": ("vision_model.embeddings.patch_embedding",),
    "positional_embedding": ("vision_model.embeddings.position_embedding.weight",),
    "ln_post": ("vision_model.post_layernorm",),
}
_CLIP_VISION = _VISION | {
    "class_embedding": ("vision_model.embeddings.class_embedding",),
    "ln_pre": ("vision_model.pre_layrnorm",),  # transformers' own spelling
    "proj": ("visual_projection.weight",),
}
_SIGLIP_VISION = _VISION | {
    "pool.probe": ("vision_model.head.probe",),
    "pool.in_proj_weight": ("vision_model.head.attention.in_proj_weight",),
    "pool.in_proj_bias": ("vision_model.head.attention.in_proj_bias",),
    "pool.out_proj": ("vision_model.head.attention.out_proj",),
    "pool.norm": ("vision_model.head.layernorm",),
    "pool.mlp.c_fc": ("vision_model.head.mlp.fc1",),
    "pool.mlp.c_proj": ("vision_model.head.mlp.fc2",),
}
_TEXT = {
    "token_embedding": ("text_model.embeddings.token_embedding",),
    "positional_embedding": ("text_model.embeddings.position_embedding.weight",),
    "ln_final": ("text_model.final_layer_norm",),
}
_CLIP_TEXT = _TEXT | {"text_projection": ("text_projection.weight",)}
_SIGLIP_TEXT = _TEXT | {
    "text_projection.weight": ("text_model.head.weight",),
    "text_projection.bias": ("text_model.head.bias",),
}
_ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# What transformers 4 left out of the configurations that it wrote, where it equalled these defaults of its classes
# (CLIPTextConfig, SiglipVisionConfig, …); transformers 5 writes everything.
_DEFAULTS_4: dict[str, dict[str, Any]] = {
    "clip.text_config": {"num_attention_heads": 8, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    "clip.vision_config": {
        **{"num_attention_heads": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "image_size": 224},
    },
    "siglip.text_config": {"num_attention_heads": 12, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    "siglip.vision_config": {
        **{"num_attention_heads": 12, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "image_size": 224},
    },
}
# transformers' tokenizers for SigLIP clean the text in Python; those for SigLIP 2 were published without the lower case
# that it was trained on (its model card asks the user for it).
_CLEAN: dict[str, Clean] = {"SiglipTokenizer": "siglip"}


def read(folder: Path, weights: Weights, *, tokenizer: Path | None) -> Checkpoint:
    """Read a checkpoint in transformers' layout; parameters as for `zeroshot.layouts.open_clip.read`."""
    path = folder / TRANSFORMERS_CONFIG
    config = read_json(path)
    model_type = required(config, "model_type", path)
    if model_type == "clip":
        return _read_clip(folder, config, weights)
    if model_type == "siglip":
        return _read_siglip(folder, config, weights, [folder] if tokenizer is None else [folder, tokenizer])
    raise CheckpointError(
        f"{path} is of model type {model_type!r}; expected 'clip' or 'siglip'. For others see zeroshot.adapters"
    )


def _read_clip(folder: Path, config: Mapping[str, Any], weights: Weights) -> Checkpoint:
    path, shapes = folder / TRANSFORMERS_CONFIG, weights.shapes
    dim, width = matrix(shapes, "text_projection.weight")
    text = TextConfig(
        transformer=_stack(config, "text_config", "text_model", width, weights, path),
        vocab_size=matrix(shapes, "text_model.embeddings.token_embedding.weight")[0],
        context=matrix(shapes, "text_model.embeddings.position_embedding.weight")[0],
        dim=dim,
        end_id=get_tokenizer().end_id,
    )
    if text.vocab_size != get_tokenizer().vocab_size:
        raise CheckpointError(
            f"{weights.files[0]} has a vocabulary of {text.vocab_size} tokens; expected CLIP's "
            f"{get_tokenizer().vocab_size}. For CLIP with another tokenizer see zeroshot.adapters.from_transformers"
        )
    dim, width = matrix(shapes, "visual_projection.weight")
    vision = VisionTransformerConfig(
        transformer=_stack(config, "vision_config", "vision_model", width, weights, path),
        image_size=pair(_setting(config, "vision_config", "image_size", path)),
        patch_size=patch(shapes, "vision_model.embeddings.patch_embedding.weight"),
        dim=dim,
    )
    _check_positions(vision, weights, path)
    return finish(
        weights,
        vision=vision,
        text=text,
        context=text.context,
        preprocess=_preprocess(folder, vision.image_size),
        tokenizer=None,
        rename_vision=block_names("vision_model.encoder.layers.", _BLOCK, _CLIP_VISION),
        rename_text=block_names("text_model.encoder.layers.", _BLOCK, _CLIP_TEXT),
        transposed=True,
    )


def _read_siglip(folder: Path, config: Mapping[str, Any], weights: Weights, tokenizers: list[Path]) -> Checkpoint:
    path, shapes = folder / TRANSFORMERS_CONFIG, weights.shapes
    shape_of(shapes, "logit_bias")  # a model that was trained with a sigmoid has one
    dim, width = matrix(shapes, "text_model.head.weight")
    text = TextConfig(
        transformer=_stack(config, "text_config", "text_model", width, weights, path),
        vocab_size=matrix(shapes, "text_model.embeddings.token_embedding.weight")[0],
        context=matrix(shapes, "text_model.embeddings.position_embedding.weight")[0],
        dim=dim,
        end_id=-1,  # read at the last position, whatever stands there
        causal=False,
        pool="last",
        projection="linear",
    )
    width = matrix(shapes, "vision_model.embeddings.position_embedding.weight")[1]
    vision = SiglipVisionConfig(
        transformer=_stack(config, "vision_config", "vision_model", width, weights, path),
        image_size=pair(_setting(config, "vision_config", "image_size", path)),
        patch_size=patch(shapes, "vision_model.embeddings.patch_embedding.weight"),
    )
    _check_positions(vision, weights, path)
    return finish(
        weights,
        vision=vision,
        text=text,
        context=text.context,
        preprocess=_preprocess(folder, vision.image_size),
        tokenizer=_tokenizer(tokenizers),
        rename_vision=block_names("vision_model.encoder.layers.", _BLOCK, _SIGLIP_VISION),
        rename_text=block_names("text_model.encoder.layers.", _BLOCK, _SIGLIP_TEXT),
    )


def _check_positions(vision: VisionTransformerConfig | SiglipVisionConfig, weights: Weights, path: Path) -> None:
    found = matrix(weights.shapes, "vision_model.embeddings.position_embedding.weight")[0]
    check_positions(vision.positions, vision.image_size, found, path)


def _stack(
    config: Mapping[str, Any],
    part: str,
    model: str,
    width: int,
    weights: Weights,
    path: Path,
) -> TransformerConfig:
    name = _setting(config, part, "hidden_act", path)
    if name not in _ACTIVATIONS:
        raise CheckpointError(f"{path}: {part}.hidden_act is {name!r}; expected one of {', '.join(_ACTIVATIONS)}")
    heads = _setting(config, part, "num_attention_heads", path)
    if not isinstance(heads, int) or heads < 1:
        raise CheckpointError(f"{path}: {part}.num_attention_heads is {heads!r}; expected a positive whole number")
    return TransformerConfig(
        width=width,
        layers=weights.count(rf"{model}\.encoder\.layers\.(\d+)\."),
        heads=divide(width, heads, f"{part}.num_attention_heads", path, count=True),
        mlp_width=matrix(weights.shapes, f"{model}.encoder.layers.0.mlp.fc1.weight")[0],
        activation=_ACTIVATIONS[name],
        norm_eps=epsilon(_setting(config, part, "layer_norm_eps", path), path),
    )


def _setting(config: Mapping[str, Any], part: str, key: str, path: Path) -> Any:
    section = config.get(part) or {}
    if key in section:
        return section[key]
    if str(config.get("transformers_version", "")).startswith("4."):
        return _DEFAULTS_4[f"{config['model_type']}.{part}"][key]
    raise CheckpointError(f"{path} has no {part}.{key}, and the weights cannot tell it; add it to the configuration")


def _tokenizer(folders: list[Path]) -> TokenizerFile:
    # transformers reads SigLIP's own file, whatever conversion of it others have put beside it.
    found = find_tokenizer(folders, clean="siglip2", names=(SENTENCEPIECE, TOKENIZER_JSON))
    settings = found.path.parent / TOKENIZER_SETTINGS[0]
    if not settings.is_file():
        raise CheckpointNotFoundError(
            f"{settings} does not exist; it says how texts are cleaned. Copy it from where the weights came from"
        )
    kind = str(read_json(settings).get("tokenizer_class", "")).removesuffix("Fast")
    if found.path.name == SENTENCEPIECE:
        kind = "SiglipTokenizer"
    return TokenizerFile(found.path, _CLEAN.get(kind, "siglip2"))


def _preprocess(folder: Path, image_size: tuple[int, int]) -> Preprocess:
    candidates = [folder / name for name in TRANSFORMERS_PREPROCESS]
    path = next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
    cfg = read_json(path)
    cfg = cfg.get("image_processor", cfg)
    size = required(cfg, "size", path)
    if isinstance(size, int):
        size = {"shortest_edge": size}  # the form of 2021
    if not cfg.get("do_resize", True) or not cfg.get("do_normalize", True) or not cfg.get("do_rescale", True):
        raise CheckpointError(f"{path} switches a step off; expected resize, rescale and normalize")
    if not math.isclose(cfg.get("rescale_factor", 1 / 255), 1 / 255):
        raise CheckpointError(f"{path} has rescale_factor {cfg['rescale_factor']}; expected 1/255")
    resample = required(cfg, "resample", path)
    interpolation = {2: "bilinear", 3: "bicubic"}.get(resample)
    if interpolation is None:
        raise CheckpointError(f"{path} has resample {resample}; expected 2 (bilinear) or 3 (bicubic)")
    if "shortest_edge" in size:
        resize_mode = "shortest"
        crop = cfg.get("crop_size", size["shortest_edge"]) if cfg.get("do_center_crop", True) else None
        target = pair([crop["height"], crop["width"]] if isinstance(crop, dict) else crop or 0)
        if target != (size["shortest_edge"],) * 2:
            raise CheckpointError(f"{path} crops to {target} after a resize to {size}; expected the same size")
    else:
        resize_mode = "squash"
        target = (required(size, "height", path), required(size, "width", path))
        crop = cfg.get("crop_size") if cfg.get("do_center_crop") else None
        if crop is not None and pair([crop["height"], crop["width"]] if isinstance(crop, dict) else crop) != target:
            raise CheckpointError(f"{path} crops to {crop} after a resize to {size}; expected the same size")
    if target != image_size:
        raise CheckpointError(f"{path} makes images of {target}; expected the image tower's {image_size}")
    return Preprocess(
        size=target,
        mean=triple(cfg, "image_mean", path),
        std=triple(cfg, "image_std", path),
        interpolation=interpolation,  # type: ignore[arg-type]
        resize_mode=resize_mode,  # type: ignore[arg-type]
    )
