"""Large jobs: a row for each image, whatever happens on the way; and embeddings that stand for the images."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

import zeroshot
from zeroshot import jobs, progress
from zeroshot.embeddings import EMBEDDING_ENDINGS, Embeddings
from zeroshot.errors import HeadError, ImageNotFoundError, MissingExtraError, OptionError
from zeroshot.head import Head
from zeroshot.jobs import RESULT_ENDINGS, Summary, classify_files, embed_files

LABELS = ["cat", "dog", "aardvark"]
QUIET: dict[str, Any] = {"progress": False}
KILL = Path(__file__).parent / "benchmarks" / "kill.py"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: list[np.ndarray[Any, Any]]) -> list[str]:
    """Make a folder of nine pictures, two broken ones and a text, and an archive of two; return the names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(f"photos/{number}.png")
    Path("photos/3b.jpg").write_bytes(b"no picture")
    Path("photos/7b.jpg").write_bytes(Path("photos/7.png").read_bytes()[:60])
    Path("photos/notes.txt").touch()
    with tarfile.open("shard.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add("photos/1.png", "one.png")
        tar.add("photos/3b.jpg", "two.jpg")
    names = sorted(f"photos/{path.name}" for path in Path("photos").iterdir() if path.suffix != ".txt")
    return [*names, "shard.tar#one.png", "shard.tar#two.jpg", "missing.jpg"]


SOURCES = ["photos", "shard.tar", "missing.jpg"]
FAILED = {"ImageError": 3, "ImageNotFoundError": 1}


@pytest.fixture
def classifier(clip: Any) -> zeroshot.Classifier:
    return zeroshot.Classifier(LABELS, model=clip)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of any format, with the classes as a list."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
        return rows
    found = []
    for row in csv.DictReader(io.StringIO(path.read_text())):
        ranks = range(1, 1 + sum(key.startswith("label_") for key in row))
        top = [{"label": row[f"label_{r}"], "score": row[f"score_{r}"], "index": row[f"index_{r}"]} for r in ranks]
        plain: dict[str, Any] = {
            key: row[key] or None for key in ("source", "label", "score", "index", "error", "message")
        }
        for match in [plain, *top]:
            match["score"] = float(match["score"]) if match["score"] else None
            match["index"] = int(match["index"]) if match["index"] else None
        found.append(plain | {"top": [match for match in top if match["label"]]})
    return found


# ---------------------------------------------------------------------------------------------------------- classify


@pytest.mark.parametrize("ending", RESULT_ENDINGS)
def test_every_image_has_a_row_in_order(
    images: list[str], classifier: zeroshot.Classifier, tmp_path: Path, ending: str
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"results{ending}"
    summary = classify_files(classifier, SOURCES, path, top_k=2, batch_size=4, **QUIET)
    assert summary == Summary(path, len(images), 0, FAILED, {".txt": 1})
    rows = read(path)
    assert [row["source"] for row in rows] == images
    for row in rows:
        assert list(row) != []
        assert set(row) == {"source", "label", "score", "index", "top", "error", "message"}
        if "b.jpg" in row["source"] or row["source"].endswith(("two.jpg", "missing.jpg")):
            assert row["error"] == ("ImageNotFoundError" if "missing" in row["source"] else "ImageError")
            assert row["source"] in row["message"]
            assert (row["label"], row["score"], row["index"], row["top"]) == (None, None, None, [])
            continue
        alone = classifier(row["source"] if "#" not in row["source"] else "photos/1.png", top_k=2)
        assert (row["label"], row["index"]) == (alone.label, alone.index)
        assert row["score"] == pytest.approx(alone.score, abs=1e-5)
        assert [(match["label"], match["index"]) for match in row["top"]] == [(m.label, m.index) for m in alone.top()]
        assert [match["score"] for match in row["top"]] == pytest.approx([m.score for m in alone.top()], abs=1e-5)
        assert (row["error"], row["message"]) == (None, None)


def test_what_is_below_the_threshold_has_no_label(images: list[str], clip: Any, tmp_path: Path) -> None:
    classifier = zeroshot.Classifier(LABELS, model=clip, background=["fog"])
    classify_files(classifier, "photos", tmp_path / "all.jsonl", top_k=9, **QUIET)
    scores = [row["score"] for row in read(tmp_path / "all.jsonl") if row["error"] is None]
    classify_files(classifier, "photos", tmp_path / "some.jsonl", threshold=sorted(scores)[4], **QUIET)
    rows = [row for row in read(tmp_path / "some.jsonl") if row["error"] is None]
    assert any(row["label"] is None and row["index"] is None for row in rows)
    assert all(row["label"] is None for row in rows if row["score"] < sorted(scores)[4])
    assert all(len(row["top"]) == 3 for row in rows)  # there are no more
    assert [row["score"] for row in rows] == scores


def test_the_record_says_what_the_file_was_made_of(
    images: list[str], classifier: zeroshot.Classifier, tmp_path: Path
) -> None:
    classify_files(classifier, SOURCES, tmp_path / "results.csv", top_k=2, **QUIET)
    job = json.loads((tmp_path / "results.csv.job.json").read_text())["job"]
    assert job["sources"] == SOURCES
    assert (job["labels"], job["templates"]) == (LABELS, ["a photo of a {}."])
    assert (job["model"], job["encoder"]) == (classifier.encoder.name, classifier.encoder.fingerprint)
    assert (job["head"], job["top_k"], job["threshold"]) == (classifier.head.contents, 2, 0.0)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"top_k": 0}, OptionError, "top_k is 0"),
        ({"threshold": 2}, OptionError, "threshold is 2"),
        ({"batch_size": 0}, OptionError, "batch_size is 0"),
        ({"workers": 0}, OptionError, "workers is 0"),
        ({"resume": True, "overwrite": True}, OptionError, "both resume and overwrite"),
        ({"out": "results.xlsx"}, OptionError, r"ends in '\.xlsx'"),
        ({"sources": "photos/*.gif"}, ImageNotFoundError, "nothing matches"),
        ({"sources": []}, ImageNotFoundError, "an empty list"),
    ],
)
def test_what_cannot_be_done_leaves_no_file(
    images: list[str], classifier: zeroshot.Classifier, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    given: dict[str, Any] = {"sources": "photos", "out": "results.csv", **QUIET} | options
    with pytest.raises(error, match=says):
        classify_files(classifier, **given)
    assert list(Path().glob("results.*")) == []


def test_a_damaged_archive_fails_by_itself(images: list[str], classifier: zeroshot.Classifier, tmp_path: Path) -> None:
    content = Path("shard.tar").read_bytes()
    Path("shard.tar").write_bytes(content[:600])  # in the middle of the first member
    classify_files(classifier, ["shard.tar", "photos/1.png"], tmp_path / "results.jsonl", **QUIET)
    rows = read(tmp_path / "results.jsonl")
    assert [(row["source"], row["error"]) for row in rows] == [
        ("shard.tar#one.png", "ImageError"),
        ("shard.tar", "ImageError"),
        ("photos/1.png", None),
    ]


def test_a_summary_is_one_line() -> None:
    assert str(Summary(Path("x.csv"), 1)) == "1 image in x.csv"
    assert str(Summary(Path("x.csv"), 9500, 2048, {"ImageError": 1200, "HubError": 1}, {".txt": 2})) == (
        "9,500 images in x.csv, 2,048 of them done before; failed: 1,200 ImageError, 1 HubError; passed over: 2 .txt"
    )


# ----------------------------------------------------------------------------------------------------------- resume


class InterruptedRunError(Exception):
    """Stands for the end of a process."""


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let so many parts be written, and no more."""
    real, left = jobs.Results.append, iter(range(after))

    def append(self: Any, rows: Any) -> None:
        if next(left, None) is None:
            raise InterruptedRunError
        real(self, rows)

    monkeypatch.setattr(jobs.Results, "append", append)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_ROWS_PER_PART", 3)  # made up to four by batches of two


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("parts", [0, 1, 2, 3])
def test_a_run_that_is_taken_up_ends_with_the_same_file(
    images: list[str], classifier: zeroshot.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    classify_files(classifier, SOURCES, whole, batch_size=2, **QUIET)
    with monkeypatch.context() as patch:
        interrupt(patch, parts)
        with pytest.raises(InterruptedRunError):
            classify_files(classifier, SOURCES, cut, batch_size=2, **QUIET)
    if parts:
        with pytest.raises(OptionError, match="choose resume or overwrite"):
            classify_files(classifier, SOURCES, cut, batch_size=2, **QUIET)
    summary = classify_files(classifier, SOURCES, cut, batch_size=2, resume=True, **QUIET)
    assert summary == Summary(cut, len(images), 4 * parts, FAILED, {".txt": 1})
    assert cut.read_bytes() == whole.read_bytes()


@pytest.fixture
def web(images: list[str]) -> Iterator[str]:
    """The working folder on a web server on this machine; its address."""
    pytest.importorskip("aiohttp")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def source(request: pytest.FixtureRequest, images: list[str]) -> str | list[str]:
    """The folder of photographs as a source of the kind that the test asks for."""
    kind: str = request.param
    files = [name for name in images if name.startswith("photos/")]
    if kind == "list":
        Path("names.txt").write_text("\n".join(files))
    elif kind.startswith("shard"):
        with tarfile.open(kind, "w:gz" if kind.endswith("gz") else "w") as tar:
            for name in files:
                tar.add(name)
    elif kind == "table.parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        contents = pyarrow.table({"image": [Path(name).read_bytes() for name in files]})
        parquet.write_table(contents, kind, row_group_size=3)
    elif kind == "memory":
        for name in files:
            fsspec.filesystem("memory").pipe(f"/bucket/{name}", Path(name).read_bytes())
    elif kind == "web":
        address = request.getfixturevalue("web")
        return [f"{address}/{name}" for name in files]
    special = {
        **{"folder": "photos", "pattern": "photos/*.[jp]*g", "list": "@names.txt", "standard input": "@-"},
        **{"memory": "memory://bucket/photos", "file": f"file://{Path.cwd()}/photos"},
    }
    return special.get(kind, kind)


LOCAL = ["folder", "pattern", "list", "standard input", "shard.tar", "shard.tar.gz", "table.parquet"]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("source", [*LOCAL, "memory", "file", "web"], indirect=True)
def test_every_kind_of_source_and_of_file_is_taken_up(
    source: str | list[str], images: list[str], clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = "\n".join(images[:11]).encode()
    classifier = zeroshot.Classifier(LABELS, model=clip)
    # Sources and files meet in one number, of what is there already: one source tries all files.
    for ending in (*RESULT_ENDINGS, ".safetensors") if source == "photos" else (".csv", ".safetensors"):
        if ending == ".parquet":
            pytest.importorskip("pyarrow")

        def work(out: str, *, resume: bool = False, ending: str = ending) -> Summary:
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(listing)))
            job: Any = embed_files if ending == ".safetensors" else classify_files
            encoder: Any = clip if ending == ".safetensors" else classifier
            summary: Summary = job(encoder, source, out, batch_size=2, resume=resume, **QUIET)
            return summary

        work(f"whole{ending}")
        with monkeypatch.context() as patch:
            interrupt(patch, 1)
            with pytest.raises(InterruptedRunError):
                work(f"cut{ending}")
        assert not Path(f"cut{ending}").exists()
        summary = work(f"cut{ending}", resume=True)
        assert (summary.count, summary.resumed, summary.failed) == (11, 4, {"ImageError": 2})
        for rest in ("", ".job.json"):
            assert Path(f"cut{ending}{rest}").read_bytes() == Path(f"whole{ending}{rest}").read_bytes()


@pytest.mark.parametrize(
    ("rows", "seconds", "expected"), [(1, 60, [2] * 7), (3, 60, [4, 4, 4, 2]), (99, 60, [14]), (99, 0, [2] * 7)]
)
def test_parts_are_whole_batches_and_leave_no_trace(
    images: list[str], clip: Any, monkeypatch: pytest.MonkeyPatch, rows: int, seconds: float, expected: list[int]
) -> None:
    embed_files(clip, SOURCES, "whole.safetensors", batch_size=2, **QUIET)
    monkeypatch.setattr(jobs, "_ROWS_PER_PART", rows)
    monkeypatch.setattr(jobs, "_SECONDS_PER_PART", seconds)
    real, parts = jobs.Results.append, list[int]()
    monkeypatch.setattr(jobs.Results, "append", lambda self, part: parts.append(len(part)) or real(self, part))
    embed_files(clip, SOURCES, "x.safetensors", batch_size=2, **QUIET)
    assert parts == expected
    for name in ("", ".job.json"):
        assert Path(f"x.safetensors{name}").read_bytes() == Path(f"whole.safetensors{name}").read_bytes()


@pytest.mark.usefixtures("small_parts")
def test_what_is_done_is_not_decoded_again(
    images: list[str], make_fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make_fake()
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(InterruptedRunError):
            embed_files(encoder, SOURCES, tmp_path / "x.safetensors", batch_size=2, **QUIET)
    for name in images[:8]:  # they are not even opened
        Path(name).write_bytes(b"changed since")
    encoder.images.clear()
    summary = embed_files(encoder, SOURCES, tmp_path / "x.safetensors", batch_size=2, resume=True, **QUIET)
    assert summary.failed == FAILED
    assert sum(map(len, encoder.images)) == len(images) - 8 - 3  # the others, less those that are broken


@pytest.mark.usefixtures("small_parts")
def test_another_job_is_not_taken_up(
    images: list[str], classifier: zeroshot.Classifier, clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.csv"
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(InterruptedRunError):
            classify_files(classifier, SOURCES, path, batch_size=2, **QUIET)
    other_labels = zeroshot.Classifier([*LABELS[:2], "zebra"], model=clip)
    other_prompts = zeroshot.Classifier(LABELS, model=clip, prompts="a sketch of a {}.")
    for change, says in (
        ({"classifier": other_labels}, "whose labels is .*aardvark.* where this one has .*zebra"),
        ({"classifier": other_prompts}, "whose templates is .*photo.* where this one has .*sketch"),
        ({"threshold": 0.5}, r"whose threshold is 0\.0 where this one has 0\.5"),
        ({"top_k": 1}, "whose top_k is 5 where this one has 1"),
        ({"sources": SOURCES[:1]}, r"whose sources is \['photos', 'shard\.tar'.* where this one has \['photos'\]"),
    ):
        with pytest.raises(OptionError, match=says):
            classify_files(**{"classifier": classifier, "sources": SOURCES, "out": path, "resume": True} | change)
    Path("photos/0.png").rename("photos/0b.png")
    with pytest.raises(OptionError, match="begun with other sources: its first 8 are not"):
        classify_files(classifier, SOURCES, path, resume=True, **QUIET)
    classify_files(classifier, SOURCES, path, overwrite=True, **QUIET)
    assert read(path)[0]["source"] == "photos/0b.png"


def test_a_finished_job_opens_nothing(images: list[str], fake: Any, tmp_path: Path) -> None:
    first = embed_files(fake, SOURCES, tmp_path / "x.safetensors", **QUIET)
    fake.images.clear()
    again = embed_files(fake, SOURCES, tmp_path / "x.safetensors", resume=True, **QUIET)
    assert again == Summary(first.path, first.count, first.count, first.failed)
    assert fake.images == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("runs", [12, pytest.param(50, marks=pytest.mark.extra)])  # of the six kinds of files in turn
def test_runs_that_are_killed_end_with_the_same_file(runs: int) -> None:
    pytest.importorskip("pyarrow")
    done = subprocess.run(
        [sys.executable, KILL, "--runs", str(runs)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{runs} runs, killed ")


# ------------------------------------------------------------------------------------------------------- full disks


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("ending", RESULT_ENDINGS)
def test_a_full_disk_keeps_what_was_done(
    images: list[str], classifier: zeroshot.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path, whole = tmp_path / f"results{ending}", tmp_path / f"whole{ending}"
    classify_files(classifier, SOURCES, whole, batch_size=2, **QUIET)
    real, left = os.fsync, iter(range(10))

    def sync(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        with pytest.raises(OSError, match=r"cannot be written: No space left on device; 8 rows are kept") as caught:
            classify_files(classifier, SOURCES, path, batch_size=2, **QUIET)
        assert caught.value.errno == errno.ENOSPC
    assert not path.exists()
    classify_files(classifier, SOURCES, path, batch_size=2, resume=True, **QUIET)
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("name", ["results.csv", "results.jsonl", "results.parquet", "x.safetensors", "x.parquet"])
def test_a_device_that_is_full(
    images: list[str], clip: Any, monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    real = Path.open
    opened: list[str] = []

    def redirect(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if self.name == "unfinished" and opened.append(name) is None and len(opened) > 1:  # the first is the record
            return real(Path("/dev/full"), mode, *rest, **options)
        return real(self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", redirect)
    classifier = zeroshot.Classifier(LABELS, model=clip)
    job: Any = classify_files if name.startswith("results") else embed_files
    with pytest.raises(OSError, match=rf"{name} cannot be written: No space left on device"):
        job(classifier if job is classify_files else clip, "photos", tmp_path / name, **QUIET)
    assert sorted(path.name for path in tmp_path.glob(f"{name}*")) == [f"{name}.job.json", f"{name}.parts"]


def test_a_folder_that_cannot_be_written_is_told_at_once(images: list[str], fake: Any) -> None:
    with pytest.raises(OSError, match=r"x\.safetensors cannot be written: .*notes\.txt"):
        embed_files(fake, "photos/{0..99999}.png", "photos/notes.txt/x.safetensors", batch_size=4, **QUIET)
    assert sum(map(len, fake.images)) < 100


# -------------------------------------------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("ending", [".safetensors", ".parquet"])
def test_embeddings_are_those_of_the_encoder(images: list[str], clip: Any, tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"photos{ending}"
    assert embed_files(clip, SOURCES, path, batch_size=4, **QUIET) == Summary(path, 14, 0, FAILED, {".txt": 1})
    (batch,) = Embeddings.load(path).batches()
    assert batch.sources == images
    good = [name for name, error in zip(images, batch.errors, strict=True) if error is None]
    assert len(good) == 10
    alone = [clip.encode_images("photos/1.png" if "#" in name else name)[0].numpy() for name in good]
    np.testing.assert_allclose(batch.embeddings, np.stack(alone), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(batch.embeddings, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("ending", [".safetensors", ".parquet"])
def test_classifying_embeddings_is_classifying_the_images(
    images: list[str], classifier: zeroshot.Classifier, tmp_path: Path, dtype: Any, ending: str
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"photos{ending}"
    embed_files(classifier.encoder, SOURCES, path, dtype=dtype, **QUIET)
    classify_files(classifier, SOURCES, tmp_path / "direct.jsonl", **QUIET)
    for name in images[:-3]:
        Path(name).unlink()
    summary = classify_files(classifier, Embeddings.load(path), tmp_path / "kept.jsonl", **QUIET)
    assert summary == Summary(tmp_path / "kept.jsonl", 14, 0, FAILED)
    direct, kept = read(tmp_path / "direct.jsonl"), read(tmp_path / "kept.jsonl")
    numbers = {"score", "top"}
    assert [{k: v for k, v in row.items() if k not in numbers} for row in kept] == [
        {k: v for k, v in row.items() if k not in numbers} for row in direct
    ]
    scores = [[match["score"] for row in rows for match in row["top"]] for rows in (direct, kept)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5 if dtype == "float32" else 5e-3)


def test_half_precision_takes_half_the_room(images: list[str], clip: Any, tmp_path: Path) -> None:
    both = []
    for dtype in ("float32", "float16"):
        embed_files(clip, "photos", tmp_path / f"{dtype}.safetensors", dtype=dtype, **QUIET)  # type: ignore[arg-type]
        (batch,) = Embeddings.load(tmp_path / f"{dtype}.safetensors").batches()
        both.append(batch.embeddings)
    assert 0 < np.abs(both[0] - both[1]).max() < 5e-4


@pytest.mark.parametrize("options", [{"top_k": 0}, {"threshold": 2}, {"batch_size": 0}])
def test_options_are_checked_with_embeddings_too(images: list[str], fake: Any, options: dict[str, Any]) -> None:
    embed_files(fake, "photos", "x.safetensors", **QUIET)
    with pytest.raises(OptionError, match=f"{next(iter(options))} is {next(iter(options.values()))}"):
        classify_files(
            zeroshot.Classifier(LABELS, model=fake), Embeddings.load("x.safetensors"), "results.csv", **options
        )
    assert list(Path().glob("results.*")) == []


def test_embeddings_of_another_encoder_are_refused(images: list[str], make_fake: Any, tmp_path: Path) -> None:
    embed_files(make_fake(), "photos", tmp_path / "x.safetensors", **QUIET)
    other = make_fake(name="other")
    other.fingerprint = "another"
    classifier = zeroshot.Classifier(LABELS, model=other)
    with pytest.raises(HeadError, match=r"x\.safetensors was made with another state of 'fake' than 'other' is now"):
        classify_files(classifier, Embeddings.load(tmp_path / "x.safetensors"), tmp_path / "results.csv", **QUIET)
    assert not (tmp_path / "results.csv.job.json").exists()


@pytest.mark.usefixtures("small_parts")
def test_classifying_embeddings_is_taken_up_too(
    images: list[str], classifier: zeroshot.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_files(classifier.encoder, SOURCES, tmp_path / "x.safetensors", **QUIET)
    embeddings = Embeddings.load(tmp_path / "x.safetensors")
    classify_files(classifier, embeddings, tmp_path / "whole.csv", **QUIET)
    with monkeypatch.context() as patch:
        interrupt(patch, 1)
        patch.setattr(jobs, "_ROWS_PER_PART", 4)
        with pytest.raises(InterruptedRunError):
            classify_files(classifier, embeddings, tmp_path / "cut.csv", batch_size=1, **QUIET)
    summary = classify_files(classifier, embeddings, tmp_path / "cut.csv", batch_size=1, resume=True, **QUIET)
    assert summary.resumed == 4
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_head_of_ones_own_is_known_by_its_numbers(images: list[str], clip: Any, tmp_path: Path) -> None:
    digests = []
    for value in (0.0, 1.0, 1.0):
        weight = torch.full((2, clip.dim), value)
        head = Head(weight, ("a", "b"), clip.logit_scale, None, clip.name, clip.fingerprint)
        classifier = zeroshot.Classifier.from_head(head, model=clip)
        classify_files(classifier, "photos", tmp_path / "results.csv", overwrite=True, **QUIET)
        digests.append(json.loads((tmp_path / "results.csv.job.json").read_text())["job"]["head"])
    assert digests[0] != digests[1] == digests[2]


def test_parquet_needs_an_extra(
    images: list[str], classifier: zeroshot.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for work in (
        lambda: classify_files(classifier, "photos", "x.parquet", **QUIET),
        lambda: embed_files(classifier.encoder, "photos", "x.parquet", **QUIET),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'zeroshot-clip\[parquet\]'"):
            work()
    assert list(Path().glob("x.parquet*")) == []


# --------------------------------------------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    """Standard error that looks like a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_counts_the_images_on_a_terminal(images: list[str], fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    embed_files(fake, SOURCES, "x.safetensors")
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "0/14" in shown
    assert "image/s" in shown
    monkeypatch.setattr(sys, "stderr", Terminal())
    embed_files(fake, SOURCES, "x.safetensors", overwrite=True, progress=False)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_bar_is_for_terminals_only(
    images: list[str], fake: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs.Sources, "count", None)  # counting would be in vain
    monkeypatch.setattr(progress, "tqdm", None)  # even one that shows nothing starts a thread
    embed_files(fake, SOURCES, "x.safetensors")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("small_parts")
def test_approximate_decoding_is_noted_and_does_not_mix(
    images: list[str], open_clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    exact, approximate = (zeroshot.load(open_clip_folder, device="cpu", approximate=flag) for flag in (False, True))
    assert exact.fingerprint == approximate.fingerprint  # texts and heads are the same
    for ending in EMBEDDING_ENDINGS:
        for encoder in (exact, approximate):
            out = tmp_path / f"{encoder.preprocess.approximate}{ending}"
            embed_files(encoder, SOURCES, out, **QUIET)
            assert Embeddings.load(out).approximate is encoder.preprocess.approximate
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(InterruptedRunError):
            embed_files(approximate, SOURCES, tmp_path / "x.safetensors", batch_size=2, **QUIET)
    with pytest.raises(OptionError, match="whose approximate is True where this one has None"):
        embed_files(exact, SOURCES, tmp_path / "x.safetensors", resume=True, **QUIET)
