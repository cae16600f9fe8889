"""Whatever functions give becomes embeddings, or is refused in words."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zeroshot.adapted import AdaptedEncoder
from zeroshot.adapters import from_functions
from zeroshot.errors import CheckpointError, InputTypeError, OptionError

Pictures = list[npt.NDArray[np.uint8]]


def mean_colours(images: list[Image.Image]) -> npt.NDArray[Any]:
    return np.stack([np.asarray(image).mean(axis=(0, 1)) for image in images])


def ones(texts: list[str]) -> npt.NDArray[Any]:
    return np.ones((len(texts), 3))


def adapted(images: Any = mean_colours, texts: Any = ones) -> AdaptedEncoder:
    return from_functions(images, texts, name="functions", dim=3, logit_scale=12.5)


def test_functions_get_batches_of_rgb_images_and_of_texts(pictures: Pictures) -> None:
    seen: list[list[Any]] = []

    def record(inputs: list[Any]) -> npt.NDArray[Any]:
        assert not torch.is_grad_enabled()
        seen.append(inputs)
        return np.ones((len(inputs), 3))

    encoder = adapted(record, record)
    encoder.encode_images([*pictures, Image.new("L", (5, 5))], batch_size=4)
    assert [len(batch) for batch in seen] == [4, 4, 2]
    assert {image.mode for batch in seen for image in batch} == {"RGB"}
    seen.clear()
    encoder.encode_texts(map(str, range(150)))  # type: ignore[arg-type]
    assert [text for batch in seen for text in batch] == [str(i) for i in range(150)]
    assert max(map(len, seen)) < 150


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        torch.from_numpy,
        lambda rows: rows.tolist(),
        lambda rows: torch.from_numpy(rows).requires_grad_(),
        lambda rows: torch.from_numpy(rows).half(),
        lambda rows: list(torch.from_numpy(rows)),
        lambda rows: np.broadcast_to(rows, rows.shape),  # read-only
    ],
    ids=["array", "tensor", "lists", "gradients", "half", "list of tensors", "read-only"],
)
def test_results_may_be_arrays_or_tensors(convert: Callable[[Any], Any], pictures: Pictures) -> None:
    encoder = adapted(lambda images: convert(mean_colours(images)))
    embeddings = encoder.encode_images(pictures)
    assert (embeddings.dtype, embeddings.requires_grad) == (torch.float32, False)
    expected = F.normalize(torch.from_numpy(mean_colours(pictures)).float(), dim=-1)  # type: ignore[arg-type]
    torch.testing.assert_close(embeddings, expected, atol=1e-3, rtol=0)


@given(st.lists(st.lists(st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6), min_size=3, max_size=3), min_size=1))
def test_any_numbers_are_normalised(rows: list[list[float]]) -> None:
    embeddings = adapted(texts=lambda texts: rows[: len(texts)]).encode_texts(["x"] * min(len(rows), 64))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ([[1.0, 2.0]] * 2, CheckpointError, r"shape \(2, 2\) for 2 images or texts; expected \(2, 3\)"),
        ([[1.0, 2.0, 3.0]], CheckpointError, r"shape \(1, 3\) for 2"),
        ([1.0, 2.0, 3.0], CheckpointError, r"shape \(3,\) for 2"),
        ([[[1.0, 2.0, 3.0]]] * 2, CheckpointError, r"shape \(2, 1, 3\)"),
        ([[1.0, 2.0, 3.0], [1.0, math.nan, 3.0]], CheckpointError, "not finite or all zeros"),
        ([[1.0, 2.0, 3.0], [1.0, math.inf, 3.0]], CheckpointError, "not finite or all zeros"),
        ([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], CheckpointError, "not finite or all zeros"),
        (None, InputTypeError, "came as NoneType; expected an array or tensor"),
        (["a", "b"], InputTypeError, "came as list"),
        ([[1.0], [1.0, 2.0]], InputTypeError, "came as list"),
    ],
)
def test_results_that_are_no_embeddings(result: Any, error: type[Exception], message: str, pictures: Pictures) -> None:
    encoder = adapted(lambda images: result, lambda texts: result)
    with pytest.raises(error, match=message):
        encoder.encode_images(pictures[:2])
    with pytest.raises(error, match=message):
        encoder.encode_texts(["a", "b"])


@pytest.mark.parametrize("texts", [[3], 3, [None], ["cat", b"dog"]])
def test_texts_are_strings(texts: Any) -> None:
    with pytest.raises(InputTypeError, match=r"a text is .* expected str"):
        adapted().encode_texts(texts)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5])
def test_batches_hold_at_least_one_image(batch_size: Any, pictures: Pictures) -> None:
    with pytest.raises(OptionError, match="batch_size is"):
        adapted().encode_images(pictures, batch_size=batch_size)


def test_models_in_memory_are_not_pickled() -> None:
    encoder = from_functions(lambda images: np.ones((len(images), 2)), name="ones", dim=2, logit_scale=1.0)
    assert copy.deepcopy(encoder).fingerprint == encoder.fingerprint
    with pytest.raises(InputTypeError, match=r"'ones' is a model in memory.*zeroshot.engines.BatchClassifier"):
        pickle.dumps(encoder)
