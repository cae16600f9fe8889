"""Labels and templates: every form in which they may come, and a message for every one that they may not."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from zeroshot.errors import InputTypeError, LabelError, PromptError, PromptNotFoundError
from zeroshot.prompts import (
    DEFAULT_TEMPLATE,
    Labels,
    PromptSet,
    as_prompt_set,
    available_prompts,
    choose_labels,
    load_prompts,
    parse_labels,
)

WITHOUT_BRACES = st.text(st.characters(codec="utf-8", exclude_characters="{}"))


def write(path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# -------------------------------------------------------------------------------------------------------- labels


class Word(str):
    """A kind of string, as NumPy's are."""


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog"],
        ("cat", "dog"),
        (name for name in ("cat", "dog")),
        dict.fromkeys(["cat", "dog"]).keys(),
        np.array(["cat", "dog"]),
        np.array(["cat", "dog"], dtype=object),
        [Word("cat"), Word("dog")],
        {"cat": "cat", "dog": "dog"},
        Labels(("cat", "dog"), (("cat",), ("dog",))),
    ],
    ids=["list", "tuple", "generator", "keys", "array", "object array", "subclass", "dict", "Labels"],
)
def test_every_form_of_labels(labels: Any) -> None:
    parsed = parse_labels(labels)
    assert parsed == Labels(("cat", "dog"), (("cat",), ("dog",)))
    assert [type(name) for name in parsed.names] == [str, str]


def test_synonyms() -> None:
    parsed = parse_labels({"plane": ["airplane", "aeroplane"], "cat": "cat", "dog": ("hound",)})
    assert parsed.names == ("plane", "cat", "dog")
    assert parsed.synonyms == (("airplane", "aeroplane"), ("cat",), ("hound",))
    prompts = PromptSet(("a {}", "the {}")).expand({"plane": ["airplane", "aeroplane"], "cat": "kitten"})
    assert prompts == [["a airplane", "the airplane", "a aeroplane", "the aeroplane"], ["a kitten", "the kitten"]]


def test_whole_prompts_are_synonyms_in_the_empty_template() -> None:
    prompts = as_prompt_set("{}").expand({"cat": ["a cat.", "a drawing of a cat."], "dog": ["a dog."]})
    assert prompts == [["a cat.", "a drawing of a cat."], ["a dog."]]


def test_repeated_names_are_kept() -> None:
    # "missile" and "sunglasses" each stand twice in ImageNet: classes are known by position.
    assert parse_labels(["missile", "crane", "missile"]).names == ("missile", "crane", "missile")
    assert len(PromptSet(("a {}",)).expand(["missile", "crane", "missile"])) == 3


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            "cat",
            LabelError,
            r"labels is the string 'cat'; expected a list of names, such as \['cat', 'something else'\]",
        ),
        ("", LabelError, "labels is the string ''"),
        ([], LabelError, "labels is empty; expected at least one name"),
        ({}, LabelError, "labels is empty"),
        (iter(()), LabelError, "labels is empty"),
        (np.array([], dtype=str), LabelError, "labels is empty"),
        (["cat", ""], LabelError, r"label 1 is blank \(''\); expected a name"),
        (["cat", " \t\n"], LabelError, r"label 1 is blank"),
        (["cat", "\u3000"], LabelError, r"label 1 is blank"),
        ({"cat": []}, LabelError, r"label 0 \('cat'\) has .*synonyms; expected .*at least one"),
        ({"cat": ["kitten", " "]}, LabelError, r"label 0 is blank"),
        ({"cat": ""}, LabelError, r"label 0 is blank"),
        ({"": "cat"}, LabelError, r"label 0 is blank"),
        (
            {"cat", "dog"},
            InputTypeError,
            r"labels is a set, which has no order; expected a list, such as sorted\(labels",
        ),
        (frozenset({"cat"}), InputTypeError, "labels is a set"),
        (["cat", 3], InputTypeError, "label 1 is 3 of type int; expected str"),
        (["cat", None], InputTypeError, "label 1 is None of type NoneType"),
        (["cat", b"dog"], InputTypeError, "label 1 is b'dog' of type bytes"),
        ([["cat", "dog"]], InputTypeError, r"label 0 is \['cat', 'dog'\] of type list"),
        ({3: "cat"}, InputTypeError, "label 0 is 3 of type int"),
        ({"cat": [3]}, InputTypeError, "label 0 is 3 of type int"),
        (b"cat", InputTypeError, "labels is b'cat' of type bytes; expected a list of names"),
        (3, InputTypeError, "labels is 3 of type int"),
        (None, InputTypeError, "labels is None of type NoneType"),
        (np.array([["cat"]]), InputTypeError, "label 0 is .* of type ndarray"),
        ({"cat": 3}, InputTypeError, "'cat'.* 3 .*int"),
        ({"cat": None}, InputTypeError, "'cat'.* None .*NoneType"),
        ({"cat": {"kitten", "kitty"}}, InputTypeError, "'cat'.*set"),
    ],
)
def test_labels_that_cannot_be_used(labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_labels(labels)


# ----------------------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize(
    "labels", [["cat", "dog", "cat"], ["cat", "dog", " Cat "], {"cat": "cat", "dog": "dog", "tom": ["cat"]}]
)
def test_a_label_that_stands_twice_is_told(labels: Any) -> None:
    with pytest.warns(UserWarning, match=r"label 2 \(.*\) reads like label 0 \('cat'\).*; drop one, or add a word"):
        choose_labels(labels, as_prompt_set(None))


def test_a_shipped_set_repeats_names_as_its_data_set_does() -> None:
    for prompts in map(load_prompts, available_prompts()):  # warnings are errors
        if prompts.classes:
            assert choose_labels(None, prompts) == choose_labels(prompts.labels, as_prompt_set(None))
            assert choose_labels(prompts.classes, prompts).names == prompts.classes


@given(WITHOUT_BRACES, WITHOUT_BRACES, st.text())
@example("a ", "!", "{}")
@example("", "", "{0.__class__}")
@example("", "", "%s $x {label!r} \\1")
def test_a_label_stands_in_the_slot_character_for_character(prefix: str, suffix: str, label: str) -> None:
    assume(not prefix.lower().endswith("a(n) "))  # the one thing that is interpreted: an article by sound
    prompts = as_prompt_set(prefix + "{}" + suffix)
    if label.strip():
        assert prompts.expand([label]) == [[prefix + label + suffix]]
    else:
        with pytest.raises(LabelError, match="label 0 is blank"):
            prompts.expand([label])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("a photo", "has 0 slots; expected exactly one {}, such as 'a photo of a {}.'"),
        ("", "has 0 slots"),
        ("{} and {}", "has 2 slots; expected exactly one {}"),
        ("{0}", "has 0 slots"),
        ("{0.__class__}", "has 0 slots"),
        ("{label}", "has 0 slots"),
        ("a {} of {label}", "has a brace beside its slot; expected one {} and no other brace"),
        ("{{}}", "has a brace beside its slot"),
        ("{}}", "has a brace beside its slot"),
        ("{", "has 0 slots"),
    ],
)
def test_templates_that_cannot_be_used_are_named(template: str, reason: str) -> None:
    with pytest.raises(PromptError) as caught:
        PromptSet(("a fine {}", template))
    assert str(caught.value).startswith(f"template {template!r} {reason}")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("template", [None, 3, b"a {}", ["a {}"]])
def test_a_template_that_is_no_string(template: Any) -> None:
    with pytest.raises(InputTypeError, match=f"of type {type(template).__name__}; expected str"):
        PromptSet((template,))


def test_a_set_without_templates() -> None:
    for make in (lambda: PromptSet(()), lambda: as_prompt_set([])):
        with pytest.raises(PromptError, match=r"'custom' has no templates; expected .* such as 'a photo of a"):
            make()


def test_a_set_made_of_lists_is_a_value_too() -> None:
    # `classify` remembers heads by their prompts, so a set must be hashable however it was made.
    prompts = PromptSet(["a {}", "the {}"], classes=["cat"])  # type: ignore[arg-type]
    assert prompts == PromptSet(("a {}", "the {}"), classes=("cat",))
    assert hash(prompts) == hash(PromptSet(("a {}", "the {}"), classes=("cat",)))


def test_one_string_in_place_of_templates() -> None:
    with pytest.raises((PromptError, InputTypeError), match=r"a photo of a \{\}"):
        PromptSet("a photo of a {}.")  # type: ignore[arg-type]


def test_classes_are_as_usable_as_labels_are() -> None:
    for classes, error, message in (
        ("cat", (LabelError, PromptError), "'cat'"),
        (("cat", " "), (LabelError, PromptError), "blank"),
        (("cat", 3), (InputTypeError, PromptError), "3"),
    ):
        with pytest.raises(error, match=message):
            PromptSet(("a {}",), classes=classes).expand()  # type: ignore[arg-type]


def test_synonyms_of_a_set_are_as_usable_as_those_of_labels() -> None:
    prompts = PromptSet(("a {}",), classes=("cat", "dog"), synonyms=(("cat", "kitten"), ("dog",)))
    assert prompts.expand() == [["a cat", "a kitten"], ["a dog"]]
    assert prompts.digest != PromptSet(("a {}",), classes=("cat", "dog")).digest
    for synonyms in ((("cat",), ()), (("cat",), (" ",)), (("cat",),), (("cat",), (3,)), ("cat", "dog")):
        with pytest.raises((LabelError, PromptError, InputTypeError)):
            PromptSet(("a {}",), classes=("cat", "dog"), synonyms=synonyms).expand()  # type: ignore[arg-type]


def test_a_prompt_set_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PromptSet(("a {}",)).templates = ()  # type: ignore[misc]


# -------------------------------------------------------------------------------------------------- forms of sets


def test_every_form_of_prompts(tmp_path: Path) -> None:
    expected = [["a photo of a cat."]]
    text = write(tmp_path / "own.txt", "# mine\n\n  a photo of a {}.  \n")
    toml = write(tmp_path / "own.toml", 'templates = ["a photo of a {}."]\n')
    forms: list[Any] = [
        *(None, "a photo of a {}.", ["a photo of a {}."], ("a photo of a {}.",), PromptSet(("a photo of a {}.",))),
        *(text, str(text), toml, str(toml), lambda label: [f"a photo of a {label}."]),
    ]
    for prompts in forms:
        assert as_prompt_set(prompts).expand(["cat"]) == expected
    assert as_prompt_set(None).templates == (DEFAULT_TEMPLATE,)
    assert as_prompt_set("mnist") is load_prompts("mnist")  # by the name of a shipped set
    assert load_prompts(text).name == load_prompts(toml).name == "own"


@pytest.mark.parametrize("prompts", [3, 2.5, b"a {}", {"a {}"}, object()])
def test_prompts_of_another_type(prompts: Any) -> None:
    with pytest.raises(InputTypeError, match=f"of type {type(prompts).__name__}; expected the name of a set, a path"):
        as_prompt_set(prompts)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("imagnet", "did you mean 'imagenet'"),
        ("food-101", "did you mean 'food101'"),
        ("a photo of a cat", "needs the slot {}, such as 'a photo of a {}.'"),
        ("xyzzy", "shipped sets: "),
        ("own.toml", "is no shipped prompt set and no file"),
        ("", "is no shipped prompt set and no file"),
        ("a template whose slot was forgotten " * 10, "needs the slot {}"),  # too long for the name of a file
    ],
)
def test_an_unknown_set_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(PromptNotFoundError) as caught:
        as_prompt_set(name)
    assert hint in str(caught.value)
    assert repr(name) in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, PromptError)


def test_shipped_sets_are_listed_and_loaded_by_name() -> None:
    names = available_prompts()
    assert names == sorted(names)
    assert len(names) > 40
    for name in ("imagenet", "food101", "cifar10"):
        assert load_prompts(name).name == name


def test_a_shipped_name_goes_before_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mnist", "mine {}")
    monkeypatch.chdir(tmp_path)
    assert load_prompts("mnist").title == "MNIST"
    assert load_prompts(Path("mnist")).templates == ("mine {}",)  # a Path is never a name


# ----------------------------------------------------------------------------- whole prompts for each of the labels


DESCRIPTIONS = {"hen": ["a hen, which has feathers", "a hen, which has a beak"], "egg": ["an {egg}"]}


def test_a_mapping_holds_whole_prompts(tmp_path: Path) -> None:
    json_file = write(tmp_path / "own.json", json.dumps(DESCRIPTIONS))
    for prompts in (as_prompt_set(DESCRIPTIONS), load_prompts(json_file)):
        assert prompts.classes == ("hen", "egg")
        assert prompts.expand() == list(DESCRIPTIONS.values())
        assert prompts.expand(["egg", "hen", "egg"]) == [DESCRIPTIONS[name] for name in ("egg", "hen", "egg")]
        with pytest.raises(PromptError, match=r"no prompts for the label 'hem'.* near labels: 'hen'"):
            prompts.expand(["hem"])


def test_a_table_has_no_labels_but_columns() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": ["cat", "dog"]})
    with pytest.raises(InputTypeError, match="labels is a table, of type DataFrame; take a column of it"):
        parse_labels(table)
    assert parse_labels(table["a"]).names == ("cat", "dog")


def test_templates_of_other_libraries() -> None:
    templates = [lambda c: f"a photo of a {c}.", lambda c: f"art of the {c}."]  # open_clip's
    assert as_prompt_set(templates).expand(["cat"]) == [["a photo of a cat.", "art of the cat."]]
    with pytest.raises(PromptError, match=r"expected exactly one \{\}: write \{\} in place of \{c\}"):
        as_prompt_set(["a photo of a {c}."])  # CLIP_benchmark's


def test_a_file_of_prompts_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "owls.txt", "a {}")
    with pytest.raises(
        PromptNotFoundError, match=r"owl\.txt' is no .* \(the working folder is .*\); did you mean '.*/owls"
    ):
        as_prompt_set(str(tmp_path / "owl.txt"))
    with pytest.raises(PromptNotFoundError, match=r"'nofile\.txt' is no .*; available_prompts\(\) lists"):
        as_prompt_set("nofile.txt")


def test_a_set_says_in_a_line_what_it_is() -> None:
    assert repr(load_prompts("imagenet")) == "<PromptSet 'imagenet': 80 templates, 1,000 classes>"
    assert repr(as_prompt_set(DESCRIPTIONS)) == "<PromptSet 'custom': whole prompts of 2 classes, 2 classes>"
    assert repr(as_prompt_set(lambda label: [label])) == "<PromptSet 'custom': a function>"


def test_whole_prompts_go_before_templates() -> None:
    prompts = PromptSet.from_descriptions(DESCRIPTIONS, ["a {}"])
    assert prompts.expand(["cat", "hen"]) == [["a cat"], DESCRIPTIONS["hen"]]
    assert prompts.digest != PromptSet(("a {}",), classes=("hen", "egg")).digest
    assert prompts.digest != PromptSet.from_descriptions(DESCRIPTIONS | {"egg": ["an egg"]}, ["a {}"]).digest
    assert hash(prompts) == hash(PromptSet.from_descriptions(DESCRIPTIONS, ["a {}"]))


@pytest.mark.parametrize("prompts", [{}, {"hen": "a hen"}, {"hen": []}, {"hen": [" "]}, {"hen": [3]}, {"hen": None}])
def test_a_mapping_of_something_else_is_an_error(prompts: Any, tmp_path: Path) -> None:
    with pytest.raises(PromptError):
        as_prompt_set(prompts)
    with pytest.raises(PromptError, match=r"own\.json"):
        load_prompts(write(tmp_path / "own.json", json.dumps(prompts)))


@pytest.mark.parametrize("text", ["", "{", "3", "null", '"a {}"', "[]", "[3]", '["a photo"]', "[" * 100_000])
def test_json_files_that_cannot_be_used_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(PromptError, match=r"own\.json"):
        load_prompts(write(tmp_path / "own.json", text))


def test_a_json_file_of_templates(tmp_path: Path) -> None:
    assert load_prompts(write(tmp_path / "own.json", '["a {}", "the {}"]')).templates == ("a {}", "the {}")


# ------------------------------------------------------------------------------------------------------ functions


def test_a_function_is_asked_for_each_word() -> None:
    asked: list[str] = []

    def describe(word: str) -> tuple[str, ...]:
        asked.append(word)
        return (f"{word}, an animal", f"{word} {{}} as it is")

    assert as_prompt_set(describe).expand({"cat": ["kitten", "tom"], "dog": "dog"}) == [
        ["kitten, an animal", "kitten {} as it is", "tom, an animal", "tom {} as it is"],
        ["dog, an animal", "dog {} as it is"],
    ]
    assert asked == ["kitten", "tom", "dog"]


@pytest.mark.parametrize(
    "answer", ["a cat", [], None, 3, [""], [" "], ["a cat", None], [3], iter(["a cat"]), {"a cat"}]
)
def test_a_function_that_returns_something_else_is_an_error_that_names_the_label(answer: Any) -> None:
    with pytest.raises(PromptError, match=r"the prompt function returned .* the label 'cat'; expected"):
        as_prompt_set(lambda label: answer).expand(["cat"])


def test_the_error_of_a_function_is_the_callers() -> None:
    def fail(label: str) -> list[str]:
        raise KeyError(label)

    with pytest.raises(KeyError, match="cat"):
        as_prompt_set(fail).expand(["cat"])


# --------------------------------------------------------------------------------------------------------- digest


@given(st.lists(WITHOUT_BRACES, min_size=1, max_size=3), st.lists(st.text(), max_size=3), st.data())
def test_the_digest_covers_every_character_and_the_order(ends: list[str], classes: list[str], data: Any) -> None:
    templates = [end + "{}" for end in ends]
    original = PromptSet(tuple(templates), classes=tuple(classes))
    which = data.draw(st.integers(0, len(templates) - 1))
    at = data.draw(st.integers(0, len(ends[which])))
    changed = [*templates]
    changed[which] = ends[which][:at] + data.draw(st.sampled_from("aé \n")) + ends[which][at:] + "{}"
    others = [PromptSet(tuple(changed), classes=original.classes)]
    others += [
        PromptSet(original.templates, classes=(*classes, "cat")),
        PromptSet((*templates, "{}"), original.classes),
    ]
    if templates[::-1] != templates:
        others.append(PromptSet(tuple(templates[::-1]), classes=original.classes))
    if classes[::-1] != classes:
        others.append(PromptSet(original.templates, classes=tuple(classes[::-1])))
    assert original.digest not in {other.digest for other in others}
    assert dataclasses.replace(original, title="another", name="x", source="y", order="z").digest == original.digest


def test_templates_and_classes_do_not_run_into_each_other() -> None:
    digests = {
        PromptSet(("a {}",), classes=("b {}",)).digest,
        PromptSet(("a {}", "b {}")).digest,
        PromptSet(("a {}",), classes=("b", "{}")).digest,
    }
    assert len(digests) == 3
    assert all(len(digest) == 64 for digest in digests)


# ---------------------------------------------------------------------------------------------------------- files


def test_a_toml_file_of_ones_own(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pets.toml",
        'title = "Pets"\nsource = "mine"\nlicense = "CC0"\norder = "as written"\n'
        'templates = ["a {}", "the {}"]\nclasses = ["cat", "café cat", "cat"]\n',
    )
    pets = load_prompts(path)
    assert pets.templates == ("a {}", "the {}")
    assert pets.classes == ("cat", "café cat", "cat")
    assert (pets.name, pets.title, pets.source, pets.license, pets.order) == (
        *("pets", "Pets", "mine", "CC0"),
        "as written",
    )


def test_a_text_file_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path / "own.txt", "# comment\r\n\r\n a {} \r\nthe {}, # not a comment\r\n")
    assert load_prompts(path).templates == ("a {}", "the {}, # not a comment")
    assert load_prompts(path).classes == ()


@pytest.mark.parametrize("name", ["own.txt", "own.toml"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, name: str) -> None:
    # Windows' Notepad writes one; in front of the first template it would be a token of its own.
    text = "a {}\n" if name.endswith("txt") else 'templates = ["a {}"]\n'
    assert load_prompts(write(tmp_path / name, text, encoding="utf-8-sig")).templates == ("a {}",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('templates = ["a {}"', "is not valid TOML"),
        ("templates = 'a {}'", "templates is not a list of strings"),
        ("templates = [1]", "templates is not a list of strings"),
        ("templates = ['a {}', ['b {}']]", "templates is not a list of strings"),
        ("templates = ['a {}']\nclasses = 'cat'", "classes is not a list of strings"),
        ("templates = ['a {}']\nclasses = {cat = 1}", "classes is not a list of strings"),
        ("templates = ['a {}']\nclases = ['cat']", "has unknown keys clases; expected only base, classes"),
        ("templates = ['a {}']\n[classes]\ncat = 1", "classes is not a list of strings"),
        ("templates = ['a {}']\ntitle = 3", "title"),
        ("templates = ['a {}']\nlicense = ['MIT']", "license"),
        ("", "has no templates"),
        ("classes = ['cat']", "has no templates"),
        ("templates = []", "has no templates"),
        ("templates = ['a photo']", "template 'a photo' has 0 slots"),
        ("base = 'nowhere'", "'nowhere' is no shipped prompt set"),
        ("base = 3", "base"),
        ("base = ['cifar10']", "base"),
        ("base = 'cifar10'\nindices = [0, 10]", "indices"),
        ("base = 'cifar10'\nindices = [-1]", "indices"),
        ("base = 'cifar10'\nindices = ['cat']", "indices"),
        ("base = 'cifar10'\nindices = [0.0]", "indices"),
        ("base = 'cifar10'\nindices = [true]", "indices"),
        ("base = 'cifar10'\nindices = 3", "indices"),
        ("base = 'cifar10'\nclasses = ['cat']", "classes"),  # which of the two is meant?
        ("templates = ['a {}']\nindices = [0]", "indices"),  # of what?
        ("templates = ['a {}']\nprompts = 3", "prompts"),
        ("templates = ['a {}']\n[prompts]\ncat = 'a cat'", "prompts"),
        ("a = " + "[" * 100_000, "TOML"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "own.toml", text)
    with pytest.raises(PromptError) as caught:
        load_prompts(path)
    assert message in str(caught.value)
    assert "own" in str(caught.value)


def test_a_bad_template_of_a_text_file_is_named_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "own.txt", "a {}\na photo\n")
    with pytest.raises(PromptError, match="template 'a photo' has 0 slots") as caught:
        load_prompts(path)
    assert "own.txt" in str(caught.value)


@pytest.mark.parametrize("name", ["own.txt", "own.toml"])
def test_a_file_that_is_not_utf8(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "templates = ['a café {}']", encoding="latin-1")
    with pytest.raises(PromptError, match=r"is not UTF-8 text.*save it as UTF-8") as caught:
        load_prompts(path)
    assert str(path) in str(caught.value)


def test_a_view_takes_classes_of_another_set_in_its_own_order(tmp_path: Path) -> None:
    cifar = load_prompts("cifar10")
    view = load_prompts(write(tmp_path / "view.toml", "base = 'cifar10'\nindices = [3, 0, 3]"))
    assert view.classes == (cifar.classes[3], cifar.classes[0], cifar.classes[3])
    assert view.templates == cifar.templates
    assert view.name == "view"
    whole = load_prompts(write(tmp_path / "whole.toml", "base = 'cifar10'\ntemplates = ['my {}']"))
    assert whole.classes == cifar.classes
    assert whole.templates == ("my {}",)


def test_a_view_of_itself_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    write(path, f"base = '{path.as_posix()}'")
    with pytest.raises(PromptError, match=r"own\.toml"):
        load_prompts(path)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "own.txt", "a {}\n")
    os.utime(path, ns=(1, 1))
    assert load_prompts(path).templates == ("a {}",)
    write(path, "b {}\n")
    os.utime(path, ns=(2, 2))
    assert load_prompts(path).templates == ("b {}",)


def test_labels_are_read_once() -> None:
    # A generator is exhausted by the first reading; names and prompts must come from the same one.
    def names() -> Iterator[str]:
        yield from ("cat", "dog")

    parsed = parse_labels(names())
    assert PromptSet(("a {}",)).expand(parsed) == [["a cat"], ["a dog"]]
    assert parse_labels(parsed) is parsed
