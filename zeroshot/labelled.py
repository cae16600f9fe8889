"""Images whose classes are known: folders, lists, webdataset archives, Hugging Face data sets, pairs.

Images are read when they are decoded, not before, so memory does not depend on how many there are; labels are looked
through once in advance, where the data does not say by itself which classes there are. What comes of it is in
`zeroshot.labelled_images`.
"""

from __future__ import annotations

import csv
import functools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zeroshot.errors import (
    ImageError,
    ImageNotFoundError,
    InputTypeError,
    LabelError,
    MissingExtraError,
    OptionError,
    ZeroShotError,
)
from zeroshot.formats import import_parquet
from zeroshot.image import Item
from zeroshot.labelled_images import NUMBER, LabelledImages, RawLabel
from zeroshot.matching import near_names, some_names
from zeroshot.sources import Sources, archive_items, expand_pattern, image_cell, image_extensions, table_rows

LabelledLike: TypeAlias = "str | os.PathLike[str] | LabelledImages | tuple[Any, Any] | Any"

DATASETS = "datasets:"
IMAGE_COLUMNS = ("image", "img", "path", "file", "filename", "file_name", "filepath", "source", "url")
LABEL_COLUMNS = ("label", "labels", "class", "classes", "target", "targets", "cls", "category")
CLASS_LISTS = ("classnames.txt", "classes.txt")
_LIST_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


# ----------------------------------------------------------------------------------------------------------- opening


def load_labelled(
    data: LabelledLike,
    *,
    classes: Sequence[str] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
    split: str | None = None,
) -> LabelledImages:
    """Find out what images and classes there are.

    Parameters
    ----------
    data : str, path-like, tuple, data set or LabelledImages
        - a folder with one subfolder a class, as torchvision's ImageFolder: classes are numbered by their sorted names;
        - a list: ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``, with a column of images and one of labels. Paths count
          from the folder of the list; in Parquet the images themselves may be in the column;
        - webdataset archives: a folder of them, one, or a pattern such as ``test-{0000..0009}.tar``. A sample is an
          image and its label, of one name: ``7.jpg`` and ``7.cls`` (a position), ``7.txt`` (a name), or ``7.json``
          (an object with a label). A file `CLASS_LISTS` beside the archives, or one folder up, names the classes;
        - a Hugging Face data set (extra ``datasets``): the object, the folder that ``save_to_disk`` wrote, or
          ``datasets:owner/name``;
        - a pair of images and labels, both of one length: ``(images, labels)``;
        - any object with ``__len__`` and ``__getitem__`` that gives pairs of an image and a position, such as
          torchvision's data sets, with its ``classes`` and ``targets``.
    classes : sequence of str, optional
        Names of the classes by position, where the data does not say, or in place of what it says; for a folder all
        subfolders, in order.
    image_column, label_column : str, optional
        By default one of `IMAGE_COLUMNS` and of `LABEL_COLUMNS`; keys, for webdataset's JSON.
    separator : str, optional
        What stands between several labels of an image in a column of text. With it the data is multi-label.
    split : str, optional
        Of a Hugging Face data set that has several.

    Returns
    -------
    LabelledImages

    Raises
    ------
    ImageNotFoundError
        If there is no such file or folder.
    ImageError
        If there is no image, or the folder has no subfolders.
    OptionError
        If a column is not there, or a split.
    LabelError
        If labels are both names and positions.
    MissingExtraError
        If a package is needed that is not installed.
    InputTypeError
        If `data` is of another type.

    Examples
    --------
    >>> data = load_labelled((["examples/images/cat.jpg", "examples/images/rocket.jpg"], ["cat", "rocket"]))
    >>> data.classes, [(item.source, item.target) for item in data.items()]
    (('cat', 'rocket'), [('examples/images/cat.jpg', 0), ('examples/images/rocket.jpg', 1)])
    """
    names = None if classes is None else _check_classes(classes)
    if isinstance(data, LabelledImages):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return _from_pair(*data, names)
    if hasattr(data, "features") and hasattr(data, "column_names"):
        return _from_dataset(data, names, image_column, label_column)
    if hasattr(data, "keys") and hasattr(data, "column_names"):
        return _from_dataset(_split(data, split), names, image_column, label_column)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (str, bytes, list, dict)):
        return _from_map_style(data, names)
    if not isinstance(data, (str, os.PathLike)):
        raise InputTypeError(
            f"data is of type {type(data).__name__}; expected a folder, a list, archives, a Hugging Face data set, or "
            "a pair of images and labels"
        )
    text = os.fspath(data)
    if text.startswith(DATASETS):
        return _from_dataset(_load_dataset(text, split), names, image_column, label_column, name=text)
    path = Path(text).expanduser()
    if path.is_dir():
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return _from_dataset(_load_dataset(str(path), split), names, image_column, label_column, name=text)
        archives = sorted(str(entry) for entry in path.iterdir() if _is_tar(entry.name))
        if archives:
            return _from_archives(text, archives, names, label_column, separator)
        return _from_folder(path, names)
    if _is_tar(text):
        return _from_archives(text, list(expand_pattern(text)), names, label_column, separator)
    if path.suffix.lower() in _LIST_ENDINGS:
        return _from_list(path, names, image_column, label_column, separator)
    if not path.exists():
        raise ImageNotFoundError(
            f"no folder or list at {text!r}; check the path (the working folder is {Path.cwd()}). A data set of the "
            f"Hugging Face hub is {DATASETS + 'owner/name'!r}"
        )
    raise ImageError(
        f"{text!r} holds no labels that can be read; expected a folder with one subfolder a class, a list "
        f"({', '.join(_LIST_ENDINGS)}), or webdataset archives (.tar)"
    )


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes) or not classes:
        raise LabelError(f"classes is {classes!r:.80}; expected a list of names, one for each class by position")
    return tuple(classes)


# ----------------------------------------------------------------------------------------------------------- folders


def _from_folder(root: Path, names: tuple[str, ...] | None) -> LabelledImages:
    folders = [entry for entry in visible_entries(root) if entry.is_dir()]
    if not folders:
        raise ImageError(
            f"{str(root)!r} has no subfolders; expected one for each class, named after it, with its images, such as "
            f"{str(root / 'cat' / '1.jpg')!r}"
        )
    if all(folder.name.lower() in _SPLITS for folder in folders) and any(
        entry.is_dir() for entry in visible_entries(folders[0])
    ):
        raise ImageError(
            f"the subfolders of {str(root)!r} are parts of a data set ({some_names([f.name for f in folders])}), not "
            f"classes; give one of them, such as {str(folders[-1])!r}"
        )
    if names is not None and len(names) != len(folders):
        raise LabelError(
            f"{len(names)} classes came for the {len(folders)} class folders of {str(root)!r}; expected one for each, "
            f"in the order {some_names([folder.name for folder in folders])}"
        )

    def read() -> Iterator[tuple[Item, RawLabel]]:
        for position, folder in enumerate(folders):
            try:
                for item in Sources(folder).items():
                    yield item, position
            except ImageNotFoundError:
                continue  # a class without images is told of by who counts them

    classes = tuple(folder.name for folder in folders) if names is None else names
    return LabelledImages(str(root), "folder", classes, multi_label=False, read=read, root=str(root))


def labelled_folder(path: str | os.PathLike[str]) -> tuple[list[Path], npt.NDArray[np.int64], tuple[str, ...]]:
    """List the images of a folder with one subfolder a class, all of which must have some.

    Hidden files and folders, and files that are no images by their suffix, are left out.

    Returns
    -------
    paths : list of Path
        The images, class by class, sorted by name in each.
    targets : ndarray of shape (n_images,), int64
        For each image the position of its class among `names`.
    names : tuple of str
        The subfolders' names, sorted.

    Raises
    ------
    ImageNotFoundError
        If there is no such folder.
    ImageError
        If it has no subfolders, or one of them has no images.
    """
    root = Path(path).expanduser()
    data = _from_folder(root, None)
    items = [(Path(item.source), item.target) for item in data.items()]
    targets = np.array([target for _, target in items], dtype=np.int64)
    for position, name in enumerate(data.classes):
        if not (targets == position).any():
            entries = [entry.name for entry in visible_entries(root / name)]
            came = f"only {some_names(entries)}" if entries else "nothing"
            raise ImageError(
                f"the class folder {str(root / name)!r} holds {came}; expected images in it, such as JPEG or PNG "
                "files; add some, or remove the folder"
            )
    return [path for path, _ in items], targets, data.classes


def visible_entries(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted, without what is hidden.

    Raises
    ------
    ImageNotFoundError
        If there is no such folder.
    ImageError
        If it cannot be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError as error:
        raise ImageNotFoundError(
            f"no folder at {str(folder)!r}; check the path (the working folder is {Path.cwd()})"
        ) from error
    except OSError as error:  # a file, or a folder that may not be read
        raise ImageError(f"{str(folder)!r} cannot be listed: {error}; expected a folder of class folders") from error


# ------------------------------------------------------------------------------------------------------------- lists


def _from_list(
    path: Path, names: tuple[str, ...] | None, image: str | None, label: str | None, separator: str | None
) -> LabelledImages:
    if not path.is_file():
        raise ImageNotFoundError(f"no list at {str(path)!r}; check the path (the working folder is {Path.cwd()})")
    suffix = path.suffix.lower()
    columns = _columns(path, suffix)
    if not columns:
        raise ImageError(
            f"{str(path)!r} is empty; expected a row for each image, with a column of paths and one of labels"
        )
    image = _choose_column(path, "images", image, columns, IMAGE_COLUMNS)
    label = _choose_column(path, "labels", label, columns, LABEL_COLUMNS)

    def labels() -> Iterator[RawLabel]:
        return (_split_label(row[0], separator) for row in _rows(path, suffix, [label]))

    is_text = suffix in (".csv", ".tsv") or separator is not None
    classes, several = _discover(labels(), names, str(path), is_text=is_text)

    def read() -> Iterator[tuple[Item, RawLabel]]:
        for number, (cell, raw) in enumerate(_rows(path, suffix, [image, label])):
            item = _item(cell, f"{path}#{number}", path.parent)
            yield item, _as_number(_split_label(raw, separator), is_text=is_text and not classes)

    multi_label = several or separator is not None
    return LabelledImages(str(path), "list", classes, multi_label=multi_label, read=read, root=str(path.parent))


def _columns(path: Path, suffix: str) -> list[str]:
    if suffix == ".parquet":
        pyarrow, parquet = import_parquet()
        try:
            return list(parquet.read_schema(path).names)
        except (OSError, pyarrow.ArrowException) as error:
            raise ImageError(f"{str(path)!r} cannot be read: {error}; is it damaged or cut short?") from error
    first = next(iter(_text_rows(path, suffix)), {})
    return [key for key in first if isinstance(key, str)]


def _rows(path: Path, suffix: str, columns: Sequence[str]) -> Iterator[list[Any]]:
    if suffix == ".parquet":
        yield from table_rows(str(path), columns)
    else:
        for row in _text_rows(path, suffix):
            yield [row.get(column) for column in columns]


def _text_rows(path: Path, suffix: str) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix in (".csv", ".tsv"):
                yield from csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ImageError(f"{str(path)!r}, line {number}: {line.strip():.60} is no object; expected one")
                    yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{str(path)!r} cannot be read as a list: {error}; expected UTF-8 text") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ImageError(f"{str(path)!r}, line {number} is no JSON: {error}; expected an object a line") from error


def _choose_column(path: Path, what: str, given: str | None, columns: Sequence[str], usual: Sequence[str]) -> str:
    option = "image_column" if what == "images" else "label_column"
    if given is not None:
        if given in columns:
            return given
        raise OptionError(
            f"{str(path)!r} has no column {given!r}{near_names(given, columns)}; expected one of "
            f"{some_names(columns, 8)}"
        )
    by_lower = {column.strip().lower(): column for column in columns}
    found = [by_lower[name] for name in usual if name in by_lower]
    if not found:
        raise OptionError(
            f"{str(path)!r} has the columns {some_names(columns, 8)}; which of them holds the {what}? Name it: {option}"
        )
    return found[0]


def _item(cell: Any, name: str, folder: Path) -> Item:
    cell = image_cell(cell)
    if isinstance(cell, str) and cell.strip():
        path = cell if "://" in cell or os.path.isabs(cell) else str(folder / cell)  # noqa: PTH117
        return Item(path, path)
    if isinstance(cell, (bytes, bytearray)):
        return Item(name, bytes(cell))
    return Item(name, functools.partial(_no_image, name))


def _no_image(name: str) -> Any:
    raise ImageError(f"{name!r} names no image; expected a path, or an image, in its row")


def _split_label(cell: Any, separator: str | None) -> RawLabel:
    if separator is not None and (cell is None or isinstance(cell, str)):
        return [part.strip() for part in (cell or "").split(separator) if part.strip()]
    if isinstance(cell, np.ndarray):
        return list(cell.tolist())
    raw: RawLabel = cell
    return raw


def _as_number(label: RawLabel, *, is_text: bool) -> RawLabel:
    """Positions that are written as text; of text that is none, the text."""
    if not is_text:
        return label
    if isinstance(label, (list, tuple)):
        return [one if not isinstance(one, str) or not NUMBER.fullmatch(one) else int(one) for one in label]
    return int(label) if isinstance(label, str) and NUMBER.fullmatch(label) else label


def _discover(
    labels: Iterable[RawLabel], names: tuple[str, ...] | None, where: str, *, is_text: bool
) -> tuple[tuple[str, ...], bool]:
    """Look through all labels: which classes there are (none if they are positions), whether images show several."""
    found: set[str] = set()
    number, several = None, False
    for label in labels:
        several = several or isinstance(label, (list, tuple))
        for one in label if isinstance(label, (list, tuple)) else [label]:
            if isinstance(one, str) and one.strip():
                found.add(one)
            elif hasattr(one, "__index__") and not isinstance(one, bool):
                number = one
    if names is not None:
        return names, several
    if number is not None and found:
        raise LabelError(
            f"the labels of {where!r} are both positions, such as {number}, and names, such as {min(found)!r}; "
            "expected one of them"
        )
    if is_text and all(NUMBER.fullmatch(name) for name in found):
        return (), several
    return tuple(sorted(found)), several


# -------------------------------------------------------------------------------------------------------- webdataset


def _from_archives(
    name: str, archives: list[str], names: tuple[str, ...] | None, key: str | None, separator: str | None
) -> LabelledImages:
    if not archives:
        raise ImageNotFoundError(f"no archive matches {name!r}; check it (the working folder is {Path.cwd()})")
    for archive in archives:
        if "://" not in archive and not Path(archive).is_file():
            raise ImageNotFoundError(f"no archive at {archive!r}; check the path (the working folder is {Path.cwd()})")
    names = names or _class_list(Path(archives[0]).parent)

    def samples(*, only_labels: bool) -> Iterator[tuple[Item, RawLabel]]:
        for archive in archives:
            yield from _samples(archive, key, separator, only_labels=only_labels)

    # Positions need no look at all of them; names do.
    first = next((label for _, label in samples(only_labels=True) if label is not None), None)
    several = isinstance(first, (list, tuple))
    if names is None and not isinstance(first, int):
        names, several = _discover((label for _, label in samples(only_labels=True)), None, name, is_text=False)
    multi_label = several or separator is not None
    read = functools.partial(samples, only_labels=False)
    root = os.path.commonpath(archives) if len(archives) > 1 else str(Path(archives[0]).parent)
    return LabelledImages(name, "webdataset", names or (), multi_label=multi_label, read=read, root=root)


def _class_list(folder: Path) -> tuple[str, ...] | None:
    for place in (folder, folder.parent):
        for name in CLASS_LISTS:
            path = place / name
            if path.is_file():
                lines = path.read_text(encoding="utf-8-sig").splitlines()
                return tuple(line.strip() for line in lines if line.strip()) or None
    return None


def _samples(
    archive: str, key: str | None, separator: str | None, *, only_labels: bool
) -> Iterator[tuple[Item, RawLabel]]:
    sample, image, label = "", None, None
    for item in archive_items(archive, lambda _: True, Counter()):
        if item.source == archive:  # it is damaged, and ends here
            if image is not None:
                yield image, label
            image = None
            yield item, _told(item)
            continue
        folder, _, file = item.source.removeprefix(f"{archive}#").rpartition("/")
        stem, _, ending = file.partition(".")
        if not stem:
            continue  # hidden
        if sample != f"{folder}/{stem}":
            if image is not None:
                yield image, label
            sample, image, label = f"{folder}/{stem}", None, None
        ending = ending.lower()
        if f".{ending.rpartition('.')[2]}" in image_extensions():
            image = Item(item.source, None) if only_labels else item
        elif ending in ("cls", "txt", "label", "json") and label is None:
            label = _sample_label(item.image, ending, key, separator)
    if image is not None:
        yield image, label


def _told(item: Item) -> ZeroShotError:
    try:
        item.image()
    except ZeroShotError as error:
        return error
    raise AssertionError(f"{item.source!r} is not damaged")


def _sample_label(content: Any, ending: str, key: str | None, separator: str | None) -> RawLabel:
    try:
        text = (content() if callable(content) else content).decode("utf-8-sig").strip()
        if ending == "json":
            data = json.loads(text)
            keys = (key,) if key is not None else LABEL_COLUMNS
            return next((data[name] for name in keys if name in data), None) if isinstance(data, dict) else data
    except (OSError, ValueError, RecursionError):
        return None
    if ending == "cls" and separator is None:
        return int(text) if NUMBER.fullmatch(text) else text
    return _split_label(text, separator)


def _is_tar(name: str) -> bool:
    return name.lower().endswith(_TAR_ENDINGS)


# ------------------------------------------------------------------------------------------- data sets of libraries


def _load_dataset(name: str, split: str | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(
            "Hugging Face data sets need datasets: pip install 'zeroshot-clip[datasets]'"
        ) from error
    try:
        if name.startswith(DATASETS):
            loaded = datasets.load_dataset(name.removeprefix(DATASETS), split=split)
            return loaded if split is not None else _split(loaded, None)
        return _split(datasets.load_from_disk(name), split)
    except ZeroShotError:
        raise
    except (OSError, ValueError, KeyError) as error:  # not there, no such split, no network
        raise ImageError(f"the data set {name!r} cannot be loaded: {error}") from error


def _split(loaded: Any, split: str | None) -> Any:
    if not hasattr(loaded, "keys"):
        return loaded
    names = list(loaded.keys())
    if split in names:
        return loaded[split]
    if split is None and len(names) == 1:
        return loaded[names[0]]
    came = "none was given" if split is None else f"there is no {split!r}"
    raise OptionError(f"the data set has the splits {some_names(names, 8)}; {came}: expected one of them as split")


def _from_dataset(
    dataset: Any, names: tuple[str, ...] | None, image: str | None, label: str | None, *, name: str = ""
) -> LabelledImages:
    import datasets  # whoever has the object has the package

    name = name or f"{DATASETS}{dataset.info.dataset_name or dataset.info.builder_name or 'in memory'}"
    columns, features = list(dataset.column_names), dataset.features
    if features is None:
        raise OptionError(f"the data set {name!r} does not say what its columns hold; call its _resolve_features()")
    images = [column for column in columns if isinstance(features[column], datasets.Image)]
    image = (
        images[0] if image is None and images else _choose_column(Path(name), "images", image, columns, IMAGE_COLUMNS)
    )
    label = _choose_column(Path(name), "labels", label, columns, LABEL_COLUMNS)
    feature = features[label]
    several = not isinstance(feature, (datasets.Value, datasets.ClassLabel))
    inner = getattr(feature, "feature", feature)
    if isinstance(features[image], datasets.Image):  # decoded by us: upright, transparency over white
        dataset = dataset.cast_column(image, datasets.Image(decode=False))
    is_lazy = not hasattr(dataset, "__len__")
    if names is None and isinstance(inner, datasets.ClassLabel):
        names = tuple(inner.names)
    elif names is None:
        only = dataset.select_columns([label])
        names, _ = _discover((row[label] for row in only), None, name, is_text=False)

    def read() -> Iterator[tuple[Item, RawLabel]]:
        if is_lazy:
            for number, row in enumerate(dataset):
                yield Item(f"{name}#{number}", image_cell(row[image])), row[label]
            return
        labels = dataset.select_columns([label])
        for number, row in enumerate(labels):
            yield Item(f"{name}#{number}", functools.partial(_dataset_image, dataset, number, image)), row[label]

    return LabelledImages(name, "datasets", names or (), multi_label=several, read=read)


def _dataset_image(dataset: Any, number: int, column: str) -> Any:
    return image_cell(dataset[number][column])


def _from_map_style(data: Any, names: tuple[str, ...] | None) -> LabelledImages:
    given = getattr(data, "classes", None)
    if names is None and given is not None and all(isinstance(one, str) for one in given):
        names = tuple(given)
    targets = next((getattr(data, key) for key in ("targets", "labels") if hasattr(data, key)), None)
    name = type(data).__name__

    def read() -> Iterator[tuple[Item, RawLabel]]:
        for number in range(len(data)):
            if targets is not None:
                yield Item(f"{name}#{number}", functools.partial(_first, data, number)), _plain(targets[number])
            else:
                image, target = data[number]
                yield Item(f"{name}#{number}", image), _plain(target)

    first = next((label for _, label in read()), None)
    several = isinstance(first, (list, tuple))
    return LabelledImages(name, "pairs", names or (), multi_label=several, read=read)


def _first(data: Any, number: int) -> Any:
    return data[number][0]


def _from_pair(images: Any, labels: Any, names: tuple[str, ...] | None) -> LabelledImages:
    count = len(labels) if hasattr(labels, "__len__") else None
    if isinstance(images, (str, os.PathLike)) or not hasattr(images, "__len__") or count is None:
        raise InputTypeError(
            f"data is a pair of {type(images).__name__} and {type(labels).__name__}; expected a list of images and a "
            "list of as many labels"
        )
    if count != len(images):
        raise OptionError(f"images are {len(images)}, labels {count}; expected one label for each image")
    if not count:
        raise ImageError("the list of images is empty; expected at least one")
    matrix = np.asarray(labels) if isinstance(labels, np.ndarray) or hasattr(labels, "numpy") else None
    if matrix is not None and matrix.ndim == 2:  # which classes an image shows, as metrics take it
        raw: list[RawLabel] = [np.flatnonzero(row).tolist() for row in matrix]
    else:
        raw = [_plain(label) for label in labels]
    classes, several = _discover(raw, names, "the pair", is_text=False)
    if matrix is not None and matrix.ndim == 2:
        several = True

    def read() -> Iterator[tuple[Item, RawLabel]]:
        for number, (image, label) in enumerate(zip(images, raw, strict=True)):
            if isinstance(image, Item):
                yield image, label
            else:
                is_path = isinstance(image, (str, os.PathLike))
                yield Item(os.fspath(image) if is_path else f"image {number}", image), label

    return LabelledImages("images", "pairs", classes, multi_label=several, read=read)


def _plain(label: Any) -> RawLabel:
    """Labels of arrays and tensors as Python has them."""
    if hasattr(label, "tolist"):
        label = label.tolist()
    raw: RawLabel = list(label) if isinstance(label, tuple) else label
    return raw
