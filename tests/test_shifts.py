"""Natural distribution shifts: their classes are those of the prompt sets, and pooling takes the largest member."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroshot.errors import InputTypeError, LabelError, OptionError, PromptError
from zeroshot.prompts import load_prompts, shipped_folder, view_indices
from zeroshot.shifts import N_IMAGENET, available_shifts, load_shift, shift_table

ALL = ["imagenet", *available_shifts()]
VIEWS = {name: load_shift(name).prompts for name in available_shifts() if load_shift(name).prompts}
SIZES = {
    "imagenet_v2": 1000,
    "imagenet_sketch": 1000,
    "imagenet_r": 200,
    "imagenet_a": 200,
    "objectnet": 113,
    "imagenet_vid": 30,
    "youtube_bb": 19,
}


def test_the_seven_of_the_paper() -> None:
    assert {name: len(load_shift(name).labels) for name in available_shifts()} == SIZES


@pytest.mark.parametrize("name", ALL)
def test_each_class_has_a_name_a_folder_and_members_of_its_own(name: str) -> None:
    shift = load_shift(name)
    members = [index for group in shift.members for index in group]
    assert len(shift.labels) == len(shift.folders) == len(shift.members)
    assert len(set(members)) == len(members)
    assert set(members) <= set(range(N_IMAGENET))
    assert len(set(shift.folders)) == len(shift.folders)


@pytest.mark.parametrize(("name", "prompts"), VIEWS.items())
def test_classes_are_those_of_the_prompt_set(name: str, prompts: str) -> None:
    shift, imagenet, own = load_shift(name), load_prompts("imagenet"), load_prompts(prompts)
    assert shift.labels == own.classes
    # The words that the set averages for a class are the names of the members that are pooled.
    words = [tuple(imagenet.classes[index] for index in group) for group in shift.members]
    assert words == list(own.labels.synonyms)
    assert words != list(own.labels.synonyms)[::-1]


def test_the_folders_of_objectnet_are_those_that_the_prompt_set_notes() -> None:
    text = (shipped_folder() / "imagenet_objectnet.toml").read_text(encoding="utf-8")
    assert re.findall(r"# (\S+): ", text[text.index("indices = [") :]) == list(load_shift("objectnet").folders)


def test_the_folders_of_the_others_are_sorted_wordnet_ids() -> None:
    ids = load_shift("imagenet").folders
    assert len(ids) == N_IMAGENET
    assert list(ids) == sorted(ids)
    for name in ("imagenet_r", "imagenet_a"):
        shift = load_shift(name)
        assert shift.folders == tuple(ids[group[0]] for group in shift.members)
        assert list(shift.folders) == sorted(shift.folders)


def test_known_members_of_the_wide_classes() -> None:
    names = load_prompts("imagenet").classes
    youtube = dict(zip(load_shift("youtube_bb").labels, load_shift("youtube_bb").members, strict=True))
    # "For the person class in Youtube-BB, predictions are made by pooling over the ImageNet classes for a baseball
    # player, a bridegroom, and a scuba diver": CLIP's paper, section 3.3.
    assert [names[index] for index in youtube["person"]] == ["baseball player", "bridegroom", "scuba diver"]
    assert youtube["dog"] == tuple(range(151, 269))
    video = dict(zip(load_shift("imagenet_vid").labels, load_shift("imagenet_vid").members, strict=True))
    assert [names[index] for index in video["zebra"] + video["giant panda"]] == ["zebra", "giant panda"]
    assert len(video["domestic cat"]) == 5
    assert len(youtube["cat"]) == 7  # with cougar and lynx


@settings(max_examples=30)
@given(st.sampled_from(ALL), st.integers(0, 2**32 - 1))
def test_pooling_takes_the_largest_of_the_members(name: str, seed: int) -> None:
    shift = load_shift(name)
    scores = np.random.default_rng(seed).normal(size=(3, N_IMAGENET)).astype(np.float32)
    expected = [[max(row[index] for index in group) for group in shift.members] for row in scores]
    pooled = shift.pool(scores)
    assert pooled.tolist() == expected
    # A member that is raised above all makes its class the first; a class that the shift lacks changes nothing.
    target = np.random.default_rng(seed).integers(len(shift.members))
    scores[0, shift.members[target][-1]] = 100
    lacking = sorted(set(range(N_IMAGENET)) - {index for group in shift.members for index in group})
    scores[:, lacking] = 1000
    assert shift.pool(scores)[0].argmax() == target
    assert np.array_equal(shift.pool(scores)[1:], pooled[1:])


@pytest.mark.parametrize("name", ALL)
def test_positions_and_members_say_the_same(name: str) -> None:
    shift = load_shift(name)
    places = shift.positions(np.arange(N_IMAGENET))
    for position, group in enumerate(shift.members):
        assert set(np.flatnonzero(places == position)) == set(group)
    assert (places == -1).sum() == N_IMAGENET - sum(map(len, shift.members))


def test_folders_by_name_by_number_and_with_gaps() -> None:
    assert load_shift("imagenet_r").place_folders(["n01484850", "n01443537"]) == [1, 0]
    assert load_shift("imagenet_v2").place_folders(["0", "1", "10", "2"]) == [0, 1, 10, 2]
    assert load_shift("imagenet_v2").place_folders(["0000", "0010"]) == [0, 10]
    assert load_shift("objectnet").place_folders(["air_freshener", "alarm_clock", "wok"]) == [-1, 0, 112]
    assert load_shift("imagenet_vid").place_folders(["giant_panda", "zebra"]) == [12, 29]


@pytest.mark.parametrize(
    ("name", "folders", "strange"),
    [
        ("imagenet_r", ["n01440764"], "n01440764"),  # tench, which ImageNet-R does not have
        ("imagenet_r", ["n01443537", "goldfish"], "goldfish"),
        ("imagenet_v2", ["0", "1000"], "1000"),
        ("objectnet", ["air_freshener"], "air_freshener"),
    ],
)
def test_a_folder_that_is_no_class_is_told(name: str, folders: list[str], strange: str) -> None:
    with pytest.raises(LabelError, match=f"the class folder '{strange}' is none of .* expected names such as "):
        load_shift(name).place_folders(folders)


def test_what_cannot_be_pooled() -> None:
    shift = load_shift("imagenet_r")
    with pytest.raises(OptionError, match=r"shape \(2, 200\); expected \(n_images, 1000\)"):
        shift.pool(np.zeros((2, 200)))
    with pytest.raises(InputTypeError, match="expected numbers"):
        shift.pool([["a"] * 1000])
    with pytest.raises(OptionError, match="reach from 0 to 1000"):
        shift.positions([0, 1000])
    with pytest.raises(InputTypeError, match="class indices"):
        shift.positions([0.5])
    with pytest.raises(OptionError, match="shift 'imagenet_c' is not known; expected one of imagenet_v2"):
        load_shift("imagenet_c")


def test_the_table_names_columns_that_there_are() -> None:
    header = (Path(__file__).parents[1] / "zeroshot/data/imagenet_testbed.csv").read_text().splitlines()[0].split(",")
    for entry in shift_table().values():
        assert {entry["classes"], *entry["accuracy"]} <= set(header)


def test_only_views_have_indices() -> None:
    assert view_indices("imagenet_v2") == tuple((index,) for index in range(N_IMAGENET))
    for name in ("imagenet", "food101", "no such set"):
        with pytest.raises(PromptError, match="no shipped prompt set that is a view"):
            view_indices(name)
