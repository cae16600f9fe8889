"""Files that grow in parts: what a killed run leaves counts or does not, and nothing is replaced unasked."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zeroshot.errors import OptionError
from zeroshot.formats import JsonLines, Row
from zeroshot.results import Progress, Results, check_target

JOB = {"task": "test", "labels": ("cat", "dog"), "threshold": 0.5}
ENDINGS = (".jsonl",)
ROWS: list[Row] = [{"source": f"{n}.jpg", "error": "ImageError" if n == 3 else None} for n in range(7)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "results.jsonl"


def start(path: Path, *, resume: bool = False, job: dict[str, Any] = JOB) -> Results:
    results = Results(path, JsonLines(), job, resume=resume)
    results.begin()
    return results


def half(path: Path) -> Results:
    """A run that was killed after two parts of two rows."""
    results = start(path)
    results.append(ROWS[:2])
    results.append(ROWS[2:4])
    return results


def named(rows: list[Row]) -> Iterator[SimpleNamespace]:
    yield from (SimpleNamespace(source=row["source"]) for row in rows)


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def beside(path: Path) -> set[str]:
    return {str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.is_file()}


# ------------------------------------------------------------------------------------------------------- a whole run


def test_a_run_leaves_the_file_and_its_record(path: Path) -> None:
    results = half(path)
    assert beside(path) == {f"{path.name}.parts/000000", f"{path.name}.parts/000001", f"{path.name}.job.json"}
    results.append(ROWS[4:])
    results.finish()
    assert lines(path) == ROWS
    assert beside(path) == {path.name, f"{path.name}.job.json"}
    assert not path.with_name(f"{path.name}.parts").exists()
    record = json.loads(path.with_name(f"{path.name}.job.json").read_text())
    assert record["job"] == {"task": "test", "labels": ["cat", "dog"], "threshold": 0.5}
    assert record["progress"]["rows"] == 7
    assert record["progress"]["failed"] == {"ImageError": 1}
    assert record["progress"]["finished"] is True


def test_nothing_is_written_before_the_beginning(path: Path) -> None:
    Results(path, JsonLines(), JOB)
    assert not path.parent.exists()


def test_the_digest_of_sources_does_not_depend_on_the_parts() -> None:
    by_one = Progress()
    for row in ROWS:
        by_one = by_one.after([row])
    at_once = Progress().after(ROWS)
    assert (by_one.sources, by_one.rows, by_one.failed) == (at_once.sources, 7, {"ImageError": 1})
    assert Progress().after(ROWS[::-1]).sources != at_once.sources
    assert Progress().after([{"source": os.fsdecode(b"\xff"), "error": None}]).rows == 1


# ---------------------------------------------------------------------------------------------------- taking up a run


def test_taking_up_passes_over_what_is_done(path: Path) -> None:
    half(path)
    results = start(path, resume=True)
    assert (results.progress.rows, results.progress.parts) == (4, 2)
    assert [given.source for given in results.rest(named(ROWS))] == [row["source"] for row in ROWS[4:]]
    results.append(ROWS[4:])
    results.finish()
    assert lines(path) == ROWS


def test_what_was_not_counted_is_removed(path: Path) -> None:
    half(path)
    folder = path.with_name(f"{path.name}.parts")
    (folder / "000002").write_bytes(b"written, but not counted")
    (folder / "unfinished").write_bytes(b"half a ro")
    results = start(path, resume=True)
    assert {file.name for file in folder.iterdir()} == {"000000", "000001"}
    results.append(ROWS[4:])
    results.finish()
    assert lines(path) == ROWS


@pytest.mark.parametrize(
    "sources",
    [ROWS[1:], ROWS[:3], [], [ROWS[1], ROWS[0], *ROWS[2:]], [{"source": "0.jpg"}, {"source": "new.jpg"}, *ROWS[1:]]],
    ids=["one is gone", "fewer than were done", "none", "another order", "one more"],
)
def test_other_sources_are_noticed(path: Path, sources: list[Row]) -> None:
    half(path)
    results = start(path, resume=True)
    with pytest.raises(OptionError, match="begun with other sources: its first 4 are not"):
        list(results.rest(named(sources)))


def test_closing_the_rest_closes_what_was_given(path: Path) -> None:
    given = named(ROWS)
    rest = start(path).rest(given)  # type: ignore[arg-type]
    next(rest)
    rest.close()
    assert list(given) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threshold": 0.75}, r"whose threshold is 0\.5 where this one has 0\.75"),
        ({"labels": ("cat", "dogs")}, r"whose labels is \['cat', 'dog'\] where this one has \['cat', 'dogs'\]"),
        ({"new": 1}, "whose new is None where this one has 1"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_job_is_refused(path: Path, change: dict[str, Any], says: str, finished: bool) -> None:
    results = half(path)
    if finished:
        results.finish()
    with pytest.raises(OptionError, match=says):
        Results(path, JsonLines(), JOB | change, resume=True)
    with pytest.raises(OptionError, match="of another job"):
        Results(path, JsonLines(), {"task": "test"}, resume=True)


def test_a_finished_file_is_left_as_it_is(path: Path) -> None:
    half(path).finish()
    before = path.stat()
    (path.with_name(f"{path.name}.parts")).mkdir()  # a run that was killed while it tidied up
    results = start(path, resume=True)
    assert results.progress.finished
    assert path.stat() == before
    assert not path.with_name(f"{path.name}.parts").exists()


def test_a_part_that_is_gone_is_noticed(path: Path) -> None:
    half(path)
    (path.with_name(f"{path.name}.parts") / "000000").unlink()
    with pytest.raises(OptionError, match="lacks 000000"):
        Results(path, JsonLines(), JOB, resume=True)


def test_without_resume_everything_begins_anew(path: Path) -> None:
    half(path)
    results = start(path, job={"task": "other"})
    assert results.progress == Progress()
    assert beside(path) == {f"{path.name}.job.json"}
    results.append(ROWS[:1])
    results.finish()
    assert lines(path) == ROWS[:1]


def test_the_old_file_stays_until_the_new_one_is_whole(path: Path) -> None:
    half(path).finish()
    results = start(path)
    results.append(ROWS[:1])
    assert lines(path) == ROWS[:4]
    results.finish()
    assert lines(path) == ROWS[:1]


# ------------------------------------------------------------------------------------------------ what is there already


def test_what_is_there_is_not_replaced_unasked(path: Path) -> None:
    check_target(path, ENDINGS)
    check_target(path, ENDINGS, resume=True)  # there is nothing, so it begins
    results = half(path)
    with pytest.raises(OptionError, match="was begun, and 4 rows are there; choose resume or overwrite"):
        check_target(path, ENDINGS)
    check_target(path, ENDINGS, resume=True)
    check_target(path, ENDINGS, overwrite=True)
    results.finish()
    with pytest.raises(OptionError, match="exists; choose resume or overwrite, or another name"):
        check_target(path, ENDINGS)
    check_target(path, ENDINGS, resume=True)
    check_target(path, ENDINGS, overwrite=True)


def test_a_run_that_did_nothing_does_not_count(path: Path) -> None:
    start(path)
    check_target(path, ENDINGS)
    assert start(path, resume=True, job={"task": "other"}).progress == Progress()
    path.write_text("somebody else's")
    with pytest.raises(OptionError, match="was begun, and 0 rows are there"):
        check_target(path, ENDINGS)


def test_the_record_of_a_file_that_was_removed_does_not_count(path: Path) -> None:
    half(path).finish()
    path.unlink()
    check_target(path, ENDINGS)
    results = start(path, resume=True, job={"task": "other"})
    assert results.progress == Progress()


def test_somebody_elses_file_cannot_be_taken_up(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(OptionError, match=r"no results\.jsonl\.job\.json says of which job"):
        check_target(path, ENDINGS, resume=True)


def test_what_cannot_be_meant(path: Path) -> None:
    with pytest.raises(OptionError, match="both resume and overwrite"):
        check_target(path, ENDINGS, resume=True, overwrite=True)
    with pytest.raises(OptionError, match=r"ends in '\.xlsx'; expected one of \.jsonl"):
        check_target(path.with_suffix(".xlsx"), ENDINGS)
    path.mkdir(parents=True)
    with pytest.raises(OptionError, match="is a folder"):
        check_target(path, ENDINGS, overwrite=True)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{}", b'{"format": "x"}', b'{"format": "zeroshot-job/1", "progress": {"x": 1}}'],
)
def test_a_record_that_is_damaged(path: Path, content: bytes) -> None:
    results = half(path)
    path.with_name(f"{path.name}.job.json").write_bytes(content)
    for resume in (False, True):
        with pytest.raises(OptionError, match=r"job\.json cannot be read: .*overwrite"):
            check_target(path, ENDINGS, resume=resume)
    check_target(path, ENDINGS, overwrite=True)
    results.begin()


# ------------------------------------------------------------------------------------------------------- full disks


def finish(path: Path, *, resume: bool = False) -> None:
    results = start(path, resume=resume)
    for begin in range(results.progress.rows, 7, 2):
        results.append(ROWS[begin : begin + 2])
    if not results.progress.finished:
        results.finish()


@pytest.mark.parametrize("room", range(22))
def test_a_disk_that_fills_up_keeps_what_is_there(path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    left = iter(range(room))

    def sync(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match=r"results\.jsonl cannot be written: No space left on device") as caught:
        finish(path)
    assert caught.value.errno == errno.ENOSPC
    assert not (path.with_name(f"{path.name}.parts") / "unfinished").exists()
    monkeypatch.undo()
    finish(path, resume=True)
    assert lines(path) == ROWS


def test_a_write_that_fails_leaves_no_part(path: Path) -> None:
    class Broken(JsonLines):
        def write(self, file: Any, rows: Any, *, first: bool) -> None:
            file.write(b"half a ro")
            raise OSError(errno.ENOSPC, "No space left on device")

    results = half(path)
    results._format = Broken()
    with pytest.raises(OSError, match="4 rows are kept"):
        results.append(ROWS[4:])
    assert beside(path) == {f"{path.name}.parts/000000", f"{path.name}.parts/000001", f"{path.name}.job.json"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "results.jsonl"
    check_target(path, ENDINGS)
    with pytest.raises(OSError, match=r"results\.jsonl cannot be written: .*file"):
        start(path)


def test_files_are_on_the_disk_before_they_have_their_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        done.append(f"{self.name} -> {target.name}")
        return real_replace(self, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("the names of open files are not told here")
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    results = start(path)
    done.clear()
    results.append(ROWS[:2])
    folder, record = f"{path.name}.parts", f"{path.name}.job.json"
    to_record = ["sync unfinished", f"unfinished -> {record}", "sync out"]
    assert done == ["sync unfinished", "unfinished -> 000000", f"sync {folder}", *to_record]
    done.clear()
    results.finish()
    assert done == ["sync unfinished", f"unfinished -> {path.name}", "sync out", *to_record]
