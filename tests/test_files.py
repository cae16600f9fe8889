"""Which files make a checkpoint: what is found, what is refused, and what the message says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zeroshot.errors import CheckpointError, CheckpointNotFoundError
from zeroshot.files import (
    LAYOUT_FILES,
    choose_files,
    find_weights,
    layout_files,
    read_json,
    required,
    shard_names,
    tokenizer_source,
)


def write_index(folder: Path, content: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("name", [name for name in LAYOUT_FILES if not name.endswith(".json")])
def test_weights_are_found_by_folder_and_by_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "README.md").touch()
    assert find_weights(tmp_path) == find_weights(tmp_path / name) == [tmp_path / name]


@pytest.mark.parametrize("name", ["epoch_12.safetensors", "pytorch_model.bin", "ViT-B-32.pt", "weights"])
def test_a_weights_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Its content tells what it is; `zeroshot.weights` refuses what it cannot read safely."""
    (tmp_path / name).touch()
    assert find_weights(tmp_path / name) == [tmp_path / name]
    assert shard_names(tmp_path / name) == [name]


def test_safetensors_go_before_other_formats(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "open_clip_pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).touch()
    assert find_weights(tmp_path) == [tmp_path / "model.safetensors"]


def test_shards_are_found_through_their_index(tmp_path: Path) -> None:
    index = write_index(tmp_path, {"weight_map": {"c": "2.safetensors", "a": "1.safetensors", "b": "1.safetensors"}})
    expected = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    assert find_weights(tmp_path) == find_weights(index) == expected
    assert shard_names(index) == ["1.safetensors", "2.safetensors"]


def test_a_folder_with_both_layouts_is_read_in_a_fixed_order(tmp_path: Path) -> None:
    for name in LAYOUT_FILES:
        (tmp_path / name).touch()
    assert find_weights(tmp_path) == [tmp_path / "open_clip_model.safetensors"]


def test_a_folder_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "flax_model.msgpack").touch()
    with pytest.raises(CheckpointNotFoundError, match=r"expected one of open_clip_model.*, found flax_model.msgpack"):
        find_weights(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="found nothing"):
        find_weights(tmp_path / "empty")


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"nowhere does not exist; expected a checkpoint folder"):
        find_weights(tmp_path / "nowhere")


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "sub/1.safetensors", "..", ".", ""])
def test_an_index_cannot_name_files_elsewhere(tmp_path: Path, shard: str) -> None:
    index = write_index(tmp_path, {"weight_map": {"a": shard}})
    with pytest.raises(CheckpointError, match="shard") as caught:
        find_weights(index)
    assert repr(shard) in str(caught.value)


@pytest.mark.parametrize("weight_map", [{}, [], ["1.safetensors"], "1.safetensors", 3, {"a": 1}, {"a": None}, None])
def test_an_index_of_another_form_is_an_error(tmp_path: Path, weight_map: Any) -> None:
    index = write_index(tmp_path, {"weight_map": weight_map})
    with pytest.raises(CheckpointError, match="weight_map"):
        find_weights(index)


# ------------------------------------------------------------------------------------------------------- layouts

OPEN_CLIP = ["open_clip_config.json"]
TRANSFORMERS = ["config.json", "preprocessor_config.json"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([*TRANSFORMERS, *OPEN_CLIP, *LAYOUT_FILES], ("open_clip_model.safetensors", OPEN_CLIP)),
        ([*TRANSFORMERS, "open_clip_model.safetensors", "model.safetensors"], ("model.safetensors", TRANSFORMERS)),
        ([*TRANSFORMERS, "pytorch_model.bin.index.json"], ("pytorch_model.bin.index.json", TRANSFORMERS)),
        (
            ["config.json", "processor_config.json", "model.safetensors"],
            ("model.safetensors", ["config.json", "processor_config.json"]),
        ),
        # timm publishes the image tower alone beside open_clip's weights.
        (
            ["config.json", "model.safetensors", *OPEN_CLIP, "open_clip_pytorch_model.bin"],
            ("open_clip_pytorch_model.bin", OPEN_CLIP),
        ),
        (["config.json", "model.safetensors"], None),
        (["model.safetensors", "open_clip_model.safetensors"], None),
        (TRANSFORMERS, None),
        ([], None),
    ],
)
def test_weights_are_chosen_with_their_configuration(
    tmp_path: Path, names: list[str], chosen: tuple[str, list[str]] | None
) -> None:
    assert choose_files(names) == choose_files(names[::-1]) == chosen
    for name in names:
        (tmp_path / name).write_text('{"weight_map": {"a": "1"}}', encoding="utf-8")
    if chosen:
        assert find_weights(tmp_path) == find_weights(tmp_path / chosen[0])


def test_the_files_of_one_layout() -> None:
    assert list(layout_files("transformers")) == [name for name in LAYOUT_FILES if "open_clip" not in name]
    assert list(layout_files("open_clip")) == [name for name in LAYOUT_FILES if "open_clip" in name]
    assert layout_files("open_clip", ["a.pt"]) == {"a.pt": layout_files("open_clip")["open_clip_model.safetensors"]}
    assert choose_files([*TRANSFORMERS, "model.safetensors"], layout_files("open_clip")) is None
    assert choose_files([*OPEN_CLIP, "b.pt", "c.pt"], layout_files("open_clip", ["a.pt", "b.pt"])) == (
        "b.pt",
        OPEN_CLIP,
    )


@pytest.mark.parametrize(
    ("name", "config", "source"),
    [
        ("open_clip_config.json", {"model_cfg": {"text_cfg": {}}}, None),
        ("open_clip_config.json", {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "a/b"}}}, "a/b"),
        ("open_clip_config.json", {"model_cfg": {"text_cfg": {"hf_model_name": "c"}}}, "c"),
        (
            "open_clip_config.json",
            {"model_cfg": {"text_cfg": {"hf_model_name": "c", "hf_tokenizer_name": "a/b"}}},
            "a/b",
        ),
        ("config.json", {"model_type": "siglip"}, ""),
        ("config.json", {"model_type": "clip"}, None),
        ("config.json", {}, None),
    ],
)
def test_whose_tokenizer_a_checkpoint_uses(name: str, config: dict[str, Any], source: str | None) -> None:
    assert tokenizer_source(config, Path(name)) == source


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "model_cfg is None; expected an object"),
        ({"model_cfg": []}, r"model_cfg is \[\]; expected an object"),
        ({"model_cfg": {"text_cfg": "clip"}}, "text_cfg is 'clip'; expected an object"),
        (
            {"model_cfg": {"text_cfg": {"hf_tokenizer_name": 3}}},
            "the tokenizer is 3; expected the name of a repository",
        ),
    ],
)
def test_a_configuration_that_does_not_say_whose_tokenizer(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"a/open_clip_config.json: {message}"):
        tokenizer_source(config, Path("a/open_clip_config.json"))


# ----------------------------------------------------------------------------------------------------------- JSON


def test_json_is_read_as_utf8(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes('{"name": "Café"}'.encode())
    assert read_json(tmp_path / "config.json") == {"name": "Café"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[1, 2]", "holds a list; expected a JSON object"),
        (b"null", "holds a NoneType; expected a JSON object"),
        (b"[" * 100_000, "not valid JSON"),  # deeper than the interpreter's stack
        (b'{"a": ' + b"9" * 5_000 + b"}", "not valid JSON"),  # longer than the interpreter converts
    ],
    ids=["empty", "cut", "utf-16", "list", "null", "deep", "long number"],
)
def test_damaged_json_is_an_error_that_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_missing_json_says_what_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"config.json does not exist; it holds what weights cannot tell"):
        read_json(tmp_path / "config.json")


def test_required_takes_false_and_zero_but_not_null(tmp_path: Path) -> None:
    section = {"no": False, "zero": 0, "null": None}
    assert required(section, "no", tmp_path) is False
    assert required(section, "zero", tmp_path) == 0
    for key in ("null", "absent"):
        with pytest.raises(CheckpointError, match=f"has no '{key}'"):
            required(section, key, tmp_path)
