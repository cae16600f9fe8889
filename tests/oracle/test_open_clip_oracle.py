"""open_clip itself: it computes what is in the golden files, and does the same with foreign text towers.

open_clip needs torchvision, which is no test dependency, so these tests run only where it is installed::

    pip install open_clip_torch timm transformers
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import architectures, make_architectures, make_golden
from golden.checkpoints import SMALL, VERSIONS, deviation
from parity.test_hf_text_parity import CASES, TEXTS, Tower, write

import zeroshot

open_clip = pytest.importorskip("open_clip")
# The libraries warn of their own doings; what is ours to warn of is tested beside its module.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        version("open_clip_torch") != VERSIONS["open_clip_torch"], reason="the golden files are of another open_clip"
    ),
]


@pytest.mark.parametrize("name", ["patch16", "resnet", "coca", "clipa", "metaclip2", "siglip2-gopt"])
def test_the_golden_embeddings_are_what_open_clip_computes_today(name: str) -> None:
    reference = SMALL[name]
    config, settings = make_golden.MODELS[name], make_golden.SETTINGS.get(name, {})
    with make_golden.built(name, config, **settings) as (model, preprocess, tokenizer):
        assert make_golden.describe(model, name) | make_golden.fill(model) == reference.entry
        values = make_golden.embed(model, preprocess, tokenizer, make_golden.PICTURES, make_golden.TEXTS)
    np.testing.assert_array_equal(values.pop("tokens"), reference.values["tokens"])
    scales = {"images": 1, "texts": 1, "logits": reference.entry["logit_scale"]}
    for part, array in values.items():
        assert np.abs(array - reference.values[part]).max() < 2e-6 * scales[part]


@pytest.mark.parametrize("name", ["patch16", "patch8-head80-context32", "coca", "clipa", "mean-first-tanh"])
def test_features_are_what_open_clip_has_before_the_projection(name: str, tmp_path: Path) -> None:
    encoder = zeroshot.load(SMALL[name].write(tmp_path / "checkpoint"), device="cpu")
    config, settings = make_golden.MODELS[name], make_golden.SETTINGS.get(name, {})
    with make_golden.built(name, config, **settings) as (model, preprocess, _), torch.inference_mode():
        make_golden.fill(model)
        pixels = torch.stack([preprocess(picture) for picture in SMALL[name].pictures])
        projected = model.encode_image(pixels)
        model.visual.proj = None
        output = model.visual(pixels)
    theirs = output[0] if isinstance(output, tuple) else output  # CoCa gives the tokens for captions too
    ours = encoder.encode_features(SMALL[name].pictures)
    assert ours.shape == (len(pixels), encoder.feature_dim)
    assert deviation(ours, theirs.numpy()) < 1e-5
    assert ours.shape != projected.shape or (ours - projected).abs().max() > 0.1


@pytest.mark.parametrize("name", ["RN50", "coca_ViT-B-32", "ViT-B-16-SigLIP2", "roberta-ViT-B-32", "MobileCLIP-B"])
def test_the_golden_architectures_are_what_open_clip_builds_today(name: str) -> None:
    golden = architectures.architecture(name)
    model = make_architectures.build(name)
    assert {key: list(tensor.shape) for key, tensor in model.state_dict().items()} == golden.shapes
    assert make_architectures.image_settings(model.visual) == golden.vision
    assert make_architectures.text_settings(getattr(model, "text", model)) == golden.text


@pytest.mark.parametrize("name", CASES)
def test_foreign_text_towers_do_what_they_do_in_open_clip(name: str, tmp_path: Path) -> None:
    folder = write(Tower(CASES[name]), tmp_path / "checkpoint", hf_model_pretrained=False)
    model: Any = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(list(TEXTS))
    encoder = zeroshot.load(folder, device="cpu")
    assert (torch.from_numpy(encoder.tokenize(TEXTS)) == tokens).all()
    with torch.inference_mode():
        theirs = model.encode_text(tokens, normalize=True)
    assert (encoder.encode_texts(TEXTS) - theirs).abs().max() < 2e-6
