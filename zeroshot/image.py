"""Anything that is an image -> RGB -> the pixels that a checkpoint was trained on.

Decoding honours the EXIF orientation, puts transparency over white and converts to 8-bit RGB *before* resizing.
(openai/CLIP and open_clip resize first: the same for RGB and grey images, worse for palettes, which they resize by
nearest neighbour, and for alpha, whose hidden colours they let shine through.) From there on every pixel equals
torchvision's `Resize` and `CenterCrop` on Pillow images, with which CLIP's checkpoints were trained.
"""

from __future__ import annotations

import io
import math
import os
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from zeroshot.errors import (
    CheckpointError,
    ImageError,
    ImageNotFoundError,
    InputTypeError,
    MissingExtraError,
    ZeroShotError,
)

ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | npt.NDArray[np.uint8]"
    " | Mapping[str, bytes | str | None]"
)


class ImageCollection(Protocol):
    """Lists, tuples, views, …, for type checkers; neither arrays, which have no `__reversed__`, nor `str` and `bytes`.

    Those two find only their own kind in themselves. Were they collections too, a ``str | list[str]`` would be one.
    """

    def __contains__(self, value: object, /) -> bool: ...
    def __iter__(self) -> Iterator[ImageLike]: ...
    def __reversed__(self) -> Iterator[ImageLike]: ...


# Several images. An array is one image to type checkers, which seldom know what is in it; one of four axes or of paths,
# which is a collection, is ``list(array)``.
Images: TypeAlias = "ImageCollection | Iterator[ImageLike] | Set[ImageLike]"
ResizeMode = Literal["shortest", "squash", "longest"]
Interpolation = Literal["bicubic", "bilinear"]

# EXIF orientations that exchange width and height, and those after which the picture's left or top was at an end.
_TURNED, _MIRRORED_LEFT_TO_RIGHT, _MIRRORED_TOP_TO_BOTTOM = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# Pixels of an image after its resize and before the crop, above which only the crop is computed.
_LARGEST_RESULT = 64_000_000
_TAKE_A_COLUMN = "take a column, such as table['image']"
# Characters of a path or URL that messages show in full.
_LONGEST_SHOWN = 400
# What servers answer where there is no such file: Not Found and Gone.
_GONE = (404, 410)
_KINDS = "a path, a URL, bytes, a file object, a PIL image or a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4)"


@dataclass(frozen=True, eq=False)
class Item:
    """An image under a name of its own, such as a member of an archive or a row of a table.

    Attributes
    ----------
    source : str
        What results and messages call it.
    image : image or callable
        Anything that `open_image` takes, or a function without arguments that returns it. The function is called in a
        decoding thread when its turn comes; a file object that it returns is closed.

    Examples
    --------
    >>> import zeroshot
    >>> clf = zeroshot.Classifier(["cat", "dog"], model="mini")
    >>> item = Item("photos.zip/cat.jpg", lambda: open("examples/images/cat.jpg", "rb"))
    >>> [(outcome.source, outcome.prediction.label) for outcome in clf.stream([item])]
    [('photos.zip/cat.jpg', 'cat')]
    """

    source: str
    image: Any


@dataclass(frozen=True)
class Preprocess:
    """From an image to what an image tower reads; the settings come from the checkpoint.

    Attributes
    ----------
    size : tuple of int
        Height and width of the result, in pixels.
    mean, std : tuple of float
        Per channel, for pixel values in [0, 1].
    interpolation : {"bicubic", "bilinear"}
        Pillow's filter, antialiased.
    resize_mode : {"shortest", "squash", "longest"}
        ``shortest``: the shorter side to `size`, then the centre. ``squash``: both sides, whatever the aspect ratio.
        ``longest``: the longer side to `size`, then bars of `fill`.
    fill : int
        Grey value of the bars, 0 to 255.
    approximate : bool
        Decode large JPEGs at a half, a quarter or an eighth of their size, to at least twice what is needed, and
        resize nothing but what the crop keeps. Not part of the `repr`, nor of an encoder's fingerprint: texts stay the
        same, and embeddings of images do but for what `zeroshot.load` says.

    Raises
    ------
    CheckpointError
        If a setting is out of its range.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill: int = 0
    approximate: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise CheckpointError(f"image size is {self.size}; expected two positive numbers, height and width")
        if (
            len(self.mean) != 3
            or len(self.std) != 3
            or not all(math.isfinite(v) for v in self.mean)
            or not all(0 < v < math.inf for v in self.std)
        ):
            raise CheckpointError(f"mean is {self.mean} and std {self.std}; expected three numbers each, std positive")
        if self.interpolation not in _RESAMPLING:
            raise CheckpointError(f"interpolation is {self.interpolation!r}; expected one of {', '.join(_RESAMPLING)}")
        if self.resize_mode not in get_args(ResizeMode):
            raise CheckpointError(
                f"resize mode is {self.resize_mode!r}; expected one of {', '.join(get_args(ResizeMode))}"
            )

        if not 0 <= self.fill <= 255:
            raise CheckpointError(f"fill is {self.fill}; expected a grey value, 0 to 255")

    def __call__(self, image: Any) -> npt.NDArray[np.float32]:
        """Decode, resize, crop and normalise one image.

        Returns
        -------
        ndarray of shape (3, H, W), float32
            Channels R, G, B; ``(value / 255 - mean) / std``.
        """
        return self.normalize(self.pixels(image))

    def pixels(self, image: Any) -> npt.NDArray[np.uint8]:
        """Decode, resize and crop one image: ndarray of shape (H, W, 3), uint8, channels R, G, B."""
        if self.approximate:
            return np.asarray(self._resize_approximately(_open(image, enough=self._enough)))
        return np.asarray(self.resize(open_image(image)))

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scale pixel values: (..., H, W, 3) uint8 in [0, 255] -> (..., 3, H, W) float32."""
        scale = 1 / (255 * np.asarray(self.std, dtype=np.float64))
        offset = -np.asarray(self.mean, dtype=np.float64) / np.asarray(self.std, dtype=np.float64)
        channels_first = np.moveaxis(pixels, -1, -3)
        # NumPy would keep the order of the pixels in memory, and take five times as long.
        out = np.empty(channels_first.shape, dtype=np.float32)
        np.multiply(channels_first, scale.astype(np.float32)[:, None, None], out=out, dtype=np.float32)
        out += offset.astype(np.float32)[:, None, None]
        return out

    def resize(self, image: Image.Image) -> Image.Image:
        """Resize and crop an RGB image to `size`; exactly, whatever `approximate` says."""
        height, width = self.size
        resampling = _RESAMPLING[self.interpolation]
        target = self._target(image.size)
        if target[0] * target[1] > _LARGEST_RESULT:
            return _resize_centre(image, (0, 0, *image.size), target, (width, height), resampling)
        if image.size != target:
            image = image.resize(target, resampling)
        return _centre(image, width, height, self.fill)

    def window(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return what of a picture of that width and height comes out: left, top, right, bottom, in its pixels.

        Where bars are added it is larger than the picture.

        Examples
        --------
        >>> preprocess = Preprocess((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> preprocess.window((448, 896))
        (0.0, 224.0, 448.0, 672.0)
        """
        starts, ends = [], []
        for whole, scaled, kept in zip(size, self._target(size), self.size[::-1], strict=True):
            start = _offset(scaled, kept)
            starts.append(start * whole / scaled)
            ends.append((start + kept) * whole / scaled)
        return starts[0], starts[1], ends[0], ends[1]

    def _resize_approximately(self, decoded: _Decoded) -> Image.Image:
        """As `resize`, but without what the crop cuts off, and of an image decoded at a part of its size."""
        height, width = self.size
        target, resampling = self._target(decoded.size), _RESAMPLING[self.interpolation]
        resized = _resize_centre(decoded.image, decoded.box, target, (width, height), resampling)
        return _centre(resized, width, height, self.fill)

    def _enough(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height at which an image of that size may be decoded: each filter has two pixels for one."""
        width, height = self._target(size)
        return 2 * width, 2 * height

    def _target(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height to which an image of that width and height is resized before it is cropped or padded."""
        height, width = self.size
        if self.resize_mode == "squash":
            return width, height
        if self.resize_mode == "shortest" and height == width:
            # torchvision's rule, integers all the way: the longer side is cut off, not rounded.
            short, long = sorted(size)
            scaled = int(height * long / short)
            target = (height, scaled) if size[0] <= size[1] else (scaled, height)
        else:
            # open_clip's rule for the other cases rounds.
            ratios = (size[0] / width, size[1] / height)
            ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
            target = (round(size[0] / ratio), round(size[1] / ratio))
        return max(target[0], 1), max(target[1], 1)  # a line of one pixel stays one pixel wide


def is_single_image(images: object) -> bool:
    """Whether `images` is one image rather than a collection of them."""
    if isinstance(images, np.ndarray):
        return images.ndim <= 3 and not _is_list(images)
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)) or _is_row(images):
        return True
    return hasattr(images, "read")


def _is_row(image: object) -> bool:
    """Whether it is an image of Hugging Face's data sets that is not decoded: its bytes, its path, or both."""
    return isinstance(image, Mapping) and len(image) > 0 and image.keys() <= {"bytes", "path"}


def _is_list(array: npt.NDArray[Any]) -> bool:
    """Whether an array holds paths or other objects one after the other, as a column of a table does."""
    return array.ndim == 1 and array.dtype.kind in "OUST"


def as_image_list(images: Any) -> list[Any]:
    """Return a collection of images as a list, and a single image as a list of one.

    Raises
    ------
    InputTypeError
        If `images` is neither an image nor a collection.
    """
    return list(iter_images(images))


def iter_images(images: Any) -> Iterator[Any]:
    """Yield the images of a collection one by one, or a single image.

    Raises
    ------
    InputTypeError
        If `images` is neither an image nor a collection.
    """
    if is_single_image(images):
        return iter([images])
    if not isinstance(images, Iterable):
        raise InputTypeError(f"images is of type {type(images).__name__}; expected {_KINDS}, or a list of those")
    if isinstance(images, Mapping) or hasattr(images, "columns"):
        raise InputTypeError(f"images is a {type(images).__name__}; expected images: {_TAKE_A_COLUMN}")
    if isinstance(images, np.ndarray) and _is_list(images):
        return iter(images.tolist())  # as str and bytes, not as NumPy's kinds of them
    return iter(images)


def open_image(image: Any) -> Image.Image:
    """Decode one image to 8-bit RGB.

    Parameters
    ----------
    image : path, path-like, fsspec URL, data URI, bytes, file object, PIL image, or uint8 array
        Also ``{"bytes": …, "path": …}``, as Hugging Face's data sets have what they do not decode. Arrays
        are (H, W), (H, W, 3) or (H, W, 4), channels R, G, B and alpha.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``; turned upright as EXIF says, transparency over white, 16-bit values scaled to 8.

    Raises
    ------
    ImageNotFoundError
        If the file does not exist.
    ImageError
        If it cannot be decoded, or has a shape, dtype or size that cannot be used. What is not decoded yet may have
        ``PIL.Image.MAX_IMAGE_PIXELS`` pixels (89 million; set it, or to None): a small file can promise more than
        memory holds.
    InputTypeError
        If it is of a type that is never an image.
    """
    return _open(image).image


def thumbnail(image: Any, side: int) -> bytes:
    """Return a small JPEG of anything that `open_image` takes: at most `side` pixels wide and high, never enlarged.

    Large JPEGs are decoded at a part of their size.

    Raises
    ------
    ZeroShotError
        As `open_image` does.
    """

    def fit(size: tuple[int, int]) -> tuple[int, int]:
        scale = min(1.0, side / max(size))
        return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)

    decoded = _open(image, enough=lambda size: (2 * fit(size)[0], 2 * fit(size)[1]))
    target = fit(decoded.size)
    small = decoded.image
    if decoded.size != target or small.size != target:
        small = small.resize(target, Image.Resampling.LANCZOS, box=decoded.box)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82, optimize=True)
    return file.getvalue()


class _Decoded(NamedTuple):
    """An RGB image, which may have been decoded at a part of its size.

    Attributes
    ----------
    image : PIL.Image.Image
    size : tuple of int
        Width and height of the whole.
    box : tuple of float
        Left, top, right and bottom of the picture in `image`, whose last column and row may be parts of a pixel.
    """

    image: Image.Image
    size: tuple[int, int]
    box: tuple[float, float, float, float]


# From width and height of an image to those at which it may be decoded.
_Enough = Callable[[tuple[int, int]], tuple[int, int]]


def _open(image: Any, *, enough: _Enough | None = None) -> _Decoded:
    """Decode one image as `open_image` does, at a part of its size if that is enough and its format offers it."""
    if isinstance(image, np.ndarray):
        return _whole(_from_array(image))
    if _is_row(image):
        image = image.get("path") if image.get("bytes") is None else image["bytes"]
    name = describe(image)
    try:
        if isinstance(image, Image.Image):
            return _whole(_to_rgb(image))  # at its size: somebody else's is not to be changed
        with _source(image) as file, Image.open(file) as opened:
            _check_area(opened)
            if enough is None:
                return _whole(_to_rgb(opened))
            return _reduced(opened, enough)
    except ZeroShotError:
        raise
    except FileNotFoundError as error:
        is_url = isinstance(image, str) and "://" in image
        where = "" if is_url else f" (the working folder is {Path.cwd()})"
        raise ImageNotFoundError(f"no image at {name}; check the path{where}") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name} is a folder; expected an image file, or a list of the files in it") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is no image that Pillow can read; expected JPEG, PNG, WebP or the like") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name} is larger than is safe: {str(error).rstrip('.')}; if it is meant, raise "
            "PIL.Image.MAX_IMAGE_PIXELS (--max-pixels on the command line)"
        ) from error
    except _UnusableError as error:
        raise ImageError(f"{name} {error}") from error
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is None:  # from one of Pillow's decoders, not from the file system
            raise _undecodable(name, error) from error
        raise ImageError(f"{name} cannot be read: {error.strerror}") from error
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        raise _undecodable(name, error) from error


def _undecodable(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name} cannot be decoded: {error!r}; is the file damaged or cut short?")


def _whole(image: Image.Image) -> _Decoded:
    return _Decoded(image, image.size, (0, 0, *image.size))


def _reduced(opened: Image.Image, enough: _Enough) -> _Decoded:
    """Decode an opened file, a JPEG at a half, a quarter or an eighth if that is enough."""
    orientation = _orientation(opened)
    turned = orientation in _TURNED
    size = opened.size[::-1] if turned else opened.size
    least = enough(size)
    reduced = opened.draft(None, least[::-1] if turned else least)
    image = _to_rgb(opened)
    if reduced is None:
        return _whole(image)
    _, (_, _, right, bottom) = reduced
    width, height = (bottom, right) if turned else (right, bottom)
    # What is left of a pixel is at the end in the file; an orientation that mirrors brings it to the front.
    left = image.width - width if orientation in _MIRRORED_LEFT_TO_RIGHT else 0.0
    top = image.height - height if orientation in _MIRRORED_TOP_TO_BOTTOM else 0.0
    return _Decoded(image, size, (left, top, left + width, top + height))


def describe(image: Any) -> str:
    """Name an image for messages: its path or URL, or its kind and size; what is long is shortened in the middle."""
    if isinstance(image, (str, os.PathLike)):
        path = str(os.fspath(image))  # also of a np.str_
        return repr(_shortened(path)) + (f" ({len(path)} characters)" if len(path) > _LONGEST_SHOWN else "")
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"the image of {len(image)} bytes"
    if isinstance(image, np.ndarray):
        return f"the array of shape {image.shape}"
    if isinstance(image, Image.Image):
        return f"the PIL image of {image.width} x {image.height} pixels, mode {image.mode}"
    return f"the image from {getattr(image, 'name', None) or type(image).__name__}"


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[: _LONGEST_SHOWN // 2]}…{text[-_LONGEST_SHOWN // 4 :]}"


class _UnusableError(Exception):
    """What is wrong with an image, to be completed with its name."""


def _source(image: Any) -> AbstractContextManager[IO[bytes]]:
    if isinstance(image, str) and image[:5].lower() == "data:":
        return io.BytesIO(_inline(image))
    if isinstance(image, str) and "://" in image:
        return io.BytesIO(_download(image))
    if isinstance(image, (str, os.PathLike)):
        return Path(image).expanduser().open("rb")  # Pillow would leave a file open that it cannot read
    if isinstance(image, (bytes, bytearray, memoryview)):
        return io.BytesIO(image)
    if hasattr(image, "read"):
        return nullcontext(image)
    hint = ""
    if hasattr(image, "permute"):
        hint = "; for a tensor pass tensor.permute(1, 2, 0).numpy() of uint8"
    elif isinstance(image, Mapping):
        hint = f"; {_TAKE_A_COLUMN}"
    raise InputTypeError(f"an image is of type {type(image).__name__}; expected {_KINDS}{hint}")


def _inline(uri: str) -> bytes:
    """Return the content of a data URI (RFC 2397), in base64 or percent-encoded."""
    import urllib.request

    try:
        with urllib.request.DataHandler().data_open(urllib.request.Request(uri)) as file:
            content: bytes = file.read()
    except ValueError as error:
        raise _UnusableError(f"is no data URI: {error}; expected such as data:image/jpeg;base64,…") from error
    return content


def _download(url: str) -> bytes:
    import fsspec

    if url.startswith("file://") and not Path(url.removeprefix("file://")).exists():
        url = urllib.parse.unquote(url)  # as a file manager or Path.as_uri writes it; fsspec takes it as it is
    try:
        with fsspec.open(url, "rb") as file:
            content: bytes = file.read()
    except FileNotFoundError as error:
        cause = _first_cause(error)
        # fsspec says so of whatever goes wrong over HTTP; elsewhere it is true.
        if (
            not url.rpartition("::")[2].startswith(("http://", "https://"))
            or isinstance(cause, FileNotFoundError)
            or getattr(cause, "status", None) in _GONE
        ):
            raise
        raise _UnusableError(f"cannot be fetched: {_reason(cause)}") from error
    except ImportError as error:
        protocol = url.split("://")[0]
        raise MissingExtraError(f"reading {protocol}:// needs a package that is not installed: {error}") from error
    except Exception as error:  # every file system has exceptions of its own
        raise _UnusableError(f"cannot be fetched: {_reason(error)}") from error
    return content


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    """Say what a server answered, or why there was no answer."""
    if isinstance(status := getattr(error, "status", None), int):
        return f"{status} {getattr(error, 'message', '')}".rstrip()
    return type(error).__name__ + (f": {_shortened(str(error))}" if str(error) else "")


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    name = describe(array)
    if array.dtype != np.uint8:
        raise ImageError(f"{name} is of dtype {array.dtype}; expected uint8 with values 0 to 255")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"{name} is not an image; expected (H, W), (H, W, 3) or (H, W, 4), channels last")
    if array.size == 0:
        raise ImageError(f"{name} has no pixels; expected at least one")
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def _check_area(image: Image.Image) -> None:
    """Refuse from Pillow's limit on, where Pillow itself only warns up to twice that."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels, and the limit is {limit:,}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if min(image.size) < 1:
        raise _UnusableError(f"has no pixels ({image.width} x {image.height})")
    image = _upright(image)
    if image.mode.startswith("I"):
        image = _scale_16_bit(image)
    elif image.mode == "F":
        raise _UnusableError("has floating-point values of unknown range; expected 8 or 16 bits, such as from np.uint8")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block says nothing, and leaves the picture readable
        return 1


def _scale_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise _UnusableError(f"has values from {low} to {high}; expected at most 16 bits, 0 to 65535")
    if image.mode == "I" and high <= 0xFF:  # 8-bit values in wide numbers, as from an int32 array
        return Image.fromarray(values.astype(np.uint8))
    # The high byte, as Pillow itself reduces 16-bit colour.
    return Image.fromarray((values >> 8).astype(np.uint8))


def _resize_centre(
    image: Image.Image,
    picture: tuple[float, float, float, float],
    target: tuple[int, int],
    size: tuple[int, int],
    resampling: Image.Resampling,
) -> Image.Image:
    """Resize no more than what the crop keeps: a line of 1 x 60,000 pixels would need gigabytes otherwise.

    Pillow computes such a window in single precision, so that here and there a pixel differs by one of 255.

    Parameters
    ----------
    picture : tuple of float
        Left, top, right and bottom of what is to be resized.
    target : tuple of int
        Width and height of all of it after it is resized.
    size : tuple of int
        Width and height of the centre that is kept.
    """
    starts, ends, kept = [], [], []
    for first, last, scaled, most in zip(picture[:2], picture[2:], target, size, strict=True):
        start = max(round((scaled - most) / 2), 0)
        kept.append(min(scaled, most))
        starts.append(first + start * (last - first) / scaled)
        ends.append(first + (start + kept[-1]) * (last - first) / scaled)
    box = (starts[0], starts[1], ends[0], ends[1])
    if (kept[0], kept[1]) == image.size and box == (0, 0, *image.size):
        return image
    return image.resize((kept[0], kept[1]), resampling, box=box)


def _offset(length: int, kept: int) -> int:
    """Return where the centre begins along one side, in pixels; below 0 where a bar is before it."""
    if length >= kept:
        return round((length - kept) / 2)
    return -((kept - length) // 2)


def _centre(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Cut the centre out, or pad where the image is smaller, with torchvision's rounding of half a pixel."""
    if image.size == (width, height):
        return image
    if image.width < width or image.height < height:
        left, top = max((width - image.width) // 2, 0), max((height - image.height) // 2, 0)
        canvas = Image.new("RGB", (max(width, image.width), max(height, image.height)), (fill, fill, fill))
        canvas.paste(image, (left, top))
        image = canvas
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
