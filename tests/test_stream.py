"""Streams of images: the same order, nothing lost, nothing held, and no image that harms another."""

from __future__ import annotations

import gc
import io
import itertools
import os
import struct
import tarfile
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import odd_files
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import zeroshot.stream
from zeroshot import Classifier
from zeroshot.checkpoints import Checkpoint
from zeroshot.clip import ClipEncoder
from zeroshot.errors import ImageError, ImageNotFoundError, InputTypeError, OptionError, ZeroShotError
from zeroshot.prediction import Outcome
from zeroshot.stream import Embedded, Item, decode_in_order, embed_stream

LABELS = ["cat", "dog", "aardvark"]
TOLERANCE = 1e-5  # what neighbours in a batch may change


class Eye:
    """An encoder of somebody's own that sees nothing but colours: the embedding is the mean of R, G and B."""

    dim = 3

    def __init__(self, *, name: str = "eye", fingerprint: str = "eye") -> None:
        self.name, self.fingerprint = name, fingerprint
        self.device = torch.device("cpu")
        self.logit_scale, self.logit_bias = 10.0, None
        self.batches: list[int] = []
        self.threads: set[str] = set()

    def encode_texts(self, texts: list[str]) -> Tensor:
        return torch.eye(3)[[len(text) % 3 for text in texts]]

    def encode_images(self, images: list[Image.Image]) -> Tensor:
        self.batches.append(len(images))
        self.threads.add(threading.current_thread().name)
        return torch.from_numpy(np.stack([self.see(image) for image in images]))

    def see(self, image: Image.Image) -> np.ndarray[Any, Any]:
        if image.size == (13, 13):
            raise ImageError("thirteen is not seen")
        mean = np.asarray(image, dtype=np.float64).mean(axis=(0, 1)) + 1
        return (mean / np.linalg.norm(mean)).astype(np.float32)


class PixelEye(Eye):
    """The same with its preprocessing open, which counts the images between decoding and encoding."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = self.most_waiting = 0
        self._lock = threading.Lock()

    def preprocess(self, image: Any) -> np.ndarray[Any, Any]:
        with self._lock:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
        self.threads.add(threading.current_thread().name)
        return np.full((3, 2, 2), image[0, 0, 0], dtype=np.float32)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        with self._lock:
            self.waiting -= len(pixels)
            self.batches.append(len(pixels))
        return pixels[:, :, 0, 0].clone()


def shade(value: int) -> np.ndarray[Any, Any]:
    return np.full((4, 4, 3), value, dtype=np.uint8)


def threads() -> list[str]:
    """Those of a stream; the lanes of `lanes.py` stay, as torch's own threads do."""
    names = ("zeroshot-decode", "zeroshot-encode")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]


def failing(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


@pytest.fixture(params=["pixels", "images"])
def encoder(request: pytest.FixtureRequest, clip: ClipEncoder) -> Any:
    """An encoder that leaves the preprocessing to the stream, and one that does not."""
    return clip if request.param == "pixels" else Eye()


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Twenty-three files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return [path for path, _ in odd_files.fill(folder, 23, 0)]


@pytest.fixture(autouse=True)
def no_thread_remains() -> Iterator[None]:
    """After each test."""
    yield
    assert threads() == []


pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # of one of the odd files


# ------------------------------------------------------------------------------------------------ order and values


@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize("workers", [1, 5])
def test_a_stream_gives_what_the_encoder_gives(encoder: Any, photos: list[Path], batch_size: int, workers: int) -> None:
    results = list(embed_stream(encoder, photos, batch_size=batch_size, workers=workers))
    assert [result.index for result in results] == list(range(23))
    assert [result.source for result in results] == photos
    for result, photo in zip(results, photos, strict=True):
        assert result.error is None
        assert result.embedding is not None
        assert result.embedding.dtype == np.float32
        alone = encoder.encode_images([zeroshot.stream.open_image(photo)])[0].numpy()
        np.testing.assert_allclose(result.embedding, alone, atol=TOLERANCE)


def test_pictures_differ_enough_to_be_told_apart(clip: ClipEncoder, photos: list[Path]) -> None:
    # What makes a mix-up of neighbours visible above.
    rows = clip.encode_images(photos)
    distances = torch.cdist(rows, rows) + torch.eye(len(rows))
    assert distances.min() > 100 * TOLERANCE


def test_every_kind_of_input(clip: ClipEncoder, photos: list[Path], tmp_path: Path) -> None:
    photo = photos[0]
    kinds = {
        "path": photo,
        "string": str(photo),
        "URL": photo.as_uri(),
        "bytes": photo.read_bytes(),
        "file object": io.BytesIO(photo.read_bytes()),
        "PIL image": Image.open(photo),
        "array": np.asarray(Image.open(photo)),
        "item": Item("a name", photo),
        "item to read": Item("another", photo.read_bytes),
        "item to open": Item("a third", lambda: photo.open("rb")),
    }
    expected = clip.encode_images([photo])[0].numpy()
    for kind, result in zip(kinds, embed_stream(clip, kinds.values()), strict=True):
        assert result.embedding is not None, kind
        np.testing.assert_allclose(result.embedding, expected, atol=TOLERANCE, err_msg=kind)
        given = kinds[kind]
        assert result.source is (given.source if isinstance(given, Item) else given)


def test_one_image_is_a_stream_of_one(clip: ClipEncoder, photos: list[Path]) -> None:
    assert [result.source for result in embed_stream(clip, photos[0])] == [photos[0]]
    assert [result.source for result in embed_stream(clip, Item("one", photos[0]))] == ["one"]


def test_nothing_in_nothing_out(encoder: Any) -> None:
    assert list(embed_stream(encoder, [])) == []


def test_an_endless_stream_is_read_no_further_than_needed() -> None:
    read = itertools.count()
    images = (shade(next(read) % 250) for _ in itertools.repeat(None))
    stream = embed_stream(Eye(), images, batch_size=4, workers=2)
    assert [result.index for result in itertools.islice(stream, 100)] == list(range(100))
    stream.close()
    assert next(read) <= 100 + 4 * 4


def test_memory_does_not_depend_on_the_length() -> None:
    most = []
    for length in (100, 1000):
        eye = PixelEye()
        assert (
            sum(1 for _ in embed_stream(eye, (shade(i % 250) for i in range(length)), batch_size=8, workers=3))
            == length
        )
        most.append(eye.most_waiting)
    assert max(most) <= 8 * 4


def test_small_batches_still_occupy_every_worker() -> None:
    # Each image waits until seven others are decoded at the same time.
    together = threading.Barrier(8, timeout=30)

    def content() -> Any:
        together.wait()
        return shade(1)

    stream = embed_stream(Eye(), [Item(str(i), content) for i in range(16)], batch_size=1, workers=8)
    assert all(result.error is None for result in stream)


def test_results_that_are_there_do_not_wait_for_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[Future[Any]] = []
    received: list[int] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args: Any, **options: Any) -> Future[Any]:  # type: ignore[override]
            under_way.append(super().submit(*args, **options))
            return under_way[-1]

    def images() -> Iterator[Any]:
        yield shade(1)
        wait(under_way, timeout=30)
        yield shade(2)
        assert received == [0]
        yield shade(3)

    monkeypatch.setattr(zeroshot.stream, "ThreadPoolExecutor", Pool)
    for result in embed_stream(Eye(), images(), batch_size=1):
        received.append(result.index)
    assert received == [0, 1, 2]


@settings(max_examples=40)
@given(
    good=st.lists(st.booleans(), max_size=25),
    batch_size=st.integers(1, 9),
    workers=st.integers(1, 4),
    pixels=st.booleans(),
)
def test_each_image_has_its_own_result(good: list[bool], batch_size: int, workers: int, pixels: bool) -> None:
    eye = PixelEye() if pixels else Eye()
    images = [Item(str(i), shade(i + 1) if fine else failing(OSError("lost"))) for i, fine in enumerate(good)]
    results = list(embed_stream(eye, images, batch_size=batch_size, workers=workers))
    assert [(r.index, r.source, r.error is None) for r in results] == [(i, str(i), g) for i, g in enumerate(good)]
    for result in results:
        if result.embedding is not None and pixels:
            assert result.embedding[0] == result.index + 1
    kept = list(embed_stream(eye, images, batch_size=batch_size, workers=workers, on_error="skip"))
    assert [r.index for r in kept] == [i for i, fine in enumerate(good) if fine]


# ----------------------------------------------------------------------------------------------------------- errors


def test_a_broken_image_says_why(encoder: Any, photos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    images = [photos[0], broken, tmp_path / "missing.jpg", photos[1], b"no image", 5, photos[2]]
    results = list(embed_stream(encoder, images, batch_size=3))
    errors = {result.index: result.error for result in results if result.error is not None}
    assert sorted(errors) == [1, 2, 4, 5]
    assert all(results[index].embedding is None for index in errors)
    assert isinstance(errors[1], ImageError)
    assert str(broken) in str(errors[1])
    assert isinstance(errors[2], ImageNotFoundError)
    assert str(errors[4]).startswith("image 4: the image of 8 bytes is no image")
    assert isinstance(errors[5], InputTypeError)
    for place, photo in ((0, photos[0]), (3, photos[1]), (6, photos[2])):
        alone = encoder.encode_images([zeroshot.stream.open_image(photo)])[0].numpy()
        embedding = results[place].embedding
        assert embedding is not None
        np.testing.assert_allclose(embedding, alone, atol=TOLERANCE)


def test_broken_images_are_skipped_where_asked(photos: list[Path], tmp_path: Path) -> None:
    images = [photos[0], tmp_path / "missing.jpg", photos[1]]
    results = list(embed_stream(Eye(), images, on_error="skip"))
    assert [(result.index, result.source) for result in results] == [(0, photos[0]), (2, photos[1])]


def test_broken_images_are_raised_where_asked(photos: list[Path], tmp_path: Path) -> None:
    stream = embed_stream(Eye(), [photos[0], tmp_path / "missing.jpg", photos[1]], on_error="raise")
    assert next(stream).source == photos[0]
    with pytest.raises(ImageNotFoundError, match=r"missing\.jpg"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(5, "I/O"), struct.error("x"), RuntimeError("odd"), KeyError(1)]
)
def test_whatever_decoding_raises_is_an_error_of_that_image(error: Exception) -> None:
    results = list(embed_stream(Eye(), [shade(1), Item("shelf/7", failing(error)), shade(2)]))
    assert [result.error is None for result in results] == [True, False, True]
    assert isinstance(results[1].error, ImageError)
    assert "'shelf/7' cannot be decoded" in str(results[1].error)
    assert type(error).__name__ in str(results[1].error)
    assert results[1].error.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_meant_for_the_process_passes(error: type[BaseException]) -> None:
    stream = embed_stream(Eye(), [Item("a", failing(error()))])
    with pytest.raises(error):
        next(stream)


def test_a_mistake_of_pillows(photos: list[Path], monkeypatch: pytest.MonkeyPatch, clip: ClipEncoder) -> None:
    def load(self: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", load)
    results = list(embed_stream(clip, photos[:1]))
    assert isinstance(results[0].error, ImageError)
    assert "MemoryError" in str(results[0].error)


@pytest.mark.parametrize("count", [0, 3, 10])
def test_an_exception_of_the_iterable_comes_after_the_results_before_it(encoder: Any, count: int) -> None:
    def images() -> Iterator[Any]:
        for value in range(count):
            yield shade(value)
        raise LookupError("the shelf is empty")

    stream = embed_stream(encoder, images(), batch_size=4)
    assert [next(stream).index for _ in range(count)] == list(range(count))
    with pytest.raises(LookupError, match="the shelf is empty"):
        next(stream)


def test_a_failure_of_the_encoder_comes_after_the_results_before_it() -> None:
    class Tired(Eye):
        def encode_images(self, images: list[Image.Image]) -> Tensor:
            if len(self.batches) == 2:
                raise RuntimeError("out of memory")
            return super().encode_images(images)

    stream = embed_stream(Tired(), (shade(i) for i in range(40)), batch_size=4)
    assert [next(stream).index for _ in range(8)] == list(range(8))
    with pytest.raises(RuntimeError, match="out of memory"):
        next(stream)


def test_an_encoder_that_refuses_one_image_of_a_batch() -> None:
    eye = Eye()
    images = [shade(10), Image.new("RGB", (13, 13)), Item("thirteen", Image.new("RGB", (13, 13))), b"?", shade(200)]
    results = list(embed_stream(eye, images))
    assert [result.error is None for result in results] == [True, False, False, False, True]
    assert str(results[1].error) == "image 1: thirteen is not seen"
    assert str(results[2].error) == "'thirteen': thirteen is not seen"
    for result, value in ((results[0], 10), (results[4], 200)):
        assert result.embedding is not None
        np.testing.assert_allclose(result.embedding, eye.see(Image.fromarray(shade(value))), atol=TOLERANCE)


def test_an_encoder_that_loses_rows_is_told_so() -> None:
    class Careless(Eye):
        def encode_images(self, images: list[Image.Image]) -> Tensor:
            return super().encode_images(images)[1:]

    with pytest.raises(InputTypeError, match=r"have shape \(2, 3\); expected \(3, 3\), one row for each image"):
        list(embed_stream(Careless(), [shade(1)] * 3))


def test_an_embedding_that_is_no_number_is_an_error_of_that_image() -> None:
    class Overflowing(Eye):
        def see(self, image: Image.Image) -> np.ndarray[Any, Any]:
            row = super().see(image)
            return row * np.inf if image.getpixel((0, 0)) == (200, 200, 200) else row

    photo = np.stack([shade(3)[0], shade(250)[0]])
    with np.errstate(invalid="ignore"):
        results = list(embed_stream(Overflowing(), [shade(1), shade(200), b"", photo]))
    assert [result.error is None for result in results] == [True, False, False, True]
    assert str(results[1].error).startswith("the embedding of image 1 is not finite")
    assert [result.embedding is None for result in results] == [False, True, True, False]
    np.testing.assert_array_equal(results[3].embedding, Eye().see(Image.fromarray(photo)))


def test_an_error_that_is_kept_keeps_no_image() -> None:
    class Content:
        """Not an image."""

    contents = [Content() for _ in range(3)]
    alive = [weakref.ref(content) for content in contents]
    images = [
        Item("a", contents[0]),
        Item("b", lambda content=contents[1]: content),
        Item("c", lambda c=contents[2]: 1 / 0),
    ]
    del contents
    stream = embed_stream(Eye(), iter([images.pop(0) for _ in range(3)]))
    errors = [result.error for result in stream]
    gc.collect()
    assert [type(error) for error in errors] == [InputTypeError, InputTypeError, ImageError]
    assert [reference() for reference in alive] == [None] * 3


# ---------------------------------------------------------------------------------------- threads, files, neighbours


def test_nothing_begins_before_the_first_result_is_asked_for() -> None:
    read: list[int] = []
    stream = embed_stream(Eye(), (read.append(i) for i in range(9)))
    assert (read, threads()) == ([], [])
    stream.close()


def test_closing_early_stops_the_threads(encoder: Any, photos: list[Path]) -> None:
    stream = embed_stream(encoder, itertools.cycle(photos), batch_size=2)
    next(stream)
    assert len(threads()) > 1
    stream.close()
    assert threads() == []
    assert list(stream) == []


def test_leaving_the_loop_stops_the_threads(photos: list[Path]) -> None:
    for result in embed_stream(Eye(), itertools.cycle(photos), batch_size=2):
        if result.index == 5:
            break
    gc.collect()
    assert threads() == []


def test_an_exception_in_the_loop_stops_the_threads(clip: ClipEncoder, photos: list[Path]) -> None:
    classifier = Classifier(LABELS, model=clip, cache=False)
    stream = classifier.stream(itertools.cycle(photos), batch_size=2)

    def fail() -> None:
        with_this_in_its_frame = next(stream)
        raise ValueError(with_this_in_its_frame.index)

    with pytest.raises(ValueError, match="0"):
        fail()
    stream.close()
    assert threads() == []


def test_closing_does_not_decode_what_was_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    read_ahead, leave, calls = threading.Event(), threading.Event(), itertools.count()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            leave.set()
            super().shutdown(wait=wait)

    def content() -> Any:
        number = next(calls)
        assert (read_ahead if number < 10 else leave).wait(timeout=30)
        return shade(1)

    def images() -> Iterator[Item]:
        for number in itertools.count():
            if number == 25:
                read_ahead.set()
            yield Item(str(number), content)

    monkeypatch.setattr(zeroshot.stream, "ThreadPoolExecutor", Pool)
    stream = embed_stream(Eye(), images(), batch_size=10, workers=1)
    next(stream)
    stream.close()
    assert next(calls) <= 11  # the first batch, and the one that had begun


def test_the_iterable_is_read_in_the_callers_thread() -> None:
    reading: set[str] = set()

    def images() -> Iterator[Any]:
        for value in range(20):
            reading.add(threading.current_thread().name)
            yield shade(value)

    eye = PixelEye()
    list(embed_stream(eye, images(), batch_size=4, workers=3))
    assert reading == {threading.current_thread().name}
    assert eye.threads <= {f"zeroshot-decode_{i}" for i in range(3)}


def test_as_many_workers_as_cpus_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zeroshot.stream, "usable_cpus", lambda: 6)
    together = threading.Barrier(6, timeout=30)

    def content() -> Any:
        together.wait()
        return shade(1)

    assert all(result.error is None for result in embed_stream(Eye(), [Item(str(i), content) for i in range(6)]))


def test_settings_of_the_process_stay_as_they_are(clip: ClipEncoder, photos: list[Path]) -> None:
    def state() -> tuple[Any, ...]:
        return (dict(os.environ), torch.get_num_threads(), torch.is_inference_mode_enabled(), Image.MAX_IMAGE_PIXELS)

    before = state()
    for _ in embed_stream(clip, photos):
        assert state() == before
    assert state() == before


def test_what_may_share_a_file_is_read_in_the_callers_thread(clip: ClipEncoder, photos: list[Path]) -> None:
    reading: set[str] = set()

    class File(io.BytesIO):
        def read(self, *args: Any) -> bytes:
            reading.add(threading.current_thread().name)
            return super().read(*args)

    files = [File(photo.read_bytes()) for photo in photos[:4]]
    results = list(
        embed_stream(clip, [files[0], Item("a", files[1]), Image.open(files[2]), Item("b", Image.open(files[3]))])
    )
    assert [result.error for result in results] == [None] * 4
    assert reading == {threading.current_thread().name}


def test_file_objects_of_one_archive(clip: ClipEncoder, photos: list[Path], tmp_path: Path) -> None:
    # They share one file and its position, so no two threads may read them at once.
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w", dereference=True) as tar:
        for photo in photos:
            tar.add(photo, photo.name)
    expected = clip.encode_images(photos).numpy()
    for wrap in (lambda file: file, Image.open):
        with tarfile.open(archive) as tar:
            results = list(
                embed_stream(clip, (wrap(tar.extractfile(member)) for member in tar), workers=8, batch_size=4)
            )
        assert [str(result.error) for result in results if result.error] == []
        rows = np.stack([result.embedding for result in results if result.embedding is not None])
        np.testing.assert_allclose(rows, expected, atol=TOLERANCE)


def test_the_same_object_many_times(clip: ClipEncoder, photos: list[Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned once, and not again
    picture = odd_files.picture(1).convert("L")
    content = odd_files.encoded(picture, "JPEG", exif=exif)
    expected = clip.encode_images([content])[0].numpy()
    unturned = clip.encode_images([odd_files.encoded(picture, "JPEG")])[0].numpy()
    assert np.abs(expected - unturned).max() > 100 * TOLERANCE
    for same in (Image.open(io.BytesIO(content)), io.BytesIO(content)):
        for result in embed_stream(clip, [same] * 30, workers=8, batch_size=5):
            assert result.embedding is not None, result.error
            np.testing.assert_allclose(result.embedding, expected, atol=TOLERANCE)


def test_a_stream_that_cannot_go_back_is_read(clip: ClipEncoder, photos: list[Path]) -> None:
    class Pipe:
        def __init__(self, content: bytes) -> None:
            self.read = io.BytesIO(content).read

    (result,) = embed_stream(clip, [Pipe(photos[0].read_bytes())])
    assert result.embedding is not None


def test_files_that_functions_open_are_closed(clip: ClipEncoder, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    opened = []

    def opener(path: Path) -> Callable[[], Any]:
        def open_it() -> Any:
            opened.append(path.open("rb"))
            return opened[-1]

        return open_it

    paths = [photos[0], tmp_path / "broken.jpg"]
    results = list(embed_stream(clip, [Item(path.name, opener(path)) for path in paths]))
    assert [result.error is None for result in results] == [True, False]
    assert [file.closed for file in opened] == [True, True]


@pytest.mark.parametrize("workers", [1, 8])
def test_a_folder_of_odd_and_broken_files(clip: ClipEncoder, tmp_path: Path, workers: int) -> None:
    def handles() -> int:
        folder = Path("/proc/self/fd")
        return sum(1 for _ in folder.iterdir()) if folder.exists() else 0

    files = list(odd_files.fill(tmp_path, 3 * len(odd_files.USABLE), 2 * len(odd_files.BROKEN)))
    clip.encode_images(odd_files.picture(0))
    before = handles()
    results = list(embed_stream(clip, [path for path, _ in files], workers=workers, batch_size=7))
    assert handles() == before
    assert [result.source for result in results] == [path for path, _ in files]
    for result, (path, kind) in zip(results, files, strict=True):
        assert (result.error is None) == (kind in odd_files.USABLE), (kind, result.error)
        if result.embedding is None:
            assert isinstance(result.error, ImageError), kind
            assert repr(str(path)) in str(result.error), kind
        else:
            alone = clip.encode_images([path])[0].numpy()
            np.testing.assert_allclose(result.embedding, alone, atol=TOLERANCE, err_msg=kind)


# ---------------------------------------------------------------------------------------------- options and encoders


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected a whole number"),
        ({"workers": 0}, "workers is 0; expected a whole number"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"on_error": "ignore"}, "on_error is 'ignore'; expected one of report, skip, raise"),
    ],
)
def test_options_out_of_range_are_told_at_once(fake: Any, options: dict[str, Any], message: str) -> None:
    classifier = Classifier(LABELS, model=fake, cache=False)
    for call in (lambda: embed_stream(fake, [], **options), lambda: classifier.stream([], **options)):
        with pytest.raises(OptionError, match=message):
            call()


@pytest.mark.parametrize("images", [5, None, 1.5])
def test_something_that_is_no_collection_of_images(fake: Any, images: Any) -> None:
    with pytest.raises(InputTypeError, match="images is of type"):
        embed_stream(fake, images)


def test_something_that_is_no_encoder() -> None:
    with pytest.raises(InputTypeError, match="model is of type object, which lacks"):
        embed_stream(object(), [])  # type: ignore[arg-type]


def test_batches_of_an_encoder_that_knows_batches() -> None:
    class Sized(Eye):
        sizes: set[int] = set()  # noqa: RUF012

        def encode_images(self, images: list[Image.Image], *, batch_size: int = 1) -> Tensor:
            self.sizes.add(batch_size)
            return super().encode_images(images)

    list(embed_stream(Sized(), [shade(1)] * 9, batch_size=4))
    assert Sized.sizes == {4}


def test_no_gradients_are_kept() -> None:
    weight = torch.eye(3, requires_grad=True)

    class Trainable(Eye):
        def encode_images(self, images: list[Image.Image]) -> Tensor:
            return super().encode_images(images) @ weight

    assert [result.error for result in embed_stream(Trainable(), [shade(1)])] == [None]


def test_several_encoders_share_the_batches_and_keep_the_order() -> None:
    # The first batch is not done before the second is, so only two encoders at work come to an end.
    second = threading.Event()

    class Slow(PixelEye):
        def encode_pixels(self, pixels: Tensor) -> Tensor:
            if pixels[0, 0, 0, 0] == 0:
                assert second.wait(timeout=30)
            else:
                second.set()
            return super().encode_pixels(pixels)

    eyes = [Slow(), Slow()]
    results = list(embed_stream(eyes, [shade(i) for i in range(40)], batch_size=4, workers=2))
    assert [result.embedding[0] for result in results if result.embedding is not None] == list(range(40))
    assert all(eye.batches for eye in eyes)
    assert sum(eyes[0].batches + eyes[1].batches) == 40


def test_encoders_that_differ_are_refused() -> None:
    with pytest.raises(OptionError, match="'left', 'right' give different embeddings"):
        embed_stream([Eye(name="left"), Eye(name="right", fingerprint="another")], [])
    with pytest.raises(OptionError, match="no encoder was given"):
        embed_stream([], [])


# -------------------------------------------------------------------------------------------------- the classifier


@pytest.fixture(scope="module")
def classifier(open_clip_folder: Path) -> Classifier:
    """A classifier with a tiny random checkpoint."""
    return Classifier(LABELS, model=open_clip_folder, device="cpu", cache=False)


def test_outcomes_are_the_predictions_of_a_call(classifier: Classifier, photos: list[Path]) -> None:
    outcomes = list(classifier.stream(photos, batch_size=5, top_k=2, threshold=0.5))
    for outcome, photo, expected in zip(outcomes, photos, classifier(photos, top_k=2, threshold=0.5), strict=True):
        assert outcome.source == photo
        assert outcome.prediction is not None
        assert outcome.error is None
        np.testing.assert_allclose(outcome.prediction.probabilities, expected.probabilities, atol=TOLERANCE)
        assert (outcome.prediction.label, outcome.prediction.index) == (expected.label, expected.index)
        assert (outcome.prediction.top_k, outcome.prediction.threshold) == (2, 0.5)
        assert outcome.prediction.labels == tuple(LABELS)


def test_an_outcome_may_be_an_error(classifier: Classifier, photos: list[Path]) -> None:
    images = [photos[0], b"?", photos[1]]
    outcomes = list(classifier.stream(images))
    assert [outcome.prediction is None for outcome in outcomes] == [False, True, False]
    assert isinstance(outcomes[1].error, ImageError)
    assert outcomes[2].prediction is not None
    expected = classifier(photos[1]).probabilities
    np.testing.assert_allclose(outcomes[2].prediction.probabilities, expected, atol=TOLERANCE)
    assert [outcome.index for outcome in classifier.stream(images, on_error="skip")] == [0, 2]
    with pytest.raises(ImageError, match="image 1"):
        list(classifier.stream(images, on_error="raise"))


def test_background_and_several_labels(clip: ClipEncoder, photos: list[Path], make_fake: Any) -> None:
    classifier = Classifier(LABELS, model=clip, background=["something else"], cache=False)
    for outcome, expected in zip(classifier.stream(photos[:5]), classifier(photos[:5]), strict=True):
        assert outcome.prediction is not None
        assert outcome.prediction.background == pytest.approx(expected.background, abs=TOLERANCE)
        assert expected.background > 0


def test_the_display_is_checked_at_once(classifier: Classifier) -> None:
    with pytest.raises(OptionError, match="top_k"):
        classifier.stream([], top_k=0)
    with pytest.raises(OptionError, match="threshold"):
        classifier.stream([], threshold=2)


def test_several_devices(classifier: Classifier, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def as_encoder(name: Any, *, device: Any, dtype: Any, approximate: bool, compile: bool) -> Any:
        asked.append((name, str(device), dtype, approximate, compile))
        return zeroshot.load(name, device="cpu", dtype=dtype, approximate=approximate, compile=compile)

    monkeypatch.setattr("zeroshot.classifier.as_encoder", as_encoder)
    outcomes = list(classifier.stream(photos, devices=["cpu", torch.device("cuda", 1)], batch_size=3))
    assert asked == [(classifier.encoder.name, "cuda:1", torch.float32, False, False)]
    for outcome, expected in zip(outcomes, classifier(photos), strict=True):
        assert outcome.prediction is not None
        np.testing.assert_allclose(outcome.prediction.probabilities, expected.probabilities, atol=TOLERANCE)


def test_devices_that_cannot_be_used(
    classifier: Classifier, fake: Any, make_checkpoint: Callable[..., Path], open_clip_folder: Path
) -> None:
    with pytest.raises(OptionError, match="devices is 'cuda:0'; expected a list of them"):
        classifier.stream([], devices="cuda:0")
    with pytest.raises(OptionError, match="encoder of type FakeEncoder, which cannot be copied"):
        Classifier(LABELS, model=fake, cache=False).stream([], devices=["cpu"])
    with pytest.raises(OptionError, match="no encoder was given"):
        classifier.stream([], devices=[])
    with pytest.raises(ZeroShotError, match="device 'cuda:99' is not available"):
        classifier.stream([], devices=["cuda:99"])


def test_a_checkpoint_that_has_changed_since_gives_no_copies(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    classifier = Classifier(LABELS, model=folder, device="cpu", cache=False)
    make_checkpoint(weights=lambda state: state["visual.proj"].add_(1))
    with pytest.raises(OptionError, match="give different embeddings; expected one checkpoint on several devices"):
        classifier.stream([], devices=["cpu", "cpu:0"])


def test_eight_threads_share_a_classifier(
    open_clip_folder: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cpu")
    classifier = Classifier(LABELS, model=encoder, cache=False)
    loaded = itertools.count()
    load_vision = Checkpoint.load_vision

    def counted(self: Checkpoint, **options: Any) -> Any:
        next(loaded)
        return load_vision(self, **options)

    monkeypatch.setattr(Checkpoint, "load_vision", counted)
    together = threading.Barrier(8, timeout=30)

    def classify(_: int) -> np.ndarray[Any, Any]:
        together.wait()
        return classifier.predict_proba(photos)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(classify, range(8)))
    assert next(loaded) == 1
    expected = classifier.predict_proba(photos)
    for rows in results:
        np.testing.assert_allclose(rows, expected, atol=TOLERANCE)


def test_two_streams_at_once(classifier: Classifier, photos: list[Path]) -> None:
    first, second = classifier.stream(photos, batch_size=2), classifier.stream(reversed(photos), batch_size=3)
    pairs = list(zip(first, second, strict=True))
    assert [a.source for a, _ in pairs] == photos
    assert [b.source for _, b in pairs] == photos[::-1]


def test_results_are_plain_records() -> None:
    embedded = Embedded(0, "a.jpg", None, ImageError("broken"))
    outcome = Outcome(0, "a.jpg", None, ImageError("broken"))
    assert (embedded.index, embedded.source, str(embedded.error)) == (0, "a.jpg", "broken")
    with pytest.raises(AttributeError):
        outcome.index = 1  # type: ignore[misc]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_on_a_gpu(open_clip_folder: Path, photos: list[Path], dtype: Any) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cuda", dtype=dtype)
    images = [photo if i % 7 else b"?" for i, photo in enumerate(photos * 20)]
    expected = encoder.encode_images(photos).cpu().numpy()
    for result in embed_stream(encoder, images, batch_size=8):
        if result.index % 7 == 0:
            assert result.error is not None
        else:
            assert result.embedding is not None
            row = expected[result.index % len(photos)]
            np.testing.assert_allclose(result.embedding, row, atol=TOLERANCE if dtype == "float32" else 5e-3)


# ------------------------------------------------------------------------------------------------ images of one call


@pytest.fixture(params=[1, 3])
def cpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    count: int = request.param
    monkeypatch.setattr(zeroshot.stream, "usable_cpus", lambda: count)
    return count


def test_images_of_one_call_keep_their_order(cpus: int, clip: ClipEncoder, photos: list[Path]) -> None:
    images = [photos[number % len(photos)] for number in range(17)]
    found = clip.encode_images(images, batch_size=4)
    alone = torch.cat([clip.encode_images(image) for image in images])
    assert (found - alone).abs().max() < 1e-5
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_the_first_error_of_a_call_is_raised(cpus: int, clip: ClipEncoder, photos: list[Path]) -> None:
    broken: list[Any] = [*photos[:2], "nowhere.jpg", *photos[:2], b"nothing"]
    with pytest.raises(ImageNotFoundError, match="nowhere"):
        clip.encode_images(broken)
    with pytest.raises(MemoryError):  # is no fault of the image
        list(decode_in_order(mock.Mock(side_effect=MemoryError), photos))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zeroshot-decode")]


def test_a_call_decodes_a_few_images_ahead(cpus: int) -> None:
    seen: list[int] = []
    pixels = decode_in_order(lambda number: seen.append(number) or number, range(100))
    assert next(pixels) == 0
    assert len(seen) <= 2 * cpus + 2
    pixels.close()
    assert len(seen) <= 2 * cpus + 2


def test_a_call_reads_what_may_share_a_file_in_the_callers_thread(cpus: int, photos: list[Path]) -> None:
    with Image.open(photos[0]) as opened, photos[1].open("rb") as file:
        images: list[Any] = [opened, photos[0], file, opened]
        threads = list(decode_in_order(lambda _: threading.current_thread().name, images))
    caller = threading.current_thread().name
    assert [threads[index] == caller for index in (0, 2, 3)] == [True] * 3
    assert (threads[1] == caller) == (cpus == 1)
