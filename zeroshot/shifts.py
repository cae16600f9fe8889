"""Natural distribution shifts of ImageNet: which classes each has, and how ImageNet's thousand become these.

A classifier over ImageNet's 1000 classes serves all of them. A shift with fewer classes takes the columns of its own; a
shift whose classes are wider than ImageNet's takes the largest score among the members of each (Taori et al., Measuring
Robustness to Natural Distribution Shifts in Image Classification, 2020; CLIP's paper, section 3.3).
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot.errors import InputTypeError, LabelError, OptionError
from zeroshot.prompts import load_prompts, view_indices

IMAGENET = "imagenet"
N_IMAGENET = 1000


@dataclass(frozen=True)
class Shift:
    """One distribution shift: images of ImageNet's classes from another source.

    Attributes
    ----------
    name, title : str
    labels : tuple of str
        Names of its classes, in their order. For classes of its own names (YouTube-BB, ImageNet-Vid) a head made of
        them, in place of the thousand, is what CLIP's paper finds better by far (figure 14).
    members : tuple of tuple of int
        For each class the ImageNet classes that it takes together, by their indices, 0 to 999.
    folders : tuple of str
        For each class the name of its folder as the data set is published.
    prompts : str or None
        The prompt set with the same classes, if there is one.
    border : int
        Pixels at each edge that are not to be seen: ObjectNet's images have a red frame.

    Examples
    --------
    >>> shift = load_shift("imagenet_r")
    >>> len(shift.labels), shift.labels[0], shift.place_folders(["n01443537", "n01484850"])
    (200, 'goldfish', [0, 1])
    """

    name: str
    title: str
    labels: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    folders: tuple[str, ...]
    prompts: str | None = None
    border: int = 0

    def pool(self, scores: Any) -> npt.NDArray[np.floating[Any]]:
        """Return for each class of the shift the largest score among its ImageNet classes.

        Parameters
        ----------
        scores : array-like of shape (n_images, 1000)
            Logits or probabilities, columns in ImageNet's order.

        Returns
        -------
        ndarray of shape (n_images, n_classes), float of the precision of `scores`
            Probabilities do not sum to 1 any more; only their order counts.

        Raises
        ------
        InputTypeError, OptionError
            If the scores are no numbers, or not of that shape.

        Examples
        --------
        >>> scores = np.zeros((1, 1000))
        >>> scores[0, 409], scores[0, 530] = 0.2, 0.7  # analog clock, digital clock
        >>> objectnet = load_shift("objectnet")
        >>> objectnet.folders[0], float(objectnet.pool(scores)[0, 0])
        ('alarm_clock', 0.7)
        """
        array = np.asarray(scores)
        if array.dtype.kind not in "iuf":
            raise InputTypeError(f"scores are {array.dtype}; expected numbers")
        if array.ndim != 2 or array.shape[1] != N_IMAGENET:
            raise OptionError(
                f"scores have the shape {array.shape}; expected (n_images, {N_IMAGENET}), a column for each of "
                "ImageNet's classes"
            )
        order = np.concatenate([np.asarray(group) for group in self.members])
        starts = np.cumsum([0, *(len(group) for group in self.members[:-1])])
        pooled: npt.NDArray[np.floating[Any]] = np.maximum.reduceat(array[:, order], starts, axis=1)
        return pooled

    def positions(self, targets: Any) -> npt.NDArray[np.int64]:
        """Turn ImageNet's class indices into positions among the classes of the shift.

        Parameters
        ----------
        targets : array-like of shape (n_images,), int
            0 to 999.

        Returns
        -------
        ndarray of shape (n_images,), int64
            -1 where the shift does not have the class.

        Raises
        ------
        InputTypeError, OptionError
            If a target is no class index of ImageNet.

        Examples
        --------
        >>> load_shift("imagenet_r").positions([0, 1, 2])
        array([-1,  0,  1])
        """
        array = np.asarray(targets)
        if array.dtype.kind not in "iu":
            raise InputTypeError(f"targets are {array.dtype}; expected ImageNet's class indices, 0 to {N_IMAGENET - 1}")
        if array.size and not (array.min() >= 0 and array.max() < N_IMAGENET):
            raise OptionError(
                f"targets reach from {array.min()} to {array.max()}; expected class indices, 0 to {N_IMAGENET - 1}"
            )
        table = np.full(N_IMAGENET, -1, dtype=np.int64)
        for position, group in enumerate(self.members):
            table[list(group)] = position
        places: npt.NDArray[np.int64] = table[array]
        return places

    def place_folders(self, names: Sequence[str]) -> list[int]:
        """Return for each class folder the position of its class, -1 for classes that ImageNet does not have.

        Folders are known by their published names: WordNet ids, ImageNet's numbers, or the names of the classes. Some
        may be missing. Of ObjectNet's 313 the 200 that are none of ImageNet's classes are left out.

        Parameters
        ----------
        names : sequence of str

        Returns
        -------
        list of int

        Raises
        ------
        LabelError
            If a folder has another name.
        """
        known = {name: position for position, name in enumerate(self.folders)}
        if all(name.isdecimal() for name in names):  # by number, whatever their order as text
            known = {str(index): position for position, group in enumerate(self.members) for index in group[:1]}
            names = [str(int(name)) for name in names]
        places = [known.get(name, known.get(name.replace("_", " "), -1)) for name in names]
        strange = [name for name, place in zip(names, places, strict=True) if place < 0]
        if strange and (self.name != "objectnet" or len(strange) == len(names)):
            raise LabelError(
                f"the class folder {strange[0]!r} is none of {self.title} ({len(strange)} of {len(names)} are not); "
                f"expected names such as {', '.join(map(repr, self.folders[:3]))}"
            )
        return places


def available_shifts() -> list[str]:
    """Return the names of the shifts, in the order of CLIP's paper.

    Examples
    --------
    >>> available_shifts()
    ['imagenet_v2', 'imagenet_sketch', 'imagenet_r', 'imagenet_a', 'objectnet', 'imagenet_vid', 'youtube_bb']
    """
    return list(shift_table())


@lru_cache(maxsize=16)
def load_shift(name: str) -> Shift:
    """Return a shift by its name, or ImageNet itself under ``"imagenet"``.

    Parameters
    ----------
    name : str
        From `available_shifts`, or ``"imagenet"``.

    Returns
    -------
    Shift

    Raises
    ------
    OptionError
        If there is none of that name.

    Examples
    --------
    >>> shift = load_shift("youtube_bb")
    >>> len(shift.labels), shift.labels[0], shift.members[0]
    (19, 'person', (981, 982, 983))
    """
    ids = _wordnet_ids()
    if name == IMAGENET:
        return Shift(IMAGENET, "ImageNet", load_prompts(IMAGENET).classes, tuple((i,) for i in range(N_IMAGENET)), ids)
    entry = shift_table().get(name)
    if entry is None:
        raise OptionError(f"shift {name!r} is not known; expected one of {', '.join(available_shifts())}")
    if "members" in entry:  # classes of its own, each with ImageNet's that belong to it
        labels = tuple(entry["members"])
        members = tuple(map(_indices, entry["members"].values()))
        return Shift(name, entry["title"], labels, members, labels)
    base = entry["base"]
    labels = load_prompts(base).classes
    # A view without indices has all classes of ImageNet.
    members = view_indices(base)
    folders = tuple(entry["folders"].split()) if "folders" in entry else tuple(ids[group[0]] for group in members)
    return Shift(name, entry["title"], labels, members, folders, base, entry.get("border", 0))


@lru_cache(maxsize=1)
def shift_table() -> dict[str, Any]:
    """Return the shipped table: for each shift its title, classes, and what its baseline is made of.

    Examples
    --------
    >>> shift_table()["objectnet"]["title"]
    'ObjectNet'
    """
    return tomllib.loads(_read("imagenet_shifts.toml"))


@lru_cache(maxsize=1)
def _wordnet_ids() -> tuple[str, ...]:
    return tuple(_read("imagenet_wordnet_ids.txt").split())


def _read(name: str) -> str:
    return resources.files("zeroshot").joinpath("data", name).read_text(encoding="utf-8")


def _indices(ranges: str) -> tuple[int, ...]:
    """Read ``"1-3 7"`` as (1, 2, 3, 7)."""
    ends = [part.partition("-") for part in ranges.split()]
    return tuple(index for first, _, last in ends for index in range(int(first), int(last or first) + 1))
