"""Embeddings in a file: what comes out is what went in, whichever way the parts were cut, and nothing else is read."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from zeroshot.embeddings import EMBEDDING_ENDINGS, Embeddings, embeddings_format
from zeroshot.errors import HeadError, ImageError, ImageNotFoundError, MissingExtraError, OptionError
from zeroshot.formats import Row
from zeroshot.stream import EmbeddedBatch

DIM = 8  # that of the fake encoder
ODD = os.fsdecode(b"caf\xe9\n.jpg")
BROKEN = {2: ("ImageError", "2.jpg is cut short"), 5: ("ImageNotFoundError", f"no image at {ODD!r}")}


def rows(count: int = 9, storage: Any = "float32") -> list[Row]:
    rng = np.random.default_rng(0)
    made: list[Row] = []
    for number in range(count):
        error, message = BROKEN.get(number, (None, None))
        embedding = None if error else rng.normal(size=DIM).astype(storage)
        made.append({"source": ODD if number == 4 else f"{number}.jpg", "error": error, "message": message})
        made[-1]["embedding"] = embedding
    return made


def write(path: Path, encoder: Any, given: list[Row], cuts: tuple[int, ...] = (4,), storage: Any = "float32") -> Path:
    """Write rows in parts, cut at some places, and put them together."""
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
    form = embeddings_format(path, encoder, storage)
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, len(given)], strict=True):
        parts.append(path.with_suffix(f".{start}"))
        with parts[-1].open("wb") as file:
            form.write(file, given[start:stop], first=start == 0)
    with path.open("wb") as file:
        form.merge(file, parts)
    for part in parts:
        part.unlink()
    return path


@pytest.fixture(params=EMBEDDING_ENDINGS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"embeddings{request.param}"


def flat(batches: list[EmbeddedBatch]) -> list[Row]:
    """Batches as the rows that they were made of."""
    found = []
    for batch in batches:
        assert batch.embeddings.dtype == np.float32
        assert batch.start == len(found)
        embeddings = iter(batch.embeddings)
        for source, error in zip(batch.sources, batch.errors, strict=True):
            failure = {"error": error and type(error).__name__, "message": error and str(error)}
            found.append({"source": source, **failure, "embedding": None if error else next(embeddings)})
        assert next(embeddings, None) is None
    return found


def assert_same(found: list[Row], expected: list[Row]) -> None:
    assert [{**row, "embedding": None} for row in found] == [{**row, "embedding": None} for row in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["embedding"], other["embedding"])


@pytest.mark.parametrize("size", [1, 4, 9, 1024])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_what_went_in_comes_out(path: Path, fake: Any, size: int, storage: Any) -> None:
    given = rows(storage=storage)
    embeddings = Embeddings.load(write(path, fake, given, storage=storage))
    assert (embeddings.model, embeddings.fingerprint) == (fake.name, fake.fingerprint)
    assert (embeddings.dim, embeddings.count) == (DIM, 9)
    for row in given if path.suffix == ".parquet" else []:  # which holds text only
        for key in ("source", "message"):
            row[key] = row[key] and row[key].encode("utf-8", "backslashreplace").decode()
    assert_same(flat(list(embeddings.batches(size))), given)


def test_errors_are_of_their_kinds(path: Path, fake: Any) -> None:
    given = rows()
    given[0] |= {"error": "SomethingOfTomorrow", "message": "what", "embedding": None}
    given[1] |= {"error": "annotations", "message": "a name, but no error", "embedding": None}
    (batch,) = Embeddings.load(write(path, fake, given)).batches()
    kinds = [type(error) for error in batch.errors[:6]]
    assert kinds == [ImageError, ImageError, ImageError, type(None), type(None), ImageNotFoundError]


def test_the_file_does_not_depend_on_the_parts(path: Path, fake: Any) -> None:
    contents = {write(path, fake, rows(), cuts).read_bytes() for cuts in ((), (1,), (4,), (2, 3, 8))}
    assert len(contents) == 1


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_safetensors_are_for_everybody(tmp_path: Path, fake: Any, storage: Any) -> None:
    path = write(tmp_path / "x.safetensors", fake, rows(), storage=storage)
    tensors = safetensors.numpy.load_file(path)
    assert tensors["embeddings"].shape == (9, DIM)
    assert tensors["embeddings"].dtype == storage
    assert np.flatnonzero(np.isnan(tensors["embeddings"]).any(axis=1)).tolist() == [2, 5]
    assert tensors["rows"].tobytes().decode("utf-8").count("\n") == 9
    # What the library itself would write of the same tensors, but for the order of keys in the header.
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert header % 8 == 0
    again = safetensors.numpy.save(tensors)
    assert path.read_bytes()[8 + header :] == again[8 + int.from_bytes(again[:8], "little") :]


def test_parquet_is_for_everybody(tmp_path: Path, fake: Any) -> None:
    table = pytest.importorskip("pyarrow.parquet").read_table(write(tmp_path / "x.parquet", fake, rows()))
    assert table.column_names == ["source", "error", "message", "embedding"]
    assert table["embedding"].null_count == 2
    assert {len(row) for row in table["embedding"].drop_null().to_pylist()} == {DIM}


def test_a_row_of_another_length_is_refused(tmp_path: Path, fake: Any) -> None:
    path = write(tmp_path / "x.parquet", fake, rows())
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path)
    lists = table["embedding"].to_pylist()
    lists[0], lists[1] = lists[0][:-1], lists[1] + lists[0][-1:]  # as many numbers as before
    column = type(table["embedding"].chunk(0)).from_pandas(lists, type=table.schema.field("embedding").type)
    parquet.write_table(table.set_column(3, table.schema.field("embedding"), column), path)
    with pytest.raises(HeadError, match="cannot be read as embeddings"):
        list(Embeddings.load(path).batches())


def test_all_failed(path: Path, fake: Any) -> None:
    given = [{"source": "x", "error": "ImageError", "message": "broken", "embedding": None}] * 3
    (batch,) = Embeddings.load(write(path, fake, given, ())).batches()
    assert batch.embeddings.shape == (0, DIM)
    assert len(batch.errors) == 3


def test_only_what_is_asked_for_is_read(tmp_path: Path, make_fake: Any) -> None:
    given = [{"source": f"{n}", "error": None, "message": None, "embedding": np.ones(256)} for n in range(10_000)]
    embeddings = Embeddings.load(write(tmp_path / "x.safetensors", make_fake(dim=256), given))
    size = embeddings.path.stat().st_size
    next(embeddings.batches(10)).embeddings.sum()  # what is imported or kept once
    tracemalloc.start()
    count = sum(len(batch.sources) for batch in embeddings.batches(100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 3 << 20 < size


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "missing", "folder"])
def test_what_is_not_a_file_of_embeddings(path: Path, fake: Any, damage: str) -> None:
    content = write(path, fake, rows()).read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage == "empty":
        path.touch()
    elif damage == "folder":
        path.mkdir()
    elif damage == "other" and path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), path)
    elif damage == "other":
        safetensors.numpy.save_file({"embeddings": np.zeros((2, 3))}, path)
    with pytest.raises(HeadError, match=rf"embeddings\{path.suffix} .*embeddings"):
        Embeddings.load(path)


def test_rows_that_do_not_fit(tmp_path: Path, fake: Any) -> None:
    path = write(tmp_path / "x.safetensors", fake, rows())
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"source"', b'"sourec"'))
    with pytest.raises(HeadError, match="cannot be read as embeddings"):
        list(Embeddings.load(path).batches())


def test_numbers_are_stored_in_two_ways(fake: Any) -> None:
    with pytest.raises(OptionError, match="dtype is 'int8'; expected one of float32, float16"):
        embeddings_format(Path("x.safetensors"), fake, "int8")  # type: ignore[arg-type]


def test_parquet_needs_an_extra(path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, fake, rows())
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    if path.suffix == ".parquet":
        with pytest.raises(MissingExtraError, match=r"zeroshot-clip\[parquet\]"):
            Embeddings.load(path)
    else:
        assert Embeddings.load(path).count == 9


def test_a_part_is_a_file_of_its_own(tmp_path: Path, fake: Any) -> None:
    form = embeddings_format(tmp_path / "x.safetensors", fake, "float32")
    file = io.BytesIO()
    form.write(file, rows(3), first=False)
    assert safetensors.numpy.load(file.getvalue())["embeddings"].shape == (3, DIM)
