"""The native encoder: two towers, a tokenizer and a preprocessing, loaded from one checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroshot import display, prefix
from zeroshot.cache import file_digest, file_stamps
from zeroshot.checkpoints import Checkpoint, read_checkpoint
from zeroshot.errors import CheckpointError, DeviceError, OptionError, check_positive
from zeroshot.image import Preprocess, as_image_list
from zeroshot.lanes import in_lanes
from zeroshot.nets.graphs import Recorded
from zeroshot.nets.kept import pack, quantize
from zeroshot.nets.layers import convolves
from zeroshot.nets.text import TextTower
from zeroshot.registry import DEFAULT_MODEL, locate
from zeroshot.stream import decode_in_order
from zeroshot.tokenizer import Tokenizer, get_tokenizer
from zeroshot.tokenizer_file import FileTokenizer

Precision = Literal["float32", "float16", "bfloat16", "int8", "auto"]
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
# Texts that go through the tower at once: bounds memory, and is enough for prompts to share nearly all their prefixes.
_TEXTS_PER_BLOCK = 4096
# The same for towers that cannot share them, which compute every position of every text.
_TEXTS_PER_BATCH = 64


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    device: str | torch.device | None = None,
    dtype: Precision | torch.dtype = "float32",
    approximate: bool = False,
    compile: bool = False,
) -> ClipEncoder:
    """Load an encoder.

    Parameters
    ----------
    model : str or path-like
        ``architecture/tag`` as `available_models` lists them, ``hf-hub:owner/name[@revision]``, the path of a
        checkpoint folder or weights file, or ``"mini"``, the bundled model that needs no download.
    device : str or torch.device, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …; by default CUDA where there is one, else the CPU. On GPUs, float32 is
        float32: no convolution is rounded to TF32, which torch does by itself.
    dtype : {"float32", "float16", "bfloat16", "int8", "auto"} or torch.dtype
        Precision of the towers; ``"auto"`` is the one that the weights are stored in. Embeddings are float32 whatever
        it is. ``"int8"`` is for CPUs: the matrices of the blocks in 8 bits, the rest in float32 (`nets.kept`). It is
        the fastest where there is VNNI, and loses the most digits: embeddings keep a cosine of 0.999 to those in
        float32.
    approximate : bool
        Decode large JPEGs at a half, a quarter or an eighth of their size where that leaves twice the pixels that are
        needed: several times as fast for photographs of 12 megapixels. On noisy photographs pixels differed by at most
        6 of 255 from the exact ones and on average by 0.2, embeddings of a ViT-B/32 by 6e-4 (cosine above 0.99999),
        those of `mini` by 0.02 (cosine 0.993); smaller pictures and other formats differ by 1 of 255 here and there.
        Texts, heads and the fingerprint are the same; files of embeddings note it.
    compile : bool
        Let `torch.compile` translate the image tower, for embeddings (not for features), and on GPUs record it as CUDA
        graphs, which cost a copy of its activations. For a process that embeds much: the first batches wait a minute
        or two for the compiler, which needs a C++ compiler on the machine. On GPUs batches are filled up to a power of
        two, so take such a ``batch_size``; towers with convolutions are recorded alone in float32, since the compiler
        would round them to TF32. On CPUs it gains a few per cent.

    Returns
    -------
    ClipEncoder
        In eval mode, with gradients off.

    Raises
    ------
    ModelNotFoundError
        If the name is unknown; the message lists names that are near.
    CheckpointError
        If files are missing, damaged or do not fit.
    HubError
        If the files have to be downloaded and cannot be.
    DeviceError
        If this machine does not have the device, or the device not the precision, or too little memory.
    MissingExtraError
        If the checkpoint needs a library that is not installed (timm, transformers); the message names the extra.
    OptionError
        If `dtype` is none of these.

    Examples
    --------
    >>> encoder = load("mini")
    >>> encoder.encode_texts(["a photo of a cat."]).shape
    torch.Size([1, 384])
    """
    resolved_device, resolved_dtype = _resolve_device(device), _resolve_dtype(dtype)
    location = locate(model)
    checkpoint = read_checkpoint(location.path, config=location.config, tokenizer=location.tokenizer)
    precision = checkpoint.dtype if resolved_dtype is None else resolved_dtype
    if approximate:
        checkpoint = replace(checkpoint, preprocess=replace(checkpoint.preprocess, approximate=True))
    if precision == torch.int8 and resolved_device.type != "cpu":
        raise DeviceError(
            f"dtype='int8' is for CPUs, not for {resolved_device}; expected 'float16' or 'bfloat16' there"
        )
    # For another process: it may have the files of a name elsewhere, and another working folder.
    is_path = location.path == Path(location.name).expanduser()
    source = location.path.absolute() if is_path else location.name
    return ClipEncoder(
        checkpoint, name=location.name, source=source, device=resolved_device, dtype=precision, compile=compile
    )


@lru_cache(maxsize=2)  # whoever sends a classifier with every task loads it once in each process
def _load_again(
    model: str | Path, device: str, dtype: torch.dtype, approximate: bool, compile: bool, fingerprint: str
) -> ClipEncoder:
    """Load an encoder that was pickled, and see that it is the same one."""
    encoder = load(model, device=device, dtype=dtype, approximate=approximate, compile=compile)
    if encoder.fingerprint != fingerprint:
        raise CheckpointError(
            f"the encoder was pickled with another state of {str(model)!r} than there is here (weights or "
            "configuration differ); expected the same files on both sides"
        )
    return encoder


class ClipEncoder:
    """A CLIP checkpoint as an `Encoder`; made by `load`.

    Each tower is read from disk when it is first used: classifying with a saved head loads no text tower. It is pickled
    as what it was loaded from, without weights; copies share them.

    Attributes
    ----------
    name : str
        The name or path that it was loaded by.
    dim : int
        Size of the embeddings.
    device : torch.device
    dtype : torch.dtype
        Precision of the towers.
    logit_scale : float
        Factor on cosine similarities, from the checkpoint; already exponentiated.
    logit_bias : float or None
        From the checkpoint; only models that were trained with a sigmoid have one.
    preprocess : Preprocess
        From the checkpoint.
    context : int
        Longest text, in tokens.

    Examples
    --------
    >>> import numpy as np
    >>> encoder = load("mini")
    >>> encoder.name, encoder.dim, encoder.context, encoder.dtype
    ('mini', 384, 40, torch.float32)
    >>> tokens = encoder.tokenize(["a photo of a cat."])
    >>> tokens.shape, encoder.encode_tokens(tokens).shape, encoder.encode_texts("a photo of a cat.").shape
    ((1, 40), torch.Size([1, 384]), torch.Size([1, 384]))
    >>> pixels = np.stack([encoder.preprocess("examples/images/cat.jpg")])
    >>> encoder.encode_pixels(pixels).shape, encoder.features_of_pixels(pixels).shape
    (torch.Size([1, 384]), torch.Size([1, 1280]))
    >>> encoder.encode_images(["examples/images/cat.jpg"]).norm(dim=1).round(decimals=5).tolist()
    [1.0]
    >>> encoder.feature_dim, len(encoder.fingerprint), encoder.compiled
    (1280, 64, False)
    >>> type(encoder.vision).__name__, type(encoder.text).__name__
    ('EfficientNet', 'TextTower')
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        name: str,
        source: str | Path,
        device: torch.device,
        dtype: torch.dtype,
        compile: bool = False,
    ) -> None:
        self._checkpoint = checkpoint
        self.name = name
        self.device = device
        self.dtype = dtype
        self.dim: int = checkpoint.text.dim
        self.context: int = checkpoint.context
        self.logit_scale: float = checkpoint.logit_scale
        self.logit_bias: float | None = checkpoint.logit_bias
        self.preprocess: Preprocess = checkpoint.preprocess
        self._compile = compile
        self._source = source
        self._singles = 0
        self._loading = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        options = (str(self.device), self.dtype, self.preprocess.approximate, self.compiled, self.fingerprint)
        return _load_again, (self._source, *options)

    def __copy__(self) -> ClipEncoder:
        # Neither loaded again nor the same object: whoever changes the logit_scale of a copy keeps the first as it was.
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> ClipEncoder:
        return self.__copy__()  # nobody writes to the weights

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"<ClipEncoder {self.name!r}: {self.dim}-d, {self.preprocess.size[0]} px, {dtype} on {self.device}>"

    def _repr_html_(self) -> str:
        """What it is, for notebooks; nothing is loaded for it."""
        images = self.preprocess
        scale = f"{self.logit_scale:.4g}" + ("" if self.logit_bias is None else f", bias {self.logit_bias:.4g}")
        resize = f"{images.resize_mode}, {images.interpolation}" + (", approximate" if images.approximate else "")
        return display.page(
            display.title("Encoder", self.name),
            display.facts(
                [
                    ("embeddings", f"{self.dim}-d"),
                    ("images", f"{images.size[0]} × {images.size[1]} pixels ({resize})"),
                    ("texts", f"up to {self.context} tokens"),
                    ("logit scale", scale),
                    ("runs", f"in {str(self.dtype).removeprefix('torch.')} on {self.device}"),
                ]
            ),
        )

    @property
    def compiled(self) -> bool:
        """Whether the image tower is translated, as `load` was asked to."""
        return self._compile

    @property
    def vision(self) -> nn.Module:
        """Return the image tower: (n_images, 3, H, W) normalised pixels -> (n_images, dim), not normalised.

        Its ``features`` are what it projects, of size ``feature_dim``.

        Raises
        ------
        CheckpointError
            If its weights do not fit, or were replaced after the encoder was loaded.
        """
        with self._loading:  # several threads may ask for it first
            return self._vision

    @cached_property
    def _vision(self) -> nn.Module:
        with self._memory_for("the image tower"):
            tower = self._checkpoint.load_vision(device=self.device, dtype=self._stored_dtype)
        if self.dtype == torch.int8:
            quantize(tower)
        if self.compiled and not (self.device.type == "cuda" and self.dtype == torch.float32 and convolves(tower)):
            tower.compile()
        return tower

    @property
    def _project_pixels(self) -> Callable[[Tensor], Tensor]:
        """The image tower, with `compile` on a GPU as its recordings."""
        with self._loading:
            return self._recorded if self.compiled and self.device.type == "cuda" else self._vision

    @cached_property
    def _recorded(self) -> Recorded:
        return Recorded(self._vision)

    @property
    def text(self) -> nn.Module:
        """Return the text tower: (n_texts, context) int64 tokens -> (n_texts, dim), not normalised.

        Raises
        ------
        CheckpointError
            If its weights do not fit, or were replaced after the encoder was loaded.
        """
        with self._loading:
            return self._text

    @cached_property
    def _text(self) -> nn.Module:
        with self._memory_for("the text tower"):
            tower = self._checkpoint.load_text(device=self.device, dtype=self._stored_dtype)
        if self.dtype == torch.int8:
            quantize(tower)
        return tower

    @property
    def _stored_dtype(self) -> torch.dtype:
        """Of the tensors of the towers, and of what goes through them."""
        return torch.float32 if self.dtype == torch.int8 else self.dtype

    @cached_property
    def _tokenizer(self) -> Tokenizer | FileTokenizer:
        file = self._checkpoint.tokenizer
        return get_tokenizer() if file is None else file.open()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and precision: equal only for equal embeddings.

        Raises
        ------
        CheckpointError
            If the files were replaced after the encoder was loaded from them.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:  # a cached property itself is none of the protocol's to pyright
        checkpoint = self._checkpoint
        files = checkpoint.weights.files
        if file_stamps(files) != checkpoint.stamps:
            raise CheckpointError(f"the weights of {self.name!r} were changed since they were loaded; load them again")
        settings: tuple[object, ...] = (checkpoint.vision, checkpoint.text, checkpoint.preprocess, self.dtype)
        digests = [file_digest(path) for path in files]
        if checkpoint.tokenizer is not None:
            tokenizer = checkpoint.tokenizer
            settings += (tokenizer.clean, tokenizer.drop_separator)
            digests += [path.name + file_digest(path) for path in tokenizer.files]
        return hashlib.sha256(repr((settings, digests)).encode()).hexdigest()

    def tokenize(self, texts: str | Sequence[str]) -> npt.NDArray[np.int64]:
        """Return token ids of texts; longer ones are cut, with a warning.

        Parameters
        ----------
        texts : str or sequence of str

        Returns
        -------
        ndarray of shape (n_texts, context), int64

        Raises
        ------
        CheckpointError
            If the tokenizer that came with the checkpoint makes tokens that the text tower does not have.
        InputTypeError
            If a text is not a string.
        """
        tokens = self._tokenizer.tokenize(texts, context=self.context)
        rows = self._checkpoint.text.vocab_size
        # Not held when loading: published vocabularies have entries to spare that no text leads to.
        if tokens.max(initial=0) >= rows:
            raise CheckpointError(
                f"the tokenizer of {self.name!r} makes the token {tokens.max()}, and its text tower has {rows}, from 0 "
                "on; expected the tokenizer that the weights were trained with"
            )
        return tokens

    def encode_texts(self, texts: str | Sequence[str]) -> Tensor:
        """Embed texts.

        Parameters
        ----------
        texts : str or sequence of str
            Used as they are; templates are the business of `build_head`.

        Returns
        -------
        Tensor of shape (n_texts, dim), float32
            L2-normalised, on `device`, in the order of `texts`.

        Raises
        ------
        InputTypeError
            If a text is not a string.
        """
        return self.encode_tokens(self.tokenize(texts))

    def encode_tokens(self, tokens: npt.NDArray[np.int64]) -> Tensor:
        """Embed texts that are tokens already.

        Parameters
        ----------
        tokens : ndarray of shape (n_texts, context), int64
            As `tokenize` returns them.

        Returns
        -------
        Tensor of shape (n_texts, dim), float32
            L2-normalised, on `device`.

        Raises
        ------
        DeviceError
            If the GPU has too little memory.
        """
        out = torch.empty(len(tokens), self.dim, dtype=torch.float32, device=self.device)
        shared = getattr(self._checkpoint.text, "shares_prefixes", False)
        size = _TEXTS_PER_BLOCK if shared else _TEXTS_PER_BATCH
        # Towers that need no padding behind the longest text of a batch save most with texts of like length in it.
        order = np.arange(len(tokens)) if shared else np.argsort(_lengths(tokens), kind="stable")
        for start in range(0, len(tokens), size):
            rows = order[start : start + size]
            part = np.ascontiguousarray(tokens[rows])
            where = torch.from_numpy(rows).to(self.device)  # before the work: to copy is to wait for it
            with torch.inference_mode(), self._memory_for(f"{len(part)} texts at once"):
                if shared:
                    features = prefix.encode(cast(TextTower, self.text), part)
                else:
                    batch = torch.from_numpy(part).to(self.device)
                    features = in_lanes(self.text, batch) if self.device.type == "cpu" else self.text(batch)
                out[where] = _normalize(features)
        return out

    def encode_images(self, images: Any, *, batch_size: int = 32) -> Tensor:
        """Embed images.

        Parameters
        ----------
        images : image or iterable of images
            A path, URL, bytes, file object, PIL image or uint8 array, or several of them.
        batch_size : int
            Images that go through the tower at once, at least 1. Results do not depend on it beyond rounding, 1e-5.

        Returns
        -------
        Tensor of shape (n_images, dim), float32
            L2-normalised, on `device`, in the order of `images`.

        Raises
        ------
        ImageError
            If one cannot be decoded; the message names it.
        """
        return self._in_batches(self.encode_pixels, self.dim, images, batch_size)

    def encode_features(self, images: Any, *, batch_size: int = 32) -> Tensor:
        """Compute what the image tower projects into the space of texts: what linear probes are fitted on.

        As in CLIP's paper (section A.3): of a Vision Transformer what goes into the projection, behind the last layer
        norm; of a ResNet, and of towers without a projection, the embedding; of `mini` what its classifier reads.

        Parameters
        ----------
        images, batch_size
            As for `encode_images`.

        Returns
        -------
        Tensor of shape (n_images, feature_dim), float32
            Not normalised, on `device`, in the order of `images`.

        Raises
        ------
        ImageError
            If an image cannot be decoded; the message names it.

        Examples
        --------
        >>> encoder = load("mini")
        >>> encoder.encode_features("examples/images/cat.jpg").shape, encoder.feature_dim
        (torch.Size([1, 1280]), 1280)
        """
        return self._in_batches(self.features_of_pixels, self.feature_dim, images, batch_size)

    @property
    def feature_dim(self) -> int:
        """Return the size of the features; reads the image tower if that is not yet there."""
        return cast(int, self.vision.feature_dim)

    def _in_batches(self, encode: Callable[[Any], Tensor], dim: int, images: Any, batch_size: int) -> Tensor:
        check_positive("batch_size", batch_size)
        images = as_image_list(images)
        if len(images) == 1:
            self._expect_single_images()
        out = torch.empty(len(images), dim, dtype=torch.float32, device=self.device)
        with contextlib.closing(decode_in_order(self.preprocess, images)) as pixels:
            for start in range(0, len(images), batch_size):
                batch = list(itertools.islice(pixels, batch_size))
                out[start : start + len(batch)] = encode(self._gather(batch))
        return out

    def _gather(self, images: list[npt.NDArray[np.float32]]) -> Tensor:
        """Put the pixels of a batch together: (n_images, 3, H, W) float32, on a GPU if `device` is one."""
        if self.device.type != "cuda":
            return torch.from_numpy(np.stack(images))
        # Copied while the GPU computes the batch before: torch gives pinned memory to nobody else until that is done.
        pinned = torch.empty((len(images), *images[0].shape), dtype=torch.float32, pin_memory=True)
        np.stack(images, out=pinned.numpy())
        return pinned.to(self.device, non_blocking=True)

    def _expect_single_images(self) -> None:
        """From the second image that comes alone on, keep the matrices as they multiply fastest for one.

        Not from the first one: a process that classifies one image saves that copy. Never for the batches of a stream,
        whose results are the same bytes whatever came before.
        """
        with self._loading:
            self._singles += 1
            if self._singles == 2 and not self.compiled:
                pack(self.vision, getattr(self._checkpoint.vision, "positions", 0))

    def encode_pixels(self, pixels: npt.NDArray[np.float32] | Tensor) -> Tensor:
        """Embed images that are preprocessed already, in one batch.

        Parameters
        ----------
        pixels : ndarray or Tensor of shape (n_images, 3, H, W), float32
            As `preprocess` returns them; a tensor may be on any device.

        Returns
        -------
        Tensor of shape (n_images, dim), float32
            L2-normalised, on `device`.

        Raises
        ------
        DeviceError
            If the GPU has too little memory for so many.
        """
        vision = self._project_pixels
        return self._through(lambda batch: _normalize(vision(batch)), pixels)

    def features_of_pixels(self, pixels: npt.NDArray[np.float32] | Tensor) -> Tensor:
        """Compute features of images that are preprocessed already, in one batch.

        Parameters
        ----------
        pixels : ndarray or Tensor of shape (n_images, 3, H, W), float32
            As `preprocess` returns them; a tensor may be on any device.

        Returns
        -------
        Tensor of shape (n_images, feature_dim), float32
            As those of `encode_features`.

        Raises
        ------
        DeviceError
            If the GPU has too little memory for so many.
        """
        vision = self.vision
        return self._through(lambda batch: vision.features(batch).float(), pixels)  # type: ignore[operator]

    def _through(self, tower: Callable[[Tensor], Tensor], pixels: npt.NDArray[np.float32] | Tensor) -> Tensor:
        batch = torch.from_numpy(pixels) if isinstance(pixels, np.ndarray) else pixels

        def encode(share: Tensor) -> Tensor:
            # Not in the background: the caller may write to its memory as soon as there is a result.
            return tower(share.to(self.device).to(self._stored_dtype))

        with torch.inference_mode(), self._memory_for(f"{len(batch)} image{'s' * (len(batch) > 1)} at once"):
            if self.device.type == "cpu" and batch.device.type == "cpu" and not self.compiled:
                return in_lanes(encode, batch)
            return encode(batch)

    @contextlib.contextmanager
    def _memory_for(self, what: str) -> Iterator[None]:
        """Explain it if a GPU has too little memory."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device} has too little free memory for {what} ({str(error).splitlines()[0]}); expected more, a "
                "smaller batch_size, or dtype='float16', which takes half"
            ) from error


def _lengths(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the lengths of texts: what stands before the last run of one token is no padding."""
    differs = tokens != tokens[:, -1:]
    return np.where(differs.any(axis=1), tokens.shape[1] - differs[:, ::-1].argmax(axis=1), 0)


def _normalize(features: Tensor) -> Tensor:
    # In float32 whatever the towers' precision: the norm of half-precision rows would lose digits.
    return F.normalize(features.float(), dim=-1)


def _resolve_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
        placed = torch.empty(0, device=resolved).device
        if resolved.type == "meta":
            raise NotImplementedError("meta tensors hold no numbers")
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        usual = str(device).lower().replace("gpu", "cuda")
        sentence = str(error).splitlines()[0].split(". ")[0]  # the others are about torch's builds
        reason = sentence if usual == str(device) else f"torch calls it {usual!r}"
        raise DeviceError(
            f"device {str(device)!r} is not available here: {reason}; expected 'cpu'" + _cuda_devices()
        ) from error
    # "cuda" is another device in every thread that chooses one; from here on it has its number.
    return placed if resolved.type == "cuda" else resolved


def _cuda_devices() -> str:
    """Say which devices there are besides the CPU."""
    if not torch.cuda.is_available():
        return " (torch sees no CUDA device)"
    last = torch.cuda.device_count() - 1
    return ", or 'cuda:0'" + (f" to 'cuda:{last}'" if last else "")


def _resolve_dtype(dtype: Precision | torch.dtype) -> torch.dtype | None:
    """Return the precision; None for that of the weights."""
    if isinstance(dtype, str) and dtype == "auto":
        return None
    resolved = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if resolved is None or resolved not in _DTYPES.values():
        raise OptionError(f"dtype is {dtype!r}; expected one of {', '.join(_DTYPES)}, auto")
    return resolved
