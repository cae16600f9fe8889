"""Tokens, embeddings, logits and heads equal those of models that open_clip built, read from the files that it writes.

One small model for each family of networks, and for each setting in which a loader can go wrong; they are listed in
`golden/make_golden.py`. The second half shows that each comparison can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from golden.checkpoints import NAMES, SMALL, TEMPLATES, Deviations, Edit, deviation

import zeroshot
from zeroshot.clip import ClipEncoder

# Ten times what float32 rounds, and half of what the least of the changes below amounts to: another kind of GELU.
TOLERANCE, NOTICEABLE = 2e-6, 2e-5
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than .* tokens:UserWarning")  # some are, on purpose
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes the folder of a model; its edits are those of `Reference.write`."""
    return lambda name, **edits: SMALL[name].write(tmp_path / "checkpoint", **edits)


def deviations(folder: Path) -> Iterator[tuple[str, Deviations]]:
    """Yield each model's name and how far its embeddings are from open_clip's; `folder` is an empty one to work in."""
    for name, reference in SMALL.items():
        yield name, reference.deviations(_load(reference.write(folder / name)))


def _load(folder: Path) -> ClipEncoder:
    return zeroshot.load(folder, device="cpu")


@pytest.mark.parametrize("name", SMALL)
def test_a_model_does_what_it_does_in_open_clip(name: str, write: Write) -> None:
    reference = SMALL[name]
    encoder = _load(write(name))
    np.testing.assert_array_equal(encoder.tokenize(reference.texts), reference.values["tokens"])
    assert max(reference.deviations(encoder)) < TOLERANCE
    for text, row in zip(reference.texts, reference.values["texts"], strict=True):  # in no company that is longer
        assert deviation(encoder.encode_texts(text), row[None]) < TOLERANCE
    assert encoder.logit_scale == reference.entry["logit_scale"]
    assert encoder.logit_bias == reference.entry["logit_bias"]
    head = zeroshot.build_head(encoder, NAMES, prompts="imagenet", cache=False, progress=False)
    assert len(head.templates) == TEMPLATES == 80
    assert deviation(head.weight, reference.values["head"]) < TOLERANCE


@pytest.mark.parametrize("part", ["images", "texts"])
@pytest.mark.parametrize("name", SMALL)
def test_inputs_are_told_apart(name: str, part: str) -> None:
    """Shows that the embeddings depend on the inputs, without which comparing them would mean little."""
    rows = SMALL[name].values[part]
    distances = np.abs(rows[:, None] - rows).max(axis=-1) + np.eye(len(rows))
    assert distances.min() > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("nested-text", lambda key: key.removeprefix("text.")),  # as all were before CustomTextCLIP
        ("patch16", lambda key: key if key.startswith(("visual.", "logit_")) else f"text.{key}"),
    ],
)
def test_the_text_tower_may_be_nested_or_not(name: str, rename: Callable[[str], str], write: Write) -> None:
    def edit(state: dict[str, Any]) -> None:
        renamed = {rename(key): tensor for key, tensor in state.items()}
        assert renamed.keys() != state.keys()
        state.clear()
        state.update(renamed)

    assert max(SMALL[name].deviations(_load(write(name, state=edit)))) < TOLERANCE


def test_a_training_checkpoint_of_years_ago(write: Write) -> None:
    """`torch.save` of a parallel model's state, with what else was kept, and buffers that releases of then had."""
    folder = write("patch16")
    path = folder / "open_clip_model.safetensors"
    state = {f"module.{key}": tensor for key, tensor in safetensors.torch.load_file(path).items()}
    state["module.attn_mask"] = torch.zeros(77, 77)
    torch.save({"epoch": 32, "state_dict": state}, folder / "open_clip_pytorch_model.bin")
    path.unlink()
    assert max(SMALL["patch16"].deviations(_load(folder))) < TOLERANCE


# ------------------------------------------------------------------------------- what the comparisons must notice


def _assert_noticed(name: str, towers: str, folder: Path) -> None:
    """Hold what is encoded by each of the towers against open_clip's; what other towers do must not have changed."""
    images, texts, logits = SMALL[name].deviations(_load(folder))
    for tower, change in (("image", images), ("text", texts)):
        assert change > NOTICEABLE if tower in towers else change < TOLERANCE
    assert logits > TOLERANCE


def _nudge(key: str, *index: int | slice) -> Edit:
    def edit(state: dict[str, npt.NDArray[np.float32]]) -> None:
        state[key] = state[key].copy()
        state[key][index] += 0.5

    return edit


@pytest.mark.parametrize(
    ("name", "tower", "edit"),
    [
        ("patch16", "image", _nudge("visual.conv1.weight", 3, 1, 5, 5)),
        ("patch16", "image", _nudge("visual.class_embedding", 3)),
        ("patch16", "image", _nudge("visual.positional_embedding", 3, 4)),
        ("patch16", "image", _nudge("visual.ln_pre.bias", 7)),
        ("patch16", "image", _nudge("visual.transformer.resblocks.0.attn.in_proj_weight", 9, 4)),
        ("patch16", "image", _nudge("visual.transformer.resblocks.1.mlp.c_proj.weight", 3, 5)),
        ("patch16", "image", _nudge("visual.proj", 2, 2)),
        ("patch16", "text", _nudge("positional_embedding", 1, 3)),
        ("patch16", "text", _nudge("transformer.resblocks.0.attn.in_proj_bias", 300)),
        ("patch16", "text", _nudge("transformer.resblocks.1.mlp.c_fc.weight", 3, 5)),
        ("patch16", "text", _nudge("ln_final.weight", 3)),
        ("patch16", "text", _nudge("text_projection", 2, 2)),
        ("patch16", "text", _nudge("token_embedding.weight", 2368, 0)),  # "cat"
        ("nested-text", "image", _nudge("visual.transformer.resblocks.1.ln_2.weight", 5)),
        ("nested-text", "text", _nudge("text.transformer.resblocks.1.ln_2.weight", 5)),
        ("resnet", "image", _nudge("visual.conv2.weight", 3)),
        ("resnet", "image", _nudge("visual.bn1.weight", 3)),
        ("resnet", "image", _nudge("visual.layer1.0.bn2.running_mean", 3)),
        ("resnet", "image", _nudge("visual.layer2.0.bn1.running_var")),
        ("resnet", "image", _nudge("visual.layer2.0.downsample.0.weight", 3)),
        ("resnet", "image", _nudge("visual.layer3.0.downsample.1.bias", 3)),
        ("resnet", "image", _nudge("visual.layer4.0.conv3.weight", 3)),
        ("resnet", "image", _nudge("visual.attnpool.positional_embedding", 1, 4)),
        ("resnet", "image", _nudge("visual.attnpool.q_proj.weight", 3)),
        ("resnet", "image", _nudge("visual.attnpool.v_proj.bias", 3)),
        ("resnet", "image", _nudge("visual.attnpool.c_proj.weight", 3, 4)),
        ("coca", "image", _nudge("visual.attn_pool.query", 0, 3)),
        ("coca", "image", _nudge("visual.attn_pool.attn.k_proj_weight", 3, 4)),
        ("coca", "image", _nudge("visual.attn_pool.attn.in_proj_bias", 100)),
        ("coca", "image", _nudge("visual.attn_pool.attn.out_proj.weight", 3, 4)),
        ("coca", "image", _nudge("visual.attn_pool.ln_q.weight", 3)),
        ("coca", "image", _nudge("visual.attn_pool.ln_k.bias", 3)),
        ("coca", "image", _nudge("visual.ln_post.weight", 3)),
        ("coca", "text", _nudge("text.cls_emb", 3)),
        ("coca", "text", _nudge("text.positional_embedding", 20, 3)),  # the class token's
        ("clipa", "image", _nudge("visual.positional_embedding", 0, 3)),
        ("clipa", "text", _nudge("text_projection", 2, 2)),
        ("clipa", "text", _nudge("token_embedding.weight", 0, 3)),  # padding, and what the separator became
        ("metaclip2", "text", _nudge("token_embedding.weight", 2, 3)),  # the end
        ("mobileclip-text", "text", _nudge("text.positional_embedding", 19, 3)),  # behind the end of most texts
        ("siglip", "image", _nudge("visual.trunk.patch_embed.proj.bias", 3)),
        ("siglip", "image", _nudge("visual.trunk.pos_embed", 0, 3, 4)),
        ("siglip", "image", _nudge("visual.trunk.blocks.0.norm1.bias", 3)),
        ("siglip", "image", _nudge("visual.trunk.blocks.1.attn.qkv.weight", 3, 4)),
        ("siglip", "image", _nudge("visual.trunk.blocks.1.mlp.fc2.weight", 3, 4)),
        ("siglip", "image", _nudge("visual.trunk.norm.weight", 3)),
        ("siglip", "image", _nudge("visual.trunk.attn_pool.latent", 0, 0, 3)),
        ("siglip", "image", _nudge("visual.trunk.attn_pool.q.weight", 3, 4)),
        ("siglip", "image", _nudge("visual.trunk.attn_pool.kv.weight", slice(0, 96), 4)),  # keys
        ("siglip", "image", _nudge("visual.trunk.attn_pool.kv.weight", 100, 4)),  # values
        ("siglip", "image", _nudge("visual.trunk.attn_pool.kv.bias", 100)),
        ("siglip", "image", _nudge("visual.trunk.attn_pool.proj.weight", 3, 4)),
        ("siglip", "image", _nudge("visual.trunk.attn_pool.norm.weight", 3)),
        ("siglip", "image", _nudge("visual.trunk.attn_pool.mlp.fc1.weight", 3, 4)),
        ("siglip", "text", _nudge("text.text_projection.weight", 3, 4)),
        ("siglip", "text", _nudge("text.text_projection.bias", 3)),
        ("siglip", "text", _nudge("text.token_embedding.weight", 1, 3)),  # padding
        ("siglip2-gopt", "text", _nudge("text.text_projection.weight", 100, 4)),
    ],
)
def test_one_changed_weight_is_noticed(name: str, tower: str, edit: Edit, write: Write) -> None:
    _assert_noticed(name, tower, write(name, state=edit))


@pytest.mark.parametrize("key", ["logit_scale", "logit_bias"])
def test_a_changed_scale_or_bias_is_noticed(key: str, write: Write) -> None:
    images, texts, logits = SMALL["siglip"].deviations(_load(write("siglip", state=_nudge(key))))
    assert max(images, texts) < TOLERANCE
    assert logits > NOTICEABLE


def _set(section: str, **values: Any) -> Edit:
    def edit(config: dict[str, Any]) -> None:
        for part in section.split(".") if section else ():
            config = config[part]
        config.update(values)

    return edit


def _swap_mean_and_std(config: dict[str, Any]) -> None:
    cfg = config["preprocess_cfg"]
    cfg["mean"], cfg["std"] = cfg["std"], cfg["mean"]


def _timm_name(name: str) -> Edit:
    return _set("model_cfg.vision_cfg", timm_model_name=name)


TEXT, VISION = "model_cfg.text_cfg", "model_cfg.vision_cfg"


@pytest.mark.parametrize(
    ("name", "towers", "edit"),
    [
        ("patch16", "image text", _set("model_cfg", quick_gelu=True)),
        ("patch32-quickgelu", "image text", _set("model_cfg", quick_gelu=False)),
        ("nested-text-quickgelu-longest", "image text", _set("model_cfg", quick_gelu=False)),
        ("resnet", "text", _set("model_cfg", quick_gelu=False)),
        ("coca", "image text", _set("model_cfg", quick_gelu=True)),
        ("mean-first-tanh", "image", _set(VISION, act_kwargs=None)),
        ("mean-first-tanh", "text", _set(TEXT, act_kwargs=None)),
        ("siglip", "text", _set("model_cfg", quick_gelu=True)),
        ("siglip", "text", _set(TEXT, act_kwargs={"approximate": "tanh"})),
        ("siglip", "image", _timm_name("vit_base_patch32_siglip_256")),  # of which the activation is another
        ("siglip2-gopt", "text", _set(TEXT, act_kwargs=None)),
        ("siglip2-gopt", "image", _timm_name("vit_large_patch16_siglip_256")),
        ("patch14-head88", "image", _set(VISION, head_width=44)),
        ("resnet-head32", "image", _set(VISION, head_width=64)),
        ("coca", "image", _set(VISION, attn_pooler_heads=8)),
        ("patch14-head88", "text", _set(TEXT, heads=8)),
        ("siglip", "text", _set(TEXT, heads=8)),
        ("epsilon-squash", "image", _set(VISION, norm_kwargs=None)),
        ("epsilon-squash", "text", _set(TEXT, norm_kwargs=None)),
        ("mean-first-tanh", "image", _set(VISION, pool_type="tok")),
        ("mean-first-tanh", "image", _set(VISION, final_ln_after_pool=True)),
        ("mean-first-tanh", "text", _set(TEXT, pool_type="last")),
        ("clipa", "image", _set(VISION, final_ln_after_pool=False)),
        ("clipa", "text", _set(TEXT, pool_type="first")),
        ("clipa", "text", _set(TEXT, no_causal_mask=False)),
        ("mobileclip-text", "text", _set(TEXT, no_causal_mask=False)),
        ("siglip", "text", _set(TEXT, no_causal_mask=False)),
        ("metaclip2", "text", _set(TEXT, eos_id=1)),
        ("coca", "text", _set(TEXT, pad_id=1)),
        ("clipa", "text", _set(TEXT, tokenizer_kwargs={})),
        ("siglip", "text", _set(TEXT, tokenizer_kwargs={"clean": "lower"})),
        ("siglip", "text", _set(TEXT, tokenizer_kwargs={})),
        ("patch16", "image", _swap_mean_and_std),
        ("epsilon-squash", "image", _swap_mean_and_std),
        ("resnet-head32", "image", _swap_mean_and_std),
        ("patch16", "image", _set("preprocess_cfg", interpolation="bicubic")),
        ("patch32-quickgelu", "image", _set("preprocess_cfg", interpolation="bilinear")),
        ("mobileclip-text", "image", _set("preprocess_cfg", interpolation="bicubic")),
        ("patch32-quickgelu", "image", _set("preprocess_cfg", resize_mode="squash")),
        ("epsilon-squash", "image", _set("preprocess_cfg", resize_mode="shortest")),
        ("siglip", "image", _set("preprocess_cfg", resize_mode="shortest")),
        ("nested-text-quickgelu-longest", "image", _set("preprocess_cfg", resize_mode="shortest")),
        ("nested-text-quickgelu-longest", "image", _set("preprocess_cfg", fill_color=127)),
    ],
)
def test_a_changed_setting_is_noticed(name: str, towers: str, edit: Edit, write: Write) -> None:
    _assert_noticed(name, towers, write(name, config=edit))


@pytest.mark.parametrize(
    ("name", "padding"),
    [("clipa", "[UNK]"), ("siglip", "<pad>"), ("siglip2-gopt", "<eos>")],
)
def test_another_padding_is_noticed(name: str, padding: str, write: Write) -> None:
    _assert_noticed(name, "text", write(name, tokenizer=_set("", pad_token=padding)))


def test_what_pads_a_text_behind_its_end_is_all_the_same_to_a_causal_tower(write: Write) -> None:
    folder = write("metaclip2", tokenizer=_set("", pad_token="<unk>"))
    assert max(SMALL["metaclip2"].deviations(_load(folder))) < TOLERANCE


def test_the_decoder_of_captions_has_no_part_in_the_embeddings(write: Write) -> None:
    def edit(state: dict[str, Any]) -> None:
        for key in [key for key in state if key.startswith("text_decoder.")]:
            state[key] = state[key] + 1

    assert max(SMALL["coca"].deviations(_load(write("coca", state=edit)))) < TOLERANCE


@pytest.mark.parametrize("name", ["patch32-quickgelu", "not-square", "resnet", "siglip"])
def test_a_crop_that_is_off_is_noticed(name: str, write: Write) -> None:
    reference = SMALL[name]
    shifted = [image.crop((2, 2, *image.size)) for image in reference.pictures]
    images, texts, _ = reference.deviations(_load(write(name)), pictures=shifted)
    assert images > NOTICEABLE
    assert texts < TOLERANCE


def test_a_head_without_the_first_normalisation_is_noticed(write: Write) -> None:
    """The mean of embeddings that are not normalised first points elsewhere (the paper normalises twice)."""
    encoder = _load(write("patch16"))
    prompts = [prompt for label in zeroshot.load_prompts("imagenet").expand(NAMES) for prompt in label]
    with torch.inference_mode():
        features = encoder.text(torch.from_numpy(encoder.tokenize(prompts)))
    rows = torch.nn.functional.normalize(features.view(3, 80, -1).mean(dim=1), dim=-1)
    assert deviation(rows, SMALL["patch16"].values["head"]) > NOTICEABLE
