"""The seam of the library: what a dual encoder has to offer so that heads and classifiers can use it.

It lies above tokens and pixels, since every checkpoint owns its tokenizer and its preprocessing. Anything with these
members can be passed as ``model``; nothing above this module knows a network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from zeroshot import display
from zeroshot.errors import InputTypeError

MEMBERS = ("device", "dim", "encode_images", "encode_texts", "fingerprint", "logit_bias", "logit_scale", "name")


@runtime_checkable
class Encoder(Protocol):
    """A pair of towers that embed images and texts in one space.

    Attributes
    ----------
    name : str
        What to load to get it again.
    dim : int
        Size of the embeddings.
    device : torch.device
        Where the embeddings are.
    logit_scale : float
        Factor on cosine similarities before the softmax; about 100 for OpenAI's models.
    logit_bias : float or None
        Added to the scaled similarities, for checkpoints that were trained with a sigmoid.
    fingerprint : str
        Equal for two encoders only if they give the same embeddings; heads are kept under it.

    Examples
    --------
    >>> import zeroshot
    >>> encoder = zeroshot.load("mini")
    >>> isinstance(encoder, Encoder)
    True
    >>> encoder.name, encoder.dim, encoder.device.type, encoder.logit_bias
    ('mini', 384, 'cpu', None)
    >>> images = encoder.encode_images(["examples/images/cat.jpg"])
    >>> texts = encoder.encode_texts(["a photo of a cat.", "a photo of a dog."])
    >>> (encoder.logit_scale * images @ texts.T).argmax().item()
    0
    >>> encoder.fingerprint == zeroshot.load("mini").fingerprint
    True
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def logit_scale(self) -> float: ...
    @property
    def logit_bias(self) -> float | None: ...
    @property
    def fingerprint(self) -> str: ...

    def encode_images(self, images: Any) -> Tensor:
        """Return embeddings of images.

        Parameters
        ----------
        images : image or iterable of images

        Returns
        -------
        Tensor of shape (n_images, dim), float32
            L2-normalised, on `device`.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings of texts.

        Parameters
        ----------
        texts : sequence of str

        Returns
        -------
        Tensor of shape (n_texts, dim), float32
            L2-normalised, on `device`.
        """
        ...


def check_encoder(model: object) -> Encoder:
    """Return `model` if it has the members of `Encoder`.

    Raises
    ------
    InputTypeError
        If it lacks some; the message lists them.
    """
    lacking = [name for name in MEMBERS if not hasattr(model, name)]
    if lacking:
        raise InputTypeError(
            f"model is of type {type(model).__name__}, which lacks {', '.join(lacking)}; expected a name such as "
            "'mini', a path, or an object with the members of zeroshot.Encoder"
        )
    return cast(Encoder, model)


def is_approximate(encoder: Encoder) -> bool:
    """Whether an encoder decodes large images approximately, as `load` does with ``approximate=True``."""
    return bool(getattr(getattr(encoder, "preprocess", None), "approximate", False))


# ------------------------------------------------------------------------------------------------------- features


class FeatureEncoder:
    """The features of an encoder in the place of its embeddings, so that all that takes an encoder of images takes it.

    Made by `feature_encoder`. Its "embeddings" are what `encode_features` gives: not normalised, and of no use with
    texts. Its fingerprint is another than that of the encoder, so that neither is taken for the other.

    Attributes
    ----------
    base : Encoder
        The encoder whose features they are.
    name : str
        That of `base`: what to load to get it again.
    dim : int
        Size of the features.
    device : torch.device
    logit_scale : float
        1: a head for features has its own.
    logit_bias : None
    fingerprint : str
    """

    logit_scale = 1.0
    logit_bias = None

    def __init__(self, base: Any) -> None:
        self.base = base

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.base!r}>"

    def _repr_html_(self) -> str:
        rows = [("features", f"{self.dim}-d, not normalised"), ("runs on", self.device)]
        return display.page(display.title("Features of", self.name), display.facts(rows))

    @property
    def name(self) -> str:
        return cast(str, self.base.name)

    @property
    def dim(self) -> int:
        return cast(int, self.base.feature_dim)

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.base.device)

    @property
    def fingerprint(self) -> str:
        return f"{self.base.fingerprint}-features"

    def encode_images(self, images: Any) -> Tensor:
        """Return features of images: (n_images, dim) float32, not normalised, on `device`."""
        return cast(Tensor, self.base.encode_features(images))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Raise an `InputTypeError`: texts have no features to compare with."""
        raise InputTypeError(
            f"the features of {self.name!r} are compared with no text; expected a head that was fitted on images, by "
            "zeroshot.fit_probe, or the encoder itself for a head of names"
        )


class FeaturePixelEncoder(FeatureEncoder):
    """A `FeatureEncoder` that leaves the preprocessing to the threads of a stream."""

    @property
    def preprocess(self) -> Callable[[Any], Any]:
        """That of `base`."""
        return cast(Callable[[Any], Any], self.base.preprocess)

    def encode_pixels(self, pixels: Any) -> Tensor:
        """Return features of preprocessed images: (n_images, dim) float32, not normalised, on `device`."""
        return cast(Tensor, self.base.features_of_pixels(pixels))


def has_features(encoder: object) -> bool:
    """Whether an encoder gives features besides embeddings, as those of `load` and of `zeroshot.adapters` do."""
    return hasattr(encoder, "encode_features") and hasattr(encoder, "feature_dim")


def feature_encoder(encoder: Encoder | FeatureEncoder) -> FeatureEncoder:
    """Return an encoder whose images are embedded as their features; one that is such already as it is.

    Raises
    ------
    InputTypeError
        If the encoder has no `encode_features` and `feature_dim`.

    Examples
    --------
    >>> import zeroshot
    >>> feature_encoder(zeroshot.load("mini")).encode_images("examples/images/cat.jpg").shape
    torch.Size([1, 1280])
    """
    if isinstance(encoder, FeatureEncoder):
        return encoder
    if not has_features(encoder):
        raise InputTypeError(
            f"the encoder is of type {type(encoder).__name__}, which lacks encode_features and feature_dim; expected "
            "an encoder of zeroshot.load or zeroshot.adapters, or a head for embeddings"
        )
    is_apart = hasattr(encoder, "preprocess") and hasattr(encoder, "features_of_pixels")
    return FeaturePixelEncoder(encoder) if is_apart else FeatureEncoder(encoder)


def dtype_name(encoder: Encoder) -> str:
    """Return the precision of an encoder, such as ``float16``; empty if it does not say."""
    base = encoder.base if isinstance(encoder, FeatureEncoder) else encoder
    return str(getattr(base, "dtype", "")).removeprefix("torch.")
