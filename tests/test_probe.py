"""Probes: scikit-learn's coefficients, the paper's search, the pull to a zero-shot head, and what takes the result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import zeroshot
from zeroshot.adapters import from_functions
from zeroshot.clip import ClipEncoder
from zeroshot.embeddings import Embeddings
from zeroshot.encoder import FeatureEncoder, feature_encoder
from zeroshot.engines import BatchClassifier
from zeroshot.errors import (
    HeadError,
    ImageNotFoundError,
    InputTypeError,
    LabelError,
    MissingExtraError,
    OptionError,
)
from zeroshot.head import Head, build_head
from zeroshot.jobs import classify_files, embed_files
from zeroshot.probe import (
    _anchored_parts,
    _parts,
    as_targets,
    fit_probe,
    logistic_regression,
    rotated,
    search_l2,
)

Floats = npt.NDArray[np.float64]
LABELS = ["cat", "dog", "fox", "owl"]


def blobs(
    n: int, dim: int, classes: int, *, spread: float = 1.0, seed: int = 0, unit: bool = False
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Draw points around as many centres as there are classes: (n, dim) and (n,); each class in turn."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    targets = np.arange(n) % classes
    rows = centres[targets] + spread * rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) if unit else rows), targets


def softmax(head: Head, rows: Any) -> Floats:
    probabilities: Floats = head.logits(torch.from_numpy(np.float32(rows))).double().softmax(dim=-1).numpy()
    return probabilities


@pytest.fixture
def backbone() -> Any:
    """An image-only encoder of somebody's network, as of a ResNet of torchvision's, VirTex's or ConVIRT's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        ).eval()

    def encode(images: list[Any]) -> torch.Tensor:
        pixels = np.stack([np.asarray(image.resize((16, 16)), dtype=np.float32) / 255 for image in images])
        with torch.inference_mode():
            features: torch.Tensor = network(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        return features

    return from_functions(encode, name="a ResNet of my own", dim=32, logit_scale=1.0, fingerprint="resnet")


def coloured(n: int = 24, *, seed: int = 0) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """Draw pictures of three colours under noise."""
    rng = np.random.default_rng(seed)
    colours = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
    names = [list(colours)[index % 3] for index in range(n)]
    noise = rng.normal(0, 40, size=(n, 20, 20, 3))
    pictures = [
        np.uint8(np.clip(np.array(colours[name]) + each, 0, 255)) for name, each in zip(names, noise, strict=True)
    ]
    return pictures, names


# ----------------------------------------------------------------------------------------------- scikit-learn's fit


@pytest.mark.parametrize("l2", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_coefficients_are_those_of_scikit_learn(make_fake: Any, classes: int, l2: float) -> None:
    rows, targets = blobs(90, 8, classes, unit=True)
    rows = rows.astype(np.float32)
    head = fit_probe(make_fake(), rows, targets, classes=LABELS[:classes], space="embeddings", l2=l2)
    theirs = LogisticRegression(C=1 / l2, max_iter=1000).fit(rows.astype(np.float64), targets)
    weight, bias = head.weight.numpy(), head.bias.numpy()  # type: ignore[union-attr]
    if classes == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    assert theirs.coef_.shape == weight.shape
    size = np.abs(theirs.coef_).max()
    assert np.abs(weight - theirs.coef_).max() < 1e-6 * size
    assert np.abs(bias - theirs.intercept_).max() < 1e-6 * max(size, 1)
    assert np.abs(softmax(head, rows) - theirs.predict_proba(rows)).max() < 1e-6
    # What the comparison must notice: another strength, one other label, one other number.
    others = [LogisticRegression(C=1.02 / l2, max_iter=1000).fit(rows, targets)]
    moved, changed = rows.copy(), targets.copy()
    moved[0, 0] += 0.01
    changed[0] = (changed[0] + 1) % classes
    others += [LogisticRegression(C=1 / l2, max_iter=1000).fit(*each) for each in ((moved, targets), (rows, changed))]
    assert all(np.abs(weight - other.coef_).max() > 5e-6 * size for other in others)


def test_a_standardised_probe_is_folded_into_the_head(make_fake: Any) -> None:
    rows, targets = blobs(90, 8, 3, unit=True)
    rows[:, 2] = 0.1  # a dimension without variance
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[:, 3] = 0.25
    rows = np.float64(np.float32(rows))
    encoder = feature_encoder(_with_features(make_fake(), 8))
    head = fit_probe(encoder, rows, targets, classes=LABELS[:3], l2=1.0, standardize=True, space="features")
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)).fit(rows, targets)
    assert np.abs(softmax(head, rows) - theirs.predict_proba(rows)).max() < 1e-5
    plain = LogisticRegression(C=1.0, max_iter=1000).fit(rows, targets)
    assert np.abs(softmax(head, rows) - plain.predict_proba(rows)).max() > 1e-3


def _with_features(encoder: Any, dim: int) -> Any:
    encoder.feature_dim = dim
    encoder.encode_features = encoder.encode_images
    return encoder


def test_a_probe_that_does_not_settle_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, targets = blobs(60, 8, 3)
    monkeypatch.setattr("zeroshot.probe.MAX_ITERATIONS", 3)
    with pytest.warns(UserWarning, match=r"not settled after 3 iterations.*larger l2 than 0.001") as caught:
        logistic_regression(rows, targets, 1e-3)
    assert caught[0].filename == __file__


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 12), st.integers(2, 30), st.integers(0, 5))
def test_in_the_space_of_the_rows_the_fit_is_the_same(n: int, dim: int, seed: int) -> None:
    rows, targets = blobs(2 * n, dim, 2, seed=seed)
    inputs, axes = rotated(rows)
    assert inputs.shape == (2 * n, min(2 * n, dim))
    np.testing.assert_allclose(inputs @ axes, rows, atol=1e-10)
    weight, bias = logistic_regression(rows, targets, 1.0)
    turned, same = logistic_regression(inputs, targets, 1.0)
    size = max(np.abs(weight).max(), 1)  # both stop where the slope is below 1e-4
    assert np.abs(turned @ axes - weight).max() < 1e-2 * size
    assert np.abs(same - bias).max() < 1e-2 * size


# -------------------------------------------------------------------------------------------------------- the search


def test_the_search_looks_at_the_strengths_of_the_paper() -> None:
    grid = np.logspace(-6, 6, 97)
    seen: list[float] = []

    def measure(l2: float) -> tuple[float, float]:
        seen.append(l2)
        return -((math.log10(l2) - 2.1) ** 2), 0.0

    trials = search_l2(measure)
    np.testing.assert_allclose(seen[:7], [1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6])
    assert len(seen) == len(set(seen)) == 15 == len(trials)
    assert all(np.isclose(grid, l2).any() for l2 in seen)
    assert trials[0].l2 == pytest.approx(10**2.125)  # of the 97 the nearest to the peak
    assert [trial.accuracy for trial in trials] == sorted((trial.accuracy for trial in trials), reverse=True)


@given(st.floats(-7, 7))
def test_the_search_finds_the_peak_wherever_it_is(peak: float) -> None:
    grid = np.linspace(-6, 6, 97)
    best = search_l2(lambda l2: (-abs(math.log10(l2) - peak), 0.0))[0]
    assert abs(math.log10(best.l2) - peak) <= np.abs(grid - peak).min() + 1e-9


def test_equal_accuracies_are_told_apart_by_the_log_loss() -> None:
    assert search_l2(lambda l2: (0.5, abs(math.log10(l2) + 2)))[0].l2 == pytest.approx(1e-2)
    assert search_l2(lambda l2: (0.5, 0.5))[0].l2 == pytest.approx(1e6)  # nothing tells: the stronger one


def test_the_strength_is_that_of_a_search_by_hand(make_fake: Any) -> None:
    rows, targets = blobs(200, 8, 4, spread=2.0, unit=True)
    held, held_targets = blobs(100, 8, 4, spread=2.0, seed=1, unit=True)
    head = fit_probe(make_fake(), rows, targets, classes=LABELS, space="embeddings", validation=(held, held_targets))

    def by_hand(l2: float) -> tuple[float, float]:
        model = LogisticRegression(C=1 / l2, max_iter=1000).fit(rows, targets)
        probabilities = model.predict_proba(held)
        own = probabilities[np.arange(100), held_targets]
        return float((probabilities.argmax(axis=1) == held_targets).mean()), float(-np.log(own).mean())

    best = search_l2(by_hand)[0]
    assert f"l2 {best.l2:.3g}, validation accuracy {best.accuracy:.1%}" in head.origin
    together = LogisticRegression(C=1 / best.l2, max_iter=1000).fit(
        np.float64(np.float32(np.concatenate([rows, held]))), np.concatenate([targets, held_targets])
    )
    np.testing.assert_allclose(head.weight.numpy(), together.coef_, rtol=0, atol=1e-5 * np.abs(together.coef_).max())


@pytest.mark.parametrize(("sizes", "parts"), [((40, 20), 1), ((19, 40), 5), ((5, 9), 5), ((3, 4), 3), ((2, 50), 2)])
def test_each_part_has_all_classes_on_both_sides(sizes: tuple[int, int], parts: int) -> None:
    targets = np.random.default_rng(0).permutation(np.repeat([0, 1], sizes))
    found = _parts(targets, 0)
    assert len(found) == parts
    for train, held in found:
        assert sorted([*train, *held]) == list(range(len(targets)))
        assert set(targets[train]) == set(targets[held]) == {0, 1}
    assert _parts(targets, 0)[0][1].tolist() == found[0][1].tolist()
    assert parts == 1 or sorted(np.concatenate([held for _, held in found])) == list(range(len(targets)))
    if sizes[0] > 3:
        assert _parts(targets, 1)[0][1].tolist() != found[0][1].tolist()


def test_with_one_image_a_class_there_is_no_search(make_fake: Any) -> None:
    rows, targets = blobs(4, 8, 4, unit=True)
    with pytest.raises(OptionError, match=r"a class has one image only.*give l2"):
        fit_probe(make_fake(), rows, targets, classes=LABELS, space="embeddings")
    assert fit_probe(make_fake(), rows, targets, classes=LABELS, space="embeddings", l2=1.0).labels == tuple(LABELS)


# ------------------------------------------------------------------------------------------------ from zero-shot


def zero(head: Head) -> Head:
    return replace(head, weight=torch.zeros_like(head.weight))


@pytest.mark.parametrize("l2", [0.1, 1.0, 10.0])
def test_from_weights_of_zero_it_is_scikit_learns(fake: Any, l2: float) -> None:
    rows, targets = blobs(60, 8, 4, unit=True)
    rows = rows.astype(np.float32)
    head = fit_probe(fake, rows, targets, anchor=zero(build_head(fake, LABELS, cache=False)), l2=l2)
    inputs = np.column_stack([rows.astype(np.float64), np.ones(60)])
    theirs = LogisticRegression(C=1 / l2, max_iter=1000, fit_intercept=False, tol=1e-9).fit(inputs, targets)
    effective = np.column_stack([head.logit_scale * head.weight.numpy(), head.bias.numpy()])  # type: ignore[union-attr]
    np.testing.assert_allclose(effective, theirs.coef_, atol=2e-5 * np.abs(theirs.coef_).max())
    assert np.abs(softmax(head, rows) - theirs.predict_proba(inputs)).max() < 1e-5


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_it_is_where_the_objective_has_no_slope(fake: Any, temperature: float) -> None:
    """The objective is written anew here, with autograd, in the weights themselves."""
    rows, targets = blobs(30, 8, 4, unit=True)
    anchor = replace(build_head(fake, LABELS, cache=False), temperature=temperature)
    head = fit_probe(fake, rows, targets, anchor=anchor, l2=0.7)
    assert head.temperature == temperature
    factor = anchor.logit_scale / temperature
    start = factor * anchor.weight.double()

    def slope(fitted: Head) -> float:
        weight = (factor * fitted.weight.double()).requires_grad_()
        bias = (fitted.bias.double() / temperature).requires_grad_()  # type: ignore[union-attr]
        scores = torch.from_numpy(rows) @ weight.T + bias
        loss = nn.functional.cross_entropy(scores, torch.from_numpy(targets), reduction="sum")
        (loss + 0.7 / 2 * ((weight - start).square().sum() + bias.square().sum())).backward()  # type: ignore[no-untyped-call]
        return max(float(each.grad.abs().max()) for each in (weight, bias))  # type: ignore[union-attr]

    assert slope(head) < 1e-4
    assert slope(replace(head, weight=head.weight + 0.01)) > 1e-2


def test_a_strong_pull_leaves_the_zero_shot_head(fake: Any) -> None:
    rows, targets = blobs(30, 8, 4, unit=True)
    anchor = build_head(fake, LABELS, cache=False)
    for l2, least, most in ((1e6, 0.0, 1e-4), (1e-3, 1.0, 1e3)):
        head = fit_probe(fake, rows, targets, anchor=anchor, l2=l2)
        change = float(
            (head.logits(torch.from_numpy(np.float32(rows))) - anchor.logits(torch.from_numpy(np.float32(rows))))
            .abs()
            .max()
        )
        assert least <= change < most


def test_images_that_say_nothing_leave_the_zero_shot_head_as_it_is(fake: Any) -> None:
    anchor = build_head(fake, LABELS, cache=False)
    rng = np.random.default_rng(0)
    targets = np.arange(4)
    names = [LABELS[target] for target in targets]
    # Each image is where its own name is, so zero-shot is right, and sure of it.
    rows = fake.encode_texts([f"a photo of a {name}." for name in names]).numpy()
    head = fit_probe(fake, rows, rng.permutation(names), anchor=anchor, space="embeddings")
    assert "l2 inf" in head.origin
    assert torch.equal(head.weight, anchor.weight)
    assert (head.digest, anchor.digest != "") == ("", True)


def test_images_that_say_much_move_it(fake: Any) -> None:
    anchor = build_head(fake, LABELS, cache=False)
    rows, targets = blobs(80, 8, 4, spread=0.4, unit=True)
    held, held_targets = blobs(80, 8, 4, spread=0.4, seed=1, unit=True)
    head = fit_probe(fake, rows, targets, anchor=anchor)
    before, after = ((softmax(each, held).argmax(axis=1) == held_targets).mean() for each in (anchor, head))
    assert before < 0.6 < 0.9 < after


def test_the_rows_of_the_background_stay(fake: Any) -> None:
    rows, targets = blobs(40, 8, 4, unit=True)
    anchor = build_head(fake, LABELS, background=["noise"], cache=False)
    head = fit_probe(fake, rows, targets, anchor=anchor, l2=1.0)
    assert (head.background, head.weight.shape, head.bias.shape) == (1, (5, 8), (5,))  # type: ignore[union-attr]


@pytest.mark.parametrize(("classes", "each", "parts"), [(2, 1, 2), (5, 1, 5), (12, 1, 10), (3, 2, 6), (4, 16, 10)])
def test_from_zero_shot_little_is_held_out_at_a_time(classes: int, each: int, parts: int) -> None:
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), each))
    found = _anchored_parts(targets, 0)
    assert len(found) == parts
    assert sorted(np.concatenate([held for _, held in found])) == list(range(len(targets)))
    for train, held in found:
        assert sorted([*train, *held]) == list(range(len(targets)))
        assert np.bincount(targets[held]).max() <= -(-each // parts) + (each > 1)
    assert len(_anchored_parts(np.repeat([0, 1], 30), 0)) == 1


# ------------------------------------------------------------------------------------------- what a head is good for


@pytest.fixture
def probe(clip: ClipEncoder) -> tuple[Head, list[Any], list[str]]:
    """A probe on features of the tiny checkpoint, with its images."""
    pictures, names = coloured()
    return fit_probe(clip, pictures, names, l2=0.01), pictures, names


def test_features_are_the_default_where_there_are_some(clip: ClipEncoder, fake: Any) -> None:
    pictures, names = coloured()
    head = fit_probe(clip, pictures, names, l2=1.0)
    assert (head.space, head.weight.shape) == ("features", (3, clip.feature_dim))
    assert head.fingerprint == feature_encoder(clip).fingerprint != clip.fingerprint
    rows = clip.encode_features(pictures).numpy()
    again = fit_probe(clip, rows, names, l2=1.0, space="features")
    np.testing.assert_allclose(again.weight.numpy(), head.weight.numpy(), atol=1e-5)
    embedded = fit_probe(clip, pictures, names, l2=1.0, space="embeddings")
    assert (embedded.space, embedded.weight.shape, embedded.fingerprint) == ("embeddings", (3, 32), clip.fingerprint)
    assert fit_probe(fake, pictures, names, l2=1.0).space == "embeddings"


def test_a_classifier_takes_it(probe: tuple[Head, list[Any], list[str]], clip: ClipEncoder, tmp_path: Path) -> None:
    head, pictures, names = probe
    head.save(tmp_path / "probe.safetensors")
    for form in (head, tmp_path / "probe.safetensors"):
        classifier = zeroshot.Classifier.from_head(form, model=clip)
        assert isinstance(classifier.encoder, FeatureEncoder)
        probabilities = classifier.predict_proba(pictures)
        expected = softmax(head, clip.encode_features(pictures).numpy())
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert [prediction.label for prediction in classifier(pictures)] == names
        streamed = list(classifier.stream([*pictures, "nowhere.jpg"], batch_size=5))
        assert [one.prediction and one.prediction.label for one in streamed] == [*names, None]
        assert isinstance(streamed[-1].error, ImageNotFoundError)
    loaded = Head.load(tmp_path / "probe.safetensors")
    assert torch.equal(loaded.bias, head.bias)  # type: ignore[arg-type]
    assert (loaded.space, loaded.origin, loaded.contents) == (head.space, head.origin, head.contents)


def test_it_loads_its_encoder_by_name(probe: tuple[Head, list[Any], list[str]]) -> None:
    head, pictures, names = probe
    assert zeroshot.Classifier.from_head(head, device="cpu")(pictures[0]).label == names[0]
    rows = BatchClassifier(head, device="cpu")({"image": pictures[:3]})
    assert rows["label"].tolist() == names[:3]


def test_files_are_classified_with_it(
    probe: tuple[Head, list[Any], list[str]], clip: ClipEncoder, tmp_path: Path
) -> None:
    from PIL import Image

    head, pictures, names = probe
    for index, picture in enumerate(pictures[:6]):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    classifier = zeroshot.Classifier.from_head(head, model=clip)
    embed_files(feature_encoder(clip), tmp_path, tmp_path / "features.safetensors", progress=False)
    embed_files(clip, tmp_path, tmp_path / "embeddings.safetensors", progress=False)
    kept = Embeddings.load(tmp_path / "features.safetensors")
    for source, out in ((tmp_path, "a.csv"), (kept, "b.csv")):
        assert classify_files(classifier, source, tmp_path / out, progress=False).count == 6
        lines = (tmp_path / out).read_text().splitlines()[1:]
        assert [line.split(",")[1] for line in lines] == names[:6]
    with pytest.raises(HeadError, match="another state of"):
        classify_files(classifier, Embeddings.load(tmp_path / "embeddings.safetensors"), tmp_path / "c.csv")
    again = fit_probe(clip, kept, names[:6], l2=0.01)
    assert again.space == "features"
    fitted = fit_probe(clip, pictures[:6], names[:6], l2=0.01)
    np.testing.assert_allclose(again.weight.numpy(), fitted.weight.numpy(), atol=1e-4)
    with pytest.raises(HeadError, match="say space="):
        fit_probe(clip, kept, names[:6], l2=0.01, space="embeddings")


def test_the_encoder_has_to_be_the_one_it_was_fitted_for(
    probe: tuple[Head, list[Any], list[str]], clip: ClipEncoder, fake: Any, make_checkpoint: Callable[..., Path]
) -> None:
    head, pictures, _ = probe
    changed = zeroshot.load(make_checkpoint(weights=lambda state: state["visual.ln_post.bias"].add_(1)), device="cpu")
    with pytest.raises(HeadError, match="another state of"):
        zeroshot.Classifier.from_head(head, model=changed)
    with pytest.raises(InputTypeError, match="FakeEncoder, which lacks encode_features"):
        zeroshot.Classifier.from_head(head, model=fake)
    with pytest.raises(HeadError, match=r"32 dimensions; the head .* expects features of encode_features"):
        head.logits(clip.encode_images(pictures[:1]))
    with pytest.raises(InputTypeError, match="are compared with no text"):
        feature_encoder(clip).encode_texts(["cat"])


def test_backbones_without_texts_get_probes(backbone: Any, tmp_path: Path) -> None:
    pictures, names = coloured(60)
    head = fit_probe(backbone, pictures, names)
    assert (head.space, head.weight.shape[1], head.model) == ("features", 32, "a ResNet of my own")
    head.save(tmp_path / "head")
    classifier = zeroshot.Classifier.from_head(tmp_path / "head", model=backbone)
    fresh, truth = coloured(30, seed=5)
    assert [prediction.label for prediction in classifier(fresh)] == truth
    assert [one.prediction.label for one in classifier.stream(fresh) if one.prediction] == truth


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (["cat"] * 4, {}, LabelError, "there is one class, 'cat'"),
        (["cat", "dog"], {}, OptionError, "images are 4, labels 2"),
        (["cat", "dog", "cat", "cow"], {"classes": ["cat", "dog"]}, LabelError, "label 'cow' is none of the classes"),
        (["cat", "dog"] * 2, {"classes": ["cat", "dog", "fox"]}, LabelError, "no image shows the class 'fox'"),
        (["cat", "dog"] * 2, {"classes": ["cat", "dog", "cat"]}, LabelError, "stands twice"),
        ([0, 1, 0, 1], {}, LabelError, "labels are positions, and no classes"),
        ([0, 1, 0, 2], {"classes": ["cat", "dog"]}, LabelError, "label 2 is no class"),
        ([0, "dog", 0, 1], {"classes": ["cat", "dog"]}, InputTypeError, "labels are of type int and str"),
        ([0.0, 1.0, 0.0, 1.0], {"classes": ["cat", "dog"]}, InputTypeError, "labels are of type float, such as 0.0"),
        ([], {}, OptionError, "labels is empty"),
        ("catdog", {}, InputTypeError, "labels is of type str"),
        (["cat", "dog"] * 2, {"l2": 0}, OptionError, "l2 is 0"),
        (["cat", "dog"] * 2, {"l2": math.inf}, OptionError, "l2 is inf"),
        (["cat", "dog"] * 2, {"l2": 1.0, "space": None}, OptionError, "does not tell what it is"),
        (["cat", "dog"] * 2, {"l2": 1.0, "space": "pixels"}, OptionError, "space is 'pixels'"),
        (["cat", "dog"] * 2, {"space": "features"}, InputTypeError, "lacks encode_features"),
        (["cat", "dog"] * 2, {"l2": 1.0, "validation": (np.eye(8)[:2], ["cat", "dog"])}, OptionError, "both given"),
        (["cat", "dog"] * 2, {"validation": (np.eye(8)[:2], ["cat"])}, OptionError, "images are 2, labels 1"),
    ],
)
def test_what_does_not_fit_is_told(
    fake: Any, labels: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit_probe(fake, np.eye(8)[:4], labels, **({"space": "embeddings"} | options))


def test_arrays_that_do_not_fit_are_told(fake: Any) -> None:
    for rows, message in (
        (np.ones((4, 7)), r"shape \(4, 7\); expected \(n_images, 8\)"),
        (2 * np.eye(8)[:4], "lengths from 2 to 2"),
        (np.full((4, 8), np.nan), "NaN"),
    ):
        with pytest.raises(OptionError, match=message):
            fit_probe(fake, rows, ["a", "b"] * 2, space="embeddings", l2=1.0)


def test_anchors_that_do_not_fit_are_told(fake: Any, make_fake: Any) -> None:
    rows = np.eye(8)[:4]
    anchor = build_head(fake, LABELS, cache=False)
    other = make_fake()
    other.fingerprint = "another"
    with pytest.raises(HeadError, match="the anchor was built with another state"):
        fit_probe(other, rows, LABELS, anchor=anchor, l2=1.0)
    with pytest.raises(OptionError, match="classes are 2 other than the 4 labels of the anchor"):
        fit_probe(fake, rows, LABELS, anchor=anchor, classes=["cat", "dog"])
    with pytest.raises(OptionError, match="the anchor reads embeddings"):
        fit_probe(fake, rows, LABELS, anchor=anchor, space="features")
    with pytest.raises(OptionError, match="standardize and anchor"):
        fit_probe(fake, rows, LABELS, anchor=anchor, standardize=True)


def test_an_image_that_cannot_be_read_is_named(clip: ClipEncoder) -> None:
    pictures, names = coloured(6)
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.jpg"):
        fit_probe(clip, [*pictures[:5], "nowhere.jpg"], names, l2=1.0)


def test_without_scikit_learn_the_extra_is_named(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    found = importlib.import_module

    def refuse(name: str) -> Any:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return found(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"zeroshot-clip\[probe\]"):
        fit_probe(fake, np.eye(8)[:4], ["a", "b"] * 2, space="embeddings", l2=1.0)


def test_names_are_sorted_unless_they_are_given() -> None:
    names, targets = as_targets(["dog", "cat", "dog"], None)
    assert (names, targets.tolist()) == (("cat", "dog"), [1, 0, 1])
    names, targets = as_targets(("dog", "cat", "dog"), ["dog", "cat"])
    assert (names, targets.tolist()) == (("dog", "cat"), [0, 1, 0])
    names, targets = as_targets(np.array([1, 0]), ["same", "same"])
    assert (names, targets.tolist()) == (("same", "same"), [1, 0])
