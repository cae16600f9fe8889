"""Rows come out of each format as they went in, whatever they are called, and parts together are one file."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroshot.errors import MissingExtraError
from zeroshot.formats import Csv, Format, JsonLines, Parquet, Row, import_parquet, json_lines

# Names of files as systems have them: any bytes but the null character; and any text at all.
NAMES = st.binary().filter(lambda name: b"\0" not in name).map(os.fsdecode) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
)
COLUMNS = ("source", "score", "label_1", "score_1", "label_2", "score_2", "message")


def written(format: Format, rows: list[Row], *, first: bool = True) -> bytes:
    file = io.BytesIO()
    format.write(file, rows, first=first)
    return file.getvalue()


def merged(format: Format, rows: list[Row], cuts: list[int], folder: Path) -> bytes:
    """Write rows in parts, cut at some places, and put them together."""
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        parts.append(folder / f"{len(parts):06}")
        parts[-1].write_bytes(written(format, rows[start:stop], first=start == 0))
    file = io.BytesIO()
    format.merge(file, parts)
    return file.getvalue()


def row(source: str, *, score: float | None = 0.25) -> Row:
    top = [{"label": "cat", "score": score}, {"label": 'a, "b"\n\rc', "score": 1e-7}] if score else []
    return {"source": source, "score": score, "top": top, "message": None if score else f"no {source}"}


def visible(name: str) -> str:
    """A name as text: what is no UTF-8 in it is escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


ROWS = [row(f"{number}.jpg", score=None if number % 5 == 3 else number + 0.5) for number in range(40)]


# -------------------------------------------------------------------------------------------------------- JSON lines


@given(st.lists(NAMES, min_size=1))
def test_any_names_come_back_from_json_lines(names: list[str]) -> None:
    rows = [row(name, score=None) for name in names]
    content = written(JsonLines(), rows)
    assert [json.loads(line) for line in content.decode("utf-8").split("\n")[:-1]] == rows
    assert content == json_lines(rows)


def test_json_lines_are_readable() -> None:
    assert (
        written(JsonLines(), [{"source": "Zoë/é.jpg", "score": 0.5}]).decode()
        == '{"source": "Zoë/é.jpg", "score": 0.5}\n'
    )


# --------------------------------------------------------------------------------------------------------------- CSV


@given(st.lists(NAMES, min_size=1))
def test_any_names_come_back_from_csv(names: list[str]) -> None:
    content = written(Csv(COLUMNS), [row(name) for name in names])
    # As pandas and others read it: newlines of all kinds are looked for, and kept inside of quotes.
    found = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
    assert [one["source"] for one in found] == [visible(name) for name in names]
    assert {one["label_2"] for one in found} == {'a, "b"\n\rc'}
    assert {one["message"] for one in found} == {""}


def test_csv_is_what_it_looks_like() -> None:
    content = written(Csv(COLUMNS), [row("a b.jpg"), row("x\ry.jpg", score=None)]).decode()
    assert content.split("\n")[0] == ",".join(COLUMNS)
    assert content.split("\n")[1] == 'a b.jpg,0.25,cat,0.25,"a, ""b""'
    assert content.endswith('\n"x\ry.jpg",,,,,,"no x\ry.jpg"\n')


def test_only_the_first_part_of_csv_has_the_header() -> None:
    assert written(Csv(("source",)), [{"source": "a"}], first=False) == b"a\n"


# ----------------------------------------------------------------------------------------------------------- parquet


@pytest.fixture(scope="module")
def parquet() -> Parquet:
    pyarrow = pytest.importorskip("pyarrow")
    match = [("label", pyarrow.string()), ("score", pyarrow.float64())]
    fields = [("source", pyarrow.string()), match[1], ("top", pyarrow.list_(pyarrow.struct(match)))]
    return Parquet(pyarrow.schema([*fields, ("message", pyarrow.string())], {"made by": "us"}))


def read(content: bytes) -> Any:
    return pytest.importorskip("pyarrow.parquet").ParquetFile(io.BytesIO(content))


def test_rows_come_back_from_parquet(parquet: Parquet, tmp_path: Path) -> None:
    rows = [*ROWS, row(os.fsdecode(b"caf\xe9\n.jpg"))]
    file = read(merged(parquet, rows, [8, 16], tmp_path))
    assert file.read().to_pylist() == [*ROWS, row("caf\\udce9\n.jpg")]
    assert file.schema_arrow.metadata[b"made by"] == b"us"


def test_groups_of_rows_do_not_depend_on_the_parts(
    parquet: Parquet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot.formats._ROWS_PER_GROUP", 16)
    contents = {merged(parquet, ROWS, cuts, tmp_path) for cuts in ([], [1], [16, 32], [5, 6, 39], list(range(1, 40)))}
    assert len(contents) == 1
    metadata = read(contents.pop()).metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [16, 16, 8]


def test_parquet_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'zeroshot-clip\[parquet\]'"):
        import_parquet()


# ------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("format", [JsonLines(), Csv(COLUMNS)], ids=lambda format: type(format).__name__)
def test_parts_together_are_one_file(format: Format, tmp_path: Path) -> None:
    whole = written(format, ROWS)
    for cuts in ([], [1], [8, 16], list(range(1, 40))):
        assert merged(format, ROWS, cuts, tmp_path) == whole
