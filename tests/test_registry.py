"""Names of models: what they lead to, and what a person reads who types another. Downloads are in test_hub.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroshot.errors import CheckpointNotFoundError, InputTypeError, ModelNotFoundError, OptionError
from zeroshot.registry import DEFAULT_MODEL, available_models, is_known, locate

# ------------------------------------------------------------------------------------------------------ the table
# What it says is held in test_models.py.


def names(pattern: str = "", **options: Any) -> list[str]:
    return [entry.name for entry in available_models(pattern, **options)]


def test_all_models_are_listed_by_name() -> None:
    assert {DEFAULT_MODEL, "mini"} < set(names())
    assert all(is_known(name) for name in names())
    assert names("vit-b-16-plus") == ["ViT-B-16-plus-240/laion400m_e31", "ViT-B-16-plus-240/laion400m_e32"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("l-14/OPEN", ["ViT-L-14/openai"]),
        ("openai b-32", ["ViT-B-32/hf-openai", "ViT-B-32/openai", "ViT-B-32-quickgelu/openai"]),
        ("rn50/*", ["RN50/cc12m", "RN50/openai", "RN50/yfcc15m"]),
        ("RN50x?-*", ["RN50x4-quickgelu/openai"]),  # "?" is one character
        ("rn50x[46]/*", ["RN50x4/openai"]),
        ("  mini ", ["mini"]),
        ("no such thing", []),
    ],
)
def test_models_are_found_by_words_and_by_patterns(pattern: str, found: list[str]) -> None:
    assert names(pattern) == found


def test_models_are_sorted() -> None:
    sizes = [entry.parameters_million for entry in available_models(sort="size")]
    assert sizes == sorted(sizes)
    assert names(sort="size")[0] == "mini"
    best = [entry.imagenet_top1 for entry in available_models(sort="accuracy")]
    known = [top1 for top1 in best if top1 is not None]
    assert best[: len(known)] == sorted(known, reverse=True)  # those of unknown accuracy come last
    assert None in best
    assert names("rn50/*", sort="accuracy") == ["RN50/openai", "RN50/cc12m", "RN50/yfcc15m"]


@given(st.text(max_size=12), st.sampled_from(["name", "size", "accuracy"]))
def test_any_pattern_selects(pattern: str, sort: Any) -> None:
    selected = names(pattern, sort=sort)
    assert sorted(selected) == sorted(set(selected) & set(names()))
    assert selected == [name for name in names(sort=sort) if name in selected]


def test_a_model_is_found_by_its_name() -> None:
    for name in names():
        assert name in names(name)


def test_an_order_that_there_is_not() -> None:
    with pytest.raises(OptionError, match="sort is 'speed'; expected one of name, size, accuracy"):
        available_models(sort="speed")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ViT-B-32/opnai", "ViT-B-32/openai"),
        ("vit-b-32/openai", "ViT-B-32/openai"),
        ("ViT-B/32/openai", "ViT-B-32/openai"),
        ("ViT-L-14@336/openai", "ViT-L-14-336/openai"),
        ("ViT-L-14@336px", "ViT-L-14-336/openai"),
        ("ViT-L-14/datacomp", "ViT-L-14/datacomp_xl_s13b_b90k"),
        ("EVA02", "EVA02-E-14/laion2b_s4b_b115k"),
        ("google/siglip-base-patch16-224", "ViT-B-16-SigLIP/hf-webli"),  # a repository, by its own name
        ("timm/ViT-B-16-SigLIP", "ViT-B-16-SigLIP/webli"),
    ],
)
def test_an_unknown_name_lists_names_that_are_near(name: str, near: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate(name)
    message = str(caught.value)
    assert f"Near names: {near}" in message  # the nearest first
    assert repr(name) in message
    assert "available_models()" in message
    assert isinstance(caught.value, LookupError)


def test_five_near_names_are_enough() -> None:
    with pytest.raises(ModelNotFoundError, match=r"Near names: ViT-B-32/openai(, ViT-B-32/[^,]+){4}\. "):
        locate("ViT-B-32/openia")
    assert len(repr(available_models()[0])) < 120


def test_a_name_that_is_near_to_nothing_still_gets_help() -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"no model is called '\?\?\?'.*available_models\(\) lists all; 'hf-hub:"
    ):
        locate("???")


def test_a_wrong_tag_lists_all_that_there_are() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate("RN50/laion400m")
    assert all(name in str(caught.value) for name in names("rn50/*"))
    assert "RN50-quickgelu" not in str(caught.value)


@pytest.mark.parametrize("name", ["ViT-B-32", "vit-b-32", "ViT-B/32"])
def test_an_architecture_without_a_tag_lists_its_tags(name: str) -> None:
    # Somebody else's library would give random weights here.
    with pytest.raises(ModelNotFoundError, match=f"'{name}' is an architecture; expected one of its checkpoints") as e:
        locate(name)
    assert "ViT-B-32/openai" in str(e.value)
    assert "ViT-B-32-quickgelu/openai" not in str(e.value)


@pytest.mark.parametrize(
    "name", ["./here", "../here", "/nowhere/here", "~/nowhere", "here.safetensors", "a/b.safetensors"]
)
def test_a_path_that_does_not_exist_is_told_from_a_name(name: str) -> None:
    with pytest.raises(CheckpointNotFoundError, match="does not exist; expected a checkpoint folder") as caught:
        locate(name)
    assert name in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_name_too_long_for_a_file() -> None:
    with pytest.raises(ModelNotFoundError):
        locate("word " * 200)


def test_paths_are_taken_as_they_are(open_clip_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert locate(open_clip_folder).path == open_clip_folder
    assert locate(str(open_clip_folder)).path == open_clip_folder
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("my-model").path.resolve() == tmp_path / "my-model"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/my-model").path == tmp_path / "my-model"


@pytest.mark.parametrize("name", ["mini", DEFAULT_MODEL])
def test_a_path_object_is_never_a_name(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate(Path(name)).path.resolve() == tmp_path / name


@pytest.mark.parametrize("model", [None, 3, b"mini", ["mini"], object()])
def test_a_model_of_another_type(model: Any) -> None:
    with pytest.raises(InputTypeError, match=f"model is of type {type(model).__name__}; expected a name such as"):
        locate(model)
