"""One class that classifies batches for whoever has the data: Ray Data, Hugging Face datasets, Spark, Daft.

=================  ==============================================================================
engine             how it takes a `BatchClassifier`
=================  ==============================================================================
Ray Data           ``ds.map_batches(BatchClassifier, fn_constructor_args=["head.safetensors"])``
datasets           ``ds.map(classify, batched=True)``
Spark              ``df.mapInPandas(classify, schema=f"path string, {classify.spark_schema}")``
Daft               ``daft.func.batch(classify.rows, return_dtype=…)``
=================  ==============================================================================

The head is built once, by whoever starts the job, and travels as a file or with the object; workers never load a text
tower. Each process loads the encoder once, on its first batch, on the device that the engine gave it.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zeroshot.cache import file_stamps
from zeroshot.classifier import Classifier
from zeroshot.clip import Precision
from zeroshot.errors import InputTypeError, OptionError, check_positive
from zeroshot.head import Head
from zeroshot.image import Item
from zeroshot.prediction import Outcome


class BatchClassifier:
    """Adds predictions to batches of rows; equal in every worker, whatever the engine.

    Parameters
    ----------
    head : Head or path
        What `Head.save` wrote, at a place that every worker can read; or the head itself, which is sent along.
    column : str
        Where the images are: paths, URLs, bytes, arrays (H, W, 3) uint8, PIL images, or the ``{"bytes", "path"}`` of
        Hugging Face datasets.
    model : str or path, optional
        By default the one that the head was built with; a path is resolved by each worker.
    device : str, optional
        By default the GPU that the engine assigned, if it did, else the CPU.
    dtype : str, optional
        Precision of the encoder; by default the one that the head was built with.
    approximate, compile : bool
        As for `load`: large JPEGs decoded at a part of their size; the image tower translated by `torch.compile`.
    top_k : int
        With more than 1 the columns ``labels`` and ``scores`` are added, lists of that length.
    threshold : float
        Probability below which there is no label, in [0, 1].
    multi_label : bool
        As for `Classifier`.
    batch_size : int
        Images that go through the network at once, whatever the size of the engine's batches.
    workers : int, optional
        Threads that decode in each process; by default as many processors as the process may use.
    prefix : str
        Stands before the names of all columns that are added.
    keep_images : bool
        Whether the column of the images stays in the result. It does for datasets, which drop it by ``remove_columns``.

    Notes
    -----
    Columns that are added, one value a row; none is ever missing, since engines take the types from the first batch:

    - ``label`` (str): name of the most probable class; empty if nothing is probable enough, or there is an error.
    - ``score`` (float32): its probability, in [0, 1]; NaN if there is an error.
    - ``index`` (int32): its position among the labels, or -1.
    - ``error`` (str): why the image could not be used; empty if it could. Neighbours are not concerned.

    Examples
    --------
    >>> import zeroshot
    >>> encoder = zeroshot.load("mini")
    >>> classify = BatchClassifier(zeroshot.build_head(encoder, ["cat", "clock"]))
    >>> batch = classify({"image": ["examples/images/cat.jpg", "nowhere.jpg"], "id": [7, 8]})
    >>> batch["id"], batch["label"].tolist(), batch["index"].tolist()
    ([7, 8], ['cat', ''], [0, -1])
    >>> classify.rows(["examples/images/clock.jpg"])[0]["label"]
    'clock'
    >>> classify.columns, classify.spark_schema
    (('label', 'score', 'index', 'error'), 'label string, score float, index int, error string')
    """

    def __init__(
        self,
        head: Head | str | os.PathLike[str],
        *,
        column: str = "image",
        model: str | os.PathLike[str] | None = None,
        device: str | None = None,
        dtype: Precision | None = None,
        approximate: bool = False,
        compile: bool = False,
        top_k: int = 1,
        threshold: float = 0.0,
        multi_label: bool = False,
        batch_size: int = 32,
        workers: int | None = None,
        prefix: str = "",
        keep_images: bool = False,
    ) -> None:
        self._head = head if isinstance(head, Head) else Path(head)
        self._key = uuid.uuid4().hex
        self._options: dict[str, Any] = {
            "model": None if model is None else os.fspath(model),
            **{"device": device, "dtype": dtype, "approximate": approximate, "compile": compile},
            "multi_label": multi_label,
        }
        self._shown: dict[str, Any] = {"top_k": check_positive("top_k", top_k), "threshold": threshold}
        self._stream: dict[str, Any] = {"batch_size": check_positive("batch_size", batch_size), "workers": workers}
        self._column = column
        self._prefix = prefix
        self._keep_images = keep_images

    def __repr__(self) -> str:
        head = repr(self._head) if isinstance(self._head, Head) else f"the head in {str(self._head)!r}"
        return f"<BatchClassifier: {head}, of the column {self._column!r}>"

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that are added."""
        names = ("label", "score", "index", "error", "labels", "scores")
        return tuple(self._prefix + name for name in names[: 4 if self._shown["top_k"] == 1 else 6])

    @property
    def spark_schema(self) -> str:
        """Return the types of the columns that are added, as Spark writes them."""
        types = ("string", "float", "int", "string", "array<string>", "array<float>")
        return ", ".join(f"{name} {kind}" for name, kind in zip(self.columns, types, strict=False))

    def __call__(self, batch: Any) -> Any:
        """Return a batch of the same kind with the predictions as columns.

        Parameters
        ----------
        batch : mapping of column to values, pandas.DataFrame, pyarrow.Table, or iterator of these
            An iterator gives an iterator, as Spark wants it.

        Raises
        ------
        InputTypeError
            If it is something else.
        OptionError
            If it has no column of images, or has columns of the names that are added.
        HeadError
            If the head cannot be read, or does not fit the encoder.
        """
        if isinstance(batch, Mapping):
            names, values = list(batch), batch.get(self._column)
        elif hasattr(batch, "column_names") and hasattr(batch, "append_column"):  # pyarrow, without importing it
            names = list(batch.column_names)
            values = batch.column(self._column).to_pylist() if self._column in names else None
        elif hasattr(batch, "columns") and hasattr(batch, "assign"):  # pandas, likewise
            names = list(batch.columns)
            values = batch[self._column].tolist() if self._column in names else None
        elif isinstance(batch, Iterator):
            return map(self, batch)
        else:
            raise InputTypeError(
                f"a batch is of type {type(batch).__name__}; expected a mapping of columns, a pandas.DataFrame, a "
                "pyarrow.Table or an iterator of these"
            )
        if values is None:
            raise OptionError(f"the batch has the columns {', '.join(map(repr, names))}; expected {self._column!r}")
        if taken := [name for name in self.columns if name in names]:
            raise OptionError(
                f"the batch has a column {taken[0]!r} already; give a prefix for those that are added, such as 'clip_'"
            )
        return self._joined(batch, self._as_columns(self.rows(values)))

    def rows(self, images: Sequence[Any]) -> list[dict[str, Any]]:
        """Classify a column of images.

        Parameters
        ----------
        images : sequence
            What the column of the images holds.

        Returns
        -------
        list of dict
            For each image the values of the columns that are added, by their names.

        Raises
        ------
        HeadError
            If the head cannot be read, or does not fit the encoder.
        """
        if os.getpid() != _importer:
            # A forked process, as datasets makes them: torch's threads stayed behind, and waiting for them never ends.
            torch.set_num_threads(1)
        classifier = _remembered(self._identity(), self._make)
        items = (Item(_name(value, row), _image(value)) for row, value in enumerate(images))
        outcomes = classifier.stream(items, on_error="report", **self._shown, **self._stream)
        return [dict(zip(self.columns, self._values(outcome), strict=True)) for outcome in outcomes]

    def _identity(self) -> Hashable:
        """Equal for all copies of this object, as long as nobody replaces the file of the head."""
        settings = tuple(sorted(self._options.items()))
        return settings, self._key if isinstance(self._head, Head) else (str(self._head), _stamps(self._head))

    def _make(self) -> Classifier:
        return Classifier.from_head(self._head, **self._options)

    def _values(self, outcome: Outcome) -> tuple[Any, ...]:
        found = outcome.prediction
        if found is None:
            values: tuple[Any, ...] = ("", float("nan"), -1, str(outcome.error))
            return (*values, [], []) if self._shown["top_k"] > 1 else values
        values = (found.label or "", found.score, -1 if found.index is None else found.index, "")
        if self._shown["top_k"] == 1:
            return values
        top = found.top()
        return (*values, [match.label for match in top], [match.score for match in top])

    def _as_columns(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        columns = {name: [row[name] for row in rows] for name in self.columns}
        kinds = {f"{self._prefix}score": np.float32, f"{self._prefix}index": np.int32}
        return {
            name: np.array(values, dtype=kinds[name]) if name in kinds else _objects(values)
            for name, values in columns.items()
        }

    def _joined(self, batch: Any, added: dict[str, Any]) -> Any:
        drop = [] if self._keep_images else [self._column]
        if isinstance(batch, Mapping):
            return {name: values for name, values in batch.items() if name not in drop} | added
        if hasattr(batch, "append_column"):
            for name, values in added.items():
                batch = batch.append_column(name, [values.tolist()])
            return batch.drop_columns(drop) if drop else batch
        return batch.drop(columns=drop).assign(**added)


# One for each process and head: engines unpickle the object that they were given for every batch.
_classifiers: dict[Hashable, Classifier] = {}
_MOST_CLASSIFIERS = 2
_lock = threading.Lock()
_importer = os.getpid()


def _remembered(key: Hashable, make: Callable[[], Classifier]) -> Classifier:
    with _lock:
        if key not in _classifiers:
            while len(_classifiers) >= _MOST_CLASSIFIERS:
                _classifiers.pop(next(iter(_classifiers)))
            _classifiers[key] = make()
        return _classifiers[key]


def _stamps(path: Path) -> object:
    try:
        return file_stamps([path])
    except OSError:
        return None  # reading it says what is wrong


def _objects(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)  # np.array would make a table of lists of equal length
    column[:] = values
    return column


def _name(value: Any, row: int) -> str:
    if isinstance(value, Mapping):
        value = value.get("path")
    return str(value) if isinstance(value, (str, os.PathLike)) else f"row {row} of the batch"


def _image(value: Any) -> Any:
    """Return what the stream can open: datasets keep an image as its bytes or its path."""
    if isinstance(value, Mapping):
        return value["path"] if value.get("bytes") is None else value["bytes"]
    return value
