"""The batch class without any engine; those themselves are in `tests/extras/test_engines.py`."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeroshot
from zeroshot import engines
from zeroshot.clip import ClipEncoder
from zeroshot.engines import BatchClassifier
from zeroshot.errors import HeadError, InputTypeError, OptionError

LABELS = ["cat", "dog", "clock"]


@pytest.fixture(scope="module")
def head_file(clip: ClipEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    zeroshot.build_head(clip, LABELS, cache=False, progress=False).save(path)
    return path


@pytest.fixture(autouse=True)
def _forget() -> None:
    engines._classifiers.clear()


def _broken(pictures: list[Any]) -> list[Any]:
    return [*pictures[:3], b"no image", *pictures[3:]]


def test_a_batch_equals_the_classifier(head_file: Path, clip: ClipEncoder, pictures: list[Any]) -> None:
    expected = zeroshot.Classifier.from_head(head_file, model=clip)(pictures)
    batch = BatchClassifier(head_file, model=clip.name, batch_size=4)({"image": _broken(pictures), "id": range(10)})
    assert list(batch) == ["id", "label", "score", "index", "error"]
    good = [i for i in range(10) if i != 3]
    assert [batch["label"][i] for i in good] == [p.label for p in expected]
    np.testing.assert_allclose(batch["score"][good], [p.score for p in expected], atol=1e-5)
    assert [batch["index"][i] for i in good] == [p.index for p in expected]
    assert [batch["error"][i] for i in good] == [""] * 9
    assert (batch["label"][3], batch["index"][3]) == ("", -1)
    assert np.isnan(batch["score"][3])
    assert "row 3 of the batch" in batch["error"][3] or "image" in batch["error"][3]
    assert (batch["score"].dtype, batch["index"].dtype, batch["label"].dtype) == (np.float32, np.int32, object)


def test_top_k_are_lists_also_where_there_is_an_error(head_file: Path, clip: ClipEncoder, pictures: list[Any]) -> None:
    batch = BatchClassifier(head_file, model=clip.name, top_k=2)({"image": [pictures[0], None]})
    assert [len(names) for names in batch["labels"]] == [2, 0]
    assert [len(scores) for scores in batch["scores"]] == [2, 0]
    assert batch["labels"][0][0] == batch["label"][0]
    assert batch["scores"][0][0] == pytest.approx(batch["score"][0])


def test_a_label_below_the_threshold_is_empty(head_file: Path, clip: ClipEncoder, pictures: list[Any]) -> None:
    batch = BatchClassifier(head_file, model=clip.name, threshold=1.0)({"image": pictures[:1]})
    assert (batch["label"][0], batch["index"][0], batch["error"][0]) == ("", -1, "")
    assert 0 < batch["score"][0] < 1


def test_images_as_datasets_keep_them(head_file: Path, clip: ClipEncoder) -> None:
    path = Path("examples/images/cat.jpg")
    forms = [path, str(path), path.read_bytes(), {"bytes": path.read_bytes(), "path": None}]
    forms.append({"bytes": None, "path": str(path)})
    batch = BatchClassifier(head_file, model=clip.name)({"image": forms})
    assert list(batch["error"]) == [""] * 5
    np.testing.assert_allclose(batch["score"], batch["score"][0], atol=1e-6)


def test_an_iterator_of_batches(head_file: Path, clip: ClipEncoder, pictures: list[Any]) -> None:
    classify = BatchClassifier(head_file, model=clip.name)
    batches = classify(iter([{"image": pictures[:2]}, {"image": pictures[2:3]}]))
    assert iter(batches) is batches
    assert [len(batch["label"]) for batch in batches] == [2, 1]


def test_an_empty_batch(head_file: Path, clip: ClipEncoder) -> None:
    batch = BatchClassifier(head_file, model=clip.name)({"image": []})
    assert {name: len(values) for name, values in batch.items()} == dict.fromkeys(
        ("label", "score", "index", "error"), 0
    )


def test_columns_can_be_kept_and_named(head_file: Path, clip: ClipEncoder, pictures: list[Any]) -> None:
    classify = BatchClassifier(head_file, model=clip.name, column="photo", prefix="clip_", keep_images=True)
    batch = classify({"photo": pictures[:1], "label": ["given"]})
    assert list(batch) == ["photo", "label", "clip_label", "clip_score", "clip_index", "clip_error"]
    assert batch["label"] == ["given"]
    assert classify.spark_schema == "clip_label string, clip_score float, clip_index int, clip_error string"


def test_copies_in_one_process_load_once(
    head_file: Path, clip: ClipEncoder, pictures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[object] = []
    original = zeroshot.Classifier.from_head
    monkeypatch.setattr(
        zeroshot.Classifier, "from_head", lambda head, **options: loads.append(head) or original(head, **options)
    )
    head = zeroshot.Head.load(head_file)
    for one in (BatchClassifier(head_file, model=clip.name), BatchClassifier(head, model=clip.name)):
        sent = pickle.dumps(one)
        results = [pickle.loads(sent)({"image": pictures[:1]})["score"][0] for _ in range(3)]
        assert len(set(results)) == 1
    assert len(loads) == 2
    BatchClassifier(head, model=clip.name, threshold=0.5)({"image": pictures[:1]})
    assert len(engines._classifiers) == 2  # the oldest went


def test_a_head_that_was_replaced_is_read_again(head_file: Path, clip: ClipEncoder, pictures: list[Any]) -> None:
    copy = head_file.with_name("replaced.safetensors")
    copy.write_bytes(head_file.read_bytes())
    classify = BatchClassifier(copy, model=clip.name)
    assert classify({"image": pictures[:1]})["label"][0] in LABELS
    zeroshot.build_head(clip, ["one", "two"], cache=False, progress=False).save(copy)
    assert classify({"image": pictures[:1]})["label"][0] in ("one", "two")


def test_nothing_is_loaded_before_the_first_batch(tmp_path: Path) -> None:
    classify = BatchClassifier(tmp_path / "later.safetensors")
    with pytest.raises(HeadError, match=r"later\.safetensors"):
        classify({"image": []})


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"photo": []}, OptionError, "the batch has the columns 'photo'; expected 'image'"),
        ({"image": [], "score": []}, OptionError, "has a column 'score' already; give a prefix"),
        ([1, 2], InputTypeError, "a batch is of type list; expected a mapping"),
    ],
)
def test_batches_that_cannot_be_used(head_file: Path, batch: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        BatchClassifier(head_file)(batch)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"batch_size": 0}])
def test_options_are_checked_where_they_are_given(head_file: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        BatchClassifier(head_file, **options)


def test_a_forked_process_does_not_wait_for_threads_that_stayed_behind(head_file: Path, clip: ClipEncoder) -> None:
    """What datasets does with `num_proc`; torch has used its threads before."""
    code = (
        "import os, sys, torch\n"
        "from zeroshot.engines import BatchClassifier\n"
        "torch.set_num_threads(2)\n"
        "torch.randn(600, 600) @ torch.randn(600, 600)\n"
        "classify = BatchClassifier(sys.argv[1], model=sys.argv[2])\n"
        "batch = {'image': ['examples/images/cat.jpg'] * 3}\n"
        "expected = classify(dict(batch))['label'].tolist()\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(classify(dict(batch))['label'].tolist() != expected)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    command = [sys.executable, "-c", code, str(head_file), clip.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
