"""Files of results that grow in parts: a run that is killed at any point can be taken up and ends with the same file.

While ``results.csv`` is made, its rows lie in ``results.csv.parts/``, so many to a file, and ``results.csv.job.json``
says how many count. A part is written to a temporary name, synchronised and renamed before it is counted; the parts are
put together in the same way. The record stays beside the finished file: it says what that was made of.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from zeroshot.errors import OptionError
from zeroshot.formats import Format, Row, import_parquet

FORMAT = "zeroshot-job/1"


@dataclass(frozen=True)
class Progress:
    """How far a job is: what its parts hold.

    Attributes
    ----------
    parts : int
        None are left when it is finished.
    rows : int
    sources : str
        SHA-256 over the names of the sources of all rows, in order.
    failed : dict of str to int
        How many images failed, by kind of error.
    finished : bool
        Whether the parts were put together.
    """

    parts: int = 0
    rows: int = 0
    sources: str = ""
    failed: dict[str, int] = field(default_factory=dict)
    finished: bool = False

    def after(self, rows: Iterable[Row]) -> Progress:
        """Return the progress when one more part holds `rows`."""
        count, sources, failed = self.rows, self.sources, Counter(self.failed)
        for row in rows:
            count, sources = count + 1, _chain(sources, row["source"])
            failed.update([row["error"]] if row["error"] else [])
        return Progress(self.parts + 1, count, sources, dict(sorted(failed.items())))


class Named(Protocol):
    """Something that came from a source."""

    @property
    def source(self) -> Any: ...


NamedT = TypeVar("NamedT", bound=Named)


class Results:
    """A file of rows, begun or taken up again; nothing is written before `begin`.

    Each row has a ``source``, its name, and an ``error``, the kind of what went wrong or None.

    Parameters
    ----------
    path : Path
    format : Format
    job : mapping
        What the rows depend on: a job can only be taken up by the same one. For JSON.
    resume : bool
        Take up what was begun there, if anything was; else it is replaced. `check_target` says whether that is meant.

    Raises
    ------
    OptionError
        If another job was begun there; the message says what differs.
    """

    def __init__(self, path: Path, format: Format, job: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = path
        self.progress = Progress()
        self._format = format
        self._job = json.loads(json.dumps(job))
        self._folder = path.with_name(f"{path.name}.parts")
        record = _read_record(path) if resume else None
        if record is not None:
            self._check_job(record["job"])
            self.progress = Progress(**record["progress"])
        if missing := [part.name for part in self._parts() if not part.exists()]:
            raise OptionError(f"{self._folder} lacks {missing[0]}, which was finished; begin anew with overwrite")

    def begin(self) -> None:
        """Write the record, and remove what is left of an earlier run.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        with self._explained():
            if not self.progress.finished:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._commit(self.progress)
            self._sweep()

    def rest(self, given: Generator[NamedT, None, None]) -> Generator[NamedT, None, None]:
        """Pass over those that are done, compare their sources with the recorded ones, and yield the others.

        Raises
        ------
        OptionError
            If the sources are not the same.
        """
        with contextlib.closing(given):
            count, sources = 0, ""
            for done in islice(given, self.progress.rows):
                count, sources = count + 1, _chain(sources, done.source)
            if (count, sources) != (self.progress.rows, self.progress.sources):
                raise OptionError(
                    f"{self.path} was begun with other sources: its first {self.progress.rows:,} are not the ones that "
                    "were given now; give the same, or begin anew with overwrite"
                )
            yield from given

    def append(self, rows: Sequence[Row]) -> None:
        """Write one more part.

        Raises
        ------
        OSError
            If it cannot be written; the earlier ones are kept.
        """
        progress = self.progress
        with self._explained():
            part = self._folder / f"{progress.parts:06}"
            self._write(part, lambda file: self._format.write(file, rows, first=progress.rows == 0))
            self._commit(progress.after(rows))

    def finish(self) -> None:
        """Put the parts together.

        Raises
        ------
        OSError
            If the file cannot be written; the parts are kept.
        """
        with self._explained():
            self._write(self.path, lambda file: self._format.merge(file, self._parts()))
            self._commit(replace(self.progress, parts=0, finished=True))
            self._sweep()

    def _parts(self) -> list[Path]:
        return [self._folder / f"{number:06}" for number in range(self.progress.parts)]

    def _check_job(self, begun: Mapping[str, Any]) -> None:
        for key in {**begun, **self._job}:
            if begun.get(key) != self._job.get(key):
                raise OptionError(
                    f"{self.path} is of another job, whose {key} is {begun.get(key)!r:.200} where this one has "
                    f"{self._job.get(key)!r:.200}; run that one, or begin anew with overwrite"
                )

    def _commit(self, progress: Progress) -> None:
        record = {"format": FORMAT, "job": self._job, "progress": asdict(progress)}
        content = json.dumps(record, indent=2).encode() + b"\n"
        self._write(_record_path(self.path), lambda file: file.write(content))
        self.progress = progress

    def _write(self, path: Path, fill: Callable[[IO[bytes]], object]) -> None:
        """Write a file that has its name only when all of it is on the disk."""
        temporary = self._folder / "unfinished"  # not beside `path`: what a killed run leaves goes with the parts
        try:
            with temporary.open("wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)

    def _sweep(self) -> None:
        """Remove what does not count: remains of a killed or an earlier run, and all parts once the file is whole."""
        if self.progress.finished:
            shutil.rmtree(self._folder, ignore_errors=True)
        elif self._folder.exists():
            for path in set(self._folder.iterdir()) - set(self._parts()):
                path.unlink()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f"; {self.progress.rows:,} rows are kept, to go on with resume" if self.progress.rows else ""
            where = f" ({error.filename})" if error.filename else ""
            reason = f"{error.strerror or error}{where}"
            raise OSError(error.errno, f"{self.path} cannot be written: {reason}{kept}") from error


def check_target(path: Path, endings: Sequence[str], *, resume: bool = False, overwrite: bool = False) -> None:
    """Raise if a file cannot be written under that name, or if there is one already and nobody said what to do with it.

    Raises
    ------
    OptionError
        If the name does not end in one of `endings`, or is taken; the message names the options.
    MissingExtraError
        If it ends in ``.parquet``, and pyarrow is not installed.
    """
    if path.suffix not in endings:
        raise OptionError(f"{path} ends in {path.suffix or 'nothing'!r}; expected one of {', '.join(endings)}")
    if path.suffix == ".parquet":
        import_parquet()
    if resume and overwrite:
        raise OptionError("both resume and overwrite were given; expected one of them")
    if path.is_dir():
        raise OptionError(f"{path} is a folder; expected the name of a file")
    if overwrite:
        return
    record = _read_record(path)
    if resume and record is None and path.exists():
        raise OptionError(
            f"{path} exists, and no {_record_path(path).name} says of which job; choose overwrite, or move it"
        )
    if not resume and record is not None and not record["progress"]["finished"]:
        rows = record["progress"]["rows"]
        raise OptionError(f"{path} was begun, and {rows:,} rows are there; choose resume or overwrite")
    if not resume and path.exists():
        raise OptionError(f"{path} exists; choose resume or overwrite, or another name")


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.job.json")


def _read_record(path: Path) -> dict[str, Any] | None:
    """Return what is known of the job that makes a file, or made it; None if nothing is done, or the file is gone."""
    record_path = _record_path(path)
    try:
        record: dict[str, Any] = json.loads(record_path.read_bytes())
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']!r}, not {FORMAT!r}")
        progress = Progress(**record["progress"])
        if not path.exists() and (progress.finished or not progress.rows):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise OptionError(f"{record_path} cannot be read: {error}; begin anew with overwrite") from error
    return record


def _chain(digest: str, name: str) -> str:
    return hashlib.sha256(digest.encode() + name.encode("utf-8", "surrogatepass")).hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open one
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
