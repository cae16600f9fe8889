"""Files as folders of photographs collect them: odd ones that are images all the same, and broken ones."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image

Writer = Callable[[Path, Image.Image], object]


def picture(seed: int, scale: int = 1) -> Image.Image:
    """A picture that looks like no other: blurred noise, RGB, about 48 x 40 pixels times the scale."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((48 * scale + seed % 5, 40 * scale + seed % 7), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    if format == "PNG":
        options = {"compress_level": 1} | options
    elif format == "GIF":
        image = _with_palette(image)
    image.save(file, format, **options)
    return file.getvalue()


def _with_palette(image: Image.Image) -> Image.Image:
    return image.convert("P")  # a fixed one: to choose its colours would take a quarter of a second


def _bytes(make: Callable[[Image.Image], bytes]) -> Writer:
    return lambda path, image: path.write_bytes(make(image))


def _file(format: str, **options: object) -> Writer:
    return _bytes(lambda image: encoded(image, format, **options))


def _as(mode: str, format: str, **options: object) -> Writer:
    return _bytes(lambda image: encoded(image.convert(mode), format, **options))


def _cut(format: str, share: float, **options: object) -> Writer:
    def make(image: Image.Image) -> bytes:
        content = encoded(image, format, **options)
        return content[: int(len(content) * share)]

    return _bytes(make)


def _frames(format: str) -> Writer:
    """Several frames, of which the first counts."""

    def make(image: Image.Image) -> bytes:
        image = _with_palette(image) if format == "GIF" else image
        return encoded(image, format, save_all=True, append_images=[image.rotate(90), image.rotate(180)])

    return _bytes(make)


def _wide(image: Image.Image) -> bytes:
    return encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_of(width: int, height: int) -> bytes:
    """A PNG file of a hundred bytes that promises this many pixels."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(30))) + _chunk(b"IEND", b"")


def _bad_checksum(image: Image.Image) -> bytes:
    content = bytearray(encoded(image, "PNG"))
    content[29] ^= 0xFF  # the checksum of the header
    return bytes(content)


def _absurd_bmp(image: Image.Image) -> bytes:
    content = bytearray(encoded(image, "BMP"))
    content[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    return bytes(content)


def _link(target: str) -> Writer:
    return lambda path, _: path.symlink_to(target)


def _unreadable(path: Path, image: Image.Image) -> None:
    """A file that exists and that nobody can read, the superuser neither."""
    if Path("/proc/self/mem").exists():
        path.symlink_to("/proc/self/mem")  # opens; reading at its start is an input/output error
    else:
        image.save(path, "JPEG")
        path.chmod(0)


def _linked(path: Path, image: Image.Image) -> None:
    target = path.with_name(f"{path.name}.target")
    target.write_bytes(encoded(image, "PNG"))
    path.symlink_to(target.name)


# What the name of the file ends with, and what writes it.
USABLE: dict[str, tuple[str, Writer]] = {
    "JPEG": (".jpg", _file("JPEG")),
    "progressive JPEG": (".jpg", _file("JPEG", progressive=True)),
    "grey JPEG": (".jpg", _as("L", "JPEG")),
    "CMYK": (".jpg", _as("CMYK", "JPEG")),
    "bytes behind the end": (".jpg", _bytes(lambda image: encoded(image, "JPEG") + bytes(100))),
    "huge EXIF": (".jpg", _file("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(65_000))),
    "damaged EXIF": (".jpg", _file("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")),
    "corrupt ICC profile": (".jpg", _file("JPEG", icc_profile=b"no profile at all" * 9)),
    "wrong extension": (".jpg", _file("PNG")),
    "no extension": ("", _file("PNG")),
    "newline in the name": ("\n.png", _file("PNG")),
    "name that is not UTF-8": (os.fsdecode(b"\xff\xfe.png"), _file("PNG")),
    "16 bits": (".png", _bytes(_wide)),
    "1 bit": (".png", _as("1", "PNG")),
    "grey with alpha": (".png", _as("LA", "PNG")),
    "alpha": (".png", _as("RGBA", "PNG")),
    "transparent palette": (".png", _as("P", "PNG", transparency=bytes(range(256)))),
    "animated PNG": (".png", _frames("PNG")),
    "animated GIF": (".gif", _frames("GIF")),
    "animated WebP": (".webp", _frames("WEBP")),
    "pages": (".tif", _frames("TIFF")),
    "link": (".png", _linked),
    "one pixel": (".png", _bytes(lambda image: encoded(image.resize((1, 1)), "PNG"))),
    "thin line": (".png", _bytes(lambda image: encoded(image.resize((1, 3000)), "PNG"))),
}
BROKEN: dict[str, tuple[str, Writer]] = {
    "empty": (".jpg", _bytes(lambda _: b"")),
    "null bytes": (".jpg", _bytes(lambda _: bytes(5000))),
    "text": (".jpg", _bytes(lambda _: b"this is no image\n")),
    "web page": (".png", _bytes(lambda _: b"<!DOCTYPE html><title>404</title>" * 9)),
    "archive": (".png", _bytes(lambda _: b"PK\x03\x04" + bytes(60))),
    "noise": (".jpg", _bytes(lambda image: image.tobytes())),
    "only the start of a JPEG": (".jpg", _bytes(lambda _: b"\xff\xd8\xff\xe0")),
    "cut JPEG": (".jpg", _cut("JPEG", 0.6)),
    "cut progressive JPEG": (".jpg", _cut("JPEG", 0.6, progressive=True)),
    "cut PNG": (".png", _cut("PNG", 0.6)),
    "cut GIF": (".gif", _cut("GIF", 0.3)),
    "cut WebP": (".webp", _cut("WEBP", 0.6)),
    "cut TIFF": (".tif", _cut("TIFF", 0.1)),
    "PNG with a bad checksum": (".png", _bytes(_bad_checksum)),
    "PNG without pixels": (".png", _bytes(lambda _: _png_of(0, 0))),
    "BMP with an absurd header": (".bmp", _bytes(_absurd_bmp)),
    "bomb": (".png", _bytes(lambda _: _png_of(60_000, 60_000))),
    "large enough for Pillow's warning": (".png", _bytes(lambda _: _png_of(10_000, 10_000))),
    "floating-point numbers": (".tif", _as("F", "TIFF")),
    "folder": (".jpg", lambda path, _: path.mkdir()),
    "dangling link": (".jpg", _link("nowhere.jpg")),
    "link to itself": (".jpg", lambda path, _: path.symlink_to(path.name)),
    "unreadable": (".jpg", _unreadable),
    "not there": (".jpg", lambda path, _: None),
}


def fill(folder: Path, usable: int, broken: int, *, scale: int = 1) -> Iterator[tuple[Path, str]]:
    """Write so many files, the broken ones spread among the others; yield each path and its kind, sorted by name."""
    total = usable + broken
    spots = {int((i + 0.5) * total / broken) for i in range(broken)}
    kinds = {True: cycle(BROKEN), False: cycle(USABLE)}
    for number in range(total):
        kind = next(kinds[number in spots])
        ending, write = (BROKEN if number in spots else USABLE)[kind]
        path = folder / f"{number:06d}{ending}"
        write(path, picture(number, scale))
        yield path, kind
