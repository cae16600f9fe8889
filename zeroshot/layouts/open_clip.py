"""open_clip's layout: ``visual.conv1.weight`` …, with ``open_clip_config.json`` beside the weights.

The configuration's keys and their defaults are those of `CLIPVisionCfg` and `CLIPTextCfg` in open_clip/model.py. Sizes
come from the weights. A key that is not understood here, or a value that asks for a network that is not here, is an
error: the embeddings would be others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeroshot.errors import CheckpointError
from zeroshot.files import OPEN_CLIP_CONFIG, read_json, required
from zeroshot.image import Preprocess
from zeroshot.layouts.base import (
    Checkpoint,
    Rename,
    Shapes,
    TextTowerConfig,
    TowerConfig,
    block_names,
    check_positions,
    divide,
    epsilon,
    finish,
    matrix,
    pair,
    patch,
    positive,
    shape_of,
    triple,
)
from zeroshot.nets.efficientnet import EfficientNetConfig, InvertedResidualConfig
from zeroshot.nets.hf_text import HF_POOLS, HF_PROJECTIONS, HfTextConfig, hf_config
from zeroshot.nets.resnet import ResNetConfig
from zeroshot.nets.siglip import SiglipVisionConfig
from zeroshot.nets.text import TextConfig, TextPool, TextProjection
from zeroshot.nets.timm_tower import TIMM_PROJECTIONS, TimmConfig
from zeroshot.nets.transformer import Activation, TransformerConfig
from zeroshot.nets.vit import VisionTransformerConfig
from zeroshot.tokenizer import get_tokenizer
from zeroshot.tokenizer_file import CLEANS, TokenizerFile, find_tokenizer
from zeroshot.weights import Weights

# Keys that change nothing when embeddings are computed, or that the weights tell.
_IDLE = {
    *("layers", "width", "patch_size", "mlp_ratio", "pos_embed_type"),
    *("context_length", "vocab_size", "patch_dropout", "output_tokens", "attn_pooler_queries"),
    *("timm_model_pretrained", "timm_drop", "timm_drop_path", "hf_model_pretrained"),
}
# Keys that are understood at one value only, which is open_clip's default; another value means another network.
_FIXED: dict[str, Any] = {
    **{"ls_init_value": None, "text_arch": "clip", "tokenizer_mode": None},
    **{"qk_norm": False, "scaled_cosine_attn": False, "scale_heads": False},
    **{"scale_attn_inner": False, "scale_attn": False, "scale_fc": False},
}
_COMMON = {"norm_kwargs", "act_kwargs", "block_type"}
_VISION = _COMMON | {
    *("image_size", "head_width", "attentional_pool", "attn_pooler_heads", "no_ln_pre", "final_ln_after_pool"),
    *("pool_type", "efficientnet", "timm_model_name", "timm_pool", "timm_proj", "timm_proj_bias"),
}
_TEXT = _COMMON | {
    *("heads", "embed_cls", "pad_id", "eos_id", "no_causal_mask", "final_ln_after_pool", "pool_type"),
    *("proj_type", "proj_bias"),
    *("hf_tokenizer_name", "tokenizer_kwargs", "hf_model_name", "hf_proj_type", "hf_pooler_type"),
}
_MODEL = {
    *("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale", "init_logit_bias"),
    *("multimodal_cfg",),  # CoCa's captions; its tensors are not read
}
_TEXT_POOLS: dict[str, TextPool] = {"argmax": "end", "eos": "end", "last": "last", "first": "first"}

# SigLIP's image towers as timm names them: heads by size, and those that use the approximate GELU (timm's
# vision_transformer.py). The others were trained with the approximation too, but timm runs them with the exact one,
# and the accuracies that open_clip publishes are timm's.
_SIGLIP = re.compile(r"vit_(base|large|so400m|giantopt)_patch\d+_siglip_\d+(\.\w+)?")
_SIGLIP_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
_SIGLIP_TANH = re.compile(r"vit_(base_patch32|large_patch16_siglip_512|so400m_patch16|giantopt)")
_SIGLIP_NORM_EPS = 1e-6  # timm's default
_TIMM_BLOCK = {
    "ln_1": ("norm1",),
    "ln_2": ("norm2",),
    "attn.in_proj": ("attn.qkv",),
    "attn.out_proj": ("attn.proj",),
    "mlp.c_fc": ("mlp.fc1",),
    "mlp.c_proj": ("mlp.fc2",),
}
_TIMM_SIGLIP = {
    "conv1": ("visual.trunk.patch_embed.proj",),
    "positional_embedding": ("visual.trunk.pos_embed",),
    "ln_post": ("visual.trunk.norm",),
    "pool.probe": ("visual.trunk.attn_pool.latent",),
    "pool.in_proj": ("visual.trunk.attn_pool.q", "visual.trunk.attn_pool.kv"),
    "pool.out_proj": ("visual.trunk.attn_pool.proj",),
    "pool.norm": ("visual.trunk.attn_pool.norm",),
    "pool.mlp.c_fc": ("visual.trunk.attn_pool.mlp.fc1",),
    "pool.mlp.c_proj": ("visual.trunk.attn_pool.mlp.fc2",),
}


def read(folder: Path, weights: Weights, *, config: Mapping[str, Any] | None, tokenizer: Path | None) -> Checkpoint:
    """Read a checkpoint in open_clip's layout.

    Parameters
    ----------
    folder : Path
        Where the weights are, and ``open_clip_config.json``.
    weights : Weights
    config : mapping, optional
        What to read in place of that file.
    tokenizer : Path, optional
        Folder that has the tokenizer if `folder` has none.
    """
    path = folder / OPEN_CLIP_CONFIG
    config = read_json(path) if config is None else config
    model = required(config, "model_cfg", path)
    vision_cfg, text_cfg = required(model, "vision_cfg", path), required(model, "text_cfg", path)
    _check_keys(path, model, vision_cfg, text_cfg)
    # The approximate GELU is asked for by each tower.
    activation: Activation = "quick_gelu" if model.get("quick_gelu", False) else "gelu"
    image_size = pair(vision_cfg.get("image_size", 224))
    vision, rename_vision = _vision(weights, model, image_size, activation, path)
    text, context, rename_text = _text(weights, model, activation, path)
    return finish(
        weights,
        vision=vision,
        text=text,
        context=context,
        preprocess=_preprocess(required(config, "preprocess_cfg", path), image_size, path),
        tokenizer=_tokenizer(text_cfg, [folder] if tokenizer is None else [folder, tokenizer], path),
        rename_vision=rename_vision,
        rename_text=rename_text,
        ignored=r"^text_decoder\." if "multimodal_cfg" in model else None,
    )


def _check_keys(path: Path, model: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    unknown = set(model) - _MODEL
    for part, cfg, known in (("vision", vision, _VISION), ("text", text, _TEXT)):
        for key, value in cfg.items():
            fixed = key in _FIXED and value == _FIXED[key]
            if not (key in known or key in _IDLE or fixed):
                unknown.add(f"{part}_cfg.{key} = {value!r}")
        if cfg.get("block_type") not in (None, "default"):
            unknown.add(f"{part}_cfg.block_type = {cfg['block_type']!r}")
    # Whether the last norm stands before or behind the choice of one token is all the same.
    if text.get("final_ln_after_pool"):
        unknown.add("text_cfg.final_ln_after_pool = True")
    if text.get("embed_cls") and text.get("no_causal_mask"):
        unknown.add("text_cfg.embed_cls with text_cfg.no_causal_mask")
    if unknown:
        raise CheckpointError(f"{path} asks for a network that is not supported: {', '.join(sorted(unknown))}")


def _activation(cfg: Mapping[str, Any], activation: Activation, part: str, path: Path) -> Activation:
    options = cfg.get("act_kwargs") or {}
    if not options:
        return activation
    if options == {"approximate": "tanh"} and activation == "gelu":
        return "gelu_tanh"
    raise CheckpointError(
        f"{path}: {part}.act_kwargs is {options!r} with {activation}; expected nothing, or "
        "{'approximate': 'tanh'} with gelu"
    )


def _stack(
    weights: Weights, cfg: Mapping[str, Any], part: str, prefix: str, heads: int, activation: Activation, path: Path
) -> TransformerConfig:
    return TransformerConfig(
        width=matrix(weights.shapes, f"{prefix}resblocks.0.mlp.c_fc.weight")[1],
        layers=weights.count(re.escape(prefix) + r"resblocks\.(\d+)\."),
        heads=heads,
        mlp_width=matrix(weights.shapes, f"{prefix}resblocks.0.mlp.c_fc.weight")[0],
        activation=_activation(cfg, activation, part, path),
        norm_eps=epsilon((cfg.get("norm_kwargs") or {}).get("eps", 1e-5), path),
    )


# ------------------------------------------------------------------------------------------------- image towers


def _vision(
    weights: Weights, model: Mapping[str, Any], image_size: tuple[int, int], activation: Activation, path: Path
) -> tuple[TowerConfig, Rename]:
    cfg = model["vision_cfg"]
    shapes = weights.shapes
    if "efficientnet" in cfg:
        return _efficientnet(weights, cfg["efficientnet"], image_size, path), _visual
    if name := cfg.get("timm_model_name"):
        if _SIGLIP.fullmatch(name) and cfg.get("timm_pool") == "map" and cfg.get("timm_proj") in ("none", None):
            return _siglip(weights, name, image_size, path)
        return _timm(model, name, image_size, path), _visual
    if isinstance(cfg.get("layers"), (list, tuple)):
        return _resnet(weights, cfg, image_size, path), _visual
    width = shape_of(shapes, "visual.class_embedding")[0]
    pool_type, queries = cfg.get("pool_type", "tok"), cfg.get("attentional_pool", False)
    if pool_type not in ("tok", "avg") or queries not in (False, True) or (queries and pool_type != "tok"):
        raise CheckpointError(
            f"{path}: vision_cfg asks for pool_type {pool_type!r} with attentional_pool {queries!r}; expected 'tok' or "
            "'avg' without, or 'tok' with attentional_pool = true"
        )
    pool_heads = positive(cfg, "attn_pooler_heads", 8, path) if queries else 0
    vision = VisionTransformerConfig(
        transformer=_stack(
            weights,
            cfg,
            "vision_cfg",
            "visual.transformer.",
            divide(width, positive(cfg, "head_width", 64, path), "head_width", path),
            activation,
            path,
        ),
        image_size=image_size,
        patch_size=patch(shapes, "visual.conv1.weight"),
        dim=matrix(shapes, "visual.proj")[1],
        pool="attention" if queries else {"tok": "class", "avg": "mean"}[pool_type],  # type: ignore[arg-type]
        norm_pre=not cfg.get("no_ln_pre", False),
        norm_last=bool(cfg.get("final_ln_after_pool", False)),
        pool_queries=matrix(shapes, "visual.attn_pool.query")[0] if queries else 0,
        pool_heads=divide(matrix(shapes, "visual.proj")[0], pool_heads, "attn_pooler_heads", path, count=True)
        if queries
        else 0,
    )
    check_positions(vision.positions, image_size, matrix(shapes, "visual.positional_embedding")[0], path)
    return vision, _visual


def _visual(name: str) -> tuple[str, ...]:
    return (f"visual.{name}",)


def _resnet(weights: Weights, cfg: Mapping[str, Any], image_size: tuple[int, int], path: Path) -> ResNetConfig:
    if cfg.get("pool_type", "tok") != "tok" or cfg.get("attentional_pool"):
        raise CheckpointError(f"{path}: vision_cfg asks for another pooling than that of CLIP's ResNets")
    return resnet_config(weights, image_size, positive(cfg, "head_width", 64, path), path)


def resnet_config(weights: Weights, image_size: tuple[int, int], head_width: int, path: Path) -> ResNetConfig:
    """Return the sizes of the ResNet whose tensors are under ``visual.``."""
    dim, features = matrix(weights.shapes, "visual.attnpool.c_proj.weight")
    config = ResNetConfig(
        width=shape_of(weights.shapes, "visual.conv3.weight")[0],
        layers=tuple(weights.count(rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)),  # type: ignore[arg-type]
        heads=divide(features, head_width, "head_width", path),
        image_size=image_size,
        dim=dim,
    )
    found = matrix(weights.shapes, "visual.attnpool.positional_embedding")[0]
    check_positions(config.positions, image_size, found, path)
    return config


def _siglip(weights: Weights, name: str, image_size: tuple[int, int], path: Path) -> tuple[SiglipVisionConfig, Rename]:
    shapes = weights.shapes
    size = _SIGLIP.fullmatch(name)
    mlp_width, width = matrix(shapes, "visual.trunk.blocks.0.mlp.fc1.weight")
    vision = SiglipVisionConfig(
        transformer=TransformerConfig(
            width=width,
            layers=weights.count(r"visual\.trunk\.blocks\.(\d+)\."),
            heads=divide(width, _SIGLIP_HEADS[size[1]] if size else 0, "heads", path, count=True),
            mlp_width=mlp_width,
            activation="gelu_tanh" if _SIGLIP_TANH.match(name) else "gelu",
            norm_eps=_SIGLIP_NORM_EPS,
        ),
        image_size=image_size,
        patch_size=patch(shapes, "visual.trunk.patch_embed.proj.weight"),
    )
    check_positions(vision.positions, image_size, matrix(shapes, "visual.trunk.pos_embed")[0], path)
    return vision, block_names("visual.trunk.blocks.", _TIMM_BLOCK, _TIMM_SIGLIP)


def _timm(model: Mapping[str, Any], name: str, image_size: tuple[int, int], path: Path) -> TimmConfig:
    cfg = model["vision_cfg"]
    projection = cfg.get("timm_proj", "linear") or ""
    if projection not in TIMM_PROJECTIONS or cfg.get("timm_pool") in ("abs_attn", "rot_attn"):
        raise CheckpointError(
            f"{path} asks for timm_pool {cfg.get('timm_pool')!r} with timm_proj {projection!r}, which is not "
            f"supported; expected a pooling of timm's own and one of {', '.join(map(repr, TIMM_PROJECTIONS))}"
        )
    return TimmConfig(
        name=name,
        pool=cfg.get("timm_pool", "avg") or "",
        projection=projection,
        projection_bias=bool(cfg.get("timm_proj_bias", False)),
        image_size=image_size,
        dim=positive(model, "embed_dim", None, path),
    )


def _efficientnet(
    weights: Weights, settings: Mapping[str, Any], image_size: tuple[int, int], path: Path
) -> EfficientNetConfig:
    shapes = weights.shapes
    strides = required(settings, "strides", path)
    if len(strides) != weights.count(r"visual\.blocks\.(\d+)\."):
        raise CheckpointError(f"{path} gives {len(strides)} strides; expected one for each block in the weights")
    blocks: list[InvertedResidualConfig] = []
    for i, stride in enumerate(strides):
        hidden, _, kernel, _ = shape_of(shapes, f"visual.blocks.{i}.depthwise.weight")
        outputs, _, _, _ = shape_of(shapes, f"visual.blocks.{i}.project.weight")
        inputs = blocks[-1].outputs if blocks else shape_of(shapes, "visual.stem.weight")[0]
        blocks.append(InvertedResidualConfig(inputs, hidden, outputs, kernel, stride))
    dim, concepts = matrix(shapes, "visual.concepts.weight")
    return EfficientNetConfig(
        stem=shape_of(shapes, "visual.stem.weight")[0],
        blocks=tuple(blocks),
        features=shape_of(shapes, "visual.head.weight")[0],
        concepts=concepts,
        dim=dim,
        image_size=image_size,
    )


# -------------------------------------------------------------------------------------------------- text towers


def _text(
    weights: Weights, model: Mapping[str, Any], activation: Activation, path: Path
) -> tuple[TextTowerConfig, int, Rename]:
    """Return the configuration of the text tower, its longest text in tokens, and its names."""
    cfg = model["text_cfg"]
    shapes = weights.shapes
    if cfg.get("hf_model_name"):
        return _hf_text(model, path), positive(cfg, "context_length", 77, path), lambda name: (f"text.{name}",)
    prefix = "text." if "text.token_embedding.weight" in shapes else ""  # newer files nest the text tower
    width = matrix(shapes, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight")[1]
    projection, dim = _projection(shapes, f"{prefix}text_projection", cfg.get("proj_type", "linear"), width, path)
    context, end_id = matrix(shapes, f"{prefix}positional_embedding")[0], get_tokenizer().end_id
    pool_type = cfg.get("pool_type", "argmax")
    if pool_type not in _TEXT_POOLS:
        raise CheckpointError(
            f"{path}: text_cfg.pool_type is {pool_type!r}; expected one of {', '.join(map(repr, _TEXT_POOLS))}"
        )
    if pool_type == "eos":
        end_id = positive(cfg, "eos_id", 2, path)
    elif pool_type == "argmax" and cfg.get("hf_tokenizer_name"):
        # The highest id ends a text in CLIP's vocabulary alone.
        raise CheckpointError(f"{path}: text_cfg.pool_type is 'argmax' with another tokenizer than CLIP's")
    pool = _TEXT_POOLS[pool_type]
    if cfg.get("embed_cls", False):
        pool, context = "class", context - 1
    heads = divide(width, positive(cfg, "heads", 8, path), "text heads", path, count=True)
    text = TextConfig(
        transformer=_stack(weights, cfg, "text_cfg", f"{prefix}transformer.", heads, activation, path),
        vocab_size=matrix(shapes, f"{prefix}token_embedding.weight")[0],
        context=context,
        dim=dim,
        end_id=end_id,
        causal=not cfg.get("no_causal_mask", False),
        pool=pool,
        projection=projection,
        pad_id=cfg.get("pad_id", 0),
    )
    vocabulary = get_tokenizer().vocab_size
    if not cfg.get("hf_tokenizer_name") and text.vocab_size != vocabulary:
        raise CheckpointError(
            f"{weights.files[0]} has a vocabulary of {text.vocab_size} tokens; expected CLIP's {vocabulary}, or "
            f"'hf_tokenizer_name' in {path}, which says whose it is"
        )
    return text, context, lambda name: (f"{prefix}{name}",)


def _projection(shapes: Shapes, name: str, kind: Any, width: int, path: Path) -> tuple[TextProjection, int]:
    """Return what leads from the text tower into the joint space, and the size of that."""
    if kind not in ("linear", "none"):
        raise CheckpointError(f"{path}: text_cfg.proj_type is {kind!r}; expected 'linear' or 'none'")
    if kind == "none":
        return "none", width
    if f"{name}.bias" in shapes:
        return "linear", matrix(shapes, f"{name}.weight")[0]
    return "matrix", matrix(shapes, name)[1]


def _hf_text(model: Mapping[str, Any], path: Path) -> HfTextConfig:
    cfg = model["text_cfg"]
    pool, projection = cfg.get("hf_pooler_type", "mean_pooler"), cfg.get("hf_proj_type", "mlp") or ""
    if pool not in HF_POOLS or projection not in HF_PROJECTIONS:
        raise CheckpointError(
            f"{path} asks for hf_pooler_type {pool!r} and hf_proj_type {projection!r}; expected one of "
            f"{', '.join(HF_POOLS)} and one of {', '.join(map(repr, HF_PROJECTIONS))}"
        )
    return HfTextConfig(
        config=hf_config(cfg["hf_model_name"]),
        pool=pool,
        projection=projection,
        dim=positive(model, "embed_dim", None, path),
    )


def _tokenizer(cfg: Mapping[str, Any], folders: list[Path], path: Path) -> TokenizerFile | None:
    name = cfg.get("hf_tokenizer_name") or cfg.get("hf_model_name")
    if not name:
        return None
    options = dict(cfg.get("tokenizer_kwargs") or {})
    clean, drop_separator = options.pop("clean", "whitespace"), options.pop("strip_sep_token", False)
    if clean not in CLEANS or options:
        raise CheckpointError(
            f"{path}: text_cfg.tokenizer_kwargs is {cfg['tokenizer_kwargs']!r}; expected 'clean' (one of "
            f"{', '.join(CLEANS)}) and 'strip_sep_token' alone"
        )
    if Path(name).is_dir():
        folders = [*folders, Path(name)]
    return find_tokenizer(folders, clean=clean, drop_separator=bool(drop_separator))


# ------------------------------------------------------------------------------------------------ preprocessing


def _preprocess(cfg: Mapping[str, Any], image_size: tuple[int, int], path: Path) -> Preprocess:
    if cfg.get("mode", "RGB") != "RGB":
        raise CheckpointError(f"{path} asks for images in mode {cfg['mode']!r}; expected RGB")
    size = pair(cfg["size"][-2:] if isinstance(cfg.get("size"), list) else cfg.get("size") or image_size)
    return Preprocess(
        size=size,
        mean=triple(cfg, "mean", path),
        std=triple(cfg, "std", path),
        interpolation=cfg.get("interpolation")
        or "bicubic",  # files of 2022 leave it out; open_clip defines the default
        resize_mode=cfg.get("resize_mode") or "shortest",
        fill=cfg.get("fill_color") or 0,
    )
