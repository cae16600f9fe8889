"""The native encoder: what comes out has the order of what went in, whatever the batch, the thread or the folder."""

from __future__ import annotations

import contextlib
import copy
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import zeroshot
from zeroshot import clip as clip_module
from zeroshot.clip import ClipEncoder
from zeroshot.encoder import Encoder
from zeroshot.errors import CheckpointError, DeviceError, ImageError, InputTypeError, OptionError

Make = Callable[..., Path]
TEXTS = ["a photo of a cat.", "a photo of a dog.", "a photo", "", "something else entirely", "a photo of a cat."]


def close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


# ------------------------------------------------------------------------------------------------------ embeddings


def test_it_is_an_encoder(clip: ClipEncoder, open_clip_folder: Path) -> None:
    assert isinstance(clip, Encoder)
    assert clip.name == str(open_clip_folder)
    assert (clip.dim, clip.context, clip.device) == (32, 24, torch.device("cpu"))
    assert clip.logit_scale == pytest.approx(37.5)  # the checkpoint's, not 100
    assert clip.logit_bias is None
    assert clip.preprocess.size == (32, 32)
    assert "32-d, 32 px, float32 on cpu" in repr(clip)


def test_embeddings_are_normalised_float32_without_gradients(clip: ClipEncoder, pictures: list[Any]) -> None:
    for embeddings, count in ((clip.encode_texts(TEXTS), 6), (clip.encode_images(pictures), 9)):
        assert embeddings.shape == (count, 32)
        assert embeddings.dtype == torch.float32
        close(embeddings.norm(dim=1), torch.ones(count))
        assert not embeddings.requires_grad


def test_embeddings_can_be_trained_on(clip: ClipEncoder, pictures: list[Any]) -> None:
    # Tensors made in inference mode cannot be used by autograd; a linear probe on top must work.
    weight = torch.zeros(32, requires_grad=True)
    ((clip.encode_texts(TEXTS) @ weight).sum() + (clip.encode_images(pictures) @ weight).sum()).backward()
    assert weight.grad is not None


def test_order_and_duplicates_are_kept(clip: ClipEncoder) -> None:
    embeddings = clip.encode_texts(TEXTS)
    assert torch.equal(embeddings[0], embeddings[5])
    for text, row in zip(TEXTS, embeddings, strict=True):
        close(row, clip.encode_texts([text])[0])
    close(clip.encode_texts(TEXTS[::-1]), embeddings.flip(0))
    assert (embeddings[0] - embeddings[1]).norm() > 0.01


@settings(max_examples=12)
@given(
    lines=st.lists(st.lists(st.sampled_from(["a", "photo", "of", "cat", "dog", "café", "🐈"]), max_size=9), max_size=40)
)
def test_a_text_is_embedded_the_same_in_any_company(clip: ClipEncoder, lines: list[list[str]]) -> None:
    texts = [" ".join(words) for words in lines]
    embeddings = clip.encode_texts(texts)
    assert embeddings.shape == (len(texts), 32)
    for text, row in zip(texts[:5], embeddings, strict=False):
        close(row, clip.encode_texts([text])[0])


def test_one_string_is_one_text(clip: ClipEncoder) -> None:
    close(clip.encode_texts("a cat"), clip.encode_texts(["a cat"]), atol=0)


def test_nothing_gives_no_rows(clip: ClipEncoder) -> None:
    for embeddings in (clip.encode_texts([]), clip.encode_images([])):
        assert embeddings.shape == (0, 32)
        assert embeddings.dtype == torch.float32


def test_texts_do_not_depend_on_the_block(clip: ClipEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"a photo of number {i}" for i in range(20)]
    expected = clip.encode_texts(texts)
    monkeypatch.setattr(clip_module, "_TEXTS_PER_BLOCK", 3)
    close(clip.encode_texts(texts), expected)
    monkeypatch.setattr(clip_module, "_TEXTS_PER_BLOCK", 9)
    close(clip.encode_texts(texts), expected)


@pytest.mark.parametrize("batch_size", [1, 2, 8, 32])
def test_images_do_not_depend_on_the_batch(clip: ClipEncoder, pictures: list[Any], batch_size: int) -> None:
    expected = torch.cat([clip.encode_images(picture) for picture in pictures])
    close(clip.encode_images(pictures, batch_size=batch_size), expected)
    assert (expected[0] - expected[1]).norm() > 0.01


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_features_are_projected_to_embeddings(clip: ClipEncoder, pictures: list[Any], batch_size: int) -> None:
    features = clip.encode_features(pictures, batch_size=batch_size)
    assert features.shape == (len(pictures), clip.feature_dim)
    assert clip.feature_dim != clip.dim
    assert features.dtype == torch.float32
    assert not features.requires_grad
    projected = torch.nn.functional.normalize(features @ clip.vision.proj, dim=-1)  # type: ignore[operator]
    close(projected, clip.encode_images(pictures))
    assert not torch.allclose(features.norm(dim=1), torch.ones(len(pictures)), atol=0.1)
    assert clip.encode_features([]).shape == (0, clip.feature_dim)
    with pytest.raises(OptionError, match="batch_size is 0"):
        clip.encode_features(pictures, batch_size=0)


def test_features_of_half_precision_are_float32(open_clip_folder: Path, clip: ClipEncoder, pictures: list[Any]) -> None:
    features = zeroshot.load(open_clip_folder, device="cpu", dtype="bfloat16").encode_features(pictures[:2])
    assert features.dtype == torch.float32
    close(features, clip.encode_features(pictures[:2]), atol=0.2)


def test_one_image_or_several(clip: ClipEncoder, pictures: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(pictures[0]).save(path)
    expected = clip.encode_images([pictures[0]])
    assert expected.shape == (1, 32)
    for image in (
        pictures[0],
        path,
        str(path),
        path.read_bytes(),
        Image.open(path),
        [path],
        (path,),
        pictures[0][None],
    ):
        close(clip.encode_images(image), expected, atol=0)


def test_the_pixels_of_the_checkpoints_preprocessing_are_embedded(clip: ClipEncoder, pictures: list[Any]) -> None:
    pixels = torch.from_numpy(np.stack([clip.preprocess(picture) for picture in pictures]))
    with torch.inference_mode():
        features = clip.vision(pixels)
    close(clip.encode_images(pictures), features / features.norm(dim=1, keepdim=True))


def test_a_text_that_is_too_long_is_cut_with_a_warning(clip: ClipEncoder) -> None:
    words = [f"word{i}" for i in range(40)]
    with pytest.warns(UserWarning, match="longer than 24 tokens and were cut"):
        long = clip.encode_texts([" ".join(words)])
    with pytest.warns(UserWarning, match="were cut"):
        longer = clip.encode_texts([" ".join([*words, "more"])])
    close(long, longer, atol=0)


def test_tokens_have_the_checkpoints_context(clip: ClipEncoder) -> None:
    assert clip.tokenize(["a cat", "a dog"]).shape == (2, 24)


# ----------------------------------------------------------------------------------------------------------- errors


def test_a_broken_image_is_named(clip: ClipEncoder, pictures: list[Any], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        clip.encode_images([pictures[0], tmp_path / "broken.jpg", pictures[1]])


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(clip: ClipEncoder, pictures: list[Any], batch_size: int) -> None:
    with pytest.raises(OptionError, match=f"batch_size is {batch_size}; expected .*at least 1"):
        clip.encode_images(pictures, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [2.5, "8", None])
def test_a_batch_size_that_is_no_whole_number(clip: ClipEncoder, pictures: list[Any], batch_size: Any) -> None:
    with pytest.raises((OptionError, InputTypeError), match="batch_size"):
        clip.encode_images(pictures, batch_size=batch_size)


@pytest.mark.parametrize("texts", [[None], ["a", 3], [b"a"]])
def test_a_text_that_is_no_string(clip: ClipEncoder, texts: Any) -> None:
    with pytest.raises(InputTypeError, match="expected str"):
        clip.encode_texts(texts)


@pytest.mark.parametrize("images", [None, 3])
def test_images_that_are_none(clip: ClipEncoder, images: Any) -> None:
    with pytest.raises(InputTypeError, match="expected a path"):
        clip.encode_images(images)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_a_device_that_is_not_there(open_clip_folder: Path, device: Any) -> None:
    with pytest.raises(DeviceError, match=r"device 'cuda.*' is not available here.*expected 'cpu'") as caught:
        zeroshot.load(open_clip_folder, device=device)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("device", ["nonsense", "", "cpu:x", 3.5, ["cpu"]])
def test_a_device_that_does_not_exist(open_clip_folder: Path, device: Any) -> None:
    with pytest.raises((DeviceError, InputTypeError), match="device"):
        zeroshot.load(open_clip_folder, device=device)


@pytest.mark.parametrize(("device", "usual"), [("gpu", "cuda"), ("GPU:1", "cuda:1"), ("CPU", "cpu"), ("Cuda", "cuda")])
def test_a_device_by_another_name(open_clip_folder: Path, device: str, usual: str) -> None:
    with pytest.raises(DeviceError, match=f"device '{device}' is not available here: torch calls it '{usual}'; exp"):
        zeroshot.load(open_clip_folder, device=device)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_torchs_reason_is_cut_at_its_first_sentence(open_clip_folder: Path) -> None:
    with pytest.raises(DeviceError, match=r"'mps' is not available here: .*; expected 'cpu'") as caught:
        zeroshot.load(open_clip_folder, device="mps")
    assert len(str(caught.value)) < 250


def test_meta_is_no_device_to_compute_on(open_clip_folder: Path) -> None:
    with pytest.raises(DeviceError, match="'meta'"):
        zeroshot.load(open_clip_folder, device="meta")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_embeddings_of_the_cpu(clip: ClipEncoder, open_clip_folder: Path, pictures: list[Any]) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cuda")
    assert encoder.encode_texts(TEXTS).device.type == "cuda"
    close(encoder.encode_texts(TEXTS).cpu(), clip.encode_texts(TEXTS), atol=1e-4)
    close(encoder.encode_images(pictures).cpu(), clip.encode_images(pictures), atol=1e-3)


@pytest.mark.parametrize("dtype", ["float64", "half", "int4", "", None, torch.float64, torch.int16, 16])
def test_a_precision_that_is_not_offered(open_clip_folder: Path, dtype: Any) -> None:
    with pytest.raises(OptionError, match="expected one of float32, float16, bfloat16"):
        zeroshot.load(open_clip_folder, dtype=dtype)


def test_int8_is_near_and_has_a_fingerprint_of_its_own(
    clip: ClipEncoder, open_clip_folder: Path, pictures: list[Any]
) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cpu", dtype="int8")
    assert encoder.dtype == torch.int8
    assert encoder.fingerprint != clip.fingerprint
    for found, exact in (
        (encoder.encode_images(pictures), clip.encode_images(pictures)),
        (encoder.encode_texts(TEXTS), clip.encode_texts(TEXTS)),
    ):
        cosines = (found * exact).sum(dim=1)
        assert cosines.min() > 0.99
        assert (found - exact).abs().max() > 1e-5  # it is not single precision after all


def test_int8_is_for_cpus(open_clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_module, "_resolve_device", torch.device)
    with pytest.raises(DeviceError, match=r"int8.*for CPUs, not for cuda"):
        zeroshot.load(open_clip_folder, device="cuda", dtype="int8")


def test_images_that_come_alone_are_packed_for_and_streams_do_not_notice(
    open_clip_folder: Path, pictures: list[Any]
) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cpu")
    linear = encoder.vision.transformer.resblocks[0].mlp.c_fc  # type: ignore[union-attr, index]
    batch, first = encoder.encode_images(pictures), encoder.encode_images(pictures[0])
    assert linear.kept is None
    second = encoder.encode_images(pictures[0])
    assert linear.kept is not None
    assert torch.equal(encoder.encode_images(pictures[0]), second)
    close(second, first, atol=1e-6)
    close(batch[:1], first)
    assert torch.equal(encoder.encode_images(pictures), batch)  # what is packed for one image is for no other number


@pytest.mark.full_size
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the compiler's own
def test_compiled_gives_the_same(clip: ClipEncoder, open_clip_folder: Path, pictures: list[Any]) -> None:
    encoder = zeroshot.load(open_clip_folder, device="cpu", compile=True)
    close(encoder.encode_images(pictures), clip.encode_images(pictures))


# ------------------------------------------------------------------------------------------------------ fingerprint


def test_equal_files_have_an_equal_fingerprint(clip: ClipEncoder, open_clip_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(open_clip_folder, tmp_path / "elsewhere")
    assert zeroshot.load(copy).fingerprint == clip.fingerprint
    assert len(clip.fingerprint) == 64


def test_whatever_changes_the_embeddings_changes_the_fingerprint(make_checkpoint: Make, clip: ClipEncoder) -> None:
    def one_bit(state: dict[str, Any]) -> None:
        state["ln_final.bias"][0] += 1e-6

    half = make_checkpoint(name="half")
    changed = {
        "weight": zeroshot.load(make_checkpoint(weights=one_bit, name="weight")),
        "activation": zeroshot.load(
            make_checkpoint(config=lambda c: c["model_cfg"].update(quick_gelu=False), name="a")
        ),
        "mean": zeroshot.load(make_checkpoint(config=lambda c: c["preprocess_cfg"].update(mean=0.5), name="mean")),
        "bicubic": zeroshot.load(make_checkpoint("transformers", name="one")),
        "bilinear": zeroshot.load(
            make_checkpoint("transformers", preprocess=lambda p: p.update(resample=2), name="two")
        ),
        "bfloat16": zeroshot.load(half, dtype="bfloat16"),
        "float16": zeroshot.load(half, dtype="float16"),
    }
    fingerprints = {name: encoder.fingerprint for name, encoder in changed.items()} | {"": clip.fingerprint}
    assert len(set(fingerprints.values())) == len(fingerprints)


def test_the_fingerprint_is_that_of_the_weights_that_were_loaded(make_checkpoint: Make) -> None:
    # A training loop may write the next state while an encoder still holds the last one: heads of one must never be
    # kept under the name of the other.
    folder = make_checkpoint(name="one")
    before = zeroshot.load(folder).fingerprint
    encoder = zeroshot.load(folder)
    expected = encoder.encode_texts(TEXTS)
    other = make_checkpoint(weights=lambda s: s["ln_final.bias"].add_(1), name="other")
    (other / "open_clip_model.safetensors").replace(folder / "open_clip_model.safetensors")
    close(encoder.encode_texts(TEXTS), expected, atol=0)
    with contextlib.suppress(CheckpointError):  # to refuse is as good
        assert encoder.fingerprint == before


def test_it_is_pickled_as_what_it_was_loaded_from(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint()
    monkeypatch.chdir(folder.parent)
    encoder = zeroshot.load(folder.name, device="cpu", dtype="bfloat16", approximate=True)
    sent = pickle.dumps(encoder)
    assert len(sent) < 1000  # no weights
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(sent)
    assert pickle.loads(sent) is again  # loaded once in a process
    assert (again.device, again.dtype, again.preprocess) == (encoder.device, encoder.dtype, encoder.preprocess)
    close(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=0)
    clip_module._load_again.cache_clear()
    other = make_checkpoint(weights=lambda s: s["ln_final.bias"].add_(1), name="other")
    (other / "open_clip_model.safetensors").replace(folder / "open_clip_model.safetensors")
    with pytest.raises(CheckpointError, match="pickled with another state of"):
        pickle.loads(sent)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_copies_share_weights_and_nothing_else(clip: ClipEncoder, make: Callable[[ClipEncoder], ClipEncoder]) -> None:
    clip.encode_texts(["a photo"])
    scale = clip.logit_scale
    other = make(clip)
    other.logit_scale = 1.0
    assert clip.logit_scale == scale
    assert other.text is clip.text
    close(other.encode_texts(TEXTS), clip.encode_texts(TEXTS))


# ---------------------------------------------------------------------------------------------------------- threads


def test_eight_threads_give_the_results_of_one(open_clip_folder: Path, clip: ClipEncoder, pictures: list[Any]) -> None:
    texts = clip.encode_texts(TEXTS)
    images = clip.encode_images(pictures)
    fresh = zeroshot.load(open_clip_folder, device="cpu")  # its towers are loaded by whichever thread is first

    def work(turn: int) -> tuple[torch.Tensor, torch.Tensor]:
        return fresh.encode_texts(TEXTS), fresh.encode_images(pictures, batch_size=1 + turn % 3)

    with ThreadPoolExecutor(8) as pool:
        for got_texts, got_images in pool.map(work, range(24)):
            close(got_texts, texts)
            close(got_images, images)


def test_inference_mode_does_not_leak(clip: ClipEncoder) -> None:
    clip.encode_texts(["a cat"])
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
