"""Code as somebody writes it who installed the package; `test_package.py` has mypy read it, strictly. It never runs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

import zeroshot
from zeroshot import Classifier, Encoder, Head, Match, Prediction, PromptSet, ZeroShotError
from zeroshot.prediction import Predictions

LABELS = ["cat", "dog"]


def one_image(photo: Image.Image, pixels: npt.NDArray[np.uint8]) -> None:
    assert_type(zeroshot.classify("cat.jpg", LABELS), Prediction)
    assert_type(zeroshot.classify(Path("cat.jpg"), LABELS, model="mini", prompts="imagenet", top_k=3), Prediction)
    assert_type(zeroshot.classify(b"...", LABELS, threshold=0.5, background=["something else"]), Prediction)
    assert_type(zeroshot.classify(io.BytesIO(), LABELS, device="cuda", dtype="float16"), Prediction)
    with Path("cat.jpg").open("rb") as file:
        assert_type(zeroshot.classify(file, LABELS), Prediction)
    assert_type(zeroshot.classify(photo, {"cat": ["cat", "kitten"], "dog": "dog"}), Prediction)
    assert_type(zeroshot.classify(pixels, LABELS, prompts=lambda label: [f"a {label}"]), Prediction)
    assert_type(zeroshot.classify(np.asarray(photo), LABELS), Prediction)
    assert_type(zeroshot.classify(np.zeros((8, 8, 3), dtype=np.uint8), prompts="food101"), Prediction)


def many_images(photo: Image.Image, pixels: npt.NDArray[np.uint8]) -> None:
    assert_type(zeroshot.classify(["a.jpg", "b.jpg"], LABELS), Predictions)
    assert_type(zeroshot.classify(("a.jpg", Path("b.jpg")), LABELS), Predictions)
    assert_type(zeroshot.classify([photo, photo], LABELS), Predictions)
    assert_type(zeroshot.classify([pixels, photo, "a.jpg"], LABELS), Predictions)
    assert_type(zeroshot.classify([np.asarray(photo)], LABELS), Predictions)
    assert_type(zeroshot.classify(list(np.zeros((4, 8, 8, 3), dtype=np.uint8)), LABELS), Predictions)
    assert_type(zeroshot.classify(Path("photos").glob("*.jpg"), LABELS), Predictions)
    assert_type(zeroshot.classify((f"{i}.jpg" for i in range(9)), LABELS), Predictions)
    assert_type(zeroshot.classify({"a": photo}.values(), LABELS), Predictions)
    assert_type(zeroshot.classify({"a.jpg"}, LABELS), Predictions)
    assert_type(zeroshot.classify([], LABELS), Predictions)


def one_or_many(
    paths: str | list[str],
    lazily: Path | Iterator[Path],
    photos: Image.Image | tuple[Image.Image, ...],
    files: bytes | dict[str, bytes],
    pixels: npt.NDArray[np.uint8] | list[npt.NDArray[np.uint8]],
) -> None:
    assert_type(zeroshot.classify(paths, LABELS), Prediction | Predictions)
    clf = Classifier(LABELS)
    assert_type(clf(paths, top_k=3), Prediction | Predictions)
    assert_type(clf(lazily), Prediction | Predictions)
    assert_type(clf(photos), Prediction | Predictions)
    assert_type(clf(pixels), Prediction | Predictions)
    assert_type(clf(files if isinstance(files, bytes) else files.values()), Prediction | Predictions)


def classifiers(photo: Image.Image) -> None:
    clf = Classifier(LABELS, model=Path("folder"), prompts=["a {}."], device=torch.device("cpu"), dtype=torch.float16)
    assert_type(clf("cat.jpg"), Prediction)
    assert_type(clf(np.asarray(photo), top_k=3), Prediction)
    assert_type(clf(["cat.jpg", photo], threshold=0.5, batch_size=8), Predictions)
    assert_type(clf.predict_proba("cat.jpg"), npt.NDArray[np.float32])
    assert_type(clf.labels, tuple[str, ...])
    assert_type(clf.head, Head)
    assert_type(clf.encoder, Encoder)
    for outcome in clf.stream(Path("photos").glob("*.jpg"), on_error="report"):
        assert_type(outcome.index, int)
        assert_type(outcome.prediction, Prediction | None)
        assert_type(outcome.error, ZeroShotError | None)
    assert_type(Classifier.from_head("things.safetensors"), Classifier)
    assert_type(Classifier.from_head(clf.head, model=clf.encoder), Classifier)


def predictions(prediction: Prediction) -> None:
    assert_type(prediction.label, str | None)
    assert_type(prediction.score, float)
    assert_type(prediction.index, int | None)
    assert_type(prediction.probabilities, npt.NDArray[np.float32])
    assert_type(prediction.labels, tuple[str, ...])
    assert_type(prediction.top(2), list[Match])
    assert_type(prediction.above(0.1), list[Match])
    label, score, index = prediction.top()[0]
    assert_type(label, str)
    assert_type(score, float)
    assert_type(index, int)
    assert_type(prediction.top()[0].index, int)


def encoders() -> None:
    encoder = zeroshot.load("mini", device="cpu", dtype="auto")
    assert_type(encoder.encode_images(["cat.jpg"]), torch.Tensor)
    assert_type(encoder.encode_texts(["a cat"]), torch.Tensor)
    assert_type(encoder.tokenize(["a cat"]), npt.NDArray[np.int64])
    assert_type(encoder.logit_scale, float)
    assert_type(encoder.logit_bias, float | None)
    assert_type(encoder.dim, int)
    assert_type(encoder.fingerprint, str)
    seam: Encoder = encoder  # what the rest of the library takes
    assert_type(seam.encode_texts(["a cat"]), torch.Tensor)
    assert_type(zeroshot.tokenizer.tokenize(["a cat"], context=77), npt.NDArray[np.int64])


class OnesOwn:
    """An encoder that is none of ours is one by its members."""

    name = "one's own"
    dim = 8
    device = torch.device("cpu")
    logit_scale = 100.0
    logit_bias = None
    fingerprint = "0"

    def encode_images(self, images: Any) -> torch.Tensor:
        return torch.ones(1, 8)

    def encode_texts(self, texts: Any) -> torch.Tensor:
        return torch.ones(1, 8)


def heads(encoder: Encoder) -> None:
    head = zeroshot.build_head(encoder, LABELS, prompts="imagenet", cache=False)
    assert_type(head, Head)
    assert_type(head.weight, torch.Tensor)
    assert_type(head.labels, tuple[str, ...])
    assert_type(zeroshot.build_head(OnesOwn(), LABELS), Head)
    assert_type(Head.load("things.safetensors"), Head)
    assert_type(zeroshot.fit_probe("mini", ["a.jpg", "b.jpg"], LABELS, l2=1.0, anchor=head), Head)


def prompts_and_models() -> Iterator[str]:
    food = zeroshot.load_prompts("food101")
    assert_type(food, PromptSet)
    assert_type(food.expand(["pizza"]), list[list[str]])
    assert_type(zeroshot.available_prompts(), list[str])
    for entry in zeroshot.available_models("siglip", sort="accuracy"):
        assert_type(entry.name, str)
        assert_type(entry.imagenet_top1, float | None)
        yield entry.license


def measures() -> None:
    found = zeroshot.evaluate((["a.jpg", "b.jpg"], LABELS), model="mini", prompts="photo")
    assert_type(found.metric, str)
    assert_type(found.value, float)
    assert_type(found.n_images, int)
    modules: list[ModuleType] = [
        zeroshot.adapters,
        zeroshot.engines,
        zeroshot.errors,
        zeroshot.metrics,
        zeroshot.tokenizer,
    ]
    assert len(modules) == 5


def mistakes(photo: Image.Image) -> None:
    # Each is found: without an error on its line mypy would call the comment unused.
    zeroshot.clasify("cat.jpg", LABELS)  # type: ignore[attr-defined]
    zeroshot.classify(3, LABELS)  # type: ignore[call-overload]
    zeroshot.classify(np.zeros((8, 8, 3)), LABELS)  # type: ignore[arg-type]  # floats
    zeroshot.classify(photo, LABELS, top=3)  # type: ignore[call-overload]
    zeroshot.load("mini", dtype="float8")  # type: ignore[arg-type]
    zeroshot.metrics.no_such_metric()  # type: ignore[attr-defined]
    try:
        zeroshot.load("mini")
    except zeroshot.errors.CheckpointNotFoundError as error:
        assert_type(error, zeroshot.errors.CheckpointNotFoundError)
