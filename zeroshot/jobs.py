"""Large jobs: images from `Sources`, results in a file that grows in parts, so that a killed run can be taken up."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch

from zeroshot.classifier import Classifier, replicate
from zeroshot.embeddings import EMBEDDING_ENDINGS, Embeddings, Storage, embeddings_format
from zeroshot.encoder import Encoder, is_approximate
from zeroshot.errors import HeadError, ZeroShotError, check_positive
from zeroshot.formats import Csv, Format, JsonLines, Parquet, Row, import_parquet
from zeroshot.prediction import DEFAULT_TOP_K, Match, Outcome
from zeroshot.progress import Progress, can_be_seen, progress_bar
from zeroshot.results import Results, check_target
from zeroshot.sources import Sources
from zeroshot.stream import Embedded, embed_stream

SourcesLike: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
ResultT = TypeVar("ResultT")
RESULT_ENDINGS = (".csv", ".jsonl", ".parquet")
# What a killed run loses at most: so many rows, or so much time, rounded up to whole batches.
_ROWS_PER_PART, _SECONDS_PER_PART = 4096, 30.0


@dataclass(frozen=True)
class Summary:
    """What became of a job.

    Attributes
    ----------
    path : Path
    count : int
        Images in the file, with those that failed.
    resumed : int
        How many of them an earlier run had done.
    failed : dict of str to int
        How many failed, by kind of error.
    passed_over : dict of str to int
        Files in the sources that are no images, by extension.
    """

    path: Path
    count: int
    resumed: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line."""
        text = f"{self.count:,} image{'s' * (self.count != 1)} in {self.path}"
        if self.resumed:
            text += f", {self.resumed:,} of them done before"
        for what, counts in (("failed", self.failed), ("passed over", self.passed_over)):
            if counts:
                text += f"; {what}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items())
        return text


def classify_files(
    classifier: Classifier,
    sources: SourcesLike | Embeddings,
    out: str | os.PathLike[str],
    *,
    top_k: int = DEFAULT_TOP_K,
    threshold: float = 0.0,
    batch_size: int = 32,
    workers: int | None = None,
    devices: Sequence[str | torch.device] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Summary:
    """Classify images and write a row for each to a file.

    A row has the ``source``; ``label``, ``score`` and ``index`` of the most probable class, without label and index
    where the classifier says none; the `top_k` most probable classes; and ``error`` and ``message``, kind and text of
    what went wrong with an image, which leaves the others empty. In JSON lines and parquet the classes are a list
    ``top`` of objects with label, score and index, in CSV they are columns ``label_1``, ``score_1``, ``index_1``, …

    Parameters
    ----------
    classifier : Classifier
    sources : str, path-like, sequence of those, or Embeddings
        What `zeroshot.sources.Sources` takes; or embeddings of the same encoder, which cost no look at an image.
    out : path
        ``.csv``, ``.jsonl`` or ``.parquet``.
    top_k, threshold, batch_size, workers, devices
        As for `Classifier.stream`.
    resume : bool
        Take up a run that was killed. The file becomes the same, byte for byte, with the same `batch_size` on the same
        machine; its numbers may differ by rounding on another. A finished file is left as it is.
    overwrite : bool
        Begin anew where there is something already; without this or `resume` that is an error.
    progress : bool
        Show a progress bar in a terminal or a notebook.

    Returns
    -------
    Summary

    Raises
    ------
    OptionError
        If there is something at `out` already, or another job was begun there; or if an option is out of its range.
    HeadError
        If the embeddings are not of the classifier's encoder.
    ImageNotFoundError
        If there are no images.
    OSError
        If the file cannot be written; what was done before is kept.
    """
    path, head = Path(out), classifier.head
    check_target(path, RESULT_ENDINGS, resume=resume, overwrite=overwrite)
    given = sources if isinstance(sources, Embeddings) else Sources(sources)
    job = {
        "task": "classify",
        "sources": _names(given),
        "model": classifier.encoder.name,
        "encoder": classifier.encoder.fingerprint,
        "labels": head.labels,
        "templates": head.templates,
        "head": head.contents,
        "top_k": top_k,
        "threshold": threshold,
        "multi_label": classifier.multi_label,
        **_decoding(classifier.encoder),
    }
    results = Results(path, _results_format(path, min(top_k, len(head.labels))), job, resume=resume)
    if isinstance(given, Embeddings):
        outcomes = results.rest(score_embeddings(classifier, given, top_k=top_k, threshold=threshold))
    else:
        items = results.rest(given.items(skip=results.progress.rows))
        options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "devices": devices}
        outcomes = classifier.stream(items, top_k=top_k, threshold=threshold, **options)
    return _fill(results, given, outcomes, _prediction_row, batch_size=batch_size, progress=progress)


def score_embeddings(
    classifier: Classifier, embeddings: Embeddings, *, top_k: int = DEFAULT_TOP_K, threshold: float = 0.0
) -> Generator[Outcome, None, None]:
    """Classify images by their embeddings, without a look at them.

    Parameters
    ----------
    classifier : Classifier
    embeddings : Embeddings
        Of the classifier's encoder.
    top_k, threshold
        As for `Classifier.stream`.

    Yields
    ------
    Outcome
        One for each image, in order; with an error for those that could not be embedded.

    Raises
    ------
    OptionError
        If an option is out of its range.
    HeadError
        If the embeddings are of another encoder.
    """
    if embeddings.fingerprint != classifier.encoder.fingerprint:
        raise HeadError(
            f"{embeddings.path} was made with another state of {embeddings.model!r} than {classifier.encoder.name!r} "
            "is now (weights, configuration or dtype differ); load that one, or embed the images again"
        )
    return classifier.score(embeddings.batches(), top_k=top_k, threshold=threshold)


def csv_table(outcomes: Iterable[Outcome], *, top_k: int) -> bytes:
    """Return the table that `classify_files` writes as CSV: a header, and a row for each image.

    Parameters
    ----------
    outcomes : iterable of Outcome
        Their predictions show at least `top_k` classes, or all.
    top_k : int
        For so many of the most probable classes there are columns.

    Examples
    --------
    >>> clf = Classifier(["cat", "dog"], model="mini")
    >>> print(csv_table(clf.stream(["no such file.jpg"]), top_k=1).decode().splitlines()[0])
    source,label,score,index,label_1,score_1,index_1,error,message
    """
    table = io.BytesIO()
    _results_format(Path("table.csv"), top_k).write(table, list(map(_prediction_row, outcomes)), first=True)
    return table.getvalue()


def embed_files(
    encoder: Encoder,
    sources: SourcesLike,
    out: str | os.PathLike[str],
    *,
    dtype: Storage = "float32",
    batch_size: int = 32,
    workers: int | None = None,
    devices: Sequence[str | torch.device] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Summary:
    """Embed images and write the embeddings to a file, for `Embeddings.load` and `classify_files`.

    Parameters
    ----------
    encoder : Encoder
    sources : str, path-like, or sequence of those
        What `zeroshot.sources.Sources` takes.
    out : path
        ``.safetensors`` or ``.parquet``; `zeroshot.embeddings` says what is in them.
    dtype : {"float32", "float16"}
        How the numbers are stored; float16 takes half the room and is within 5e-4 of them.
    batch_size, workers, devices, resume, overwrite, progress
        As for `classify_files`.

    Returns
    -------
    Summary

    Raises
    ------
    OptionError, ImageNotFoundError, OSError
        As for `classify_files`.
    """
    path, given = Path(out), Sources(sources)
    check_target(path, EMBEDDING_ENDINGS, resume=resume, overwrite=overwrite)
    job = {
        "task": "embed",
        "sources": _names(given),
        "model": encoder.name,
        "encoder": encoder.fingerprint,
        "dtype": dtype,
        **_decoding(encoder),
    }
    results = Results(path, embeddings_format(path, encoder, dtype), job, resume=resume)
    items = results.rest(given.items(skip=results.progress.rows))
    encoders = [encoder] if devices is None else replicate(encoder, devices)
    embedded = embed_stream(encoders, items, batch_size=batch_size, workers=workers)

    def row(one: Embedded) -> Row:
        embedding = None if one.embedding is None else one.embedding.astype(dtype)
        return {"source": one.source, **_failure(one.error), "embedding": embedding}

    return _fill(results, given, embedded, row, batch_size=batch_size, progress=progress)


def _results_format(path: Path, top_k: int) -> Format:
    if path.suffix == ".jsonl":
        return JsonLines()
    if path.suffix == ".csv":
        ranked = [f"{name}_{rank}" for rank in range(1, top_k + 1) for name in Match._fields]
        return Csv(("source", *Match._fields, *ranked, "error", "message"))
    pyarrow, _ = import_parquet()
    source, *error = [(name, pyarrow.string()) for name in ("source", "error", "message")]
    match = [("label", pyarrow.string()), ("score", pyarrow.float32()), ("index", pyarrow.int32())]
    return Parquet(pyarrow.schema([source, *match, ("top", pyarrow.list_(pyarrow.struct(match))), *error]))


def _fill(
    results: Results,
    given: Sources | Embeddings,
    outcomes: Generator[ResultT, None, None],
    row: Callable[[ResultT], Row],
    *,
    batch_size: int,
    progress: bool,
) -> Summary:
    """Write the rows of all outcomes that are not done, and put the parts together."""
    before = results.progress
    check_positive("batch_size", batch_size)
    if before.finished:
        results.begin()
    else:
        total = None
        if can_be_seen(progress):
            total = given.count if isinstance(given, Embeddings) else given.count()
        bar = progress_bar(total, unit="image", initial=before.rows, show=progress)
        with contextlib.closing(outcomes), bar:
            rows = map(row, _counted(outcomes, bar))
            first = list(islice(rows, 1))  # what is wrong with the sources is told before anything is written
            results.begin()
            for part in _parts(chain(first, rows), batch_size):
                results.append(part)
        results.finish()
    after = results.progress
    passed_over = {} if isinstance(given, Embeddings) else dict(given.passed_over.most_common())
    return Summary(results.path, after.rows, before.rows, after.failed, passed_over)


def _counted(outcomes: Iterable[ResultT], bar: Progress) -> Iterator[ResultT]:
    for outcome in outcomes:
        yield outcome
        bar.update()


def _parts(rows: Iterable[Row], batch_size: int) -> Iterator[list[Row]]:
    """Cut rows at whole batches: with whatever part a run begins, an image has the same neighbours in its batch."""
    part: list[Row] = []
    begun = time.monotonic()
    for row in rows:
        part.append(row)
        is_due = len(part) >= _ROWS_PER_PART or time.monotonic() - begun >= _SECONDS_PER_PART
        if is_due and len(part) % batch_size == 0:
            yield part
            part, begun = [], time.monotonic()
    if part:
        yield part


def _prediction_row(outcome: Outcome) -> Row:
    prediction = outcome.prediction
    if prediction is None:
        return {"source": outcome.source, **dict.fromkeys(Match._fields), "top": [], **_failure(outcome.error)}
    label, score, index = prediction.label, prediction.score, prediction.index
    top = [match._asdict() for match in prediction.top()]
    return {"source": outcome.source, "label": label, "score": score, "index": index, "top": top, **_failure(None)}


def _failure(error: ZeroShotError | None) -> Row:
    return {"error": error and type(error).__name__, "message": error and str(error)}


def _decoding(encoder: Encoder) -> dict[str, bool]:
    """What else a job has to agree in to be taken up; empty for the exact way, which jobs of old had alone."""
    return {"approximate": True} if is_approximate(encoder) else {}


def _names(given: Sources | Embeddings) -> list[str]:
    return [str(given.path)] if isinstance(given, Embeddings) else list(given.specifications)
