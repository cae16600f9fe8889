"""Labelled images: every form gives the same images and positions; labels that are wrong are told of, one by one."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeroshot.errors import (
    ImageError,
    ImageNotFoundError,
    InputTypeError,
    LabelError,
    OptionError,
    ZeroShotError,
)
from zeroshot.image import open_image
from zeroshot.labelled import labelled_folder, load_labelled
from zeroshot.labelled_images import LabelledImages, LabelledItem

COLOURS = {"blue": (0, 0, 250), "green": (0, 250, 0), "red": (250, 0, 0)}


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), COLOURS[colour]).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two images of each class, one of them deeper down; what is hidden or no image beside them."""
    root = tmp_path / "pictures"
    for colour in COLOURS:
        (root / colour / "more").mkdir(parents=True)
        for name in ("1.png", "more/2.PNG"):
            (root / colour / name).write_bytes(picture(colour))
        (root / colour / "notes.txt").write_text("")
        (root / colour / ".hidden.png").write_bytes(picture(colour))
    (root / ".cache").mkdir()
    (root / "README.md").write_text("")
    return root


def shows(item: LabelledItem) -> str:
    """Return the colour that an item's image really has."""
    pixel = open_image(item.image() if callable(item.image) else item.image).getpixel((0, 0))
    return next(name for name, colour in COLOURS.items() if colour == pixel)


def found(data: LabelledImages) -> list[tuple[str, Any]]:
    return [(data.relative(item.source), item.target) for item in data.items()]


def problems(data: LabelledImages) -> list[str]:
    return [item.problem for item in data.items() if item.problem]


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


# ----------------------------------------------------------------------------------------------------------- folders


def test_a_folder_of_classes(tree: Path) -> None:
    data = load_labelled(tree)
    assert (data.kind, data.classes, data.multi_label) == ("folder", ("blue", "green", "red"), False)
    assert found(data) == [
        (f"{colour}/{name}", position) for position, colour in enumerate(COLOURS) for name in ("1.png", "more/2.PNG")
    ]
    assert [shows(item) for item in data.items()] == ["blue"] * 2 + ["green"] * 2 + ["red"] * 2
    assert found(data) == found(load_labelled(str(tree)))  # and again


def test_names_in_place_of_the_folders(tree: Path) -> None:
    assert load_labelled(tree, classes=["sea", "grass", "rose"]).classes == ("sea", "grass", "rose")
    with pytest.raises(LabelError, match=r"2 classes came for the 3 class folders .* 'blue', 'green', 'red'"):
        load_labelled(tree, classes=["sea", "grass"])


def test_a_class_without_images_keeps_its_place(tree: Path) -> None:
    (tree / "cyan").mkdir()
    data = load_labelled(tree)
    assert data.classes == ("blue", "cyan", "green", "red")
    assert {target for _, target in found(data)} == {0, 2, 3}


def test_folders_that_cannot_be_used(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError, match=r"no folder or list at .*nowhere.*datasets:owner/name"):
        load_labelled(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="holds no labels that can be read"):
        load_labelled(tree / "README.md")
    with pytest.raises(ImageError, match=r"more' has no subfolders; expected one for each class.*cat.*1\.jpg"):
        load_labelled(tree / "red" / "more")
    for part in ("train", "test"):
        (tmp_path / "parts" / part / "cat").mkdir(parents=True)
    with pytest.raises(ImageError, match=r"parts of a data set \('test', 'train'\), not classes; give one of them"):
        load_labelled(tmp_path / "parts")
    with pytest.raises(InputTypeError, match="data is of type int"):
        load_labelled(3)


def test_listed_folders(tree: Path) -> None:
    paths, targets, names = labelled_folder(tree)
    assert names == ("blue", "green", "red")
    assert [str(path.relative_to(tree)) for path in paths[:2]] == ["blue/1.png", "blue/more/2.PNG"]
    np.testing.assert_array_equal(targets, [0, 0, 1, 1, 2, 2])
    assert targets.dtype == np.int64


def test_listed_folders_that_cannot_be_used(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError, match=r"no folder at .*nowhere"):
        labelled_folder(tmp_path / "nowhere")
    with pytest.raises(ImageError, match=r"README\.md.* cannot be listed"):
        labelled_folder(tree / "README.md")
    (tree / "owl").mkdir()
    with pytest.raises(ImageError, match=r"class folder .*owl' holds nothing; expected images"):
        labelled_folder(tree)
    for name in "abcde":
        (tree / "owl" / f"{name}.txt").write_text("")
    with pytest.raises(ImageError, match=r"holds only 'a\.txt', 'b\.txt', 'c\.txt' and 2 more"):
        labelled_folder(tree)


# ------------------------------------------------------------------------------------------------------------- lists


def write_list(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_lists_of_names(tree: Path, ending: str) -> None:
    rows = [{"label": c, "note": "a, b", "path": f"{c}/1.png"} for c in ("red", "blue", "green")]
    data = load_labelled(write_list(tree / f"list{ending}", rows))
    assert (data.kind, data.classes, data.multi_label) == ("list", ("blue", "green", "red"), False)
    assert found(data) == [("red/1.png", 2), ("blue/1.png", 0), ("green/1.png", 1)]
    assert [shows(item) for item in data.items()] == ["red", "blue", "green"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_lists_of_positions(tree: Path, ending: str) -> None:
    rows = [{"image": str(tree / c / "1.png"), "target": position} for position, c in enumerate(COLOURS)]
    path = write_list(tree / f"list{ending}", rows)
    data = load_labelled(path)
    assert (data.classes, [target for _, target in found(data)]) == ((), [0, 1, 2])
    named = load_labelled(path, classes=["b", "g"])
    assert [target for _, target in found(named)] == [0, 1, None]
    assert problems(named) == ["the label 2 is no class; expected a position from 0 to 1"]


def test_images_in_a_table(tree: Path) -> None:
    cells = {"plain": picture, "struct": lambda colour: {"bytes": picture(colour), "path": None}}
    for name, cell in cells.items():
        path = write_list(tree / f"{name}.parquet", [{"image": cell(c), "label": c} for c in COLOURS])
        data = load_labelled(path)
        assert [shows(item) for item in data.items()] == list(COLOURS)
        assert next(data.items()).source == f"{path}#0"


def test_several_labels_of_an_image(tree: Path) -> None:
    expected = [(0, 2), (1,), ()]
    rows = [["red", "blue"], ["green"], []]
    jsonl = write_list(tree / "list.jsonl", [{"file": "red/1.png", "labels": row} for row in rows])
    table = write_list(tree / "list.parquet", [{"file": "red/1.png", "labels": row} for row in rows])
    text = write_list(tree / "list.csv", [{"file": "red/1.png", "labels": " | ".join(row)} for row in rows])
    for data in (load_labelled(jsonl), load_labelled(table), load_labelled(text, separator="|")):
        assert data.multi_label
        assert data.classes == ("blue", "green", "red")
        assert [target for _, target in found(data)] == expected


def test_columns_are_named_or_known(tree: Path) -> None:
    path = write_list(tree / "list.csv", [{"photo": "red/1.png", "colour": "red", "label": "x"}])
    with pytest.raises(OptionError, match=r"has the columns 'photo', 'colour', 'label'; which .* holds the images"):
        load_labelled(path)
    with pytest.raises(OptionError, match=r"no column 'phto' \(did you mean 'photo'\?\)"):
        load_labelled(path, image_column="phto")
    data = load_labelled(path, image_column="photo", label_column="colour")
    assert data.classes == ("red",)


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        (".csv", "", "is empty"),
        (".csv", "path,label\n\xff".encode("latin-1"), "expected UTF-8 text"),
        (".jsonl", '{"path": "a", "label": 1}\n[1]\n', "line 2: .* is no object"),
        (".jsonl", '{"path": "a", "label": 1}\n{"path"\n', "line 2 is no JSON"),
        (".parquet", "no table", "is it damaged"),
    ],
)
def test_damaged_lists(tmp_path: Path, ending: str, content: Any, message: str) -> None:
    path = tmp_path / f"list{ending}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ImageError, OptionError), match=message):
        load_labelled(path)


def test_wrong_rows_take_nothing_from_the_others(tree: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"path": "red/1.png", "label": "red"},
        {"path": "red/1.png", "label": None},
        {"path": "red/1.png", "label": "grene"},
        {"path": "blue/1.png", "label": "blue"},
        {"path": "red/1.png", "label": ["red", "blue"]},
        {"path": None, "label": "green"},
    ]
    data = load_labelled(write_list(tree / "list.jsonl", [*rows[:4], *rows[5:]]), classes=list(COLOURS))
    assert [target for _, target in found(data)] == [2, None, None, 0, 1]
    assert problems(data) == ["there is no label", "the label 'grene' is no class (did you mean 'green'?)"]
    with pytest.raises(ImageError, match="names no image"):
        list(data.items())[-1].image()
    mixed = write_list(tree / "mixed.jsonl", [{"path": "a", "label": 3}, {"path": "b", "label": "red"}])
    with pytest.raises(LabelError, match="both positions, such as 3, and names, such as 'red'"):
        load_labelled(mixed)


# -------------------------------------------------------------------------------------------------------- webdataset


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
@pytest.mark.parametrize(
    ("label", "classes"),
    [
        (lambda n, c: (f"{n}.cls", str(n).encode()), ()),
        (lambda n, c: (f"{n}.txt", f"{c}\n".encode()), ("blue", "green", "red")),
        (lambda n, c: (f"{n}.json", json.dumps({"label": c}).encode()), ("blue", "green", "red")),
    ],
)
def test_webdataset_archives(
    tmp_path: Path, ending: str, label: Callable[[int, str], tuple[str, bytes]], classes: tuple[str, ...]
) -> None:
    mode = "w:gz" if ending == ".tar.gz" else "w"
    for shard, colours in enumerate((["blue", "green"], ["red"])):
        members = [
            m for i, c in enumerate(colours) for m in ((f"s/{2 * shard + i}.png", picture(c)), label(2 * shard + i, c))
        ]
        write_tar(tmp_path / f"{shard}{ending}", [(n if "/" in n else f"s/{n}", b) for n, b in members], mode)
    for given_as in (tmp_path, f"{tmp_path}/{{0..1}}{ending}"):
        data = load_labelled(given_as)
        assert (data.kind, data.classes) == ("webdataset", classes)
        assert [target for _, target in found(data)] == [0, 1, 2]
        assert [shows(item) for item in data.items()] == ["blue", "green", "red"]
        assert found(data)[0][0] == f"0{ending}#s/0.png"


def test_webdataset_details(tmp_path: Path) -> None:
    members = [
        ("0.seg.png", picture("red")),  # extensions begin at the first point
        ("0.cls", b"1"),
        ("1.cls", b"0"),  # the label may come first
        ("1.png", picture("blue")),
        ("2.png", picture("green")),  # none
        ("3.cls", b"2"),  # no image
        ("4.png", picture("green")),
        ("4.cls", b"12"),
    ]
    path = write_tar(tmp_path / "test" / "0.tar" if (tmp_path / "test").mkdir() is None else tmp_path, members)
    (tmp_path / "classnames.txt").write_text("sea\nrose\n")
    data = load_labelled(path)
    assert data.classes == ("sea", "rose")
    assert [target for _, target in found(data)] == [1, 0, None, None]
    assert problems(data) == ["there is no label", "the label 12 is no class; expected a position from 0 to 1"]
    with pytest.raises(ImageNotFoundError, match="no archive at"):
        load_labelled(tmp_path / "1.tar")


def test_a_damaged_archive_gives_what_it_has(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", [("0.png", picture("red")), ("0.cls", b"0"), ("1.png", picture("red"))])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"1.png") + 300])
    items = list(load_labelled(path).items())
    assert items[0].target == 0
    assert shows(items[0]) == "red"
    assert items[-1].target is None
    assert "damaged or cut short" in items[-1].problem


def test_several_labels_in_archives(tmp_path: Path) -> None:
    members = [
        ("0.png", picture("red")),
        ("0.json", b'{"label": [2, 0]}'),
        ("1.png", picture("red")),
        ("1.json", b"{}"),
    ]
    data = load_labelled(write_tar(tmp_path / "0.tar", members))
    assert data.multi_label
    assert [target for _, target in found(data)] == [(0, 2), ()]


# ------------------------------------------------------------------------------------------------- data sets of others


def test_pairs() -> None:
    images = ["a.png", "b.png", "c.png"]
    named = load_labelled((images, ["red", "blue", "red"]))
    assert (named.classes, found(named)) == (("blue", "red"), [("a.png", 1), ("b.png", 0), ("c.png", 1)])
    numbered = load_labelled((images, np.array([2, 0, 1])))
    assert (numbered.classes, [target for _, target in found(numbered)]) == ((), [2, 0, 1])
    several = load_labelled((images, np.array([[1, 0], [0, 0], [1, 1]], dtype=bool)))
    assert several.multi_label
    assert [target for _, target in found(several)] == [(0,), (), (0, 1)]
    with pytest.raises(OptionError, match="images are 3, labels 2"):
        load_labelled((images, [1, 2]))
    with pytest.raises(ImageError, match="is empty"):
        load_labelled(([], []))
    with pytest.raises(InputTypeError, match="a pair of str and list"):
        load_labelled(("a.png", [1]))


class MapStyle:
    """As torchvision's data sets."""

    classes = tuple(COLOURS)

    def __init__(self, *, with_targets: bool) -> None:
        self.read = 0
        if with_targets:
            self.targets = np.array([2, 0])

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read += 1
        target = [2, 0][index]
        return Image.new("RGB", (8, 8), list(COLOURS.values())[target]), target


@pytest.mark.parametrize("with_targets", [True, False])
def test_map_style_data_sets(with_targets: bool) -> None:
    dataset = MapStyle(with_targets=with_targets)
    data = load_labelled(dataset)
    assert data.classes == ("blue", "green", "red")
    before = dataset.read
    assert found(data) == [("MapStyle#0", 2), ("MapStyle#1", 0)]
    assert dataset.read == before + (0 if with_targets else 2)
    assert [shows(item) for item in data.items()] == ["red", "blue"]


def test_every_error_is_of_the_house() -> None:
    for data in ("no such thing", object(), [1, 2]):
        with pytest.raises(ZeroShotError):
            load_labelled(data)
