"""Classes of data find their labels: by name, by position, and never by guessing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroshot.errors import LabelError, OptionError
from zeroshot.matching import match_classes
from zeroshot.prompts import Labels, load_prompts, parse_labels


@pytest.mark.parametrize(
    ("classes", "labels", "positions", "how"),
    [
        (["cat", "dog"], ["cat", "dog"], (0, 1), "position"),
        (["cat", "dog"], ["dog", "cat"], (1, 0), "name"),
        (["Maine_Coon", "pug"], ["pug", "maine coon", "beagle"], (1, 0), "name"),
        (["cat", "kangoroo"], ["cat", "kangaroo"], (0, 1), "position"),
        (["SeaLake", "River", "fear"], ["lake or sea", "river", "fearful"], (0, 1, 2), "position"),
        ([*"abcdefghi", "lorry"], [*"abcdefghi", "truck"], tuple(range(10)), "position"),
        (["n01440764", "n01443537"], ["tench", "goldfish"], (0, 1), "position"),
        (["crane", "crane", "owl"], ["crane", "crane", "owl"], (0, 1, 2), "position"),
        (["00", "01"], ["blue", "red"], (0, 1), "position"),
        # As text they are sorted so, but what they count is plain.
        (["0", "1", "10", *"23456789"], list("abcdefghijk"), (0, 1, 10, *range(2, 10)), "position"),
        ([], ["blue", "red"], (), "position"),
    ],
)
def test_classes_find_their_labels(classes: list[str], labels: list[str], positions: tuple[int, ...], how: str) -> None:
    matching = match_classes(classes, parse_labels(labels))
    assert (matching.positions, matching.how, matching.missing) == (positions, how, ())


def test_synonyms_are_names() -> None:
    labels = Labels(("plane", "ship"), (("airplane", "aeroplane"), ("boat",)))
    assert match_classes(["Aeroplane", "boat", "plane"], labels).positions == (0, 1, 0)


def test_missing_classes_are_named_with_near_ones() -> None:
    matching = match_classes(["owl", "kangoroo", "crane"], parse_labels(["kangaroo", "owl", "crane", "crane"]))
    assert matching.positions == (1, None, None)
    assert matching.missing == (
        "no label for the class 'kangoroo'; did you mean 'kangaroo'?",
        "the class 'crane' is the name of several labels (2, 3); match by position, or rename it",
    )


@pytest.mark.parametrize(
    ("classes", "labels", "match", "message"),
    [
        (["a"], ["b", "c"], "position", "has 1 classes and there are 2 labels"),
        (["ape", "bee"], ["cat", "dog", "owl"], "auto", r"none of the 2 classes .*\('ape', 'bee'\)"),
        (["ape", "bee"], ["cat", "dog"], "auto", "if they stand in the same order, say match='position'"),
        (
            ["cat", "clock"],
            ["cat", "dog"],
            "auto",
            "'cat' agrees, but 'clock' stands against 'dog'; say match='position'",
        ),
        (
            ["cat", "bee", "boat", "ox"],
            ["cat", "bee", "coat", "cow"],
            "auto",
            "'bee' agree, but 'boat' .* or match='name'",
        ),
        (["ape", "bee"], ["cat", "dog"], "name", "none of the 2 classes"),
        (["1", "2", "3"], list("abc"), "auto", "called by numbers, 1 to 3, and there are 3; expected 0 to 2"),
    ],
)
def test_what_does_not_match(classes: list[str], labels: list[str], match: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        match_classes(classes, parse_labels(labels), match=match)


def test_match_is_an_option() -> None:
    assert match_classes(["ape", "bee"], parse_labels(["bee", "ape"]), match="position").positions == (0, 1)
    with pytest.raises(OptionError, match="match is 'rank'"):
        match_classes(["a"], parse_labels(["a"]), match="rank")  # type: ignore[arg-type]


def test_the_trap_of_the_pets() -> None:
    # Loaders number breeds without regard to case, the paper's list has the cats first.
    pets = load_prompts("oxford_pets")
    loaded = sorted((name.replace(" ", "_") for name in pets.classes), key=str.lower)
    matching = match_classes(loaded, pets.labels)
    assert matching.how == "name"
    assert matching.positions[:5] == (0, 12, 13, 14, 15)


@given(st.lists(st.sampled_from(["cat", "Cat", "dog", "owl_x", "owl x", "ape"]), min_size=1, max_size=6))
def test_by_name_equal_names_meet_or_nothing_does(labels: list[str]) -> None:
    classes = ["dog", "cat", "owl-x", "zebu"]
    try:
        matching = match_classes(classes, parse_labels(labels), match="name")
    except LabelError:
        return
    for name, position in zip(classes, matching.positions, strict=True):
        if position is not None:
            fold = labels[position].lower().replace("_", " ")
            assert fold == name.replace("-", " ")
            assert labels.count(labels[position]) == 1
    assert sum(position is None for position in matching.positions) == len(matching.missing)
