"""The deletion and insertion tests: their curves by hand, and `mini`'s maps against maps that know nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zeroshot
from zeroshot import Classifier
from zeroshot.errors import ImageError, LabelError, OptionError
from zeroshot.faithfulness import Curve, Faithfulness, evaluate_maps, trace_curve

LABELS = ["cat", "dog", "cup of coffee", "rocket", "wall", "forest", "tree", "bird", "fish", "car", "shoe", "house"]
NAMES = {"cat": "cat", "coffee": "cup of coffee", "rocket": "rocket"}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(LABELS, model="mini", device="cpu", prompts="photo", cache=False)


class Brightness:
    """A classifier of which the first label is as probable as the left half of the picture is bright."""

    labels = ("bright", "dark")

    def __init__(self) -> None:
        self.seen: list[np.ndarray[Any, Any]] = []

    def predict_proba(self, images: Any) -> np.ndarray[Any, Any]:
        self.seen = [np.asarray(image) for image in images]
        bright = np.array([image[:, : image.shape[1] // 2].mean() / 255 for image in self.seen])
        return np.stack([bright, 1 - bright], axis=1).astype(np.float32)


def test_the_hottest_goes_first() -> None:
    white, eye = Image.new("RGB", (4, 2), "white"), Brightness()
    left_first = np.tile(np.arange(4, 0, -1.0), (2, 1))
    curve = trace_curve(eye, white, left_first, "bright", steps=4)  # type: ignore[arg-type]
    grey = np.mean([124, 116, 104]) / 255
    assert curve.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.scores == pytest.approx([1, (1 + grey) / 2, grey, grey, grey], abs=1e-6)
    assert curve.area == pytest.approx((0.5 + (1 + grey) / 2 + 2.5 * grey) / 4, abs=1e-6)
    right_first = trace_curve(eye, white, -left_first, "bright", steps=4)  # type: ignore[arg-type]
    assert right_first.scores == pytest.approx([1, 1, 1, (1 + grey) / 2, grey], abs=1e-6)
    # What was not seen goes last, whatever it is.
    unseen = np.where(left_first > 2, np.nan, left_first)
    assert trace_curve(eye, white, unseen, 0, steps=4).scores == pytest.approx(right_first.scores)  # type: ignore[arg-type]


def test_insertion_begins_with_a_blur_and_ends_with_the_picture() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(50, 50, 3), dtype=np.uint8))
    eye = Brightness()
    trace_curve(eye, picture, np.random.default_rng(1).random((50, 50)), 1, test="insertion", steps=5)  # type: ignore[arg-type]
    errors = [np.abs(image.astype(int) - np.asarray(picture)).mean() for image in eye.seen]
    assert errors[-1] == 0
    assert errors == sorted(errors, reverse=True)
    assert np.diff(eye.seen[0].astype(int), axis=1).std() < np.diff(eye.seen[-1].astype(int), axis=1).std() / 2


@pytest.fixture(scope="module")
def measured(classifier: Classifier) -> Faithfulness:
    images = [f"examples/images/{name}.jpg" for name in NAMES]
    return evaluate_maps(classifier, images, list(NAMES.values()), steps=6, draws=1)


def test_maps_of_mini_beat_inverted_ones_on_every_photograph(measured: Faithfulness) -> None:
    for test in ("deletion", "insertion"):
        assert measured.wins(test, "inverted") == 3  # type: ignore[arg-type]
    assert measured.gain("deletion", "inverted").low > 0
    assert measured.gain("insertion", "random").value > 0
    assert measured.deletion["map"].mean() < measured.deletion["random"].mean()


def test_a_shuffled_map_loses(classifier: Classifier) -> None:
    from dataclasses import replace

    seen = zeroshot.load("mini").preprocess.resize(Image.open("examples/images/cat.jpg").convert("RGB"))
    found = classifier.explain(seen, "cat")
    rng = np.random.default_rng(0)
    shuffled = [replace(found, grid=rng.permutation(found.grid.ravel()).reshape(9, 9)) for _ in range(2)]
    areas = [
        trace_curve(classifier, seen, one.map, "cat", test="insertion", steps=8).area for one in (found, *shuffled)
    ]
    assert areas[0] > np.mean(areas[1:])
    # The test can fail: of the true map and a shuffled one that trade places the shuffled one is called the better.
    assert not areas[1] > np.mean([areas[0], *areas[2:]])


def test_results_say_what_they_are(measured: Faithfulness) -> None:
    assert measured.labels == tuple(NAMES.values())
    assert set(measured.deletion) == {"map", "random", "inverted", "centre"}
    data = json.loads(json.dumps(measured.to_dict()))
    assert data["deletion"]["map"] == measured.deletion["map"].tolist()
    lines = str(measured).splitlines()
    assert lines[:2] == [
        "mini, class activation map, weights by integrated gradients:",
        "3 pictures, 6 steps, 1 random maps each",
    ]
    assert [line.split()[0] for line in lines[4:]] == ["the", "random", "inverted", "centre"]
    gain = measured.gain("deletion", "random")
    assert f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" in lines[5]
    swapped = Faithfulness(**vars(measured) | {"deletion": measured.deletion | {"map": measured.deletion["inverted"]}})
    assert swapped.gain("deletion", "random").value < 0


def test_the_seed_draws_the_maps(classifier: Classifier) -> None:
    image = "examples/images/rocket.jpg"
    first, again, other = (
        evaluate_maps(classifier, [image], ["rocket"], steps=2, draws=1, seed=seed) for seed in (0, 0, 1)
    )
    assert first.to_dict() == again.to_dict()
    assert first.deletion["random"] != other.deletion["random"]
    assert first.deletion["map"] == other.deletion["map"]


def test_mistakes(classifier: Classifier) -> None:
    heat = np.zeros((300, 451))
    with pytest.raises(ImageError, match=r"the map has the shape \(2, 2\) and the picture \(300, 451\)"):
        trace_curve(classifier, "examples/images/cat.jpg", np.zeros((2, 2)), "cat")
    with pytest.raises(OptionError, match="test is 'removal'; expected one of deletion, insertion"):
        trace_curve(classifier, "examples/images/cat.jpg", heat, "cat", test="removal")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="steps is 0"):
        trace_curve(classifier, "examples/images/cat.jpg", heat, "cat", steps=0)
    with pytest.raises(LabelError, match="no label is called 'kat'"):
        trace_curve(classifier, "examples/images/cat.jpg", heat, "kat")
    with pytest.raises(OptionError, match="images are 0 and labels none"):
        evaluate_maps(classifier, [])
    with pytest.raises(OptionError, match="images are 1 and labels 2"):
        evaluate_maps(classifier, ["examples/images/cat.jpg"], ["cat", "dog"])
    with pytest.raises(OptionError, match="draws is 0"):
        evaluate_maps(classifier, ["examples/images/cat.jpg"], draws=0)


def test_the_page_has_what_was_measured() -> None:
    folder = Path("examples/explain")
    rows = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
    assert len(rows) == 30

    def areas(test: str) -> dict[str, Any]:
        return {kind: np.array([row[test][kind][0] for row in rows]) for kind in rows[0][test]}

    found = Faithfulness(
        deletion=areas("deletion"),
        insertion=areas("insertion"),
        labels=tuple(row["labels"][0] for row in rows),
        scores=np.array([row["scores"][0] for row in rows]),
        **{name: rows[0][name] for name in ("method", "model", "steps", "draws", "seed")},
    )
    assert str(found) in (folder / "README.md").read_text(encoding="utf-8")
    # What the maps of `mini` have to do: beat random ones, by an interval without zero, in both tests.
    assert found.gain("deletion", "random").low > 0
    assert found.gain("insertion", "random").low > 0


def test_the_area_of_a_curve() -> None:
    assert Curve(np.array([0, 0.5, 1]), np.array([1, 0.5, 0])).area == pytest.approx(0.5)
