"""What results keep of images: names for good, pixels for a while."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeroshot import pictures
from zeroshot.image import thumbnail
from zeroshot.pictures import given, hold, name, small

CAT = Path(__file__).parents[1] / "examples" / "images" / "cat.jpg"


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    pictures._recent.clear()
    pictures._bytes = 0  # not by monkeypatch, which would bring back the bytes of what is no longer there
    yield
    pictures._recent.clear()
    pictures._bytes = 0


def png(side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("image", ["cat.jpg", Path("a/cat.jpg"), "s3://bucket/cat.jpg"])
def test_names_are_kept_as_they_are(image: Any) -> None:
    assert hold(image) is image
    assert given(hold(image)) is image
    assert name(hold(image)) == str(image)
    assert not pictures._recent


@pytest.mark.parametrize("image", [Image.new("RGB", (3, 2)), np.zeros((2, 3, 3), np.uint8), png(), bytearray(png())])
def test_images_in_memory_are_held_for_a_while(image: Any) -> None:
    kept = hold(image)
    assert given(kept) is image
    assert name(kept) is None
    assert small(kept, 8)


@pytest.mark.parametrize("image", [io.BytesIO(b""), None, 3])
def test_of_others_nothing_is_kept(image: Any) -> None:
    assert hold(image) is None
    assert given(None) is None
    assert small(None, 8) is None


def test_an_image_that_others_hold_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_HELD_BYTES", 100)
    image = Image.new("L", (11, 11))
    kept = hold(image)
    assert given(kept) is image  # too large to be held, but it lives
    del image
    gc.collect()
    assert given(kept) is None
    assert small(kept, 8) is None


def test_memory_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_HELD_BYTES", 10 * 100)
    kept = [hold(Image.new("L", (10, 10))) for _ in range(1000)]
    gc.collect()
    alive = [given(one) is not None for one in kept]
    assert alive == [False] * 990 + [True] * 10


def test_memory_is_bounded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_HELD_IMAGES", 3)
    kept = [hold(bytes([number])) for number in range(9)]
    assert [given(one) for one in kept] == [None] * 6 + [b"\x06", b"\x07", b"\x08"]
    assert len(pictures._recent) == 3
    assert pictures._bytes == 3


def test_an_image_goes_with_its_result() -> None:
    image = Image.new("L", (10, 10))
    import weakref

    alive = weakref.ref(image)
    kept = hold(image)
    del image
    gc.collect()
    assert alive() is not None
    del kept
    gc.collect()
    assert alive() is None


def test_a_part_of_an_array_counts_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_HELD_BYTES", 1000)
    whole = np.zeros((10, 10, 11), np.uint8)
    kept = hold(whole[0])
    gc.collect()
    assert given(kept) is None  # it would keep 1,100 bytes alive


def test_copies_hold_nothing() -> None:
    kept = hold(png())
    assert given(pickle.loads(pickle.dumps(kept))) is None
    assert given(copy.deepcopy(kept)) is None
    assert given(kept) == png()


def test_threads_count_right() -> None:
    def work() -> None:
        for _ in range(300):
            hold(b"1234")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pictures._bytes == 4 * len(pictures._recent) == 4 * pictures._HELD_IMAGES


def test_an_image_that_cannot_be_read_any_more_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert small(str(tmp_path / "broken.png"), 8) is None
    assert small(str(tmp_path / "nowhere.png"), 8) is None
    assert small("https://", 8) is None
    assert small(b"nothing", 8) is None


@pytest.mark.parametrize(
    ("size", "expected"), [((600, 400), (60, 40)), ((40, 80), (30, 60)), ((20, 10), (20, 10)), ((1000, 1), (60, 1))]
)
def test_thumbnails(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = Image.open(io.BytesIO(thumbnail(Image.new("RGB", size, (250, 20, 20)), 60)))
    assert picture.format == "JPEG"
    assert picture.size == expected
    red, green, blue = np.asarray(picture).reshape(-1, 3).mean(axis=0)
    assert red > 240
    assert max(green, blue) < 35


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_and_looks_the_same() -> None:
    photograph = Image.open(CAT)
    exact = photograph.copy()
    exact.thumbnail((64, 64), Image.Resampling.LANCZOS)
    found = Image.open(io.BytesIO(thumbnail(CAT, 64)))
    assert found.size == exact.size
    assert np.abs(np.asarray(found, np.float64) - np.asarray(exact, np.float64)).mean() < 8
    turned = np.asarray(exact.transpose(Image.Transpose.ROTATE_180), np.float64)
    assert np.abs(np.asarray(found, np.float64) - turned).mean() > 20  # the measure tells pictures apart
