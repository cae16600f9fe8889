"""Image towers that are timm's: every row of the table fits, and embeddings equal those of open_clip with timm.

timm and open_clip need torchvision, which is no test dependency, so these tests run only where they are installed::

    pip install open_clip_torch timm
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import safetensors.torch
import torch
from golden.architectures import architecture, found, published, read
from golden.checkpoints import Deviations
from golden.images import picture

import zeroshot
from zeroshot.errors import CheckpointError
from zeroshot.layouts.open_clip import _SIGLIP, _SIGLIP_HEADS, _SIGLIP_TANH
from zeroshot.registry import ModelEntry, available_models

timm = pytest.importorskip("timm")
# The libraries warn of their own doings; what is ours to warn of is tested beside its module.
pytestmark = pytest.mark.filterwarnings("default")

ROWS = [entry for entry in available_models() if "timm" in entry.needs]
TOLERANCE, NOTICEABLE = 2e-6, 2e-5
PICTURES = [picture(*size) for size in ((64, 64), (100, 75), (320, 241))]
TEXTS = ["a photo of a cat.", "a dog", ""]
# open_clip's architectures with a short text tower, and arguments that make timm's network smaller.
VIT = {"embed_dim": 96, "depth": 2, "num_heads": 4}
SMALLER: dict[str, dict[str, Any]] = {
    "convnext_base": {"depths": (1, 1, 2, 1), "dims": (32, 64, 96, 128)},
    "convnext_large_d": {"depths": (1, 1, 2, 1), "dims": (32, 64, 96, 128)},
    "EVA01-g-14": VIT,
    "EVA02-B-16": VIT,
    "EVA02-E-14": VIT,
    "MobileCLIP-B": {"depth": 2},
    "MobileCLIP-S1": {"layers": (1, 1, 2, 1)},
    "MobileCLIP2-S3": {"layers": (1, 1, 2, 1, 1)},
    "MobileCLIP2-L-14": VIT,
    "PE-Core-T-16-384": {"depth": 2},
    "ViTamin-S": {},
}


# ---------------------------------------------------------------------------------------------------- all of the table


@pytest.mark.parametrize("entry", ROWS, ids=lambda entry: entry.name)
def test_a_checkpoint_fits_its_row(entry: ModelEntry, tmp_path: Path) -> None:
    shapes = architecture(entry.architecture).shapes
    assert found(read(entry, tmp_path, shapes), shapes) == published(entry)


def test_the_towers_of_siglip_are_as_timm_has_them() -> None:
    names = [name for name in timm.list_models("vit_*_siglip_*") if "_gap_" not in name]
    assert len(names) > 10
    for name in names:
        with torch.device("meta"):
            block = timm.create_model(name).blocks[0]
        size = _SIGLIP.fullmatch(name)
        assert size is not None
        assert block.attn.num_heads == _SIGLIP_HEADS[size[1]]
        assert ("tanh" in repr(block.mlp.act).lower()) == (_SIGLIP_TANH.match(name) is not None)


# ----------------------------------------------------------------------------------------------------------- the ladder


class Reference:
    """A small random model that open_clip built, in the folder that open_clip writes, and what it embeds."""

    def __init__(self, name: str, folder: Path) -> None:
        import open_clip
        from open_clip.push_to_hf_hub import save_config_for_hf

        self.folder = folder
        folder.mkdir()
        config = open_clip.get_model_config(name)
        config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 4}
        (folder / f"small-{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder)
        self.smaller = mock.patch.object(timm, "create_model", functools.partial(timm.create_model, **SMALLER[name]))
        with self.smaller, torch.random.fork_rng():
            torch.manual_seed(0)
            model, _, preprocess = open_clip.create_model_and_transforms(f"small-{name}")
        pixels = torch.stack([preprocess(image) for image in PICTURES])
        draw(model, pixels)
        state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
        save_config_for_hf(model, folder / "open_clip_config.json", model_config=config)
        with torch.inference_mode():
            tokens = open_clip.get_tokenizer(f"small-{name}")(TEXTS)
            self.images = model.encode_image(pixels, normalize=True)
            self.texts = model.encode_text(tokens, normalize=True)
            # What goes into the last linear layer, if there is one: open_clip's own, or the network's classifier.
            last = model.visual.head if len(model.visual.head) else model.visual.trunk.get_classifier()
            seen: list[torch.Tensor] = []
            handle = last.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
            model.encode_image(pixels)
            handle.remove()
            self.features = seen[0] if seen else model.encode_image(pixels)

    def deviations(self) -> Deviations:
        """Load the folder and compare."""
        with self.smaller:
            encoder = zeroshot.load(self.folder, device="cpu")
            images, texts = encoder.encode_images(PICTURES), encoder.encode_texts(TEXTS)
        logits = images @ texts.T - self.images @ self.texts.T
        return Deviations(
            images=float((images - self.images).abs().max()),
            texts=float((texts - self.texts).abs().max()),
            logits=float(logits.abs().max()),
        )


def draw(model: Any, pixels: torch.Tensor) -> None:
    """Draw the weights of a network anew, large enough for the inputs to matter; batch norms take on what they see."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 100
        parameter.data += torch.randn(parameter.shape, generator=generator) * inputs**-0.5
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches, of which there is one
    with torch.no_grad():
        model.train().encode_image(pixels)
    model.eval()


def deviations(folder: Path) -> Iterator[tuple[str, Deviations]]:
    """Yield each model's name and how far it is from open_clip; `folder` is an empty one to work in."""
    for name in SMALLER:
        yield name, Reference(name, folder / name).deviations()


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Reference]:
    """Return a function that makes a reference."""
    pytest.importorskip("open_clip")
    return lambda name: Reference(name, tmp_path / "checkpoint")


@pytest.mark.parametrize("name", SMALLER)
def test_embeddings_equal_those_of_open_clip(name: str, make: Callable[[str], Reference]) -> None:
    reference = make(name)
    assert max(reference.deviations()) < TOLERANCE
    distances = (reference.images[:, None] - reference.images).abs().amax(dim=-1)
    assert distances.fill_diagonal_(1).min() > 100 * TOLERANCE


@pytest.mark.parametrize("name", SMALLER)
def test_features_are_what_is_projected(name: str, make: Callable[[str], Reference]) -> None:
    reference = make(name)
    with reference.smaller:
        encoder = zeroshot.load(reference.folder, device="cpu")
        features = encoder.encode_features(PICTURES)
        assert features.shape == (len(PICTURES), encoder.feature_dim) == reference.features.shape
    assert (features - reference.features).abs().max() < 1e-5 * reference.features.abs().max()
    assert (features[:, None] - features).abs().amax(dim=-1).fill_diagonal_(1).min() > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("convnext_base", r"visual\.trunk\.stages\.0\.blocks\.0\.conv_dw\.weight"),
        ("convnext_base", r"visual\.head\.proj\.weight"),
        ("convnext_large_d", r"visual\.head\.mlp\.fc2\.weight"),
        ("EVA02-B-16", r"visual\.trunk\.blocks\.1\.attn\..*\.weight"),
        ("MobileCLIP-S1", r".*running_var"),
    ],
)
def test_a_changed_weight_is_noticed(name: str, pattern: str, make: Callable[[str], Reference]) -> None:
    reference = make(name)
    path = reference.folder / "open_clip_model.safetensors"
    state = safetensors.torch.load_file(path)
    changed = {
        key: tensor + 0.1 * torch.rand_like(tensor) for key, tensor in state.items() if re.fullmatch(pattern, key)
    }
    assert changed
    safetensors.torch.save_file(state | changed, path)
    images, texts, _ = reference.deviations()
    assert images > NOTICEABLE
    assert texts < TOLERANCE


def test_another_pooling_is_noticed(make: Callable[[str], Reference]) -> None:
    reference = make("EVA02-B-16")
    path = reference.folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    assert config["model_cfg"]["vision_cfg"]["timm_pool"] == "token"
    config["model_cfg"]["vision_cfg"]["timm_pool"] = "map"
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"Missing: visual\.trunk\.attn_pool"):
        reference.deviations()
