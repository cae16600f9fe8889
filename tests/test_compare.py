"""Comparisons: the statistics against published numbers and brute force, the scores against NumPy, what is shown."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zeroshot import compare as compare_module
from zeroshot.compare import (
    Comparison,
    compare,
    compare_folder,
    mcnemar,
    paired_interval,
    wilson_interval,
)
from zeroshot.errors import (
    ImageError,
    InputTypeError,
    LabelError,
    OptionError,
    PromptError,
    PromptNotFoundError,
)
from zeroshot.labelled import labelled_folder
from zeroshot.tables import columns

LABELS = ["cat", "dog", "owl"]
PHOTO = "a photo of a {}."
SVG = "{http://www.w3.org/2000/svg}"


def photographs(count: int) -> tuple[list[str], list[int]]:
    """Return images that the fake encoder puts exactly where it puts the prompts of `PHOTO`."""
    targets = [i % len(LABELS) for i in range(count)]
    return [PHOTO.replace("{}", LABELS[target]) for target in targets], targets


def made_of(correct: Mapping[str, Sequence[int]], *, templates: int = 1) -> Comparison:
    """Return a comparison of sets by which images each gets right: 0 or 1 for each image."""
    results: list[Any] = []
    for name, row in correct.items():
        first = results[0].correct if results else None
        results.append(compare_module._result(name, templates, np.array(row, dtype=bool), first))
    return Comparison(tuple(results), len(results[0].correct), 3, "fake")


# ------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_are_where_the_test_begins_to_reject(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            z = abs(bound - successes / trials) / math.sqrt(bound * (1 - bound) / trials)
            assert z == pytest.approx(1.959964, abs=1e-4)


@pytest.mark.parametrize(("gained", "lost", "images"), [(9, 4, 60), (30, 10, 400), (0, 7, 25)])
def test_the_bootstrap_is_that_of_drawing_images(gained: int, lost: int, images: int) -> None:
    differences = np.array([1] * gained + [-1] * lost + [0] * (images - gained - lost))
    rng = np.random.default_rng(7)
    draws = differences[rng.integers(images, size=(20_000, images))].mean(axis=1)
    expected = np.percentile(draws, [2.5, 97.5])
    # The means lie on a grid of 1 / images, and so do the percentiles.
    assert paired_interval(gained, lost, images) == pytest.approx(tuple(expected), abs=1.01 / images)


def test_the_bootstrap_is_the_same_each_time() -> None:
    assert paired_interval(9, 4, 60) == paired_interval(9, 4, 60)
    assert paired_interval(0, 0, 5) == (0.0, 0.0)
    assert paired_interval(5, 0, 5) == (1.0, 1.0)


def test_mcnemar_counts_the_ways() -> None:
    for gained, lost in itertools.product(range(7), repeat=2):
        splits = itertools.product([0, 1], repeat=gained + lost)
        uneven = [abs(2 * sum(split) - gained - lost) >= abs(gained - lost) for split in splits]
        assert mcnemar(gained, lost) == pytest.approx(np.mean(uneven))
    assert mcnemar(3000, 2000) < 1e-40  # neither overflows
    assert mcnemar(100_000, 0) == 0.0


def test_verdicts_say_what_was_shown() -> None:
    first, more, less = [1] * 60 + [0] * 40, [1] * 72 + [0] * 28, [1] * 48 + [0] * 52
    sets = {"first": first, "same": first, "more": more, "less": less, "others": first[::-1]}
    results = made_of(sets).results
    assert [result.verdict for result in results] == [
        "baseline",
        "no difference shown",
        "better",
        "worse",
        "no difference shown",
    ]
    better = results[2]
    assert (better.gained, better.lost) == (12, 0)
    assert better.accuracy == pytest.approx(0.72)
    assert better.difference == pytest.approx(0.12)
    assert 0 < better.difference_interval[0] < 0.12 < better.difference_interval[1] < 0.25
    assert better.interval == wilson_interval(72, 100)
    assert results[4].gained == results[4].lost == 40  # equally accurate, on other images


def test_few_images_show_nothing() -> None:
    # The bootstrap's interval leaves out 0 here, but five images out of five is chance in one case out of sixteen.
    few = made_of({"first": [0] * 5, "second": [1] * 5}).results[1]
    assert few.difference_interval == (1.0, 1.0)
    assert few.p_value == pytest.approx(0.0625)
    assert few.verdict == "no difference shown"
    assert made_of({"first": [0] * 6, "second": [1] * 6}).results[1].verdict == "better"


def test_chance_is_seldom_called_a_difference() -> None:
    rng = np.random.default_rng(0)
    for images in (8, 40):
        shown = 0
        for _ in range(150):
            first, second = rng.random((2, images)) < 0.6
            result = compare_module._result("second", 1, second, first)
            shown += result.verdict != "no difference shown"
        assert shown / 150 <= 0.05


# ---------------------------------------------------------------------------------------------------------- scoring


def test_scores_are_those_of_the_heads(fake: Any) -> None:
    rng = np.random.default_rng(0)
    images, targets = [f"picture {i}" for i in range(40)], rng.integers(3, size=40)
    templates = {"one": [PHOTO], "three": [PHOTO, "a drawing of a {}.", "{}"]}
    comparison = compare(images, targets, templates, labels=LABELS, model=fake)
    pictures = np.stack([fake.vector(image) for image in images])
    for result, (name, each) in zip(comparison.results, templates.items(), strict=True):
        head = np.stack([sum(fake.vector(t.replace("{}", label)) for t in each) for label in LABELS])
        head /= np.linalg.norm(head, axis=1, keepdims=True)
        correct = (pictures @ head.T).argmax(axis=1) == targets
        np.testing.assert_array_equal(result.correct, correct)
        assert result.correct.dtype == bool
        assert (result.name, result.templates) == (name, len(each))
        assert result.accuracy == pytest.approx(correct.mean())
    assert (comparison.n_images, comparison.n_classes, comparison.model) == (40, 3, "fake")


def test_images_are_embedded_once(fake: Any) -> None:
    images, targets = photographs(6)
    compare(iter(images), targets, {"a": PHOTO, "b": "{}", "c": "a {}"}, labels=iter(LABELS), model=fake)
    assert fake.images == [images]


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda targets: np.array(targets, dtype=np.uint8)])
def test_targets_in_any_form(fake: Any, kind: Callable[[Any], Any]) -> None:
    images, targets = photographs(7)
    comparison = compare(images, kind(targets), {"photo": PHOTO}, labels=LABELS, model=fake)
    assert comparison.results[0].accuracy == 1


def test_one_set_alone(fake: Any) -> None:
    images, targets = photographs(6)
    comparison = compare(images, targets, {"photo": PHOTO}, labels=LABELS, model=fake)
    (result,) = comparison.results
    assert result.verdict == "baseline"
    assert (result.difference, result.difference_interval) == (0.0, (0.0, 0.0))
    assert "Differences" not in str(comparison)
    ET.fromstring(comparison.svg())


def test_prompts_in_any_form(fake: Any) -> None:
    images, targets = photographs(6)
    written = {label: [PHOTO.replace("{}", label)] for label in LABELS}
    prompts = {"default": None, "written": written, "function": lambda label: [PHOTO.replace("{}", label)]}
    comparison = compare(images, targets, prompts, labels=LABELS, model=fake)
    assert [result.accuracy for result in comparison.results] == [1, 1, 1]
    assert [result.templates for result in comparison.results] == [1, 0, 0]


def test_a_cached_head_of_the_same_prompts_does_not_change_the_count(fake: Any) -> None:
    images, targets = photographs(3)
    written = {label: [PHOTO.replace("{}", label)] for label in LABELS}
    for prompts, templates in ((PHOTO, 1), (written, 0), (PHOTO, 1)):
        (result,) = compare(images, targets, {"set": prompts}, labels=LABELS, model=fake).results
        assert result.templates == templates


def test_names_of_the_sets_own_classes_are_compared_without_labels(fake: Any) -> None:
    images = ["a cat", "a dog"]
    names = {"right": {"cat": ["a cat"], "dog": ["a dog"]}, "wrong": {"dog": ["a dog"], "cat": ["a cat"]}}
    comparison = compare(images, [0, 1], names, model=fake)
    assert [result.accuracy for result in comparison.results] == [1, 0]
    assert comparison.n_classes == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": []}, OptionError, "images is empty"),
        ({"targets": [0, 1]}, OptionError, r"images are 3, targets of shape \(2,\); expected one target for each"),
        ({"targets": [[0, 1, 2]]}, OptionError, "one target for each image"),
        ({"targets": [[0], [1, 2], 0]}, InputTypeError, "targets cannot be read"),
        ({"targets": [0, 3, 1]}, OptionError, "target 1 is 3; expected a class index from 0 to 2"),
        ({"targets": [0, 1, -1]}, OptionError, "target 2 is -1"),
        ({"targets": ["cat", "dog", "owl"]}, InputTypeError, "such as .*'cat'.*; expected class indices"),
        ({"targets": [0.0, 1.0, 2.0]}, InputTypeError, "targets are float64"),
        ({"targets": [True, False, True]}, InputTypeError, "targets are bool"),
        ({"prompts": {}}, PromptError, "prompts is empty"),
        ({"prompts": [PHOTO]}, InputTypeError, "prompts is of type list; expected a mapping"),
        ({"prompts": {"a": "imagnet"}}, PromptNotFoundError, "did you mean 'imagenet'"),
        ({"prompts": {"a": "a {} {}"}}, PromptError, "2 slots"),
        ({"labels": []}, LabelError, "labels is empty"),
        ({"labels": None}, LabelError, "names no classes"),
        ({"labels": None, "prompts": {"a": "cifar10", "b": "food101"}}, LabelError, "'a': 10, 'b': 101.*give labels"),
    ],
)
def test_mistakes_are_named_before_any_image_is_read(
    fake: Any, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    images, targets = photographs(3)
    arguments: dict[str, Any] = {
        "images": images,
        "targets": targets,
        "prompts": {"photo": PHOTO},
        "labels": LABELS,
    } | change
    with pytest.raises(error, match=message):
        compare(**arguments, model=fake)
    assert fake.images == []


# ---------------------------------------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two classes and two images in each, and things beside them that are no images."""
    root = tmp_path / "pictures"
    for index, name in enumerate(["dog", "cat", ".cache"]):
        (root / name).mkdir(parents=True)
        for file in ("2.PNG", "1.jpg"):
            Image.new("RGB", (8, 8), (90 * index, 0, 0)).save(root / name / file)
    (root / "notes.txt").write_text("")
    (root / "cat" / "Thumbs.db").write_text("")
    (root / "cat" / ".hidden.jpg").write_text("")
    (root / "cat" / "folder.jpg").mkdir()
    return root


def test_a_folder_is_compared(folder: Path, clip: Any) -> None:
    prompts = ["{}", PHOTO, "{}"]
    comparison = compare_folder(folder, prompts, model=clip)
    assert [result.name for result in comparison.results] == ["{}", PHOTO]
    paths, targets, names = labelled_folder(folder)
    by_hand = compare(paths, targets, {"{}": "{}", PHOTO: PHOTO}, labels=names, model=clip)
    assert str(by_hand) == str(comparison)


def test_labels_in_place_of_the_folders_names(folder: Path, fake: Any) -> None:
    compare_folder(folder, ["{}"], labels=["house cat", "puppy"], model=fake)
    assert fake.texts == [["house cat", "puppy"]]
    with pytest.raises(LabelError, match=r"1 labels came for the 2 class folders .* in the order 'cat', 'dog'"):
        compare_folder(folder, ["{}"], labels=["cat"], model=fake)
    with pytest.raises(PromptError, match="prompts is empty"):
        compare_folder(folder, [], model=fake)


def test_a_broken_image_is_named(folder: Path, clip: Any) -> None:
    (folder / "dog" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        compare_folder(folder, ["{}"], model=clip)


# ---------------------------------------------------------------------------------------------------------- showing

NAMES = ["first", PHOTO, "ein sehr langer Name " * 20, "日本語のプロンプト", "<b> & \x1b[31m \x00 \ud800"]


@pytest.fixture
def shown() -> Comparison:
    """A comparison whose sets have names of all kinds."""
    rng = np.random.default_rng(0)
    return made_of({name: (rng.random(50) < 0.7).astype(int).tolist() for name in NAMES}, templates=80)


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    table = str(made_of({"first": [1] * 60 + [0] * 40, "photo": [1] * 72 + [0] * 28, "a longer name": [0] * 100}))
    about, _, header, first, photo, longer, _, note = table.splitlines()
    assert about == "images: 100, classes: 3, model: fake"
    assert header.split() == ["prompts", "templates", "accuracy", "difference", "verdict"]
    assert first.split() == ["first", "1", "60.0%", "[50.2,", "69.1]", "baseline"]
    assert photo.startswith("photo                  1   72.0% [62.5, 79.9]  +12.0 [+")
    assert photo.endswith("  better")
    assert longer.endswith("worse")
    assert len({line.index(word) for line, word in ((header, "verdict"), (photo, "better"), (longer, "worse"))}) == 1
    assert "percentage points to 'first'" in note


def test_the_table_of_names_of_all_kinds(shown: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = str(shown)
    assert "\x1b" not in table
    assert "\ud800" not in table
    assert PHOTO in table
    assert "ein sehr lan…anger Name" in table
    lines = table.splitlines()[2:-2]
    assert len({columns(line[: line.index("%")]) for line in lines[1:]}) == 1
    assert max(map(columns, lines)) < 110


@given(st.text(), st.integers(2, 40))
def test_names_are_shortened_in_the_middle(name: str, room: int) -> None:
    short = compare_module._shorten(name, room)
    assert columns(short) <= room
    assert short.isprintable()
    if columns(compare_module._printable(name)) <= room:
        assert short == compare_module._printable(name)


def test_the_picture_is_whole(shown: Comparison) -> None:
    root = ET.fromstring(shown.svg())
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert root.attrib["viewBox"] == f"0 0 {width:.0f} {height:.0f}"
    for text in root.iter(f"{SVG}text"):
        x, room = float(text.attrib["x"]), 8 * columns(text.text or "")
        start = x - room * {"start": 0, "middle": 0.5, "end": 1}[text.attrib["text-anchor"]]
        assert start >= 0, text.text
        assert start + room <= width, text.text
        assert 13 < float(text.attrib["y"]) < height - 4
    groups = list(root.iter(f"{SVG}g"))
    assert len(groups) == len(NAMES)
    for group, result in zip(groups, shown.results, strict=True):
        title, label, line, dot, note = group
        assert line.attrib["d"].startswith("M")
        low, high = (float(part.split(" ")[0]) for part in line.attrib["d"][1:].split("H"))
        assert low < float(dot.attrib["cx"]) < high
        assert title.text == compare_module._printable(result.name)
        assert label.text == compare_module._shorten(result.name, 48)
        assert result.verdict in (note.text or "")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0, 20, 40, 60, 80, 100]),
        (0.61, 1.0, [60, 70, 80, 90, 100]),
        (0.85, 0.8501, [85, 86]),
        (0.85, 0.85, [85, 86]),
        (0.552, 0.641, [54, 56, 58, 60, 62, 64, 66]),
    ],
)
def test_ticks(low: float, high: float, ticks: list[int]) -> None:
    assert compare_module._ticks(low, high) == ticks


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_ticks_span_every_interval(case: tuple[int, int]) -> None:
    low, high = wilson_interval(*case)
    ticks = compare_module._ticks(low, high)
    assert 0 <= ticks[0] <= 100 * low + 1e-9
    assert 100 * high - 1e-9 <= ticks[-1] <= 100
    assert 2 <= len(ticks) <= 8


def test_all_right_and_all_wrong_can_be_drawn() -> None:
    for correct in ([1], [0], [1] * 1000):
        ET.fromstring(made_of({"only": correct}).svg())


def test_notebooks_show_the_table_and_the_picture(shown: Comparison) -> None:
    page = shown._repr_html_()
    assert "<b> &" not in page
    assert "&lt;b&gt; &amp;" in page
    assert "\x1b" not in page
    assert page.count("<tr>") == 1 + len(NAMES)
    assert page.count("<svg ") == page.count("</svg>") == 1
    # All of it is where "$5 or $10" in a name is no formula.
    assert page.startswith('<div class="tex2jax_ignore mathjax_ignore"')
    assert page.endswith("</svg>\n</div></div>")


def test_the_picture_is_saved(shown: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "new" / "comparison.svg"
    shown.save_svg(path)
    shown.save_svg(str(path))
    assert path.read_text(encoding="utf-8") == shown.svg()
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(OSError, match="comparison"):
        shown.save_svg(path / "not-a-folder.svg")
