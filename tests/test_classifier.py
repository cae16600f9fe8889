"""From images to predictions: probabilities that sum to one, in order, told apart by position."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zeroshot
from zeroshot import Classifier, Match, Prediction, build_head, classify
from zeroshot.classifier import as_encoder
from zeroshot.clip import ClipEncoder
from zeroshot.errors import (
    HeadError,
    ImageError,
    ImageNotFoundError,
    InputTypeError,
    LabelError,
    ModelNotFoundError,
    OptionError,
    PromptError,
)

Make = Callable[..., Path]
LABELS = ["cat", "dog", "aardvark"]


@pytest.fixture
def fake_classifier(fake: Any) -> Classifier:
    """A classifier of the words themselves: the "image" ``"cat"`` has the embedding of the text ``"cat"``."""
    return Classifier(LABELS, model=fake, prompts="{}", cache=False)


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# ----------------------------------------------------------------------------------------------------- predictions


def prediction(probabilities: list[float], labels: list[str] | None = None, **options: Any) -> Prediction:
    names = labels or [f"label{i}" for i in range(len(probabilities))]
    return Prediction(np.array(probabilities, dtype=np.float32), tuple(names), **options)


def test_a_prediction_names_its_best_class() -> None:
    result = prediction([0.25, 0.5, 0.125, 0.125], ["cat", "dog", "emu", "fox"])
    assert (result.label, result.score, result.index) == ("dog", 0.5, 1)
    assert result.labels == ("cat", "dog", "emu", "fox")
    assert isinstance(result.score, float)
    assert isinstance(result.index, int)


def test_repeated_labels_are_told_apart_by_position() -> None:
    result = prediction([0.125, 0.25, 0.625], ["missile", "crane", "missile"])
    assert (result.label, result.index) == ("missile", 2)
    assert result.top(3) == [("missile", 0.625, 2), ("crane", 0.25, 1), ("missile", 0.125, 0)]


def test_top_is_sorted_and_ties_go_to_the_earlier_label() -> None:
    result = prediction([0.125, 0.25, 0.125, 0.25, 0.125, 0.125])
    assert [match.index for match in result.top(6)] == [1, 3, 0, 2, 4, 5]
    for k in range(1, 7):
        assert result.top(k) == result.top(6)[:k]
    assert result.top(1) == [Match("label1", 0.25, 1)]
    assert result.index == 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 40))
def test_top_is_a_stable_sort(values: list[int], k: int) -> None:
    result = prediction([value / 8 for value in values])
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert [match.index for match in result.top(k)] == expected
    assert [match.score for match in result.top(k)] == [values[i] / 8 for i in expected]
    assert result.index == expected[0]


def test_ties_at_the_edge_go_to_the_earlier_label() -> None:
    values = [0.25] * 400
    for index in (7, 250, 399):
        values[index] = 0.5
    assert [match.index for match in prediction(values).top(6)] == [7, 250, 399, 0, 1, 2]


def test_top_gives_as_many_as_it_was_made_for() -> None:
    result = prediction([0.1] * 10)
    assert len(result.top()) == 5
    assert len(prediction([0.1] * 10, top_k=2).top()) == 2
    assert len(prediction([0.5, 0.5]).top()) == 2  # there are no more


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", None])
def test_top_of_nothing_is_refused(k: Any, fake_classifier: Classifier, open_clip_folder: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fake_classifier(["cat"], top_k=k),
        lambda: classify(["cat"], LABELS, model=open_clip_folder, top_k=k),
    ]
    if k is not None:
        calls.append(lambda: prediction([1.0]).top(k))
    for call in calls:
        with pytest.raises(OptionError, match=f"top_k is {k!r}; expected a whole number of at least 1"):
            call()


def test_whole_numbers_of_numpy_are_whole_numbers(fake_classifier: Classifier) -> None:
    assert len(prediction([0.5, 0.5]).top(np.int64(1))) == 1  # type: ignore[arg-type]
    assert len(fake_classifier(["cat"], top_k=np.int64(2))[0].top()) == 2  # type: ignore[call-overload]


def test_repr_is_one_line() -> None:
    result = prediction([0.9, 0.0996, 0.0004], ["cat", "dog", "emu"])
    assert repr(result) == "Prediction('cat', 90.0%; dog 10.0%, emu 0.0%)"
    assert repr(prediction([1.0], ["cat"])) == "Prediction('cat', 100.0%)"


def test_str_is_a_table_with_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = str(prediction([0.75, 0.25, 0.0], ["cat", "aardvark", "x"])).splitlines()
    assert lines == [
        "cat        75.0%  " + "█" * 15,
        "aardvark   25.0%  " + "█" * 5,
        "x           0.0%",
    ]
    assert str(prediction([0.125, 0.875], ["a", "b"])).splitlines()[1].endswith("██▌")


def test_str_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    (line, _) = str(prediction([1.0, 0.0], ["a very long name " * 10, "b"])).splitlines()
    assert len(line) <= 60
    assert "…" in line
    monkeypatch.setenv("COLUMNS", "1")
    assert "100.0%" in str(prediction([1.0], ["a very long name"]))


def test_the_notebook_shows_names_as_they_are() -> None:
    html = prediction([0.75, 0.25], ["<script>alert('x')</script>", "cat & dog"])._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "cat &amp; dog" in html
    assert "75.0%" in html
    assert html.index("75.0%") < html.index("25.0%")


def test_probabilities_that_are_no_numbers_are_an_error_rather_than_a_class() -> None:
    # A checkpoint with a NaN in it, or one that overflows in half precision, has no best class.
    with pytest.raises(ValueError, match=r"(?i)nan|finite"):
        prediction([float("nan"), float("nan")])


# ------------------------------------------------------------------------------------- none of these, several of these


def test_below_the_threshold_there_is_no_label() -> None:
    values, labels = [0.5, 0.25, 0.25], ["cat", "dog", "emu"]
    sure, unsure = prediction(values, labels, threshold=0.5), prediction(values, labels, threshold=0.51)
    assert (sure.label, sure.index, sure.score) == ("cat", 0, 0.5)
    assert (unsure.label, unsure.index, unsure.score) == (None, None, 0.5)
    assert unsure.top(1) == [("cat", 0.5, 0)]
    assert [match.label for match in prediction(values, labels).above(0.25)] == ["cat", "dog", "emu"]
    assert [match.label for match in sure.above()] == ["cat"]
    assert unsure.above() == []


def test_a_background_that_is_more_probable_leaves_no_label() -> None:
    assert prediction([0.4, 0.1], background=0.5).label is None
    assert prediction([0.5, 0.1], background=0.4).label == "label0"
    assert prediction([0.5, 0.0], background=0.5).label == "label0"  # as ties go: to the label


def test_no_label_is_shown_as_such_everywhere() -> None:
    nothing = prediction([0.25, 0.125], ["cat", "dog"], background=0.625)
    assert repr(nothing) == "Prediction(None; (none of these) 62.5%, cat 25.0%, dog 12.5%)"
    assert str(nothing).splitlines()[0].startswith("(none of these)   62.5%")
    assert "none of these" in nothing._repr_html_()


def test_background_classes_take_their_share(fake: Any) -> None:
    classifier = Classifier(LABELS, model=fake, prompts="{}", background=["noise", "fog"], cache=False)
    plain = Classifier([*LABELS, "noise", "fog"], model=fake, prompts="{}", cache=False)
    images = ["cat", "noise", "fog", "dog"]
    expected = plain.predict_proba(images)
    np.testing.assert_allclose(classifier.predict_proba(images), expected[:, :3], atol=1e-6)
    results = classifier(images)
    assert [result.label for result in results] == ["cat", None, None, "dog"]
    assert [result.index for result in results] == [0, None, None, 1]
    np.testing.assert_allclose([r.background for r in results], expected[:, 3:].sum(axis=1), atol=1e-6)
    assert classifier.labels == tuple(LABELS)
    assert all(result.labels == tuple(LABELS) for result in results)


def test_several_labels_are_scored_each_by_itself(make_fake: Any) -> None:
    encoder = make_fake(scale=10.0, bias=-9.0)
    classifier = Classifier(LABELS, model=encoder, prompts="{}", multi_label=True, cache=False)
    logits = 10.0 * np.array([[encoder.vector("cat") @ encoder.vector(label) for label in LABELS]]) - 9.0
    np.testing.assert_allclose(classifier.predict_proba("cat"), 1 / (1 + np.exp(-logits)), atol=1e-6)
    result = classifier("cat", threshold=0.5)
    assert result.multi_label
    expected = {label for label, logit in zip(LABELS, logits[0], strict=True) if logit > 0}
    assert {match.label for match in result.above()} == expected
    assert expected == {"cat"}


def test_several_labels_need_a_checkpoint_trained_for_them(fake: Any, make_fake: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="multi_label needs a checkpoint that was trained with a sigmoid"):
        Classifier(LABELS, model=fake, multi_label=True)
    build_head(fake, LABELS).save(tmp_path / "head")
    with pytest.raises(OptionError, match="multi_label needs"):
        Classifier.from_head(tmp_path / "head", model=fake, multi_label=True)
    with pytest.raises(OptionError, match="multi_label and background"):
        Classifier(LABELS, model=make_fake(bias=-3.0), multi_label=True, background=["noise"])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "0.5", None])
def test_a_threshold_is_a_probability(fake_classifier: Classifier, threshold: Any) -> None:
    with pytest.raises((OptionError, InputTypeError), match="threshold"):
        fake_classifier(["cat"], threshold=threshold)


@pytest.mark.parametrize("background", ["noise", [""], [3], {"noise", "fog"}])
def test_a_background_that_cannot_be_used_is_named_so(fake: Any, background: Any) -> None:
    with pytest.raises((LabelError, InputTypeError), match="background"):
        Classifier(LABELS, model=fake, background=background)


# ---------------------------------------------------------------------------------------------------- probabilities


def test_probabilities_are_the_softmax_of_scaled_cosines(fake: Any, fake_classifier: Classifier) -> None:
    images = ["cat", "dog", "something else"]
    result = fake_classifier.predict_proba(images)
    assert result.shape == (3, 3)
    assert result.dtype == np.float32
    cosines = np.stack([[fake.vector(i) @ fake.vector(label) for label in LABELS] for i in images])
    np.testing.assert_allclose(result, softmax(12.5 * cosines), atol=1e-6)
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)
    assert result[0].argmax() == 0
    assert result[1].argmax() == 1


@pytest.mark.parametrize(("scale", "bias"), [(1.0, None), (56.99, None), (1000.0, None), (12.5, -10.0), (117.0, -12.9)])
def test_the_scale_is_the_encoders(make_fake: Any, scale: float, bias: float | None) -> None:
    encoder = make_fake(scale=scale, bias=bias)
    classifier = Classifier(LABELS, model=encoder, prompts="{}", cache=False)
    cosines = np.stack([[encoder.vector("a picture") @ encoder.vector(label) for label in LABELS]])
    result = classifier.predict_proba(["a picture"])
    np.testing.assert_allclose(result, softmax(scale * cosines), atol=1e-4)
    assert np.isfinite(result).all()


def test_rows_sum_to_one_for_many_classes(fake: Any) -> None:
    classifier = Classifier([f"class {i}" for i in range(3000)], model=fake, cache=False)
    np.testing.assert_allclose(classifier.predict_proba(["a", "b"]).sum(axis=1), 1, atol=1e-5)


def test_one_class_has_probability_one(fake: Any) -> None:
    with pytest.warns(UserWarning, match="'cat' is the only label and gets the probability 1") as caught:
        classifier = Classifier(["cat"], model=fake, cache=False)
    assert classifier.predict_proba("anything").tolist() == [[1.0]]
    assert [one.filename for one in caught] == [__file__]
    Classifier(["cat"], model=fake, background=["something else"], cache=False)


def test_half_precision_is_scored_in_full(open_clip_folder: Path, pictures: list[Any]) -> None:
    classifier = Classifier(LABELS, model=open_clip_folder, dtype="bfloat16", device="cpu")
    result = classifier.predict_proba(pictures)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- what goes in


def test_one_in_one_out(fake_classifier: Classifier) -> None:
    result = fake_classifier("cat")
    assert isinstance(result, Prediction)
    assert result.label == "cat"
    assert fake_classifier.predict_proba("cat").shape == (1, 3)


@pytest.mark.parametrize(
    "images", [["dog", "cat", "dog"], ("dog", "cat", "dog"), np.array(["dog", "cat", "dog"], dtype=object)]
)
def test_a_sequence_in_a_list_out(fake_classifier: Classifier, images: Any) -> None:
    results = fake_classifier(list(images))
    assert isinstance(results, list)
    assert [result.label for result in results] == ["dog", "cat", "dog"]
    assert isinstance(fake_classifier(["cat"]), list)


def test_a_generator_in_a_list_out(fake_classifier: Classifier) -> None:
    assert [result.label for result in fake_classifier(name for name in ("dog", "cat"))] == ["dog", "cat"]
    assert fake_classifier.predict_proba(name for name in ("dog", "cat")).shape == (2, 3)


def test_nothing_in_nothing_out(fake_classifier: Classifier) -> None:
    assert fake_classifier([]) == []
    assert fake_classifier.predict_proba([]).shape == (0, 3)
    assert fake_classifier.predict_proba([]).dtype == np.float32
    assert fake_classifier(iter(())) == []


def test_an_array_of_images_is_several(open_clip_folder: Path, clip: Any) -> None:
    classifier = Classifier(LABELS, model=clip)
    images = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    assert len(classifier(images)) == 4
    assert isinstance(classifier(images[0]), Prediction)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_order_does_not_depend_on_the_batch(fake: Any, fake_classifier: Classifier, batch_size: int) -> None:
    names = [LABELS[i % 3] for i in range(7)]
    results = fake_classifier(names, batch_size=batch_size)
    assert [result.label for result in results] == names
    assert [len(batch) for batch in fake.images] == [min(batch_size, 7 - start) for start in range(0, 7, batch_size)]


def test_a_stream_of_images_is_not_held_in_memory(fake: Any, fake_classifier: Classifier) -> None:
    # Only a batch at a time: a generator over a data set must not have to fit in memory.
    drawn = 0

    def stream() -> Iterator[str]:
        nonlocal drawn
        for _ in range(20):
            drawn += 1
            yield "cat"

    seen: list[int] = []
    original = fake.encode_images
    fake.encode_images = lambda images: seen.append(drawn) or original(images)
    assert len(fake_classifier(stream(), batch_size=4)) == 20
    assert seen == [4, 8, 12, 16, 20]


def test_a_batch_may_be_larger_than_the_encoders_own(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr("zeroshot.clip.in_lanes", lambda encode, batch: encode(batch))  # as on a GPU: all at once
    hook = clip.vision.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    try:
        Classifier(LABELS, model=clip).predict_proba(np.zeros((40, 32, 32, 3), dtype=np.uint8), batch_size=40)
    finally:
        hook.remove()
    assert sizes == [40]


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", None])
def test_a_batch_size_that_is_no_positive_whole_number(fake_classifier: Classifier, batch_size: Any) -> None:
    with pytest.raises((OptionError, InputTypeError), match="batch_size"):
        fake_classifier(["cat"], batch_size=batch_size)


def test_mapping_labels(fake: Any) -> None:
    classifier = Classifier({"pet": ["cat", "dog"], "wild": "aardvark"}, model=fake, prompts="{}", cache=False)
    assert classifier.labels == ("pet", "wild")
    assert [result.label for result in classifier(["cat", "dog", "aardvark"])] == ["pet", "pet", "wild"]


@pytest.mark.filterwarnings("ignore:label .* reads like label")
def test_repeated_labels_are_two_columns(fake: Any) -> None:
    classifier = Classifier(["cat", "dog", "cat"], model=fake, prompts="{}", cache=False)
    probabilities = classifier.predict_proba("cat")[0]
    assert probabilities.shape == (3,)
    assert probabilities[0] == pytest.approx(probabilities[2])
    assert classifier("cat").index == 0


def test_classes_of_the_prompt_set_are_the_default(fake: Any) -> None:
    classifier = Classifier(model=fake, prompts="cifar10", cache=False)
    assert classifier.labels == zeroshot.load_prompts("cifar10").classes
    with pytest.raises(LabelError, match="no labels were given"):
        Classifier(model=fake)


def test_a_classifier_says_what_it_is(fake_classifier: Classifier) -> None:
    assert repr(fake_classifier).startswith("<Classifier: 3 classes (cat, dog, aardvark) with ")


# ---------------------------------------------------------------------------------------------------- a saved head


def test_a_saved_head_gives_the_same_predictions_without_the_text_tower(
    open_clip_folder: Path, clip: Any, pictures: list[Any], tmp_path: Path
) -> None:
    built = Classifier(LABELS, model=open_clip_folder, device="cpu")
    built.head.save(tmp_path / "own.safetensors")
    for head in (tmp_path / "own.safetensors", str(tmp_path / "own.safetensors"), built.head):
        encoder = zeroshot.load(open_clip_folder, device="cpu")
        loaded = Classifier.from_head(head, model=encoder)
        assert loaded.labels == tuple(LABELS)
        np.testing.assert_array_equal(loaded.predict_proba(pictures), built.predict_proba(pictures))
        assert "text" not in vars(encoder)


def test_a_saved_head_finds_its_encoder(open_clip_folder: Path, tmp_path: Path, pictures: list[Any]) -> None:
    build_head(zeroshot.load(open_clip_folder), LABELS).save(tmp_path / "own")
    classifier = Classifier.from_head(tmp_path / "own", device="cpu")
    assert classifier.encoder.name == str(open_clip_folder)
    assert classifier.predict_proba(pictures).shape == (9, 3)


def test_a_head_of_another_encoder_is_refused(
    clip: Any, fake: Any, open_clip_folder: Path, make_checkpoint: Make
) -> None:
    head = build_head(clip, LABELS)
    other = make_checkpoint(weights=lambda state: state["ln_final.bias"].add_(1))
    for model in (fake, other, zeroshot.load(open_clip_folder, dtype="bfloat16")):
        with pytest.raises(HeadError, match=r"(another state|pass dtype='float32').*, or build the head again"):
            Classifier.from_head(head, model=model)


def test_a_head_that_does_not_exist(tmp_path: Path, fake: Any) -> None:
    with pytest.raises(HeadError, match=r"nowhere.* cannot be read as a head"):
        Classifier.from_head(tmp_path / "nowhere", model=fake)


def test_a_copied_checkpoint_serves_the_heads_of_the_original(
    clip: Any, open_clip_folder: Path, tmp_path: Path
) -> None:
    head = build_head(clip, LABELS)
    copy = shutil.copytree(open_clip_folder, tmp_path / "copy")
    assert Classifier.from_head(head, model=copy).encoder.name == str(copy)


# --------------------------------------------------------------------------------------------------------- encoders


@pytest.mark.parametrize(
    "lacking", ["name", "dim", "device", "logit_scale", "logit_bias", "fingerprint", "encode_images", "encode_texts"]
)
def test_a_model_that_lacks_a_member_is_told_which(fake: Any, lacking: str) -> None:
    members = {name: getattr(fake, name) for name in dir(fake) if not name.startswith("_") and name != lacking}
    model = type("Almost", (), members)()
    with pytest.raises(
        InputTypeError, match=rf"model is of type Almost, which lacks {lacking}; expected a name such as"
    ):
        Classifier(LABELS, model=model)


@pytest.mark.parametrize("model", [None, 3, object(), ["mini"], b"mini"])
def test_a_model_of_another_type(model: Any) -> None:
    with pytest.raises(
        InputTypeError, match=f"model is of type {type(model).__name__}, which lacks device, dim, encode_im"
    ):
        classify("cat.jpg", LABELS, model=model)


def test_an_encoder_is_used_as_it_is(fake: Any, clip: Any, open_clip_folder: Path) -> None:
    assert as_encoder(fake) is fake
    assert as_encoder(clip) is clip
    assert as_encoder(open_clip_folder) is as_encoder(str(open_clip_folder))  # loaded once
    assert as_encoder(open_clip_folder, dtype="bfloat16") is as_encoder(open_clip_folder, dtype=torch.bfloat16)


def test_a_relative_path_means_the_working_folder(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprints = []
    for name, shift in (("first", 0.0), ("second", 1.0)):
        make_checkpoint(weights=lambda state, shift=shift: state["ln_final.bias"].add_(shift), name=f"{name}-model")
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}-model").rename(tmp_path / name / "model")
        monkeypatch.chdir(tmp_path / name)
        fingerprints.append(as_encoder("./model").fingerprint)
    assert fingerprints[0] != fingerprints[1]


# --------------------------------------------------------------------------------------------------------- classify


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a checkpoint was loaded and texts were embedded."""
    counts = {"loads": 0, "texts": 0}
    encode, init = ClipEncoder.encode_texts, ClipEncoder.__init__

    def counted_encode(self: ClipEncoder, texts: Any) -> torch.Tensor:
        counts["texts"] += 1
        return encode(self, texts)

    def counted_init(self: ClipEncoder, *args: Any, **options: Any) -> None:
        counts["loads"] += 1
        init(self, *args, **options)

    monkeypatch.setattr(ClipEncoder, "encode_texts", counted_encode)
    monkeypatch.setattr(ClipEncoder, "__init__", counted_init)
    return counts


def test_classify_keeps_encoder_and_head_for_the_next_call(
    make_checkpoint: Make, pictures: list[Any], calls: dict[str, int], tmp_path: Path
) -> None:
    folder = make_checkpoint()
    first = classify(pictures[0], LABELS, model=folder, device="cpu")
    assert calls == {"loads": 1, "texts": 1}
    shutil.rmtree(tmp_path / "zeroshot-cache")  # what is kept is kept in memory too
    for labels, model in ((LABELS, folder), (tuple(LABELS), folder), (LABELS, str(folder))):
        again = classify(pictures[0], labels, model=model, device="cpu")
        np.testing.assert_array_equal(again.probabilities, first.probabilities)
    assert calls == {"loads": 1, "texts": 1}
    classify(pictures[0], LABELS[::-1], model=folder, device="cpu")
    classify(pictures[0], LABELS, prompts="a {}", model=folder, device="cpu")
    assert calls == {"loads": 1, "texts": 3}


def test_classify_keeps_the_head_of_a_whole_prompt_set(
    make_checkpoint: Make, pictures: list[Any], calls: dict[str, int], tmp_path: Path
) -> None:
    folder = make_checkpoint()
    for _ in range(2):
        assert classify(pictures[0], prompts="cifar10", model=folder, device="cpu").labels[0] == "airplane"
        shutil.rmtree(tmp_path / "zeroshot-cache", ignore_errors=True)
    assert calls == {"loads": 1, "texts": 1}


def test_classify_takes_a_prompt_set_made_of_a_list(open_clip_folder: Path, pictures: list[Any]) -> None:
    prompts = zeroshot.PromptSet(["a {}", "the {}"])  # type: ignore[arg-type]
    assert classify(pictures[0], LABELS, prompts=prompts, model=open_clip_folder, device="cpu").labels == tuple(LABELS)


def test_classify_asks_a_function_again(open_clip_folder: Path, pictures: list[Any], calls: dict[str, int]) -> None:
    asked: list[str] = []

    def changing(label: str) -> list[str]:
        asked.append(label)
        return [f"{label} number {len(asked)}"]

    for _ in range(2):
        classify(pictures[0], ["cat", "dog"], prompts=changing, model=open_clip_folder, device="cpu")
    assert asked == ["cat", "dog"] * 2
    assert calls["texts"] == 2


def test_classify_is_a_classifier(open_clip_folder: Path, pictures: list[Any]) -> None:
    classifier = Classifier(LABELS, model=open_clip_folder, device="cpu", prompts=["a {}", "the {}"])
    results = classify(pictures, LABELS, model=open_clip_folder, device="cpu", prompts=["a {}", "the {}"], top_k=2)
    expected = classifier.predict_proba(pictures)
    np.testing.assert_array_equal(np.stack([result.probabilities for result in results]), expected)
    assert all(len(result.top()) == 2 for result in results)
    assert isinstance(classify(pictures[0], LABELS, model=open_clip_folder), Prediction)


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        ([], {}, LabelError, "labels is empty"),
        (["cat", ""], {}, LabelError, "label 1 is blank"),
        (["cat", "  "], {}, LabelError, "label 1 is blank"),
        ("cat", {}, LabelError, "labels is the string 'cat'; expected a list of names"),
        (None, {}, LabelError, "no labels were given"),
        ({"cat", "dog"}, {}, InputTypeError, "labels is a set, which has no order"),
        (["cat", 3], {}, InputTypeError, "label 1 is 3 of type int"),
        (LABELS, {"prompts": "a photo"}, PromptError, "needs the slot {}"),
        (LABELS, {"prompts": ["a photo"]}, PromptError, "template 'a photo' has 0 slots"),
        (LABELS, {"prompts": "a {} of {}"}, PromptError, "has 2 slots; expected exactly one {}"),
        (LABELS, {"prompts": "{0.__class__}"}, PromptError, "has 0 slots"),
        (LABELS, {"prompts": "imagnet"}, PromptError, "did you mean 'imagenet'"),
        (LABELS, {"model": "ViT-B-32/nothing"}, ModelNotFoundError, "ViT-B-32/"),
        (LABELS, {"model": "ViT-B-32"}, ModelNotFoundError, "is an architecture"),
        (LABELS, {"model": "a description of a model " * 20}, ModelNotFoundError, "available_models()"),
        (LABELS, {"dtype": "float64"}, OptionError, "dtype is 'float64'"),
        (LABELS, {"device": "nonsense"}, RuntimeError, "device 'nonsense'"),
        (LABELS, {"top_k": 0}, OptionError, "top_k is 0"),
    ],
)
def test_mistakes_have_a_message(
    open_clip_folder: Path, pictures: list[Any], labels: Any, options: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error) as caught:
        classify(pictures[0], labels, **({"model": open_clip_folder, "device": "cpu"} | options))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("nowhere.jpg", ImageNotFoundError, "no image at 'nowhere.jpg'"),
        (b"not a picture", ImageError, "the image of 13 bytes is no image"),
        (np.zeros((0, 4, 3), np.uint8), ImageError, "array of shape (0, 4, 3) has no pixels"),
        (np.zeros((3, 8, 8), np.uint8), ImageError, "expected (H, W), (H, W, 3) or (H, W, 4), channels last"),
        (np.zeros((8, 8, 3)), ImageError, "of dtype float64; expected uint8"),
        (None, InputTypeError, "images is of type NoneType"),
        ([None], InputTypeError, "an image is of type NoneType"),
        (torch.zeros(3, 8, 8), InputTypeError, "Tensor"),
        ([torch.zeros(3, 8, 8)], InputTypeError, "tensor.permute(1, 2, 0).numpy()"),
        ([["nested.jpg"]], InputTypeError, "an image is of type list"),
    ],
)
def test_images_that_cannot_be_used(open_clip_folder: Path, image: Any, error: Any, message: str) -> None:
    with pytest.raises(error) as caught:
        classify(image, LABELS, model=open_clip_folder, device="cpu")
    assert message in str(caught.value)


def test_one_broken_image_of_many_is_named(open_clip_folder: Path, pictures: list[Any], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        classify([*pictures, tmp_path / "broken.png"], LABELS, model=open_clip_folder, device="cpu")


def test_classify_notices_a_checkpoint_that_was_written_anew(make_checkpoint: Make, pictures: list[Any]) -> None:
    folder = make_checkpoint(weights=lambda state: None, name="trained")
    before = classify(pictures[0], LABELS, model=folder, device="cpu")
    make_checkpoint(weights=lambda state: state["visual.ln_post.bias"].add_(1), name="trained")
    after = classify(pictures[0], LABELS, model=folder, device="cpu")
    assert np.abs(before.probabilities - after.probabilities).max() > 1e-3


def test_classify_takes_threshold_and_background(open_clip_folder: Path, pictures: list[Any]) -> None:
    options: dict[str, Any] = {"model": open_clip_folder, "device": "cpu"}
    assert classify(pictures[0], LABELS, threshold=1.0, **options).label is None
    plain = classify(pictures[0], LABELS, **options)
    with_background = classify(pictures[0], LABELS, background=["noise"], **options)
    assert with_background.background > 0
    assert with_background.probabilities.sum() + with_background.background == pytest.approx(1, abs=1e-6)
    ratio = with_background.probabilities / plain.probabilities
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("labels", "prompts", "error"),
    [
        ([], None, LabelError),
        (["cat", " "], None, LabelError),
        (None, None, LabelError),
        (["cat"], "{} {}", PromptError),
    ],
)
def test_mistakes_are_told_before_a_checkpoint_is_looked_for(labels: Any, prompts: Any, error: type[Exception]) -> None:
    # This one would have to be fetched, which offline is an error of its own.
    for run in (Classifier, lambda *a, **k: classify("cat.jpg", *a, **k)):
        with pytest.raises(error):
            run(labels, model="hf-hub:owner/six-gigabytes", prompts=prompts)


def test_scoring_in_blocks_changes_nothing(clip: ClipEncoder, monkeypatch: pytest.MonkeyPatch, pictures: Any) -> None:
    classifier = zeroshot.Classifier([f"thing {number}" for number in range(50)], model=clip, cache=False)
    expected = classifier.predict_proba(pictures)
    sizes: list[int] = []
    probabilities = zeroshot.Head.probabilities

    def counted(head: Any, embeddings: torch.Tensor, **options: Any) -> torch.Tensor:
        sizes.append(len(embeddings))
        return probabilities(head, embeddings, **options)

    monkeypatch.setattr(zeroshot.Head, "probabilities", counted)
    monkeypatch.setattr("zeroshot.classifier._SCORES_PER_BLOCK", 220)
    np.testing.assert_allclose(classifier.predict_proba(pictures), expected, atol=1e-6)
    assert sizes == [4, 4, 1]
    for predictions in (classifier(pictures), [one.prediction for one in classifier.stream(pictures)]):
        assert [one.index for one in predictions] == expected.argmax(axis=1).tolist()
    monkeypatch.setattr("zeroshot.classifier._SCORES_PER_BLOCK", 1)  # fewer than one row: one at a time then
    np.testing.assert_allclose(classifier.predict_proba(pictures), expected, atol=1e-6)


def test_a_prediction_that_is_kept_keeps_no_others(clip: ClipEncoder, pictures: Any) -> None:
    classifier = zeroshot.Classifier(["cat", "dog", "car"], model=clip, cache=False)
    for prediction in (classifier(pictures)[0], next(iter(classifier.stream(pictures))).prediction):
        assert prediction.probabilities.base is None
        assert prediction.probabilities.nbytes == 3 * 4


# ---------------------------------------------------------------------------------------------------------- pickling


def _probabilities(classifier: Classifier, images: list[Any]) -> npt.NDArray[np.float32]:
    return classifier.predict_proba(images)


@pytest.mark.parametrize("process", ["this one", pytest.param("another", marks=pytest.mark.extra)])
def test_a_classifier_is_pickled_without_weights(clip: ClipEncoder, pictures: list[Any], process: str) -> None:
    classifier = Classifier(["cat", "dog"], model=clip, cache=False)
    expected = classifier.predict_proba(pictures)
    if process == "another":
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(_probabilities, classifier, pictures).result()
    else:
        found = pickle.loads(pickle.dumps(classifier)).predict_proba(pictures)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(copy.deepcopy(classifier).predict_proba(pictures), classifier.predict_proba(pictures))
