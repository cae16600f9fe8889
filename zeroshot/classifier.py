"""An encoder and a head together: images in, predictions out."""

from __future__ import annotations

import inspect
import itertools
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zeroshot import display
from zeroshot.cache import file_stamps
from zeroshot.clip import ClipEncoder, Precision, load
from zeroshot.encoder import Encoder, FeatureEncoder, check_encoder, dtype_name, feature_encoder
from zeroshot.errors import CheckpointError, HeadError, OptionError, check_positive, levels_to_caller
from zeroshot.files import find_weights
from zeroshot.head import Head, build_head
from zeroshot.image import ImageLike, Images, is_single_image, iter_images
from zeroshot.pictures import hold
from zeroshot.prediction import DEFAULT_TOP_K, Outcome, Prediction, Predictions
from zeroshot.prompts import Labels, LabelsLike, PromptSet, PromptsLike, as_prompt_set, choose_labels
from zeroshot.registry import DEFAULT_MODEL, is_known
from zeroshot.stream import EmbeddedBatch, OnError, each_result, embed_batches

if TYPE_CHECKING:
    from zeroshot.explain import Explanation, Of

# Numbers that scoring holds at once, of each intermediate result: 16 MB, whatever the number of classes and images.
_SCORES_PER_BLOCK = 1 << 22
ModelLike: TypeAlias = "str | os.PathLike[str] | Encoder"


class Classifier:
    """Classifies images by the names of the classes.

    Parameters
    ----------
    labels : sequence of str, or mapping from name to synonyms, optional
        By default the classes of the prompt set.
    model : str, path or Encoder
        As `load` takes it, or any object with the members of `Encoder`.
    prompts : str, path, sequence of str, callable or PromptSet, optional
        By default ``"a photo of a {}."``; ``"imagenet"`` is the ensemble of 80 templates.
    background : sequence of str
        Names of what is none of the labels, such as ``["something else"]``; they go through the same templates. An
        image that is nearer to one of them than to every label has no label.
    multi_label : bool
        Score each label by itself, with a sigmoid: for images that show several. Only for checkpoints that were
        trained so (SigLIP).
    device, dtype, approximate, compile
        As for `load`; only for a model that is not yet an encoder.
    cache : bool
        Keep the head on disk and look for it there.

    Raises
    ------
    LabelError, PromptError
        If labels or prompts are not usable.
    OptionError
        If `multi_label` is asked of a checkpoint that was trained with a softmax.

    Attributes
    ----------
    encoder : Encoder
        That of the head's embeddings, or of its features.
    head : Head

    Examples
    --------
    >>> clf = Classifier(["cat", "dog"], model="mini")
    >>> clf.labels
    ('cat', 'dog')
    >>> clf("examples/images/cat.jpg").label
    'cat'
    >>> clf.predict_proba(["examples/images/cat.jpg"] * 3).shape
    (3, 2)
    >>> clf.head.save("pets.safetensors")  # doctest: +SKIP
    >>> Classifier.from_head(clf.head).labels
    ('cat', 'dog')
    """

    def __init__(
        self,
        labels: LabelsLike | None = None,
        *,
        model: ModelLike = DEFAULT_MODEL,
        prompts: PromptsLike | None = None,
        background: Sequence[str] = (),
        multi_label: bool = False,
        device: str | torch.device | None = None,
        dtype: Precision | torch.dtype = "float32",
        approximate: bool = False,
        compile: bool = False,
        cache: bool = True,
    ) -> None:
        # Mistakes in labels and prompts are told before a checkpoint is fetched or loaded.
        prompt_set = as_prompt_set(prompts)
        parsed = choose_labels(labels, prompt_set)
        self.encoder = as_encoder(model, device=device, dtype=dtype, approximate=approximate, compile=compile)
        self.head = build_head(self.encoder, parsed, prompts=prompt_set, background=background, cache=cache)
        self.multi_label = _check_multi_label(self.head, multi_label)
        if len(self.head.weight) == 1 and not multi_label:
            warnings.warn(
                f"{self.labels[0]!r} is the only label and gets the probability 1 whatever an image shows; add labels, "
                "or background=['something else']",
                stacklevel=levels_to_caller(),
            )

    @classmethod
    def from_head(
        cls,
        head: Head | str | os.PathLike[str],
        *,
        model: ModelLike | None = None,
        multi_label: bool = False,
        device: str | torch.device | None = None,
        dtype: Precision | torch.dtype | None = None,
        approximate: bool = False,
        compile: bool = False,
    ) -> Classifier:
        """Make a classifier of a saved head; the text tower is not loaded.

        Parameters
        ----------
        head : Head or path
        model : str, path or Encoder, optional
            By default the one that the head was built with.
        dtype : str or torch.dtype, optional
            By default the one that the head was built with.
        multi_label, device, approximate, compile
            As for `Classifier`.

        Returns
        -------
        Classifier

        Raises
        ------
        HeadError
            If the file is no head, or the encoder's embeddings are not those that the head was built for.
        """
        if not isinstance(head, Head):
            head = Head.load(head)
        source = head.model if model is None else model
        precision: Any = dtype or head.dtype or "float32"
        encoder = as_encoder(source, device=device, dtype=precision, approximate=approximate, compile=compile)
        if head.space == "features":
            encoder = feature_encoder(encoder)
        _check_fits(head, encoder)
        classifier = cls.__new__(cls)
        classifier.encoder, classifier.head = encoder, head
        classifier.multi_label = _check_multi_label(head, multi_label)
        return classifier

    def __repr__(self) -> str:
        shown = ", ".join(self.labels[:4]) + (", …" if len(self.labels) > 4 else "")
        return f"<Classifier: {len(self.labels)} classes ({shown}) with {self.encoder!r}>"

    def _repr_html_(self) -> str:
        """What it tells apart, and by what, for notebooks."""
        encoder, head = self.encoder, self.head
        precision = str(getattr(encoder, "dtype", "")).removeprefix("torch.")
        return display.page(
            display.title("Classifier", display.plural(len(self.labels), "class")),
            display.words(self.labels),
            display.facts(
                [
                    ("model", encoder.name),
                    ("runs", f"in {precision} on {encoder.device}" if precision else f"on {encoder.device}"),
                    ("head by", head.origin),
                    ("templates", display.lines(head.templates)),
                    ("background", display.plural(head.background, "class") if head.background else ""),
                    ("scores", "each label by itself" if self.multi_label else ""),
                ]
            ),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the class names, in the order of the columns of `predict_proba`."""
        return self.head.labels

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a file is an iterator of bytes too: the first overload wins
        self, images: ImageLike, *, top_k: int = ..., threshold: float = ..., batch_size: int = ...
    ) -> Prediction: ...
    @overload
    def __call__(
        self, images: Images, *, top_k: int = ..., threshold: float = ..., batch_size: int = ...
    ) -> Predictions: ...

    def __call__(
        self, images: Any, *, top_k: int = DEFAULT_TOP_K, threshold: float = 0.0, batch_size: int = 32
    ) -> Prediction | Predictions:
        """Classify one image, or several in order.

        Parameters
        ----------
        images : image or iterable of images
            A path, path-like, fsspec URL, bytes, file object, PIL image or uint8 array; or several of them.
        top_k : int
            How many classes are shown, at least 1; `probabilities` always has all.
        threshold : float
            Probability below which a prediction has no label, in [0, 1].
        batch_size : int
            Images that go through the network at once.

        Returns
        -------
        Prediction, or Predictions
            One for one image, for a collection a list of them, which a notebook shows as a grid.

        Raises
        ------
        ImageError
            If an image cannot be decoded; the message names it.

        Examples
        --------
        >>> clf = Classifier(["cat", "dog"], model="mini")
        >>> clf("examples/images/cat.jpg").label, [one.label for one in clf(["examples/images/cat.jpg"])]
        ('cat', ['cat'])
        """
        _check_display(top_k, threshold)
        found = Predictions()
        for some, rows in self._probabilities(images, batch_size):
            found += self._predictions(rows, top_k, threshold, some)
        return found[0] if is_single_image(images) else found

    def stream(
        self,
        images: Any,
        *,
        top_k: int = DEFAULT_TOP_K,
        threshold: float = 0.0,
        batch_size: int = 32,
        workers: int | None = None,
        on_error: OnError = "report",
        devices: Sequence[str | torch.device] | None = None,
    ) -> Generator[Outcome, None, None]:
        """Classify any number of images, also without end, in order; a broken one does not end it.

        Threads decode while the network computes. A few batches are held in memory, however many images there are.

        Parameters
        ----------
        images : image or iterable of images or Item
            As `embed_stream` takes them.
        top_k, threshold
            As for a call of the classifier.
        batch_size, workers, on_error
            As for `embed_stream`. Predictions are those of a call of the classifier up to rounding: 1e-5 in float32.
        devices : sequence of str or torch.device, optional
            ``["cuda:0", "cuda:1"]``, …: share the work among copies of the encoder, one on each; only for an encoder
            that `load` made. By default the one device of `encoder`.

        Yields
        ------
        Outcome
            One for each image, in order. Closing the generator stops the threads.

        Raises
        ------
        OptionError
            If an option is out of its range.
        ZeroShotError
            What is wrong with an image, if `on_error` is ``"raise"``.

        Examples
        --------
        >>> clf = Classifier(["cat", "dog"], model="mini")
        >>> for outcome in clf.stream(["examples/images/cat.jpg", "examples/images/unicorn.jpg"]):
        ...     print(outcome.source, outcome.prediction and outcome.prediction.label, type(outcome.error).__name__)
        examples/images/cat.jpg cat NoneType
        examples/images/unicorn.jpg None ImageNotFoundError
        """
        _check_display(top_k, threshold)
        encoders = [self.encoder] if devices is None else replicate(self.encoder, devices)
        batches = embed_batches(encoders, images, batch_size=batch_size, workers=workers)
        return self.score(batches, top_k=top_k, threshold=threshold, on_error=on_error)

    def score(
        self,
        batches: Generator[EmbeddedBatch, None, None],
        *,
        top_k: int = DEFAULT_TOP_K,
        threshold: float = 0.0,
        on_error: OnError = "report",
    ) -> Generator[Outcome, None, None]:
        """Classify images that are embedded already.

        Parameters
        ----------
        batches : generator of EmbeddedBatch
            From the classifier's encoder, as `embed_batches` and `zeroshot.embeddings.Embeddings.batches` yield them.
        top_k, threshold, on_error
            As for `stream`.

        Yields
        ------
        Outcome
            One for each image, in order.

        Raises
        ------
        OptionError
            If an option is out of its range.

        Examples
        --------
        >>> from zeroshot.stream import embed_batches
        >>> clf = Classifier(["cat", "dog"], model="mini")
        >>> batches = embed_batches([clf.encoder], ["examples/images/cat.jpg"])
        >>> [outcome.prediction.label for outcome in clf.score(batches)]
        ['cat']
        """
        _check_display(top_k, threshold)

        def outcomes(batch: EmbeddedBatch) -> Iterator[Outcome]:
            blocks = self._score(torch.from_numpy(batch.embeddings))
            predictions = (one for rows in blocks for one in self._predictions(rows, top_k, threshold))
            for index, (source, error) in enumerate(zip(batch.sources, batch.errors, strict=True), batch.start):
                yield Outcome(index, source, next(predictions) if error is None else None, error)

        return each_result(batches, outcomes, on_error=on_error)

    def predict_proba(self, images: Any, *, batch_size: int = 32) -> npt.NDArray[np.float32]:
        """Return the probabilities of all classes.

        Parameters
        ----------
        images, batch_size
            As for a call of the classifier.

        Returns
        -------
        ndarray of shape (n_images, n_classes), float32
            Columns in the order of `labels`; each row sums to 1, less what the background classes take. With
            `multi_label` each column stands for itself. A single image gives one row.

        Raises
        ------
        ImageError
            If an image cannot be decoded; the message names it.
        """
        parts = [rows for _, rows in self._probabilities(images, batch_size)]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, len(self.labels)), dtype=np.float32)

    def explain(
        self, image: ImageLike, label: str | int | None = None, *, of: Of = "probability", layers: int = 1
    ) -> Explanation:
        """Show what in an image speaks for a label: a heat map over the picture, by a method that was published.

        `mini` has class activation maps (Zhou et al., 2016), ResNets Grad-CAM (Selvaraju et al., 2017), transformers
        gradient-weighted attention (Chefer, Gur and Wolf, 2021); `Explanation.citation` says which.

        Parameters
        ----------
        image : image
            One, as for a call of the classifier; decoded exactly, whatever `approximate` says.
        label : str or int, optional
            A name or a position among `labels`; by default the most probable one.
        of : {"probability", "similarity"}
            ``"probability"``: what makes this label more probable than the others. ``"similarity"``: what is like it,
            whatever the others are.
        layers : int
            How many layers of attention count, from the last, at least 1; for transformers alone. The method's authors
            take one for CLIP.

        Returns
        -------
        Explanation
            Its `map` is (height, width) float32, in the pixels of the picture; it shows itself in notebooks.

        Raises
        ------
        LabelError
            If there is no such label; the message has names that are near.
        OptionError
            If an option is out of its range, the only class has no others to be held against, or the encoder was loaded
            with ``dtype="int8"``.
        InputTypeError
            If `load` did not make the encoder, or its image tower is timm's.
        ImageError
            If the image cannot be decoded.

        Examples
        --------
        >>> clf = Classifier(["cat", "dog", "car"], model="mini")
        >>> explanation = clf.explain("examples/images/cat.jpg", "cat")
        >>> explanation.label, explanation.map.shape
        ('cat', (300, 451))
        """
        from zeroshot.explain import explain

        return explain(self.encoder, self.head, image, label, of=of, layers=layers, multi_label=self.multi_label)

    def _probabilities(self, images: Any, batch_size: int) -> Iterator[tuple[list[Any], npt.NDArray[np.float32]]]:
        """Yield some images after the other with their probabilities, (n_images, n_classes)."""
        batches = _batches(iter_images(images), check_positive("batch_size", batch_size))
        # Not every encoder of somebody's own knows batches; it gets no more than one at a time anyway.
        sized = "batch_size" in inspect.signature(self.encoder.encode_images).parameters
        options = {"batch_size": batch_size} if sized else {}
        for batch in batches:
            start = 0
            for rows in self._score(self.encoder.encode_images(batch, **options)):
                yield batch[start : start + len(rows)], rows
                start += len(rows)

    def _predictions(
        self, rows: npt.NDArray[np.float32], top_k: int, threshold: float, images: Sequence[Any] | None = None
    ) -> list[Prediction]:
        background = 1 - rows.sum(axis=1) if self.head.background else np.zeros(len(rows))
        shown = itertools.repeat(None, len(rows)) if images is None else map(hold, images)
        # A row of its own for each: one prediction that is kept does not keep those of its neighbours.
        return [
            Prediction(row.copy(), self.labels, top_k, threshold, float(rest), self.multi_label, image)
            for row, rest, image in zip(rows, background.clip(min=0), shown, strict=True)
        ]

    def _score(self, embeddings: Tensor) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the probabilities of as many images at once as memory is granted for: (n_images, n_classes) each."""
        for part in torch.split(embeddings, max(1, _SCORES_PER_BLOCK // len(self.head.weight))):
            scores = self.head.probabilities(part, multi_label=self.multi_label)
            probabilities: npt.NDArray[np.float32] = scores.cpu().numpy()
            yield probabilities


@overload
def classify(  # type: ignore[overload-overlap]  # as above
    images: ImageLike,
    labels: LabelsLike | None = ...,
    *,
    model: ModelLike = ...,
    prompts: PromptsLike | None = ...,
    top_k: int = ...,
    threshold: float = ...,
    background: Sequence[str] = ...,
    multi_label: bool = ...,
    device: str | torch.device | None = ...,
    dtype: Precision | torch.dtype = ...,
    approximate: bool = ...,
) -> Prediction: ...
@overload
def classify(
    images: Images,
    labels: LabelsLike | None = ...,
    *,
    model: ModelLike = ...,
    prompts: PromptsLike | None = ...,
    top_k: int = ...,
    threshold: float = ...,
    background: Sequence[str] = ...,
    multi_label: bool = ...,
    device: str | torch.device | None = ...,
    dtype: Precision | torch.dtype = ...,
    approximate: bool = ...,
) -> Predictions: ...


def classify(
    images: Any,
    labels: LabelsLike | None = None,
    *,
    model: ModelLike = DEFAULT_MODEL,
    prompts: PromptsLike | None = None,
    top_k: int = DEFAULT_TOP_K,
    threshold: float = 0.0,
    background: Sequence[str] = (),
    multi_label: bool = False,
    device: str | torch.device | None = None,
    dtype: Precision | torch.dtype = "float32",
    approximate: bool = False,
) -> Prediction | Predictions:
    """Classify images by naming the classes.

    The encoder and the head are kept for the next call, so calling it in a loop costs no more than a `Classifier`.

    Parameters
    ----------
    images : image or iterable of images
        A path, path-like, fsspec URL, bytes, file object, PIL image or uint8 array; or several of them.
    labels : sequence of str, or mapping from name to synonyms, optional
        By default the classes of the prompt set.
    model, prompts, background, multi_label, device, dtype, approximate
        As for `Classifier`.
    top_k : int
        How many classes are shown, at least 1.
    threshold : float
        Probability below which a prediction has no label, in [0, 1].

    Returns
    -------
    Prediction, or Predictions
        One for one image, for a collection a list of them in order, which a notebook shows as a grid.

    Raises
    ------
    ZeroShotError
        `LabelError`, `PromptError`, `ImageError`, `ModelNotFoundError`, `HubError`, …: see `zeroshot.errors`.

    Examples
    --------
    >>> classify("examples/images/cat.jpg", ["cat", "dog", "car"], model="mini").label
    'cat'
    """
    check_positive("top_k", top_k)
    classifier = _classifier(labels, model, prompts, background, multi_label, device, dtype, approximate)
    predictions: Prediction | Predictions = classifier(images, top_k=top_k, threshold=threshold)
    return predictions


def as_encoder(
    model: ModelLike,
    *,
    device: str | torch.device | None = None,
    dtype: Precision | torch.dtype = "float32",
    approximate: bool = False,
    compile: bool = False,
) -> Encoder:
    """Return `model` if it is an encoder; load it, or take it from the last few loaded, if it is a name or a path.

    Raises
    ------
    InputTypeError
        If it is neither.
    """
    if isinstance(model, (str, os.PathLike)):
        precision = str(dtype).removeprefix("torch.")
        where = None if device is None else _device_name(device)
        return _loaded(*_identity(model), where, precision, approximate, compile)
    return check_encoder(model)


def replicate(encoder: Encoder, devices: Sequence[str | torch.device]) -> list[Encoder]:
    """Return an encoder on each of several devices, the one that is given among them if it is on one.

    Raises
    ------
    OptionError
        If `load` did not make it, or `devices` is no list.
    CheckpointError
        If there is no such device.
    """
    base = encoder.base if isinstance(encoder, FeatureEncoder) else encoder
    if not isinstance(base, ClipEncoder):
        raise OptionError(
            f"devices were given for an encoder of type {type(base).__name__}, which cannot be copied from here; "
            "give zeroshot.stream.embed_stream several encoders, or leave `devices` out"
        )
    if isinstance(devices, (str, torch.device)):
        raise OptionError(f"devices is {str(devices)!r}; expected a list of them")
    same: dict[str, Any] = {
        "dtype": base.dtype,
        "approximate": base.preprocess.approximate,
        "compile": base.compiled,
    }
    replicas: list[Encoder] = []
    for device in devices:
        if _device_name(device) == str(encoder.device):
            replicas.append(encoder)
        else:
            replica = as_encoder(base.name, device=device, **same)
            replicas.append(feature_encoder(replica) if isinstance(encoder, FeatureEncoder) else replica)
    return replicas


def _device_name(device: str | torch.device) -> str:
    """Return the name of a device; of "cuda", which is what the thread has chosen, with its number."""
    name = str(device)
    return f"cuda:{torch.cuda.current_device()}" if name == "cuda" and torch.cuda.is_available() else name


Stamps = tuple[tuple[int, ...], ...]


def _identity(model: str | os.PathLike[str]) -> tuple[str | Path, Stamps]:
    """Under what a model is remembered: its name, or where its files are and when they were written."""
    if isinstance(model, str) and is_known(model):
        return model, ()
    path = Path(model).expanduser()
    try:
        if path.exists():
            return path.absolute(), file_stamps(find_weights(path))
    except (OSError, CheckpointError):
        pass  # too long for the name of a file, or no checkpoint: loading says so
    return model if isinstance(model, str) else path, ()


@lru_cache(maxsize=4)
def _loaded(
    model: str | Path, stamps: Stamps, device: str | None, dtype: str, approximate: bool, compile: bool
) -> Encoder:
    return load(model, device=device, dtype=dtype, approximate=approximate, compile=compile)  # type: ignore[arg-type]


@lru_cache(maxsize=16)
def _remembered(
    labels: Labels,
    prompts: PromptSet,
    background: tuple[str, ...],
    multi_label: bool,
    model: str | Path,
    stamps: Stamps,
    device: str | None,
    dtype: str,
    approximate: bool,
) -> Classifier:
    return Classifier(
        labels,
        model=model,
        prompts=prompts,
        background=background,
        multi_label=multi_label,
        device=device,
        dtype=dtype,  # type: ignore[arg-type]
        approximate=approximate,
    )


def _classifier(
    labels: LabelsLike | None,
    model: ModelLike,
    prompts: PromptsLike | None,
    background: Sequence[str],
    multi_label: bool,
    device: str | torch.device | None,
    dtype: Precision | torch.dtype,
    approximate: bool,
) -> Classifier:
    prompt_set = as_prompt_set(prompts)
    if prompt_set.function is not None or not isinstance(model, (str, os.PathLike)) or isinstance(background, str):
        # A function may answer differently the next time, so its prompts are made anew; the head still comes from
        # the cache on disk if they are the same.
        return Classifier(
            labels,
            model=model,
            prompts=prompt_set,
            background=background,
            multi_label=multi_label,
            device=device,
            dtype=dtype,
            approximate=approximate,
        )
    precision = str(dtype).removeprefix("torch.")
    where = None if device is None else str(device)
    parsed = choose_labels(labels, prompt_set)
    known = (parsed, prompt_set, tuple(background), multi_label)
    return _remembered(*known, *_identity(model), where, precision, approximate)


def _batches(images: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(images, size)):
        yield batch


def _check_display(top_k: int, threshold: float) -> None:
    check_positive("top_k", top_k)
    if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise OptionError(f"threshold is {threshold!r}; expected a probability, 0 to 1")


def _check_fits(head: Head, encoder: Encoder) -> None:
    if encoder.fingerprint != head.fingerprint:
        dtype = dtype_name(encoder)
        if encoder.name == head.model and head.dtype and dtype and head.dtype != dtype:
            raise HeadError(
                f"the head was built in {head.dtype}, and {encoder.name!r} is in {dtype}; pass dtype={head.dtype!r}, "
                "or build the head again"
            )
        raise HeadError(
            f"the head was built with another state of {head.model!r} than {encoder.name!r} is now (weights, "
            "configuration or dtype differ); load that one, or build the head again"
        )


def _check_multi_label(head: Head, multi_label: bool) -> bool:
    if multi_label and head.logit_bias is None:
        raise OptionError(
            f"multi_label needs a checkpoint that was trained with a sigmoid, such as SigLIP; {head.model!r} "
            "was trained with a softmax: the score of one label means nothing without the others"
        )
    if multi_label and head.background:
        raise OptionError("multi_label and background were both given; with independent scores use a threshold instead")
    return multi_label
