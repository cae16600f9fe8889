"""Heads: the linear classifier that the text tower makes of class names, and the file in which it is kept.

The mathematics is that of CLIP's paper, section 3.1.4: the embedding of each prompt is L2-normalised, the mean over the
prompts of a class is normalised again, and the result is the row of that class. Nothing here knows a network.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from zeroshot import display
from zeroshot.cache import cache_folder, write_atomically
from zeroshot.encoder import Encoder, check_encoder, dtype_name
from zeroshot.errors import HeadError, InputTypeError, LabelError, OptionError, levels_to_caller
from zeroshot.progress import progress_bar
from zeroshot.prompts import (
    Labels,
    LabelsLike,
    LabelWarning,
    PromptsLike,
    as_prompt_set,
    choose_labels,
    parse_labels,
    spoken,
)

FORMAT = "zeroshot-head/4"
# Those of before do not say their precision; the first have no bias of classes, are for embeddings, and are not
# calibrated: as the defaults say.
_READABLE = ("zeroshot-head/2", "zeroshot-head/3", FORMAT)
# What a head reads: L2-normalised embeddings, or features, which are not normalised.
Space = Literal["embeddings", "features"]
# Prompts that are embedded at once: bounds memory, and leaves the encoder enough to sort into full batches.
_PROMPTS_PER_CHUNK = 4096
_PROGRESS_AFTER_SECONDS = 2.0
_DECISIVE = ("labels", "logit_scale", "logit_bias", "background", "space", "temperature", "fingerprint")


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier over embeddings: ``(logit_scale * embeddings @ weight.T + bias + logit_bias) / temperature``.

    Attributes
    ----------
    weight : Tensor of shape (n_classes + background, dim), float32
        On the CPU. Rows of a zero-shot head are L2-normalised.
    labels : tuple of str
        Class names, one for each of the first rows; names may repeat.
    logit_scale : float
        Factor on ``embeddings @ weight.T``; 1 for a probe that was fitted from nothing.
    logit_bias : float or None
        Added after scaling; only for checkpoints that were trained with a sigmoid.
    model : str
        Name of the encoder, to load it again.
    fingerprint : str
        Of the encoder whose embeddings the head is for.
    templates : tuple of str
        What the labels were put into; empty if prompts came from a function.
    background : int
        How many rows after those of `labels` stand for none of them.
    digest : str
        SHA-256 over everything that the head was made from; its key in the cache. Empty for heads that are kept
        nowhere.
    bias : Tensor of shape (n_classes + background,), float32, or None
        Added for each class after scaling: the intercepts of a probe. On the CPU.
    space : {"embeddings", "features"}
        What the head reads: L2-normalised embeddings of `encode_images`, or what `encode_features` gives.
    temperature : float
        What the logits are divided by, above 0; `zeroshot.calibration` fits it. It changes no ranking of classes.
    origin : str
        How a head was made that no text tower made, for people to read; empty for one of names.
    dtype : str
        Precision of the encoder, such as ``"float16"``, to load it again; empty if it is not known.

    Examples
    --------
    >>> import zeroshot
    >>> encoder = zeroshot.load("mini")
    >>> head = zeroshot.build_head(encoder, ["cat", "dog"])
    >>> embeddings = encoder.encode_images("examples/images/cat.jpg")
    >>> head.logits(embeddings).shape, head.probabilities(embeddings).sum().round(decimals=5).item()
    (torch.Size([1, 2]), 1.0)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     head.save(f"{folder}/pets.safetensors")
    ...     Head.load(f"{folder}/pets.safetensors").contents == head.contents
    True
    """

    weight: Tensor
    labels: tuple[str, ...]
    logit_scale: float
    logit_bias: float | None
    model: str
    fingerprint: str
    templates: tuple[str, ...] = ()
    background: int = 0
    digest: str = ""
    bias: Tensor | None = None
    space: Space = "embeddings"
    temperature: float = 1.0
    origin: str = ""
    dtype: str = ""

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or len(self.weight) != len(self.labels) + self.background:
            raise HeadError(
                f"weight has shape {tuple(self.weight.shape)} for {len(self.labels)} labels and {self.background} "
                "background classes; expected (n_classes + background, dim)"
            )
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise HeadError(
                f"bias has shape {tuple(self.bias.shape)} for {len(self.weight)} rows of weight; expected one number "
                "for each"
            )
        if self.space not in get_args(Space):
            raise HeadError(f"space is {self.space!r}; expected one of {', '.join(get_args(Space))}")
        if not (isinstance(self.temperature, (int, float)) and 0 < self.temperature < math.inf):
            raise HeadError(f"temperature is {self.temperature!r}; expected a number above 0")

    def __repr__(self) -> str:
        shown = ", ".join(self.labels[:4]) + (", …" if len(self.labels) > 4 else "")
        kind = f"{self.weight.shape[1]}-d" + (" features" if self.space == "features" else "")
        origin = f", {self.origin}" if self.origin else ""
        heat = f", temperature {self.temperature:.3g}" if self.temperature != 1 else ""
        return f"<Head: {len(self.labels)} classes ({shown}), {kind}, for {self.model!r}{origin}{heat}>"

    def _repr_html_(self) -> str:
        """What it tells apart, and what it was made of, for notebooks."""
        scale = f"{self.logit_scale:.4g}" + ("" if self.logit_bias is None else f", bias {self.logit_bias:.4g}")
        return display.page(
            display.title("Head", display.plural(len(self.labels), "class")),
            display.words(self.labels),
            display.facts(
                [
                    ("for", self.model),
                    ("reads", f"{self.weight.shape[1]}-d {self.space}"),
                    ("made by", self.origin),
                    ("templates", display.lines(self.templates)),
                    ("background", display.plural(self.background, "class") if self.background else ""),
                    ("logit scale", scale),
                    ("temperature", f"{self.temperature:.3g}" if self.temperature != 1 else ""),
                ]
            ),
        )

    def logits(self, embeddings: Tensor) -> Tensor:
        """Score embeddings: (n_images, dim) -> (n_images, n_classes) float32, before the softmax.

        Parameters
        ----------
        embeddings : Tensor of shape (n_images, dim)
            What `space` says: embeddings, or features.

        Returns
        -------
        Tensor of shape (n_images, n_classes + background), float32

        Raises
        ------
        HeadError
            If they have another size.
        """
        dim = self.weight.shape[1]
        if embeddings.shape[-1] != dim:
            wanted = f"features of encode_features, {dim}" if self.space == "features" else f"{dim}"
            raise HeadError(
                f"embeddings have {embeddings.shape[-1]} dimensions; the head of {self.model!r} expects {wanted}"
            )
        weight, bias = self._on(embeddings.device)
        scores = self.logit_scale * (embeddings.float() @ weight.T)
        if bias is not None:
            scores = scores + bias
        if self.logit_bias is not None:
            scores = scores + self.logit_bias
        return scores if self.temperature == 1 else scores / self.temperature

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias where the embeddings are, copied there once: a hundred thousand rows are 200 MB."""
        if device == self.weight.device:
            return self.weight, self.bias
        state = (device, _changes(self.weight), 0 if self.bias is None else _changes(self.bias))
        copies = _COPIES.get(self)
        if copies is None or copies[0] != state:  # returned as they are: another thread may be at another device
            copies = (state, self.weight.to(device), None if self.bias is None else self.bias.to(device))
            _COPIES[self] = copies
        return copies[1:]

    @property
    def contents(self) -> str:
        """Return the SHA-256 over all that decides what the head says of an image."""
        weight, bias, settings = self._parts()
        return _checksum(weight, bias, json.dumps({key: settings[key] for key in _DECISIVE}))

    def _parts(self) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """What goes into the file: weight and bias as they are stored, and the settings."""
        weight = self.weight.detach().cpu().float().clone(memory_format=torch.contiguous_format)
        bias = None if self.bias is None else self.bias.detach().cpu().float().clone()
        names = [field.name for field in fields(self) if field.name not in ("weight", "bias")]
        return weight, bias, {name: getattr(self, name) for name in names}

    def probabilities(self, embeddings: Tensor, *, multi_label: bool = False) -> Tensor:
        """Score embeddings: a softmax over all classes, or with `multi_label` a sigmoid for each.

        A softmax over all classes, or with `multi_label` a sigmoid for each.

        Parameters
        ----------
        embeddings : Tensor of shape (n_images, dim)
            As for `logits`.
        multi_label : bool

        Returns
        -------
        Tensor of shape (n_images, n_labels), float32
            In [0, 1], without the background classes.

        Raises
        ------
        HeadError
            If the embeddings have another size.
        """
        logits = self.logits(embeddings)
        scores = logits.sigmoid() if multi_label else logits.softmax(dim=-1)
        return scores[:, : len(self.labels)]

    def save(self, path: str | Path) -> None:
        """Write the head to a safetensors file, whole or not at all.

        Parameters
        ----------
        path : str or Path
            ``.safetensors`` by custom.

        Raises
        ------
        HeadError
            If there is a folder of that name.
        OSError
            If the folder cannot be written.
        """
        if Path(path).is_dir():
            raise HeadError(f"{path} is a folder; expected a file, such as {Path(path) / 'head.safetensors'}")
        weight, bias, settings = self._parts()
        text = json.dumps(settings)
        metadata = {"format": FORMAT, "sha256": _checksum(weight, bias, text), "head": text}
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        write_atomically(
            Path(path), lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata=metadata)
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Head:
        """Read a head that `save` wrote.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Head

        Raises
        ------
        HeadError
            If the file does not exist, is damaged, or is something else.
        InputTypeError
            If it is no path.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise InputTypeError(f"the head is {path!r} of type {type(path).__name__}; expected a Head or its file")
        if Path(path).is_dir():
            raise HeadError(f"{path} is a folder; expected a file that Head.save wrote")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format", "").partition("/")[0] != FORMAT.partition("/")[0]:
                    raise HeadError(f"{path} is not a head of this library; expected a file that Head.save wrote")
                if metadata["format"] not in _READABLE:
                    raise HeadError(
                        f"{path} has the format {metadata['format']!r}; this release reads {', '.join(_READABLE)}: "
                        "build the head again, or take the release that wrote it"
                    )
                weight = file.get_tensor("weight").clone()  # not mapped: the file may be replaced while it is in use
                bias = file.get_tensor("bias").clone() if "bias" in file.keys() else None  # noqa: SIM118
            if metadata.get("sha256") != _checksum(weight, bias, metadata["head"]):
                raise HeadError(f"{path} is damaged: its checksum does not fit; build it again")
            settings: dict[str, Any] = json.loads(metadata["head"])
            settings |= {key: tuple(settings[key]) for key in ("labels", "templates")}
            return cls(weight=weight, bias=bias, **settings)
        except HeadError:
            raise
        except (OSError, safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
            raise HeadError(f"{path} cannot be read as a head: {error}; build it again, or check the path") from error


def check_head_target(path: Path) -> None:
    """Raise if a file is there that something is in, and that is no head: a head may be made anew.

    Raises
    ------
    OptionError
        The message says what it is.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            kind = (file.metadata() or {}).get("format", "")
    except (OSError, safetensors.SafetensorError):
        kind = ""
    if kind.partition("/")[0] != FORMAT.partition("/")[0]:
        what = f" but a file of the format {kind!r}" if kind else ""
        raise OptionError(f"{path} exists and is no head{what}; choose another name")


# Weights and biases on other devices, by the head; not in the head, which is pickled and sent to other machines.
_COPIES: WeakKeyDictionary[Head, tuple[tuple[torch.device, int, int], Tensor, Tensor | None]] = WeakKeyDictionary()


def _changes(tensor: Tensor) -> int:
    """Return how often a tensor was written to; one that was made for inference alone cannot be."""
    return 0 if tensor.is_inference() else tensor._version


def build_head(
    encoder: Encoder,
    labels: LabelsLike | None = None,
    *,
    prompts: PromptsLike | None = None,
    background: Sequence[str] = (),
    cache: bool = True,
    progress: bool = True,
) -> Head:
    """Make a zero-shot classifier of class names.

    Parameters
    ----------
    encoder : Encoder
    labels : sequence of str, or mapping from name to synonyms, optional
        By default the classes of the prompt set.
    prompts : str, path, sequence of str, callable or PromptSet, optional
        As `as_prompt_set` takes them; by default ``"a photo of a {}."``.
    background : sequence of str
        Names of what is none of the labels; they go through the same prompts and make the last rows.
    cache : bool
        Look for the head in the cache folder first, and keep it there. The key covers the encoder, every prompt and
        every label, so that a head of other prompts is never used.
    progress : bool
        Show a progress bar in a terminal or notebook when it takes longer than two seconds.

    Returns
    -------
    Head
        `weight` of shape (n_classes + background, dim), rows in the order of `labels`, then of `background`.

    Raises
    ------
    LabelError, PromptError
        If labels or prompts are not usable.

    Examples
    --------
    >>> import zeroshot
    >>> head = build_head(zeroshot.load("mini"), ["cat", "dog"], cache=False)
    >>> head.labels, tuple(head.weight.shape)
    (('cat', 'dog'), (2, 384))
    """
    check_encoder(encoder)
    prompt_set = as_prompt_set(prompts)
    parsed = choose_labels(labels, prompt_set)
    expanded = prompt_set.expand(parsed)
    others = _parse_background(background, parsed)
    expanded += prompt_set.expand(others)
    digest = _digest(encoder.fingerprint, parsed.names, len(others.names), expanded)
    path = cache_folder() / "heads" / f"{digest}.safetensors"
    if cache and (found := _from_cache(path, digest)) is not None:
        # The same rows, as this encoder calls and scales them: the file may come from a copy in another folder.
        return replace(
            found,
            logit_scale=encoder.logit_scale,
            logit_bias=encoder.logit_bias,
            model=encoder.name,
            templates=prompt_set.templates,
            dtype=dtype_name(encoder),
        )
    head = Head(
        weight=_embed_classes(encoder, expanded, progress=progress),
        labels=parsed.names,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        templates=prompt_set.templates,
        background=len(others.names),
        digest=digest,
        dtype=dtype_name(encoder),
    )
    if cache:
        try:
            head.save(path)
        except (OSError, HeadError) as error:
            warnings.warn(
                f"the head was not kept in {path.parent}: {error}. Set ZEROSHOT_CACHE to a folder that can be written",
                stacklevel=2,
            )
    return head


def _parse_background(background: Sequence[str], labels: Labels) -> Labels:
    if not isinstance(background, str) and not background:
        return Labels((), ())
    try:
        others = parse_labels(background)
    except (LabelError, InputTypeError) as error:
        raise type(error)(f"background: {error}") from error
    known = set(map(spoken, labels.synonyms))
    both = [name for name, words in zip(others.names, others.synonyms, strict=True) if spoken(words) in known]
    if both:
        warnings.warn(
            f"background {both[0]!r} is one of the labels too, and the two share one probability; drop one of them",
            LabelWarning,
            stacklevel=levels_to_caller(),
        )
    return others


def _embed_classes(encoder: Encoder, expanded: Sequence[Sequence[str]], *, progress: bool) -> Tensor:
    rows = []
    chunk: list[Sequence[str]] = []
    options: dict[str, Any] = {"unit": "prompt", "desc": "prompts", "delay": _PROGRESS_AFTER_SECONDS, "show": progress}
    with progress_bar(sum(map(len, expanded)), **options) as bar:
        for index, prompts in enumerate(expanded):
            chunk.append(prompts)
            if sum(map(len, chunk)) >= _PROMPTS_PER_CHUNK or index == len(expanded) - 1:
                embeddings = encoder.encode_texts([prompt for prompts in chunk for prompt in prompts])
                for part in torch.split(embeddings, [len(prompts) for prompts in chunk]):
                    rows.append(F.normalize(part.mean(dim=0), dim=-1))
                bar.update(len(embeddings))
                chunk = []
    return torch.stack(rows).cpu()


def _from_cache(path: Path, digest: str) -> Head | None:
    if not path.exists():
        return None
    try:
        head = Head.load(path)
    except HeadError as error:
        warnings.warn(f"a cached head is damaged and is built again: {error}", stacklevel=3)
        return None
    return head if head.digest == digest else None


def _digest(fingerprint: str, names: Sequence[str], background: int, expanded: Sequence[Sequence[str]]) -> str:
    digest = hashlib.sha256(f"{FORMAT}\n{fingerprint}\n{background}\n".encode())
    digest.update(json.dumps(names).encode())
    for prompts in expanded:
        digest.update(json.dumps(prompts).encode())
    return digest.hexdigest()


def _checksum(weight: Tensor, bias: Tensor | None, settings: str) -> str:
    digest = hashlib.sha256(weight.numpy().tobytes())
    if bias is not None:
        digest.update(bias.numpy().tobytes())
    digest.update(settings.encode())
    return digest.hexdigest()
