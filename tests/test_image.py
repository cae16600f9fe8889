"""Any kind of input gives the same pixels, and whatever cannot be decoded is an error that names the image."""

from __future__ import annotations

import base64
import http.server
import io
import os
import socket
import threading
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageChops

import zeroshot
import zeroshot.image
from zeroshot.errors import CheckpointError, ImageError, ImageNotFoundError, InputTypeError, MissingExtraError
from zeroshot.image import Preprocess, as_image_list, describe, is_single_image, open_image
from zeroshot.stream import embed_stream

Array = npt.NDArray[np.uint8]


@pytest.fixture
def pixels() -> Array:
    """A picture that differs from every turned or mirrored one of itself: (5, 7, 3) uint8."""
    return np.random.default_rng(3).integers(0, 256, size=(5, 7, 3), dtype=np.uint8)


def save(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def array(image: Image.Image) -> Array:
    assert image.mode == "RGB"
    return np.asarray(image)


# -------------------------------------------------------------------------------------------------------- inputs


def _memory_url(content: bytes) -> str:
    with fsspec.open("memory://zeroshot-tests/picture.png", "wb") as file:
        file.write(content)
    return "memory://zeroshot-tests/picture.png"


INPUTS: dict[str, Callable[[Path, bytes], Any]] = {
    "str": lambda path, content: str(path),
    "Path": lambda path, content: path,
    "file:// URL": lambda path, content: f"file://{path}",
    "file:// URL, percent-encoded": lambda path, content: path.as_uri(),
    "memory:// URL": lambda path, content: _memory_url(content),
    "data URI": lambda path, content: f"data:image/png;base64,{base64.b64encode(content).decode()}",
    "data URI, percent-encoded": lambda path, content: f"data:image/png,{urllib.parse.quote(content)}",
    "bytes": lambda path, content: content,
    "dict of bytes": lambda path, content: {"bytes": content, "path": None},
    "dict of a path": lambda path, content: {"bytes": None, "path": str(path)},
    "bytearray": lambda path, content: bytearray(content),
    "memoryview": lambda path, content: memoryview(content),
    "BytesIO": lambda path, content: io.BytesIO(content),
    "open PIL image": lambda path, content: Image.open(io.BytesIO(content)),
    "PIL image": lambda path, content: Image.open(io.BytesIO(content)).copy(),
    "PIL image, RGBA": lambda path, content: Image.open(io.BytesIO(content)).convert("RGBA"),
    "array": lambda path, content: np.asarray(Image.open(io.BytesIO(content))),
    "array, RGBA": lambda path, content: np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")),
    "array, Fortran order": lambda path, content: np.asfortranarray(Image.open(io.BytesIO(content))),
    "array, read-only": lambda path, content: np.frombuffer(
        Image.open(io.BytesIO(content)).tobytes(), dtype=np.uint8
    ).reshape(5, 7, 3),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_input_gives_the_same_pixels(kind: str, tmp_path: Path, pixels: Array) -> None:
    content = save(Image.fromarray(pixels))
    path = tmp_path / "an image, named ünusually.png"
    path.write_bytes(content)
    np.testing.assert_array_equal(array(open_image(INPUTS[kind](path, content))), pixels)


def test_a_file_object_stays_open_and_can_be_read_again(tmp_path: Path, pixels: Array) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    with path.open("rb") as file:
        for _ in range(2):
            np.testing.assert_array_equal(array(open_image(file)), pixels)
            assert not file.closed


def test_a_stream_that_cannot_go_back_is_read(pixels: Array) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self._rest = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._rest.read(size)

        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation("seek")

    np.testing.assert_array_equal(array(open_image(Pipe(save(Image.fromarray(pixels))))), pixels)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: Array) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    np.testing.assert_array_equal(array(open_image("~/picture.png")), pixels)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_arrays_become_three_equal_channels(shape: tuple[int, ...]) -> None:
    grey = np.arange(35, dtype=np.uint8).reshape(shape)
    result = array(open_image(grey))
    for channel in range(3):
        np.testing.assert_array_equal(result[:, :, channel], grey.reshape(5, 7))


def test_a_path_of_an_opened_image_is_not_kept_open(tmp_path: Path, pixels: Array) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    open_image(path)  # an unclosed file would be a ResourceWarning, and warnings are errors
    path.unlink()


def test_one_image_is_told_from_several(tmp_path: Path) -> None:
    one = [
        *(
            {"bytes": b"x", "path": None},
            {"path": "cat.jpg"},
            "cat.jpg",
            tmp_path,
            b"x",
            bytearray(b"x"),
            memoryview(b"x"),
            io.BytesIO(),
        ),
        *(Image.new("RGB", (1, 1)), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8)),
    ]
    for image in one:
        assert is_single_image(image)
        assert as_image_list(image)[0] is image
    images = np.zeros((4, 2, 2, 3), np.uint8)
    for several in (["cat.jpg"], ("cat.jpg",), iter(["cat.jpg"]), images):
        assert not is_single_image(several)
    assert as_image_list(iter(["a.jpg", "b.jpg"])) == ["a.jpg", "b.jpg"]
    assert len(as_image_list(images)) == 4
    assert as_image_list([]) == []


def test_arrays_of_paths_are_collections() -> None:
    paths = ["cat.jpg", "häuser.jpg"]
    for dtype in (object, "U"):
        found = as_image_list(np.array(paths, dtype=dtype))
        assert found == paths
        assert {type(path) for path in found} == {str}
        assert not is_single_image(np.array(paths, dtype=dtype))
    assert as_image_list(np.array([b"\xff\xd8\xff\xd9"])) == [b"\xff\xd8\xff\xd9"]
    with pytest.raises(ImageError, match="dtype object; expected uint8"):
        open_image(np.array([["cat.jpg"]], dtype=object))


@pytest.mark.parametrize("images", [None, 3, 2.5])
def test_something_that_is_no_collection_of_images(images: Any) -> None:
    with pytest.raises(InputTypeError, match=rf"images is of type {type(images).__name__}; expected a path, a URL"):
        as_image_list(images)


def test_a_table_is_no_collection_of_images() -> None:
    pandas = pytest.importorskip("pandas")
    columns = {"image": ["cat.jpg"], "path": ["cat.jpg"]}
    for table in (columns, {}, pandas.DataFrame(columns)):
        kind = type(table).__name__
        with pytest.raises(InputTypeError, match=rf"images is a {kind}; .* take a column, such as table\['image'\]"):
            as_image_list(table)
    assert as_image_list(pandas.DataFrame(columns)["path"]) == ["cat.jpg"]


# --------------------------------------------------------------------------------------------------- orientation

# What the stored picture has to go through to stand upright (EXIF 2.3, tag 0x0112: where row 0 and column 0 are).
UPRIGHT: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: np.rot90,
}


def _with_orientation(pixels: Array, orientation: int, format: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return save(Image.fromarray(pixels), format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_is_turned_upright(orientation: int, format: str, pixels: Array) -> None:
    content = _with_orientation(pixels, orientation, format)
    np.testing.assert_array_equal(array(open_image(content)), UPRIGHT[orientation](pixels))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_a_jpeg(orientation: int) -> None:
    # Four flat quarters: JPEG changes their values by little.
    quarters = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 24), np.uint8))
    pixels = np.repeat(quarters[:, :, None], 3, axis=2)
    result = array(open_image(_with_orientation(pixels, orientation, "JPEG")))
    np.testing.assert_allclose(result.astype(int), UPRIGHT[orientation](pixels).astype(int), atol=3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int, pixels: Array) -> None:
    np.testing.assert_array_equal(array(open_image(_with_orientation(pixels, orientation, "PNG"))), pixels)


def test_orientation_of_an_opened_pil_image(pixels: Array) -> None:
    opened = Image.open(io.BytesIO(_with_orientation(pixels, 6, "PNG")))
    np.testing.assert_array_equal(array(open_image(opened)), UPRIGHT[6](pixels))
    assert opened.size == (7, 5)  # the caller's image stays as it was
    np.testing.assert_array_equal(array(open_image(opened)), UPRIGHT[6](pixels))


@pytest.mark.parametrize(
    "exif",
    [b"Exif\x00\x00", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05\x01\x12"],
    ids=["empty", "offset outside", "cut short"],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_leaves_the_picture_readable(exif: bytes) -> None:
    content = save(Image.new("RGB", (7, 5), (200, 0, 0)), "JPEG", exif=exif)
    result = array(open_image(content))
    assert result.shape == (5, 7, 3)
    assert (result[:, :, 0] > 190).all()


# -------------------------------------------------------------------------------------------------- transparency


def _over_white(colours: Array, alpha: Array) -> npt.NDArray[np.float64]:
    share = alpha.astype(np.float64)[..., None] / 255
    return colours * share + 255 * (1 - share)


def test_alpha_is_put_over_white(pixels: Array) -> None:
    alpha = np.linspace(0, 255, 35).astype(np.uint8).reshape(5, 7)
    rgba = np.dstack([pixels, alpha])
    expected = _over_white(pixels, alpha)
    for image in (rgba, Image.fromarray(rgba), save(Image.fromarray(rgba)), save(Image.fromarray(rgba), "TIFF")):
        np.testing.assert_allclose(array(open_image(image)), expected, atol=1)


def test_grey_with_alpha_is_put_over_white() -> None:
    values, alpha = np.full((5, 7), 40, np.uint8), np.linspace(0, 255, 35).astype(np.uint8).reshape(5, 7)
    image = Image.merge("LA", [Image.fromarray(values), Image.fromarray(alpha)])
    expected = np.broadcast_to(_over_white(values[..., None], alpha), (5, 7, 3))
    for source in (image, save(image)):
        np.testing.assert_allclose(array(open_image(source)), expected, atol=1)


def _palette_image() -> Image.Image:
    image = Image.new("P", (4, 1))
    image.putpalette([10, 20, 30, 200, 100, 0, 0, 0, 255, 7, 7, 7])
    image.putdata([0, 1, 2, 3])
    return image


def test_a_palette_is_looked_up() -> None:
    expected = [[[10, 20, 30], [200, 100, 0], [0, 0, 255], [7, 7, 7]]]
    for source in (_palette_image(), save(_palette_image()), save(_palette_image(), "GIF")):
        np.testing.assert_array_equal(array(open_image(source)), expected)


def test_a_palette_with_a_transparent_entry() -> None:
    content = save(_palette_image(), transparency=1)
    np.testing.assert_array_equal(array(open_image(content)), [[[10, 20, 30], [255, 255, 255], [0, 0, 255], [7, 7, 7]]])


def test_a_palette_with_an_alpha_for_each_entry() -> None:
    content = save(_palette_image(), transparency=bytes([255, 0, 51, 255]))
    expected = [[[10, 20, 30], [255, 255, 255], [204, 204, 255], [7, 7, 7]]]
    np.testing.assert_allclose(array(open_image(content)), expected, atol=1)


@pytest.mark.parametrize(
    ("image", "transparent", "expected"),
    [
        (Image.new("RGB", (1, 1), (10, 20, 30)), (10, 20, 30), 255),
        (Image.new("RGB", (1, 1), (40, 40, 40)), (10, 20, 30), 40),
        (Image.new("L", (1, 1), 40), 40, 255),
        (Image.new("L", (1, 1), 40), 41, 40),
        (Image.new("1", (1, 1), 0), 0, 255),
    ],
    ids=["RGB", "RGB, another colour", "L", "L, another value", "1"],
)
def test_one_transparent_colour(image: Image.Image, transparent: Any, expected: int) -> None:
    content = save(image, transparency=transparent)  # PNG's tRNS chunk
    np.testing.assert_array_equal(array(open_image(content)), np.full((1, 1, 3), expected))


# --------------------------------------------------------------------------------------------------- other modes


def test_one_bit_is_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    for source in (image, save(image), save(image, "TIFF")):
        np.testing.assert_array_equal(array(open_image(source)), [[[0] * 3, [255] * 3]])


def test_sixteen_bits_keep_the_high_byte() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    for source in (Image.fromarray(values), save(Image.fromarray(values)), save(Image.fromarray(values), "TIFF")):
        np.testing.assert_array_equal(array(open_image(source))[0, :, 0], [0, 0, 1, 128, 255])


def test_thirty_two_bits_that_hold_sixteen() -> None:
    values = np.array([[0, 256, 65535]], dtype=np.int32)
    np.testing.assert_array_equal(array(open_image(Image.fromarray(values)))[0, :, 0], [0, 1, 255])


@pytest.mark.parametrize("value", [-1, 65536])
def test_more_than_sixteen_bits_are_refused(value: int) -> None:
    image = Image.fromarray(np.array([[0, value]], dtype=np.int32))
    with pytest.raises(ImageError, match=r"the PIL image of 2 x 1 pixels.*expected at most 16 bits"):
        open_image(image)


def test_cmyk_jpeg() -> None:
    content = save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(array(open_image(content)).astype(int), np.full((8, 8, 3), (255, 0, 0)), atol=4)


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for format in ("GIF", "PNG", "TIFF"):
        content = save(frames[0], format, save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(array(open_image(content)), np.full((3, 3, 3), (255, 0, 0)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I"])
def test_a_pil_image_is_not_modified(mode: str, pixels: Array) -> None:
    picture = Image.fromarray(pixels)
    if mode == "LAB":
        image = Image.new("LAB", picture.size, (50, 10, 10))
    else:
        image = (picture.convert("L") if mode in ("I", "LA", "PA") else picture).convert(mode)
    if mode in ("L", "P"):
        image.info["transparency"] = 3
    before = (image.mode, image.size, image.tobytes(), dict(image.info))
    assert open_image(image).mode == "RGB"
    assert (image.mode, image.size, image.tobytes(), dict(image.info)) == before


# -------------------------------------------------------------------------------------------------------- errors


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.jpg"
    for image in (path, str(path), path.as_uri(), "memory://zeroshot-tests/nowhere.jpg"):
        with pytest.raises(ImageNotFoundError, match=r"no image at .*nowhere.jpg'; check the path") as caught:
            open_image(image)
        assert isinstance(caught.value, (FileNotFoundError, ValueError))
        assert isinstance(caught.value, ImageError)
    assert issubclass(ImageNotFoundError, FileNotFoundError)
    assert issubclass(ImageNotFoundError, ValueError)


def test_a_missing_relative_path_names_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageNotFoundError) as caught:
        open_image("cat.jpg")
    assert str(tmp_path) in str(caught.value)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder; expected an image file, or a list of the files") as caught:
        open_image(tmp_path)
    assert str(tmp_path) in str(caught.value)


def _jpeg() -> bytes:
    noise = np.random.default_rng(5).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
    return save(Image.fromarray(noise), "JPEG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is no picture\n", "no image that Pillow can read; expected JPEG, PNG"),
        (b"", "no image that Pillow can read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image that Pillow can read"),
        (_jpeg()[: len(_jpeg()) // 2], "cannot be decoded.*damaged or cut short"),
        (_jpeg()[:20], "(cannot be decoded|no image)"),
        (save(Image.new("RGB", (64, 64)), "PNG")[:60], "(cannot be decoded|no image)"),
    ],
    ids=["text", "empty", "svg", "half a JPEG", "head of a JPEG", "head of a PNG"],
)
def test_files_that_are_no_image(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        open_image(path)
    assert not isinstance(caught.value, FileNotFoundError)
    assert repr(str(path)) in str(caught.value)
    with pytest.raises(ImageError, match=f"the image of {len(content)} bytes"):
        open_image(content)
    with path.open("rb") as file, pytest.raises(ImageError) as caught:
        open_image(file)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), r"array of shape \(0, 5, 3\) has no pixels"),
        (np.zeros((5, 0), np.uint8), r"array of shape \(5, 0\) has no pixels"),
        (np.zeros((0, 0, 4), np.uint8), r"array of shape \(0, 0, 4\) has no pixels"),
        (np.zeros((5, 7, 3), np.float32), "is of dtype float32; expected uint8 with values 0 to 255"),
        (np.zeros((5, 7, 3), np.int64), "is of dtype int64; expected uint8"),
        (np.zeros((5, 7), bool), "is of dtype bool; expected uint8"),
        (np.zeros((3, 32, 32), np.uint8), r"array of shape \(3, 32, 32\) is not an image.*channels last"),
        (np.zeros((5, 7, 2), np.uint8), r"array of shape \(5, 7, 2\) is not an image"),
        (np.zeros((5, 7, 5), np.uint8), r"array of shape \(5, 7, 5\) is not an image"),
        (np.zeros(9, np.uint8), r"array of shape \(9,\) is not an image"),
        (np.zeros((), np.uint8), r"array of shape \(\) is not an image"),
        (np.zeros((2, 5, 7, 3), np.uint8), r"array of shape \(2, 5, 7, 3\) is not an image"),
        (Image.new("RGB", (0, 5)), r"the PIL image of 0 x 5 pixels, mode RGB has no pixels"),
        (Image.new("F", (2, 2)), r"the PIL image of 2 x 2 pixels, mode F has floating-point values"),
        (save(Image.new("F", (2, 2)), "TIFF"), r"the image of \d+ bytes has floating-point values"),
    ],
)
def test_pictures_that_cannot_be_used(image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "an image is of type NoneType; expected a path, a URL, bytes"),
        (3, "an image is of type int"),
        (["a.jpg"], "an image is of type list"),
        ({"image": "a.jpg"}, "an image is of type dict.*take a column"),
        ({"bytes": None, "path": None}, "an image is of type NoneType"),
        (torch.zeros(3, 8, 8), r"an image is of type Tensor.*tensor.permute\(1, 2, 0\).numpy\(\) of uint8"),
    ],
)
def test_types_that_are_never_an_image(image: Any, message: str) -> None:
    with pytest.raises(InputTypeError, match=message) as caught:
        open_image(image)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("url", ["nonsense://x.jpg", "://x.jpg", "file://\0"])
def test_a_url_that_cannot_be_fetched(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(url)
    assert repr(url) in str(caught.value)


def test_a_url_that_needs_another_package() -> None:
    fsspec.register_implementation("zeroshot-absent", "zeroshot_absent.FileSystem", errtxt="pip install absent")
    with pytest.raises(MissingExtraError, match=r"reading zeroshot-absent:// needs a package.*pip install absent"):
        open_image("zeroshot-absent://x.jpg")


def test_a_url_whose_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(fsspec, "open", fail)
    with pytest.raises(ImageError, match=r"'http://example.com/a.jpg' cannot be fetched: TimeoutError: no answer$"):
        open_image("http://example.com/a.jpg")


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path begins with."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:4]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("500.jpg", "cannot be fetched: 500 Internal Server Error"),
        ("403.jpg", "cannot be fetched: 403 Forbidden"),
        ("404.jpg", None),
        ("410.jpg", None),
    ],
)
def test_what_a_server_answers(server: str, path: str, message: str | None) -> None:
    pytest.importorskip("aiohttp")  # for fsspec
    with pytest.raises(ImageError) as caught:
        open_image(f"{server}/{path}")
    assert isinstance(caught.value, ImageNotFoundError) == (message is None)  # so that the others can be tried again
    expected = f"no image at '{server}/{path}'; check the path" if message is None else message
    assert str(caught.value).endswith(expected)


def test_a_server_that_is_not_there() -> None:
    pytest.importorskip("aiohttp")
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/a.jpg"
        with pytest.raises(ImageError, match=r"cannot be fetched: ConnectionRefusedError: .*call failed") as caught:
            open_image(url)
    assert not isinstance(caught.value, ImageNotFoundError)


@pytest.mark.parametrize("uri", ["data:image/png;base64,abc", "data:image/png"])
def test_what_is_no_data_uri(uri: str) -> None:
    with pytest.raises(ImageError, match=f"'{uri}' is no data URI: .*; expected such as data:image/jpeg;base64,…"):
        open_image(uri)


@pytest.mark.parametrize("start", ["", "data:image/png;base64,", "memory://", "nonsense://"])
def test_long_strings_are_shortened_in_messages(start: str) -> None:
    with pytest.raises(ImageError, match=rf"'{start}aa.*…aa.*' \({len(start) + 50_000} characters\)") as caught:
        open_image(start + "a" * 50_000)
    assert len(str(caught.value)) < 700
    assert "damaged" not in str(caught.value)
    (streamed,) = embed_stream(zeroshot.load("mini"), [start + "a" * 50_000])
    assert str(streamed.error) == str(caught.value)


def test_a_path_with_a_null_byte() -> None:
    with pytest.raises(ImageError):
        open_image("a\0b.jpg")


def test_a_decompression_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    content = save(Image.new("RGB", (50, 50)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"larger than is safe.*raise PIL.Image.MAX_IMAGE_PIXELS") as caught:
        open_image(content)
    assert isinstance(caught.value.__cause__, Image.DecompressionBombError)


@pytest.mark.parametrize("warnings_are_errors", [True, False])
def test_what_pillow_only_warns_of_is_refused(warnings_are_errors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    content = save(Image.new("RGB", (50, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50 * 30 - 1)  # Pillow refuses from twice that on
    with warnings.catch_warnings():
        warnings.simplefilter("error" if warnings_are_errors else "ignore")
        with pytest.raises(ImageError, match=r"larger than is safe: .*raise PIL.Image.MAX_IMAGE_PIXELS"):
            open_image(content)
        with pytest.raises(ImageError, match="larger than is safe"):
            preprocess()(content)


@pytest.mark.parametrize("limit", [50 * 30, None])
def test_the_limit_can_be_set(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert open_image(save(Image.new("RGB", (50, 30)))).size == (50, 30)


def test_what_is_in_memory_already_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert open_image(Image.new("RGB", (50, 30))).size == (50, 30)
    assert open_image(np.zeros((30, 50), dtype=np.uint8)).size == (50, 30)


_EXIF = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00"
FORMATS = {
    "PNG": save(Image.fromarray(np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3))),
    "palette": save(_palette_image(), transparency=bytes([255, 0, 51, 255])),
    "JPEG": save(Image.new("RGB", (17, 9), (200, 100, 50)), "JPEG", exif=_EXIF),
    "GIF": save(_palette_image(), "GIF"),
    "BMP": save(Image.new("RGB", (3, 2)), "BMP"),
    "TIFF": save(Image.new("RGB", (3, 2)), "TIFF", compression="tiff_lzw"),
    "WEBP": save(Image.new("RGB", (3, 2)), "WEBP"),
    "ICO": save(Image.new("RGBA", (16, 16)), "ICO"),
    "PPM": save(Image.new("RGB", (3, 2)), "PPM"),
    "TGA": save(Image.new("RGB", (3, 2)), "TGA"),
}


def _decodes_or_says_why(content: bytes) -> None:
    # The limit keeps a header that promises a giant picture from costing gigabytes here.
    with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 10_000), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_image(content)
        except ImageError as error:
            assert f"the image of {len(content)} bytes" in str(error)  # noqa: PT017
        else:
            assert image.mode == "RGB"
            assert min(image.size) > 0


@given(st.binary(max_size=200))
@example(b"")
@example(b"P6 0 0 255\n")
@example(b"\x89PNG\r\n\x1a\n")
@example(b"\xff\xd8\xff")
def test_random_bytes_are_an_image_error(content: bytes) -> None:
    _decodes_or_says_why(content)


@settings(max_examples=300)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_damaged_files_decode_or_are_an_image_error(format: str, data: st.DataObject) -> None:
    content = bytearray(FORMATS[format])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    _decodes_or_says_why(bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]))


def test_descriptions(tmp_path: Path) -> None:
    assert describe("cat.jpg") == "'cat.jpg'"
    assert describe(Path("cat.jpg")) == "'cat.jpg'"
    assert describe(b"12345") == "the image of 5 bytes"
    assert describe(np.zeros((2, 3), np.uint8)) == "the array of shape (2, 3)"
    assert describe(Image.new("L", (4, 3))) == "the PIL image of 4 x 3 pixels, mode L"
    assert describe(io.BytesIO()) == "the image from BytesIO"
    (tmp_path / "cat.jpg").touch()
    with (tmp_path / "cat.jpg").open("rb") as file:
        assert describe(file) == f"the image from {os.fspath(tmp_path / 'cat.jpg')}"


# ---------------------------------------------------------------------------------------------------- preprocess


def preprocess(size: tuple[int, int] = (8, 8), **options: Any) -> Preprocess:
    return Preprocess(size=size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5), **options)


SIDES = st.integers(1, 48)


@given(SIDES, SIDES, st.integers(1, 24), st.sampled_from(["bicubic", "bilinear"]))
@example(48, 1, 24, "bicubic")
def test_shortest_is_torchvisions_resize_and_crop(width: int, height: int, side: int, interpolation: Any) -> None:
    image = Image.effect_noise((width, height), 90).convert("RGB")
    # torchvision: the shorter side to `side`, the longer one in proportion, rounded down; the crop starts at half of
    # what is left over, rounded to even.
    short, long = min(width, height), max(width, height)
    longer = side * long // short
    scaled = (side, longer) if width <= height else (longer, side)
    resampling = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    left, top = (round((length - side) / 2) for length in scaled)
    expected = image.resize(scaled, resampling).crop((left, top, left + side, top + side))
    result = preprocess((side, side), interpolation=interpolation).resize(image)
    assert result.size == (side, side)
    assert ImageChops.difference(result, expected).getbbox() is None


@given(SIDES, SIDES, st.integers(1, 24), st.integers(1, 24))
def test_squash_ignores_the_aspect_ratio(width: int, height: int, rows: int, columns: int) -> None:
    image = Image.effect_noise((width, height), 90).convert("RGB")
    expected = image.resize((columns, rows), Image.Resampling.BICUBIC)
    result = preprocess((rows, columns), resize_mode="squash").resize(image)
    assert result.size == (columns, rows)
    assert ImageChops.difference(result, expected).getbbox() is None


@given(SIDES, SIDES, st.integers(1, 24), st.integers(1, 24))
def test_longest_shows_all_of_the_picture_between_bars(width: int, height: int, rows: int, columns: int) -> None:
    image = Image.new("RGB", (width, height), (255, 255, 255))
    result = np.asarray(preprocess((rows, columns), resize_mode="longest", fill=9).resize(image))
    assert result.shape == (rows, columns, 3)
    ratio = max(width / columns, height / rows)
    shown = (max(round(height / ratio), 1), max(round(width / ratio), 1))
    assert rows in shown or columns in shown[1:]
    is_picture = (result == 255).all(axis=2)
    assert is_picture.sum() == shown[0] * shown[1]
    assert (result[~is_picture] == 9).all()
    for axis, (size, length) in enumerate(zip((rows, columns), shown, strict=True)):
        lines = np.flatnonzero(is_picture.any(axis=1 - axis))
        before, after = int(lines[0]), size - 1 - int(lines[-1])
        assert abs(before - after) <= 1  # in the middle
        assert before + length + after == size


@given(SIDES, SIDES, st.integers(1, 24), st.integers(1, 24))
def test_every_mode_gives_the_size_asked_for(width: int, height: int, rows: int, columns: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    for mode in ("shortest", "squash", "longest"):
        assert preprocess((rows, columns), resize_mode=mode)(image).shape == (3, rows, columns)


def test_shortest_fills_a_target_that_is_not_square() -> None:
    # The smallest enlargement that covers the target, then its centre: nothing of the bars' colour is left.
    image = Image.new("RGB", (10, 10), (255, 255, 255))
    result = np.asarray(preprocess((4, 8), fill=9).resize(image))
    assert result.shape == (4, 8, 3)
    assert (result == 255).all()


def test_normalize_is_the_formula(pixels: Array) -> None:
    settings = preprocess((5, 7))
    expected = np.moveaxis((pixels / 255.0 - settings.mean) / settings.std, -1, 0)
    result = settings.normalize(pixels)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=2e-6)
    np.testing.assert_array_equal(settings(pixels), result)  # of the right size already: nothing is resized
    np.testing.assert_array_equal(settings.normalize(np.stack([pixels, pixels])), np.stack([result, result]))


def test_pixels_are_the_resized_picture(pixels: Array) -> None:
    settings = preprocess((4, 4))
    result = settings.pixels(pixels)
    assert (result.shape, result.dtype) == ((4, 4, 3), np.uint8)
    np.testing.assert_array_equal(result, np.asarray(settings.resize(Image.fromarray(pixels))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (0, 8)}, r"image size is \(0, 8\); expected two positive numbers"),
        ({"size": (8,)}, r"image size is \(8,\)"),
        ({"size": (8, 8, 3)}, r"image size is \(8, 8, 3\)"),
        ({"mean": (0.5, 0.5)}, r"mean is \(0.5, 0.5\).*expected three numbers each"),
        ({"std": (0.5, 0.5, 0.0)}, "std positive"),
        ({"std": (0.5, 0.5, -1.0)}, "std positive"),
        ({"std": (0.5, 0.5, float("nan"))}, "std positive"),
        ({"std": (0.5,)}, "expected three numbers each"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; expected one of bicubic, bilinear"),
        ({"interpolation": "random"}, "interpolation is 'random'"),
        ({"resize_mode": "crop"}, "resize mode is 'crop'; expected one of shortest, squash, longest"),
        ({"fill": 256}, "fill is 256; expected"),
        ({"fill": -1}, "fill is -1; expected"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"size": (8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)} | changes
    with pytest.raises(CheckpointError, match=message):
        Preprocess(**settings)


def test_a_thin_line_does_not_exhaust_memory() -> None:
    """At 224 pixels this would be an image of 224 x 13,440,000 before the crop; the same pixels come out without it."""
    rng = np.random.default_rng(0)
    line = rng.integers(0, 256, size=(60_000, 1, 3), dtype=np.uint8)
    settings = preprocess(size=(224, 224))
    assert settings.pixels(line).shape == (224, 224, 3)
    short = line[:300]
    whole = settings.pixels(short)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zeroshot.image._LARGEST_RESULT", 1)
        cropped = settings.pixels(short)
    assert np.abs(whole.astype(int) - cropped).max() <= 1


def test_wide_numbers_with_8_bit_values_are_not_black() -> None:
    values = np.arange(64, dtype=np.int32).reshape(8, 8) * 4
    assert np.array_equal(np.asarray(open_image(Image.fromarray(values)))[:, :, 0], values)
    assert np.array_equal(np.asarray(open_image(Image.fromarray(values * 257)))[:, :, 0], values)


# ----------------------------------------------------------------------------------------------------- approximate

MODES: list[Any] = ["shortest", "squash", "longest"]


def photograph(width: int, height: int, format: str = "JPEG", **options: Any) -> bytes:
    """A picture with something fine in it: (H, W, 3) smooth colours and noise."""
    rng = np.random.default_rng(width * 10007 + height)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height))
    noisy = np.asarray(coarse, dtype=np.float32) + rng.standard_normal((height, width, 3), dtype=np.float32) * 4
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, format, **options)
    return file.getvalue()


def both(content: Any, size: tuple[int, int], mode: Any) -> tuple[Array, Array]:
    exact = Preprocess(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), resize_mode=mode)
    return exact.pixels(content).astype(int), replace(exact, approximate=True).pixels(content).astype(int)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(32, 32), (24, 40)], ids=str)
@pytest.mark.parametrize(
    ("width", "height"), [(121, 131), (130, 131), (417, 301), (301, 417), (1001, 997), (150, 2003)]
)
def test_approximate_pixels_are_near(width: int, height: int, size: tuple[int, int], mode: Any) -> None:
    exact, approximate = both(photograph(width, height, quality=92), size, mode)
    assert approximate.shape == exact.shape == (*size, 3)
    assert np.abs(exact - approximate).max() <= 12
    assert np.abs(exact - approximate).mean() < 1


@pytest.mark.parametrize(("side", "scale"), [(255, 1), (256, 2), (511, 2), (512, 4), (1023, 4), (1024, 8)])
def test_twice_the_size_is_decoded_at_least(side: int, scale: int) -> None:
    preprocess = Preprocess((64, 64), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), approximate=True)
    decoded = zeroshot.image._open(photograph(side + 3, side), enough=preprocess._enough)
    assert decoded.size == (side + 3, side)
    assert decoded.image.size == (-(-(side + 3) // scale), -(-side // scale))
    assert decoded.box == (0, 0, (side + 3) / scale, side / scale)


def test_a_shift_of_a_pixel_would_be_seen() -> None:
    exact, approximate = both(photograph(417, 301, quality=92), (32, 32), "shortest")
    assert np.abs(exact - approximate).mean() < 1 < np.abs(exact[:, 1:] - approximate[:, :-1]).mean()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_approximate_pixels_are_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exact, approximate = both(photograph(701, 333, exif=exif, quality=92), (32, 32), "shortest")
    assert np.abs(exact - approximate).max() <= 12
    assert np.abs(exact - approximate).mean() < 1


@pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP"])
def test_other_formats_are_decoded_whole(format: str) -> None:
    exact, approximate = both(photograph(417, 301, format), (32, 32), "shortest")
    assert np.abs(exact - approximate).max() <= 1


def test_an_opened_image_is_left_as_it_is() -> None:
    with Image.open(io.BytesIO(photograph(417, 301))) as opened:
        exact, approximate = both(opened, (32, 32), "shortest")
        assert opened.size == (417, 301)
    assert np.abs(exact - approximate).max() <= 1
    array = np.asarray(Image.open(io.BytesIO(photograph(417, 301))))
    exact, approximate = both(array, (32, 32), "shortest")
    assert np.abs(exact - approximate).max() <= 1


def test_approximate_does_not_lift_the_limit_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    preprocess = Preprocess((8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), approximate=True)
    with pytest.raises(ImageError, match="larger than is safe"):
        preprocess(photograph(417, 301))


def test_approximate_does_not_show_in_the_settings() -> None:
    preprocess = Preprocess((8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert repr(replace(preprocess, approximate=True)) == repr(preprocess)  # which goes into fingerprints


def test_normalised_pixels_lie_in_memory_as_networks_read_them(pixels: Array) -> None:
    preprocess = Preprocess((8, 8), (0.5, 0.4, 0.3), (0.5, 0.6, 0.7))
    assert preprocess(pixels).flags.c_contiguous
    several = np.stack([pixels, pixels[::-1]])
    assert preprocess.normalize(several).flags.c_contiguous
    assert (preprocess.normalize(several)[1] == preprocess.normalize(several[1])).all()
