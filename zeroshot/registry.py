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
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from zeroshot.errors import (
    CheckpointNotFoundError,
    HubError,
    InputTypeError,
    ModelNotFoundError,
    OptionError,
    ZeroShotError,
)
from zeroshot.files import (
    LAYOUT_FILES,
    TOKENIZER_FILES,
    TOKENIZER_SETTINGS,
    LayoutFiles,
    layouts_of,
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
_PATIENCE_SECONDS = 10


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

    @property
    def name(self) -> str:
        """What to pass to `load`: ``architecture/tag``, or ``mini``."""
        return f"{self.architecture}/{self.tag}" if self.tag else self.architecture


@dataclass(frozen=True)
class Location:
    """Where a checkpoint lies, and what the table knows of it that its own configuration might leave out."""

    name: str
    path: Path
    activation: Activation | None = None
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
        If the files are not cached and the hub cannot be reached.
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
        return _download(name, repository, revision or None)
    entry = _table().get(name)
    if entry is not None:
        layouts = layouts_of(entry.files, entry.layout)
        return replace(_download(name, entry.repository, entry.revision or None, layouts), activation=entry.activation)
    path = Path(name).expanduser()
    with contextlib.suppress(OSError):  # too long for the name of a file
        if path.exists():
            return Location(name, path)
    raise _not_found(name, path)


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
    if checkpoints:  # only the tag is wrong: all that there are
        return difflib.get_close_matches(name, checkpoints, n=len(checkpoints), cutoff=0.0)
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


def _download(name: str, repository: str, revision: str | None, layouts: LayoutFiles = LAYOUT_FILES) -> Location:
    """Return where a snapshot is in the hub's cache; only what is missing there is asked of the hub."""
    import huggingface_hub
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def fetch(names: Sequence[str], *, cached: bool, source: str = repository) -> Path:
        """Return the first of the names that exists."""
        commit = revision if source == repository else None
        for file in names:
            try:
                path = huggingface_hub.hf_hub_download(
                    source, file, revision=commit, library_name="zeroshot", local_files_only=cached
                )
                return Path(path)
            except EntryNotFoundError as error:
                if file == names[-1] or (isinstance(error, LocalEntryNotFoundError) and not cached):
                    raise
        raise AssertionError("unreachable: names is not empty")

    def fetch_all(weights: str, configs: Sequence[Sequence[str]], *, cached: bool) -> Location:
        for names in configs:
            fetch(names, cached=cached)
        path = fetch([weights], cached=cached)
        folder = [fetch([shard], cached=cached) for shard in shard_names(path)][-1].parent
        return Location(name, path, tokenizer=fetch_tokenizer(folder, cached=cached))

    def fetch_tokenizer(folder: Path, *, cached: bool) -> Path | None:
        """Return the folder of the tokenizer; None for CLIP's own, or for a folder of this machine."""
        source = tokenizer_source(folder)
        if source is None or Path(source or "none").is_dir():
            return None
        try:
            found, source = fetch(TOKENIZER_FILES, cached=cached), repository
        except EntryNotFoundError:
            if not source or source == repository:
                raise
            found = fetch(TOKENIZER_FILES, cached=cached, source=source)
        for file in TOKENIZER_SETTINGS:
            with contextlib.suppress(EntryNotFoundError):
                fetch([file], cached=cached, source=source)
        return found.parent

    try:
        # A complete snapshot is used as it is: no request, and the same weights every time.
        for weights, configs in layouts.items():
            with contextlib.suppress(LocalEntryNotFoundError):
                return fetch_all(weights, configs, cached=True)
        _knock(repository, revision)
        for weights, configs in layouts.items():
            try:
                return fetch_all(weights, configs, cached=False)
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue  # the repository is in another layout
    except ZeroShotError:
        raise
    except LocalEntryNotFoundError as error:
        offline = huggingface_hub.constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE forbids to ask for them" if offline else f"{_hub()} cannot be reached"
        raise HubError(
            f"the files of {name!r} are not in the cache and {why}. {_cached(repository)}Try again with a connection, "
            "copy the repository here and pass its folder as model, or use model='mini', which is bundled"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise HubError(
            f"{_hub()} has no repository {repository!r}{f' at revision {revision!r}' if revision else ''} that you may "
            "read; check the name, or set HF_TOKEN if it is private"
        ) from error
    except HFValidationError as error:
        raise ModelNotFoundError(f"{name!r} is not of the form hf-hub:owner/name[@revision]: {error}") from error
    except Exception as error:  # the hub's own errors, and those of whatever HTTP client it is built on
        raise HubError(f"fetching {name!r} from {_hub()} failed: {error}; try again, or use model='mini'") from error
    raise CheckpointNotFoundError(
        f"{repository} is in no layout that can be read; expected open_clip_config.json, or config.json and "
        f"preprocessor_config.json, and beside them one of {', '.join(layouts)}"
    )


def _cached(repository: str) -> str:
    """Say which files of a repository are in the hub's cache, and which models of the table are there complete."""
    import huggingface_hub

    try:
        cache = huggingface_hub.scan_cache_dir()
    except Exception:  # no cache at all, or one that cannot be read
        return ""
    repositories = {repo.repo_id: repo for repo in cache.repos}
    known = [entry.name for entry in available_models() if entry.repository in repositories]
    parts = []
    if repository in repositories:
        files = {file.file_name for revision in repositories[repository].revisions for file in revision.files}
        parts.append(f"Of {repository} the cache has {', '.join(sorted(files))}. ")
        known = [name for name in known if _table()[name].repository != repository]
    if known:
        parts.append(f"Cached are {', '.join(known[:5])}{', …' if len(known) > 5 else ''}. ")
    return "".join(parts)


def _knock(repository: str, revision: str | None) -> None:
    """Ask once whether the hub is there; a download would try for 23 seconds or more before it says that it is not.

    Raises
    ------
    LocalEntryNotFoundError
        If it is not.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    url = huggingface_hub.hf_hub_url(repository, "config.json", revision=revision)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=_PATIENCE_SECONDS)
    except HfHubHTTPError:
        pass  # it answers; what it says is the business of the download
    except (OSError, TimeoutError) as error:
        raise LocalEntryNotFoundError(str(error)) from error
    except Exception as error:  # of whatever HTTP client the hub's library is built on
        if "connect" not in type(error).__name__.lower() and "timeout" not in type(error).__name__.lower():
            raise
        raise LocalEntryNotFoundError(str(error)) from error


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", "the Hugging Face hub")
