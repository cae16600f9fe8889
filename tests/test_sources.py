"""Where images come from: a name gives the same images in the same order, and what is broken takes only itself."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zeroshot import sources as sources_module
from zeroshot.errors import ImageError, ImageNotFoundError, MissingExtraError, OptionError
from zeroshot.image import open_image
from zeroshot.sources import Sources, image_extensions


def png(value: int = 0) -> bytes:
    """A picture of one pixel."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def names(*specifications: Any, skip: int = 0) -> list[str]:
    return [item.source for item in Sources(specifications).items(skip=skip)]


def values(*specifications: Any, skip: int = 0) -> list[Any]:
    """The grey values of the pictures; for those that cannot be opened the error, for those that are skipped None."""
    found: list[Any] = []
    for item in Sources(specifications).items(skip=skip):
        try:
            image = item.image() if callable(item.image) else item.image
            found.append(None if image is None else open_image(image).getpixel((0, 0))[0])  # type: ignore[index]
        except ImageError as error:
            found.append(error)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with some pictures and some other files in ``photos``."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["b.png", "a.PNG", "sub/c.png", "sub/deeper/d.png", "é ü.png"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    for name in ["notes.txt", "sub/NOTES.TXT", ".hidden.png", ".thumbnails/e.png", "README", "sub/film.mpg"]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def archive(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def table(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


# ------------------------------------------------------------------------------------------------ images and folders


@pytest.mark.parametrize("name", ["cat.jpg", "missing.jpg", "no extension", "https://example.org/cat.jpg?size=2"])
def test_a_path_or_url_is_one_image(name: str) -> None:
    (item,) = Sources(name).items()
    assert (item.source, item.image) == (name, name)
    assert Sources(Path("cat.jpg")).specifications == ("cat.jpg",)


def test_a_folder_gives_the_images_below_it_by_name(folder: Path) -> None:
    sources = Sources("photos")
    expected = ["photos/a.PNG", "photos/b.png", "photos/sub/c.png", "photos/sub/deeper/d.png", "photos/é ü.png"]
    assert [item.source for item in sources.items()] == expected
    assert sources.passed_over == {".txt": 2, "hidden": 2, "no extension": 1, ".mpg": 1}
    assert names("photos/") == expected
    assert names("./photos/sub") == ["./photos/sub/c.png", "./photos/sub/deeper/d.png"]
    assert values("photos") == [1, 0, 2, 3, 4]


def test_sources_follow_each_other_and_may_repeat(folder: Path) -> None:
    assert names("photos/sub/deeper", "photos/b.png", "photos/sub/deeper") == [
        "photos/sub/deeper/d.png",
        "photos/b.png",
        "photos/sub/deeper/d.png",
    ]


def test_counts_are_of_the_last_iteration(folder: Path) -> None:
    sources = Sources("photos")
    for _ in range(2):
        assert len(list(sources.items())) == sources.count() == 5
        assert sources.passed_over.total() == 6


def test_a_folder_without_images_is_an_error_that_says_what_it_holds(folder: Path) -> None:
    (folder / "texts").mkdir()
    (folder / "texts" / "notes.txt").touch()
    with pytest.raises(ImageNotFoundError, match="no images in texts; 1 other files were passed over"):
        names("texts")
    with pytest.raises(ImageNotFoundError, match="an empty list"):
        names()


def test_links_to_folders_are_followed_but_not_in_circles(folder: Path) -> None:
    (folder / "photos" / "sub" / "up").symlink_to(folder / "photos")
    (folder / "other").mkdir()
    (folder / "other" / "f.png").write_bytes(png())
    (folder / "photos" / "elsewhere").symlink_to(folder / "other")
    (folder / "other" / "back").symlink_to(folder / "photos" / "sub")
    sources = Sources("photos")
    found = [item.source for item in sources.items()]
    assert "photos/elsewhere/f.png" in found
    assert "photos/elsewhere/back/c.png" in found
    assert not any("up/" in name or "back/up" in name for name in found)
    assert sources.passed_over["link to a folder around it"] == 2


def test_a_folder_that_cannot_be_listed_is_one_broken_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sources_module._list_folder

    def list_folder(path: str) -> list[tuple[str, str]]:
        if path.endswith("deeper"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(sources_module, "_list_folder", list_folder)
    found = values("photos")
    assert found[:3] == [1, 0, 2]
    assert "photos/sub/deeper" in str(found[3])
    assert "Permission denied" in str(found[3])
    assert found[4] == 4


def test_links_that_lead_nowhere_are_broken_images(folder: Path) -> None:
    # Python cannot say whether a link to itself is a folder, and raises.
    (folder / "photos" / "c.png").symlink_to("c.png")
    (folder / "photos" / "d.png").symlink_to("nowhere.png")
    found = values("photos")
    assert found[:2] + found[4:] == [1, 0, 2, 3, 4]
    assert "photos/c.png" in str(found[2])
    assert isinstance(found[3], ImageNotFoundError)
    assert names("photos/c.png") == names("photos/c.*") == ["photos/c.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_in_a_folder_are_passed_over(folder: Path) -> None:
    # Whoever opened one would wait for a writer that never comes.
    os.mkfifo(folder / "photos" / "c.png")
    (folder / "photos" / "d.png").symlink_to("c.png")
    sources = Sources("photos")
    assert len(list(sources.items())) == 5
    assert sources.passed_over["no file"] == 2


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "a\0b.png"], ids=["long", "null"])
def test_a_name_that_no_file_can_have_is_one_broken_image(folder: Path, name: str) -> None:
    first, broken, last = values("photos/a.PNG", name, "photos/b.png")
    assert (first, last) == (1, 0)
    assert isinstance(broken, ImageError)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_are_no_text(folder: Path) -> None:
    name = os.fsdecode(b'caf\xe9\n,".png')
    (folder / "odd").mkdir()
    (folder / "odd" / name).write_bytes(png(7))
    assert names("odd") == [f"odd/{name}"]
    assert values("odd") == [7]


def test_extensions_are_those_that_pillow_decodes() -> None:
    extensions = image_extensions()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".qoi", ".ppm"} <= extensions
    assert not extensions & {".pdf", ".mpg", ".h5", ".txt", ".tar", ".json", ""}


# ---------------------------------------------------------------------------------------------------------- patterns


def test_patterns_stand_for_their_matches(folder: Path) -> None:
    assert names("photos/*.png") == ["photos/b.png", "photos/é ü.png"]
    assert names("photos/**/*.png") == ["photos/b.png", "photos/sub/c.png", "photos/sub/deeper/d.png", "photos/é ü.png"]
    assert names("photos/s*") == names("photos/sub")
    assert names("photos/[ab].*") == ["photos/a.PNG", "photos/b.png"]


def test_a_pattern_without_a_match_is_an_error(folder: Path) -> None:
    with pytest.raises(ImageNotFoundError, match=r"nothing matches photos/\*\.webp; .*working folder"):
        names("photos/*.webp")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    for name in ("a[1].png", "a{1..2}.png", "a*.png"):
        (folder / name).write_bytes(png())
        assert names(name) == [name]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("x-{0..3}.png", ["x-0.png", "x-1.png", "x-2.png", "x-3.png"]),
        ("x-{08..11}.png", ["x-08.png", "x-09.png", "x-10.png", "x-11.png"]),
        ("x-{8..0011}.png", ["x-0008.png", "x-0009.png", "x-0010.png", "x-0011.png"]),
        ("x-{2..0}.png", ["x-2.png", "x-1.png", "x-0.png"]),
        ("{0..1}/{7..8}.png", ["0/7.png", "0/8.png", "1/7.png", "1/8.png"]),
        ("x-{5..5}.png", ["x-5.png"]),
        ("x-{a..c}.png", ["x-{a..c}.png"]),
        ("x-{1,2}.png", ["x-{1,2}.png"]),
        ("x-{}.png", ["x-{}.png"]),
        ("s3://bucket/x-{1..2}.jpg", ["s3://bucket/x-1.jpg", "s3://bucket/x-2.jpg"]),
        ("https://example.org/{1..2}.jpg?size=[1]*", [f"https://example.org/{n}.jpg?size=[1]*" for n in (1, 2)]),
    ],
)
def test_braces_are_ranges_of_numbers(pattern: str, expected: list[str]) -> None:
    assert names(pattern) == expected


def test_a_range_is_not_written_out(folder: Path) -> None:
    items = Sources("x-{0..999999999999999999}.png").items()
    assert [next(items).source for _ in range(2)] == ["x-0.png", "x-1.png"]


_NUMBERS = st.text("0123456789", min_size=1, max_size=2)


@given(_NUMBERS, _NUMBERS, st.text("ab-_ é{}.,", max_size=5))
def test_any_range_counts_from_one_number_to_the_other(first: str, last: str, rest: str) -> None:
    found = names(rest + "{" + first + ".." + last + "}" + rest + ".png")
    numbers = [name[len(rest) : -len(f"{rest}.png")] for name in found]
    step = 1 if int(first) <= int(last) else -1
    assert [int(number) for number in numbers] == list(range(int(first), int(last) + step, step))
    padded = any(number[0] == "0" and len(number) > 1 for number in (first, last))
    width = max(len(first), len(last)) if padded else 0
    assert all(number == f"{int(number):0{width}}" for number in numbers)


# ------------------------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.png\nb.png\n", ["a.png", "b.png"]),
        (b"a.png\r\n\r\n  \nb c.png", ["a.png", "b c.png"]),
        (b" a.png \n", [" a.png "]),
        (b"a\nb.png\0c.png\0", ["a\nb.png", "c.png"]),
        (b"caf\xe9.png\n", [os.fsdecode(b"caf\xe9.png")]),
        (b"*.png\nx{1..2}.png\n", ["*.png", "x{1..2}.png"]),
    ],
    ids=["lines", "windows", "spaces", "null characters", "no text", "no patterns"],
)
def test_a_list_has_a_name_a_line(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    assert names(f"@{path}") == expected


def test_a_list_may_name_folders_and_archives(folder: Path) -> None:
    archive(folder / "shard.tar", {"1.png": png(9)})
    (folder / "names.txt").write_text("photos/sub\nshard.tar\nphotos/b.png\n")
    assert names("@names.txt") == ["photos/sub/c.png", "photos/sub/deeper/d.png", "shard.tar#1.png", "photos/b.png"]


def test_a_list_comes_from_standard_input_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sources_module.sys, "stdin", SimpleNamespace(buffer=file))
        sources = Sources("@-")
        assert sources.count() is None  # it can be read only once
        items = sources.items()
        pipe.write(b"a.png\nb.p")
        assert next(items).source == "a.png"
        pipe.write(b"ng\n")
        assert next(items).source == "b.png"
        pipe.close()
        assert list(items) == []


_NAMES = st.lists(st.binary(min_size=1).filter(lambda name: name.strip() and b"\0" not in name), min_size=1)


@given(_NAMES, st.integers(1, 9))
def test_any_names_pass_between_null_characters(given_names: list[bytes], size: int) -> None:
    # The first piece holds a whole name, or there is nothing to tell by.
    content = b"x\0" + b"".join(name + b"\0" for name in given_names)
    file = io.BufferedReader(io.BytesIO(content), buffer_size=size + 1)  # type: ignore[type-var]
    assert list(sources_module._split(file)) == ["x", *map(os.fsdecode, given_names)]


def test_a_long_list_is_cut_where_names_end(tmp_path: Path) -> None:
    expected = [f"{'x' * (number % 97)}{number}.png" for number in range(5000)]
    (tmp_path / "names.txt").write_text("\n".join(expected))
    assert names(f"@{tmp_path / 'names.txt'}") == expected


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError, match=r"no list at .*missing\.txt"):
        names(f"@{tmp_path / 'missing.txt'}")
    with pytest.raises(ImageError, match=r"the list .* cannot be read: .*one path a line"):
        names(f"@{tmp_path}")


# ---------------------------------------------------------------------------------------------------------- archives

MODES = [
    ("shard.tar", "w"),
    ("SHARD.TAR", "w"),
    ("shard.tar.gz", "w:gz"),
    ("shard.tgz", "w:gz"),
    ("shard.tar.xz", "w:xz"),
]
MEMBERS = {"./0.png": png(0), "0.json": b"{}", "sub/1.PNG": png(1), "sub/._1.png": b"", "2.png": png(2)}


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_members_of_an_archive_in_order(folder: Path, name: str, mode: str) -> None:
    archive(folder / name, MEMBERS, mode)
    sources = Sources(name)
    assert [item.source for item in sources.items()] == [f"{name}#./0.png", f"{name}#sub/1.PNG", f"{name}#2.png"]
    assert sources.passed_over == {".json": 1, "hidden": 1}
    assert values(name) == [0, 1, 2]
    assert sources.count() == (3 if mode == "w" else None)  # that of a compressed one costs reading it


@pytest.mark.parametrize(("name", "mode"), MODES[::2])
def test_skipped_members_are_named_but_not_read(folder: Path, name: str, mode: str) -> None:
    archive(folder / name, MEMBERS, mode)
    assert names("photos/b.png", name, skip=3) == names("photos/b.png", name)
    assert values("photos/b.png", name, skip=3)[1:] == [None, None, 2]


def test_images_of_a_plain_archive_are_read_when_they_are_opened(folder: Path) -> None:
    archive(folder / "shard.tar", {f"{number}.png": png(number) for number in range(3)})
    items = list(Sources("shard.tar").items())
    assert [open_image(item.image()).getpixel((0, 0)) for item in reversed(items)] == [(n, n, n) for n in (2, 1, 0)]


def test_ranges_of_archives(folder: Path) -> None:
    for number in range(9, 12):
        archive(folder / f"shard-{number:04}.tar", {"x.png": png(number)})
    assert values("shard-{0009..0011}.tar") == values("shard-*.tar") == [9, 10, 11]


def test_folders_and_links_in_an_archive_are_no_images(folder: Path) -> None:
    with tarfile.open("shard.tar", "w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo("other.png")
            member.type, member.linkname = kind, "1.png"
            tar.addfile(member)
        tar.add("photos/b.png", "1.png")
    sources = Sources("shard.tar")
    assert [item.source for item in sources.items()] == ["shard.tar#1.png"]
    assert sources.passed_over == {"link": 2}


@pytest.mark.parametrize(("name", "mode"), MODES[::2])
@pytest.mark.parametrize("damage", ["cut", "boundary", "empty", "header", "missing", "folder"])
def test_a_damaged_archive_is_told_of_and_takes_nothing_from_others(
    folder: Path, name: str, mode: str, damage: str
) -> None:
    path = archive(
        folder / name, {f"{number}.png": np.random.default_rng(number).bytes(3000) for number in range(20)}, mode
    )
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "boundary":  # where the third member ends
        path.write_bytes(content[:10752])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "header":  # of the third member, or what is compressed there
        path.write_bytes(content[:7168] + b"\xff" * 512 + content[7680:])
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    found = list(Sources([name, "photos/b.png"]).items())
    assert found[-1].source == "photos/b.png"
    assert [item.source for item in found[:-1]].count(name) == 1
    with pytest.raises(ImageNotFoundError if damage == "missing" else ImageError, match=name):
        found[-2].image()
    assert found[-2].source == name
    assert names(name, skip=100) == names(name)


def test_an_archive_does_not_keep_its_members(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(folder / "shard.tar", {f"{number}.png": b"" for number in range(50)})
    opened: list[tarfile.TarFile] = []
    real = tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda **options: opened.append(real(**options)) or opened[-1])
    items = Sources("shard.tar").items()
    for _ in range(40):
        next(items)
    assert len(opened[0].members) <= 1  # type: ignore[attr-defined]
    items.close()


# ------------------------------------------------------------------------------------------------------------ tables


def test_rows_of_a_table_of_bytes(folder: Path) -> None:
    table(folder / "table.parquet", {"label": [1, 2, 3], "image": [png(0), png(1), png(2)]})
    sources = Sources("table.parquet")
    assert [item.source for item in sources.items()] == [f"table.parquet#{row}" for row in range(3)]
    assert values("table.parquet") == values("table.parquet:image") == [0, 1, 2]
    assert names("table.parquet:image")[2] == "table.parquet:image#2"
    assert sources.count() == 3


def test_rows_of_a_table_of_structs_and_of_paths(folder: Path) -> None:
    structs = [{"bytes": png(5), "path": "x.png"}, {"bytes": None, "path": "photos/b.png"}]
    table(folder / "table.parquet", {"image": structs, "file": ["photos/a.PNG", "photos/b.png"]})
    assert values("table.parquet") == [5, 0]
    assert values("table.parquet:file") == [1, 0]


@pytest.mark.parametrize("skip", [0, 1, 39, 40, 41, 80, 99, 100, 200])
def test_skipped_rows_are_named_but_not_read(folder: Path, skip: int) -> None:
    table(folder / "table.parquet", {"image": [png(row) for row in range(100)]}, row_group_size=40)
    assert names("table.parquet", skip=skip) == [f"table.parquet#{row}" for row in range(100)]
    assert values("table.parquet", skip=skip) == [None if row < skip else row for row in range(100)]


def test_patterns_of_tables_keep_the_column(folder: Path) -> None:
    for number in range(2):
        table(folder / f"part-{number}.parquet", {"a": [png(number)], "b": [png(10 + number)]})
    assert values("part-*.parquet:b") == values("part-{0..1}.parquet:b") == [10, 11]


def test_a_table_whose_column_is_not_clear(folder: Path) -> None:
    table(folder / "two.parquet", {"a": [png()], "b": [png()], "text": ["x"]})
    table(folder / "none.parquet", {"text": ["x"]})
    with pytest.raises(OptionError, match=r"two\.parquet has 2 columns of images \(a, b\); name one"):
        names("two.parquet")
    with pytest.raises(OptionError, match=r"none\.parquet has 0 columns of images \(text\)"):
        names("none.parquet")
    with pytest.raises(OptionError, match="there is no column 'c'; expected one of a, b"):
        names("two.parquet:c")


def test_a_damaged_table_is_told_of_and_takes_nothing_from_others(folder: Path) -> None:
    path = table(folder / "table.parquet", {"image": [png(row) for row in range(9)]})
    path.write_bytes(path.read_bytes()[:-30])
    found = values("table.parquet", "missing.parquet", "photos/b.png")
    assert isinstance(found[0], ImageError)
    assert isinstance(found[1], ImageNotFoundError)
    assert found[2] == 0


def test_tables_need_an_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources_module.sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"zeroshot-clip\[parquet\]"):
        names("table.parquet")


# -------------------------------------------------------------------------------------------------------------- URLs


@pytest.fixture
def remote() -> Any:
    """A file system in memory, with pictures in ``memory://bucket/photos``."""
    import fsspec

    system = fsspec.filesystem("memory")
    for number, name in enumerate(["b.png", "a.png", "sub/c.png", "sub/notes.txt"]):
        system.pipe(f"/bucket/photos/{name}", png(number))
    return system


def test_folders_and_patterns_elsewhere(remote: Any) -> None:
    found = [f"memory://bucket/photos/{name}" for name in ("a.png", "b.png", "sub/c.png")]
    sources = Sources("memory://bucket/photos")
    assert [item.source for item in sources.items()] == found
    assert sources.passed_over == {".txt": 1}
    assert sources.count() is None  # a request for each folder
    assert values("memory://bucket/photos/") == [1, 0, 2]
    assert values("memory://bucket/photos/*.png") == [1, 0]
    assert names("memory://bucket/photos/a.png") == found[:1]


def test_archives_and_tables_elsewhere(remote: Any, folder: Path) -> None:
    remote.pipe("/bucket/shard.tar", archive(folder / "shard.tar", MEMBERS).read_bytes())
    remote.pipe("/bucket/t.parquet", table(folder / "t.parquet", {"image": [png(3)]}).read_bytes())
    assert values("memory://bucket/shard.tar", "memory://bucket/t.parquet") == [0, 1, 2, 3]
    assert names("memory://bucket/shard.tar")[2] == "memory://bucket/shard.tar#2.png"


def test_folders_in_an_archive_of_another_kind(folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile("photos.zip", "w") as file:
        for number, name in enumerate(["b.png", "sub/a.png"]):
            file.writestr(name, png(number))
    assert names("zip://::photos.zip") == ["zip://b.png::photos.zip", "zip://sub/a.png::photos.zip"]
    assert values("zip://::photos.zip") == [0, 1]


def test_what_is_not_there_elsewhere(remote: Any) -> None:
    assert isinstance(values("memory://bucket/missing.png")[0], ImageNotFoundError)
    assert isinstance(values("memory://bucket/missing.tar")[0], ImageNotFoundError)
    with pytest.raises(ImageNotFoundError, match="nothing matches"):
        names("memory://bucket/*.gif")
    (unknown,) = values("nosuchprotocol://bucket/photos")
    assert "nosuchprotocol" in str(unknown)


def test_a_file_system_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.core

    def fail(url: str) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(MissingExtraError, match=r"s3:// needs a package.*Install s3fs"):
        names("s3://bucket/photos")


def test_images_on_the_web_are_asked_nothing_before_they_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.core

    def fail(url: str) -> Any:
        raise AssertionError(url)

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    urls = ["https://example.org/a", "http://example.org/b.jpg", "s3://bucket/c.jpg"]
    assert names(*urls) == urls
