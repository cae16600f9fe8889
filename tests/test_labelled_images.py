"""Labels become positions, one by one; embeddings keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zeroshot.errors import ImageError
from zeroshot.image import Item
from zeroshot.labelled_images import LabelledImages, LabelledItem, RawLabel, data_digest, embed_labelled


def labelled(labels: list[RawLabel], classes: tuple[str, ...], *, multi_label: bool = False) -> list[LabelledItem]:
    rows = [(Item(str(number), None), label) for number, label in enumerate(labels)]
    return list(LabelledImages("these", "pairs", classes, multi_label=multi_label, read=lambda: iter(rows)).items())


def test_repeated_names_are_never_keys() -> None:
    items = labelled([0, 1, "crane"], ("crane", "crane"))
    assert [item.target for item in items] == [0, 1, None]
    assert items[2].problem == "the label 'crane' stands for the classes 0, 1; give its number"


def test_what_is_wrong_with_a_label_is_told_of_its_image() -> None:
    items = labelled(["cat", "1", "dgo", " ", 2, True, ["cat", "dog"], ["dog"]], ("cat", "dog"))
    assert [item.target for item in items] == [0, 1, None, None, None, None, None, 1]
    assert [item.problem for item in items if item.target is None] == [
        "the label 'dgo' is no class (did you mean 'dog'?)",
        "there is no label",
        "the label 2 is no class; expected a position from 0 to 1",
        "the label is True of type bool; expected a name or a position",
        "there are 2 labels for one image; expected one",
    ]


def test_several_labels_are_a_set_of_positions() -> None:
    items = labelled([["dog", "cat", "dog"], "dog", None, []], ("cat", "dog"), multi_label=True)
    assert [item.target for item in items] == [(0, 1), (1,), (), ()]


def test_embeddings_keep_their_targets(clip: Any, pictures: list[np.ndarray[Any, Any]]) -> None:
    images = [pictures[0], b"no image", *pictures[1:4]]
    items = [LabelledItem(str(n), image, n % 3) for n, image in enumerate(images)]
    batches = list(embed_labelled(clip, items, batch_size=2, workers=2))
    assert [batch.targets for batch in batches] == [[0, 1], [2, 0], [1]]
    assert [type(error) for batch in batches for error in batch.errors].count(ImageError) == 1
    rows = np.concatenate([batch.embeddings for batch in batches])
    np.testing.assert_allclose(rows, clip.encode_images(pictures[:4]).numpy(), atol=1e-5)


def test_images_without_a_label_are_not_read(clip: Any) -> None:
    items = [LabelledItem("a", lambda: pytest.fail("was read"), None, "there is no label")]
    assert list(embed_labelled(clip, items)) == []


def test_the_digest_sees_names_classes_and_order() -> None:
    rows = [("a", 0), ("b", 1)]
    others = [[("a", 0), ("b", 0)], [("a", 0), ("c", 1)], rows[::-1], rows[:1]]
    assert len({data_digest(each) for each in (rows, *others)}) == 5
    assert data_digest(rows) == data_digest(list(rows))
