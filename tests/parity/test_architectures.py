"""Every row of the table of published checkpoints can be read: the tensors fit the networks, and nothing is left over.

Names and shapes are those that open_clip gives an architecture, or transformers in its own layout. What the tensors do
not tell, heads, activations and epsilons, is held against what open_clip builds. Rows that need timm are in
`tests/oracle`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from golden.architectures import Architecture, Shapes, architecture, count_parameters
from golden.make_models import TEXT_TOWERS

from zeroshot.errors import CheckpointError
from zeroshot.image import Preprocess
from zeroshot.layouts import open_clip
from zeroshot.layouts import transformers as transformers_layout
from zeroshot.layouts.base import Checkpoint
from zeroshot.registry import ModelEntry, _open_clip_config, available_models

ENTRIES = [entry for entry in available_models() if entry.name != "mini" and "timm" not in entry.needs]
PUBLISHED = {entry.name: entry for entry in ENTRIES if entry.layout == "open_clip"}
OURS = {entry.name: entry for entry in ENTRIES if entry.layout == "transformers"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a tokenizer, which would be opened when there are texts; and answer for the hub."""

    def configuration(name: str) -> str:
        config = transformers.AutoConfig.for_model(**TEXT_TOWERS[name])
        return str(config.to_json_string(use_diff=False))

    monkeypatch.setattr(open_clip, "hf_config", configuration)
    (tmp_path / "tokenizer.json").touch()
    return tmp_path


def read_published(folder: Path, entry: ModelEntry, shapes: dict[str, list[int]]) -> Checkpoint:
    """Read a row of open_clip's table as if its weights, of these shapes, were in the folder."""
    weights = Shapes(folder / "open_clip_model.safetensors", shapes)
    return open_clip.read(folder, weights, config=_open_clip_config(entry), tokenizer=None)


def assert_as_the_row_says(checkpoint: Checkpoint, entry: ModelEntry, shapes: dict[str, list[int]]) -> None:
    """Hold a checkpoint against a row, and its networks against the tensors."""
    assert checkpoint.context == entry.context
    assert checkpoint.preprocess == Preprocess(
        size=(entry.image_size, entry.image_size),
        mean=entry.mean,
        std=entry.std,
        interpolation=entry.interpolation,
        resize_mode=entry.resize_mode,
    )
    assert (checkpoint.tokenizer is None) == (entry.tokenizer == "clip")
    with torch.device("meta"):
        towers = [checkpoint.vision.build(), checkpoint.text.build()]
    built = sum(parameter.numel() for tower in towers for parameter in tower.parameters())
    others = {name: shape for name, shape in shapes.items() if name.startswith(("logit_", "text_decoder."))}
    assert built + count_parameters(others) == count_parameters(shapes)
    assert round(count_parameters(shapes) / 1e6, 2) == entry.parameters_million


@pytest.mark.parametrize("entry", PUBLISHED.values(), ids=PUBLISHED)
def test_a_checkpoint_of_open_clip_fits_its_row(entry: ModelEntry, folder: Path) -> None:
    expected = architecture(entry.architecture)
    checkpoint = read_published(folder, entry, expected.shapes)
    assert_as_the_row_says(checkpoint, entry, expected.shapes)
    for part in ("vision", "text"):
        tower = getattr(checkpoint, part)
        settings = getattr(expected, part)
        if settings.get("activation") == "gelu" and entry.activation == "quick_gelu":
            settings = settings | {"activation": "quick_gelu"}  # the tag knows better than the architecture
        found = {key: getattr(getattr(tower, "transformer", tower), key) for key in settings}
        assert found == settings


def test_a_tensor_of_another_network_is_noticed(folder: Path) -> None:
    entry = PUBLISHED["ViT-B-32/openai"]
    shapes = architecture("ViT-B-32").shapes
    for changed in (
        {name: shape for name, shape in shapes.items() if name != "visual.ln_pre.bias"},
        shapes | {"visual.transformer.resblocks.3.ls_1.gamma": [768]},
        shapes | {"visual.transformer.resblocks.3.attn.out_proj.bias": [767]},
        architecture("ViT-B-16").shapes,
    ):
        with pytest.raises(CheckpointError):
            read_published(folder, entry, changed)
