"""open_clip's own contrastive loss, and open_clip on a checkpoint of the example of contrastive pre-training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from golden import make_contrastive

open_clip = pytest.importorskip("open_clip")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "contrastive_pretraining"))

import pretrain  # noqa: E402
from scenes import Scenes  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # the library warns of its own doings


def losses(images: torch.Tensor, texts: torch.Tensor, log_scale: torch.Tensor, criterion: Any) -> list[torch.Tensor]:
    """Return the loss and its gradients."""
    given = [tensor.clone().requires_grad_() for tensor in (images, texts, log_scale)]
    loss = criterion(given[0], given[1], given[2].exp())
    loss.backward()
    return [loss.detach(), *(tensor.grad for tensor in given if tensor.grad is not None)]


@pytest.mark.parametrize("seed", range(20))
def test_loss_and_gradients_on_random_batches(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    count, dim = 2 + 7 * seed, 8 + seed
    texts = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    images = texts + torch.randn(count, dim, generator=generator, dtype=torch.float64)
    images, texts = (torch.nn.functional.normalize(rows, dim=-1) for rows in (images, texts))
    log_scale = torch.rand((), generator=generator, dtype=torch.float64) * 4.6  # a scale from 1 to 100
    theirs = losses(images, texts, log_scale, open_clip.ClipLoss())
    ours = losses(images, texts, log_scale, pretrain.contrastive_loss)
    assert max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True)) < 1e-10
    assert abs(losses(images, texts, log_scale + 0.01, pretrain.contrastive_loss)[0] - theirs[0]) > 1e-5
    images[0] = images[1]
    assert abs(losses(images, texts, log_scale, pretrain.contrastive_loss)[0] - theirs[0]) > 1e-5


@pytest.mark.parametrize("seed", range(20))
def test_loss_of_the_same_logits_in_float32(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    count = 2 + 7 * seed
    logits = 3 * torch.randn(count, count, generator=generator) + 10 * torch.eye(count)
    same, one = torch.eye(count), torch.tensor(0.0)  # multiplied by these they stay what they are
    theirs = losses(logits, same, one, open_clip.ClipLoss())
    ours = losses(logits, same, one, pretrain.contrastive_loss)
    assert (ours[0] - theirs[0]).abs() < 1e-6
    assert (ours[1] - theirs[1]).abs().max() < 1e-6
    logits[0] = logits[0].roll(1)
    assert (losses(logits, same, one, pretrain.contrastive_loss)[0] - theirs[0]).abs() > 1e-4


@pytest.mark.parametrize("case", make_contrastive.CASES)
def test_the_golden_losses_are_what_open_clip_computes_today(case: str) -> None:
    values = safetensors.numpy.load_file(Path(make_contrastive.__file__).with_name("contrastive.safetensors"))
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-6)):
        for name, tensor in make_contrastive.compute(case, getattr(torch, dtype)).items():
            golden = values[f"{case}.{dtype}.{name}"]
            assert np.abs(tensor.numpy() - golden).max() <= tolerance * max(1, np.abs(golden).max()), name


def test_open_clip_reads_the_checkpoint_and_embeds_alike(tmp_path: Path) -> None:
    sizes = pretrain.Sizes(image_width=64, image_layers=2, text_width=48, text_layers=2, head_width=16, dim=40)
    torch.manual_seed(0)
    model = pretrain.Clip(pretrain.vision_tower(sizes), pretrain.text_tower(sizes))
    pretrain.save_checkpoint(model, sizes, tmp_path)
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    images, captions = zip(*(Scenes(8)[i] for i in range(8)), strict=True)
    pixels, tokens = pretrain.reader(sizes)(Scenes(8), range(8))
    assert (tokenizer(list(captions)) == tokens).all()
    with torch.no_grad():
        theirs = theirs.eval()
        seen = torch.stack([preprocess(image) for image in images])
        assert (theirs.encode_image(seen, normalize=True) - model.embed_images(pixels)).abs().max() < 1e-5
        assert (theirs.encode_text(tokens, normalize=True) - model.embed_texts(tokens)).abs().max() < 1e-5
        assert theirs.logit_scale.exp().item() == pytest.approx(model.logit_scale.exp().item())
