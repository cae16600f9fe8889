"""Which files make a checkpoint, and where they are in a folder. Knows names only, so that it imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from zeroshot.errors import CheckpointError, CheckpointNotFoundError

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
# The second name is that of transformers 5, which nests the settings of images in it.
TRANSFORMERS_PREPROCESS = ("preprocessor_config.json", "processor_config.json")

TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
# What the tokenizer file itself does not say, in the order in which it is looked for.
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")

LayoutFiles: TypeAlias = "Mapping[str, tuple[tuple[str, ...], ...]]"

_OPEN_CLIP_FILES: tuple[tuple[str, ...], ...] = ((OPEN_CLIP_CONFIG,),)
_TRANSFORMERS_FILES = ((TRANSFORMERS_CONFIG,), TRANSFORMERS_PREPROCESS)
# Weights and the configuration files that go with them, each by its possible names, in the order in which a folder or a
# repository is searched: safetensors first; and repositories of open_clip may hold both layouts.
LAYOUT_FILES: LayoutFiles = {
    "open_clip_model.safetensors": _OPEN_CLIP_FILES,
    "open_clip_pytorch_model.safetensors": _OPEN_CLIP_FILES,
    "open_clip_model.safetensors.index.json": _OPEN_CLIP_FILES,
    "model.safetensors": _TRANSFORMERS_FILES,
    "model.safetensors.index.json": _TRANSFORMERS_FILES,
    "open_clip_pytorch_model.bin": _OPEN_CLIP_FILES,
    "open_clip_pytorch_model.bin.index.json": _OPEN_CLIP_FILES,
    "pytorch_model.bin": _TRANSFORMERS_FILES,
    "pytorch_model.bin.index.json": _TRANSFORMERS_FILES,
}


def layouts_of(files: Sequence[str], layout: str) -> LayoutFiles:
    """Return the part of `LAYOUT_FILES` to search: all of it, or weights files of other names in a known layout."""
    configs = _OPEN_CLIP_FILES if layout == "open_clip" else _TRANSFORMERS_FILES
    return dict.fromkeys(files, configs) if files else LAYOUT_FILES


def tokenizer_source(folder: Path) -> str | None:
    """Return whose tokenizer a checkpoint in `folder` uses.

    Returns
    -------
    str or None
        None for CLIP's own vocabulary, which needs no file; a repository or folder; or an empty string for the files
        beside the weights.
    """
    if (folder / OPEN_CLIP_CONFIG).is_file():
        text = (read_json(folder / OPEN_CLIP_CONFIG).get("model_cfg") or {}).get("text_cfg") or {}
        name: str | None = text.get("hf_tokenizer_name") or text.get("hf_model_name")
        return name
    return "" if read_json(folder / TRANSFORMERS_CONFIG).get("model_type") == "siglip" else None


def find_weights(path: Path) -> list[Path]:
    """Return the weights files of a checkpoint, given its folder, its weights file or the index of its shards.

    Raises
    ------
    CheckpointNotFoundError
        If there are none.
    CheckpointError
        If an index is damaged, or names files elsewhere.
    """
    if path.is_dir():
        folder = path
        path = next((folder / name for name in LAYOUT_FILES if (folder / name).is_file()), folder)
        if path == folder:
            found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
            raise CheckpointNotFoundError(
                f"{folder} holds no weights; expected one of {', '.join(LAYOUT_FILES)}, found {found}"
            )
    if not path.is_file():
        raise CheckpointNotFoundError(f"{path} does not exist; expected a checkpoint folder or a weights file")
    return [path.parent / name for name in shard_names(path)]


def shard_names(path: Path) -> list[str]:
    """Return the names of the weights files behind `path`: its own, or those that an index lists."""
    if path.name.endswith(".index.json"):
        weight_map = required(read_json(path), "weight_map", path)
        if (
            not isinstance(weight_map, dict)
            or not weight_map
            or not all(isinstance(s, str) for s in weight_map.values())
        ):
            raise CheckpointError(
                f"{path}: weight_map is {weight_map!r:.80}; expected an object of tensor to file name"
            )
        shards = sorted(set(weight_map.values()))
        for shard in shards:
            if PurePosixPath(shard).name != shard or shard in ("", ".", ".."):
                raise CheckpointError(f"{path} names the shard {shard!r}; expected a file name without a folder")
        return shards
    return [path.name]


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; a missing or damaged file is an error that says so."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(
            f"{path} does not exist; it holds what weights cannot tell (activation, heads, preprocessing). "
            "Copy it from where the weights came from"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:  # syntax, encoding, numbers and nesting beyond all limits
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a {type(data).__name__}; expected a JSON object")
    return data


def required(section: Mapping[str, Any], key: str, path: Path) -> Any:
    """Return a setting; its absence is an error."""
    if section.get(key) is None:
        raise CheckpointError(f"{path} has no {key!r}, and the weights cannot tell it; add it to the configuration")
    return section[key]
