"""Which image a result is of, without keeping that image: for those who look at results.

A name costs nothing and is kept: the file is read again when somebody looks. An image in memory is another matter: who
classifies a stream of them must not find them all in the results. It is held as long as it is one of the last ones and
the result itself is kept, and from then on for as long as somebody else holds it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np
from PIL import Image

from zeroshot.errors import ZeroShotError
from zeroshot.image import thumbnail

# What images of the last results may take in all: so many bytes of pixels, and so many of them.
_HELD_BYTES, _HELD_IMAGES = 256 * 2**20, 256


class HeldImage:
    """An image in memory: held for a while, then only as long as it lives elsewhere. Copies of it hold nothing."""

    __slots__ = ("__weakref__", "_image", "_weak")

    def __init__(self, image: Any = None) -> None:
        self._image = image
        try:
            self._weak = None if image is None else weakref.ref(image)
        except TypeError:  # bytes
            self._weak = None

    def get(self) -> Any:
        """Return the image, or None if it is gone."""
        return self._image if self._image is not None or self._weak is None else self._weak()

    def let_go(self) -> None:
        """Hold it no longer."""
        self._image = None

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldImage, ()  # a result that goes to another process, or into a file, goes without its image


# The last ones, the newest at the end; of those that are gone themselves the sizes are counted until their turn comes.
_recent: deque[tuple[weakref.ref[HeldImage], int]] = deque()
_bytes = 0
_lock = threading.Lock()


def hold(image: Any) -> Any:
    """Return what a result keeps of the image that it is of: its name, a `HeldImage`, or None.

    Parameters
    ----------
    image : image
        As `zeroshot.image.open_image` takes it. Of file objects, which have been read, nothing is kept.
    """
    if isinstance(image, (str, os.PathLike)):
        return image
    size = _size(image)
    if size is None:
        return None
    held = HeldImage(image)
    global _bytes
    with _lock:
        _recent.append((weakref.ref(held), size))
        _bytes += size
        while _bytes > _HELD_BYTES or len(_recent) > _HELD_IMAGES:
            oldest, freed = _recent.popleft()
            _bytes -= freed
            if (one := oldest()) is not None:
                one.let_go()
    return held


def given(kept: Any) -> Any:
    """Return the image of which `hold` returned `kept`, as it was given; None if it is gone."""
    return kept.get() if isinstance(kept, HeldImage) else kept


def name(kept: Any) -> str | None:
    """Return the path or URL of an image; None if it has none."""
    return os.fsdecode(kept) if isinstance(kept, (str, os.PathLike)) else None


def small(kept: Any, side: int) -> bytes | None:
    """Return a small JPEG, as `zeroshot.image.thumbnail` makes it; None if the image is gone or cannot be read."""
    image = given(kept)
    if image is None:
        return None
    try:
        return thumbnail(image, side)
    except (ZeroShotError, OSError):
        return None


def _size(image: Any) -> int | None:
    """Bytes of pixels; of a part of an array those of the whole, which it keeps alive."""
    if isinstance(image, Image.Image):
        return image.width * image.height * len(image.getbands())
    if isinstance(image, np.ndarray):
        while isinstance(image.base, np.ndarray):
            image = image.base
        return int(image.nbytes)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return memoryview(image).nbytes
    return None
