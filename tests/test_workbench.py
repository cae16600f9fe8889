"""What the page computes: the numbers of a `Classifier`, each embedding once, and Python that really does the same."""

from __future__ import annotations

import ast
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import zeroshot
from zeroshot import workbench
from zeroshot.errors import ImageError, LabelError, ModelNotFoundError, OptionError, PromptError, ZeroShotError
from zeroshot.jobs import classify_files
from zeroshot.prompts import Labels, available_prompts, load_prompts, parse_labels
from zeroshot.workbench import (
    Limits,
    Memory,
    Progress,
    Question,
    RememberingEncoder,
    Scores,
    Workbench,
    read_labels,
    write_labels,
)

IMAGES = Path(__file__).parents[1] / "examples" / "images"
PHOTOGRAPHS = [str(IMAGES / f"{name}.jpg") for name in ("cat", "coffee", "rocket")]
SETTINGS = {
    "plain": Question("cat\nrocket\ncup of coffee"),
    "synonyms": Question("cat = cat, kitten, tabby\n  rocket \n\ncup of coffee"),
    "set": Question("cat\nrocket", prompts="cifar10", templates="\n".join(load_prompts("cifar10").templates)),
    "edited": Question("cat\nrocket", prompts="cifar10", templates='a "{}"\na(n) {}, drawn by \\hand'),
    "background": Question("cat\nrocket", background="something else\na drink", threshold=0.25),
    "odd names": Question('a "cat"\n\\n\U0001f680 rocket\n{}\nE=mc2'),
    "many": Question("\n".join(f"thing number {i}, as it was found in the cellar" for i in range(12))),
}


def ask(bench: Workbench, files: Sequence[str | Path], question: Question, why: dict[int, int] | None = None) -> Scores:
    *_, last = bench.answer([str(file) for file in files], question, why)
    assert isinstance(last, Scores)
    return last


def probabilities(scores: Scores) -> np.ndarray[Any, Any]:
    return np.stack([outcome.prediction.probabilities for outcome in scores.outcomes if outcome.prediction])


# ------------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("name", SETTINGS)
def test_the_python_runs_and_gives_the_same_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = ask(Workbench(device="cpu"), PHOTOGRAPHS, SETTINGS[name])
    for photograph in PHOTOGRAPHS:
        shutil.copy(photograph, tmp_path)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(scores.python, scope)
    expected = scope["clf"].predict_proba(scope["images"])
    assert scope["clf"].labels == scores.labels
    np.testing.assert_allclose(probabilities(scores), expected, atol=2e-6)
    # What it prints is of the same threshold and background too: the last prediction is in its hands.
    last = scores.outcomes[-1].prediction
    assert last is not None
    assert (scope["prediction"].label, scope["prediction"].threshold) == (last.label, last.threshold)
    assert scope["prediction"].background == pytest.approx(last.background, abs=2e-6)
    assert capsys.readouterr().out.startswith("cat.jpg\n")


def test_that_comparison_sees_another_template() -> None:
    bench = Workbench(device="cpu")
    first = ask(bench, PHOTOGRAPHS, Question("cat\nrocket", templates="a photo of a {}."))
    other = ask(bench, PHOTOGRAPHS, Question("cat\nrocket", templates="a photo of a {}"))
    assert np.abs(probabilities(first) - probabilities(other)).max() > 1e-5


def test_the_table_is_that_of_the_command(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for photograph in PHOTOGRAPHS:
        shutil.copy(photograph, pictures)
    (pictures / "broken.jpg").write_bytes(b"no picture")
    files = sorted(pictures.iterdir())
    found = ask(Workbench(device="cpu"), files, SETTINGS["background"]).csv().decode()
    clf = zeroshot.Classifier(**SETTINGS["background"].arguments(), device="cpu")
    classify_files(clf, [str(file) for file in files], tmp_path / "table.csv", threshold=0.25, progress=False)
    expected = (tmp_path / "table.csv").read_text(encoding="utf-8").replace(f"{pictures}/", "")
    assert len(found.splitlines()) == len(expected.splitlines()) == 5
    for ours, theirs in zip(found.splitlines(), expected.splitlines(), strict=True):
        for cell, other in zip(ours.split(","), theirs.split(","), strict=True):
            assert cell == other or float(cell) == pytest.approx(float(other), abs=2e-6)


def test_several_labels_at_once_is_for_a_sigmoid() -> None:
    with pytest.raises(OptionError, match="trained with a sigmoid"):
        ask(Workbench(device="cpu"), PHOTOGRAPHS, Question("cat\ndog", multi_label=True))


def test_several_labels_at_once(make_fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = make_fake(bias=-3.0)
    monkeypatch.setattr(workbench, "as_encoder", lambda model, device: fake)
    scores = ask(Workbench(), PHOTOGRAPHS, Question("cat\ndog", multi_label=True, threshold=0.2))
    weight = np.stack([fake.vector("a photo of a cat."), fake.vector("a photo of a dog.")])
    images = np.stack([fake.vector(str(image)) for (image,) in fake.images])
    expected = 1 / (1 + np.exp(3 - fake.logit_scale * images @ weight.T))
    np.testing.assert_allclose(probabilities(scores), expected, rtol=1e-4)
    assert "multi_label=True" in scores.python


# ----------------------------------------------------------------------------------------------------------- heat maps


def small_photographs(folder: Path) -> list[Path]:
    """Photographs that no thumbnail makes smaller: maps over them can be compared to the letter."""
    paths = [folder / f"{name}.png" for name in ("cat", "coffee")]
    for path in paths:
        image = Image.open(IMAGES / f"{path.stem}.jpg")
        image.thumbnail((300, 300))
        image.save(path)
    return paths


@pytest.mark.filterwarnings("ignore:label .* reads like label")
def test_the_python_draws_the_same_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = small_photographs(tmp_path)
    question = Question("cat\nspoon\ncup of coffee\nspoon", background="something else")
    bench = Workbench(device="cpu")
    scores = ask(bench, pictures, question, {0: 0, 1: 3})
    assert [(place, found.label, found.index) for place, found in scores.maps.items()] == [
        (0, "cat", 0),
        (1, "spoon", 3),
    ]
    monkeypatch.chdir(tmp_path)
    exec(scores.python, {})  # the second spoon is called by its position
    for place, name in enumerate(("cat", "coffee")):
        drawn = Image.open(tmp_path / f"{name}.why.png")
        assert workbench._jpeg(drawn) == scores.maps[place].jpeg
    other = ask(bench, pictures, question, {0: 2})
    assert other.maps[0].jpeg != scores.maps[0].jpeg  # so that comparison sees another label
    assert "Zhou" in other.maps[0].citation
    assert "explain" not in ask(bench, pictures, question).python


def test_a_map_costs_nothing_until_it_is_asked_for_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = workbench.Classifier.explain

    def explain(classifier: Any, image: Any, label: Any) -> Any:
        asked.append(label)
        return original(classifier, image, label)

    monkeypatch.setattr(workbench.Classifier, "explain", explain)
    bench, pictures, question = Workbench(device="cpu"), small_photographs(tmp_path), Question("cat\nspoon")
    ask(bench, pictures, question)
    assert asked == []
    steps = [
        step.text for step in bench.answer(list(map(str, pictures)), question, {1: 1}) if isinstance(step, Progress)
    ]
    assert steps == ["Looking for what speaks for 'spoon' in coffee.png …"]
    ask(bench, pictures, question, {1: 1})
    assert asked == [1]
    ask(bench, pictures, Question("cat\nspoon\ntree"), {1: 1})  # against other labels it is another map
    assert asked == [1, 1]


def test_maps_that_there_are_not(tmp_path: Path, make_fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [cat, coffee], broken = small_photographs(tmp_path), tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    bench = Workbench(device="cpu")
    # A broken picture, and what a page asks for that was drawn before the fields changed.
    assert ask(bench, [broken, cat], Question("cat\ndog"), {0: 0, 1: 2, 2: 0, -1: 0}).maps == {}
    alone = ask(bench, [cat, coffee], Question("cat"), {0: 0})
    assert "'cat' is the only label" in str(alone.maps[0].error)
    assert "explain" not in alone.python
    assert ask(bench, [cat], Question("cat", background="dog"), {0: 0}).maps[0].error is None
    monkeypatch.setattr(workbench, "as_encoder", lambda model, device: make_fake())
    strange = ask(Workbench(), [cat], Question("cat\ndog"), {0: 0})
    assert "expected one of zeroshot.load" in str(strange.maps[0].error)
    assert strange.outcomes[0].prediction is not None


# -------------------------------------------------------------------------------------------------------- once, bounded


def test_an_edit_costs_its_own_prompts_and_no_picture(make_fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = make_fake()
    monkeypatch.setattr(workbench, "as_encoder", lambda model, device: fake)
    bench = Workbench()
    ask(bench, PHOTOGRAPHS, Question("cat\ndog"))
    assert (len(fake.images), fake.texts) == (3, [["a photo of a cat.", "a photo of a dog."]])
    ask(bench, PHOTOGRAPHS, Question("cat\ndog\ncar", templates="a photo of a {}.\na {}"))
    assert len(fake.images) == 3
    assert fake.texts[1:] == [["a cat", "a dog", "a photo of a car.", "a car"]]
    ask(bench, PHOTOGRAPHS[:2], Question("cat\ndog", threshold=0.5))  # a head of before
    ask(bench, [*PHOTOGRAPHS, str(IMAGES / "clock.jpg")], Question("car\ncat"))
    assert (len(fake.images), len(fake.texts)) == (4, 2)


def test_another_model_or_another_file_is_looked_at_anew(
    make_fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = make_fake(), make_fake(dim=6)
    second.fingerprint = "another"
    monkeypatch.setattr(workbench, "as_encoder", lambda model, device: {"one": first, "two": second}[model])
    picture = tmp_path / "picture.png"
    Image.new("RGB", (40, 30), "red").save(picture)
    bench = Workbench()
    for model in ("one", "two", "one"):
        ask(bench, [picture], Question("cat\ndog", model=model))
    assert (len(first.images), len(second.images)) == (1, 1)
    Image.new("RGB", (50, 30), "blue").save(picture)
    scores = ask(bench, [picture], Question("cat\ndog", model="one"))
    assert len(first.images) == 2
    assert (scores.pictures[0].width, scores.pictures[0].height) == (50, 30)


def test_what_is_forgotten_is_computed_again(make_fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = make_fake()
    memory: Memory[Any] = Memory(2)
    encoder = RememberingEncoder(fake, memory)
    texts = ["a", "b", "c", "a"]  # more than are remembered
    np.testing.assert_array_equal(encoder.encode_texts(texts), fake.encode_texts(texts))
    np.testing.assert_array_equal(encoder.encode_texts(["b"]), fake.encode_texts(["b"]))
    assert len(memory) == 2
    assert encoder.encode_texts([]).shape == (0, fake.dim)


def test_progress_is_told_where_there_is_something_to_wait_for() -> None:
    bench = Workbench(device="cpu")
    steps = list(bench.answer(PHOTOGRAPHS, Question("cat\ndog")))
    texts = [step.text for step in steps if isinstance(step, Progress)]
    assert texts[0].startswith("Loading mini")
    assert texts[1:] == [f"Looking at picture {n} of 3 …" for n in (1, 2, 3)]
    assert len(list(bench.answer(PHOTOGRAPHS, Question("cat\ndog\ncar")))) == 1
    fifty = "\n".join(f"thing {i} = thing {i}, number {i}" for i in range(25))
    assert [step.text for step in bench.answer([], Question(fifty)) if isinstance(step, Progress)] == [
        "Reading 50 prompts …"
    ]
    assert len(list(bench.answer([], Question(fifty + "\none more")))) == 1  # the fifty are remembered


# ------------------------------------------------------------------------------------------------- mistakes and limits


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (Question(" \n"), LabelError, "no label was typed"),
        (Question("cat = cat\ncat = kitten"), LabelError, "'cat' is named twice"),
        (Question("cat =\ndog"), LabelError, "'cat =' has no words behind its ="),
        (Question("cat", templates="a photo of a {"), PromptError, "0 slots"),
        (Question("cat", templates=""), PromptError, "no template was typed"),
        (Question("cat", threshold=1.5), OptionError, "threshold is 1.5"),
        (Question("cat", model=" "), OptionError, "no model was named"),
        (Question("cat", model="minni"), ModelNotFoundError, "mini"),
        (Question("cat", model="ViT-B-32/openai"), ZeroShotError, "could not be fetched from"),
        (
            Question("cat\ndog", templates="a {}\nthe {}\none {}", background="car"),
            OptionError,
            "are 9 prompts; the page",
        ),
    ],
)
def test_mistakes_have_the_message_of_the_library(question: Question, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask(Workbench(device="cpu", limits=Limits(prompts=8)), PHOTOGRAPHS, question)


def test_what_was_perhaps_not_meant_is_noted() -> None:
    bench = Workbench(device="cpu")
    long = "very " * 60 + "long"
    assert ask(bench, [], Question("cat\ndog")).notes == ()
    [note] = ask(bench, [], Question("cat, dog, car")).notes
    assert note == "'cat, dog, car' is taken as one label; several stand one a line."
    [note] = ask(bench, [], Question("cat\ndog\ncat")).notes
    assert note.startswith("'cat' stands there more than once")
    # Told again where the prompt is remembered, and of a head that is remembered; no warning (here it would raise).
    for labels in (f"cat\n{long}", f"dog\n{long}", f"cat\n{long}"):
        [note] = ask(bench, [], Question(labels)).notes
        assert note.startswith(
            "1 prompt is longer than the 40 tokens that the model reads; the rest has no effect: 'a ph"
        )
    [note] = ask(bench, [], Question(f"{long}\n{long} too")).notes
    assert note.startswith("2 prompts are longer")


def test_other_warnings_are_not_swallowed(make_fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = make_fake()
    original = fake.encode_texts

    def encode_texts(texts: Sequence[str]) -> Any:
        warnings.warn("of somebody else", UserWarning, stacklevel=1)
        return original(texts)

    monkeypatch.setattr(fake, "encode_texts", encode_texts)
    with pytest.warns(UserWarning, match="of somebody else"):
        RememberingEncoder(fake, Memory(2)).encode_texts(["a"])


def test_a_broken_picture_takes_nothing_from_the_others(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(PHOTOGRAPHS[0]).read_bytes()[:3000])
    gone = tmp_path / "gone.jpg"
    scores = ask(Workbench(device="cpu"), [PHOTOGRAPHS[0], broken, gone, PHOTOGRAPHS[2]], Question("cat\nrocket"))
    labels = [outcome.prediction and outcome.prediction.label for outcome in scores.outcomes]
    assert labels == ["cat", None, None, "rocket"]
    message = str(scores.outcomes[1].error)
    assert message.startswith("'broken.jpg' cannot be decoded")
    assert str(tmp_path) not in message + str(scores.outcomes[2].error)
    assert "broken" not in scores.python


def test_too_many_and_too_large(tmp_path: Path) -> None:
    bench = Workbench(device="cpu", limits=Limits(pictures=2, pixels=640 * 400))
    scores = ask(bench, [PHOTOGRAPHS[1], PHOTOGRAPHS[2], PHOTOGRAPHS[0]], Question("cat\ncup of coffee"))
    assert scores.left_out == 1
    assert [type(outcome.error) for outcome in scores.outcomes] == [type(None), ImageError]
    assert "'rocket.jpg' has 640 x 427 pixels; the page takes 256,000" in str(scores.outcomes[1].error)
    with pytest.raises(OptionError, match="pictures is 0"):
        Limits(pictures=0)


# -------------------------------------------------------------------------------------------------------------- fields


@pytest.mark.parametrize("name", available_prompts())
def test_the_classes_of_a_set_survive_the_field(name: str) -> None:
    prompts = load_prompts(name)
    if not prompts.classes:
        assert write_labels(prompts) == ""
        return
    found, expected = parse_labels(read_labels(write_labels(prompts))), prompts.labels
    assert found.names == tuple(label.strip() for label in expected.names)
    assert found.synonyms == tuple(tuple(word.strip() for word in words) for words in expected.synonyms)


@pytest.mark.parametrize("name", available_prompts())
def test_the_templates_of_a_set_survive_the_field(name: str) -> None:
    # Also those of imagenet_ar, some of which begin or end with a space.
    question = Question("cat", prompts=name, templates="\n".join(load_prompts(name).templates))
    assert question.arguments() == {"labels": ["cat"], "model": "mini", "prompts": name}


@given(st.text())
def test_any_text_is_labels_or_an_error_of_ours(text: str) -> None:
    try:
        labels = parse_labels(read_labels(text))
    except LabelError:
        return
    assert isinstance(labels, Labels)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_is_written_as_python(label: str, words: list[str]) -> None:
    for value in (label, words, {label: words}, True, 0.25):
        assert ast.literal_eval(workbench._literal(value)) == value


def test_a_label_that_is_background_too_is_told_on_the_page_alone(tmp_path: Path) -> None:
    (picture, _) = small_photographs(tmp_path)
    bench = Workbench(device="cpu")
    (note,) = ask(bench, [picture], Question("cat\ndog", background="Cat\ncat")).notes  # warnings are errors here
    assert "'cat' stands there more than once" in note
    (note,) = ask(bench, [picture], Question("cat\ndog\ncat")).notes
    assert "'cat' stands there more than once" in note
