"""Your own pairs of images and captions: a table, a folder or an archive."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path, PurePosixPath

from zeroshot.sources import image_extensions

Image = Path | bytes
Pair = tuple[Image, str]


def read_pairs(path: str | Path) -> list[Pair]:
    """Return (image, caption) for each pair, in a fixed order; the images of an archive as bytes.

    Parameters
    ----------
    path : str or Path
        - ``pairs.csv`` with the columns ``image`` (a path, from the folder of the table) and ``caption``;
        - a folder in which ``cat.jpg`` has its caption in ``cat.txt`` beside it;
        - ``shard.tar`` with the same, as webdataset and img2dataset write it.
    """
    path = Path(path)
    if path.is_dir():
        pairs = _from_folder(path)
    elif path.suffix.lower() == ".csv":
        pairs = _from_table(path)
    elif path.suffix.lower() == ".tar":
        pairs = _from_archive(path)
    else:
        raise SystemExit(f"{path} is no folder, and neither .csv nor .tar; expected pairs in one of these")
    if not pairs:
        raise SystemExit(f"no pairs in {path}; expected images with a text file of the same name beside each")
    return pairs


def _from_table(path: Path) -> list[Pair]:
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if not {"image", "caption"} <= set(table.fieldnames or ()):
            raise SystemExit(f"{path} has the columns {table.fieldnames}; expected 'image' and 'caption'")
        return [(path.parent / row["image"], row["caption"]) for row in table]


def _from_folder(folder: Path) -> list[Pair]:
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in image_extensions())
    captions = ((image, image.with_suffix(".txt")) for image in images)
    return [(image, text.read_text(encoding="utf-8").strip()) for image, text in captions if text.exists()]


def _from_archive(path: Path) -> list[Pair]:
    images: dict[str, bytes] = {}
    captions: dict[str, str] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isfile():
                continue
            name = PurePosixPath(member.name)
            content = archive.extractfile(member).read()  # type: ignore[union-attr]  # a file has content
            if name.suffix == ".txt":
                captions[str(name.with_suffix(""))] = content.decode("utf-8").strip()
            elif name.suffix.lower() in image_extensions():
                images[str(name.with_suffix(""))] = content
    return [(image, captions[key]) for key, image in images.items() if key in captions]
