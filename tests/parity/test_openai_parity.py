"""Embeddings, tokens and logits equal those of OpenAI's package, loaded from archives like those that it publishes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from golden import weights
from golden.archives import FOLDER, GOLDEN, MODELS, openai_archive
from golden.checkpoints import Deviations, deviation
from golden.images import picture

import zeroshot.layouts.openai
from parity.live import Outputs, compare, load
from zeroshot.clip import ClipEncoder
from zeroshot.errors import CheckpointError, CheckpointNotFoundError

PICTURES = [picture(*size) for size in GOLDEN["pictures"]]
TEXTS: list[str] = GOLDEN["texts"]
VALUES = safetensors.numpy.load_file(FOLDER / "openai.safetensors")

State = dict[str, torch.Tensor]
Edit = Callable[[State], object]


def expected(name: str) -> Outputs:
    """Return what OpenAI's package makes of the pictures and texts."""
    return Outputs(*(VALUES[f"{name}/{part}"] for part in ("images", "texts", "logits")))


def write(name: str, folder: Path) -> Path:
    """Write an archive, and return its path."""
    path = folder / f"{name}.pt"
    path.write_bytes(openai_archive(name))
    return path


def deviations(folder: Path) -> Iterator[tuple[str, Deviations]]:
    """Yield each model's name and how far it is from OpenAI's package; `folder` is an empty one to work in."""
    for name in MODELS:
        yield name, _compare(load(write(name, folder)), name)


def _compare(encoder: ClipEncoder, name: str) -> Deviations:
    return compare(encoder, PICTURES, TEXTS, expected(name))


def _state(name: str, *, numbers: bool = True) -> State:
    """Return what an archive holds, as a state dict."""
    model = MODELS[name]
    state = {
        tensor: torch.from_numpy(weights.fill(tensor, shape).astype(dtype))
        for tensor, (dtype, shape, _) in model["tensors"].items()
    }
    return state | ({key: torch.tensor(number) for key, number in model["numbers"].items()} if numbers else {})


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Return the archives; not to be changed."""
    folder = tmp_path_factory.mktemp("archives")
    yield {name: write(name, folder) for name in MODELS}
    for path in folder.iterdir():  # 40 MB, which pytest would keep for a while
        path.unlink()


# ----------------------------------------------------------------------------------------------------- the ladder


@pytest.mark.parametrize("name", MODELS)
def test_pixels_equal_those_of_openai(name: str, archives: dict[str, Path]) -> None:
    preprocess = load(archives[name]).preprocess
    assert preprocess.size == (MODELS[name]["numbers"]["input_resolution"],) * 2
    pixels = torch.from_numpy(np.stack([preprocess(image) for image in PICTURES]))
    assert deviation(pixels, VALUES[f"{name}/pixels"]) < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_tokens_equal_those_of_openai(name: str, archives: dict[str, Path]) -> None:
    np.testing.assert_array_equal(load(archives[name]).tokenize(TEXTS), VALUES[f"{name}/tokens"])


@pytest.mark.parametrize("name", MODELS)
def test_towers_and_logits_equal_those_of_openai(name: str, archives: dict[str, Path]) -> None:
    encoder = load(archives[name])
    assert encoder.dtype == torch.float32
    assert max(_compare(encoder, name)) < 1e-5
    assert encoder.logit_scale == pytest.approx(np.exp(weights.LOGIT_SCALE))
    assert encoder.logit_bias is None


@pytest.mark.parametrize("name", MODELS)
def test_inputs_are_told_apart(name: str) -> None:
    """Shows that the embeddings depend on the inputs, without which comparing them would mean little."""
    for rows in expected(name)[:2]:
        differences = np.abs(rows[:, None] - rows).max(axis=2) + np.eye(len(rows))
        assert differences.min() > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("name", MODELS)
def test_half_precision(name: str, dtype: Any, tolerance: float, archives: dict[str, Path]) -> None:
    assert 1e-5 < max(_compare(load(archives[name], dtype=dtype), name)) < tolerance


@pytest.mark.parametrize("name", MODELS)
def test_the_precision_of_the_file_is_that_of_its_matrices(name: str, archives: dict[str, Path]) -> None:
    encoder = load(archives[name], dtype="auto")
    assert encoder.dtype == torch.float16
    assert max(_compare(encoder, name)) < 2e-3


# -------------------------------------------------------------------------------------------------- kinds of files


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state,
        lambda state: {key: tensor for key, tensor in state.items() if tensor.is_floating_point()},
        lambda state: {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {key: t.float() if t.is_floating_point() else t for key, t in state.items()},
    ],
    ids=["whole", "without the numbers", "fine-tuned in parallel", "in float32"],
)
@pytest.mark.parametrize("name", MODELS)
def test_a_state_dict_loads(name: str, change: Edit, tmp_path: Path) -> None:
    torch.save(change(_state(name)), tmp_path / "model.pt")
    assert max(_compare(load(tmp_path / "model.pt"), name)) < 1e-5


def test_a_folder_loads_if_the_file_has_a_known_name(archives: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "vit.pt").hardlink_to(archives["vit"])
    with pytest.raises(CheckpointNotFoundError, match=r"holds no weights; expected one of .*, found vit.pt"):
        load(tmp_path)
    (tmp_path / "vit.pt").rename(tmp_path / "pytorch_model.bin")
    assert max(_compare(load(tmp_path), "vit")) < 1e-5


def test_what_cannot_be_told_has_to_be_written_beside_it(tmp_path: Path) -> None:
    """In single precision and without the numbers, it could as well be open_clip's, which mostly have another GELU."""
    state = {key: tensor.float() for key, tensor in _state("vit", numbers=False).items()}
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"open_clip_config.json does not exist; .*activation"):
        load(tmp_path / "model.pt")
    vision = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2}
    model = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    mean, std = zeroshot.layouts.openai.MEAN, zeroshot.layouts.openai.STD
    config = {"model_cfg": model, "preprocess_cfg": {"mean": mean, "std": std}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert max(_compare(load(tmp_path / "model.pt"), "vit")) < 1e-5
    model["quick_gelu"] = False
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert min(_compare(load(tmp_path / "model.pt"), "vit")) > 1e-4


# ------------------------------------------------------------------------------- what the comparisons must notice


@pytest.mark.parametrize(
    ("name", "tower", "key", "index"),
    [
        ("vit", "image", "visual.conv1.weight", (3, 1, 5, 5)),
        ("vit", "image", "visual.class_embedding", (3,)),
        ("vit", "image", "visual.positional_embedding", (16, 4)),
        ("vit", "image", "visual.ln_pre.weight", (4,)),
        ("vit", "image", "visual.transformer.resblocks.0.attn.in_proj_weight", (130, 4)),  # of the keys
        ("vit", "image", "visual.transformer.resblocks.1.attn.in_proj_bias", (300,)),  # of the values
        ("vit", "image", "visual.transformer.resblocks.1.mlp.c_fc.weight", (3, 4)),
        ("vit", "image", "visual.ln_post.bias", (4,)),
        ("vit", "image", "visual.proj", (3, 4)),
        ("vit", "text", "token_embedding.weight", (2368, 0)),  # "cat"
        ("vit", "text", "positional_embedding", (1, 3)),
        ("vit", "text", "transformer.resblocks.0.attn.out_proj.weight", (3, 4)),
        ("vit", "text", "transformer.resblocks.1.ln_2.bias", (3,)),
        ("vit", "text", "ln_final.weight", (3,)),
        ("vit", "text", "text_projection", (3, 4)),
        ("vit", "logits", "logit_scale", ()),
        ("resnet", "image", "visual.conv1.weight", (3, 1, 1, 1)),
        ("resnet", "image", "visual.bn2.running_mean", (1,)),
        ("resnet", "image", "visual.bn3.running_var", (1,)),
        ("resnet", "image", "visual.layer1.0.bn3.weight", (1,)),
        ("resnet", "image", "visual.layer2.1.bn1.bias", (1,)),
        ("resnet", "image", "visual.layer2.0.downsample.0.weight", (3, 4, 0, 0)),
        ("resnet", "image", "visual.layer3.0.downsample.1.running_var", (1,)),
        ("resnet", "image", "visual.layer4.0.conv2.weight", (3, 4, 1, 1)),
        ("resnet", "image", "visual.attnpool.positional_embedding", (4, 3)),
        ("resnet", "image", "visual.attnpool.q_proj.weight", (3, 4)),
        ("resnet", "image", "visual.attnpool.k_proj.weight", (3, 4)),
        ("resnet", "image", "visual.attnpool.v_proj.bias", (3,)),
        ("resnet", "image", "visual.attnpool.c_proj.weight", (3, 4)),
        ("resnet", "text", "text_projection", (3, 4)),
    ],
)
def test_one_changed_weight_is_noticed(name: str, tower: str, key: str, index: tuple[int, ...], tmp_path: Path) -> None:
    state = _state(name)
    state[key][index] += 2
    torch.save(state, tmp_path / "changed.pt")
    images, texts, logits = (difference > 2e-5 for difference in _compare(load(tmp_path / "changed.pt"), name))
    assert (images, texts, logits) == (tower == "image", tower == "text", True)


@pytest.mark.parametrize("setting", ["MEAN", "STD", "_HEAD_WIDTH"])
@pytest.mark.parametrize("name", MODELS)
def test_another_setting_is_noticed(
    name: str, setting: str, archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"MEAN": (0.485, 0.456, 0.406), "STD": (0.229, 0.224, 0.225), "_HEAD_WIDTH": 32}
    monkeypatch.setattr(zeroshot.layouts.openai, setting, others[setting])
    assert _compare(load(archives[name]), name).images > 1e-4
