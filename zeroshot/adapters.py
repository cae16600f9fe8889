"""Bring your own model: objects of other libraries as an `Encoder`, and the native encoder as a model of open_clip.

Heads, classifiers and everything else above `zeroshot.encoder` take what these functions return in place of a model's
name. The libraries themselves are not imported: their objects are known by what they offer.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from zeroshot.adapted import SAMPLE, Facts, Pixels
from zeroshot.adapted import AdaptedEncoder as AdaptedEncoder
from zeroshot.adapted import AdaptedPixelEncoder as AdaptedPixelEncoder
from zeroshot.errors import DeviceError, InputTypeError, MissingExtraError, OptionError, check_positive
from zeroshot.image import open_image

# A random crop of open_clip's takes the whole image in one of four draws.
_REPEATS = 8
_EVALUATION = "the transform for evaluation, the third result of open_clip.create_model_and_transforms"
_TOKENIZER = "one that returns tensors of shape (n_texts, context), such as open_clip.get_tokenizer('ViT-B-32')"


# -------------------------------------------------------------------------------------------------- other libraries


def from_open_clip(model: Any, preprocess: Any, tokenizer: Any, *, name: str | None = None) -> AdaptedPixelEncoder:
    """Make an encoder of a model of open_clip, or of OpenAI's clip package.

    Parameters
    ----------
    model : torch.nn.Module
        With ``encode_image``, ``encode_text``, ``logit_scale``. Device and dtype are its own; it is put in eval mode.
    preprocess : callable
        The transform for evaluation: the *third* result of ``open_clip.create_model_and_transforms``, the second of
        ``clip.load``. It gets RGB images, turned upright and put over white.
    tokenizer : callable
        ``open_clip.get_tokenizer(…)``, or ``functools.partial(clip.tokenize, truncate=True)``.
    name : str, optional
        For messages and saved heads; by default the name of the model's class.

    Returns
    -------
    AdaptedPixelEncoder
        Its fingerprint covers weights, architecture, preprocessing and tokenizer; another version of the library may
        change it.

    Raises
    ------
    InputTypeError
        If one of the three is something else.
    OptionError
        If `preprocess` gives images of several sizes, or other pixels each time, as transforms for training do.

    Examples
    --------
    ::

        model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained="laion2b_s34b_b79k")
        encoder = from_open_clip(model, preprocess, open_clip.get_tokenizer("ViT-B-32"), name="ViT-B-32")
        zeroshot.classify("cat.jpg", ["cat", "dog"], model=encoder)

    Without a download, with `to_open_clip` in the place of open_clip:

    >>> import zeroshot
    >>> encoder = from_open_clip(*to_open_clip(zeroshot.load("mini")), name="mini by way of open_clip")
    >>> zeroshot.classify("examples/images/cat.jpg", ["cat", "dog"], model=encoder).label
    'cat'
    """
    _check_members(model, "model", "a model of open_clip", "encode_image", "encode_text", "logit_scale", "parameters")
    transform = partial(_transform, preprocess)
    _check_transform(transform)
    _check_tokenizer(tokenizer)
    model.eval()
    device, dtype = _placement(getattr(model, "visual", model))

    def fingerprint() -> str:
        return _digest(model, preprocess, _describe_tokenizer(tokenizer), tokenizer(SAMPLE).tolist())

    facts = Facts(
        name=name or type(model).__name__,
        device=device,
        logit_scale=_exponentiated(model.logit_scale),
        logit_bias=_optional_number(getattr(model, "logit_bias", None)),
        encode_texts=lambda texts: model.encode_text(tokenizer(texts).to(device)),
        fingerprint=fingerprint,
    )
    return AdaptedPixelEncoder(
        facts, transform, lambda pixels: model.encode_image(pixels.to(device, dtype, non_blocking=True))
    )


def from_transformers(model: Any, processor: Any, *, name: str | None = None) -> AdaptedEncoder:
    """Make an encoder of a dual encoder of transformers: CLIP, SigLIP, SigLIP 2, ALIGN, AltCLIP, AIMv2 and others.

    Texts of models that were trained with a sigmoid (SigLIP) are padded to the full length and not masked, as in their
    training; all texts are cut at the longest that the model has positions for.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With ``get_image_features``, ``get_text_features`` and ``logit_scale`` or ``temperature``. Device and dtype are
        its own; it is put in eval mode.
    processor : transformers.ProcessorMixin
        Its ``image_processor`` and its ``tokenizer`` are used.
    name : str, optional
        For messages and saved heads; by default what the model was loaded by.

    Returns
    -------
    AdaptedEncoder
        An `AdaptedPixelEncoder`, unless the processor gives more than an image of fixed size (SigLIP 2 NaFlex). Its
        fingerprint covers weights, configuration, preprocessing and tokenizer; another version of the library may
        change it.

    Raises
    ------
    InputTypeError
        If model or processor are something else.

    Examples
    --------
    ::

        repository = "google/siglip-base-patch16-224"
        encoder = from_transformers(AutoModel.from_pretrained(repository), AutoProcessor.from_pretrained(repository))
        zeroshot.classify("cat.jpg", ["cat", "dog"], model=encoder)

    What is no such model is told at once:

    >>> from_transformers("openai/clip-vit-base-patch32", None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.InputTypeError: model is of type str, which lacks get_image_features, get_text_features; ...
    """
    _check_members(
        model, "model", "a dual encoder of transformers, such as CLIPModel", "get_image_features", "get_text_features"
    )
    _check_members(processor, "processor", "a processor of transformers", "image_processor", "tokenizer")
    model.eval()
    device, dtype = model.device, model.dtype
    logit_bias = _optional_number(getattr(model, "logit_bias", None))
    longest = min(model.config.text_config.max_position_embeddings, processor.tokenizer.model_max_length)

    def tokenize(texts: list[str]) -> Any:
        padding = "longest" if logit_bias is None else "max_length"
        tokens = processor.tokenizer(texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        # Trained with a sigmoid means, so far, trained without a mask: the padding is part of the text.
        return tokens.to(device) if logit_bias is None else {"input_ids": tokens["input_ids"].to(device)}

    def encode_texts(texts: list[str]) -> Any:
        return _pooled(model.get_text_features(**tokenize(texts)))

    def process(images: list[Any]) -> Any:
        return processor.image_processor(images=[open_image(image) for image in images], return_tensors="pt")

    def encode_images(images: list[Any]) -> Any:
        return _pooled(model.get_image_features(**process(images).to(device, dtype)))

    def fingerprint() -> str:
        sample = {key: value.tolist() for key, value in tokenize(SAMPLE).items()}
        return _digest(model, processor.image_processor, _describe_tokenizer(processor.tokenizer), sample, longest)

    facts = Facts(
        name=name or getattr(model, "name_or_path", "") or type(model).__name__,
        device=device,
        logit_scale=_transformers_scale(model),
        logit_bias=logit_bias,
        encode_texts=encode_texts,
        fingerprint=fingerprint,
    )
    if set(process([Image.new("RGB", (64, 64))])) != {"pixel_values"}:
        return AdaptedEncoder(facts, encode_images)
    return AdaptedPixelEncoder(
        facts,
        lambda image: process([image])["pixel_values"][0].numpy(),
        lambda pixels: _pooled(model.get_image_features(pixel_values=pixels.to(device, dtype, non_blocking=True))),
    )


def from_sentence_transformers(
    model: Any, *, logit_scale: float | None = None, name: str | None = None
) -> AdaptedEncoder:
    """Make an encoder of a model of sentence-transformers that embeds images and texts, such as ``clip-ViT-B-32``.

    Where texts and images have a model each (``clip-ViT-B-32-multilingual-v1``), take `from_functions`.

    Parameters
    ----------
    model : sentence_transformers.SentenceTransformer
        Device and dtype are its own; it is put in eval mode.
    logit_scale : float, optional
        Factor on cosine similarities; by default that of the CLIP inside.
    name : str, optional
        For messages and saved heads; by default the name of the model's class.

    Returns
    -------
    AdaptedEncoder
        Its fingerprint covers weights, architecture and processor; another version of the library may change it.

    Raises
    ------
    InputTypeError
        If `model` is something else.
    OptionError
        If there is no logit scale inside, and none is given.

    Examples
    --------
    ::

        encoder = from_sentence_transformers(SentenceTransformer("clip-ViT-B-32"), name="clip-ViT-B-32")
        zeroshot.classify("cat.jpg", ["cat", "dog"], model=encoder)

    What is no such model is told at once:

    >>> from_sentence_transformers("clip-ViT-B-32")
    Traceback (most recent call last):
    ...
    zeroshot.errors.InputTypeError: model is of type str, which lacks modules, device; expected a SentenceTransformer
    """
    _check_members(model, "model", "a SentenceTransformer", "encode", "modules", "device")
    model.eval()
    dual = next((part for part in model.modules() if isinstance(getattr(part, "logit_scale", None), Tensor)), None)
    if logit_scale is None:
        if dual is None:
            raise OptionError(
                f"{type(model).__name__} holds no logit scale; give logit_scale=, the factor on cosine similarities "
                "that it was trained with, such as 100 for OpenAI's CLIP"
            )
        logit_scale = _exponentiated(dual.logit_scale)

    def encode(inputs: list[Any]) -> Any:
        return model.encode(inputs, batch_size=len(inputs), convert_to_tensor=True, show_progress_bar=False)

    def fingerprint() -> str:
        parts = [getattr(model, part, None) for part in ("processor", "tokenizer", "prompts")]
        return _digest(model, *parts, _describe_tokenizer(parts[1]))

    facts = Facts(
        name=name or type(model).__name__,
        device=torch.device(model.device),
        logit_scale=_check_number("logit_scale", logit_scale, above=0),
        logit_bias=_optional_number(getattr(dual, "logit_bias", None)),
        encode_texts=encode,
        fingerprint=fingerprint,
    )
    return AdaptedEncoder(facts, lambda images: encode([open_image(image) for image in images]))


def from_timm(model: Any, *, name: str | None = None) -> AdaptedPixelEncoder:
    """Make an image-only encoder of a backbone of timm: for probes on labelled images, since it has no text tower.

    Embeddings are the features before the classifier, and images are prepared as the backbone's configuration says.

    Parameters
    ----------
    model : torch.nn.Module
        From ``timm.create_model``. Device and dtype are its own; it is put in eval mode.
    name : str, optional
        For messages and saved heads; by default the architecture's name.

    Returns
    -------
    AdaptedPixelEncoder
        `logit_scale` is 1. Its fingerprint covers weights, architecture and preprocessing; another version of timm may
        change it.

    Raises
    ------
    InputTypeError
        If `model` is something else.
    MissingExtraError
        If timm is not installed.

    Examples
    --------
    ::

        encoder = from_timm(timm.create_model("vit_small_patch14_dinov2.lvd142m", pretrained=True))
        encoder.encode_images(["cat.jpg"])

    What is no such model is told at once:

    >>> from_timm("vit_small_patch14_dinov2.lvd142m")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.InputTypeError: model is of type str, which lacks ...; expected a model of timm
    """
    _check_members(
        model, "model", "a model of timm", "forward_features", "forward_head", "pretrained_cfg", "parameters"
    )
    try:
        from timm.data import create_transform, resolve_data_config
    except ImportError as error:
        raise MissingExtraError(f"from_timm needs timm: pip install 'zeroshot-clip[timm]' ({error})") from error
    model.eval()
    device, dtype = _placement(model)
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)

    def encode_pixels(pixels: Tensor) -> Any:
        return model.forward_head(model.forward_features(pixels.to(device, dtype, non_blocking=True)), pre_logits=True)

    facts = Facts(
        name=name or model.pretrained_cfg.get("architecture") or type(model).__name__,
        device=device,
        logit_scale=1.0,
        fingerprint=lambda: _digest(model, transform),
    )
    return AdaptedPixelEncoder(facts, partial(_transform, transform), encode_pixels)


def from_functions(
    encode_images: Callable[[list[Image.Image]], Any],
    encode_texts: Callable[[list[str]], Any] | None = None,
    *,
    name: str,
    dim: int,
    logit_scale: float,
    logit_bias: float | None = None,
    device: str | torch.device = "cpu",
    fingerprint: str | None = None,
) -> AdaptedEncoder:
    """Make an encoder of two functions, or of one for images alone.

    Parameters
    ----------
    encode_images : callable
        Gets a list of RGB images (PIL), returns an array or tensor of shape (n_images, dim).
    encode_texts : callable, optional
        Gets a list of str, returns an array or tensor of shape (n_texts, dim). Without it the encoder is for probes.
    name : str
        For messages and saved heads.
    dim : int
        Size of the embeddings. They need not be normalised.
    logit_scale : float
        Factor on cosine similarities, already exponentiated; take it from the checkpoint, since probabilities hang on
        it. For images alone 1.
    logit_bias : float, optional
        For models that were trained with a sigmoid.
    device : str or torch.device
        Where the embeddings are put.
    fingerprint : str, optional
        Anything that changes when the functions give other embeddings, such as the name and version of a model. By
        default drawn at random: then this very object and its copies alone can use the heads that are built with
        it, and later processes build them again.

    Returns
    -------
    AdaptedEncoder

    Raises
    ------
    InputTypeError, OptionError
        If an argument is of a wrong type or out of its range.
    DeviceError
        If this machine does not have the device.

    Examples
    --------
    >>> import numpy as np
    >>> def mean_colours(images):
    ...     return np.stack([np.asarray(image).mean(axis=(0, 1)) for image in images])
    >>> def colours(texts):
    ...     return np.array([[200, 30, 30] if "red" in text else [30, 30, 200] for text in texts])
    >>> encoder = from_functions(mean_colours, colours, name="colours", dim=3, logit_scale=10.0)
    >>> import zeroshot
    >>> zeroshot.classify(np.full((8, 8, 3), [180, 0, 20], np.uint8), ["red", "blue"], model=encoder).label
    'red'
    """
    _check_callable(encode_images, "encode_images", "a function from a list of images to (n_images, dim)")
    if encode_texts is not None:
        _check_callable(encode_texts, "encode_texts", "a function from a list of str to (n_texts, dim), or None")
    drawn = fingerprint or secrets.token_hex(32)
    facts = Facts(
        name=name,
        device=_check_device(device),
        logit_scale=_check_number("logit_scale", logit_scale, above=0),
        logit_bias=None if logit_bias is None else _check_number("logit_bias", logit_bias),
        encode_texts=encode_texts,
        fingerprint=lambda: drawn,
        dim=check_positive("dim", dim),
    )
    return AdaptedEncoder(facts, lambda images: encode_images([open_image(image) for image in images]))


# --------------------------------------------------------------------------------------------------- the other way


def to_open_clip(encoder: Any) -> tuple[OpenClipModel, Callable[[Any], Tensor], Callable[[str | list[str]], Tensor]]:
    """Make what code for open_clip expects of a native encoder: model, transform and tokenizer.

    Parameters
    ----------
    encoder : zeroshot.clip.ClipEncoder
        As `zeroshot.load` returns it.

    Returns
    -------
    model : OpenClipModel
        A module with ``model(image, text)``, ``encode_image``, ``encode_text`` and ``logit_scale`` as open_clip has
        them, for inference. Features are float32 and L2-normalised, whatever ``normalize`` says.
    transform : callable
        An image -> Tensor of shape (3, H, W), float32. It can be pickled for the workers of a DataLoader.
    tokenizer : callable
        Texts -> Tensor of shape (n_texts, context), int64.

    Raises
    ------
    InputTypeError
        If the encoder is none of ours, and has no tokens.

    Examples
    --------
    >>> import zeroshot
    >>> model, transform, tokenizer = to_open_clip(zeroshot.load("mini"))
    >>> images = transform("examples/images/cat.jpg")[None]
    >>> texts = tokenizer(["a photo of a cat.", "a photo of a rocket."])
    >>> scores = model.logit_scale.exp() * model.encode_image(images) @ model.encode_text(texts).T
    >>> int(scores.argmax())
    0
    """
    members = ("preprocess", "tokenize", "encode_pixels", "encode_tokens", "logit_scale", "logit_bias")
    _check_members(encoder, "encoder", "one that zeroshot.load returned", *members)

    def tokenizer(texts: str | list[str]) -> Tensor:
        return torch.from_numpy(encoder.tokenize(texts))

    return OpenClipModel(encoder).eval(), partial(_to_tensor, encoder.preprocess), tokenizer


class OpenClipModel(nn.Module):
    """A native encoder with the methods of open_clip's CLIP; made by `to_open_clip`.

    Attributes
    ----------
    logit_scale : nn.Parameter of shape (), float32
        The logarithm of the factor, as open_clip has it.
    logit_bias : nn.Parameter of shape (), float32, or None

    Examples
    --------
    >>> import zeroshot
    >>> model, transform, tokenizer = to_open_clip(zeroshot.load("mini"))
    >>> image, text = transform("examples/images/cat.jpg")[None], tokenizer(["a cat", "a dog"])
    >>> model.encode_image(image).shape, model.encode_text(text).shape
    (torch.Size([1, 384]), torch.Size([2, 384]))
    >>> images, texts, scale = model.forward(image, text)  # or model(image, text)
    >>> int((scale * images @ texts.T).argmax())
    0
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self._encoder = encoder
        self.logit_scale = nn.Parameter(torch.tensor(math.log(encoder.logit_scale)), requires_grad=False)
        bias = encoder.logit_bias
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias), requires_grad=False)

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Return embeddings of pixels, normalised either way.

        Parameters
        ----------
        image : Tensor of shape (n_images, 3, H, W), float
            As the transform gives them.
        normalize : bool
            Is there because open_clip has it; nothing depends on it.

        Returns
        -------
        Tensor of shape (n_images, dim), float32
            L2-normalised, on the device of `image`.
        """
        embeddings: Tensor = self._encoder.encode_pixels(image.float())
        return embeddings.to(image.device).clone()  # a copy, since autograd takes no tensor of inference mode

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Return embeddings of tokens, normalised either way.

        Parameters
        ----------
        text : Tensor of shape (n_texts, context), int64
            As the tokenizer gives them.
        normalize : bool
            As for `encode_image`.

        Returns
        -------
        Tensor of shape (n_texts, dim), float32
            L2-normalised, on the device of `text`.
        """
        embeddings: Tensor = self._encoder.encode_tokens(text.cpu().numpy())
        return embeddings.to(text.device).clone()

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> tuple[Tensor | None, ...]:
        """Return both embeddings and the scale, and the bias where there is one.

        Parameters
        ----------
        image, text : Tensor, optional
            As for `encode_image` and `encode_text`; what is left out is None in the result.

        Returns
        -------
        tuple of Tensor or None
            (n_images, dim) and (n_texts, dim) float32, and the factor itself, of shape ().
        """
        features = (
            None if image is None else self.encode_image(image),
            None if text is None else self.encode_text(text),
            self.logit_scale.exp(),
        )
        return features if self.logit_bias is None else (*features, self.logit_bias)


def _to_tensor(preprocess: Callable[[Any], Pixels], image: Any) -> Tensor:
    return torch.from_numpy(preprocess(image))


# ------------------------------------------------------------------------------------------------------------- parts


def _transform(transform: Callable[[Image.Image], Any], image: Any) -> Pixels:
    """Apply a torchvision transform to whatever is an image: ndarray of shape (3, H, W), float32."""
    return np.asarray(transform(open_image(image)), dtype=np.float32)


def _pooled(output: Any) -> Any:
    """Return the embeddings: transformers 5 wraps them in an output object, earlier versions do not."""
    return getattr(output, "pooler_output", output)


def _transformers_scale(model: Any) -> float:
    if hasattr(model, "logit_scale"):
        limit = getattr(model, "max_log_logit_scale", math.inf)  # AIMv2
        return _exponentiated(model.logit_scale.clamp(max=limit))
    if hasattr(model, "temperature"):  # ALIGN, TIPS
        return 1 / float(model.temperature.detach())
    raise InputTypeError(f"model is of type {type(model).__name__}, which has no logit_scale; expected a dual encoder")


def _placement(model: Any) -> tuple[torch.device, torch.dtype]:
    """Where the weights are, and the dtype that pixels need: that of the first convolution.

    In half precision open_clip keeps some parameters in float32, such as the positions that come first.
    """
    parameters = list(model.parameters())
    first = next((parameter for parameter in parameters if parameter.ndim == 4), parameters[0])
    return first.device, first.dtype


def _exponentiated(tensor: Tensor) -> float:
    return float(tensor.detach().float().exp())  # in float32, as everybody does


def _optional_number(tensor: Tensor | None) -> float | None:
    return None if tensor is None else float(tensor.detach())


# ------------------------------------------------------------------------------------------------------ fingerprints


def _digest(model: Any, *parts: object) -> str:
    """SHA-256 over a module's tensors and architecture, and over whatever else its embeddings depend on."""
    configs = [module.config for module in model.modules() if hasattr(getattr(module, "config", None), "to_dict")]
    config = dict(configs[0].to_dict()) if configs else {}
    for key in ("transformers_version", "_name_or_path"):  # the same model from another place, or in another process
        config.pop(key, None)
    digest = hashlib.sha256()
    for part in (type(model), model, config, *parts):
        # Functions and objects without a repr of their own show where they lie in memory.
        digest.update(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part)).encode() + b"\n")
    for key, value in model.state_dict().items():
        digest.update(f"{key} {getattr(value, 'dtype', '')} {tuple(getattr(value, 'shape', ()))}\n".encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def _describe_tokenizer(tokenizer: Any) -> str:
    """Kind and vocabulary of a tokenizer, as far as it shows them; the tokens of a sample are told apart from this."""
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps those of transformers
    vocabulary = sorted(inner.get_vocab().items()) if hasattr(inner, "get_vocab") else []
    return json.dumps([type(tokenizer).__qualname__, getattr(tokenizer, "__qualname__", ""), vocabulary])


# ------------------------------------------------------------------------------------------------------------ checks


def _check_members(value: object, argument: str, expected: str, *members: str) -> None:
    lacking = [member for member in members if not hasattr(value, member)]
    if lacking:
        raise InputTypeError(
            f"{argument} is of type {type(value).__name__}, which lacks {', '.join(lacking)}; expected {expected}"
        )


def _check_callable(value: object, argument: str, expected: str) -> None:
    if not callable(value):
        raise InputTypeError(f"{argument} is of type {type(value).__name__}; expected a callable, {expected}")


def _check_device(device: str | torch.device) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"device is {device!r}; expected one that torch knows, such as 'cpu' or 'cuda:1'") from error


def _check_number(argument: str, value: object, *, above: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)) or not above < value < math.inf:
        raise OptionError(f"{argument} is {value!r}; expected a {'positive' if above == 0 else 'finite'} number")
    return float(value)


def _check_transform(transform: Callable[[Any], Pixels]) -> None:
    """Refuse what gives no pixels, pixels of several sizes, or other ones each time."""
    noise = np.random.default_rng(0).integers(0, 256, size=(48, 64, 3), dtype=np.uint8)
    try:
        wide, tall = transform(noise), transform(noise.transpose(1, 0, 2))
    except Exception as error:
        raise InputTypeError(f"preprocess makes no pixels of an image: {error!r}; expected {_EVALUATION}") from error
    if wide.ndim != 3 or wide.shape != tall.shape:
        raise OptionError(
            f"preprocess gives arrays of shape {wide.shape} and {tall.shape}; expected (3, H, W), one for all images"
        )
    if not all(np.array_equal(wide, transform(noise)) for _ in range(_REPEATS)):
        raise OptionError(
            f"preprocess gives other pixels each time, as transforms for training do; expected {_EVALUATION}"
        )


def _check_tokenizer(tokenizer: Any) -> None:
    try:
        tokens = tokenizer(SAMPLE[:1])
    except Exception as error:
        raise InputTypeError(
            f"tokenizer makes no tokens of a list of texts: {error!r}; expected {_TOKENIZER}"
        ) from error
    if not isinstance(tokens, Tensor) or tokens.ndim != 2:
        raise InputTypeError(f"tokenizer returns {type(tokens).__name__}; expected {_TOKENIZER}")
