"""Maps equal those that the method's equations give on transformers' models, from the attentions that these return.

The reference knows nothing of our networks: attentions of `attn_implementation="eager"`, their gradients by autograd,
and Chefer, Gur and Wolf's equations 5 to 10 (arXiv:2103.15679), written down a second time.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from golden.checkpoints import deviation
from golden.images import picture
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from parity.live import fill, load
from zeroshot.explain import explain
from zeroshot.head import Head

TOKENIZER = Path(__file__).parents[1] / "golden" / "tokenizers" / "hf_siglip"
SIZE, LABEL = 48, 1
STACK = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 3}
IMAGES = STACK | {"image_size": SIZE, "patch_size": 16}


def head(scale: float, dim: int = 64, bias: float | None = None) -> Head:
    """Four classes, drawn."""
    weight = F.normalize(torch.randn(4, dim, generator=torch.Generator().manual_seed(5)), dim=-1)
    return Head(weight, tuple("abcd"), scale, bias, model="drawn", fingerprint="")


def clip(folder: Path) -> CLIPModel:
    texts = STACK | {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407}
    config = CLIPConfig(text_config=texts, vision_config=IMAGES, projection_dim=64, attn_implementation="eager")
    model = CLIPModel(config).eval()
    fill(model)
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    CLIPImageProcessorPil(**sizes).save_pretrained(folder)
    return model


def siglip(folder: Path) -> SiglipModel:
    texts = STACK | {"vocab_size": len(AutoTokenizer.from_pretrained(TOKENIZER)), "bos_token_id": 0, "eos_token_id": 1}
    config = SiglipConfig(text_config=texts, vision_config=IMAGES, attn_implementation="eager")
    model = SiglipModel(config).eval()
    fill(model, gain=1.5)
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    shutil.copytree(TOKENIZER, folder, dirs_exist_ok=True)
    return model


def number(embedding: Tensor, weights: Head, of: str) -> Tensor:
    """What is explained; the long way."""
    logits = weights.logit_scale * (embedding / embedding.norm()) @ weights.weight.T
    if of == "similarity":
        return logits[0, LABEL] + (weights.logit_bias or 0)
    probability = logits.double().softmax(dim=-1)[0, LABEL]
    return (probability / (1 - probability)).log()


def weigh(value: Tensor, attention: Tensor) -> Tensor:
    """Equation 5: (1, heads, Tq, T) -> (Tq, T)."""
    (gradient,) = torch.autograd.grad(value, attention, retain_graph=True)
    return (gradient * attention).clamp(min=0).mean(dim=1)[0].detach()


def clip_reference(model: CLIPModel, pixels: Tensor, weights: Head, of: str, layers: int) -> Tensor:
    out = model.vision_model(pixel_values=pixels, output_attentions=True)
    value = number(model.visual_projection(out.pooler_output), weights, of)
    relevance = torch.eye(10)
    for attention in out.attentions[-layers:]:
        relevance = relevance + weigh(value, attention) @ relevance  # equation 6
    return relevance[0, 1:].view(3, 3)


def siglip_reference(model: SiglipModel, pixels: Tensor, weights: Head, of: str, layers: int) -> Tensor:
    out = model.vision_model(pixel_values=pixels, output_attentions=True)
    pool, tokens = model.vision_model.head, out.last_hidden_state
    w_q, w_k, w_v = pool.attention.in_proj_weight.chunk(3)
    b_q, b_k, b_v = pool.attention.in_proj_bias.chunk(3)

    def split(x: Tensor) -> Tensor:
        return x.view(1, -1, 4, 16).transpose(1, 2)

    q, k, v = split(pool.probe @ w_q.T + b_q), split(tokens @ w_k.T + b_k), split(tokens @ w_v.T + b_v)
    attention = (q @ k.transpose(2, 3) / 4).softmax(dim=-1)
    pooled = pool.attention.out_proj((attention @ v).transpose(1, 2).reshape(1, 1, 64))
    embedding = (pooled + pool.mlp(pool.layernorm(pooled)))[:, 0]
    assert deviation(embedding.detach(), out.pooler_output.detach().numpy()) < 1e-5  # the reference is the model
    value = number(embedding, weights, of)
    relevance = torch.eye(9)
    for one in out.attentions[len(out.attentions) - layers + 1 :]:
        relevance = relevance + weigh(value, one) @ relevance
    own = relevance - torch.eye(9)  # equation 8
    normed = torch.stack([row / row.sum() if row.sum() > 0 else row for row in own]) + torch.eye(9)  # equation 9
    return (weigh(value, attention) @ normed).view(3, 3)  # equation 10


FAMILIES: dict[str, Any] = {"clip": (clip, clip_reference), "siglip": (siglip, siglip_reference)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Each model once, and its folder; not to be changed."""
    folders = {family: tmp_path_factory.mktemp(family) for family in FAMILIES}
    return {family: (FAMILIES[family][0](folder), folder) for family, folder in folders.items()}


def far(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number."""
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("of", ["similarity", "probability"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_equal_the_equations_on_transformers(family: str, layers: int, of: Any, made: Any, tmp_path: Path) -> None:
    model, folder = made[family]
    encoder, weights = load(folder), head(37.0, bias=-9.25 if family == "siglip" else None)
    image = picture(SIZE, SIZE)
    pixels = torch.from_numpy(encoder.preprocess(image))[None]
    reference = FAMILIES[family][1]
    expected = reference(model, pixels, weights, of, layers)
    found = explain(encoder, weights, image, LABEL, of=of, layers=layers)
    assert expected.max() > 0
    assert far(torch.from_numpy(found.grid), expected) < 1e-5
    # The comparison sees what it should: another number of layers, another class, another number explained.
    if layers < (3 if family == "clip" else 4):
        assert far(reference(model, pixels, weights, of, layers + 1), expected) > 1e-3
    assert far(torch.from_numpy(explain(encoder, weights, image, 2, of=of, layers=layers).grid), expected) > 1e-3
    other = "probability" if of == "similarity" else "similarity"
    assert far(reference(model, pixels, weights, other, layers), expected) > 1e-3


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("clip", "vision_model.encoder.layers.2.self_attn.k_proj.weight"),
        ("clip", "vision_model.encoder.layers.2.mlp.fc1.weight"),
        ("clip", "vision_model.post_layernorm.weight"),
        ("clip", "visual_projection.weight"),
        ("siglip", "vision_model.head.probe"),
        ("siglip", "vision_model.head.mlp.fc2.weight"),
        ("siglip", "vision_model.encoder.layers.2.self_attn.q_proj.weight"),
    ],
)
def test_a_changed_weight_is_seen(family: str, name: str, made: Any, tmp_path: Path) -> None:
    model, folder = made[family]
    shutil.copytree(folder, tmp_path / "changed")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors[name].view(-1)[:32] += 0.5  # of a matrix half a row
    safetensors.torch.save_file(tensors, tmp_path / "changed" / "model.safetensors", metadata={"format": "pt"})
    encoder, weights, image = load(tmp_path / "changed"), head(37.0), picture(SIZE, SIZE)
    pixels = torch.from_numpy(encoder.preprocess(image))[None]
    expected = FAMILIES[family][1](model, pixels, weights, "probability", 2)
    found = explain(encoder, weights, image, LABEL, layers=2)
    assert far(torch.from_numpy(found.grid), expected) > 1e-3
