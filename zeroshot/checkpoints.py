"""Checkpoints on disk -> configurations and weights, by the names that the networks of `zeroshot.nets` use.

Three published layouts are read, told apart by the names of their tensors, whatever the files are called:

=============  ======================================  ==================================================
layout         weights                                 what the weights cannot tell
=============  ======================================  ==================================================
open_clip      ``visual.conv1.weight`` …               ``open_clip_config.json``
transformers   ``vision_model.embeddings…`` …          ``config.json`` and ``preprocessor_config.json``
OpenAI         as open_clip's, and three numbers       nothing: OpenAI's settings are fixed
=============  ======================================  ==================================================

Widths, depths, patch and context come from the shapes of the weights. Heads, activation, epsilons and preprocessing
come from the configuration; a setting that is missing there is an error unless the format itself defines its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeroshot.errors import CheckpointError
from zeroshot.files import OPEN_CLIP_CONFIG, find_weights
from zeroshot.layouts import open_clip, openai, transformers
from zeroshot.layouts.base import Checkpoint as Checkpoint
from zeroshot.weights import Weights


def read_checkpoint(
    path: Path, *, config: Mapping[str, Any] | None = None, tokenizer: Path | None = None
) -> Checkpoint:
    """Read a checkpoint's configuration and the shapes of its weights; the weights themselves stay on disk.

    Parameters
    ----------
    path : Path
        A folder, or a weights file that has its configuration beside it.
    config : mapping, optional
        A configuration in open_clip's form, to read in place of the one beside the weights.
    tokenizer : Path, optional
        Folder that has the checkpoint's tokenizer, if it is not beside the weights.

    Raises
    ------
    CheckpointNotFoundError
        If the path, the weights or the configuration do not exist.
    CheckpointError
        If a file is damaged, the layout is unknown, or weights are missing or unexpected.
    """
    weights = Weights(find_weights(path))
    folder = weights.files[0].parent
    try:
        return _read(folder, weights, config, tokenizer)
    except CheckpointError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"the configuration in {folder} holds a setting of a wrong kind: {error}") from error


def _read(folder: Path, weights: Weights, config: Mapping[str, Any] | None, tokenizer: Path | None) -> Checkpoint:
    names = weights.shapes
    if any(name.startswith("visual.") for name in names):
        if config is None and not (folder / OPEN_CLIP_CONFIG).exists() and openai.is_openai(weights):
            return openai.read(weights)
        return open_clip.read(folder, weights, config=config, tokenizer=tokenizer)
    if any(name.startswith("vision_model.") for name in names) and any(n.startswith("text_model.") for n in names):
        return transformers.read(folder, weights, tokenizer=tokenizer)
    some = ", ".join(list(names)[:3]) or "nothing"
    raise CheckpointError(
        f"{weights.files[0]} holds {some} …, which is neither open_clip's nor transformers' nor OpenAI's layout; "
        "expected both towers, with tensors such as 'visual.conv1.weight' or 'vision_model.embeddings.class_embedding'"
    )
