"""Encoders made of somebody else's functions; `zeroshot.adapters` knows whose, and makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zeroshot import display
from zeroshot.errors import CheckpointError, InputTypeError, check_positive
from zeroshot.image import as_image_list

Pixels: TypeAlias = npt.NDArray[np.float32]

# What the tokens of these texts are goes into fingerprints: capitals, accents, digits, spaces, other scripts.
SAMPLE = ["a photo of a cat.", "Émile's NAÏVE  cafés, 1,024 of them: 東京 😀!"]
_TEXTS_PER_BATCH = 64


@dataclass(frozen=True, eq=False)
class Facts:
    """What adapted encoders have in common, whatever way their images take."""

    name: str
    device: torch.device
    logit_scale: float
    fingerprint: Callable[[], str]
    logit_bias: float | None = None
    encode_texts: Callable[[list[str]], Any] | None = None
    dim: int | None = None  # None: measured


class AdaptedEncoder:
    """Somebody else's model as an `Encoder`; made by the functions of this module.

    Attributes
    ----------
    name : str
    dim : int
        Size of the embeddings.
    device : torch.device
        Where the embeddings are.
    logit_scale : float
        Factor on cosine similarities, already exponentiated.
    logit_bias : float or None

    Examples
    --------
    >>> import numpy as np
    >>> from zeroshot.adapters import from_functions
    >>> encoder = from_functions(lambda images: np.ones((len(images), 2)), name="ones", dim=2, logit_scale=1.0)
    >>> encoder.encode_images("examples/images/cat.jpg").tolist()  # normalised
    [[0.7071067690849304, 0.7071067690849304]]
    >>> encoder.encode_features(["examples/images/cat.jpg"]).tolist(), encoder.feature_dim  # not normalised
    ([[1.0, 1.0]], 2)
    >>> encoder.encode_texts("a cat")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.InputTypeError: 'ones' embeds images only: it has no text tower, and serves for probes ...
    >>> len(encoder.fingerprint)
    64
    """

    def __init__(self, facts: Facts, encode_images: Callable[[list[Any]], Any]) -> None:
        self._facts = facts
        self._encode_images = encode_images
        self.name = facts.name
        self.device = facts.device
        self.logit_scale = facts.logit_scale
        self.logit_bias = facts.logit_bias
        self.dim: int = self._measure() if facts.dim is None else facts.dim

    def __reduce__(self) -> tuple[Any, ...]:
        raise InputTypeError(
            f"{self.name!r} is a model in memory and cannot be pickled; make it again in each process, or "
            "send a zeroshot.engines.BatchClassifier, whose workers load what zeroshot.load takes"
        )

    def __copy__(self) -> AdaptedEncoder:
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> AdaptedEncoder:
        return self.__copy__()  # the model is its owner's

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.dim}-d on {self.device}>"

    def _repr_html_(self) -> str:
        """What it is, for notebooks."""
        scale = f"{self.logit_scale:.4g}" + ("" if self.logit_bias is None else f", bias {self.logit_bias:.4g}")
        rows = [("embeddings", f"{self.dim}-d"), ("logit scale", scale), ("runs on", self.device)]
        rows += [("texts", "none: images only")] if self._facts.encode_texts is None else []
        return display.page(display.title(type(self).__name__, self.name), display.facts(rows))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that embeddings depend on; computed once, so weights must not change afterwards."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return self._facts.fingerprint()

    def encode_images(self, images: Any, *, batch_size: int = 32) -> Tensor:
        """Embed images.

        Parameters
        ----------
        images : image or iterable of images
            A path, URL, bytes, file object, PIL image or uint8 array, or several of them.
        batch_size : int
            Images that the model gets at once, at least 1.

        Returns
        -------
        Tensor of shape (n_images, dim), float32
            L2-normalised, on `device`, in the order of `images`.

        Raises
        ------
        ImageError
            If one cannot be decoded; the message names it.
        CheckpointError
            If what the model returns has another shape, or is not finite.
        InputTypeError
            If what the model returns is no array.
        """
        return self._in_batches(self._encode_images, as_image_list(images), check_positive("batch_size", batch_size))

    def encode_features(self, images: Any, *, batch_size: int = 32) -> Tensor:
        """Compute what the model gives for images, before it is normalised: what linear probes are fitted on.

        Parameters
        ----------
        images, batch_size
            As for `encode_images`.

        Returns
        -------
        Tensor of shape (n_images, dim), float32
            Not normalised, on `device`, in the order of `images`.

        Raises
        ------
        ImageError, CheckpointError, InputTypeError
            As for `encode_images`.
        """
        images = as_image_list(images)
        return self._in_batches(self._encode_images, images, check_positive("batch_size", batch_size), normalize=False)

    @property
    def feature_dim(self) -> int:
        """Return the size of the features: that of the embeddings."""
        return self.dim

    def encode_texts(self, texts: str | Sequence[str]) -> Tensor:
        """Embed texts, as they are.

        Parameters
        ----------
        texts : str or sequence of str
            As they are: templates are the business of `build_head`.

        Returns
        -------
        Tensor of shape (n_texts, dim), float32
            L2-normalised, on `device`, in the order of `texts`.

        Raises
        ------
        InputTypeError
            If the model has no text tower, or `texts` are not strings.
        CheckpointError
            If what the model returns has another shape, or is not finite.
        """
        if self._facts.encode_texts is None:
            raise InputTypeError(
                f"{self.name!r} embeds images only: it has no text tower, and serves for probes on labelled images; "
                "expected an encoder of images and texts to build a head from names"
            )
        texts = list(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else [texts]
        for text in texts:
            if not isinstance(text, str):
                raise InputTypeError(f"a text is {text!r} of type {type(text).__name__}; expected str")
        return self._in_batches(self._facts.encode_texts, texts, _TEXTS_PER_BATCH)

    def _in_batches(
        self, encode: Callable[[list[Any]], Any], items: list[Any], size: int, *, normalize: bool = True
    ) -> Tensor:
        out = torch.empty(len(items), self.dim, dtype=torch.float32, device=self.device)
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            features = self._checked(encode, batch)
            out[start : start + len(batch)] = F.normalize(features, dim=-1) if normalize else features
        return out

    def _checked(self, encode: Callable[[Any], Any], batch: Any) -> Tensor:
        """Embed one batch, and check what comes: (n, dim) float32 on `device`, not normalised."""
        features = _compute(encode, batch)
        if features.shape != (len(batch), self.dim):
            raise CheckpointError(
                f"{self.name!r} gave embeddings of shape {tuple(features.shape)} for {len(batch)} images or texts; "
                f"expected ({len(batch)}, {self.dim}), one row for each"
            )
        features = features.detach().to(self.device, torch.float32)
        lengths = features.norm(dim=-1)
        if not (lengths.isfinite() & (lengths > 0)).all():
            raise CheckpointError(
                f"{self.name!r} gave embeddings that are not finite or all zeros, which have no direction: do the "
                "weights hold NaN, or are their numbers too large for the dtype?"
            )
        return features

    def _measure(self) -> int:
        if self._facts.encode_texts is not None:
            features = _compute(self._facts.encode_texts, SAMPLE[:1])
        else:
            features = _compute(self._encode_images, [Image.new("RGB", (64, 64))])
        if features.ndim != 2:
            raise CheckpointError(
                f"{self.name!r} gave embeddings of shape {tuple(features.shape)} for one input; expected (1, dim), one "
                "vector for each image or text"
            )
        return features.shape[1]


class AdaptedPixelEncoder(AdaptedEncoder):
    """An `AdaptedEncoder` whose images can be preprocessed apart from the model, such as in threads of a stream.

    Made by `from_open_clip`, `from_transformers` and `from_timm`; the other attributes are those of `AdaptedEncoder`.

    Attributes
    ----------
    preprocess : callable
        From whatever is an image to ndarray of shape (3, H, W), float32.

    Examples
    --------
    >>> import numpy as np, zeroshot
    >>> from zeroshot.adapters import from_open_clip, to_open_clip
    >>> encoder = from_open_clip(*to_open_clip(zeroshot.load("mini")), name="mini")
    >>> pixels = np.stack([encoder.preprocess("examples/images/cat.jpg")])
    >>> encoder.encode_pixels(pixels).shape, encoder.features_of_pixels(pixels).shape
    (torch.Size([1, 384]), torch.Size([1, 384]))
    """

    def __init__(
        self, facts: Facts, preprocess: Callable[[Any], Pixels], encode_pixels: Callable[[Tensor], Any]
    ) -> None:
        self.preprocess = preprocess
        self._encode_pixels = encode_pixels
        super().__init__(facts, self._encode_each)

    def encode_pixels(self, pixels: Pixels | Tensor) -> Tensor:
        """Embed images that are preprocessed already, in one batch.

        Parameters
        ----------
        pixels : ndarray or Tensor of shape (n_images, 3, H, W), float32
            As `preprocess` returns them; a tensor may be on any device.

        Returns
        -------
        Tensor of shape (n_images, dim), float32
            L2-normalised, on `device`.
        """
        return F.normalize(self.features_of_pixels(pixels), dim=-1)

    def features_of_pixels(self, pixels: Pixels | Tensor) -> Tensor:
        """Compute features of images that are preprocessed already, in one batch.

        Parameters
        ----------
        pixels
            As for `encode_pixels`.

        Returns
        -------
        Tensor of shape (n_images, dim), float32
            As those of `encode_features`.
        """
        return self._checked(self._encode_pixels, torch.as_tensor(pixels))

    def _encode_each(self, images: list[Any]) -> Any:
        return self._encode_pixels(torch.from_numpy(np.stack([self.preprocess(image) for image in images])))


def _compute(encode: Callable[[Any], Any], batch: Any) -> Tensor:
    with torch.no_grad():
        features = encode(batch)
    try:
        return features if isinstance(features, Tensor) else torch.tensor(np.asarray(features))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputTypeError(
            f"embeddings came as {type(features).__name__}; expected an array or tensor of shape (n, dim)"
        ) from error
