"""Corruptions are the published ones up to random numbers, the same for the same seed, and worse with severity."""

from __future__ import annotations

import functools
import inspect
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import zeroshot
from zeroshot import corruptions
from zeroshot.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    SIDE,
    available_corruptions,
    corrupt,
    corrupted_item,
    corrupted_items,
)
from zeroshot.errors import ImageNotFoundError, OptionError
from zeroshot.stream import Item

COFFEE = "examples/images/coffee.jpg"
# Of the published functions (hendrycks/robustness, Apache-2.0), fed with the random numbers that `corrupt` draws at
# seed 5, for coffee.jpg: the mean of each channel, and the pixels [16::64, 16::64].
PUBLISHED = json.loads((Path(__file__).parent / "golden" / "corruptions.json").read_text(encoding="utf-8"))
CASES = [(kind, severity) for kind in CORRUPTIONS for severity in SEVERITIES]
FIFTEEN = (
    "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog brightness "
    "contrast elastic_transform pixelate jpeg_compression"
)

Array = npt.NDArray[Any]


def pixels(kind: str, severity: int, seed: int | tuple[int, ...] = 5, image: Any = COFFEE) -> Array:
    return np.asarray(corrupt(image, kind, severity, seed=seed)).astype(np.int64)


@functools.cache
def coffee(kind: str, severity: int) -> Array:
    """The corrupted photograph that several tests look at, made once for all of them."""
    found = pixels(kind, severity)
    found.flags.writeable = False
    return found


# ----------------------------------------------------------------------------------------------------- as published


@pytest.mark.parametrize(("kind", "severity"), [case for case in CASES if case[0] != "frost"])
def test_every_kind_is_the_published_function(kind: str, severity: int) -> None:
    expected = PUBLISHED[f"{kind}_{severity}"]
    found = coffee(kind, severity)
    shown = found[16::64, 16::64].ravel()
    tolerance = 2 if kind == "snow" else 1  # of 255 levels: float32, and 8 bits between the steps
    assert np.abs(shown - expected["pixels"]).max() <= tolerance
    assert found.mean(axis=(0, 1)) == pytest.approx(expected["mean"], abs=0.7)
    # Another severity is not it.
    other = PUBLISHED[f"{kind}_{1 if severity > 1 else 5}"]["pixels"]
    assert np.abs(shown - other).max() > tolerance


@pytest.mark.parametrize(
    "kind", [kind for kind in CORRUPTIONS if kind not in ("frost", "pixelate", "jpeg_compression")]
)
def test_a_parameter_that_is_moved_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CORRUPTIONS[kind]
    first, *rest = entry.parameters
    value = first[0] if isinstance(first, tuple) else first
    moved = value + 2 if kind in ("shot_noise", "zoom_blur") else value * 1.5 + 0.2
    changed = (moved, *first[1:]) if isinstance(first, tuple) else moved
    if kind in ("snow", "motion_blur"):  # the share that is kept; the width of the streak
        changed = (*first[:-1], first[-1] * 0.6)  # type: ignore[index]
    if kind == "zoom_blur":
        changed = (1.13, 0.01)
    monkeypatch.setitem(CORRUPTIONS, kind, type(entry)(**(vars(entry) | {"parameters": (changed, *rest)})))
    found = pixels(kind, 1)
    expected = PUBLISHED[f"{kind}_1"]
    moved_pixels = np.abs(found[16::64, 16::64].ravel() - expected["pixels"]).max() > 2
    assert moved_pixels or found.mean(axis=(0, 1)) != pytest.approx(expected["mean"], abs=0.5)


def test_the_fifteen_of_the_mean_error_and_three_more() -> None:
    assert available_corruptions(benchmark=True) == FIFTEEN.split()
    assert available_corruptions() == [*FIFTEEN.split(), "speckle_noise", "gaussian_blur", "saturate"]
    assert all(len(kind.parameters) == 5 for kind in CORRUPTIONS.values())
    assert [kind.name for kind in CORRUPTIONS.values() if kind.differs] == ["frost"]


@settings(max_examples=25)
@given(st.floats(0.3, 60), st.sampled_from(["nearest", "reflect"]), st.sampled_from([3.0, 4.0]), st.integers(5, 40))
def test_smoothing_is_scipys(sigma: float, mode: str, truncate: float, size: int) -> None:
    x = np.random.default_rng(size).random((size, size + 3, 3))
    expected = scipy.ndimage.gaussian_filter(x, (sigma, sigma, 0), mode=mode, truncate=truncate)
    np.testing.assert_allclose(corruptions._smooth(x, sigma, mode=mode, truncate=truncate), expected, atol=1e-10)


@settings(max_examples=25)
@given(st.floats(1, 4.5), st.integers(20, 60))
def test_enlarging_is_scipys(factor: float, side: int) -> None:
    x = np.random.default_rng(side).random((side, side))
    part = int(np.ceil(side / factor))
    top = (side - part) // 2
    large = scipy.ndimage.zoom(x[top : top + part, top : top + part], factor, order=1)
    trim = (large.shape[0] - side) // 2
    # Without the last row and column, where scipy may round itself out of the array, and reads 0.
    found, expected = corruptions._zoom(x, factor), large[trim : trim + side, trim : trim + side]
    np.testing.assert_allclose(found[:-1, :-1], expected[:-1, :-1], atol=1e-10)
    assert found.shape == expected.shape


@settings(max_examples=10)
@given(st.sampled_from([(3, 3), (17, 17), (5, 9)]), st.integers(10, 30))
def test_correlation_is_scipys(shape: tuple[int, int], side: int) -> None:
    rng = np.random.default_rng(side)
    x, kernel = rng.random((side, side, 3)), rng.random(shape)
    expected = scipy.ndimage.correlate(x, kernel[..., None], mode="mirror")
    np.testing.assert_allclose(corruptions._convolve(x, kernel), expected, atol=1e-9)


def test_reading_between_pixels_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, rows, columns = rng.random((20, 20, 1)), rng.uniform(-30, 50, (20, 20)), rng.uniform(-30, 50, (20, 20))
    for edge, mode in ((1, "reflect"), (0, "mirror")):
        expected = scipy.ndimage.map_coordinates(x[..., 0], [rows, columns], order=1, mode=mode)
        np.testing.assert_allclose(corruptions._sample(x, rows, columns, edge=edge)[..., 0], expected, atol=1e-9)


# -------------------------------------------------------------------------------------------------------- invariances


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_seed_gives_the_same_image_and_another_one_another(kind: str) -> None:
    first = coffee(kind, 3)
    assert np.array_equal(first, pixels(kind, 3))
    draws = "rng." in inspect.getsource(CORRUPTIONS[kind].function) or kind in ("frost", "fog")
    assert np.array_equal(first, pixels(kind, 3, seed=2)) == (not draws)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_images_are_small_squares_of_8_bits(kind: str) -> None:
    for severity in (0, 5):
        image = corrupt("examples/images/rocket.jpg", kind, severity)
        assert (image.size, image.mode) == ((SIDE, SIDE), "RGB")
    assert not np.array_equal(coffee(kind, 1), coffee(kind, 0))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_further_from_the_image_with_each_severity(kind: str) -> None:
    clean = coffee(kind, 0)
    errors = [np.abs(coffee(kind, severity) - clean).mean() for severity in SEVERITIES]
    if len(SCALES[kind]) == 5:
        assert errors == sorted(errors)
    if SCALES[kind]:
        assert errors[SCALES[kind][-1] - 1] > 1.2 * errors[SCALES[kind][0] - 1]


# The severities between which more is worse, whatever the random numbers: those whose parameters are one plain scale.
# The published parameters of the others trade one thing for another; saturation falls first and rises then.
SCALES = dict.fromkeys(CORRUPTIONS, SEVERITIES) | {
    "glass_blur": (1, 5),
    "motion_blur": (1, 5),
    "snow": (1, 5),
    "frost": (1, 3),
    "fog": (),
    "elastic_transform": (),
    "saturate": (3, 5),
}


@settings(max_examples=10)
@given(st.integers(40, 700), st.integers(40, 700))
def test_the_crop_is_that_of_torchvision(width: int, height: int) -> None:
    # Resize(256) and CenterCrop(224), by their documented arithmetic.
    rng = np.random.default_rng(width)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    short, long = (width, height) if width <= height else (height, width)
    size = (256, int(256 * long / short)) if width <= height else (int(256 * long / short), 256)
    large = image if short == 256 else image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((large.width - 224) / 2.0), round((large.height - 224) / 2.0)
    expected = np.asarray(large)[top : top + 224, left : left + 224]
    assert np.array_equal(np.asarray(corrupt(image, "fog", 0)), expected)


def test_black_white_and_grey_stay_finite() -> None:
    for value in (0, 255):
        flat = np.full((230, 230, 3), value, dtype=np.uint8)
        for kind in ("saturate", "brightness", "contrast", "shot_noise", "jpeg_compression"):
            assert pixels(kind, 5, image=flat).shape == (SIDE, SIDE, 3)
    assert pixels("fog", 5, image=np.zeros((230, 230, 3), dtype=np.uint8)).max() == 0  # fog of no light is black


# ------------------------------------------------------------------------------------------------------------ streams


def test_items_are_corrupted_by_their_position_alone() -> None:
    images = [COFFEE, Item("two", lambda: io.BytesIO(Path(COFFEE).read_bytes())), io.BytesIO(Path(COFFEE).read_bytes())]
    items = list(corrupted_items(images, "gaussian_noise", 4, seed=9))
    assert [item.source for item in items] == [COFFEE, "two", "2"]
    found = [np.asarray(item.image()) for item in items]
    for index, image in enumerate(found):
        assert np.array_equal(image, pixels("gaussian_noise", 4, seed=(9, index)))
    assert not np.array_equal(found[0], found[1])


def test_a_broken_image_is_a_broken_image() -> None:
    encoder = zeroshot.load("mini")
    results = list(zeroshot.stream.embed_stream(encoder, corrupted_items(["no such.jpg", COFFEE], "fog", 1)))
    assert isinstance(results[0].error, ImageNotFoundError)
    assert "no such.jpg" in str(results[0].error)
    assert results[1].error is None


def test_files_that_were_opened_for_it_are_closed() -> None:
    with Path(COFFEE).open("rb") as file:
        corrupted_item(Item("a", lambda: file), "fog", 1, seed=(0,)).image()
        assert file.closed


@pytest.mark.parametrize(("kind", "severity"), [("frog", 1), ("fog", 6), ("fog", -1), ("fog", True), ("fog", 1.5)])
def test_mistakes_are_told_at_once(kind: str, severity: Any) -> None:
    for call in (corrupt, corrupted_items):
        with pytest.raises(OptionError, match=r"is not known; expected one of gaussian_noise|expected 1 to 5, or 0"):
            call(COFFEE, kind, severity)


def test_kinds_draw_apart() -> None:
    assert len({zlib.crc32(kind.encode()) for kind in CORRUPTIONS}) == len(CORRUPTIONS)
