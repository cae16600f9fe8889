"""What runs on GPUs: by stand-ins on every machine, and as it is where there is one.

Without a GPU, three things can be held nevertheless: where tensors are and what waits for them, the order of copies,
and what a recording does with memory; `tests/gpu.py` says how. Tests of numbers are marked `cuda`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gpu
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from golden.checkpoints import SMALL, TEMPLATES, Reference
from torch import Tensor

import zeroshot
from zeroshot import Classifier, Head, clip, prefix
from zeroshot.clip import ClipEncoder
from zeroshot.errors import DeviceError
from zeroshot.head import build_head
from zeroshot.nets import graphs
from zeroshot.nets.layers import Conv2d, ForeignConv2d
from zeroshot.nets.transformer import TransformerConfig
from zeroshot.nets.vit import VisionTransformer, VisionTransformerConfig
from zeroshot.stream import embed_stream

# One of each kind of tower; where the GPU is real, all of them.
FAMILIES = ("patch32-quickgelu", "resnet", "coca", "clipa", "mobileclip-text", "siglip")
PICTURES = [np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8) for seed in range(5)]


def loaded(name: str, folder: Path, **options: Any) -> ClipEncoder:
    if name == "mini":
        return zeroshot.load("mini", **options)
    SMALL[name].write(folder / name)
    return zeroshot.load(folder / name, **options)


def waits(log: list[str]) -> list[str]:
    return [entry for entry in log if entry.startswith("wait")]


def begin(log: list[str]) -> int:
    """Where the first block begins."""
    return next(index for index, entry in enumerate(log) if "layer_norm" in entry)


# -------------------------------------------------------------------------------- where tensors are, and what waits


@pytest.mark.parametrize("name", [*FAMILIES, "mini"])
def test_towers_stay_on_their_device(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = loaded(name, tmp_path, device="cpu")
    with gpu.pretend(encoder, monkeypatch) as log:
        found = encoder.encode_images(PICTURES, batch_size=2)
        assert (found.device, found.dtype, found.shape) == (gpu.CUDA, torch.float32, (5, encoder.dim))
        assert not waits(log)  # three batches are decoded and handed over while the first is computed
        assert "attention under a mask" not in log  # which would keep torch from its flash kernel
        convolutions = {entry for entry in log if "convolution" in entry}
        assert convolutions == ({"_convolution False"} if name in ("resnet", "mini") else set())  # no TF32
        assert encoder.encode_features(PICTURES[0]).device == gpu.CUDA
        log.clear()
        texts = encoder.encode_texts(["a photo of a cat.", "a dog"])
        assert (texts.device, texts.dtype, texts.shape) == (gpu.CUDA, torch.float32, (2, encoder.dim))
        begun = begin(log)
        assert not waits(log[begun:])


@pytest.mark.parametrize("name", ["patch32-quickgelu", "mini"])
def test_half_precision_stays_half_until_the_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = loaded(name, tmp_path, device="cpu", dtype="float16")
    seen = []
    with gpu.pretend(encoder, monkeypatch):
        encoder.vision.register_forward_hook(lambda tower, given, out: seen.append((given[0].dtype, out.dtype)))
        assert encoder.encode_images(PICTURES).dtype == torch.float32
    assert seen == [(torch.float16, torch.float16)]


@pytest.mark.parametrize("way", ["few", "mask", "paths"])
def test_a_trie_of_prompts_is_planned_before_the_work(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = loaded("patch32-quickgelu", tmp_path, device="cpu")
    monkeypatch.setattr(prefix, "_FEW_NODES", 512 if way == "few" else 0)
    monkeypatch.setattr(prefix, "_NODES_UNDER_A_MASK", {"cuda": 512 if way == "mask" else 0})
    with gpu.pretend(encoder, monkeypatch) as log:
        texts = [f"a {word} of a {name}." for word in ("photo", "drawing") for name in ("cat", "small dog", "car")]
        assert encoder.encode_texts(texts).device == gpu.CUDA
        assert waits(log)
        begun = begin(log)
        assert not waits(log[begun:])
        assert ("attention under a mask" in log) == (way != "paths")


def test_heads_are_scored_where_the_embeddings_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = loaded("bias", tmp_path, device="cpu")
    weight, bias = F.normalize(torch.randn(3, encoder.dim), dim=-1), torch.randn(3)
    head = Head(weight, ("a", "b", "c"), 10.0, -1.0, "", "", bias=bias, temperature=2.0)
    with gpu.pretend(encoder, monkeypatch) as log:
        built = build_head(encoder, ["cat", "dog"], cache=False)
        assert built.weight.device.type == "cpu"
        embeddings = encoder.encode_images(PICTURES)
        assert head.probabilities(embeddings).device == gpu.CUDA
        log.clear()
        assert head.probabilities(embeddings, multi_label=True).device == gpu.CUDA
        assert not waits(log)  # weight and bias were copied once


def test_mistakes_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these costs time on a GPU, or fails there alone."""
    encoder = loaded("patch32-quickgelu", tmp_path, device="cpu")
    tower: Any = encoder.vision
    forward = type(tower).forward
    with gpu.pretend(encoder, monkeypatch) as log:
        with pytest.MonkeyPatch.context() as patch:  # a table that was left behind
            patch.setitem(tower._parameters, "class_embedding", torch.nn.Parameter(torch.zeros(tower.proj.shape[0])))
            with pytest.raises(RuntimeError, match="same device"):
                encoder.encode_images(PICTURES)
        with pytest.MonkeyPatch.context() as patch:  # a mask that is made on the CPU
            patch.setattr(prefix, "_on", lambda device, array: torch.from_numpy(np.ascontiguousarray(array)))
            with pytest.raises((RuntimeError, AssertionError), match=r"same device|indexes one on cuda"):
                encoder.encode_texts(["a"])
        with pytest.MonkeyPatch.context() as patch:  # a number that is read in the middle
            log.clear()
            patch.setattr(type(tower), "forward", lambda self, x: forward(self, x) * x.max().item())
            encoder.encode_images(PICTURES)
            assert waits(log) == ["wait: item"]


@pytest.mark.parametrize("kind", [Conv2d, ForeignConv2d])
def test_convolutions_that_are_trained_are_plain(kind: Any) -> None:
    torch.manual_seed(0)
    layer = kind(3, 4, 3, padding=1)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 8)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=1)
    assert torch.equal(layer(x), expected)
    with torch.no_grad():  # the operator with the switch is the same
        how = ((1, 1), (1, 1), (1, 1), False, (0, 0), 1, False, False, True, False)
        assert torch.equal(torch._convolution(x, layer.weight, layer.bias, *how), expected)


# ------------------------------------------------------------------------------------------------ the order of copies


class Columns:
    """A stand-in for a network on a GPU: the embedding of an image is the sum of its columns."""

    name = fingerprint = "columns"
    device = gpu.CUDA
    dim, logit_scale, logit_bias = 8, 1.0, None

    def __init__(self, compute: Callable[[], None]) -> None:
        self._compute = compute
        self.fails: set[int] = set()
        self.calls = 0

    def preprocess(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(8, 8, 3) uint8 -> (3, 8, 8) float32."""
        return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """(n, 3, 8, 8) -> (n, 8)."""
        self.calls += 1
        if self.calls in self.fails:
            raise zeroshot.errors.ImageError("this batch cannot be used")
        self._compute()
        return pixels.sum(dim=(1, 2))

    def encode_images(self, images: Any) -> Tensor:
        """Is not called."""
        raise NotImplementedError

    encode_texts = encode_images


@pytest.fixture
def many() -> list[npt.NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_stream_reads_nothing_before_it_is_there(
    batch_size: int, many: list[npt.NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = gpu.Late(monkeypatch)
    encoder = Columns(late.compute)
    results = list(embed_stream(encoder, many, batch_size=batch_size, workers=2))
    found = np.stack([result.embedding for result in results])  # type: ignore[misc]
    np.testing.assert_array_equal(found, np.stack(many).sum(axis=(1, 3), dtype=np.float32))
    assert late.recorded_streams == encoder.calls == -(-60 // batch_size)
    assert not any(np.shares_memory(found, result.embedding) for result in results)  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", ["wait_stream", "synchronize"])
def test_a_copy_that_nobody_waits_for_is_noticed(
    broken: str, many: list[npt.NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = gpu.Late(monkeypatch)
    encoder = Columns(late.compute)
    monkeypatch.setattr(gpu.Stream if broken == "wait_stream" else gpu.Event, broken, lambda *_: None)
    expected = np.stack(many).sum(axis=(1, 3), dtype=np.float32)
    results = list(embed_stream(encoder, many, batch_size=3, workers=1))
    assert any(
        one.embedding is None or not np.array_equal(one.embedding, row)
        for one, row in zip(results, expected, strict=True)
    )


def test_memory_of_a_batch_that_failed_is_not_written_to_before_its_copy_is_done(
    many: list[npt.NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = gpu.Late(monkeypatch)
    encoder = Columns(late.compute)
    lane = zeroshot.stream._Lane(encoder, 3)  # type: ignore[arg-type]
    copied: list[Tensor] = []
    upload = lane._gpu.upload  # type: ignore[union-attr]
    monkeypatch.setattr(lane._gpu, "upload", lambda pixels: copied.append(upload(pixels)) or copied[-1])
    encoder.fails = {1}
    pixels = [encoder.preprocess(image) for image in many]
    with pytest.raises(zeroshot.errors.ImageError):
        lane.embed(pixels[:3])
    lane.embed(pixels[3:6])
    np.testing.assert_array_equal(copied[0].numpy(), np.stack(pixels[:3]))


# ------------------------------------------------------------------------------------------------------------- graphs


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> gpu.Tapes:
    tapes = gpu.Tapes()
    monkeypatch.setattr(graphs, "torch", tapes)
    return tapes


@pytest.fixture(scope="module")
def tower() -> VisionTransformer:
    torch.manual_seed(0)
    tower = VisionTransformer(
        VisionTransformerConfig(TransformerConfig(32, 2, 2, 64, "quick_gelu"), (16, 16), (8, 8), 8)
    )
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return tower.eval().requires_grad_(False)


def test_a_recording_gives_the_numbers_of_the_tower(tapes: gpu.Tapes, tower: VisionTransformer) -> None:
    recorded = graphs.Recorded(tower)
    batches = [torch.randn(count, 3, 16, 16) for count in (4, 4, 3, 1, 2, 4, 1, 1, 7, 8, 3)]
    found = [recorded(batch) for batch in batches]  # kept: a replay must not write to what an earlier one gave
    for batch, rows in zip(batches, found, strict=True):
        assert rows.shape == (len(batch), 8)
        torch.testing.assert_close(rows, tower(batch), atol=1e-5, rtol=0)
    # Of 4; of 1 when it comes for the second time (of 2 it comes once, and is filled up); of 8.
    assert len(tapes.recorded) == len(recorded._graphs) == 3
    assert sorted(recorded._graphs) == [1, 4, 8]


def test_a_replay_overwrites_what_is_not_copied(tapes: gpu.Tapes, tower: VisionTransformer) -> None:
    recorded = graphs.Recorded(tower)
    first = torch.randn(2, 3, 16, 16)
    recorded(first)
    kept = recorded._graphs[2].out
    before = kept.clone()
    recorded(first + 1)
    assert (kept - before).abs().max() > 1e-3


def test_threads_share_recordings(tapes: gpu.Tapes, tower: VisionTransformer) -> None:
    recorded = graphs.Recorded(tower)
    batches = [torch.randn(1 + count % 4, 3, 16, 16) for count in range(24)]
    together = threading.Barrier(8, timeout=30)

    def run(number: int) -> list[Tensor]:
        together.wait()
        return [recorded(batch) for batch in batches[number::8]]

    with ThreadPoolExecutor(8) as pool:
        for number, rows in enumerate(pool.map(run, range(8))):
            for batch, found in zip(batches[number::8], rows, strict=True):
                torch.testing.assert_close(found, tower(batch), atol=1e-5, rtol=0)
    assert len(tapes.recorded) <= 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize(
    ("name", "dtype", "translated"),
    [("patch32-quickgelu", "float32", True), ("resnet", "float32", False), ("resnet", "float16", True)],
)
def test_compile_on_a_gpu(
    name: str, dtype: Any, translated: bool, tapes: gpu.Tapes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = loaded(name, tmp_path, device="cpu", dtype=dtype, compile=True)
    encoder.device = gpu.CUDA
    load_vision = type(encoder._checkpoint).load_vision
    monkeypatch.setattr(
        type(encoder._checkpoint),
        "load_vision",
        lambda self, device, dtype: load_vision(self, device="cpu", dtype=dtype),
    )
    assert isinstance(encoder._project_pixels, graphs.Recorded)
    assert (encoder.vision._compiled_call_impl is not None) == translated


# ------------------------------------------------------------------------------------------------- what is said


def test_too_little_memory_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nAnd much more.")

    encoder = loaded("patch32-quickgelu", tmp_path, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(type(encoder._checkpoint), "load_text", full)
        with pytest.raises(DeviceError, match=r"too little free memory for the text tower \(CUDA out of memory"):
            encoder.encode_texts(["a"])
    monkeypatch.setattr(VisionTransformer, "features", full)
    message = (
        r"cpu has too little free memory for 5 images at once \(.* 20.00 GiB\.\); expected .* a smaller batch_size"
    )
    for encode in (encoder.encode_images, encoder.encode_features):
        with pytest.raises(DeviceError, match=message):
            encode(PICTURES)
    with pytest.raises(DeviceError, match="for 2 images at once"):
        list(embed_stream(encoder, PICTURES, batch_size=2))


def test_copies_for_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    encoder = loaded("patch32-quickgelu", tmp_path, device="cpu", compile=True)
    encoder.device = torch.device("cuda:1")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("zeroshot.classifier.as_encoder", lambda name, **options: asked.append(options) or "a copy")
    replicas = zeroshot.classifier.replicate(encoder, ["cuda", "cuda:1", torch.device("cuda"), "cuda:0"])
    assert replicas == [encoder, encoder, encoder, "a copy"]  # a translated one, of one that is
    assert asked == [{"device": "cuda:0", "dtype": torch.float32, "approximate": False, "compile": True}]


def test_devices_that_there_are_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert clip._cuda_devices() == ", or 'cuda:0' to 'cuda:3'"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert clip._cuda_devices() == ", or 'cuda:0'"


# -------------------------------------------------------------------------------------------------- where there is one


@pytest.fixture
def reference(request: pytest.FixtureRequest) -> Reference:
    return SMALL[request.param]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("reference", SMALL, indirect=True)
def test_embeddings_are_open_clips(reference: Reference, dtype: Any, tmp_path: Path) -> None:
    encoder = zeroshot.load(reference.write(tmp_path / reference.name), device="cuda", dtype=dtype)
    deviations = reference.deviations(encoder)
    assert max(deviations) < {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}[dtype]
    assert dtype == "float32" or max(deviations) > 1e-6


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["patch32-quickgelu", "resnet", "siglip", "mini"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the compiler's own
def test_compiled_gives_the_same(name: str, dtype: Any, tmp_path: Path) -> None:
    eager, compiled = (loaded(name, tmp_path, device="cuda", dtype=dtype, compile=one) for one in (False, True))
    atol = 1e-5 if dtype == "float32" else 1e-2
    kept = []
    for count in (4, 4, 1, 3, 1, 5, 4, 1, 2):
        pictures = (PICTURES * 2)[count : 2 * count]
        kept.append((compiled.encode_images(pictures), eager.encode_images(pictures)))
    for found, expected in kept:
        torch.testing.assert_close(found, expected, atol=atol, rtol=0)
    pixels = [compiled.preprocess(picture) for picture in PICTURES]
    alone = [eager.encode_pixels(one[None]) for one in pixels]

    def embed(number: int) -> Tensor:
        with torch.cuda.stream(torch.cuda.Stream()) if number % 2 else torch.cuda.device(0):
            found = compiled.encode_pixels(pixels[number % 5][None])
            torch.cuda.current_stream().synchronize()
            return found

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(embed, range(200))):
            torch.testing.assert_close(found, alone[number % 5], atol=atol, rtol=0)


@pytest.mark.cuda
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 7])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the compiler's own
def test_a_stream_of_many_batches(open_clip_folder: Path, batch_size: int, compile: bool) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (1500, 36, 36, 3), np.uint8))
    given: list[Any] = [b"?" if index % 50 == 7 else image for index, image in enumerate(images)]
    expected = zeroshot.load(open_clip_folder, device="cpu").encode_images(images).numpy()
    assert np.abs(expected[1:] - expected[:-1]).max(axis=1).min() > 1e-3  # neighbours differ by more than rounding
    encoder = zeroshot.load(open_clip_folder, device="cuda", compile=compile)
    for result in embed_stream(encoder, given, batch_size=batch_size):
        if result.index % 50 == 7:
            assert result.error is not None
        else:
            np.testing.assert_allclose(result.embedding, expected[result.index], atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.cuda
def test_every_gpu_there_is_keeps_the_order(open_clip_folder: Path) -> None:
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    images = list(np.random.default_rng(0).integers(0, 256, (500, 36, 36, 3), np.uint8))
    last = torch.device(devices[-1])
    classifier = Classifier(["cat", "dog", "car"], model=open_clip_folder, device=last, cache=False)
    assert classifier.encoder.device == last
    expected = Classifier(["cat", "dog", "car"], model=open_clip_folder, device="cpu", cache=False).predict_proba(
        images
    )
    for outcome in classifier.stream(images, devices=[*devices, "cpu"], batch_size=3):
        np.testing.assert_allclose(outcome.prediction.probabilities, expected[outcome.index], atol=1e-4)  # type: ignore[union-attr]
    np.testing.assert_allclose(classifier.predict_proba(images), expected, atol=1e-4)


@pytest.mark.cuda
def test_a_device_has_its_number(open_clip_folder: Path) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cuda")
    assert encoder.device == torch.device("cuda", torch.cuda.current_device())
    with pytest.raises(DeviceError, match=r"'cuda:77' is not available here.*expected 'cpu', or 'cuda:0'"):
        zeroshot.load(open_clip_folder, device="cuda:77")


@pytest.mark.cuda
@pytest.mark.parametrize("name", FAMILIES)
def test_heads_are_those_of_the_cpu(name: str, tmp_path: Path) -> None:
    templates = list(zeroshot.load_prompts("imagenet").templates)[:TEMPLATES]
    heads = []
    for device in ("cpu", "cuda"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of long texts
            encoder = loaded(name, tmp_path, device=device)
            heads.append(build_head(encoder, ["cat", "dog", "fire engine"], prompts=templates, cache=False))
    torch.testing.assert_close(heads[1].weight, heads[0].weight, atol=1e-5, rtol=0)


@pytest.mark.cuda
@pytest.mark.parametrize("classes", [1, 1000, 100_000])
def test_scores_are_those_of_the_cpu(classes: int) -> None:
    torch.manual_seed(0)
    weight, rows = (F.normalize(torch.randn(count, 512), dim=-1) for count in (classes, 8))
    head = Head(weight, tuple(map(str, range(classes))), 100.0, None, "", "", bias=torch.randn(classes))
    torch.testing.assert_close(head.probabilities(rows.cuda()).cpu(), head.probabilities(rows), atol=1e-5, rtol=1e-3)


@pytest.mark.cuda
def test_memory_does_not_grow(open_clip_folder: Path) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (64, 36, 36, 3), np.uint8))
    classifier = Classifier(["cat", "dog"], model=open_clip_folder, device="cuda", cache=False)
    allocated = []
    for _ in range(12):
        for _ in classifier.stream(images, batch_size=4):
            pass
        classifier(images)
        classifier.encoder.encode_texts(["a cat", "a dog"])
        torch.cuda.synchronize()
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[-1] <= allocated[1]


@pytest.mark.cuda
def test_more_images_than_fit(open_clip_folder: Path) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cuda")
    count = 4 * torch.cuda.get_device_properties(0).total_memory // (3 * 32 * 32 * 4)
    with pytest.raises(DeviceError, match=r"images at once.*a smaller batch_size"):
        encoder.encode_pixels(torch.zeros(1, 3, 32, 32).expand(count, -1, -1, -1))
