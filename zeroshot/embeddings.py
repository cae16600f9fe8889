"""Embeddings of images in a file: made once, scored against new labels without looking at an image again.

In safetensors there are two tensors: ``embeddings`` (n_images, dim), with rows of NaN for images that failed, and
``rows``, the source and the error of each as JSON lines in UTF-8. In parquet there is a column for each of these, with
a list of dim numbers for each image, or null.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
import safetensors
import safetensors.numpy

from zeroshot import errors
from zeroshot.encoder import Encoder, is_approximate
from zeroshot.errors import HeadError, ImageError, OptionError, ZeroShotError
from zeroshot.formats import Format, Parquet, Row, import_parquet, json_lines
from zeroshot.stream import EmbeddedBatch

FORMAT = "zeroshot-embeddings/1"
EMBEDDING_ENDINGS = (".safetensors", ".parquet")
Storage = Literal["float32", "float16"]
_BYTES_PER_READ = 1 << 18


@dataclass(frozen=True)
class Embeddings:
    """Embeddings in a file; nothing of them is in memory.

    Attributes
    ----------
    path : Path
    model : str
        Name of the encoder, to load it again.
    fingerprint : str
        Of that encoder.
    dim : int
    count : int
        How many images there are, with those that failed.
    approximate : bool
        Whether large images were decoded approximately; see `zeroshot.load`.
    """

    path: Path
    model: str
    fingerprint: str
    dim: int
    count: int
    approximate: bool = False

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Embeddings:
        """Open a file that `zeroshot.jobs.embed_files` wrote.

        Raises
        ------
        HeadError
            If the file does not exist, is damaged, or is something else.
        MissingExtraError
            If it is a table, and pyarrow is not installed.
        """
        path = Path(path)
        with _explained(path):
            metadata, shape = _open_parquet(path) if _is_parquet(path) else _open_safetensors(path)
            if metadata.get("format") != FORMAT:
                raise HeadError(
                    f"{path} does not hold embeddings of this library; expected what `zeroshot embed` wrote"
                )
            return cls(
                path,
                metadata["model"],
                metadata["fingerprint"],
                dim=shape[1],
                count=shape[0],
                approximate="approximate" in metadata,
            )

    def batches(self, size: int = 1024) -> Generator[EmbeddedBatch, None, None]:
        """Yield the embeddings in order, at most `size` at once, as `embed_batches` does."""
        read = _read_parquet if _is_parquet(self.path) else _read_safetensors
        with _explained(self.path):
            start = 0
            for rows, embeddings in read(self.path, size):
                failures = [_as_error(row) if row["error"] else None for row in rows]
                yield EmbeddedBatch(start, [row["source"] for row in rows], failures, embeddings)
                start += len(rows)


def embeddings_format(path: Path, encoder: Encoder, storage: Storage) -> Format:
    """Return how embeddings are written to a file of that name, which has one of `EMBEDDING_ENDINGS`.

    Raises
    ------
    OptionError
        If the numbers are to be stored in a way that is not known.
    """
    if storage not in get_args(Storage):
        raise OptionError(f"dtype is {storage!r}; expected one of {', '.join(get_args(Storage))}")
    metadata = {"format": FORMAT, "model": encoder.name, "fingerprint": encoder.fingerprint}
    if is_approximate(encoder):  # only then, so that older releases and their files know no difference
        metadata["approximate"] = "true"
    if not _is_parquet(path):
        return Safetensors(encoder.dim, storage, metadata)
    pyarrow, _ = import_parquet()
    number = pyarrow.float32() if storage == "float32" else pyarrow.float16()
    texts = [(name, pyarrow.string()) for name in ("source", "error", "message")]
    # Lists of any length and not of a fixed one: null among those, pyarrow before 25 neither writes nor reads.
    return Parquet(pyarrow.schema([*texts, ("embedding", pyarrow.list_(number))], metadata | {"dim": str(encoder.dim)}))


@dataclass(frozen=True)
class Safetensors:
    """Rows with an ``embedding`` of shape (dim,) or None; the rest of a row has to be for JSON."""

    dim: int
    storage: Storage
    metadata: Mapping[str, str]

    def write(self, file: IO[bytes], rows: Sequence[Row], *, first: bool) -> None:
        embeddings = np.full((len(rows), self.dim), np.nan, dtype=self.storage)
        for target, row in zip(embeddings, rows, strict=True):
            if row["embedding"] is not None:
                target[:] = row["embedding"]
        lines = json_lines({key: value for key, value in row.items() if key != "embedding"} for row in rows)
        tensors = {"embeddings": embeddings, "rows": np.frombuffer(lines, dtype=np.uint8)}
        file.write(safetensors.numpy.save(tensors, dict(self.metadata)))

    def merge(self, file: IO[bytes], parts: Sequence[Path]) -> None:
        # By hand, since the library would have all of it in memory. Larger numbers come first, so that all are aligned.
        header: dict[str, Any] = {"__metadata__": dict(self.metadata)}
        end = 0
        for name, kind in (("embeddings", {"float32": "F32", "float16": "F16"}[self.storage]), ("rows", "U8")):
            shapes = [_shape(part, name) for part in parts]
            shape = [sum(length for length, *_ in shapes), *shapes[0][1:]]
            start, end = end, end + int(np.prod(shape)) * {"F32": 4, "F16": 2, "U8": 1}[kind]
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ("embeddings", "rows"):
            for part in parts:
                with safetensors.safe_open(part, framework="np") as tensors:
                    file.write(tensors.get_tensor(name).data)


def _shape(path: Path, name: str) -> list[int]:
    with safetensors.safe_open(path, framework="np") as file:
        return list(file.get_slice(name).get_shape())


def _open_safetensors(path: Path) -> tuple[Mapping[str, str], Sequence[int]]:
    with safetensors.safe_open(path, framework="np") as file:
        return file.metadata() or {}, file.get_slice("embeddings").get_shape()


def _read_safetensors(path: Path, size: int) -> Iterator[tuple[list[Row], np.ndarray[Any, Any]]]:
    with safetensors.safe_open(path, framework="np") as file:
        embeddings, lines = file.get_slice("embeddings"), _lines(file.get_slice("rows"))
        count = embeddings.get_shape()[0]
        for start in range(0, count, size):
            block = embeddings[start : min(start + size, count)]
            rows = [json.loads(line) for line in islice(lines, len(block))]
            yield rows, block[[row["error"] is None for row in rows]].astype(np.float32, copy=False)


def _lines(text: Any) -> Iterator[bytes]:
    rest = b""
    size = text.get_shape()[0]
    for start in range(0, size, _BYTES_PER_READ):
        *lines, rest = (rest + text[start : min(start + _BYTES_PER_READ, size)].tobytes()).split(b"\n")
        yield from lines


def _open_parquet(path: Path) -> tuple[Mapping[str, str], Sequence[int]]:
    _, parquet = import_parquet()
    with parquet.ParquetFile(path) as file:
        metadata = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
        if metadata.get("format") != FORMAT:
            return {}, (0, 0)
        return metadata, (file.metadata.num_rows, int(metadata["dim"]))


def _read_parquet(path: Path, size: int) -> Iterator[tuple[list[Row], np.ndarray[Any, Any]]]:
    pyarrow, parquet = import_parquet()
    with parquet.ParquetFile(path) as file:
        dim = int(file.schema_arrow.metadata[b"dim"])
        for batch in file.iter_batches(size):
            column = batch.column("embedding").drop_null()
            values = column.cast(pyarrow.list_(column.type.value_type, dim)).flatten()  # refuses another length
            yield (
                batch.select(["source", "error", "message"]).to_pylist(),
                values.to_numpy(zero_copy_only=False).reshape(-1, dim).astype(np.float32),
            )


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"


def _as_error(row: Row) -> ZeroShotError:
    kind = getattr(errors, row["error"], None)
    known = kind if isinstance(kind, type) and issubclass(kind, ZeroShotError) else ImageError
    return known(row["message"])


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except ZeroShotError:
        raise
    except (OSError, safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
        raise HeadError(f"{path} cannot be read as embeddings: {error}; check the path, or make it again") from error
