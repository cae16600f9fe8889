"""Where the images of a large job come from: folders, patterns, lists, tar archives, tables and URLs.

The same names give the same images in the same order each time, and an image is read when it is decoded, not before.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, TypeAlias, cast

from PIL import Image, ImageFile

from zeroshot.errors import ImageError, ImageNotFoundError, MissingExtraError, OptionError
from zeroshot.formats import import_parquet
from zeroshot.image import Item

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_TABLE = re.compile(r"(?P<path>.+\.parquet)(?::(?P<column>[^:/\\]+))?", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"\{(?P<first>[0-9]{1,18})\.\.(?P<last>[0-9]{1,18})\}")
# What damaged archives raise.
_DAMAGE = (OSError, EOFError, ValueError, tarfile.TarError, zlib.error)
# Rows of a table that are decompressed at once, and bytes that are read ahead: images are large.
_ROWS_PER_READ, _READ_AHEAD = 32, 1 << 20

# What a folder holds: names, and what each is or links to. Broken links are files, which opening tells of.
Kind = Literal["folder", "file", "no file"]
Entry: TypeAlias = tuple[str, Kind]


class Sources:
    """Images by paths, patterns, lists, archives and tables; iterate `items`.

    A source that cannot be read takes nothing from the others: it is one item, whose image raises an `ImageError`.

    Parameters
    ----------
    specifications : str, path-like, or sequence of those
        Each is one of

        - an image: its path or URL;
        - a folder: all images below it, sorted by name. Hidden files, those without an extension of an image that
          Pillow reads, and pipes and devices are passed over;
        - an archive: ``shard.tar``, ``shard.tar.gz``, …, its members in order;
        - a table: ``table.parquet`` or ``table.parquet:column``, its rows in order. The column holds encoded images, or
          structs of ``bytes`` and ``path`` as Hugging Face datasets write them, or paths and URLs;
        - a pattern: ``photos/*.jpg``, ``photos/**/*.png``, ``shard-{0000..0009}.tar``: each match, as if it were given;
        - a list: ``@names.txt``, or ``@-`` for standard input: one of the first four a line, or, if there are null
          characters, between those (``find -print0``).

        Whatever is not a list may also be on a file system that fsspec knows: ``s3://bucket/photos``,
        ``zip://::photos.zip``.

    Attributes
    ----------
    specifications : tuple of str
    passed_over : Counter of str
        How many files the last iteration passed over, by extension; ``hidden`` for hidden ones.

    Examples
    --------
    >>> [item.source for item in Sources("examples/images").items()][:2]
    ['examples/images/cat.jpg', 'examples/images/clock.jpg']
    """

    def __init__(self, specifications: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        given = [specifications] if isinstance(specifications, (str, os.PathLike)) else specifications
        self.specifications = tuple(os.fspath(specification) for specification in given)
        self.passed_over: Counter[str] = Counter()

    def items(self, *, skip: int = 0) -> Generator[Item, None, None]:
        """Yield the images, each under a name of its own: its path or URL, ``shard.tar#member``, ``table.parquet#row``.

        Parameters
        ----------
        skip : int
            How many items at the front are named only: their images are not read, and are not to be opened.

        Raises
        ------
        ImageNotFoundError
            If a pattern matches nothing, a list does not exist, or there is no image at all.
        OptionError
            If a table has no column of images, or several and none is named.
        MissingExtraError
            If a table or a file system needs a package that is not installed.
        """
        self.passed_over.clear()
        count = 0
        for specification in self.specifications:
            for name in _names(specification):
                for item in self._read(name, skip - count):
                    count += 1
                    yield item
        if not count:
            others = f"; {self.passed_over.total()} other files were passed over" if self.passed_over else ""
            raise ImageNotFoundError(f"no images in {', '.join(self.specifications) or 'an empty list'}{others}")

    def count(self) -> int | None:
        """Return how many items there are, or None where only reading everything would tell."""
        if "@-" in self.specifications:
            return None
        again = Sources(self.specifications)  # which counts for itself what it passes over
        count = 0
        for specification in self.specifications:
            for name in _names(specification):
                if _is_slow(name):
                    return None
                count += sum(1 for _ in again._read(name, sys.maxsize))
        return count

    def _read(self, name: str, skip: int) -> Iterator[Item]:
        if (table := _TABLE.fullmatch(name)) is not None:
            yield from _rows(name, table["path"], table["column"], skip)
        elif name.lower().endswith(_TAR_SUFFIXES):
            yield from archive_items(name, self._is_wanted, self.passed_over, skip=skip)
        elif "://" not in name:
            yield from self._below(name, _list_folder) if os.path.isdir(name) else [Item(name, name)]  # noqa: PTH112  (Path raises)
        else:
            try:
                is_folder = _is_remote_folder(name)
            except MissingExtraError:
                raise
            except Exception as error:  # every file system has exceptions of its own
                yield _broken(name, error)
                return
            yield from self._below(name, _list_remote) if is_folder else [Item(name, name)]

    def _below(
        self, folder: str, list_folder: Callable[[str], list[Entry]], above: frozenset[str] = frozenset()
    ) -> Iterator[Item]:
        identity = folder if "://" in folder else os.path.realpath(folder)
        if identity in above:
            self.passed_over["link to a folder around it"] += 1
            return
        try:
            entries = sorted(list_folder(folder))
        except Exception as error:  # as above
            yield _broken(folder, error)
            return
        for name, kind in entries:
            path = _join(folder, name)
            if kind == "folder" and not name.startswith("."):
                yield from self._below(path, list_folder, above | {identity})
            elif kind == "no file":
                self.passed_over[kind] += 1
            elif self._is_wanted(name):
                yield Item(path, path)

    def _is_wanted(self, path: str) -> bool:
        *folders, name = path.split("/")
        if any(part.startswith(".") and part not in (".", "..") for part in (*folders, name)):
            self.passed_over["hidden"] += 1
            return False
        extension = Path(name).suffix.lower()
        if extension not in image_extensions():
            self.passed_over[extension or "no extension"] += 1
            return False
        return True


@functools.cache
def image_extensions() -> frozenset[str]:
    """Return the extensions of what Pillow decodes: ``.jpg``, ``.png``, …; neither films nor formats it only names."""
    Image.init()
    readable = set()
    for name, (factory, _) in Image.OPEN.items():
        is_stub = isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)
        if not is_stub and not Image.MIME.get(name, "").startswith("video/"):
            readable.add(name)
    return frozenset(extension for extension, name in Image.registered_extensions().items() if name in readable)


# ----------------------------------------------------------------------------------------------- patterns and lists


def absent_names(specifications: Sequence[str]) -> list[str]:
    """Return what sources name, as far as they were looked at, if nothing of it is there; else an empty list.

    Nothing is opened but lists; what is on standard input or another machine counts as there.

    Raises
    ------
    ImageNotFoundError
        If a pattern matches nothing, or a list does not exist.

    Examples
    --------
    >>> absent_names(["nowhere.jpg"]), absent_names(["nowhere.jpg", "examples"])
    (['nowhere.jpg'], [])
    """
    absent: list[str] = []
    is_there = False
    for specification in specifications:
        if specification in ("-", "@-"):
            is_there = True
            continue
        for name in _names(specification):
            table = _TABLE.fullmatch(name)
            if "://" in name or os.path.lexists(table["path"] if table else name):
                is_there = True
                break
            absent.append(name)
    return [] if is_there else absent


def _names(specification: str) -> Iterator[str]:
    """Yield what a list or a pattern stands for: images, folders, archives and tables."""
    if specification.startswith("@"):
        yield from _listed(specification[1:])
        return
    table = _TABLE.fullmatch(specification)
    column = f":{table['column']}" if table and table["column"] else ""
    for name in expand_pattern(specification.removesuffix(column)):
        yield name + column


def expand_pattern(pattern: str) -> Iterator[str]:
    """Yield what a pattern stands for, or the name itself if it is none.

    Raises
    ------
    ImageNotFoundError
        If nothing matches.
    """
    is_remote = "://" in pattern
    pattern = pattern if is_remote else os.path.expanduser(pattern)  # noqa: PTH111  (Path would drop "./" from names)
    if not is_remote and os.path.lexists(pattern):
        yield pattern  # a name with brackets or braces in it
    elif (braces := _RANGE.search(pattern)) is not None:
        first, last = braces["first"], braces["last"]
        padded = any(len(number) > 1 and number.startswith("0") for number in (first, last))
        width = max(len(first), len(last)) if padded else 0
        step = 1 if int(first) <= int(last) else -1
        for number in range(int(first), int(last) + step, step):
            yield from expand_pattern(f"{pattern[: braces.start()]}{number:0{width}}{pattern[braces.end() :]}")
    elif glob.has_magic(pattern) and not _is_web(pattern):
        matches = _glob_remote(pattern) if is_remote else glob.glob(pattern, recursive=True)  # noqa: PTH207
        if not matches:
            raise ImageNotFoundError(f"nothing matches {pattern}; check it (the working folder is {Path.cwd()})")
        yield from sorted(matches)
    else:
        yield pattern


def _listed(path: str) -> Iterator[str]:
    try:
        if path == "-":
            yield from _split(sys.stdin.buffer)
        else:
            with Path(path).open("rb") as file:
                yield from _split(file)
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"no list at {path}; check the path (the working folder is {Path.cwd()})") from error
    except OSError as error:
        raise ImageError(f"the list {path} cannot be read: {error}; expected a file with one path a line") from error


def _split(file: IO[bytes]) -> Iterator[str]:
    """Split a stream into names as they come: at null characters if it starts with some, else at the ends of lines."""
    separator, rest = b"", b""
    while chunk := cast(Any, file).read1():
        separator = separator or (b"\0" if b"\0" in chunk else b"\n")
        *names, rest = (rest + chunk).split(separator)
        yield from _decode(names, separator)
    yield from _decode([rest], separator)


def _decode(names: list[bytes], separator: bytes) -> Iterator[str]:
    for name in names:
        whole = name.removesuffix(b"\r") if separator == b"\n" else name
        if whole.strip():
            yield os.fsdecode(whole)


# -------------------------------------------------------------------------------------------------- folders and URLs


def _list_folder(folder: str) -> list[Entry]:
    with os.scandir(folder) as entries:
        return [(entry.name, _kind(entry)) for entry in entries]


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        if entry.is_dir():
            return "folder"
        # A pipe, a socket or a device: opening it might wait for ever.
        return "file" if entry.is_file() or not Path(entry.path).exists() else "no file"
    except OSError:  # a link to itself, or to where nobody may look: opening it says so
        return "file"


def _list_remote(url: str) -> list[Entry]:
    system, path = _file_system(url)
    entries = [(entry["name"].rstrip("/"), entry["type"]) for entry in system.ls(path, detail=True)]
    # Object stores may list a folder as an empty object in itself.
    return [
        (name.rpartition("/")[2], "folder" if kind == "directory" else "file")
        for name, kind in entries
        if name != path.rstrip("/")
    ]


def _is_remote_folder(url: str) -> bool:
    # On the web there are no folders, and asking for one would be a request each.
    if _is_web(url) or Path(url).suffix.lower() in image_extensions():
        return False
    system, path = _file_system(url)
    return bool(system.isdir(path))


def _glob_remote(pattern: str) -> list[str]:
    system, path = _file_system(pattern)
    _, chain, container = pattern.partition("::")
    return [f"{system.unstrip_protocol(match)}{chain}{container}" for match in system.glob(path)]


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec.core

    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        protocol = url.split("://")[0]
        raise MissingExtraError(f"reading {protocol}:// needs a package that is not installed: {error}") from error
    return system, path


def _join(folder: str, name: str) -> str:
    if "://" not in folder:
        return os.path.join(folder, name)  # noqa: PTH118  (Path would drop "./")
    first, chain, container = folder.partition("::")
    return f"{first}{'' if first.endswith('/') else '/'}{name}{chain}{container}"


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _is_slow(name: str) -> bool:
    if "://" in name:
        return Path(name).suffix.lower() not in image_extensions()
    return name.lower().endswith(_TAR_SUFFIXES[1:])


# ------------------------------------------------------------------------------------------------ archives and tables


class _Member(tarfile.TarInfo):
    """A header that is damaged or not there is an error; by itself tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Member:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the mark at the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def archive_items(
    archive: str, is_wanted: Callable[[str], bool], passed_over: Counter[str], *, skip: int = 0
) -> Iterator[Item]:
    """Yield the members of an archive, in order, each under the name ``archive#member``.

    Parameters
    ----------
    archive : str
        Path or URL.
    is_wanted : callable
        Takes the name of a member that is a file; others are counted in `passed_over`.
    passed_over : Counter of str
    skip : int
        How many at the front are named only.

    Yields
    ------
    Item
        With the bytes, or a function that reads them. Where the archive is damaged one that bears its name, and raises
        an `ImageError`.
    """
    # A plain archive on a disk is read where the image lies, by who decodes it; any other one from front to end.
    is_plain = archive.lower().endswith(".tar") and "://" not in archive
    count = 0
    try:
        with (
            _open(archive) as file,
            tarfile.open(fileobj=file, mode="r:" if is_plain else "r|*", tarinfo=_Member) as tar,
        ):
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep every one
                if member.islnk() or member.issym():
                    passed_over["link"] += 1
                elif member.isreg() and is_wanted(member.name):
                    name, count = f"{archive}#{member.name}", count + 1
                    if count <= skip:
                        yield Item(name, None)
                    elif is_plain:
                        yield Item(name, functools.partial(_read_extent, archive, member.offset_data, member.size))
                    else:
                        yield from _extract(tar, member, name)
    except _DAMAGE as error:
        yield _broken(archive, error)


def _open(path: str) -> Any:
    if "://" not in path:
        return Path(path).open("rb")
    import fsspec

    return fsspec.open(path, "rb")


def _read_extent(path: str, offset: int, size: int) -> bytes:
    with Path(path).open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Iterator[Item]:
    try:
        yield Item(name, cast(IO[bytes], tar.extractfile(member)).read())
    except _DAMAGE as error:
        yield _broken(name, error)
        raise  # there is no way to the next one


def _rows(specification: str, path: str, column: str | None, skip: int) -> Iterator[Item]:
    pyarrow, parquet = import_parquet()
    row = 0
    try:
        with _open(path) as file:
            table = parquet.ParquetFile(file, buffer_size=_READ_AHEAD)
            column = _image_column(pyarrow, table.schema_arrow, column, specification)
            for group in range(table.num_row_groups):
                end = row + table.metadata.row_group(group).num_rows
                if end <= skip:
                    yield from (Item(f"{specification}#{index}", None) for index in range(row, end))
                    row = end
                    continue
                for batch in table.iter_batches(_ROWS_PER_READ, row_groups=[group], columns=[column]):
                    for cell in batch.column(0):
                        yield Item(f"{specification}#{row}", None if row < skip else image_cell(cell.as_py()))
                        row += 1
    except OptionError:
        raise
    except (*_DAMAGE, pyarrow.ArrowException) as error:
        yield _broken(specification, error)


def table_rows(path: str, columns: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the cells of some columns of a Parquet table, row by row.

    Raises
    ------
    ImageError
        If it cannot be read.
    MissingExtraError
        If pyarrow is not installed.
    """
    pyarrow, parquet = import_parquet()
    try:
        with _open(path) as file:
            table = parquet.ParquetFile(file, buffer_size=_READ_AHEAD)
            for batch in table.iter_batches(_ROWS_PER_READ, columns=list(dict.fromkeys(columns))):
                for cells in zip(*(batch.column(column) for column in columns), strict=True):
                    yield [cell.as_py() for cell in cells]
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"no table at {path!r}; check the path") from error
    except (*_DAMAGE, pyarrow.ArrowException) as error:
        raise ImageError(f"{path!r} cannot be read: {error}; is it damaged or cut short?") from error


def _image_column(pyarrow: Any, schema: Any, column: str | None, specification: str) -> str:
    def holds_images(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

    found = [field.name for field in schema if holds_images(field.type)]
    if column is None and len(found) == 1:
        return str(found[0])
    if column in schema.names:
        return str(column)
    names = ", ".join(found or schema.names)
    if column is not None:
        raise OptionError(f"{specification}: there is no column {column!r}; expected one of {names}")
    raise OptionError(f"{specification} has {len(found)} columns of images ({names}); name one: table.parquet:column")


def image_cell(cell: Any) -> Any:
    """Return what a cell of a table holds as `open_image` takes it; structs are those of Hugging Face datasets."""
    if isinstance(cell, dict):
        return cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    return cell


def _broken(source: str, error: Exception) -> Item:
    """An item in place of a source that cannot be read, to be told of where its images would have been."""

    def tell() -> NoReturn:
        if isinstance(error, FileNotFoundError):
            raise ImageNotFoundError(f"no file at {source!r}; check the path") from error
        raise ImageError(f"{source!r} cannot be read: {error}; is it damaged or cut short?") from error

    return Item(source, tell)
