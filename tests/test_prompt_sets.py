"""The shipped prompt sets are, character for character, what their sources published."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from zeroshot.prompts import PromptSet, available_prompts, load_prompts, parse_labels

DIGESTS: dict[str, str] = json.loads((Path(__file__).parent / "golden" / "prompt_digests.json").read_text())

# The zero-shot table of the CLIP paper: name of the set -> number of classes, number of templates.
PAPER = {
    "birdsnap": (500, 1),
    "caltech101": (102, 34),
    "cifar10": (10, 18),
    "cifar100": (100, 18),
    "clevr_counts": (8, 1),
    "country211": (211, 5),
    "dtd": (47, 8),
    "eurosat": (10, 3),
    "fer2013": (7, 6),
    "fgvc_aircraft": (100, 2),
    "flowers102": (102, 1),
    "food101": (101, 1),
    "gtsrb": (43, 3),
    "hateful_memes": (2, 1),
    "imagenet": (1000, 80),
    "kinetics700": (700, 28),
    "kitti_distance": (4, 1),
    "mnist": (10, 1),
    "oxford_pets": (37, 1),
    "pcam": (2, 1),
    "resisc45": (45, 18),
    "sst2": (2, 1),
    "stanford_cars": (196, 8),
    "stl10": (10, 2),
    "sun397": (397, 2),
    "ucf101": (101, 48),
    "voc2007": (20, 1),
}


@pytest.mark.parametrize("name", available_prompts())
def test_every_shipped_set_loads_and_says_where_it_is_from(name: str) -> None:
    prompts = load_prompts(name)
    assert prompts.name == name
    assert prompts.title
    assert prompts.source
    assert prompts.license
    assert bool(prompts.order) == bool(prompts.classes)  # class indices mean nothing without an order
    if prompts.classes:
        assert len(parse_labels(prompts.classes).names) == len(prompts.classes)  # usable as labels: none is blank


def test_every_shipped_set_has_a_recorded_digest() -> None:
    assert available_prompts() == sorted(DIGESTS)


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_digest_equals_the_one_computed_from_the_source(name: str) -> None:
    # tests/golden/make_prompt_digests.py computes these from the sources by a path of its own.
    assert load_prompts(name).digest == DIGESTS[name]


def test_stray_spaces_are_the_sources() -> None:
    # The digests above say that they are; a new one would be ours.
    stray = {
        name: (sum(map(_is_stray, prompts.classes)), sum(map(_is_stray, prompts.templates)))
        for name in available_prompts()
        for prompts in [load_prompts(name)]
    }
    assert {name: counts for name, counts in stray.items() if any(counts)} == {
        "caltech101": (1, 0),
        "caltech101_vtab": (1, 0),
        "imagenet_ar": (18, 6),
    }


def _is_stray(text: str | tuple[str, ...]) -> bool:
    words = [text] if isinstance(text, str) else text
    return any(word.startswith(" ") or word.endswith(" ") or "  " in word for word in words)


def test_the_27_sets_of_the_paper_are_all_there() -> None:
    assert len(PAPER) == 27
    assert set(PAPER) <= set(available_prompts())


# Table 9 of the paper (appendix A.1); all others are measured by accuracy.
METRICS_OF_THE_PAPER = {
    "caltech101": "mean_per_class_recall",
    "fgvc_aircraft": "mean_per_class_recall",
    "flowers102": "mean_per_class_recall",
    "hateful_memes": "roc_auc",
    "kinetics700": "mean_of_top_1_and_top_5",
    "oxford_pets": "mean_per_class_recall",
    "voc2007": "voc2007_mean_average_precision",
}


@pytest.mark.parametrize("name", sorted(PAPER))
def test_each_set_of_the_paper_says_by_which_metric_and_on_which_images(name: str) -> None:
    prompts = load_prompts(name)
    assert prompts.metric == METRICS_OF_THE_PAPER.get(name, "top_1")
    assert "http" in prompts.data


@pytest.mark.parametrize(("name", "classes", "templates"), [(name, *counts) for name, counts in PAPER.items()])
def test_numbers_of_classes_and_templates(name: str, classes: int, templates: int) -> None:
    prompts = load_prompts(name)
    assert (len(prompts.classes), len(prompts.templates)) == (classes, templates)


def test_imagenet_keeps_its_repeated_names() -> None:
    classes = load_prompts("imagenet").classes
    # A loader that treats names as keys would end up with 998 classes and shifted indices.
    assert {name for name in classes if classes.count(name) > 1} == {"missile", "sunglasses"}
    assert [i for i, name in enumerate(classes) if name == "missile"] == [657, 744]
    assert [i for i, name in enumerate(classes) if name == "sunglasses"] == [836, 837]


def test_the_seven_templates_are_among_the_eighty() -> None:
    seven, imagenet = load_prompts("imagenet_7"), load_prompts("imagenet")
    assert len(seven.templates) == 7
    assert set(seven.templates) <= set(imagenet.templates)
    assert seven.classes == imagenet.classes


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [("imagenet_a", 200, "stingray"), ("imagenet_r", 200, "goldfish"), ("imagenet_v2", 1000, "tench")],
)
def test_views_are_numbered_among_themselves(name: str, count: int, first: str) -> None:
    view, imagenet = load_prompts(name), load_prompts("imagenet")
    assert len(view.classes) == count
    assert view.classes[0] == first
    assert view.templates == imagenet.templates
    order = iter(imagenet.classes)
    assert all(name in order for name in view.classes)  # consumes `order`: the view keeps ImageNet's sequence


def test_digest_sees_every_character_and_the_order() -> None:
    eurosat = load_prompts("eurosat")
    templates, classes = eurosat.templates, eurosat.classes
    changed = [
        PromptSet((templates[0] + " ", *templates[1:]), classes),
        PromptSet((templates[0].replace("a", "A", 1), *templates[1:]), classes),
        PromptSet(templates[::-1], classes),
        PromptSet(templates[:-1], classes),
        PromptSet(templates, (*classes[:-1], classes[-1] + "s")),
        PromptSet(templates, (classes[1], classes[0], *classes[2:])),
        PromptSet(templates, classes[:-1]),
    ]
    digests = {prompts.digest for prompts in changed}
    assert len(digests) == len(changed)
    assert eurosat.digest not in digests


def test_digest_keeps_templates_and_classes_apart() -> None:
    # The same texts, but one of them is a template in the one set and a class in the other.
    assert PromptSet(("{}", "a {}"), classes=("b",)).digest != PromptSet(("{}",), classes=("a {}", "b")).digest


def test_digest_does_not_see_where_a_set_is_from() -> None:
    eurosat = load_prompts("eurosat")
    assert dataclasses.replace(eurosat, title="another").digest == eurosat.digest
    assert PromptSet(eurosat.templates, eurosat.classes).digest == eurosat.digest  # nor anything else beside these
    assert dataclasses.replace(eurosat, metric="macro_f1", data="elsewhere").digest == eurosat.digest
