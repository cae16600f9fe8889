"""What a checkpoint is once its layout is understood, and the questions that every layout asks of its files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from zeroshot.cache import file_stamps
from zeroshot.errors import CheckpointError
from zeroshot.files import required
from zeroshot.image import Preprocess
from zeroshot.nets.efficientnet import EfficientNet
from zeroshot.nets.kept import fuse
from zeroshot.nets.resnet import ModifiedResNet
from zeroshot.tokenizer_file import TokenizerFile
from zeroshot.weights import Weights

# Native name -> names in the file. Several names are concatenated along the rows.
Rename = Callable[[str], tuple[str, ...]]
Shapes = Mapping[str, tuple[int, ...]]
_PROJECTIONS = ("proj", "text_projection")
# Buffers that old releases wrote along; they follow from the shapes, or matter in training alone.
_BUFFERS = re.compile(r"(^|\.)(attn_mask|position_ids|num_batches_tracked)$")


class TowerConfig(Protocol):
    """Sizes of one tower; a frozen dataclass, so that its `repr` tells all of it."""

    @property
    def dim(self) -> int:
        """Size of the embedding that images and texts share."""
        ...

    def build(self) -> nn.Module:
        """Return the tower, without weights."""
        ...


class TextTowerConfig(TowerConfig, Protocol):
    """Sizes of a text tower."""

    @property
    def vocab_size(self) -> int:
        """Rows of the token embedding."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says: sizes of both towers, preprocessing, tokenizer, scale, and where the weights are.

    Attributes
    ----------
    vision : TowerConfig
    text : TextTowerConfig
    context : int
        Longest text, in tokens.
    preprocess : Preprocess
    tokenizer : TokenizerFile or None
        None for CLIP's own, which needs no file.
    logit_scale : float
        Already exponentiated.
    logit_bias : float or None
    stamps : tuple
        State of the weights files when they were opened.
    dtype : torch.dtype
        Precision that the matrices are stored in; of several the lowest, as OpenAI's files have embeddings in float32.
    """

    vision: TowerConfig
    text: TextTowerConfig
    context: int
    preprocess: Preprocess
    tokenizer: TokenizerFile | None
    logit_scale: float
    logit_bias: float | None
    stamps: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    weights: Weights
    rename_vision: Rename
    rename_text: Rename
    transposed: bool  # whether the projections are kept (out, in), as nn.Linear does, and not (in, out)

    def load_vision(self, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Build the image tower, in eval mode, and fill it with its weights."""
        tower = self._fill(self.vision.build(), self.rename_vision, device, dtype)
        if isinstance(tower, ModifiedResNet):
            tower.fold_norms()
        # Convolutions of many channels run faster with the channels last; a ViT gains nothing.
        if isinstance(tower, (EfficientNet, ModifiedResNet)):
            tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out
            fuse(tower)
        return tower

    def load_text(self, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Build the text tower, in eval mode, and fill it with its weights."""
        return self._fill(self.text.build(), self.rename_text, device, dtype)

    def _fill(self, tower: nn.Module, rename: Rename, device: torch.device, dtype: torch.dtype) -> nn.Module:
        state = {}
        for name, parameter in tower.state_dict().items():
            tensor = self.weights.read(rename(name))
            if self.transposed and name in _PROJECTIONS:  # by layout, never by shape: it may be square
                tensor = tensor.T
            precision = dtype if tensor.is_floating_point() else tensor.dtype
            state[name] = tensor.reshape(parameter.shape).to(device=device, dtype=precision)
        tower.load_state_dict(state, strict=True, assign=True)
        tower.to(device=device, dtype=dtype)  # for tables that a foreign network computes for itself
        return tower.eval().requires_grad_(False)


def finish(
    weights: Weights,
    *,
    vision: TowerConfig,
    text: TextTowerConfig,
    context: int,
    preprocess: Preprocess,
    tokenizer: TokenizerFile | None,
    rename_vision: Rename,
    rename_text: Rename,
    transposed: bool = False,
    ignored: str | None = None,
) -> Checkpoint:
    """Hold the names in the file against those that the networks need, then read the scale.

    Parameters
    ----------
    ignored : str, optional
        Pattern of the names of tensors that have no part in the embeddings.

    Raises
    ------
    CheckpointError
        If tensors are missing, unexpected or of another shape, or the towers do not meet in one space.
    """
    needed = {"logit_scale"}
    for config, rename in ((vision, rename_vision), (text, rename_text)):
        with torch.device("meta"):  # for the names and shapes; foreign networks would draw random weights
            tower = config.build()
        for name, parameter in tower.state_dict().items():
            sources = rename(name)
            needed.update(sources)
            if all(source in weights.shapes for source in sources):
                expected = tuple(parameter.shape)
                if transposed and name in _PROJECTIONS:
                    expected = expected[::-1]
                _check_shape(sources, [weights.shapes[source] for source in sources], expected)
    extra = re.compile(ignored or r"(?!)")
    missing = sorted(needed - weights.shapes.keys())
    unexpected = sorted(
        name
        for name in weights.shapes.keys() - needed - {"logit_bias"}
        if not _BUFFERS.search(name) and not extra.search(name)
    )
    if missing or unexpected:
        raise CheckpointError(
            f"{weights.files[0]} does not fit its networks. Missing: {_shorten(missing)}. "
            f"Unexpected: {_shorten(unexpected)}"
        )
    if text.dim != vision.dim:
        raise CheckpointError(
            f"texts are embedded in {text.dim} dimensions and images in {vision.dim}; expected the same"
        )
    matrices = [weights.dtypes[name] for name in needed if len(weights.shapes[name]) > 1]
    return Checkpoint(
        vision=vision,
        text=text,
        context=context,
        preprocess=preprocess,
        tokenizer=tokenizer,
        logit_scale=float(torch.tensor(_scalar(weights, "logit_scale")).exp()),  # in float32, as everybody does
        logit_bias=_scalar(weights, "logit_bias") if "logit_bias" in weights.shapes else None,
        stamps=file_stamps(weights.files),
        dtype=min(matrices, key=lambda dtype: dtype.itemsize),
        weights=weights,
        rename_vision=rename_vision,
        rename_text=rename_text,
        transposed=transposed,
    )


def _check_shape(sources: tuple[str, ...], shapes: list[tuple[int, ...]], expected: tuple[int, ...]) -> None:
    """Compare with what the other weights say; an axis of length 1 in front means nothing."""
    if len(shapes) > 1 and all(shape[1:] == expected[1:] for shape in shapes):
        if sum(shape[0] for shape in shapes) == expected[0]:
            return
    elif _core(shapes[0]) == _core(expected):
        return
    found = shapes[0] if len(shapes) == 1 else " + ".join(map(str, shapes))
    raise CheckpointError(f"{' + '.join(sources)} has shape {found}; expected {expected} from the other weights")


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _scalar(weights: Weights, name: str) -> float:
    shape = weights.shapes[name]
    if math.prod(shape) != 1:
        raise CheckpointError(f"{name} has shape {shape}; expected a single number")
    return float(weights.read((name,)).float())


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


# --------------------------------------------------------------------------------- questions to files and weights


def positive(section: Mapping[str, Any], key: str, default: int | None, path: Path) -> int:
    """Return a setting that is a positive whole number."""
    value = section.get(key, default)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{path}: {key} is {value!r}; expected a positive whole number")
    return value


def epsilon(value: Any, path: Path) -> float:
    """Return the epsilon of the layer norms."""
    if not isinstance(value, (int, float)) or not 0 < value < 1:
        raise CheckpointError(f"{path}: the eps of the layer norms is {value!r}; expected a small positive number")
    return float(value)


def divide(width: int, by: int, key: str, path: Path, *, count: bool = False) -> int:
    """Return the number of heads, given either that number (`count`) or the width of one."""
    if width % by:
        raise CheckpointError(f"{path}: {key} is {by}, which does not divide the width {width} of the weights")
    return by if count else width // by


def shape_of(shapes: Shapes, name: str) -> tuple[int, ...]:
    """Return the shape of a tensor that the layout must have."""
    if name not in shapes:
        raise CheckpointError(f"the weights lack {name}; expected it in this layout")
    return shapes[name]


def matrix(shapes: Shapes, name: str) -> tuple[int, int]:
    """Return rows and columns of a matrix."""
    shape = _core(shape_of(shapes, name))
    if len(shape) != 2:
        raise CheckpointError(f"{name} has shape {shapes[name]}; expected two axes")
    return shape[0], shape[1]


def patch(shapes: Shapes, name: str) -> tuple[int, int]:
    """Return height and width of the convolution that cuts the image into patches."""
    shape = shape_of(shapes, name)
    if len(shape) != 4 or shape[1] != 3:
        raise CheckpointError(f"{name} has shape {shape}; expected (width, 3, height, width)")
    return shape[2], shape[3]


def check_positions(expected: int, image_size: tuple[int, int], found: int, path: Path) -> None:
    """Hold the image size of the configuration against the position embeddings of the weights."""
    if found != expected:
        raise CheckpointError(
            f"{path} says images of {image_size[0]} x {image_size[1]}, which make {expected} positions; "
            f"the weights have {found}"
        )


def pair(value: Any) -> tuple[int, int]:
    """Return height and width, given either both or one for both."""
    return (int(value), int(value)) if isinstance(value, (int, float)) else (int(value[0]), int(value[1]))


def triple(cfg: Mapping[str, Any], key: str, path: Path) -> tuple[float, float, float]:
    """Return a setting for three channels, given either three numbers or one for all."""
    value = required(cfg, key, path)
    values = [float(value)] * 3 if isinstance(value, (int, float)) else [float(v) for v in value]
    if len(values) != 3:
        raise CheckpointError(f"{path}: {key} is {value}; expected three numbers")
    return values[0], values[1], values[2]


def block_names(prefix: str, table: Mapping[str, tuple[str, ...]], others: Mapping[str, tuple[str, ...]]) -> Rename:
    """Return a function from native names to those of a layout that calls everything otherwise.

    Parameters
    ----------
    prefix : str
        What stands before the number of a block.
    table : mapping
        Part of a block -> its names there, without ``weight`` and ``bias``; several make one fused projection.
    others : mapping
        Name outside the blocks -> its names there; either whole, or without ``weight`` and ``bias``.
    """

    def rename(name: str) -> tuple[str, ...]:
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", name)
        if block is not None:
            layer, part, kind = block.groups()
            return tuple(f"{prefix}{layer}.{source}.{kind}" for source in table[part])
        if name in others:
            return others[name]
        part, kind = re.split(r"[._](?=weight$|bias$)", name)
        return tuple(f"{source}.{kind}" for source in others[part])

    return rename
