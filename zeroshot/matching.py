"""Which label stands for which class of a data set: by name or by position, and what is wrong where none does."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from zeroshot.errors import LabelError, OptionError
from zeroshot.prompts import Labels

Match = Literal["auto", "name", "position"]
_CODE = re.compile(r"[a-z]?[0-9]+", re.IGNORECASE)  # "n01440764", "0007": no name that a prompt set could have
_STRANGERS = 10  # by position, one class in so many at most may have nothing of its label's name
_NEAR = 0.8  # of the letters: 'kangoroo' is a 'kangaroo', 'boat' is no 'coat'


@dataclass(frozen=True)
class Matching:
    """Which label stands for which class of the data.

    Attributes
    ----------
    positions : tuple of int or None
        For each class of the data its position among the labels; None where no label stands for it. Empty if the data
        only has positions, which then are those of the labels.
    how : {"name", "position"}
    missing : tuple of str
        For each class without a label what is wrong, with near names.
    """

    positions: tuple[int | None, ...]
    how: str
    missing: tuple[str, ...] = ()


def match_classes(
    classes: Sequence[str], labels: Labels, *, match: Match = "auto", where: str = "the data"
) -> Matching:
    """Find for each class of the data the label that stands for it.

    By name, a class is the label of that name, or the one that has that name among its synonyms; letter case, and
    whether words are joined by spaces, underscores or hyphens, do not matter. Names that several labels have never
    match. By position, class n is label n. ``auto`` goes by position where there are as many labels as classes and all
    common names stand at the same position; else by name. A few names may agree so by chance: it is an error then if
    more than a tenth of the classes are not their labels spelt otherwise. Codes as names, such as ``n01440764``, may
    have none in common; if they are the numbers from 0, in whatever order, they are the positions.

    Parameters
    ----------
    classes : sequence of str
        Of the data, by position; empty if its labels are positions.
    labels : Labels
    match : {"auto", "name", "position"}
    where : str
        What messages call the data.

    Raises
    ------
    LabelError
        If no class has a label; by position, if their numbers differ; by ``auto``, if it is open which of both is
        meant.
    OptionError
        If `match` is none of these.

    Examples
    --------
    >>> from zeroshot.prompts import parse_labels
    >>> match_classes(["dog", "Maine_Coon", "own"], parse_labels(["Maine coon", "dog", "owl", "cat"]))
    Matching(positions=(1, 0, None), how='name', missing=("no label for the class 'own'; did you mean 'owl'?",))
    """
    if match not in get_args(Match):
        raise OptionError(f"match is {match!r}; expected one of {', '.join(get_args(Match))}")
    if not classes:
        return Matching((), "position")
    same_number = len(classes) == len(labels.names)
    by_position = Matching(tuple(range(len(classes))), "position")
    if match == "position":
        if not same_number:
            raise LabelError(
                f"{where} has {len(classes)} classes and there are {len(labels.names)} labels; matched by position "
                "they have to be as many"
            )
        return by_position
    found = _by_name(classes, labels)
    agree = all(position in (None, index) for index, position in enumerate(found))
    common = sum(position is not None for position in found)
    if match == "auto" and same_number and agree:
        if common or list(classes) == list(labels.names):
            _check_alike(classes, labels, found, where)
            return by_position
        if all(_CODE.fullmatch(name) for name in classes):
            if not all(name.isdecimal() for name in classes):
                return by_position
            numbers = tuple(map(int, classes))
            if sorted(numbers) != list(range(len(numbers))):
                raise LabelError(
                    f"the classes of {where} are called by numbers, {min(numbers)} to {max(numbers)}, and there are "
                    f"{len(numbers)}; expected 0 to {len(numbers) - 1}, the positions of the labels. Rename them, or "
                    "say match='position' if they count in the order of their names"
                )
            return Matching(numbers, "position")
    if not common:
        hint = "; if they stand in the same order, say match='position'" if same_number else ""
        raise LabelError(
            f"none of the {len(classes)} classes of {where} ({some_names(classes)}) is among the {len(labels.names)} "
            f"labels ({some_names(labels.names)}){hint}"
        )
    missing = tuple(_missing(classes[index], labels) for index, position in enumerate(found) if position is None)
    return Matching(tuple(found), "name", missing)


def _by_name(classes: Sequence[str], labels: Labels) -> list[int | None]:
    exact: dict[str, set[int]] = {}
    folded: dict[str, set[int]] = {}
    for position, (name, words) in enumerate(zip(labels.names, labels.synonyms, strict=True)):
        for word in (name, *words):
            exact.setdefault(word, set()).add(position)
            folded.setdefault(_fold(word), set()).add(position)
    found: list[int | None] = []
    for name in classes:
        places = exact.get(name) or folded.get(_fold(name)) or set()
        found.append(next(iter(places)) if len(places) == 1 else None)
    return found


def _check_alike(classes: Sequence[str], labels: Labels, found: Sequence[int | None], where: str) -> None:
    """Raise an error if names that agree at their positions may do so by chance: too many others are no namesakes."""
    strangers = [
        (name, label)
        for name, label, position in zip(classes, labels.names, found, strict=True)
        if position is None and not _alike(name, label)
    ]
    if len(strangers) * _STRANGERS <= len(classes):
        return
    same = [name for name, position in zip(classes, found, strict=True) if position is not None]
    raise LabelError(
        f"of the {len(classes)} classes of {where} and as many labels {some_names(same)} "
        f"agree{'s' * (len(same) == 1)}, but {some_pairs(strangers, 'stands against')}; say match='position' if "
        "they mean the same in the same order, or match='name' to leave out the classes without a label"
    )


def differing_pairs(classes: Sequence[str], labels: Labels, matching: Matching) -> list[tuple[str, str]]:
    """Return classes and their labels where the names are not the same, those that have the least in common first."""
    pairs = [
        (name, labels.names[position])
        for name, position in zip(classes, matching.positions, strict=True)
        if position is not None and _fold(name) != _fold(labels.names[position])
    ]
    return sorted(pairs, key=lambda pair: _alike(*pair))


def _alike(name: str, label: str) -> bool:
    """Whether two names may be one spelt twice: few letters differ, or one is the beginning or words of the other."""
    words, others, short, long = _words(name), _words(label), *sorted((_fold(name), _fold(label)), key=len)
    if difflib.SequenceMatcher(None, short, long).ratio() >= _NEAR or (len(short) >= 4 and long.startswith(short)):
        return True
    return bool(words and others) and (words <= others or others <= words)


def _words(name: str) -> set[str]:
    return {word.casefold() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+", name)}  # "SeaLake" has two


def _fold(name: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", name.strip().casefold()))


def _missing(name: str, labels: Labels) -> str:
    places = [position for position, label in enumerate(labels.names) if _fold(label) == _fold(name)]
    if len(places) > 1:
        several = ", ".join(map(str, places))
        return f"the class {name!r} is the name of several labels ({several}); match by position, or rename it"
    near = difflib.get_close_matches(_fold(name), [_fold(label) for label in labels.names], n=2)
    names = [label for label in labels.names if _fold(label) in near]
    return f"no label for the class {name!r}" + (f"; did you mean {' or '.join(map(repr, names))}?" if names else "")


def near_names(name: str, names: Sequence[str]) -> str:
    """Return names that were perhaps meant, as the end of a message; empty if there are none."""
    near = difflib.get_close_matches(name, names, n=2)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def some_names(names: Sequence[str], count: int = 3) -> str:
    """Return the first few names for a message, and how many more there are."""
    return ", ".join(map(repr, names[:count])) + (f" and {len(names) - count} more" if len(names) > count else "")


def some_pairs(pairs: Sequence[tuple[str, str]], how: str, count: int = 3) -> str:
    """Return the first few pairs for a message, joined by `how`, and how many more there are."""
    shown = ", ".join(f"{name!r} {how} {label!r}" for name, label in pairs[:count])
    return shown + (f" and {len(pairs) - count} more" if len(pairs) > count else "")
