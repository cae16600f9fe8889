"""OpenAI's own files: names as in open_clip's layout, and no configuration; everything follows from the shapes.

What shapes cannot tell is fixed by the one library that wrote such files (openai/CLIP, model.py): QuickGELU, heads of
64 channels, the preprocessing.
"""

from __future__ import annotations

import math
from pathlib import Path

from zeroshot.errors import CheckpointError
from zeroshot.image import Preprocess
from zeroshot.layouts.base import Checkpoint, Shapes, divide, finish, matrix, patch, shape_of
from zeroshot.layouts.open_clip import resnet_config
from zeroshot.nets.resnet import ResNetConfig
from zeroshot.nets.text import TextConfig
from zeroshot.nets.transformer import TransformerConfig
from zeroshot.nets.vit import VisionTransformerConfig
from zeroshot.tokenizer import get_tokenizer
from zeroshot.weights import Weights

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HEAD_WIDTH = 64
# Numbers that the archives carry beside the weights; nothing else does.
_MARKS = ("input_resolution", "context_length", "vocab_size")


def is_openai(weights: Weights) -> bool:
    """Whether a file is OpenAI's: it has their three numbers, or their mixture of half and single precision."""
    if all(name in weights.shapes for name in _MARKS):
        return True
    names = ("text_projection", "token_embedding.weight", "ln_final.weight")
    precisions = [str(weights.dtypes[name]) for name in names if name in weights.dtypes]
    return precisions == ["torch.float16", "torch.float32", "torch.float32"]


def read(weights: Weights) -> Checkpoint:
    """Read one of OpenAI's files, a TorchScript archive or the state dict of one."""
    shapes, path = weights.shapes, weights.files[0]
    width, dim = matrix(shapes, "text_projection")
    text = TextConfig(
        transformer=_stack(weights, "transformer", width, path),
        vocab_size=matrix(shapes, "token_embedding.weight")[0],
        context=matrix(shapes, "positional_embedding")[0],
        dim=dim,
        end_id=get_tokenizer().end_id,
    )
    if text.vocab_size != get_tokenizer().vocab_size:
        raise CheckpointError(
            f"{path} has a vocabulary of {text.vocab_size} tokens; expected CLIP's {get_tokenizer().vocab_size}"
        )
    vision = _vision(weights, path)
    return finish(
        weights,
        vision=vision,
        text=text,
        context=text.context,
        preprocess=Preprocess(size=vision.image_size, mean=MEAN, std=STD),
        tokenizer=None,
        rename_vision=lambda name: (f"visual.{name}",),
        rename_text=lambda name: (name,),
        ignored=rf"^({'|'.join(_MARKS)})$",
    )


def _vision(weights: Weights, path: Path) -> VisionTransformerConfig | ResNetConfig:
    shapes = weights.shapes
    if "visual.attnpool.positional_embedding" in shapes:
        side = 32 * _grid(shapes, "visual.attnpool.positional_embedding")
        return resnet_config(weights, (side, side), _HEAD_WIDTH, path)
    patch_size = patch(shapes, "visual.conv1.weight")
    width = shape_of(shapes, "visual.class_embedding")[0]
    grid = _grid(shapes, "visual.positional_embedding")
    return VisionTransformerConfig(
        transformer=_stack(weights, "visual.transformer", width, path),
        image_size=(grid * patch_size[0], grid * patch_size[1]),
        patch_size=patch_size,
        dim=matrix(shapes, "visual.proj")[1],
    )


def _grid(shapes: Shapes, name: str) -> int:
    """Return the side of the square grid that the position embeddings, less that of one more token, stand for."""
    positions = matrix(shapes, name)[0]
    side = math.isqrt(positions - 1)
    if side * side != positions - 1:
        raise CheckpointError(f"{name} has {positions} rows; expected a square number and one")
    return side


def _stack(weights: Weights, prefix: str, width: int, path: Path) -> TransformerConfig:
    return TransformerConfig(
        width=width,
        layers=weights.count(prefix.replace(".", r"\.") + r"\.resblocks\.(\d+)\."),
        heads=divide(width, _HEAD_WIDTH, "the width of a head", path),
        mlp_width=matrix(weights.shapes, f"{prefix}.resblocks.0.mlp.c_fc.weight")[0],
        activation="quick_gelu",
    )
