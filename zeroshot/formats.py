r"""Formats of result files: how rows become bytes, in parts that can be put together.

Text is UTF-8 whatever the files were called: a byte of a name that is no UTF-8 is written as ``\udcXX``, which in JSON
stands for the very character that Python has for it.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Protocol, TypeAlias

from zeroshot.errors import MissingExtraError

Row: TypeAlias = dict[str, Any]
# Rows of a table that are compressed at once; with embeddings in them some 50 MB.
_ROWS_PER_GROUP = 16_384


class Format(Protocol):
    """How rows become a file."""

    def write(self, file: IO[bytes], rows: Sequence[Row], *, first: bool) -> None:
        """Write a part; `first` is the one at the front."""
        ...

    def merge(self, file: IO[bytes], parts: Sequence[Path]) -> None:
        """Write all parts as one file."""
        ...


@dataclass(frozen=True)
class JsonLines:
    """One JSON object a line, with all that is in the row."""

    def write(self, file: IO[bytes], rows: Sequence[Row], *, first: bool) -> None:
        file.write(json_lines(rows))

    def merge(self, file: IO[bytes], parts: Sequence[Path]) -> None:
        _concatenate(file, parts)


@dataclass(frozen=True)
class Csv:
    """Comma-separated values with a header.

    A list of mappings in a row becomes columns with the rank in their names: ``label_1``, ``score_1``, ``label_2``, …

    Attributes
    ----------
    columns : tuple of str
        What is None, or not in a row, is left empty.
    """

    columns: tuple[str, ...]

    def write(self, file: IO[bytes], rows: Sequence[Row], *, first: bool) -> None:
        lines: list[str] = []
        # The writer quotes a lone carriage return only if it ends lines with one.
        target = SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n") + "\n"))
        writer = csv.writer(target, lineterminator="\r\n")
        if first:
            writer.writerow(self.columns)
        writer.writerows([row.get(column) for column in self.columns] for row in map(_flat, rows))
        file.write("".join(lines).encode("utf-8", "backslashreplace"))

    def merge(self, file: IO[bytes], parts: Sequence[Path]) -> None:
        _concatenate(file, parts)


@dataclass(frozen=True)
class Parquet:
    """A table of typed columns.

    Attributes
    ----------
    schema : pyarrow.Schema
        Its names are keys of the rows; its metadata goes into the file.
    """

    schema: Any

    def write(self, file: IO[bytes], rows: Sequence[Row], *, first: bool) -> None:
        pyarrow, parquet = import_parquet()
        columns = [_column(pyarrow, [row.get(field.name) for row in rows], field.type) for field in self.schema]
        parquet.write_table(pyarrow.table(columns, schema=self.schema), file)

    def merge(self, file: IO[bytes], parts: Sequence[Path]) -> None:
        pyarrow, parquet = import_parquet()
        pending = self.schema.empty_table()
        with parquet.ParquetWriter(file, self.schema) as writer:
            for part in parts:
                pending = pyarrow.concat_tables([pending, parquet.ParquetFile(part).read()])
                while pending.num_rows >= _ROWS_PER_GROUP:
                    writer.write_table(pending.slice(0, _ROWS_PER_GROUP).combine_chunks())
                    pending = pending.slice(_ROWS_PER_GROUP)
            if pending.num_rows:
                writer.write_table(pending.combine_chunks())


def json_lines(rows: Iterable[Row]) -> bytes:
    r"""Return rows as JSON, one a line, in UTF-8.

    >>> json_lines([{"source": "caf\udce9.jpg"}])
    b'{"source": "caf\\udce9.jpg"}\n'
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return text.encode("utf-8", "backslashreplace")


def _flat(row: Row) -> Row:
    flat: Row = {}
    for key, value in row.items():
        if isinstance(value, list):
            flat |= {f"{name}_{rank}": cell for rank, entry in enumerate(value, 1) for name, cell in entry.items()}
        else:
            flat[key] = value
    return flat


def _column(pyarrow: Any, values: list[Any], kind: Any) -> Any:
    if pyarrow.types.is_string(kind):
        values = [None if value is None else value.encode("utf-8", "backslashreplace") for value in values]
    return pyarrow.array(values, type=kind)


def _concatenate(file: IO[bytes], parts: Sequence[Path]) -> None:
    for part in parts:
        with part.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)


def import_parquet() -> tuple[Any, Any]:
    """Return the modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises
    ------
    MissingExtraError
        If they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("parquet files need pyarrow: pip install 'zeroshot-clip[parquet]'") from error
    return pyarrow, pyarrow.parquet


def import_pandas() -> Any:
    """Return the module ``pandas``.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("tables in memory need pandas: pip install 'zeroshot-clip[pandas]'") from error
    return pandas
