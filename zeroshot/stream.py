"""Any iterable of images in, their embeddings in the same order out; decoding, transfer and encoding at the same time.

Three kinds of threads share the work::

    the caller's      reads the iterable, hands out the results
    decoding          read, decode, resize and normalise one image at a time
    encoding          two for each encoder: wait for the images of a batch, put them together, run the network

The caller's thread runs ahead of the results by a few batches and no more, so memory does not depend on how many images
there are. What is wrong with one image becomes the result of that image; its neighbours never notice.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeVar, cast, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from zeroshot.encoder import Encoder, check_encoder
from zeroshot.errors import ImageError, InputTypeError, OptionError, ZeroShotError, check_positive
from zeroshot.image import Item as Item
from zeroshot.image import describe, iter_images, open_image
from zeroshot.lanes import LEAST_SHARED
from zeroshot.threads import usable_cpus

OnError = Literal["report", "skip", "raise"]


@dataclass(frozen=True, eq=False)
class Embedded:
    """One image of a stream: its embedding, or why there is none.

    Attributes
    ----------
    index : int
        Its position in the iterable, from 0.
    source : Any
        What the iterable gave; of an `Item`, its source.
    embedding : ndarray of shape (dim,), float32, or None
        L2-normalised.
    error : ZeroShotError or None
    """

    index: int
    source: Any
    embedding: npt.NDArray[np.float32] | None
    error: ZeroShotError | None


@dataclass(frozen=True, eq=False)
class EmbeddedBatch:
    """Neighbours in a stream, embedded together.

    Attributes
    ----------
    start : int
        Position of the first one in the iterable.
    sources : list
    errors : list of ZeroShotError or None
        As long as `sources`.
    embeddings : ndarray of shape (n_without_error, dim), float32
        Rows of those that have no error, in order.
    """

    start: int
    sources: list[Any]
    errors: list[ZeroShotError | None]
    embeddings: npt.NDArray[np.float32]


class Result(Protocol):
    """What `each_result` has to know of a result."""

    @property
    def error(self) -> ZeroShotError | None: ...


ResultT = TypeVar("ResultT", bound=Result)
DecodedT = TypeVar("DecodedT")


def embed_stream(
    encoder: Encoder | Sequence[Encoder],
    images: Any,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    on_error: OnError = "report",
) -> Generator[Embedded, None, None]:
    """Embed any number of images, also without end, in order.

    Parameters
    ----------
    encoder : Encoder, or sequence of Encoder
        Several, equal but for their devices, share the batches.
    images : image or iterable of images or Item
        A path, path-like, fsspec URL, bytes, file object, PIL image or uint8 array, an `Item`, or an iterable of those.
        It is read in the caller's thread, as are file objects and PIL images, which may share a file with others:
        paths, URLs, bytes and functions in an `Item` are what threads read and decode side by side. Arrays and PIL
        images must not be changed before their results are there. An image of more than
        ``PIL.Image.MAX_IMAGE_PIXELS`` pixels is refused.
    batch_size : int
        Images that go through the network at once. Embeddings do not depend on it, nor on the neighbours in a batch,
        beyond rounding: 1e-5 in float32.
    workers : int, optional
        Threads that decode; by default as many as `usable_cpus` says. torch's own threads are left as they are.
    on_error : {"report", "skip", "raise"}
        What becomes of an image that cannot be used: a result with `error`, no result, or the error, raised after the
        results before it.

    Yields
    ------
    Embedded
        Closing the generator stops the threads.

    Raises
    ------
    OptionError
        If an option is out of its range.
    InputTypeError
        If `images` is neither an image nor an iterable, or an encoder lacks something.

    Examples
    --------
    >>> import zeroshot
    >>> for result in embed_stream(zeroshot.load("mini"), ["examples/images/cat.jpg", "examples/images/unicorn.jpg"]):
    ...     print(result.index, type(result.embedding).__name__, type(result.error).__name__)
    0 ndarray NoneType
    1 NoneType ImageNotFoundError
    """
    batches = embed_batches(encoder, images, batch_size=batch_size, workers=workers)
    return each_result(batches, _as_embedded, on_error=on_error)


def embed_batches(
    encoder: Encoder | Sequence[Encoder], images: Any, *, batch_size: int = 32, workers: int | None = None
) -> Generator[EmbeddedBatch, None, None]:
    """Embed images as `embed_stream` does, and yield them by the batch, with the errors in their places."""
    encoders = [check_encoder(one) for one in (encoder if isinstance(encoder, (list, tuple)) else [encoder])]
    if not encoders:
        raise OptionError("no encoder was given; expected one, or several that differ in their devices alone")
    if len(encoders) > 1 and len({one.fingerprint for one in encoders}) > 1:
        names = ", ".join(repr(one.name) for one in encoders)
        raise OptionError(f"the encoders {names} give different embeddings; expected one checkpoint on several devices")
    threads = usable_cpus() if workers is None else check_positive("workers", workers)
    iterator = iter([images]) if isinstance(images, Item) else iter_images(images)
    return _run(encoders, iterator, check_positive("batch_size", batch_size), threads)


def each_result(
    batches: Generator[EmbeddedBatch, None, None],
    results: Callable[[EmbeddedBatch], Iterable[ResultT]],
    *,
    on_error: OnError,
) -> Generator[ResultT, None, None]:
    """Yield the results that a function makes of each batch, one for each image; of errors, what `on_error` says."""
    if on_error not in get_args(OnError):
        raise OptionError(f"on_error is {on_error!r}; expected one of {', '.join(get_args(OnError))}")
    return _each_result(batches, results, on_error)


def _each_result(
    batches: Generator[EmbeddedBatch, None, None],
    results: Callable[[EmbeddedBatch], Iterable[ResultT]],
    on_error: OnError,
) -> Generator[ResultT, None, None]:
    with contextlib.closing(batches):
        for batch in batches:
            for result in results(batch):
                if result.error is None or on_error == "report":
                    yield result
                elif on_error == "raise":
                    raise result.error


def _as_embedded(batch: EmbeddedBatch) -> Iterator[Embedded]:
    rows = iter(batch.embeddings)
    for index, (source, error) in enumerate(zip(batch.sources, batch.errors, strict=True), batch.start):
        yield Embedded(index, source, next(rows) if error is None else None, error)


# ----------------------------------------------------------------------------------------------------- the pipeline


@runtime_checkable
class PixelEncoder(Protocol):
    """What an encoder offers besides `Encoder` if it leaves the preprocessing to the decoding threads."""

    @property
    def preprocess(self) -> Callable[[Any], npt.NDArray[np.float32]]:
        """From an image, as `open_image` takes it, to (3, H, W) float32."""
        ...

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """From (n_images, 3, H, W) float32, on the CPU or on `device`, to what `encode_images` returns."""
        ...


def decode_in_order(decode: Callable[[Any], DecodedT], images: Sequence[Any]) -> Generator[DecodedT, None, None]:
    """Decode the images of one call in as many threads as `usable_cpus` says, a few ahead of who takes them.

    Yields
    ------
    What `decode` returns, in the order of `images`.

    Raises
    ------
    Exception
        What `decode` raises, at the place of that image; the images behind it are given up.
    """
    workers = min(usable_cpus(), len(images))
    if workers < 2:
        yield from map(decode, images)
        return
    Image.init()  # as in `_run`
    with _threads(workers, "zeroshot-decode") as pool:
        waiting: deque[Callable[[], DecodedT]] = deque()
        for image in images:
            if _is_shared(image):
                waiting.append(partial(decode, image))
            else:
                waiting.append(pool.submit(decode, image).result)
            if len(waiting) > 2 * workers:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()


def _is_shared(image: Any) -> bool:
    """Whether an image may be read from a file that others use too, so that the caller's thread has to do it."""
    return isinstance(image, Image.Image) or hasattr(image, "read")


# Pixels for a `PixelEncoder`, an RGB image for others.
_Decoded = npt.NDArray[np.float32] | Image.Image


@dataclass(frozen=True)
class _Batch:
    """A batch under way."""

    start: int
    sources: list[Any] = field(default_factory=list)
    decoded: list[Future[_Decoded | ZeroShotError]] = field(default_factory=list)


def _run(
    encoders: list[Encoder], images: Iterator[Any], batch_size: int, workers: int
) -> Generator[EmbeddedBatch, None, None]:
    Image.init()  # Pillow looks for its formats when it first needs them; threads that do so at once can miss some
    decode = encoders[0].preprocess if isinstance(encoders[0], PixelEncoder) else open_image
    lanes = [_Lane(encoder, batch_size) for encoder in encoders for _ in range(_threads_for(encoder, batch_size))]
    free: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
    for lane in lanes:
        free.put(lane)
    # One batch in each lane, and enough of them behind to keep every decoding thread busy.
    ahead = len(lanes) + max(2, -(-2 * workers // batch_size))

    # Decoding is stopped first: an encoding thread that waits for an image that nobody will decode then gives up.
    with _threads(len(lanes), "zeroshot-encode") as encoding, _threads(workers, "zeroshot-decode") as decoding:
        under_way: deque[Future[EmbeddedBatch]] = deque()
        batch, more, failure = _Batch(0), True, None
        while more or under_way:
            if under_way and (not more or len(under_way) == ahead or under_way[0].done()):
                yield under_way.popleft().result()
                continue
            try:
                image = next(images)
            except StopIteration:
                more = False
            except Exception as error:  # the caller's own: raised at its place, after the results before it
                more, failure = False, error
            else:
                source, content = (image.source, image.image) if isinstance(image, Item) else (image, image)
                name = _name(source, batch.start + len(batch.sources))
                batch.sources.append(source)
                batch.decoded.append(_submit(decoding, decode, content, name, lazy=isinstance(image, Item)))
            if batch.sources and (not more or len(batch.sources) == batch_size):
                under_way.append(encoding.submit(_embed, free, batch))
                batch = _Batch(batch.start + len(batch.sources))
    if failure is not None:
        raise failure


def _threads_for(encoder: Encoder, batch_size: int) -> int:
    """Two where a core or the GPU would wait otherwise, between one batch and the next."""
    shared = encoder.device.type != "cpu" or batch_size >= LEAST_SHARED
    return 2 if isinstance(encoder, PixelEncoder) and shared else 1


@contextlib.contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block: what has begun is waited for, the rest is dropped."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# ------------------------------------------------------------------------------------------------------- one image


def _submit(
    pool: ThreadPoolExecutor, decode: Callable[[Any], _Decoded], content: Any, name: str, *, lazy: bool
) -> Future[_Decoded | ZeroShotError]:
    """Have an image decoded by another thread, as far as that is safe."""
    try:
        if isinstance(content, Image.Image):
            content = open_image(content)  # it may be read from a file that others share, and may come again
        elif hasattr(content, "read"):
            content = _read(content)
    except Exception as error:
        done: Future[_Decoded | ZeroShotError] = Future()
        done.set_result(_explain(error, name))
        return done
    return pool.submit(_decode, decode, content, name, lazy=lazy)


def _read(file: Any) -> bytes:
    with contextlib.suppress(AttributeError, OSError):  # from the start, as Pillow does, where it can go back
        file.seek(0)
    content: bytes = file.read()
    return content


def _decode(decode: Callable[[Any], _Decoded], content: Any, name: str, *, lazy: bool) -> _Decoded | ZeroShotError:
    """Return the decoded image, or what is wrong with it."""
    try:
        with contextlib.ExitStack() as opened:
            if lazy and callable(content):
                content = content()
                if hasattr(content, "read"):
                    opened.enter_context(contextlib.closing(content))
            return decode(content)
    except Exception as error:  # also Pillow's own mistakes and images for which there is no memory
        return _explain(error, name)


def _name(source: Any, index: int) -> str:
    return describe(source) if isinstance(source, (str, os.PathLike)) else f"image {index}"


def _explain(error: Exception, name: str) -> ZeroShotError:
    """Return an error of ours that names the image."""
    if not isinstance(error, ZeroShotError):
        explained: ZeroShotError = ImageError(f"{name} cannot be decoded: {error!r}")
    elif name not in str(error):
        explained = type(error)(f"{name}: {error}")
    else:
        explained = error
    if explained is not error:
        explained.__cause__ = error
    # Results are kept; the frames of a traceback would keep the image with them.
    link: BaseException | None = explained
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return explained


# ------------------------------------------------------------------------------------------------------- one batch


class _Lane:
    """An encoder as one thread uses it, with the memory in which that thread puts its batches together."""

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self.encoder = encoder
        self._batch_size = batch_size
        self._pixels: Tensor | None = None
        self._gpu = _Transfers(encoder, batch_size) if encoder.device.type == "cuda" else None
        # Not every encoder of somebody's own knows batches.
        sized = "batch_size" in inspect.signature(encoder.encode_images).parameters
        self._options = {"batch_size": batch_size} if sized else {}

    def embed(self, images: list[_Decoded]) -> npt.NDArray[np.float32]:
        """Return the embeddings of some images: (n_images, dim) float32."""
        shape = (len(images), self.encoder.dim)
        if not images:
            return np.empty(shape, dtype=np.float32)
        with torch.inference_mode():
            if isinstance(self.encoder, PixelEncoder):
                embeddings = self.encoder.encode_pixels(self._gather(cast(list[npt.NDArray[np.float32]], images)))
            else:
                embeddings = self.encoder.encode_images(images, **self._options)
            if embeddings.shape != shape:
                raise InputTypeError(
                    f"the embeddings of {len(images)} images by {self.encoder.name!r} have shape "
                    f"{tuple(embeddings.shape)}; expected {shape}, one row for each image"
                )
            if self._gpu is not None:
                return self._gpu.download(embeddings)
            return embeddings.to("cpu", torch.float32).numpy()

    def _gather(self, images: list[npt.NDArray[np.float32]]) -> Tensor:
        if self._pixels is None:
            size = (self._batch_size, *images[0].shape)
            self._pixels = torch.empty(size, dtype=torch.float32, pin_memory=self._gpu is not None)
        if self._gpu is not None:
            self._gpu.wait_for_upload()
        batch = self._pixels[: len(images)]
        np.stack(images, out=batch.numpy())
        return batch if self._gpu is None else self._gpu.upload(batch)


class _Transfers:
    """Copies to a GPU and back for one lane, while the GPU computes the batches of the others."""

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self._device = encoder.device
        self._copies = torch.cuda.Stream(encoder.device)  # type: ignore[no-untyped-call]
        # Whoever waits for them sleeps, and leaves the processor to the threads that decode.
        self._uploaded, self._downloaded = (torch.cuda.Event(blocking=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._rows = torch.empty((batch_size, encoder.dim), dtype=torch.float32, pin_memory=True)

    def wait_for_upload(self) -> None:
        """Return when the memory of the last upload may be written to. It may only be under way after an error."""
        self._uploaded.synchronize()

    def upload(self, pixels: Tensor) -> Tensor:
        """Copy pinned memory to the GPU while it computes the batch before."""
        compute = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            uploaded = pixels.to(self._device, non_blocking=True)
            self._uploaded.record(self._copies)
        compute.wait_stream(self._copies)
        uploaded.record_stream(compute)  # its memory belongs to the other stream
        return uploaded

    def download(self, embeddings: Tensor) -> npt.NDArray[np.float32]:
        """Wait for embeddings, and for nothing that other lanes have put behind them on the same stream."""
        rows = self._rows[: len(embeddings)]
        rows.copy_(embeddings.to(torch.float32), non_blocking=True)
        self._downloaded.record(torch.cuda.current_stream(self._device))
        self._downloaded.synchronize()
        copied: npt.NDArray[np.float32] = rows.numpy().copy()
        return copied


def _embed(free: queue.SimpleQueue[_Lane], batch: _Batch) -> EmbeddedBatch:
    decoded = [future.result() for future in batch.decoded]
    errors = [one if isinstance(one, ZeroShotError) else None for one in decoded]
    images = [one for one in decoded if not isinstance(one, ZeroShotError)]
    lane = free.get()
    try:
        rows = lane.embed(images)
    except ImageError:  # an encoder that does its own preprocessing found one that it cannot use: which?
        parts = [np.empty((0, lane.encoder.dim), dtype=np.float32)]
        for position, one in enumerate(decoded):
            if isinstance(one, ZeroShotError):
                continue
            try:
                parts.append(lane.embed([one]))
            except ImageError as error:
                errors[position] = _explain(error, _name(batch.sources[position], batch.start + position))
        rows = np.concatenate(parts)
    finally:
        free.put(lane)
    finite = np.isfinite(rows).all(axis=1)
    embedded = [position for position, error in enumerate(errors) if error is None]
    for row in np.flatnonzero(~finite):
        position = embedded[row]
        name = _name(batch.sources[position], batch.start + position)
        errors[position] = ImageError(
            f"the embedding of {name} is not finite: the weights hold NaN, or the numbers are too large for the dtype. "
            "Try dtype='float32' or 'bfloat16'"
        )
    return EmbeddedBatch(batch.start, batch.sources, errors, rows[finite])
