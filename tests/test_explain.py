"""`Classifier.explain`: the label and the number that are meant, the map where the picture is, how it shows itself."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zeroshot
import zeroshot.figures
from conftest import FakeEncoder
from zeroshot import Classifier, Head
from zeroshot.clip import ClipEncoder
from zeroshot.encoder import feature_encoder
from zeroshot.errors import ImageNotFoundError, InputTypeError, LabelError, MissingExtraError, OptionError
from zeroshot.explain import Explanation, colour, explain, find_label
from zeroshot.image import Preprocess

IMAGES = Path("examples/images")
LABELS = ["cat", "dog", "cup of coffee", "rocket"]


@pytest.fixture(scope="module")
def mini() -> Any:
    return zeroshot.load("mini", device="cpu")


@pytest.fixture(scope="module")
def classifier(mini: Any) -> Classifier:
    return Classifier(LABELS, model=mini, cache=False)


@pytest.fixture(scope="module")
def cat(classifier: Classifier) -> Explanation:
    return classifier.explain(IMAGES / "cat.jpg")


def odds(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


# ----------------------------------------------------------------------------------------------- what is explained


def test_the_most_probable_label_and_its_number(classifier: Classifier, cat: Explanation) -> None:
    (probabilities,) = classifier.predict_proba(IMAGES / "cat.jpg")
    assert (cat.label, cat.index, cat.of, cat.model) == ("cat", 0, "probability", "mini")
    assert cat.score == pytest.approx(probabilities[0], abs=1e-5)
    assert cat.value == pytest.approx(odds(cat.score), abs=1e-3)
    assert cat.map.shape == (cat.image.height, cat.image.width) == (300, 451)
    assert cat.map.dtype == cat.grid.dtype == np.float32
    assert "arXiv:1512.04150" in cat.citation
    assert cat.seen.all()  # mini squashes


@pytest.mark.parametrize("label", ["dog", 1])
def test_another_label(classifier: Classifier, cat: Explanation, label: str | int) -> None:
    dog = classifier.explain(IMAGES / "cat.jpg", label)
    assert (dog.label, dog.index) == ("dog", 1)
    assert dog.value < 0 < cat.value
    assert np.abs(dog.grid - cat.grid).max() > 0.1
    assert dog.baseline is not None
    assert dog.grid.sum() == pytest.approx(dog.value - dog.baseline, abs=1e-4)


def test_the_sum_of_the_map_is_what_the_picture_adds(classifier: Classifier, cat: Explanation) -> None:
    assert cat.baseline is not None
    assert cat.grid.sum() == pytest.approx(cat.value - cat.baseline, abs=1e-4)
    similarity = classifier.explain(IMAGES / "cat.jpg", of="similarity")
    embedding = classifier.encoder.encode_images(IMAGES / "cat.jpg")
    assert similarity.value == pytest.approx(float(classifier.head.logits(embedding)[0, 0]), abs=1e-4)
    assert similarity.baseline is not None
    assert similarity.grid.sum() == pytest.approx(similarity.value - similarity.baseline, abs=1e-4)


def test_the_heat_is_on_the_cat(cat: Explanation) -> None:
    # The right fifth of the photograph is background, and the face is in the middle.
    height, width = cat.map.shape
    assert cat.map[:, : width * 4 // 5].clip(min=0).sum() > 0.9 * cat.map.clip(min=0).sum()
    row, column = np.unravel_index(cat.map.argmax(), cat.map.shape)
    assert 0.2 < row / height < 0.8
    assert 0.1 < column / width < 0.7


@pytest.mark.parametrize("side", [0, 1])
def test_of_two_pictures_side_by_side_each_label_finds_its_own(classifier: Classifier, side: int) -> None:
    names = ["cat.jpg", "coffee.jpg"] if side else ["coffee.jpg", "cat.jpg"]
    both = Image.new("RGB", (520, 260))
    for place, name in enumerate(names):
        both.paste(Image.open(IMAGES / name).convert("RGB").resize((260, 260)), (260 * place, 0))
    heat = {label: classifier.explain(both, label).map.clip(min=0) for label in ("cat", "cup of coffee")}
    on_left = {label: float(values[:, :260].sum() / values.sum()) for label, values in heat.items()}
    left, right = ("cup of coffee", "cat") if side == 0 else ("cat", "cup of coffee")
    assert on_left[left] > 0.7
    assert on_left[right] < 0.3


def test_synonyms_background_and_templates_are_in_the_row(mini: Any) -> None:
    labels = {"cat": ["cat", "kitten", "tabby"], "rocket": ["rocket", "missile"]}
    clf = Classifier(labels, model=mini, prompts="photo", background=["something else"], cache=False)
    found = clf.explain(IMAGES / "cat.jpg", "cat")
    (probabilities,) = clf.predict_proba(IMAGES / "cat.jpg")
    assert found.score == pytest.approx(probabilities[0], abs=1e-5)
    assert found.value == pytest.approx(odds(found.score), abs=1e-3)  # the background is among the others


def test_a_sigmoid_is_explained_by_its_own_logit(mini: Any) -> None:
    head = zeroshot.build_head(mini, LABELS, cache=False)
    head = replace(head, logit_bias=-4.0)
    found = explain(mini, head, IMAGES / "cat.jpg", "dog", multi_label=True)
    alone = explain(mini, head, IMAGES / "cat.jpg", "dog", of="similarity", multi_label=True)
    assert found.value == pytest.approx(odds(found.score), abs=1e-4)
    assert np.array_equal(found.grid, alone.grid)


def test_a_probe_of_features_has_the_plain_map(mini: Any) -> None:
    weight = torch.randn(3, 1280, generator=torch.Generator().manual_seed(0)) / 30
    head = Head(
        weight,
        ("a", "b", "c"),
        1.0,
        None,
        model="mini",
        fingerprint=feature_encoder(mini).fingerprint,
        space="features",
        bias=torch.tensor([0.1, -0.2, 0.3]),
        temperature=2.0,
    )
    clf = Classifier.from_head(head, model=mini)
    found = clf.explain(IMAGES / "coffee.jpg", "b", of="similarity")
    pixels = torch.from_numpy(mini.preprocess(IMAGES / "coffee.jpg"))[None]
    expected = torch.einsum("c,chw->hw", weight[1], mini.vision.grid(pixels)[0]) / 81 / 2.0
    assert np.abs(found.grid - expected.numpy()).max() < 1e-5 * float(expected.abs().max())
    assert found.baseline == pytest.approx(-0.2 / 2.0, abs=1e-6)
    assert found.score == pytest.approx(clf.predict_proba(IMAGES / "coffee.jpg")[0, 1], abs=1e-5)


def test_in_inference_mode_too(mini: Any, cat: Explanation) -> None:
    with torch.inference_mode():
        clf = Classifier(LABELS, model=mini, cache=False)
        found = clf.explain(IMAGES / "cat.jpg")
    assert np.abs(found.grid - cat.grid).max() < 1e-5


def test_the_normal_path_stays_as_it_is(classifier: Classifier) -> None:
    before = classifier.encoder.encode_images(IMAGES / "rocket.jpg")
    classifier.explain(IMAGES / "rocket.jpg")
    assert torch.equal(classifier.encoder.encode_images(IMAGES / "rocket.jpg"), before)


def test_a_transformer(clip: ClipEncoder, pictures: list[Any]) -> None:
    clf = Classifier(["a", "b", "c"], model=clip, cache=False)
    for picture in pictures:
        found = clf.explain(picture)
        (probabilities,) = clf.predict_proba(picture)
        assert found.score == pytest.approx(probabilities.max(), abs=1e-5)
        assert found.index == probabilities.argmax()
        assert found.grid.shape == (2, 2)
        assert found.baseline is None
        assert found.map.shape == picture.shape[:2]
    assert np.abs(clf.explain(pictures[0], layers=2).grid - clf.explain(pictures[0]).grid).max() > 1e-4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(open_clip_folder: Path, clip: ClipEncoder, pictures: list[Any], dtype: Any) -> None:
    found, exact = (
        Classifier(["a", "b", "c"], model=encoder, cache=False).explain(pictures[0], 0)
        for encoder in (zeroshot.load(open_clip_folder, device="cpu", dtype=dtype), clip)
    )
    assert found.score == pytest.approx(exact.score, abs=0.05)
    assert np.isfinite(found.grid).all()


# ------------------------------------------------------------------------------------------------ where the map is


def test_what_is_cut_off_is_not_seen(clip: ClipEncoder) -> None:
    wide = np.random.default_rng(0).integers(0, 256, size=(64, 192, 3), dtype=np.uint8)
    found = Classifier(["a", "b"], model=clip, cache=False).explain(wide, 0)
    assert found.window == (64, 0, 128, 64)
    expected = np.zeros((64, 192), dtype=bool)
    expected[:, 64:128] = True
    assert np.array_equal(found.seen, expected)
    assert np.array_equal(np.isnan(found.map), ~expected)
    assert (found.columns.tolist(), found.rows.tolist()) == ([80, 112], [16, 48])
    striped = np.asarray(found.overlay()).astype(int)
    assert (np.ptp(striped[:, :64], axis=2) == 0).all()  # grey
    assert len({*striped[0, :64, 0]}) > 2


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [(64, 64), (90, 60), (60, 91), (200, 33), (33, 200), (20, 30)])
def test_the_window_is_where_the_pixels_come_from(mode: Any, size: tuple[int, int]) -> None:
    # Of a picture whose red is the column and green the row, every pixel that comes out says where it is from.
    width, height = size
    columns, rows = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    picture = np.stack([columns * 200, rows * 200, np.full_like(rows, 255)], axis=2).round().astype(np.uint8)
    preprocess = Preprocess((48, 48), (0.5,) * 3, (0.5,) * 3, resize_mode=mode)
    pixels = preprocess.pixels(picture).astype(float)
    left, top, right, bottom = preprocess.window(size)
    inside = pixels[:, :, 2] > 250
    assert inside.any()
    for channel, (first, last), whole in ((0, (left, right), width), (1, (top, bottom), height)):
        places = first + (np.arange(48) + 0.5) / 48 * (last - first)
        expected = np.broadcast_to(places if channel == 0 else places[:, None], (48, 48))
        found = pixels[:, :, channel] / 200 * whole
        middle = inside & (expected > 0.1 * whole) & (expected < 0.9 * whole)  # filters bend at the edges
        assert np.abs(found - expected)[middle].max() < 0.02 * whole
        if mode == "longest" and whole < max(size):
            assert first < 0
            assert last > whole


def test_the_map_is_linear_between_the_middles_of_cells(cat: Explanation) -> None:
    made = replace(
        cat,
        image=Image.new("RGB", (8, 4)),
        grid=np.array([[0, 4], [8, 12]], dtype=np.float32),
        rows=np.array([0.5, 3.5], dtype=np.float32),
        columns=np.array([1.5, 5.5], dtype=np.float32),
        window=(1.0, 0.0, 8.0, 4.0),
    )
    across = [np.nan, 0, 1, 2, 3, 4, 4, 4]
    expected = np.array([across] * 4) + np.array([0, 8 / 3, 16 / 3, 8])[:, None]
    assert np.allclose(made.map, expected, equal_nan=True)


# ------------------------------------------------------------------------------------------------- how it shows itself


def test_the_overlay_is_light_where_the_heat_is(cat: Explanation) -> None:
    overlay = cat.overlay()
    assert (overlay.mode, overlay.size) == ("RGB", cat.image.size)
    flat = replace(cat, image=Image.new("RGB", cat.image.size, (90, 90, 90))).overlay()
    luminance = np.asarray(flat.convert("L")).astype(float)
    assert np.unravel_index(luminance.argmax(), luminance.shape) == pytest.approx(
        np.unravel_index(cat.map.argmax(), cat.map.shape), abs=12
    )
    order = np.argsort(cat.map, axis=None)[-2000:]
    assert np.corrcoef(luminance.ravel()[order], cat.map.ravel()[order])[0, 1] > 0.95
    assert cat.overlay(longest=100).size == (100, 67)
    with pytest.raises(OptionError, match="longest is 0"):
        cat.overlay(longest=0)


def test_colours_get_lighter_evenly() -> None:
    luminance = colour(np.linspace(0, 1, 101)) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luminance) > 0).all()


def test_where_nothing_speaks_for_the_label_there_is_no_heat(cat: Explanation) -> None:
    cold = replace(cat, grid=-np.abs(cat.grid) - 1)
    spread = np.asarray(cold.overlay()).astype(int)
    assert np.ptp(spread - np.asarray(replace(cat, grid=np.zeros_like(cat.grid)).overlay()).astype(int)) == 0


def test_numbers_as_json(cat: Explanation) -> None:
    data = json.loads(json.dumps(cat.to_dict()))
    assert (data["label"], data["width"], data["height"], data["of"]) == ("cat", 451, 300, "probability")
    assert np.array(data["grid"], dtype=np.float32) == pytest.approx(cat.grid)
    assert (len(data["grid"]), len(data["rows"]), len(data["columns"])) == (9, 9, 9)


def test_in_a_notebook(cat: Explanation) -> None:
    page = replace(cat, label="<b>cat</b>")._repr_html_()
    assert "<b>cat</b> 9" not in page
    assert "&lt;b&gt;cat&lt;/b&gt; 9" in page
    pictures = [Image.open(io.BytesIO(base64.b64decode(text))) for text in re.findall(r"base64,([^\"]+)\"", page)]
    assert [picture.size for picture in pictures] == [(420, 279)] * 2
    assert "Zhou et al." in page
    assert page.startswith('<div class="tex2jax_ignore mathjax_ignore"')  # "$5 or $10" as a label is no formula


def test_a_figure(cat: Explanation, tmp_path: Path) -> None:
    figure = cat.plot()
    assert len(figure.axes) == 3
    assert "cat" in figure.axes[0].get_title()
    zeroshot.figures.save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_a_long_label_is_above_its_picture(cat: Explanation) -> None:
    label = "a very long label, such as an espresso cup on a red saucer with a spoon, $5 or $6"
    figure = replace(cat, label=label).plot()
    figure.draw_without_rendering()
    left, right, whole = figure.axes[0].title.get_window_extent(), figure.axes[1].title.get_window_extent(), figure.bbox
    assert whole.x0 <= left.x0 < left.x1 < right.x0 < right.x1 <= whole.x1
    assert left.y1 <= whole.y1
    assert figure.axes[0].get_title().replace("\n", " ").startswith(label[:50])
    assert figure.axes[0].get_title().endswith(f"{cat.score:.1%}")


def test_without_matplotlib(cat: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"zeroshot-clip\[plot\]"):
        cat.plot()


# ------------------------------------------------------------------------------------------------------------ mistakes


def test_labels_that_are_not_there() -> None:
    names = ("tabby cat", "tiger cat", "crane", "crane")
    assert [find_label(names, label) for label in ("tiger cat", 0, np.int64(2))] == [1, 0, 2]
    with pytest.raises(LabelError, match="no label is called 'tabby cta'; near it: 'tabby cat'"):
        find_label(names, "tabby cta")
    with pytest.raises(LabelError, match="no label is called 'xyz'; there are 'tabby cat', 'tiger cat'"):
        find_label(names, "xyz")
    with pytest.raises(LabelError, match=r"2 labels are called 'crane'; expected a position, one of \[2, 3\]"):
        find_label(names, "crane")
    for position in (-1, 4):
        with pytest.raises(LabelError, match=f"label is {position}; expected a position from 0 to 3"):
            find_label(names, position)
    for label in (True, 1.0, ["crane"]):
        with pytest.raises(InputTypeError, match="expected a name, or a position"):
            find_label(names, label)  # type: ignore[arg-type]


def test_options_out_of_their_range(classifier: Classifier, mini: Any) -> None:
    with pytest.raises(OptionError, match="of is 'cosine'; expected one of probability, similarity"):
        classifier.explain(IMAGES / "cat.jpg", of="cosine")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="layers is 0"):
        classifier.explain(IMAGES / "cat.jpg", layers=0)
    alone = Classifier.from_head(zeroshot.build_head(mini, ["cat"], cache=False), model=mini)
    with pytest.raises(OptionError, match="the only class is 'cat', whose probability is 1"):
        alone.explain(IMAGES / "cat.jpg")
    assert alone.explain(IMAGES / "cat.jpg", of="similarity").score == 1


def test_images_that_cannot_be_explained(classifier: Classifier) -> None:
    with pytest.raises(InputTypeError, match="image is of type list; expected one image"):
        classifier.explain([IMAGES / "cat.jpg"])  # type: ignore[arg-type]
    with pytest.raises(ImageNotFoundError):
        classifier.explain("no such file.jpg")


def test_encoders_without_gradients(fake: FakeEncoder) -> None:
    with pytest.raises(InputTypeError, match="the encoder is of type FakeEncoder, whose gradients are not to be had"):
        Classifier(["a", "b"], model=fake, cache=False).explain(IMAGES / "cat.jpg")


def test_a_tower_of_another_library(make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = zeroshot.load(make_checkpoint(), device="cpu")
    clf = Classifier(["a", "b"], model=encoder, cache=False)
    monkeypatch.setattr(ClipEncoder, "vision", torch.nn.Linear(2, 2))
    with pytest.raises(InputTypeError, match=r"the image tower of .* is timm's, and there is no method for it here"):
        clf.explain(IMAGES / "cat.jpg")


def test_bytes_have_no_gradients(open_clip_folder: Path) -> None:
    clf = Classifier(["a", "b"], model=zeroshot.load(open_clip_folder, device="cpu", dtype="int8"), cache=False)
    with pytest.raises(OptionError, match="dtype='int8', and bytes have no gradients; expected dtype='float32'"):
        clf.explain(IMAGES / "cat.jpg")
