"""How predictions are looked at: in notebooks, as figures, as tables and as JSON."""

from __future__ import annotations

import builtins
import copy
import gc
import io
import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_display import HOSTILE, Reader

import zeroshot
from zeroshot import Classifier, Prediction
from zeroshot.errors import ImageNotFoundError, MissingExtraError, OptionError
from zeroshot.figures import save_figure, shorten
from zeroshot.pictures import hold
from zeroshot.prediction import NONE, Outcome, Predictions

LABELS = ["cat", "dog", "aardvark"]
CAT = Path(__file__).parents[1] / "examples" / "images" / "cat.jpg"


def prediction(
    probabilities: list[float], labels: list[str] | None = None, image: Any = None, **more: Any
) -> Prediction:
    names = labels or [f"label{i}" for i in range(len(probabilities))]
    return Prediction(np.array(probabilities, dtype=np.float32), tuple(names), **more, _image=hold(image))


def some(count: int = 3, image: Any = None) -> Predictions:
    return Predictions(prediction([0.75, 0.25, 0.0], LABELS, image) for _ in range(count))


# ------------------------------------------------------------------------------------------------------- the image


def test_a_prediction_knows_its_image(clip: Any, tmp_path: Path) -> None:
    classifier = Classifier(LABELS, model=clip, cache=False)
    picture = Image.open(CAT)
    array = np.asarray(picture)
    for image in (CAT, str(CAT), picture, array, CAT.read_bytes()):
        assert classifier(image).image is image
        (found,) = classifier([image])
        assert found.image is image
        assert "<img " in found._repr_html_()
    with CAT.open("rb") as file:
        assert classifier(file).image is None


def test_images_and_predictions_are_in_the_same_order(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeroshot.classifier, "_SCORES_PER_BLOCK", 2 * len(LABELS))  # several blocks in a batch
    classifier = Classifier(LABELS, model=clip, cache=False)
    images = [Image.new("RGB", (8, 8), (20 * number, 0, 0)) for number in range(7)]
    found = classifier(iter(images), batch_size=3)
    assert [one.image for one in found] == images
    for one, image in zip(found, images, strict=True):
        np.testing.assert_allclose(one.probabilities, classifier(image).probabilities, atol=1e-5)


def test_streams_keep_no_images(clip: Any) -> None:
    classifier = Classifier(LABELS, model=clip, cache=False)
    (outcome,) = classifier.stream([Image.new("RGB", (8, 8))])
    assert outcome.prediction is not None
    assert outcome.prediction.image is None


def test_images_of_a_generator_do_not_pile_up(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeroshot.pictures, "_HELD_BYTES", 4 * 8 * 8 * 3)
    classifier = Classifier(LABELS, model=clip, cache=False)
    found = classifier(Image.new("RGB", (8, 8)) for _ in range(20))
    gc.collect()
    assert [one.image is not None for one in found] == [False] * 16 + [True] * 4


def test_copies_and_pickles() -> None:
    named, held = prediction([0.75, 0.25], image=str(CAT)), prediction([0.75, 0.25], image=Image.new("RGB", (4, 4)))
    for one in (pickle.loads(pickle.dumps(named)), copy.deepcopy(named)):
        assert repr(one) == repr(named)
        assert one.image == str(CAT)
    again = pickle.loads(pickle.dumps(held))
    assert again.image is None
    assert len(pickle.dumps(held)) < 1000
    assert repr(again) == repr(held)
    assert named == named
    assert named != pickle.loads(pickle.dumps(named))  # as ever: one is equal to itself alone
    many = pickle.loads(pickle.dumps(Predictions([named])))
    assert isinstance(many, Predictions)
    assert many[0].image == str(CAT)


# ------------------------------------------------------------------------------------------------------- notebooks


def test_the_picture_stands_beside_the_bars() -> None:
    page = prediction([0.75, 0.25], ["cat", "dog"], CAT)._repr_html_()
    assert page.index("<img ") < page.index("cat</td>") < page.index("75.0%") < page.index("25.0%")
    assert 'src="data:image/jpeg;base64,' in page
    assert len(page) < 60_000
    assert "<img " not in prediction([0.75, 0.25], image="gone.jpg")._repr_html_()


def test_hostile_and_long_labels() -> None:
    names = [HOSTILE, "x" * 5000, "猫" * 300, "\u202ecat"]
    for one in (prediction([0.4, 0.3, 0.2, 0.1], names), Predictions([prediction([0.4, 0.3, 0.2, 0.1], names)])):
        page = Reader(one._repr_html_())
        assert "script" not in page.tags
        assert HOSTILE in page.text
        assert "x" * 5000 in page.titles  # cut on the page, whole under the mouse
    assert "text-overflow:ellipsis" in prediction([1.0])._repr_html_()


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8), st.floats(0, 1), st.booleans())
def test_any_labels(names: list[str], threshold: float, multi_label: bool) -> None:
    values = [0.9 / (rank + 1) for rank in range(len(names))]
    one = prediction(values, names, threshold=threshold, multi_label=multi_label)
    for shown in (one, Predictions([one, one])):
        page = Reader(shown._repr_html_())
        assert page.text.count("90.0%") == (1 if shown is one else 2)
        assert (f"(none reaches {100 * threshold:.6g}%)" in page.text) == (one.label is None)
        json.loads(json.dumps(shown.to_dict()))


def test_no_label_above_the_threshold() -> None:
    nothing = prediction([0.25, 0.125], ["cat", "dog"], background=0.625)
    page = nothing._repr_html_()
    assert page.index(NONE) < page.index("62.5%") < page.index("cat")
    assert zeroshot.display.BLUE not in page  # nothing stands out
    assert NONE in Predictions([nothing])._repr_html_()


def test_below_the_threshold_the_best_one_and_its_probability_stay_to_be_seen() -> None:
    unsure = prediction([0.4, 0.35], ["cat", "dog"], threshold=0.5, background=0.25)
    assert unsure.label is None
    assert str(unsure).split("\n")[:2] == ["(none reaches 50%)", "cat               40.0%  ████████"]
    assert repr(unsure) == "Prediction(None; (none reaches 50%), cat 40.0%, dog 35.0%, (none of these) 25.0%)"
    for shown in (unsure, Predictions([unsure])):
        page = shown._repr_html_()
        assert page.index("(none reaches 50%)") < page.index("cat") < page.index("40.0%") < page.index("35.0%")
        assert page.index("35.0%") < page.index(NONE) < page.index("25.0%")
        assert zeroshot.display.BLUE not in page
    assert "(none reaches 99.95%)" in str(prediction([0.5, 0.5], threshold=0.9995))


def test_a_background_that_does_not_win_is_shown_where_it_belongs() -> None:
    found = prediction([0.6, 0.1, 0.05], LABELS, background=0.25, top_k=2)
    assert [line.split("  ")[0].strip() for line in str(found).split("\n")] == [LABELS[0], NONE, LABELS[1]]
    assert repr(found) == f"Prediction({LABELS[0]!r}, 60.0%; {NONE} 25.0%, {LABELS[1]} 10.0%)"
    unknown = prediction([0.3, 0.1], ["cat", "dog"], background=0.6)
    assert repr(unknown).startswith(f"Prediction(None; {NONE} 60.0%, cat")
    assert len(repr(prediction([0.6, 0.4], ["x" * 2000, "y" * 2000]))) < 200


def test_several_labels_that_are_right_all_stand_out() -> None:
    several = prediction([0.9, 0.8, 0.1], LABELS, threshold=0.5, multi_label=True)
    assert several._repr_html_().count(zeroshot.display.BLUE) == 2
    assert prediction([0.9, 0.08, 0.02], LABELS)._repr_html_().count(zeroshot.display.BLUE) == 1


def test_a_list_shows_itself_as_a_grid() -> None:
    page = some(3, CAT)._repr_html_()
    assert page.count("<img ") == 3
    assert "cat.jpg" in Reader(page).text
    long = some(30)._repr_html_()
    assert Reader(long).text.count("no picture") == 24
    assert "and 6 more images" in long
    assert "no predictions" in Predictions()._repr_html_()


def test_a_list_is_a_list(fake: Any) -> None:
    found = Classifier(LABELS, model=fake, prompts="{}", cache=False)(["cat", "dog"])
    assert type(found) is Predictions
    assert isinstance(found, list)
    assert repr(found) == repr(list(found))
    assert found == list(found)
    assert type(found[:1]) is Predictions
    assert found[-1].label == "dog"
    assert [one.label for one in reversed(found)] == ["dog", "cat"]
    assert Classifier(LABELS, model=fake, prompts="{}", cache=False)([]) == []
    found.append(found[0])
    assert len(found) == 3


def test_outcomes_show_what_became_of_them() -> None:
    done = Outcome(0, "a<b>.jpg", prediction([0.75, 0.25], ["cat", "dog"]), None)._repr_html_()
    assert "a&lt;b&gt;.jpg" in done
    assert "75.0%" in done
    failed = Outcome(1, Image.new("RGB", (2, 2)), None, ImageNotFoundError("no image at <x>"))._repr_html_()
    assert "no image at &lt;x&gt;" in failed


def test_heads_encoders_prompts_and_classifiers_show_themselves(clip: Any, fake: Any) -> None:
    classifier = Classifier(["<script>", "dog"], model=clip, prompts="imagenet", background=["noise"], cache=False)
    shown = [classifier, classifier.head, clip, zeroshot.load_prompts("oxford_pets")]
    for one, expected in zip(shown, ("2 classes", "72 more", "in float32 on cpu", "37 classes"), strict=True):
        page = Reader(one._repr_html_())
        assert expected in page.text
        assert "script" not in page.tags
    words = zeroshot.PromptSet.from_descriptions({"hen": ["a <hen>"]})._repr_html_()
    assert "hen: a &lt;hen&gt;" in words
    function = zeroshot.PromptSet((), function=lambda label: [label])._repr_html_()
    assert "&lt;lambda&gt;" in function
    assert "1 class" in Reader(Classifier(["cat"], model=fake, background=["noise"], cache=False)._repr_html_()).text


# --------------------------------------------------------------------------------------------------------- figures


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def drawn(figure: Any) -> bytes:
    """The figure as a notebook shows it; warnings are errors, that of a letter without a form among them."""
    data = figure._repr_png_()
    assert Image.open(io.BytesIO(data)).size[0] == pytest.approx(100 * figure.get_size_inches()[0], abs=1)
    return bytes(data)


def test_one_prediction_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    figure = prediction([0.75, 0.25], ["cat", "$5 or $10_{x}"], CAT).plot()
    picture, bars = figure.axes
    assert len(picture.images) == 1
    assert [label.get_text() for label in bars.get_yticklabels()] == ["cat", "$5 or $10_{x}"]
    assert texts(bars) == ["75.0%", "25.0%"]
    assert [bar.get_width() for bar in bars.patches] == [1, 0.75, 1, 0.25]
    assert drawn(figure)
    assert texts(prediction([1.0], image="gone.jpg").plot().axes[0]) == ["no picture"]
    unsure = prediction([0.75, 0.25], threshold=0.9)
    assert texts(unsure.plot().axes[1]) == ["75.0%", "25.0%"]
    assert unsure.plot().axes[1].get_yticklabels()[0].get_text() == "(none reaches 90%)"
    assert texts(Predictions([unsure] * 2).plot().axes[1])[:3] == ["(none reaches 90%)", "label0", "75.0%"]
    assert [prediction([0.05] * n, image=CAT, top_k=n).plot().axes[0].get_anchor() for n in (12, 13)] == ["C", "N"]
    assert len(prediction([0.5] * 9).plot(top_k=7).axes[1].texts) == 7


def test_names_are_not_cut_off_by_the_edge() -> None:
    pytest.importorskip("matplotlib")
    figure = prediction([0.75, 0.25], ["W" * 200, "i"], CAT).plot()
    figure.draw_without_rendering()
    _, bars = figure.axes
    box = bars.get_yticklabels()[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x0 > figure.axes[0].get_window_extent().x1  # nor by the picture
    assert max(text.get_window_extent().x1 for text in bars.texts) <= figure.bbox.x1


def test_several_are_drawn_in_a_grid() -> None:
    pytest.importorskip("matplotlib")
    figure = some(5, CAT).plot(columns=2)
    assert len(figure.axes) == 10
    assert texts(figure.axes[1]) == ["cat", "75.0%", "dog", "25.0%", "aardvark", "0.0%"]
    assert drawn(figure)
    assert len(some(30).plot(limit=3).axes) == 6
    assert texts(Predictions([prediction([0.1], background=0.9)] * 2).plot().axes[1])[:2] == [NONE, "90.0%"]


def test_letters_that_no_font_has_are_told_in_one_warning(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = prediction([0.75, 0.25], ["\U00012000\U00012001 cat", "\U00012001"]).plot()  # cuneiform
    with pytest.warns(UserWarning, match="no font .* letters \U00012000\U00012001: ") as caught:
        assert drawn(figure)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="no font") as caught:
        save_figure(figure, tmp_path / "cuneiform.png")
    assert len(caught) == 1


def test_figures_leave_pyplot_alone() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums(), dict(pyplot.rcParams)
    drawn(some(2, CAT).plot())
    assert (pyplot.get_fignums(), dict(pyplot.rcParams)) == before


def test_figures_can_be_pickled() -> None:
    pytest.importorskip("matplotlib")
    assert drawn(pickle.loads(pickle.dumps(some(2).plot())))


def test_letters_that_no_font_has_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fonts; which ones there are depends on the machine
        assert prediction([1.0], ["кот 猫 قطة"]).plot()._repr_png_()
    assert drawn(prediction([1.0], ["кот, ελληνικά, naïve"]).plot())


@pytest.mark.parametrize("options", [{"columns": 0}, {"limit": -1}, {"columns": 1.5}])
def test_grids_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        some(2).plot(**options)
    with pytest.raises(OptionError, match="no predictions to draw"):
        Predictions().plot()


@given(st.text(max_size=30), st.integers(3, 30))
def test_shortened_text_fits(text: str, room: int) -> None:
    import unicodedata

    short = shorten(text, room)
    assert sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in short) <= room
    assert short
    assert short.rstrip("…") in zeroshot.display.printable(text) or short == " "


# ---------------------------------------------------------------------------------------------------------- tables


def test_as_json() -> None:
    one = prediction([0.125, 0.5, 0.375], ["cat", "cat", "dog"], CAT, top_k=2)
    assert json.loads(json.dumps(one.to_dict())) == {
        "image": str(CAT),
        "label": "cat",
        "score": 0.5,
        "index": 1,
        "background": 0.0,
        "top": [{"label": "cat", "score": 0.5, "index": 1}, {"label": "dog", "score": 0.375, "index": 2}],
    }
    assert len(one.to_dict(top_k=9)["top"]) == 3
    with pytest.raises(OptionError, match="top_k is 0"):
        one.to_dict(top_k=0)
    nothing = prediction([0.25, 0.25], threshold=0.5, image=b"...").to_dict()
    assert (nothing["image"], nothing["label"], nothing["index"], nothing["score"]) == (None, None, None, 0.25)
    assert [found["label"] for found in some(2).to_dict(top_k=1)] == ["cat", "cat"]


def test_as_tables() -> None:
    pandas = pytest.importorskip("pandas")
    frame = prediction([0.125, 0.5, 0.375], ["cat", "cat", "dog"]).to_frame()
    assert frame.to_dict("list") == {"label": ["cat", "dog", "cat"], "score": [0.5, 0.375, 0.125], "index": [1, 2, 0]}
    found = Predictions(
        [prediction([0.75, 0.25], ["cat", "cat"], CAT), prediction([0.5, 0.5], ["cat", "cat"], threshold=1)]
    )
    frame = found.to_frame()
    assert list(frame.columns) == ["image", "label", "score", "index"]
    assert frame["score"].tolist() == [0.75, 0.5]
    assert frame["index"].dtype == "Int64"
    assert frame["index"].isna().tolist() == [False, True]
    assert frame["image"].isna().tolist() == [False, True]
    assert frame["label"][0] == "cat"
    wide = found.to_frame(probabilities=True)
    assert list(wide.columns) == ["image", "label", "score", "index", "cat", "cat"]
    np.testing.assert_array_equal(wide.to_numpy()[:, 4:].astype(np.float32), [[0.75, 0.25], [0.5, 0.5]])
    assert list(Predictions().to_frame().columns) == ["image", "label", "score", "index"]
    with pytest.raises(OptionError, match="different labels"):
        Predictions([prediction([1.0], ["a"]), prediction([1.0], ["b"])]).to_frame(probabilities=True)
    assert isinstance(frame, pandas.DataFrame)


@pytest.mark.parametrize(
    ("module", "extra", "call"),
    [
        ("pandas", "pandas", lambda: some().to_frame()),
        ("pandas", "pandas", lambda: some()[0].to_frame()),
        ("matplotlib", "plot", lambda: some().plot()),
        ("matplotlib", "plot", lambda: some()[0].plot()),
    ],
)
def test_what_is_missing_is_named(module: str, extra: str, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ImportError(name)
        return original(name, *args, **options)

    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=rf"zeroshot-clip\[{extra}\]"):
        call()
