"""Evaluations: numbers against scikit-learn, every kind of classifier, what cannot be measured, the files written."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.colours import COLOURS, ColourEncoder, mixed, write_tree
from zeroshot import Classifier, evaluate
from zeroshot.errors import HeadError, ImageError, LabelError, OptionError, PromptError
from zeroshot.evaluation import UnmeasuredWarning
from zeroshot.jobs import embed_files
from zeroshot.prompts import METRICS, PromptSet

pytestmark = pytest.mark.filterwarnings("ignore:not every image")  # broken ones are what is tested


@pytest.fixture
def encoder() -> ColourEncoder:
    return ColourEncoder()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "pictures")


def probabilities(tree: Path, encoder: ColourEncoder, labels: list[str]) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Score the folder by hand."""
    names = sorted(COLOURS)
    files = [(path, names.index(name)) for name in names for path in sorted((tree / name).iterdir())]
    classifier = Classifier(labels, model=encoder, prompts="{}", cache=False)
    return classifier.predict_proba([path for path, _ in files]), [target for _, target in files]


# ----------------------------------------------------------------------------------------------------------- numbers


def test_the_numbers_are_those_of_scikit_learn(tree: Path, encoder: ColourEncoder) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    found = evaluate(tree, model=encoder, prompts="{}")
    rows, targets = probabilities(tree, encoder, sorted(COLOURS))
    predicted = rows.argmax(axis=1)
    assert found.n_images == len(targets) == 70
    assert found.labels == tuple(sorted(COLOURS))
    values = {name: one.value for name, one in found.metrics.items()}
    assert values["top_1"] == pytest.approx(sklearn.accuracy_score(targets, predicted))
    assert values["top_5"] == pytest.approx(sklearn.top_k_accuracy_score(targets, rows, k=5))
    assert values["mean_per_class_recall"] == pytest.approx(sklearn.balanced_accuracy_score(targets, predicted))
    assert values["macro_f1"] == pytest.approx(sklearn.f1_score(targets, predicted, average="macro"))
    np.testing.assert_array_equal(found.confusion(), sklearn.confusion_matrix(targets, predicted))
    assert (found.metric, found.value) == ("top_1", values["top_1"])
    # None of them is trivial, and no two of them are the same.
    assert 0.5 < values["top_1"] < values["top_5"] < 1
    assert len({round(value, 6) for value in values.values()}) == len(values)
    precision, recall, f1, support = sklearn.precision_recall_fscore_support(targets, predicted)
    for one, *expected in zip(found.classes, precision, recall, f1, support, strict=True):
        assert (one.precision, one.recall, one.f1, one.images) == pytest.approx(tuple(expected))


def test_intervals_hold_the_value_and_come_from_the_seed(tree: Path, encoder: ColourEncoder) -> None:
    found = evaluate(tree, model=encoder, prompts="{}", resamples=200, seed=3)
    for name, one in found.metrics.items():
        if name != "expected_calibration_error":
            assert one.low < one.value < one.high or name == "top_5"
    again = evaluate(tree, model=encoder, prompts="{}", resamples=200, seed=3)
    assert again.to_dict() == found.to_dict()
    assert evaluate(tree, model=encoder, prompts="{}", resamples=200, seed=4).metrics != found.metrics
    narrow = evaluate(tree, model=encoder, prompts="{}", resamples=200, seed=3, level=0.5).metrics["top_1"]
    assert found.metrics["top_1"].low < narrow.low


def test_batches_change_nothing(tree: Path, encoder: ColourEncoder) -> None:
    one = evaluate(tree, model=encoder, prompts="{}", batch_size=1, workers=2)
    all_at_once = evaluate(tree, model=encoder, prompts="{}", batch_size=1000)
    assert one.metrics.keys() == all_at_once.metrics.keys()
    np.testing.assert_array_equal(one.confusion(), all_at_once.confusion())


def test_several_classes_an_image(tmp_path: Path, encoder: ColourEncoder) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(5)
    names = ["red", "green", "blue"]
    images = [mixed(rng, list(COLOURS)[i % 6]) for i in range(40)]
    # Which of the first three colours a picture's real colour is made of.
    shown = np.array([[value > 128 for value in COLOURS[list(COLOURS)[i % 6]]] for i in range(40)])
    found = evaluate((images, shown), model=encoder, prompts="{}", labels=names, resamples=50)
    scores = (encoder.encode_images(images) @ encoder.encode_texts(names).T).numpy()
    assert found.value == pytest.approx(sklearn.average_precision_score(shown, scores, average="macro"))
    assert found.metrics["roc_auc"].value == pytest.approx(sklearn.roc_auc_score(shown, scores))
    assert list(found.metrics) == ["mean_average_precision", "voc2007_mean_average_precision", "roc_auc"]
    assert 0.5 < found.value < 1
    by_class = sklearn.average_precision_score(shown, scores, average=None)
    assert [one.average_precision for one in found.classes] == pytest.approx(list(by_class))
    with pytest.raises(OptionError, match="show several classes; confusions are only counted"):
        found.confusion()
    with pytest.raises(OptionError, match="metric is 'top_1', and images show several classes"):
        evaluate((images, shown), model=encoder, prompts="{}", labels=names, metric="top_1")
    found.save_html(tmp_path / "page.html")
    assert "taken for" not in (tmp_path / "page.html").read_text()


def test_two_classes_by_the_area_under_the_curve(encoder: ColourEncoder) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    images, targets = [mixed(rng, name) for name in ["red", "yellow"] * 20], [0, 1] * 20
    prompts = PromptSet(("{}",), classes=("red", "yellow"), metric="roc_auc")
    found = evaluate((images, targets), model=encoder, prompts=prompts)
    logits = (encoder.encode_images(images) @ encoder.encode_texts(["red", "yellow"]).T).numpy()
    assert found.metric == "roc_auc"
    assert found.value == pytest.approx(sklearn.roc_auc_score(targets, logits[:, 1] - logits[:, 0]))
    assert found.value < 1


# ------------------------------------------------------------------------------------------------ the metric of a set


@pytest.mark.parametrize("name", [name for name in METRICS if name != "expected_calibration_error"])
def test_a_prompt_set_says_which_metric_counts(name: str, tree: Path, encoder: ColourEncoder) -> None:
    prompts = PromptSet(("{}",), classes=tuple(COLOURS), metric=name)
    found = evaluate(tree, model=encoder, prompts=prompts, resamples=20)
    assert found.metric == name
    assert found.value == found.metrics[name].value
    assert METRICS[name] in str(found).splitlines()[2]  # the first of the metrics
    other = "macro_f1" if name != "macro_f1" else "top_1"
    assert evaluate(tree, model=encoder, prompts=prompts, metric=other, resamples=20).metric == other


def test_metrics_that_are_none(tree: Path, encoder: ColourEncoder) -> None:
    with pytest.raises(OptionError, match=r"metric is 'accuracy'; expected one of top_1, top_5"):
        evaluate(tree, model=encoder, metric="accuracy")
    with pytest.raises(PromptError, match="metric is 'accuracy'"):
        PromptSet(("{}",), metric="accuracy")
    with pytest.raises(OptionError, match="'top_5' for 2 classes"):
        evaluate(([Image.new("RGB", (2, 2))], [0]), model=encoder, labels=["red", "blue"], metric="top_5")


# ------------------------------------------------------------------------------------------------- kinds of classifiers


def test_classifiers_heads_and_kept_embeddings_give_the_same(
    tree: Path, encoder: ColourEncoder, tmp_path: Path
) -> None:
    expected = evaluate(tree, model=encoder, prompts="{}")
    classifier = Classifier(sorted(COLOURS), model=encoder, prompts="{}")
    classifier.head.save(tmp_path / "head.safetensors")
    embed_files(encoder, tree, tmp_path / "kept.safetensors", progress=False)
    kept, encoder.seen = tmp_path / "kept.safetensors", 0
    found = [
        evaluate(tree, classifier.head, embeddings=kept),
        evaluate(tree, tmp_path / "head.safetensors", embeddings=kept),
        evaluate(tree, model=encoder, prompts="{}", embeddings=kept),
    ]
    assert encoder.seen == 0
    found += [evaluate(tree, classifier), evaluate(tree, classifier.head, model=encoder)]
    for one in found:
        assert one.metrics == expected.metrics
        assert one.sources == expected.sources
        assert one.setup["data"] == expected.setup["data"]
        assert (one.setup["embeddings"] is None) == (one in found[3:])
        assert one.setup["head"] == expected.setup["head"]


def test_kept_embeddings_are_found_by_name(tree: Path, encoder: ColourEncoder, tmp_path: Path) -> None:
    (tree / "red" / "broken.png").write_bytes(b"no image")
    embed_files(encoder, [tree / "white", tree / "red"], tmp_path / "kept.safetensors", progress=False)
    found = evaluate(tree, model=encoder, prompts="{}", embeddings=tmp_path / "kept.safetensors")
    assert found.n_images == 5 + 19
    assert [one.source for one in found.failed] == [str(tree / "red" / "broken.png")]
    assert [one.images for one in found.left_out] == [7 + 10 + 13 + 16]
    assert "not among the embeddings" in found.left_out[0].reason
    reference = evaluate(tree, model=encoder, prompts="{}")
    for one in zip(found.classes, reference.classes, strict=True):
        if one[0].label in ("white", "red"):
            assert one[0].recall == one[1].recall
    other = ColourEncoder()
    other.fingerprint = "another"
    with pytest.raises(HeadError, match="another state"):
        evaluate(tree, model=other, prompts="{}", embeddings=tmp_path / "kept.safetensors")


def test_what_contradicts_itself(tree: Path, encoder: ColourEncoder) -> None:
    classifier = Classifier(["red", "blue"], model=encoder)
    with pytest.raises(OptionError, match="the classifier has its own"):
        evaluate(tree, classifier, prompts="photo")
    with pytest.raises(OptionError, match="classifier is of type int"):
        evaluate(tree, 3)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ names, and what is missing


def test_labels_of_the_prompt_set_or_of_the_data(tree: Path, encoder: ColourEncoder) -> None:
    words = PromptSet(("{}",), classes=("white", "cyan", "green", "blue", "yellow", "red", "red white"))
    found = evaluate(tree, model=encoder, prompts=words)
    assert found.labels == words.classes
    assert found.setup["match"] == "name"
    assert "1 label without a class in the data" in found.notes
    strangers = PromptSet(("{}",), classes=("owl", "cat"))
    with pytest.raises(LabelError, match=r"none of the 6 classes.*labels='data' puts the names of the data"):
        evaluate(tree, model=encoder, prompts=strangers)
    by_data = evaluate(tree, model=encoder, prompts=strangers, labels="data")
    assert by_data.metrics == evaluate(tree, model=encoder, prompts="{}").metrics


def test_classes_are_matched_by_name_not_by_order(tree: Path, encoder: ColourEncoder) -> None:
    expected = evaluate(tree, model=encoder, prompts="{}").metrics["top_1"].value
    shuffled = list(COLOURS)
    assert shuffled != sorted(shuffled)
    assert evaluate(tree, model=encoder, prompts="{}", labels=shuffled).value == expected
    # and by position only when told so: then it is wrong, as it should be
    assert evaluate(tree, model=encoder, prompts="{}", labels=shuffled, match="position").value < 0.3


def test_names_that_agree_by_chance_match_nothing(tree: Path, encoder: ColourEncoder) -> None:
    others = ["blue", "greenred", "cyanblue", "bluewhite", "cyanred", "bluegreen"]
    with pytest.raises(LabelError, match=r"'blue' agrees, but 'cyan' stands against 'greenred', .* and 2 more; say"):
        evaluate(tree, model=encoder, prompts="{}", labels=others)
    told = evaluate(tree, model=encoder, prompts="{}", labels=others, match="position").notes
    # the pairs that differ, not the one that agrees
    assert told[0].startswith("classes of the data and labels were matched by position, such as 'cyan' by 'greenred'")


def test_what_was_not_measured_is_told_in_python_too(tree: Path, encoder: ColourEncoder) -> None:
    images = [tree / "red" / "99.png", tree / "nowhere.png", tree / "gone.png", *sorted(tree.glob("blue/*.png"))[:2]]
    with pytest.warns(UnmeasuredWarning, match="1 image, 2 left out, 2 failed.*nowhere.png") as caught:
        found = evaluate(
            (images, ["red", "red", "red", "blue", "blue"]),
            model=encoder,
            prompts="{}",
            labels=["red", "cyan"],
            match="name",
        )
    assert caught[0].filename == __file__
    assert repr(found).endswith(" on 1 image, 2 left out, 2 failed>")
    with warnings.catch_warnings(action="error"):
        assert repr(evaluate(tree, model=encoder, prompts="{}")).endswith(" on 70 images>")


def test_what_can_be_measured_is_measured(tree: Path, encoder: ColourEncoder) -> None:
    (tree / "red" / "broken.png").write_bytes(b"no image")
    (tree / "beige").mkdir()
    (tree / "whit").mkdir()
    Image.new("RGB", (4, 4)).save(tree / "whit" / "1.png")
    found = evaluate(tree, model=encoder, prompts="{}", labels=[*COLOURS, "beige white"])
    assert found.n_images == 70
    assert found.metrics["top_1"].value < 1
    assert [(one.source, one.error) for one in found.failed] == [(str(tree / "red" / "broken.png"), "ImageError")]
    assert [(one.reason, one.images) for one in found.left_out] == [("no label for the class 'whit'", 1)]
    assert "no label for the class 'whit'; did you mean 'white'?" in found.notes
    assert "no label for the class 'beige'" in " ".join(found.notes)
    text = str(found)
    assert "failed: 1, left out: 1" in text
    assert "broken.png" in text


def test_empty_classes_are_told_of_and_left_out_of_means(tree: Path, encoder: ColourEncoder) -> None:
    expected = evaluate(tree, model=encoder, prompts="{}", labels=[*sorted(COLOURS), "red blue"]).metrics
    (tree / "red blue").mkdir()
    found = evaluate(tree, model=encoder, prompts="{}")
    assert found.metrics == evaluate(tree, model=encoder, prompts="{}", labels=sorted([*COLOURS, "red blue"])).metrics
    assert found.metrics["mean_per_class_recall"].value == expected["mean_per_class_recall"].value
    assert any("no images of 'red blue': means over classes leave it out" in note for note in found.notes)
    empty = next(one for one in found.classes if one.label == "red blue")
    assert (empty.images, empty.recall) == (0, None)


def test_wrong_lists(tree: Path, encoder: ColourEncoder) -> None:
    path = tree / "list.csv"
    rows = ["red/00.png,red", "blue/00.png,blu", "nowhere.png,green", "white/00.png,", "cyan/00.png,cyan"]
    path.write_text("path,label\n" + "\n".join(rows) + "\n")
    found = evaluate(path, model=encoder, prompts="{}", classes=list(COLOURS))
    assert found.n_images == 2
    assert [one.error for one in found.failed] == ["ImageNotFoundError"]
    assert found.setup["data"]["options"] == {}
    by_name = evaluate(path, model=encoder, prompts="{}", classes=list(COLOURS), label_column="label")
    assert by_name.setup["data"]["options"] == {"label_column": "label"}
    reasons = {one.reason: one.images for one in found.left_out}
    assert reasons == {"the label 'blu' is no class (did you mean 'blue'?)": 1, "there is no label": 1}


@pytest.mark.filterwarnings("ignore:.* is the only label")
def test_nothing_to_measure(tmp_path: Path, encoder: ColourEncoder) -> None:
    (tmp_path / "pictures" / "red").mkdir(parents=True)
    (tmp_path / "pictures" / "red" / "1.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"no image of .*pictures can be measured: 1 failed, such as .*1\.png"):
        evaluate(tmp_path / "pictures", model=encoder)
    with pytest.raises(LabelError, match="are numbers, and nothing says what they stand for"):
        evaluate((["a.png"], [0]), model=encoder)


def test_numbers_out_of_range_are_left_out(encoder: ColourEncoder) -> None:
    images = [Image.new("RGB", (2, 2), COLOURS[name]) for name in ("red", "blue", "red")]
    found = evaluate((images, [0, 1, 7]), model=encoder, prompts="{}", labels=["red", "blue"])
    assert (found.n_images, found.value) == (2, 1.0)
    assert found.left_out[0].reason == "the label 7 is no class; expected a position from 0 to 1"


def test_repeated_names_stay_apart(encoder: ColourEncoder) -> None:
    images = [Image.new("RGB", (2, 2), COLOURS[name]) for name in ("red", "blue", "blue")]
    found = evaluate((images, [0, 1, 2]), model=encoder, prompts="{}", labels=["red", "blue", "blue"])
    # Equal scores: the earlier of the two counts as the more probable.
    np.testing.assert_array_equal(found.confusion(), [[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert [one.images for one in found.classes] == [1, 1, 1]


def test_background_classes_take_no_label(tree: Path, encoder: ColourEncoder) -> None:
    plain = evaluate(tree, Classifier(sorted(COLOURS), model=encoder, prompts="{}"))
    other = evaluate(tree, Classifier(sorted(COLOURS), model=encoder, prompts="{}", background=["red green blue"]))
    np.testing.assert_array_equal(plain.confusion(), other.confusion())
    assert plain.metrics["expected_calibration_error"] != other.metrics["expected_calibration_error"]


# --------------------------------------------------------------------------------------------------- how to repeat it


def test_the_digest_of_the_data_is_that_of_names_and_classes(tree: Path, encoder: ColourEncoder) -> None:
    (tree / "red" / "broken.png").write_bytes(b"no image")
    digest = evaluate(tree, model=encoder, prompts="{}").setup["data"]["digest"]
    moved = tree.rename(tree.parent / "elsewhere")
    assert evaluate(moved, model=encoder, prompts="{}").setup["data"]["digest"] == digest
    (moved / "blue" / "00.png").rename(moved / "cyan" / "zz.png")
    assert evaluate(moved, model=encoder, prompts="{}").setup["data"]["digest"] != digest


@pytest.mark.filterwarnings("ignore:.* is the only label")
def test_what_large_images_are_decoded_by_is_written_down(tmp_path: Path) -> None:
    photographs = Path(__file__).parents[1] / "examples" / "images"
    data = ([photographs / "cat.jpg"], ["cat"])
    for approximate in (False, True):
        found = evaluate(data, model="mini", approximate=approximate, resamples=5)
        assert found.setup["model"]["approximate"] is approximate


def test_written_prompts_are_kept_whole(encoder: ColourEncoder) -> None:
    words = {"rose": ["red", "red white"], "sea": ["blue"]}
    images = [Image.new("RGB", (2, 2), COLOURS[name]) for name in ("red", "blue")]
    found = evaluate((images, ["rose", "sea"]), model=encoder, prompts=words, resamples=5)
    assert found.value == 1.0
    assert json.loads(json.dumps(found.to_dict()))["setup"]["prompts"]["written"] == words
