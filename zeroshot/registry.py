"""Names of published checkpoints -> where their files are on disk; downloads what is missing.

The table is data: `zeroshot/data/models.csv`, one row a checkpoint, in the order of the names.

A name is ``architecture/tag``, and both are those of open_clip's table of pretrained models. Repositories in the layout
of transformers, which that table does not have, keep open_clip's name of the network where it has one, and get a tag
that begins with ``hf-`` and names the training data or the publisher: ``ViT-B-32/openai`` and ``ViT-B-32/hf-openai``
are the same weights in two layouts. open_clip writes its tags without hyphens, so the two kinds cannot meet.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from zeroshot.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    HubError,
    InputTypeError,
    ModelNotFoundError,
    OptionError,
    ZeroShotError,
)
from zeroshot.files import (
    LAYOUT_FILES,
    OPEN_CLIP_CONFIG,
    TOKENIZER_FILES,
    TOKENIZER_SETTINGS,
    LayoutFiles,
    choose_files,
    find_weights,
    layout_files,
    read_json,
    shard_names,
    tokenizer_source,
)

if TYPE_CHECKING:
    from zeroshot.image import Interpolation, ResizeMode
    from zeroshot.nets.transformer import Activation

Layout = Literal["open_clip", "transformers"]
Order = Literal["name", "size", "accuracy"]
Statistics = tuple[float, float, float]

DEFAULT_MODEL = "ViT-B-32/datacomp_xl_s13b_b90k"
MINI = "mini"
HUB_PREFIX = "hf-hub:"
_PATIENCE_SECONDS = 10  # until the hub answers at all


@dataclass(frozen=True)
class ModelEntry:
    """One row of the table of published checkpoints.

    Attributes
    ----------
    architecture, tag : str
        open_clip's, as it takes them; the bundled model ``mini`` has no tag.
    family : str
        What kind of network it is: ``clip-vit``, ``clip-resnet``, ``siglip``, ``coca``, ``clipa``, ``metaclip2``,
        ``timm`` (an image tower of timm), ``hf-text`` (a text tower of transformers) or ``mini``.
    needs : tuple of str
        Extras that loading it takes, such as ``tokenizers``; empty if the core is enough.
    layout : {"open_clip", "transformers"}
    repository : str
        On the Hugging Face hub, ``owner/name``; empty for the bundled model.
    revision : str
        Commit of the repository; empty for its newest.
    files : tuple of str
        Names of the weights file, the preferred one first; empty if they are those of the layout.
    image_size : int
        Side of the square input, in pixels.
    mean, std : tuple of float
        Of the red, green and blue channel, on a scale from 0 to 1.
    interpolation : {"bicubic", "bilinear"}
    resize_mode : {"shortest", "squash", "longest"}
        As in `zeroshot.image.Preprocess`.
    activation : {"gelu", "gelu_tanh", "quick_gelu"} or None
        That of the towers which open_clip builds itself, as the weights were trained; towers of timm and transformers
        bring theirs. None if the configuration of the checkpoint decides.
    tokenizer : str
        ``clip``, or the repository that its tokenizer is published in.
    context : int
        Longest text, in tokens.
    parameters_million : float
        Parameters in millions: of both towers, and of the caption decoder of a CoCa.
    imagenet_top1 : float or None
        Zero-shot top-1 accuracy on ImageNet, in percent, as open_clip published it, or else the authors.
    license : str
        That of the weights, as their authors give it.
    note : str
        What is odd about the checkpoint; mostly empty.

    Examples
    --------
    >>> entry = available_models("ViT-B-32/openai")[0]
    >>> entry.name, entry.image_size, entry.activation, entry.imagenet_top1, entry.license
    ('ViT-B-32/openai', 224, 'quick_gelu', 63.32, 'MIT')
    """

    architecture: str
    tag: str
    family: str
    needs: tuple[str, ...]
    layout: Layout
    repository: str
    revision: str
    files: tuple[str, ...]
    image_size: int
    mean: Statistics
    std: Statistics
    interpolation: Interpolation
    resize_mode: ResizeMode
    activation: Activation | None
    tokenizer: str
    context: int
    parameters_million: float
    imagenet_top1: float | None
    license: str
    note: str

    def __repr__(self) -> str:
        return (
            f"<ModelEntry {self.name!r}: {self.family}, {self.image_size} px, {self.parameters_million:g} M parameters>"
        )

    @property
    def name(self) -> str:
        """Return what to pass to `load`: ``architecture/tag``, or ``mini``."""
        return f"{self.architecture}/{self.tag}" if self.tag else self.architecture


@dataclass(frozen=True)
class Location:
    """Where a checkpoint lies; and its configuration in open_clip's form, if the table has it."""

    name: str
    path: Path
    config: Mapping[str, Any] | None = None
    tokenizer: Path | None = None


@lru_cache(maxsize=1)
def _table() -> dict[str, ModelEntry]:
    text = resources.files("zeroshot").joinpath("data/models.csv").read_text(encoding="utf-8")
    entries = (_entry(row) for row in csv.DictReader(text.splitlines()))
    return {entry.name: entry for entry in entries}


def _entry(row: dict[str, str]) -> ModelEntry:
    return ModelEntry(
        architecture=row["architecture"],
        tag=row["tag"],
        family=row["family"],
        needs=tuple(row["needs"].split()),
        layout=cast("Layout", row["layout"]),
        repository=row["repository"],
        revision=row["revision"],
        files=tuple(row["files"].split()),
        image_size=int(row["image_size"]),
        mean=_statistics(row["mean"]),
        std=_statistics(row["std"]),
        interpolation=cast("Interpolation", row["interpolation"]),
        resize_mode=cast("ResizeMode", row["resize_mode"]),
        activation=cast("Activation", row["activation"]) or None,
        tokenizer=row["tokenizer"],
        context=int(row["context"]),
        parameters_million=float(row["parameters_million"]),
        imagenet_top1=float(row["imagenet_top1"]) if row["imagenet_top1"] else None,
        license=row["license"],
        note=row["note"],
    )


def _statistics(text: str) -> Statistics:
    red, green, blue = map(float, text.split())
    return red, green, blue


def available_models(pattern: str = "", *, sort: Order = "name") -> list[ModelEntry]:
    """Return the checkpoints that can be loaded by name.

    Parameters
    ----------
    pattern : str
        Words that a name must contain, each of them, in any order and case; a word with ``*``, ``?`` or ``[`` is a
        pattern that the whole name must fit, as file names do. By default all names.
    sort : {"name", "size", "accuracy"}
        By name, the smallest first, or the most accurate on ImageNet first; those of unknown accuracy come last.

    Returns
    -------
    list of ModelEntry

    Raises
    ------
    OptionError
        If `sort` is none of these.

    Examples
    --------
    >>> [entry.name for entry in available_models("b-32 openai")]
    ['ViT-B-32/hf-openai', 'ViT-B-32/openai', 'ViT-B-32-quickgelu/openai']
    >>> available_models("*SigLIP2*", sort="accuracy")[0].imagenet_top1
    85.0
    """
    if sort not in get_args(Order):
        raise OptionError(f"sort is {sort!r}; expected one of {', '.join(get_args(Order))}")
    words = [word if re.search(r"[*?[]", word) else f"*{word}*" for word in pattern.lower().split()]
    entries = [
        entry for entry in _table().values() if all(fnmatch.fnmatchcase(entry.name.lower(), word) for word in words)
    ]
    if sort == "size":
        entries.sort(key=lambda entry: entry.parameters_million)
    elif sort == "accuracy":
        entries.sort(key=lambda entry: entry.imagenet_top1 or 0.0, reverse=True)
    return entries


def locate(model: str | os.PathLike[str]) -> Location:
    """Return where a model's files are, downloading them if they are on the hub and not in its cache.

    Parameters
    ----------
    model : str or path-like
        ``architecture/tag`` from `available_models`, ``hf-hub:owner/name[@revision]``, ``mini``, or the path of a
        checkpoint folder or weights file.

    Raises
    ------
    ModelNotFoundError
        If the name is in no table and is no path; the message lists names that are near.
    CheckpointNotFoundError
        If a path does not exist.
    HubError
        If files are not cached, and the hub cannot be reached, does not have them or does not let you have them.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise InputTypeError(
            f"model is of type {type(model).__name__}; expected a name such as {DEFAULT_MODEL!r}, a path, or an encoder"
        )
    name = os.fspath(model)
    if isinstance(model, os.PathLike):  # a path is a path, even if it reads like a name
        path = Path(model).expanduser()
        if not path.exists():
            raise CheckpointNotFoundError(f"{name} does not exist; expected a checkpoint folder or a weights file")
        return Location(name, path)
    if name == MINI:
        return Location(MINI, Path(str(resources.files("zeroshot"))) / "data" / "mini")
    if name.startswith(HUB_PREFIX):
        repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
        return _fetch(name, _Wanted(repository, revision or None, LAYOUT_FILES))
    entry = _table().get(name)
    if entry is not None:
        return _fetch(name, _wanted(entry))
    path = Path(name).expanduser()
    with contextlib.suppress(OSError):  # too long for the name of a file
        if path.exists():
            return Location(name, path)
    raise _not_found(name, path)


def is_on_disk(model: str) -> bool:
    """Whether a model can be loaded as it is, without asking the hub for anything.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    """
    return bytes_on_disk(model) > 0


def bytes_on_disk(model: str) -> int:
    """Return the size of the weights that loading a model reads, in bytes; 0 if something of it is not on the disk.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.

    Examples
    --------
    >>> bytes_on_disk("mini") > 10_000_000
    True
    """
    if model == MINI or not is_known(model):
        return _size(locate(model).path)
    repository, _, revision = model.removeprefix(HUB_PREFIX).partition("@")
    entry = _table().get(model)
    wanted = _Wanted(repository, revision or None, LAYOUT_FILES) if entry is None else _wanted(entry)
    try:
        return _size(_collect(model, wanted, _cached).path)
    except CheckpointNotFoundError:
        return 0


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in find_weights(path))


def is_known(model: str) -> bool:
    """Whether a string is a model's name rather than a path."""
    return model in _table() or model.startswith(HUB_PREFIX)


def _not_found(name: str, path: Path) -> Exception:
    checkpoints = _checkpoints(name)
    if checkpoints:  # an architecture without a tag has no weights; open_clip would return random ones
        listed = ", ".join(checkpoints)
        return ModelNotFoundError(f"{name!r} is an architecture; expected one of its checkpoints: {listed}")
    if path.is_absolute() or name.startswith((".", "~")) or path.suffix:
        return CheckpointNotFoundError(f"{name} does not exist; expected a checkpoint folder or a weights file")
    near = _near(name)
    hint = f"Near names: {', '.join(near)}. " if near else ""
    return ModelNotFoundError(
        f"no model is called {name!r}, and no such path exists. {hint}"
        "zeroshot.available_models() lists all; 'hf-hub:owner/name' takes any repository"
    )


def _near(name: str) -> list[str]:
    """Return the names that somebody may have meant, the likeliest first."""
    checkpoints = _checkpoints(name.rpartition("/")[0])
    if checkpoints:  # only the tag is wrong
        return difflib.get_close_matches(name, checkpoints, n=5, cutoff=0.0)
    published = [entry.name for entry in available_models() if entry.repository == name]
    if published:
        return published
    containing = [entry.name for entry in available_models(name)]
    if containing:
        return difflib.get_close_matches(name, containing, n=4, cutoff=0.0)
    names = {_fold(entry.name): entry.name for entry in available_models()}
    return [names[key] for key in difflib.get_close_matches(_fold(name), names, n=4, cutoff=0.4)]


def _checkpoints(architecture: str) -> list[str]:
    """Return the names of an architecture's checkpoints, however it is written: ``ViT-B/32`` is ``ViT-B-32``."""
    return [entry.name for entry in available_models() if _fold(entry.architecture) == _fold(architecture)]


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# ------------------------------------------------------------------------------------------------------- the hub
# huggingface_hub finds the token, keeps and locks its cache, shows the progress on a terminal, and from 1.0 on takes a
# download up where its connection broke; one that is killed begins its file again. HF_HOME, HF_ENDPOINT, HF_TOKEN,
# HF_HUB_OFFLINE and its other variables mean here what they mean there.


@dataclass(frozen=True)
class _Wanted:
    """What to look for: weights of one of the layouts, and their configuration unless it is known already."""

    repository: str
    revision: str | None
    layouts: LayoutFiles
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Snapshot:
    """Files of one commit of a repository: which there are, and a function that returns where one of them lies."""

    repository: str
    files: frozenset[str]
    fetch: Callable[[str], Path]


# A repository and a revision of it -> what can be had: what is cached, or what is published.
_Look = Callable[[str, str | None], _Snapshot]


def _wanted(entry: ModelEntry) -> _Wanted:
    wanted = _Wanted(entry.repository, entry.revision or None, layout_files(entry.layout, entry.files))
    if entry.layout == "transformers":
        return wanted
    return replace(wanted, layouts=dict.fromkeys(wanted.layouts, ()), config=_open_clip_config(entry))


def _open_clip_config(entry: ModelEntry) -> dict[str, Any]:
    """Return a row's configuration in the form of ``open_clip_config.json``.

    open_clip takes that of a name from its own tables too, whatever the repository says: some have none, or one that
    leaves out the activation or the preprocessing.
    """
    model = dict(_architectures()[entry.architecture])
    model["quick_gelu"] = entry.activation == "quick_gelu"
    preprocess = {"size": entry.image_size, "mean": entry.mean, "std": entry.std}
    preprocess |= {"interpolation": entry.interpolation, "resize_mode": entry.resize_mode}
    model["vision_cfg"] = model["vision_cfg"] | {"image_size": entry.image_size}
    return {"model_cfg": model, "preprocess_cfg": preprocess}


@lru_cache(maxsize=1)
def _architectures() -> dict[str, dict[str, Any]]:
    text = resources.files("zeroshot").joinpath("data/architectures.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table


def _fetch(name: str, wanted: _Wanted) -> Location:
    """Return where a checkpoint is in the hub's cache; the hub is asked only if something is missing there."""
    from huggingface_hub.errors import HFValidationError

    try:
        if re.search(r"\.\.|^/|\\", wanted.revision or ""):  # it becomes a part of a path
            raise HFValidationError(f"{wanted.revision!r} is no revision")
        # A complete checkpoint is used as it is: no request, and the same weights every time.
        with contextlib.suppress(CheckpointNotFoundError):
            return _collect(name, wanted, _cached)
    except HFValidationError as error:
        raise ModelNotFoundError(f"{name!r} is not of the form hf-hub:owner/name[@revision]: {error}") from error
    return _collect(name, wanted, partial(_published, name))


def _collect(name: str, wanted: _Wanted, look: _Look) -> Location:
    """Fetch all that a checkpoint needs, the weights last.

    Raises
    ------
    CheckpointNotFoundError
        If something is not there.
    """
    snapshot = look(wanted.repository, wanted.revision)
    chosen = choose_files(snapshot.files, wanted.layouts)
    if chosen is None:
        found = ", ".join(sorted(snapshot.files)[:8]) or "nothing"
        beside = "open_clip_config.json, or config.json and preprocessor_config.json, and beside them "
        raise CheckpointNotFoundError(
            f"{wanted.repository} is in no layout that can be read; expected {'' if wanted.config else beside}one of "
            f"{', '.join(wanted.layouts)}; found {found}"
        )
    weights, configs = chosen
    if wanted.config is None:
        path, *_ = [snapshot.fetch(file) for file in configs]
        source, places = tokenizer_source(read_json(path), path), [wanted.repository]
    else:  # open_clip takes the tokenizer that its table names, whatever lies beside the weights
        source, places = tokenizer_source(wanted.config, Path(OPEN_CLIP_CONFIG)), []
    tokenizer = None if source is None else _fetch_tokenizer([*places, source or wanted.repository], snapshot, look)
    path = snapshot.fetch(weights)
    for shard in shard_names(path):
        if shard not in snapshot.files:
            raise CheckpointNotFoundError(f"{wanted.repository} has no {shard}, which {weights} lists")
        if shard != weights:
            snapshot.fetch(shard)
    return Location(name, path, wanted.config, tokenizer)


def _fetch_tokenizer(repositories: Sequence[str], snapshot: _Snapshot, look: _Look) -> Path:
    """Return the folder of the tokenizer in the first repository that has one; `snapshot` is of one of them."""
    from huggingface_hub.errors import HFValidationError

    for repository in repositories:
        try:
            found = snapshot if repository == snapshot.repository else look(repository, None)
        except HFValidationError as error:
            raise CheckpointError(
                f"{snapshot.repository} has no {TOKENIZER_FILES[0]}, and its configuration names {repository!r}, which "
                "is no repository. Copy both here, and pass the folder as model"
            ) from error
        if not found.files.isdisjoint(TOKENIZER_FILES):
            names = (*TOKENIZER_SETTINGS, *TOKENIZER_FILES)
            return [found.fetch(name).parent for name in names if name in found.files][-1]
    raise CheckpointNotFoundError(
        f"the checkpoint {snapshot.repository} has a vocabulary of its own; expected {' or '.join(TOKENIZER_FILES)} in "
        f"{' or '.join(dict.fromkeys(repositories))}"
    )


def _cached(repository: str, revision: str | None) -> _Snapshot:
    """Return what the hub's cache has; the hub is not asked."""
    from zeroshot.progress import import_tqdm_quietly  # not before it is needed: tables of models need no tqdm

    import_tqdm_quietly()
    from huggingface_hub import snapshot_download

    try:
        # No pattern is no demand: the folder is returned whatever it holds.
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=[], local_files_only=True))
        return _Snapshot(repository, frozenset(p.name for p in folder.iterdir() if p.exists()), folder.joinpath)
    except OSError:  # there is none, or it cannot be read
        return _Snapshot(repository, frozenset(), Path)


def _published(name: str, repository: str, revision: str | None) -> _Snapshot:
    """Return what the hub has; it is asked once, and again for each file that is not cached."""
    from huggingface_hub import HfApi

    from zeroshot.progress import download_bar

    api, commit = HfApi(library_name="zeroshot"), revision
    with _explained(name, repository, revision):
        listing = api.model_info(repository, revision=revision, timeout=_PATIENCE_SECONDS)

    def fetch(file: str) -> Path:
        nonlocal commit
        with _explained(name, repository, revision):
            options = download_bar(api.hf_hub_download)
            path = Path(api.hf_hub_download(repository, file, revision=commit, **options))
            _verify(path)
        commit = path.parent.name  # of the first file: the others are taken from the same one, whatever is pushed now
        return path

    return _Snapshot(repository, frozenset(sibling.rfilename for sibling in listing.siblings or ()), fetch)


def _verify(path: Path) -> None:
    """Hold a file against its SHA-256, which the cache has in the name of a large file; huggingface_hub does not.

    Raises
    ------
    HubError
        If it is another. The file is removed, so that it is fetched again.
    """
    blob = path.resolve()
    if blob.parent.name != "blobs" or len(blob.name) != 64:
        return
    with blob.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != blob.name:
        blob.unlink(missing_ok=True)
        raise HubError(
            f"{path.name} came damaged: its SHA-256 is {digest}; expected {blob.name}. It was removed; try again"
        )


@contextlib.contextmanager
def _explained(name: str, repository: str, revision: str | None) -> Iterator[None]:
    """Turn whatever goes wrong between the hub and its cache into a `HubError` that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except ZeroShotError:
        raise
    except GatedRepoError as error:
        raise HubError(
            f"{repository} is gated; accept its conditions at {constants.ENDPOINT}/{repository}, and set HF_TOKEN or "
            "run hf auth login"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise HubError(
            f"{constants.ENDPOINT} has no repository {repository!r}{f' at revision {revision!r}' if revision else ''} "
            "that you may read; check the name, or set HF_TOKEN if it is private"
        ) from error
    except Exception as error:  # of the hub's library, of whatever HTTP client it is built on, of the disk
        cause = (error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None) or error
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split()):.300}".rstrip(". ")
        raise HubError(
            f"{name!r} is not in the cache, or not all of it, and could not be fetched from {constants.ENDPOINT}: "
            f"{reason}. {_what_is_cached(repository, revision)}. Try again with a connection, copy the repository here "
            "and pass its folder as model, or use model='mini', which is bundled"
        ) from error


def _what_is_cached(repository: str, revision: str | None) -> str:
    """Say what the hub's cache has of a repository, and which models are there complete."""
    from huggingface_hub import constants

    complete = []
    for entry in available_models():
        with contextlib.suppress(CheckpointError):
            if entry.name != MINI and _collect(entry.name, _wanted(entry), _cached):
                complete.append(entry.name)
    files = ", ".join(sorted(_cached(repository, revision).files)) or "nothing"
    models = ", ".join(complete[:5]) + (", …" if len(complete) > 5 else "")
    return f"Of {repository}, {constants.HF_HUB_CACHE} has {files}; complete there: {models or 'no model'}"
