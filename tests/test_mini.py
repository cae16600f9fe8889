"""The bundled model: an ordinary checkpoint that is right on the example photographs."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import zeroshot
from zeroshot.clip import ClipEncoder
from zeroshot.compare import compare
from zeroshot.registry import locate

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "examples" / "images"
# Ten labels each, of things that could stand in such a picture.
LABELS = {
    "cat": ["cat", "dog", "rabbit", "fox", "horse", "bird", "teddy bear", "hamster", "cow", "sheep"],
    "clock": ["clock", "plate", "wheel", "coin", "mirror", "compass", "drum", "globe", "pizza", "button"],
    "coffee": ["cup of coffee", "glass of beer", "bowl of soup", "plate of pasta", "teapot", "cake", "bottle of wine",
               "salad", "loaf of bread", "orange juice"],
    "rocket": ["rocket", "airplane", "lighthouse", "crane", "church", "ship", "bridge", "helicopter", "train", "truck"],
}  # fmt: skip


@pytest.fixture(scope="module")
def mini() -> ClipEncoder:
    return zeroshot.load("mini", device="cpu")


@pytest.mark.parametrize("name", sorted(LABELS))
def test_right_on_the_example_photographs(mini: ClipEncoder, name: str) -> None:
    labels = LABELS[name]
    assert len(set(labels)) == 10
    for prompts in (None, "imagenet"):
        prediction = zeroshot.Classifier(labels, model=mini, prompts=prompts)(IMAGES / f"{name}.jpg")
        assert prediction.index == 0, f"{prompts}: {prediction!r}"


def test_every_example_has_labels() -> None:
    assert sorted(path.stem for path in IMAGES.glob("*.jpg")) == sorted(LABELS)


def test_one_image_alone_and_in_a_batch(mini: ClipEncoder) -> None:
    paths = sorted(IMAGES.glob("*.jpg"))
    batch = mini.encode_images(paths * 8, batch_size=32)
    alone = torch.cat([mini.encode_images(path) for path in paths])
    assert (batch[: len(paths)] - alone).abs().max() < 1e-5
    assert torch.allclose(batch.norm(dim=-1), torch.ones(len(batch)), atol=1e-6)


def test_image_tower_knows_imagenet(mini: ClipEncoder) -> None:
    """The convolutions, the folded norms and the preprocessing work together: the classifier inside names the cat."""
    pixels = torch.from_numpy(mini.preprocess(IMAGES / "cat.jpg")[np.newaxis])
    best = int(mini.vision.class_logits(pixels).argmax())  # type: ignore[operator]
    assert zeroshot.load_prompts("imagenet").classes[best] in ("tabby cat", "tiger cat", "Egyptian Mau")


DESCRIBED = {"cat": ["a furry animal with whiskers", "a pet that purrs"], "rocket": ["a tall white rocket"]}


@pytest.mark.parametrize(
    ("labels", "prompts", "expected"),
    [
        (["cat", "dog"], ["a {}", "the {}."], [["a cat", "the cat."], ["a dog", "the dog."]]),
        ({"cat": ["cat", "kitten"], "dog": "dog"}, ["a {}"], [["a cat", "a kitten"], ["a dog"]]),
        (None, DESCRIBED, list(DESCRIBED.values())),
        (["owl", "cat"], "a photo of a(n) {}.", [["a photo of an owl."], ["a photo of a cat."]]),
        (["cat"], lambda label: [f"one {label}", f"two {label}s"], [["one cat", "two cats"]]),
    ],
    ids=["templates", "synonyms", "descriptions", "article", "function"],
)  # fmt: skip
def test_heads_are_what_the_formula_gives(
    mini: ClipEncoder, labels: Any, prompts: Any, expected: list[list[str]]
) -> None:
    """Each prompt normalised, the mean over the class normalised again; prompts one by one, in float64."""
    head = zeroshot.build_head(mini, labels, prompts=prompts, cache=False)
    for row, texts in zip(head.weight.double(), expected, strict=True):
        mean = torch.stack([mini.encode_texts(text)[0].double() for text in texts]).mean(dim=0)
        assert (row - mean / mean.norm()).abs().max() < 1e-6


def cut(path: Path) -> list[Image.Image]:
    """Ten pictures of one: the corners and the centre at four fifths of the size, each also mirrored."""
    with Image.open(path) as opened:
        whole = opened.convert("RGB")
    width, height = whole.width * 4 // 5, whole.height * 4 // 5
    right, bottom = whole.width - width, whole.height - height
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)]
    parts = [whole.crop((left, top, left + width, top + height)) for left, top in places]
    return parts + [ImageOps.mirror(part) for part in parts]


def test_the_ensemble_is_not_worse_than_one_template() -> None:
    """On pieces of the example photographs, among all the labels of their tests; and bad prompts are found out."""
    names = sorted({name for labels in LABELS.values() for name in labels})
    images = [part for name in sorted(LABELS) for part in cut(IMAGES / f"{name}.jpg")]
    targets = [names.index(LABELS[name][0]) for name in sorted(LABELS) for _ in range(10)]
    backwards = {name: [f"a photo of a {other}."] for name, other in zip(names, reversed(names), strict=True)}
    sets = {"one": "a photo of a {}.", "ensemble": "imagenet", "backwards": backwards}
    found = compare(images, targets, sets, labels=names, model="mini")
    verdicts = {result.name: result.verdict for result in found.results}
    assert verdicts["ensemble"] in ("better", "no difference shown")
    assert verdicts["backwards"] == "worse"  # with forty pictures the comparison can tell
    assert verdicts["ensemble"] in str(found)


def test_card_states_what_is_shipped() -> None:
    folder = locate("mini").path
    card = (folder / "README.md").read_text(encoding="utf-8")
    weights = (folder / "open_clip_model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in card
    assert sum(path.stat().st_size for path in folder.iterdir()) < 45_000_000


def test_recipe_names_what_it_needs() -> None:
    """Every module that the recipe imports is ours, in the standard library, or named in its instructions."""
    folder = ROOT / "examples" / "mini"
    own = {path.stem for path in folder.glob("*.py")} | {"zeroshot"}
    instructions = (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("*.py"):
        for name in re.findall(r"^(?:import|from) (\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert name in own or name in sys.stdlib_module_names or name in instructions, name


def test_int8_changes_no_class_of_real_pictures(mini: ClipEncoder) -> None:
    """The text tower's weights are trained ones; images go through convolutions, which stay in float32."""
    names = zeroshot.load_prompts("imagenet").classes
    texts = [f"a photo of a {name}." for name in names]
    encoder = zeroshot.load("mini", device="cpu", dtype="int8")
    pictures = []
    for path in sorted(IMAGES.glob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        width, height = picture.size
        for x in (0.0, 0.2, 0.4):
            for y in (0.0, 0.2, 0.4):
                box = (x * width, y * height, (x + 0.6) * width, (y + 0.6) * height)
                pictures.append(picture.crop(tuple(map(round, box))))  # type: ignore[arg-type]
    exact, found = mini.encode_texts(texts), encoder.encode_texts(texts)
    cosines = (exact * found).sum(dim=1)
    assert cosines.min() > 0.999
    assert cosines.min() < 0.99999
    images = mini.encode_images(pictures)
    same = ((images @ exact.T).argmax(dim=1) == (encoder.encode_images(pictures) @ found.T).argmax(dim=1)).float()
    assert same.mean() >= 0.98
