"""Drawn sets show what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage  # type: ignore[import-untyped]

from zeroshot.drawings import LIMITS, Limit, photograph_limits
from zeroshot.errors import OptionError

Array = npt.NDArray[Any]


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
    assert negation.image(0, 0).tobytes() == photograph_limits(things)[2].image(0, 0).tobytes()
    with pytest.raises(OptionError, match="expected two at least"):
        photograph_limits({"a cat": "examples/images/cat.jpg"})
