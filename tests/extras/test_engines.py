"""Engines for large data take a `BatchClassifier` as it is and give what one process gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeroshot
from zeroshot.engines import BatchClassifier

pytestmark = [pytest.mark.extra, pytest.mark.filterwarnings("default")]  # the engines' own warnings are theirs
LABELS = ["cat", "clock", "rocket", "cup of coffee"]
IMAGES = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture(scope="module")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "head.safetensors"
    zeroshot.build_head(zeroshot.load("mini", device="cpu"), LABELS, cache=False, progress=False).save(path)
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return thirteen pictures, of which one is broken and one is missing."""
    folder = tmp_path_factory.mktemp("pictures")
    found = sorted(IMAGES.glob("*.jpg"))
    copies = [shutil.copy(found[i % len(found)], folder / f"{i:02}.jpg") for i in range(12)]
    Path(copies[5]).write_bytes(Path(copies[5]).read_bytes()[:900])
    return [*map(str, copies), str(folder / "missing.jpg")]


@pytest.fixture(scope="module")
def expected(head_file: Path, paths: list[str]) -> list[tuple[str, float]]:
    """Return what a single process says, without any engine."""
    classifier = zeroshot.Classifier.from_head(head_file, device="cpu")
    outcomes = classifier.stream(paths)
    return [(o.prediction.label or "", o.prediction.score) if o.prediction else ("", np.nan) for o in outcomes]


def _assert_same(rows: list[dict[str, Any]], paths: list[str], expected: list[tuple[str, float]]) -> None:
    rows = sorted(rows, key=lambda row: int(row["id"]))
    assert [int(row["id"]) for row in rows] == list(range(len(paths)))
    assert [row["label"] for row in rows] == [label for label, _ in expected]
    np.testing.assert_allclose([row["score"] for row in rows], [score for _, score in expected], atol=1e-5)
    assert [bool(row["error"]) for row in rows] == [not label for label, _ in expected]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


def test_two_ray_workers(ray: Any, head_file: Path, paths: list[str], expected: list[tuple[str, float]]) -> None:
    rows = ray.data.from_items([{"image": path, "id": i} for i, path in enumerate(paths)])
    done = rows.map_batches(
        BatchClassifier, fn_constructor_args=[str(head_file)], batch_size=4, concurrency=2, num_cpus=1
    )
    _assert_same(done.take_all(), paths, expected)


def test_ray_batches_of_arrow(ray: Any, head_file: Path, paths: list[str], expected: list[tuple[str, float]]) -> None:
    rows = ray.data.from_items([{"image": path, "id": i} for i, path in enumerate(paths)])
    done = rows.map_batches(BatchClassifier(head_file, top_k=2), batch_size=5, batch_format="pyarrow")
    found = done.take_all()
    _assert_same(found, paths, expected)
    assert {len(row["labels"]) for row in found} == {0, 2}


def test_datasets_in_two_processes(head_file: Path, paths: list[str], expected: list[tuple[str, float]]) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_dict({"image": paths, "id": list(range(len(paths)))})
    done = rows.map(BatchClassifier(head_file), batched=True, batch_size=4, num_proc=2, remove_columns=["image"])
    _assert_same(list(done), paths, expected)


def test_datasets_with_pictures(head_file: Path, paths: list[str], expected: list[tuple[str, float]]) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    contents = [{"bytes": Path(path).read_bytes() if Path(path).exists() else b"", "path": path} for path in paths]
    rows = datasets.Dataset.from_dict({"image": contents, "id": list(range(len(paths)))})
    done = rows.map(BatchClassifier(head_file), batched=True, remove_columns=["image"])
    _assert_same(list(done), paths, expected)


def test_daft(head_file: Path, paths: list[str], expected: list[tuple[str, float]]) -> None:
    daft = pytest.importorskip("daft")
    kinds = daft.DataType
    columns = {"label": kinds.string(), "score": kinds.float32(), "index": kinds.int32(), "error": kinds.string()}
    classify = daft.func.batch(return_dtype=kinds.struct(columns), unnest=True)(BatchClassifier(head_file).rows)
    rows = daft.from_pydict({"image": paths, "id": list(range(len(paths)))})
    _assert_same(rows.select("id", classify(daft.col("image"))).to_pylist(), paths, expected)


def test_the_frames_that_spark_gives(head_file: Path, paths: list[str], expected: list[tuple[str, float]]) -> None:
    """`mapInPandas` calls its function with an iterator of frames and reads the frames of the iterator it returns."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"image": paths, "id": range(len(paths))})
    done = BatchClassifier(head_file)(iter([frame[:5], frame[5:]]))
    _assert_same(pandas.concat(done).to_dict("records"), paths, expected)


def test_spark(head_file: Path, paths: list[str], expected: list[tuple[str, float]]) -> None:
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        rows = spark.createDataFrame([(path, i) for i, path in enumerate(paths)], "image string, id int")
        classify = BatchClassifier(head_file)
        done = rows.repartition(2).mapInPandas(classify, schema=f"id int, {classify.spark_schema}")
        _assert_same([row.asDict() for row in done.collect()], paths, expected)
    finally:
        spark.stop()


def test_the_example_for_a_cluster(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("ray")
    script = Path(__file__).parents[2] / "examples" / "large_jobs" / "ray_classify.py"
    target = tmp_path / "predictions"
    command = [sys.executable, str(script), str(IMAGES), str(target), "--labels", *LABELS, "--model", "mini"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = parquet.read_table(target).to_pylist()
    assert {Path(row["path"]).stem: row["label"] for row in rows} == {
        **{"cat": "cat", "clock": "clock", "rocket": "rocket", "coffee": "cup of coffee"},
    }
