"""Which files make a checkpoint, and where they are in a folder. Knows names only, so that it imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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


def layout_files(layout: str, weights: Sequence[str] = ()) -> LayoutFiles:
    """Return the part of `LAYOUT_FILES` that is of one layout, or the same for weights files of other names."""
    configs = _OPEN_CLIP_FILES if layout == "open_clip" else _TRANSFORMERS_FILES
    return dict.fromkeys(weights or [name for name in LAYOUT_FILES if LAYOUT_FILES[name] == configs], configs)


def choose_files(names: Collection[str], layouts: LayoutFiles = LAYOUT_FILES) -> tuple[str, list[str]] | None:
    """Return the preferred weights file among `names` and its configuration files; None if no layout is complete.

    Examples
    --------
    >>> choose_files(["config.json", "model.safetensors", "open_clip_config.json", "open_clip_pytorch_model.bin"])
    ('open_clip_pytorch_model.bin', ['open_clip_config.json'])
    """
    for weights, configs in layouts.items():
        chosen = [next((name for name in alternatives if name in names), "") for alternatives in configs]
        if weights in names and all(chosen):
            return weights, chosen
    return None


def tokenizer_source(config: Mapping[str, Any], path: Path) -> str | None:
    """Return whose tokenizer a checkpoint uses.

    Parameters
    ----------
    config : mapping
        What ``open_clip_config.json`` or ``config.json`` holds.
    path : Path
        Of that file, for messages.

    Returns
    -------
    str or None
        None for CLIP's own vocabulary, which needs no file; the name of a repository or folder, for a checkpoint that
        has no tokenizer beside it; or an empty string for one that must have it there.

    Raises
    ------
    CheckpointError
        If the configuration is damaged.
    """
    if path.name != OPEN_CLIP_CONFIG:
        return "" if config.get("model_type") == "siglip" else None
    section: Any = config
    for key in ("model_cfg", "text_cfg"):
        section = section.get(key)
        if not isinstance(section, dict):
            raise CheckpointError(f"{path}: {key} is {section!r:.80}; expected an object")
    name = section.get("hf_tokenizer_name") or section.get("hf_model_name")
    if not isinstance(name, (str, type(None))):
        raise CheckpointError(f"{path}: the tokenizer is {name!r:.80}; expected the name of a repository")
    return name


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
        names = sorted(p.name for p in path.iterdir())
        complete = choose_files(names)
        weights = complete[0] if complete else next((name for name in LAYOUT_FILES if name in names), None)
        if weights is None:
            raise CheckpointNotFoundError(
                f"{path} holds no weights; expected one of {', '.join(LAYOUT_FILES)}, found "
                f"{', '.join(names[:8]) or 'nothing'}"
            )
        path = path / weights
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
