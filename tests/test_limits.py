"""Drawn sets show what they say, and verdicts are those of exact tests."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage  # type: ignore[import-untyped]
import scipy.stats  # type: ignore[import-untyped]
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroshot.errors import OptionError
from zeroshot.limits import (
    ABOVE,
    BELOW,
    CHANCE,
    LIMITS,
    Limit,
    binomial_tail,
    clopper_pearson,
    find_limits,
    photograph_limits,
)

Array = npt.NDArray[Any]


class Oracle:
    """An encoder that knows the pictures: it says the right class, moved on by so many classes, or always the first."""

    name, dim, logit_scale, logit_bias, fingerprint = "oracle", 64, 50.0, None, "oracle"
    device = torch.device("cpu")

    def __init__(self, per_class: int, *, moved: int = 0, constant: bool = False, names: Sequence[str] = ()) -> None:
        self.answers: dict[bytes, str] = {}
        for limit in (LIMITS[name] for name in names):
            for image, target in zip(*limit.images(per_class), strict=True):
                said = 0 if constant else (target + moved) % len(limit.labels)
                self.answers[image.tobytes()] = limit.prompts[said]

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [np.random.default_rng(list(text.encode())).normal(size=self.dim) for text in texts]
        return torch.from_numpy(np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32))

    def encode_images(self, images: Any) -> torch.Tensor:
        return self.encode_texts([self.answers[image.tobytes()] for image in images])


def masks(limit: Limit, label: int, number: int) -> tuple[Array, Array]:
    """The picture as (224, 224, 3), and which pixels are not of its paper."""
    pixels = np.asarray(limit.image(label, number)).astype(np.int64)
    return pixels, np.abs(pixels - pixels[0, 0]).sum(axis=2) > 100


def parts(mask: Array) -> list[tuple[float, float, int, float]]:
    """Column, row, area, and share of the enclosing box of each connected part, from the left."""
    labels, count = scipy.ndimage.label(mask)
    found = []
    for index, box in enumerate(scipy.ndimage.find_objects(labels), 1):
        inside = labels[box] == index
        row, column = scipy.ndimage.center_of_mass(labels == index)
        found.append((float(column), float(row), int(inside.sum()), float(inside.mean())))
    assert len(found) == count
    return sorted(found)


# ------------------------------------------------------------------------------------------------------- the pictures


@pytest.mark.parametrize("name", LIMITS)
def test_pictures_are_the_same_each_time_and_differ_from_each_other(name: str) -> None:
    limit = LIMITS[name]
    first, again = limit.images(2), limit.images(2)
    assert first[1] == again[1] == [label for label in range(len(limit.labels)) for _ in range(2)]
    assert [image.tobytes() for image in first[0]] == [image.tobytes() for image in again[0]]
    assert len({image.tobytes() for image in first[0]}) == len(first[0])
    assert limit.image(0, 0).tobytes() != limit.image(0, 0, seed=1).tobytes()
    assert {(image.size, image.mode) for image in first[0]} == {((224, 224), "RGB")}


@pytest.mark.parametrize("label", range(6))
def test_there_are_as_many_circles_as_counted(label: int) -> None:
    for number in range(8):
        found = parts(masks(LIMITS["counting"], label, number)[1])
        assert len(found) == label + 1
        assert len({area for *_, area, _ in found}) <= label + 1
        assert all(0.70 < share < 0.83 for *_, share in found)  # pi / 4 of their boxes


@pytest.mark.parametrize("label", range(2))
def test_sides_sizes_and_presence(label: int) -> None:
    for number in range(8):
        left, right = parts(masks(LIMITS["left_right"], label, number)[1])
        assert [left[3] < 0.9, right[3] < 0.9] == ([True, False] if label == 0 else [False, True])
        pixels, mask = masks(LIMITS["size"], label, number)
        red, blue = (mask & (pixels[..., a] > pixels[..., b] + 60) for a, b in ((0, 2), (2, 0)))
        assert (red.sum() > 3 * blue.sum()) == (label == 0)
        assert (blue.sum() > 3 * red.sum()) == (label == 1)
        shares = [share for *_, share in parts(masks(LIMITS["negation"], label, number)[1])]
        assert len(shares) == 2
        assert any(0.70 < share < 0.83 for share in shares) == (label == 0)
        assert any(share > 0.95 for share in shares)  # the square is always there


def test_which_colour_and_which_side_the_large_one_is_on_do_not_give_it_away() -> None:
    sides = {label: set() for label in range(2)}  # type: dict[int, set[bool]]
    for label in range(2):
        for number in range(20):
            found = parts(masks(LIMITS["size"], label, number)[1])
            sides[label].add(found[0][2] > found[1][2])
    assert sides == {0: {True, False}, 1: {True, False}}


def test_the_car_is_smaller_the_further_away() -> None:
    widths = []
    for label in range(3):
        found = []
        for number in range(6):
            pixels = np.asarray(LIMITS["distance"].image(label, number)).astype(np.int64)
            lights = (pixels[..., 0] > 225) & (pixels[..., 1] < 90) & (pixels[..., 2] < 80)
            found.append(float(np.ptp(np.nonzero(lights)[1])) if lights.any() else 0.0)
        widths.append(found)
    assert min(widths[0]) > max(widths[1])
    assert min(widths[1]) > max(widths[2])


def test_colours_are_the_named_ones() -> None:
    for label, name in enumerate(LIMITS["colours"].labels):
        pixels, mask = masks(LIMITS["colours"], label, 0)
        red, green, blue = np.median(pixels[mask], axis=0)
        strongest = {"red": red, "green": green, "blue": blue}
        if name in strongest:
            assert strongest[name] == max(strongest.values())


def test_prompts_are_one_for_each_label_and_all_different() -> None:
    for name, limit in LIMITS.items():
        assert limit.name == name
        assert len(limit.prompts) == len(limit.labels) == len(set(limit.prompts)) == len(set(limit.labels))
        assert limit.source
    assert LIMITS["colours"].prompts[-1] == "a drawing of an orange shape."
    assert LIMITS["counting"].prompts[:2] == ("a drawing of one circle.", "a drawing of two circles.")
    assert [name for name, limit in LIMITS.items() if limit.control] == ["colours", "shapes"]


# --------------------------------------------------------------------------------------------------------- statistics


@settings(max_examples=60)
@given(st.integers(1, 300), st.floats(0, 1), st.floats(0.01, 0.99))
def test_exact_tests_are_scipys(trials: int, part: float, share: float) -> None:
    successes = round(part * trials)
    expected = scipy.stats.binomtest(successes, trials, share, alternative="greater")
    assert binomial_tail(successes, trials, share) == pytest.approx(expected.pvalue, rel=1e-8, abs=1e-14)
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_the_interval_covers() -> None:
    # By the binomial distribution itself, not by simulation: at least 95% whatever the truth.
    for share in (0.05, 0.17, 0.5, 0.9):
        covered = 0.0
        for successes in range(41):
            low, high = clopper_pearson(successes, 40)
            chance = math.comb(40, successes) * share**successes * (1 - share) ** (40 - successes)
            covered += chance * (low <= share <= high)
        assert 0.95 <= covered < 1


# ------------------------------------------------------------------------------------------------------------ verdicts


@pytest.mark.parametrize("name", LIMITS)
def test_an_encoder_that_knows_is_above_chance_and_one_that_is_wrong_below(name: str) -> None:
    limit = LIMITS[name]
    right = find_limits(Oracle(6, names=[name]), sets=[name], per_class=6).results[0]
    assert (right.accuracy, right.verdict) == (1.0, ABOVE)
    assert right.n_images == 6 * len(limit.labels)
    assert right.chance == 1 / len(limit.labels)
    assert right.interval[1] == 1.0
    assert right.p_value < 0.001
    assert right.favourite_share == pytest.approx(right.chance)
    wrong = find_limits(Oracle(20, moved=1, names=[name]), sets=[name], per_class=20).results[0]
    assert (wrong.accuracy, wrong.verdict) == (0.0, BELOW)


def test_an_encoder_that_always_says_the_same_is_at_chance() -> None:
    found = find_limits(Oracle(5, constant=True, names=["counting"]), sets=["counting"], per_class=5).results[0]
    assert (found.accuracy, found.verdict) == (pytest.approx(1 / 6), CHANCE)
    assert (found.favourite, found.favourite_share) == ("one", 1.0)


def test_one_picture_said_differently_changes_the_figure() -> None:
    oracle = Oracle(5, names=["left_right"])
    key = LIMITS["left_right"].image(0, 3).tobytes()
    oracle.answers[key] = LIMITS["left_right"].prompts[1]
    assert find_limits(oracle, sets=["left_right"], per_class=5).results[0].accuracy == pytest.approx(0.9)


def test_sets_of_photographs() -> None:
    things = {name: f"examples/images/{name.split()[-1]}.jpg" for name in ("a cat", "a rocket", "a clock")}
    known, counting, negation, sides = photograph_limits(things)
    assert known.prompts == ("a photo of a cat.", "a photo of a rocket.", "a photo of a clock.")
    assert sides.prompts == ("a cat to the left of a rocket.", "a rocket to the left of a cat.")
    # The left half of the one picture is of the thing of the right half of the other.
    left, right = (np.asarray(sides.image(label, 0)).astype(np.int64) for label in (0, 1))
    cat = np.asarray(known.image(0, 0)).mean(axis=(0, 1))
    for picture, half in ((left, slice(0, 112)), (right, slice(112, 224))):
        other = slice(112, 224) if half.start == 0 else slice(0, 112)
        rows = np.flatnonzero(np.abs(picture - picture[0, 0]).sum(axis=(1, 2)) > 5000)
        near, far = (np.abs(picture[rows][:, part].mean(axis=(0, 1)) - cat).sum() for part in (half, other))
        assert near < far
    for label in range(4):
        for number in range(4):
            pixels = np.asarray(counting.image(label, number)).astype(np.int64)
            cells = [pixels[y : y + 112, x : x + 112] for y in (0, 112) for x in (0, 112)]
            assert sum(np.abs(cell - pixels[0, 0]).sum() > 10_000 for cell in cells) == label + 1
    found = find_limits("mini", sets=["shapes"], photographs=things, per_class=4)
    assert [one.limit.name for one in found.results][1] == "photographs"
    assert found.results[1].verdict == ABOVE
    assert negation.image(0, 0).tobytes() == photograph_limits(things)[2].image(0, 0).tobytes()
    with pytest.raises(OptionError, match="expected two at least"):
        photograph_limits({"a cat": "examples/images/cat.jpg"})


def test_mini_on_drawings() -> None:
    # It knows photographs alone, and its card says that it cannot count.
    found = find_limits("mini", sets=["counting"], per_class=4)
    assert found.results[0].verdict == CHANCE
    assert found.model == "mini"


# ------------------------------------------------------------------------------------------------------------- showing


def test_the_table_the_page_and_the_dictionary(tmp_path: Path) -> None:
    names = ["colours", "left_right"]
    found = find_limits(Oracle(5, constant=True, names=names), sets=names, per_class=5)
    lines = str(found).splitlines()
    assert lines[2].split() == [
        "set",
        "classes",
        "images",
        "accuracy",
        "95%",
        "chance",
        "verdict",
        "says",
        "most",
        "often",
    ]
    assert "50.0%  no better than chance  'circle left', 100%" in lines[4]
    assert "A control failed (Colours)" in lines[-1]
    data = json.loads(json.dumps(found.to_dict()))
    assert data["sets"][1]["interval"] == list(found.results[1].interval)
    assert data["sets"][1]["prompts"][0] == "a circle to the left of a square."
    markdown = found.markdown()
    assert markdown.count("\n|") == 4
    assert "- **Colours** (a control): Which colour has the shape?" in markdown
    found.save_html(tmp_path / "limits.html", pictures=2)
    page = (tmp_path / "limits.html").read_text(encoding="utf-8")
    assert page.count("<img src=") == 2 * (6 + 2)
    assert "a circle to the left of a square." in page
    assert "<td>no better than chance</td>" in found._repr_html_()


def test_mistakes_are_told() -> None:
    with pytest.raises(OptionError, match=r"sets are \['telling time'\]; expected some of colours, shapes, counting"):
        find_limits("mini", sets=["telling time"])
    with pytest.raises(OptionError, match="per_class is 0"):
        find_limits("mini", per_class=0)
    with pytest.raises(OptionError, match="expected some of"):
        find_limits("mini", sets=[])
