"""Checkpoints are read strictly: everything that does not fit is an error that says what, and nothing is guessed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import zeroshot
from zeroshot.checkpoints import read_checkpoint
from zeroshot.errors import CheckpointError, CheckpointNotFoundError

Make = Callable[..., Path]
TEXTS = ["a cat", "a photo of a dog.", ""]
TOKENS = {"open_clip": "token_embedding.weight", "transformers": "text_model.embeddings.token_embedding.weight"}


def embed(path: Path, picture: Any, **options: Any) -> torch.Tensor:
    """Return the embeddings of a picture and three texts: (4, dim)."""
    encoder = zeroshot.load(path, device="cpu", **options)
    return torch.cat([encoder.encode_images(picture), encoder.encode_texts(TEXTS)])


@pytest.fixture
def picture(pictures: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return pictures[1]


@pytest.fixture
def expected(open_clip_folder: Path, picture: Any) -> torch.Tensor:
    return embed(open_clip_folder, picture)


# ------------------------------------------------------------------------------------------------- what is read


def test_both_layouts_give_the_same_embeddings(transformers_folder: Path, picture: Any, expected: torch.Tensor) -> None:
    # The text projection is square, as in every published ViT: its shape does not tell which way round it is kept.
    torch.testing.assert_close(embed(transformers_folder, picture), expected, atol=1e-6, rtol=0)
    assert (expected[1] - expected[2]).norm() > 0.1  # the comparison is of embeddings that differ


def test_the_configuration_follows_from_weights_and_config(tiny_folders: dict[str, Path], layout: str) -> None:
    checkpoint = read_checkpoint(tiny_folders[layout])
    assert (checkpoint.vision.dim, checkpoint.text.dim) == (32, 32)
    assert (checkpoint.text.vocab_size, checkpoint.text.context, checkpoint.text.end_id) == (49408, 24, 49407)
    for tower, width in ((checkpoint.vision, 48), (checkpoint.text, 32)):
        stack = tower.transformer  # type: ignore[union-attr]
        assert (stack.width, stack.layers, stack.heads, stack.mlp_width) == (width, 2, width // 16, 2 * width)
        assert (stack.activation, stack.norm_eps) == ("quick_gelu", 1e-5)
    assert checkpoint.vision.image_size == (32, 32)
    assert checkpoint.preprocess.size == (32, 32)
    assert checkpoint.preprocess.mean == (0.48, 0.46, 0.41)
    assert checkpoint.preprocess.std == (0.27, 0.26, 0.28)
    assert checkpoint.logit_scale == pytest.approx(37.5)
    assert checkpoint.logit_bias is None


def test_a_weights_file_stands_for_its_folder(open_clip_folder: Path, picture: Any, expected: torch.Tensor) -> None:
    assert torch.equal(embed(open_clip_folder / "open_clip_model.safetensors", picture), expected)


def test_the_layout_is_told_by_the_content_not_the_name(make_checkpoint: Make, picture: Any, expected: Any) -> None:
    folder = make_checkpoint()
    (folder / "open_clip_model.safetensors").rename(folder / "model.safetensors")
    assert torch.equal(embed(folder, picture), expected)


def test_a_text_tower_under_a_prefix(make_checkpoint: Make, picture: Any, expected: torch.Tensor) -> None:
    def nest(state: dict[str, Any]) -> None:
        for name in [n for n in state if not n.startswith("visual.") and n != "logit_scale"]:
            state[f"text.{name}"] = state.pop(name)

    folder = make_checkpoint(weights=nest, config=lambda c: c["model_cfg"].update(custom_text=True))
    assert torch.equal(embed(folder, picture), expected)


def test_shards_are_read_as_one(make_checkpoint: Make, tmp_path: Path, picture: Any, expected: torch.Tensor) -> None:
    folder = make_checkpoint("transformers")
    whole = folder / "model.safetensors"
    tensors = sorted(safetensors.torch.load_file(whole).items())
    whole.unlink()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, part in zip(names, (tensors[::2], tensors[1::2]), strict=True):
        safetensors.torch.save_file(dict(part), folder / name)
    index = {"weight_map": {tensor: names[i % 2] for i, (tensor, _) in enumerate(tensors)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    torch.testing.assert_close(embed(folder, picture), expected, atol=1e-6, rtol=0)
    (folder / names[1]).unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"model-00002-of-00002.safetensors does not exist"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["attn_mask", "text.attn_mask", "text_model.embeddings.position_ids", "position_ids"])
def test_buffers_of_old_releases_are_passed_over(make_checkpoint: Make, layout: str, name: str) -> None:
    folder = make_checkpoint(layout, weights=lambda state: state.update({name: torch.zeros(1, 24)}))
    assert read_checkpoint(folder).text.context == 24


def test_a_bias_is_read_where_there_is_one(make_checkpoint: Make) -> None:
    folder = make_checkpoint(weights=lambda state: state.update(logit_bias=torch.tensor(-10.25)))
    assert zeroshot.load(folder).logit_bias == -10.25


def test_towers_are_in_eval_mode_without_gradients(clip: Any) -> None:
    for tower in (clip.vision, clip.text):
        assert not any(module.training for module in tower.modules())
        assert not any(parameter.requires_grad for parameter in tower.parameters())


# ---------------------------------------------------------------------------------------------------- activation


def test_the_activation_matters_and_is_the_configurations(make_checkpoint: Make, layout: str, picture: Any) -> None:
    def switch(config: dict[str, Any]) -> None:
        if layout == "open_clip":
            config["model_cfg"]["quick_gelu"] = False
        else:
            config["text_config"]["hidden_act"] = config["vision_config"]["hidden_act"] = "gelu"

    quick = embed(make_checkpoint(layout, name="quick"), picture)
    exact = embed(make_checkpoint(layout, config=switch, name="exact"), picture)
    assert ((quick - exact).norm(dim=1) > 1e-3).all()


def test_a_configuration_that_is_given_goes_before_the_one_beside_the_weights(open_clip_folder: Path) -> None:
    # Configurations of OpenAI's weights for open_clip say "gelu" in some repositories; the table knows better.
    given = json.loads((open_clip_folder / "open_clip_config.json").read_text())
    given["model_cfg"]["quick_gelu"] = False
    given["preprocess_cfg"]["mean"] = [0.1, 0.2, 0.3]
    checkpoint: Any = read_checkpoint(open_clip_folder, config=given)
    assert checkpoint.text.transformer.activation == "gelu"
    assert checkpoint.vision.transformer.activation == "gelu"
    assert checkpoint.preprocess.mean == (0.1, 0.2, 0.3)


def test_a_configuration_that_is_given_needs_none_beside_the_weights(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    given = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").unlink()
    assert read_checkpoint(folder, config=given).context == 24


# ---------------------------------------------------------------------------------------------------- precision


def test_a_file_of_half_precision_is_computed_in_full(make_checkpoint: Make, picture: Any, expected: Any) -> None:
    def halve(state: dict[str, Any]) -> None:
        state.update({name: tensor.half() for name, tensor in state.items()})

    encoder = zeroshot.load(folder := make_checkpoint(weights=halve))
    assert {p.dtype for p in [*encoder.text.parameters(), *encoder.vision.parameters()]} == {torch.float32}
    torch.testing.assert_close(embed(folder, picture), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.bfloat16])
def test_towers_of_half_precision_give_embeddings_of_full(
    open_clip_folder: Path, picture: Any, expected: torch.Tensor, dtype: Any
) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cpu", dtype=dtype)
    assert {p.dtype for p in encoder.text.parameters()} == {encoder.dtype}
    assert encoder.dtype in (torch.bfloat16, torch.float16)
    embeddings = embed(open_clip_folder, picture, dtype=dtype)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(embeddings, expected, atol=0.05, rtol=0)


# --------------------------------------------------------------------------------------------------- laziness


def test_only_the_tower_that_is_used_is_read(open_clip_folder: Path, picture: Any) -> None:
    encoder = zeroshot.load(open_clip_folder)
    assert {"_text", "_vision"} & vars(encoder).keys() == set()
    encoder.encode_images(picture)
    assert "_vision" in vars(encoder)
    assert "_text" not in vars(encoder)
    other = zeroshot.load(open_clip_folder)
    other.encode_texts(TEXTS)
    assert "_text" in vars(other)
    assert "_vision" not in vars(other)


def test_no_weight_is_read_before_it_is_used(open_clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    weights = zeroshot.checkpoints.Weights
    original = weights.read
    monkeypatch.setattr(weights, "read", lambda self, names: read.extend(names) or original(self, names))
    encoder = zeroshot.load(open_clip_folder)
    assert read == ["logit_scale"]
    _ = encoder.text
    assert not any(name.startswith("visual.") for name in read)


# ------------------------------------------------------------------------------------------- weights that do not fit


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("open_clip", "visual.ln_post.bias"),
        ("open_clip", "visual.proj"),
        ("open_clip", "visual.transformer.resblocks.0.ln_1.weight"),
        ("open_clip", "visual.transformer.resblocks.0.mlp.c_fc.weight"),
        ("open_clip", "transformer.resblocks.1.attn.in_proj_bias"),
        ("open_clip", "token_embedding.weight"),
        ("open_clip", "text_projection"),
        ("open_clip", "logit_scale"),
        ("transformers", "vision_model.pre_layrnorm.weight"),
        ("transformers", "text_model.encoder.layers.1.self_attn.k_proj.bias"),
        ("transformers", "visual_projection.weight"),
        ("transformers", "logit_scale"),
    ],
)
def test_a_missing_tensor_is_named(make_checkpoint: Make, layout: str, name: str) -> None:
    folder = make_checkpoint(layout, weights=lambda state: state.pop(name))
    with pytest.raises(CheckpointError, match=r"(Missing|lack)") as caught:
        read_checkpoint(folder)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "name", ["visual.attnpool.weight", "transformer.resblocks.0.ls_1.gamma", "text.proj", "cls_emb"]
)
def test_an_unexpected_tensor_is_named(make_checkpoint: Make, name: str) -> None:
    folder = make_checkpoint(weights=lambda state: state.update({name: torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"Missing: none. Unexpected: ") as caught:
        read_checkpoint(folder)
    assert name in str(caught.value)
    assert str(folder) in str(caught.value)


def test_many_names_are_shortened(make_checkpoint: Make) -> None:
    folder = make_checkpoint(weights=lambda s: s.update({f"extra.{i}": torch.zeros(1) for i in range(40)}))
    with pytest.raises(CheckpointError, match=r"extra.0, .* and 35 more"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("visual.ln_pre.weight", (47,)),
        ("visual.class_embedding", (48, 1)),
        ("visual.conv1.weight", (48, 1, 16, 16)),
        ("visual.conv1.weight", (48, 768)),
        ("visual.proj", (48, 32, 1)),
        ("visual.positional_embedding", (4, 48)),
        ("visual.transformer.resblocks.1.attn.in_proj_weight", (48, 144)),
        ("transformer.resblocks.0.mlp.c_proj.weight", (64, 32)),
        ("positional_embedding", (24,)),
        ("positional_embedding", (24, 31)),
        ("token_embedding.weight", (49408, 31)),
        ("text_projection", (32,)),
        ("logit_scale", (2,)),
        ("logit_bias", (2,)),
    ],
)
def test_a_tensor_of_another_shape_is_named(make_checkpoint: Make, name: str, shape: tuple[int, ...]) -> None:
    folder = make_checkpoint(weights=lambda state: state.update({name: torch.zeros(shape)}))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert any(word in str(caught.value) for word in (name, "positions"))


@pytest.mark.parametrize("name", ["logit_scale", "logit_bias"])
def test_a_scale_kept_as_a_vector_of_one_is_read(make_checkpoint: Make, name: str) -> None:
    folder = make_checkpoint(weights=lambda state: state.update({name: torch.ones(1)}))
    checkpoint = read_checkpoint(folder)
    assert getattr(checkpoint, name) == pytest.approx(np.e if name == "logit_scale" else 1)


def test_a_vocabulary_of_another_size(make_checkpoint: Make, layout: str) -> None:
    folder = make_checkpoint(layout, weights=lambda state: state.update({TOKENS[layout]: torch.zeros(32000, 32)}))
    with pytest.raises(CheckpointError, match="vocabulary of 32000 tokens; expected CLIP's 49408"):
        read_checkpoint(folder)


@pytest.mark.parametrize("key", ["vision", "text", "neither", "another kind"])
def test_a_file_that_is_no_clip_says_what_it_holds(make_checkpoint: Make, layout: str, key: str) -> None:
    def strip(state: dict[str, Any]) -> None:
        if key == "vision":  # timm's repositories keep the image tower alone
            kept = {n: t for n, t in state.items() if n.startswith(("visual.", "vision_model.", "visual_projection"))}
        elif key == "text":
            kept = {n: t for n, t in state.items() if n.startswith(("text", "token", "transformer", "ln_", "pos"))}
        else:
            kept = {"bert.embeddings.weight": torch.zeros(2)} if key == "another kind" else {}
        state.clear()
        state.update(kept)

    folder = make_checkpoint(layout, weights=strip)
    with pytest.raises(CheckpointError, match=r"(neither open_clip's nor transformers'|the weights lack)"):
        read_checkpoint(folder)


# ----------------------------------------------------------------------------------------------------- damaged files


def _header(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


_TENSOR = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,%d]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"\x80\x04\x95 a pickle, perhaps, or anything else at all",
        _header(b"{}", 2**63),
        _header(b"{}", 10**8),
        _header(b"{" * 50),
        _header(_TENSOR % 8),  # no data
        _header(_TENSOR % 4) + bytes(4),  # less data than the shape needs
        _header(_TENSOR % 2**60),
        _header(b'{"a":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}}') + bytes(8),
    ],
)
def test_a_file_that_is_no_safetensors(make_checkpoint: Make, layout: str, content: bytes) -> None:
    folder = make_checkpoint(layout)
    path = next(folder.glob("*.safetensors"))
    path.unlink()  # it may be linked to the shared one
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"(?i)fetch it again|save its state dict again") as caught:
        zeroshot.load(folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.9999])
def test_a_file_that_was_cut_short(make_checkpoint: Make, tiny_folders: dict[str, Path], share: float) -> None:
    folder = make_checkpoint()
    path = folder / "open_clip_model.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="is no valid safetensors file"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_folder_in_place_of_a_file(make_checkpoint: Make, name: str) -> None:
    folder = make_checkpoint("transformers")
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    if name.endswith("safetensors"):
        assert read_checkpoint(folder).text.context == 24  # not a file of that name, so the other layout is read
        return
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert name in str(caught.value)


# ------------------------------------------------------------------------------------------------- configurations


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("open_clip", "open_clip_config.json"),
        ("transformers", "config.json"),
        ("transformers", "preprocessor_config.json"),
    ],
)
def test_a_missing_configuration_is_named(make_checkpoint: Make, layout: str, name: str) -> None:
    folder = make_checkpoint(layout)
    (folder / name).unlink()
    with pytest.raises(CheckpointNotFoundError, match=f"{name} does not exist; it holds what weights cannot tell"):
        read_checkpoint(folder)


def test_transformers_5_writes_every_setting_so_a_missing_one_is_an_error(make_checkpoint: Make) -> None:
    for part in ("text_config", "vision_config"):
        for key in ("hidden_act", "num_attention_heads", "layer_norm_eps"):
            folder = make_checkpoint("transformers", config=lambda c, part=part, key=key: c[part].pop(key))
            with pytest.raises(CheckpointError, match=f"has no {part}.{key}, and the weights cannot tell it"):
                read_checkpoint(folder)
    folder = make_checkpoint("transformers", config=lambda c: c["vision_config"].pop("image_size"))
    with pytest.raises(CheckpointError, match=r"has no vision_config.image_size"):
        read_checkpoint(folder)


def test_transformers_4_left_out_what_equals_its_defaults(make_checkpoint: Make) -> None:
    def old(config: dict[str, Any]) -> None:
        config["transformers_version"] = "4.21.0"
        for part in ("text_config", "vision_config"):
            for key in ("hidden_act", "layer_norm_eps"):
                del config[part][key]
        del config["text_config"]["num_attention_heads"]  # 8 by default, which divides 32
        config["vision_config"]["num_attention_heads"] = 4

    checkpoint = read_checkpoint(make_checkpoint("transformers", config=old))
    assert checkpoint.text.transformer.heads == 8
    assert checkpoint.vision.transformer.heads == 4  # type: ignore[union-attr]
    assert checkpoint.text.transformer.activation == "quick_gelu"
    assert checkpoint.text.transformer.norm_eps == 1e-5

    def without_heads(config: dict[str, Any]) -> None:
        old(config)
        del config["vision_config"]["num_attention_heads"]  # 12 by default, which divides 48
        config["vision_config"]["image_size"] = 32

    vision: Any = read_checkpoint(make_checkpoint("transformers", config=without_heads)).vision
    assert vision.transformer.heads == 12


def test_a_config_that_does_not_say_who_wrote_it_gets_no_defaults(make_checkpoint: Make) -> None:
    def strip(config: dict[str, Any]) -> None:
        del config["transformers_version"], config["text_config"]["hidden_act"]

    with pytest.raises(CheckpointError, match=r"has no text_config.hidden_act"):
        read_checkpoint(make_checkpoint("transformers", config=strip))


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("vision_cfg", "qk_norm", True, "vision_cfg.qk_norm = True"),
        ("vision_cfg", "block_type", "custom", "vision_cfg.block_type = 'custom'"),
        ("vision_cfg", "ls_init_value", 1e-4, "vision_cfg.ls_init_value = 0.0001"),
        ("vision_cfg", "something_of_2030", 1, "vision_cfg.something_of_2030 = 1"),
        ("text_cfg", "ls_init_value", 1e-4, "text_cfg.ls_init_value = 0.0001"),
        ("text_cfg", "tokenizer_mode", "clips", "text_cfg.tokenizer_mode = 'clips'"),
        ("text_cfg", "final_ln_after_pool", True, "text_cfg.final_ln_after_pool = True"),
        (None, "audio_cfg", {}, "audio_cfg"),
    ],
)
def test_an_open_clip_network_that_is_not_supported_is_named(
    make_checkpoint: Make, part: str | None, key: str, value: Any, message: str
) -> None:
    def edit(config: dict[str, Any]) -> None:
        (config["model_cfg"][part] if part else config["model_cfg"])[key] = value

    with pytest.raises(CheckpointError, match="asks for a network that is not supported:") as caught:
        read_checkpoint(make_checkpoint(config=edit))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("vision_cfg", {"pool_type": "tok", "attentional_pool": False, "patch_dropout": 0.5, "timm_model_name": None}),
        ("text_cfg", {"pool_type": "argmax", "embed_cls": False, "pad_id": 0, "output_tokens": False}),
    ],
)
def test_open_clip_settings_at_their_defaults_change_nothing(
    make_checkpoint: Make, picture: Any, expected: torch.Tensor, part: str, settings: dict[str, Any]
) -> None:
    folder = make_checkpoint(config=lambda c: c["model_cfg"][part].update(settings))
    assert torch.equal(embed(folder, picture), expected)


def test_a_transformers_model_of_another_type_is_named(make_checkpoint: Make) -> None:
    folder = make_checkpoint("transformers", config=lambda c: c.update(model_type="align"))
    with pytest.raises(CheckpointError, match="model type 'align'; expected 'clip' or 'siglip'"):
        read_checkpoint(folder)


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "QuickGELU"])
def test_an_activation_that_is_not_known(make_checkpoint: Make, activation: str) -> None:
    folder = make_checkpoint("transformers", config=lambda c: c["text_config"].update(hidden_act=activation))
    with pytest.raises(CheckpointError, match=f"hidden_act is '{activation}'; expected one of quick_gelu, gelu"):
        read_checkpoint(folder)


@pytest.mark.parametrize("size", [16, 48, 64, 8, 0])
def test_an_image_size_that_does_not_fit_the_positions(make_checkpoint: Make, layout: str, size: int) -> None:
    def edit(config: dict[str, Any]) -> None:
        part = config["model_cfg"]["vision_cfg"] if layout == "open_clip" else config["vision_config"]
        part["image_size"] = size

    message = rf"images of {size} x {size}, which make \d+ positions; the weights have 5"
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(make_checkpoint(layout, config=edit))


@pytest.mark.parametrize(("key", "value"), [("heads", 5), ("head_width", 20)])
def test_heads_that_do_not_divide_the_width(make_checkpoint: Make, key: str, value: int) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["model_cfg"]["text_cfg" if key == "heads" else "vision_cfg"][key] = value

    with pytest.raises(CheckpointError, match=f"is {value}, which does not divide the width"):
        read_checkpoint(make_checkpoint(config=edit))


def test_the_number_of_heads_changes_the_embeddings(make_checkpoint: Make, picture: Any, expected: Any) -> None:
    # Nothing in the weights tells it, so it has to come from the configuration.
    def edit(config: dict[str, Any]) -> None:
        config["model_cfg"]["vision_cfg"]["head_width"] = 8
        config["model_cfg"]["text_cfg"]["heads"] = 4

    changed = embed(make_checkpoint(config=edit), picture)
    assert ((changed - expected).norm(dim=1) > 1e-3).all()


# --------------------------------------------------------------------------------------------------- preprocessing


@pytest.mark.parametrize("key", ["mean", "std"])
def test_open_clip_preprocessing_without_statistics_is_an_error(make_checkpoint: Make, key: str) -> None:
    # OpenAI's numbers would be wrong for a quarter of the published models, in silence.
    with pytest.raises(CheckpointError, match=f"has no '{key}', and the weights cannot tell it"):
        read_checkpoint(make_checkpoint(config=lambda c: c["preprocess_cfg"].pop(key)))
    with pytest.raises(CheckpointError, match="has no 'preprocess_cfg'"):
        read_checkpoint(make_checkpoint(config=lambda c: c.pop("preprocess_cfg")))


def test_open_clip_preprocessing_settings(make_checkpoint: Make) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["preprocess_cfg"].update(
            mean=[0.1, 0.2, 0.3], std=0.5, interpolation="bilinear", resize_mode="squash", fill_color=7, size=32
        )

    settings = read_checkpoint(make_checkpoint(config=edit)).preprocess
    assert settings.mean == (0.1, 0.2, 0.3)
    assert settings.std == (0.5, 0.5, 0.5)
    assert (settings.interpolation, settings.resize_mode, settings.fill) == ("bilinear", "squash", 7)

    def strip(config: dict[str, Any]) -> None:
        for key in ("interpolation", "resize_mode", "fill_color", "size", "mode"):
            del config["preprocess_cfg"][key]

    settings = read_checkpoint(make_checkpoint(config=strip)).preprocess
    assert (settings.size, settings.interpolation, settings.resize_mode) == ((32, 32), "bicubic", "shortest")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": {"shortest_edge": 32}, "crop_size": 24}, "crops to .* expected the same size"),
        ({"size": {"shortest_edge": 64}, "crop_size": {"height": 32, "width": 32}}, "crops to .* after a resize"),
        ({"size": 64, "crop_size": 64}, "makes images of .* expected the image tower's"),
        ({"do_center_crop": False}, "crops to"),
        ({"do_resize": False}, "switches a step off"),
        ({"do_rescale": False}, "switches a step off"),
        ({"do_normalize": False}, "switches a step off"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"resample": 0}, r"resample 0; expected 2 \(bilinear\) or 3 \(bicubic\)"),
        ({"size": {"longest_edge": 32}}, "has no 'height'"),
        ({"image_mean": [0.5, 0.5]}, "expected three numbers"),
        ({"image_mean": None}, "has no 'image_mean'"),
        ({"image_std": None}, "has no 'image_std'"),
        ({"resample": None}, "has no 'resample'"),
        ({"size": None}, "has no 'size'"),
    ],
)
def test_transformers_preprocessing_that_is_not_supported(
    make_checkpoint: Make, changes: dict[str, Any], message: str
) -> None:
    folder = make_checkpoint("transformers", preprocess=lambda p: p.update(changes))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(folder)
    assert "preprocessor_config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        ({"size": 32, "crop_size": 32}, "shortest"),  # the form of 2021
        ({"size": {"shortest_edge": 32}}, "shortest"),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False}, "squash"),
    ],
)
def test_transformers_preprocessing_of_several_years(make_checkpoint: Make, changes: dict[str, Any], mode: str) -> None:
    folder = make_checkpoint("transformers", preprocess=lambda p: p.update(changes))
    settings = read_checkpoint(folder).preprocess
    assert (settings.size, settings.resize_mode) == ((32, 32), mode)


def test_a_squash_followed_by_a_crop_of_another_size_is_an_error(make_checkpoint: Make) -> None:
    changes = {"size": {"height": 32, "width": 32}, "do_center_crop": True, "crop_size": {"height": 24, "width": 24}}
    with pytest.raises(CheckpointError, match="crop"):
        read_checkpoint(make_checkpoint("transformers", preprocess=lambda p: p.update(changes)))


# ---------------------------------------------------------------------------------- anything in place of a setting


def _places(config: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in config.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _places(value, (*path, key))


def _set(config: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value


@pytest.mark.parametrize("value", [None, "x", 0, 2.5, [], [1], {}], ids=repr)
@pytest.mark.parametrize("name", ["open_clip_config.json", "config.json", "preprocessor_config.json"])
def test_a_setting_of_any_kind_is_usable_or_a_checkpoint_error(make_checkpoint: Make, name: str, value: Any) -> None:
    folder = make_checkpoint("open_clip" if name.startswith("open_clip") else "transformers")
    original = (folder / name).read_text()
    places = list(_places(json.loads(original)))
    if name.startswith("open_clip"):
        places.append(("model_cfg", "text_cfg", "norm_kwargs"))
    escaped = []
    for place in places:
        config = json.loads(original)
        _set(config, place, value)
        (folder / name).write_text(json.dumps(config))
        try:
            checkpoint: Any = read_checkpoint(folder)
        except CheckpointError:
            continue
        except Exception as error:
            escaped.append(f"{'.'.join(place)} = {value!r}: {error!r}")
        else:
            for stack in (checkpoint.vision.transformer, checkpoint.text.transformer):
                if not isinstance(stack.norm_eps, float) or not isinstance(stack.activation, str):
                    escaped.append(f"{'.'.join(place)} = {value!r}: {stack}")
    assert escaped == []


def test_an_epsilon_that_is_no_number_is_an_error(make_checkpoint: Make) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["model_cfg"]["text_cfg"]["norm_kwargs"] = {"eps": "1e-6"}

    with pytest.raises(CheckpointError, match="eps"):
        read_checkpoint(make_checkpoint(config=edit))


def test_epsilons_are_read(make_checkpoint: Make) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["model_cfg"]["vision_cfg"]["norm_kwargs"] = {"eps": 1e-6}

    checkpoint: Any = read_checkpoint(make_checkpoint(config=edit))
    assert checkpoint.vision.transformer.norm_eps == 1e-6
    assert checkpoint.text.transformer.norm_eps == 1e-5


def test_the_towers_must_agree_on_the_size_of_their_embeddings(make_checkpoint: Make, layout: str) -> None:
    name = {"open_clip": "visual.proj", "transformers": "visual_projection.weight"}[layout]
    shape = {"open_clip": (48, 24), "transformers": (24, 48)}[layout]
    folder = make_checkpoint(layout, weights=lambda state: state.update({name: torch.zeros(shape)}))
    with pytest.raises(CheckpointError, match=r"24.*32|32.*24"):
        read_checkpoint(folder)
