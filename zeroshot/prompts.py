"""Labels and templates: from the names of classes to the prompts that the text tower reads.

A shipped set is one file of `prompts/`; a set of one's own has the same form. Nothing in a label or a template is ever
interpreted: the one slot `{}` is replaced by the label, character for character.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from zeroshot import display
from zeroshot.article import indefinite_article
from zeroshot.errors import InputTypeError, LabelError, PromptError, PromptNotFoundError, levels_to_caller

SLOT = "{}"
DEFAULT_TEMPLATE = "a photo of a {}."  # the paper's default prompt, section 3.1.4

# "a(n) {}" in a template becomes "a" or "an" by the sound of the label.
ARTICLE = "a(n) "

# Names of metrics -> what they are called. `zeroshot.metrics` says what they are; a prompt set names the one that its
# data set's results are published by.
METRICS = {
    "top_1": "top-1 accuracy",
    "top_5": "top-5 accuracy",
    "mean_of_top_1_and_top_5": "mean of top-1 and top-5 accuracy",
    "mean_per_class_recall": "mean per-class recall",
    "macro_f1": "macro F1",
    "mean_average_precision": "mean average precision",
    "voc2007_mean_average_precision": "11-point mean average precision",
    "roc_auc": "area under the ROC curve",
    "expected_calibration_error": "expected calibration error",
}

_SUFFIXES = (".toml", ".json", ".txt")  # of files with prompts
_CLASSES_SHOWN = 16  # in a notebook

LabelsLike: TypeAlias = "Iterable[str] | Mapping[str, str | Sequence[str]] | Labels"
PromptsLike: TypeAlias = (
    "str | os.PathLike[str] | Sequence[str] | Sequence[Callable[[str], str]] | Mapping[str, Sequence[str]] | "
    "Callable[[str], Sequence[str]] | PromptSet"
)


@dataclass(frozen=True)
class PromptSet:
    """Templates, and the class names that they were written for.

    Attributes
    ----------
    templates : tuple of str
        Each holds the slot ``{}`` exactly once and no other brace. ``a(n) {}`` becomes "a" or "an" by sound.
    classes : tuple of str
        Class names in the order of the data set's class indices; empty if the set is for any labels. Names may repeat.
    synonyms : tuple of tuple of str
        For each of `classes` the words that stand for it in the templates; empty if these are the names themselves.
    written : tuple of (str, tuple of str)
        Whole prompts of single classes by name, which go before the templates: descriptions as in CuPL (Pratt et al.,
        2023) or classification by description (Menon and Vondrick, 2023).
    function : callable, optional
        ``label -> list of prompts``, in place of templates.
    name, title, source, license, order : str
        Where the set comes from and how its classes are ordered. They are not part of `digest`.
    metric : str
        A key of `METRICS`: by which results on the data set are published. Empty if nothing is said. Not part of
        `digest`.
    data : str
        Where the images are to be had. Not part of `digest`.

    Raises
    ------
    PromptError
        If there is nothing to make prompts from, or a template is not usable; the message names it.

    Examples
    --------
    >>> PromptSet(("a photo of a {}.", "a drawing of a {}.")).expand(["cat"])
    [['a photo of a cat.', 'a drawing of a cat.']]
    >>> PromptSet(("a photo of a(n) {}.",)).expand(["owl", "unicorn"])
    [['a photo of an owl.'], ['a photo of a unicorn.']]
    >>> pets = PromptSet(("a photo of a {}.",), classes=("beagle", "Bombay"))
    >>> pets.labels.names, len(pets.digest)
    (('beagle', 'Bombay'), 64)
    """

    templates: tuple[str, ...]
    classes: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, ...], ...] = ()
    written: tuple[tuple[str, tuple[str, ...]], ...] = ()
    function: Callable[[str], Sequence[str]] | None = field(default=None, repr=False)
    name: str = "custom"
    title: str = ""
    source: str = ""
    license: str = ""
    order: str = ""
    metric: str = ""
    data: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.templates, str):
            raise PromptError(
                f"templates is the string {self.templates!r}; expected a list, such as [{self.templates!r}]"
            )
        if isinstance(self.classes, str):
            raise PromptError(f"classes is the string {self.classes!r}; expected a list of names")
        for name in ("templates", "classes", "synonyms", "written"):  # hashable however the set was made
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.function is None and not self.templates and not self.written:
            raise PromptError(f"prompt set {self.name!r} has no templates; expected one such as {DEFAULT_TEMPLATE!r}")
        for template in self.templates:
            check_template(template)
        for label, prompts in self.written:
            _check_prompts(prompts, f"the prompts of the label {label!r} are {prompts!r}")
        if self.metric and self.metric not in METRICS:
            raise PromptError(f"metric is {self.metric!r}; expected one of {', '.join(METRICS)}")
        if self.synonyms and len(self.synonyms) != len(self.classes):
            raise PromptError(
                f"prompt set {self.name!r} has synonyms for {len(self.synonyms)} of {len(self.classes)} classes; "
                "expected one entry for each"
            )

    @classmethod
    def from_descriptions(
        cls, prompts: Mapping[str, Sequence[str]], templates: Sequence[str] = (), *, name: str = "custom"
    ) -> PromptSet:
        """Make a set of whole prompts for each class; other labels go through `templates`, if there are any.

        Parameters
        ----------
        prompts : mapping from label to sequence of str
        templates : sequence of str
        name : str

        Returns
        -------
        PromptSet

        Raises
        ------
        PromptError
            If there is no prompt, or a template is not usable.

        Examples
        --------
        >>> hens = PromptSet.from_descriptions({"hen": ["a hen, which has feathers", "a hen, which has a beak"]})
        >>> hens.expand()
        [['a hen, which has feathers', 'a hen, which has a beak']]
        """
        table = tuple(
            (label, tuple(_check_prompts(texts, f"the prompts of the label {label!r} are {texts!r}")))
            for label, texts in prompts.items()
        )
        return cls(tuple(templates), classes=tuple(prompts), written=table, name=name)

    def _repr_html_(self) -> str:
        """Templates, classes and where they come from, for notebooks."""
        written = [f"{label}: {' / '.join(texts)}" for label, texts in self.written]
        more = len(self.classes) - _CLASSES_SHOWN
        return display.page(
            display.title("Prompts", ", ".join(filter(None, (self.name, self.title)))),
            display.facts(
                [
                    ("templates", display.lines(self.templates)),
                    ("function", getattr(self.function, "__name__", None) or (self.function and repr(self.function))),
                    ("whole prompts", display.lines(written)),
                    ("classes", display.words(self.classes, shown=_CLASSES_SHOWN)),
                    ("in all", display.plural(len(self.classes), "class") if more > 0 else ""),
                    ("measured by", METRICS.get(self.metric, "")),
                    ("source", self.source),
                    ("licence", self.license),
                ]
            ),
        )

    def __repr__(self) -> str:
        what = [display.plural(len(self.templates), "template")] if self.templates else []
        what += ["a function"] if self.function is not None else []
        what += [f"whole prompts of {display.plural(len(self.written), 'class')}"] if self.written else []
        what += [display.plural(len(self.classes), "class")] if self.classes else []
        return f"<PromptSet {self.name!r}: {', '.join(what)}>"

    @property
    def digest(self) -> str:
        """Return the SHA-256 over templates, classes, synonyms and whole prompts in their order, in hexadecimal."""
        content: dict[str, object] = {"templates": self.templates, "classes": self.classes}
        if self.synonyms:
            content["synonyms"] = self.synonyms
        if self.written:
            content["written"] = self.written
        return _digest(content)

    @property
    def labels(self) -> Labels:
        """Return the set's own classes with their synonyms.

        Returns
        -------
        Labels
            Its `names` and its `synonyms`, each a tuple with an entry a class.

        Raises
        ------
        LabelError, InputTypeError
            If the set is for any labels and has no classes, or one is no string.
        """
        if not self.classes:
            raise LabelError(
                f"no labels were given, and the prompt set {self.name!r} names no classes; expected a list of names, "
                "or a prompt set that has classes, such as 'imagenet'"
            )
        return _check_labels(Labels(self.classes, self.synonyms or tuple((label,) for label in self.classes)))

    def in_context(self, context: str) -> PromptSet:
        """Return the set with a phrase added to every template, which tells ambiguous names apart.

        Parameters
        ----------
        context : str
            Such as ``"a type of bird"``; goes behind the label, after a comma.

        Returns
        -------
        PromptSet

        Raises
        ------
        PromptError
            If there are no templates, or the phrase is not usable.

        Examples
        --------
        >>> PromptSet(("a photo of a {}.",)).in_context("a type of bird").expand(["crane"])
        [['a photo of a crane, a type of bird.']]
        """
        templates = tuple(
            f"{template[:-1]}, {context}." if template.endswith(".") else f"{template}, {context}"
            for template in self.templates
        )
        return replace(self, templates=templates)

    def expand(self, labels: LabelsLike | None = None) -> list[list[str]]:
        """Return the prompts of each class.

        Parameters
        ----------
        labels : sequence of str, or mapping from name to one synonym or a sequence of synonyms, optional
            By default the set's own classes.

        Returns
        -------
        list of list of str
            One list a class, in the order of `labels`: each synonym in each template.

        Raises
        ------
        LabelError
            If the labels are not usable.
        PromptError
            If the set has no prompts for a label, or its function returns something else.

        Examples
        --------
        >>> PromptSet(("a {}",)).expand({"plane": ["airplane", "aeroplane"]})
        [['a airplane', 'a aeroplane']]
        """
        parsed = self.labels if labels is None else parse_labels(labels)
        written = dict(self.written)
        return [
            list(written[name]) if name in written else [prompt for word in words for prompt in self._fill(word)]
            for name, words in zip(parsed.names, parsed.synonyms, strict=True)
        ]

    def _fill(self, word: str) -> Sequence[str]:
        if self.function is not None:
            answer = self.function(word)
            return _check_prompts(answer, f"the prompt function returned {answer!r} for the label {word!r}")
        if not self.templates:
            near = difflib.get_close_matches(word, [label for label, _ in self.written], n=3)
            raise PromptError(
                f"prompt set {self.name!r} has no prompts for the label {word!r} and no templates for others"
                + (f"; near labels: {', '.join(map(repr, near))}" if near else "; add its prompts, or a template")
            )
        return [_insert(template, word) for template in self.templates]


@dataclass(frozen=True)
class Labels:
    """Class names, and for each the words that stand for it in prompts (the name itself unless others are given)."""

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]


def parse_labels(labels: LabelsLike) -> Labels:
    """Check labels and separate names from the words that stand for them.

    Raises
    ------
    LabelError
        If there are none, one is blank, or a single string came in place of a list.
    InputTypeError
        If a label is not a string, or the labels have no order (a set).
    """
    if isinstance(labels, Labels):
        return labels
    if isinstance(labels, str):
        raise LabelError(
            f"labels is the string {labels!r}; expected a list of names, such as [{labels!r}, 'something else']"
        )
    if isinstance(labels, (set, frozenset)):
        raise InputTypeError("labels is a set, which has no order; expected a list, such as sorted(labels)")
    if hasattr(labels, "columns"):  # iterating over a table gives the names of its columns
        raise InputTypeError(
            f"labels is a table, of type {type(labels).__name__}; take a column of it, such as table['name']"
        )
    if not isinstance(labels, Iterable) or isinstance(labels, bytes):
        raise InputTypeError(f"labels is {labels!r} of type {type(labels).__name__}; expected a list of names")
    if isinstance(labels, Mapping):
        names = tuple(labels)
        synonyms = tuple(_words(name, words) for name, words in labels.items())
    else:
        names = tuple(labels)
        synonyms = tuple((name,) for name in names)
    return _check_labels(Labels(names, synonyms))


class LabelWarning(UserWarning):
    """Of labels that share one probability, since no prompt tells them apart."""


def choose_labels(labels: LabelsLike | None, prompts: PromptSet) -> Labels:
    """Return the labels that somebody gave, or else the classes of the prompt set.

    Raises
    ------
    LabelError, InputTypeError
        As `parse_labels` does; or if there are neither.

    Warns
    -----
    UserWarning
        If no prompt tells two of those given apart. The classes of a data set repeat as the data has them.
    """
    if labels is None:
        return prompts.labels
    parsed = parse_labels(labels)
    if not isinstance(labels, Labels) and parsed.names != prompts.classes:
        _warn_of_repeats(parsed)
    return parsed


def spoken(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a class as tokenizers read them: without capitals, and without spaces that say nothing."""
    return tuple(" ".join(word.split()).lower() for word in words)


def _warn_of_repeats(labels: Labels) -> None:
    first: dict[tuple[str, ...], int] = {}
    repeats = []
    for index, words in enumerate(labels.synonyms):
        if (before := first.setdefault(spoken(words), index)) != index:
            repeats.append((before, index))
    if not repeats:
        return
    before, index = repeats[0]
    more = f" ({len(repeats) - 1} more are repeated)" if len(repeats) > 1 else ""
    warnings.warn(
        f"label {index} ({labels.names[index]!r}) reads like label {before} ({labels.names[before]!r}), and the two "
        f"share one probability; drop one, or add a word that tells them apart{more}",
        LabelWarning,
        stacklevel=levels_to_caller(),
    )


def _check_labels(labels: Labels) -> Labels:
    if not labels.names:
        raise LabelError("labels is empty; expected at least one name")
    for index, (name, words) in enumerate(zip(labels.names, labels.synonyms, strict=True)):
        if isinstance(words, str):
            raise LabelError(f"label {index} ({name!r}) has the string {words!r} for synonyms; expected a list")
        if not words:
            raise LabelError(f"label {index} ({name!r}) has an empty list of synonyms; expected a list of at least one")
        for word in (name, *words):
            if not isinstance(word, str):
                raise InputTypeError(f"label {index} is {word!r} of type {type(word).__name__}; expected str")
            if not word.strip():
                raise LabelError(f"label {index} is blank ({word!r}); expected a name")
    return Labels(tuple(map(str, labels.names)), labels.synonyms)


def _words(name: object, words: object) -> tuple[str, ...]:
    if isinstance(words, str):
        return (words,)
    if not isinstance(words, Iterable) or isinstance(words, (bytes, set, frozenset)):
        raise InputTypeError(
            f"label {name!r} stands for {words!r} of type {type(words).__name__}; expected a word or a list of synonyms"
        )
    return tuple(words)


def available_prompts() -> list[str]:
    """Return the names of the shipped prompt sets, sorted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> "imagenet" in available_prompts()
    True
    """
    return sorted(path.stem for path in shipped_folder().glob("*.toml"))


def load_prompts(name: str | os.PathLike[str]) -> PromptSet:
    """Return a shipped prompt set by its name, or one of your own by its path.

    Parameters
    ----------
    name : str or path-like
        A name from `available_prompts()`; or a ``.toml`` file in the form of the shipped ones; a ``.json`` file with a
        list of templates, or with an object of label to list of whole prompts; or a ``.txt`` file with one template a
        line, where lines that start with ``#`` are comments.

    Returns
    -------
    PromptSet

    Raises
    ------
    PromptNotFoundError
        If there is no such set and no such file.
    PromptError
        If the file is not in that form.

    Examples
    --------
    >>> imagenet = load_prompts("imagenet")
    >>> len(imagenet.templates), len(imagenet.classes), imagenet.classes[0]
    (80, 1000, 'tench')
    """
    if isinstance(name, str) and name in available_prompts():
        return _read_file(shipped_folder() / f"{name}.toml")
    path = Path(name)
    if not _is_file(path):
        if path.suffix.lower() in _SUFFIXES or (path.name != str(name) and " " not in str(name)):
            raise PromptNotFoundError(
                f"{str(name)!r} is no shipped prompt set and no file (the working folder is {Path.cwd()}){_near(path)}"
            )
        near = difflib.get_close_matches(str(name), available_prompts(), n=3)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"shipped sets: {', '.join(available_prompts())}."
        )
        raise PromptNotFoundError(
            f"{str(name)!r} is no shipped prompt set and no file; {hint} A template of your own needs the slot {SLOT}, "
            f"such as {DEFAULT_TEMPLATE!r}"
        )
    return _read_file(path)


def _near(path: Path) -> str:
    """Files and shipped sets that somebody may have meant, as the rest of a message."""
    files: list[str] = []
    with contextlib.suppress(OSError):
        files = [file.name for file in path.parent.iterdir() if file.suffix.lower() in _SUFFIXES]
    near = [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, files, n=3)]
    near += difflib.get_close_matches(path.stem, available_prompts(), n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else "; available_prompts() lists the shipped sets"


def read_templates(path: Path) -> list[str]:
    """Return the templates of a file as they stand there, usable or not; none if it cannot be parsed."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        suffix = path.suffix.lower()
        if suffix not in (".toml", ".json"):
            return _lines(text)
        data = tomllib.loads(text) if suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return []
    templates = data.get("templates") if suffix == ".toml" else data
    return [template for template in templates if isinstance(template, str)] if isinstance(templates, list) else []


def as_prompt_set(prompts: PromptsLike | None) -> PromptSet:
    """Turn any of the forms in which users give prompts into a `PromptSet`.

    Parameters
    ----------
    prompts : None, str, path-like, sequence of str, mapping, callable or PromptSet
        None is ``"a photo of a {}."``. A string with a brace in it is one template; any other is the name of a shipped
        set or the path of a file. A sequence holds templates; a mapping holds whole prompts for each label; a callable
        takes a label and returns its prompts. A sequence may also hold callables that return one prompt each, as
        open_clip's templates are.

    Raises
    ------
    PromptError
        If a template is not usable, or no such set exists.
    InputTypeError
        If `prompts` is of another type.
    """
    if prompts is None:
        return PromptSet((DEFAULT_TEMPLATE,), name="default")
    if isinstance(prompts, PromptSet):
        return prompts
    if isinstance(prompts, str):
        return PromptSet((prompts,)) if "{" in prompts or "}" in prompts else load_prompts(prompts)
    if isinstance(prompts, os.PathLike):
        return load_prompts(prompts)
    if isinstance(prompts, Mapping):
        return PromptSet.from_descriptions(prompts)
    if callable(prompts):
        return PromptSet((), function=prompts)
    if isinstance(prompts, Sequence) and not isinstance(prompts, bytes):
        functions = [each for each in prompts if callable(each)]  # open_clip's templates
        if functions and len(functions) == len(prompts):
            return PromptSet((), function=lambda label: [each(label) for each in functions])
        return PromptSet(tuple(prompts))  # type: ignore[arg-type]  # which refuses what is no text
    raise InputTypeError(
        f"prompts is {prompts!r} of type {type(prompts).__name__}; expected the name of a set, a path, a template, "
        "a list of templates, a mapping from label to prompts, a callable or a PromptSet"
    )


def shipped_folder() -> Path:
    """Folder of the shipped sets: package data of an installed wheel, or `prompts/` of a checkout."""
    package = Path(str(resources.files("zeroshot")))
    installed = package / "data" / "prompts"
    return installed if installed.is_dir() else package.parent / "prompts"


def _insert(template: str, word: str) -> str:
    before, after = template.split(SLOT)
    if before.lower().endswith(ARTICLE):
        article = indefinite_article(word)
        first = before[-len(ARTICLE)]
        before = before[: -len(ARTICLE)] + (article.capitalize() if first == "A" else article) + " "
    return before + word + after


def _check_prompts(prompts: object, what: str) -> Sequence[str]:
    if isinstance(prompts, str) or not isinstance(prompts, Sequence) or not prompts:
        raise PromptError(f"{what}; expected a list of prompts")
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(f"{what}; expected text, not {prompt!r}")
    return prompts


def check_template(template: object) -> None:
    """Raise `PromptError` unless the template has exactly one slot and no other brace."""
    if not isinstance(template, str):
        raise InputTypeError(f"a template is {template!r} of type {type(template).__name__}; expected str")
    slots = template.count(SLOT)
    if slots != 1:
        named = re.search(r"\{\w+\}", template) if slots == 0 else None  # CLIP_benchmark's "a photo of a {c}."
        hint = f": write {SLOT} in place of {named[0]}" if named else f", such as {DEFAULT_TEMPLATE!r}"
        raise PromptError(f"template {template!r} has {slots} slots; expected exactly one {SLOT}{hint}")
    rest = template.replace(SLOT, "")
    if "{" in rest or "}" in rest:
        raise PromptError(f"template {template!r} has a brace beside its slot; expected one {SLOT} and no other brace")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a template whose slot was forgotten can be too long for the name of a file
        return False


@lru_cache(maxsize=64)
def _read_cached(path: Path, stamp: tuple[int, int]) -> PromptSet:
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors put a byte order mark in front
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from error
    try:
        if path.suffix.lower() == ".toml":
            return _from_toml(tomllib.loads(text), path.stem)
        if path.suffix.lower() == ".json":
            return _from_json(json.loads(text), path.stem)
        return PromptSet(tuple(_lines(text)), name=path.stem)
    except (PromptError, InputTypeError) as error:
        raise PromptError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:  # from the parsers
        raise PromptError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from error


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _read_file(path: Path) -> PromptSet:
    stat = path.stat()
    return _read_cached(path.resolve(), (stat.st_mtime_ns, stat.st_size))


def _from_json(data: object, name: str) -> PromptSet:
    if isinstance(data, dict):
        return PromptSet.from_descriptions(data, name=name)
    if isinstance(data, list):
        return PromptSet(tuple(data), name=name)
    raise PromptError(f"holds {data!r}; expected a list of templates, or an object of label to list of prompts")


def _from_toml(data: dict[str, Any], name: str) -> PromptSet:
    known = {"templates", "classes", "title", "source", "license", "order", "base", "indices", "prompts"}
    known |= {"metric", "data"}
    unknown = sorted(data.keys() - known)
    if unknown:
        raise PromptError(f"has unknown keys {', '.join(unknown)}; expected only {', '.join(sorted(known))}")
    for key in ("title", "source", "license", "order", "metric", "data"):
        if not isinstance(data.get(key, ""), str):
            raise PromptError(f"{key} is {data[key]!r}; expected text")
    if not isinstance(data.get("prompts", {}), dict):
        raise PromptError(f"prompts is {data['prompts']!r}; expected a table of label to list of prompts")
    templates = data.get("templates", [])
    if not isinstance(templates, list) or not all(isinstance(template, str) for template in templates):
        raise PromptError("templates is not a list of strings")
    classes = data.get("classes", [])
    if not isinstance(classes, list) or not all(_is_class(entry) for entry in classes):
        raise PromptError("classes is not a list of strings, or of lists of synonyms")
    if "base" in data or "indices" in data:
        base, classes = _view(data)
        templates = templates or list(base.templates)
    synonyms = [(entry,) if isinstance(entry, str) else tuple(entry) for entry in classes]
    return PromptSet(
        tuple(templates),
        classes=tuple(words[0] for words in synonyms),
        synonyms=tuple(synonyms) if any(len(words) > 1 for words in synonyms) else (),
        written=PromptSet.from_descriptions(data["prompts"]).written if "prompts" in data else (),
        name=name,
        title=data.get("title", ""),
        source=data.get("source", ""),
        license=data.get("license", ""),
        order=data.get("order", ""),
        metric=data.get("metric", ""),
        data=data.get("data", ""),
    )


def view_indices(name: str) -> tuple[tuple[int, ...], ...]:
    """Return which classes of its base each class of a shipped view takes together, by their indices.

    Raises
    ------
    PromptError
        If there is no shipped set of that name that is a view of another one.

    Examples
    --------
    >>> view_indices("imagenet_objectnet")[:3]
    ((409, 530), (414,), (954,))
    """
    path = shipped_folder() / f"{name}.toml"
    data = tomllib.loads(path.read_text(encoding="utf-8")) if name in available_prompts() else {}
    if "base" not in data:
        raise PromptError(f"{name!r} is no shipped prompt set that is a view of another one, as 'imagenet_r' is")
    return tuple(tuple(group) for group in _view_groups(data)[1])


def _view(data: dict[str, Any]) -> tuple[PromptSet, list[list[str]]]:
    """Some classes of another shipped set, in the order given."""
    base, groups = _view_groups(data)
    # Several classes of the base that are one class here are synonyms.
    return base, [[word for index in group for word in base.labels.synonyms[index]] for group in groups]


def _view_groups(data: dict[str, Any]) -> tuple[PromptSet, list[list[int]]]:
    if "base" not in data:
        raise PromptError("has indices without a base; expected the name of the shipped set that they count")
    if "classes" in data:
        raise PromptError("has both a base and classes; expected one of them")
    if not isinstance(data["base"], str) or data["base"] not in available_prompts():
        raise PromptError(f"base {data['base']!r} is no shipped prompt set; expected one of available_prompts()")
    base = load_prompts(data["base"])
    indices = data.get("indices", list(range(len(base.classes))))
    last = len(base.classes) - 1
    if not isinstance(indices, list):
        indices = [[]]  # which is refused below
    groups = [index if isinstance(index, list) else [index] for index in indices]
    if not all(group and all(type(index) is int and 0 <= index <= last for index in group) for group in groups):
        raise PromptError(
            f"indices is not a list of whole numbers from 0 to {last} (classes of {base.name!r}), or of lists of them"
        )
    return base, groups


def _is_class(entry: object) -> bool:
    if isinstance(entry, list):
        return bool(entry) and all(isinstance(word, str) for word in entry)
    return isinstance(entry, str)


def _digest(content: object) -> str:
    canonical = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
