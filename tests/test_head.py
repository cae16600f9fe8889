"""Heads: the formula, the file, and a cache that never gives the head of something else."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zeroshot
from zeroshot import head as head_module
from zeroshot.cache import cache_folder
from zeroshot.encoder import Encoder
from zeroshot.errors import HeadError, InputTypeError, LabelError, PromptError, ZeroShotError
from zeroshot.head import Head, build_head

Make = Callable[..., Path]
LABELS = ["cat", "dog", "aardvark"]
TEMPLATES = ["a photo of a {}.", "a drawing of a {}.", "{}"]


def by_hand(encoder: Any, prompts: list[list[str]]) -> np.ndarray[Any, Any]:
    """The formula in NumPy: normalise each embedding, take the mean, normalise the mean. (n_classes, dim) float64."""
    rows = []
    for texts in prompts:
        each = np.stack([encoder.encode_texts([text])[0].double().numpy() for text in texts])
        each /= np.linalg.norm(each, axis=1, keepdims=True)
        mean = each.mean(axis=0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def kept() -> list[Path]:
    return sorted((cache_folder() / "heads").glob("*"))


# --------------------------------------------------------------------------------------------------------- formula


@pytest.mark.parametrize("kind", ["fake", "clip"])
@pytest.mark.parametrize(
    ("labels", "prompts", "expanded"),
    [
        (LABELS, None, [[f"a photo of a {label}."] for label in LABELS]),
        (LABELS, TEMPLATES, [[template.replace("{}", label) for template in TEMPLATES] for label in LABELS]),
        (["cat"], TEMPLATES, [[template.replace("{}", "cat") for template in TEMPLATES]]),
        (["cat", "dog", "cat"], "a {}", [["a cat"], ["a dog"], ["a cat"]]),
        (
            {"plane": ["airplane", "aeroplane"], "cat": "cat"},
            ["a {}", "the {}"],
            [["a airplane", "the airplane", "a aeroplane", "the aeroplane"], ["a cat", "the cat"]],
        ),
        ({"cat": ["a cat.", "two cats."], "dog": "a dog."}, "{}", [["a cat.", "two cats."], ["a dog."]]),
        (LABELS, lambda label: [f"{label}, with {len(label)} letters", label], None),
    ],
    ids=["default", "templates", "one class", "repeated", "synonyms", "whole prompts", "function"],
)
@pytest.mark.filterwarnings("ignore:label .* reads like label")
def test_rows_are_normalised_means_of_normalised_embeddings(
    request: pytest.FixtureRequest, kind: str, labels: Any, prompts: Any, expanded: Any
) -> None:
    encoder = request.getfixturevalue(kind)
    expanded = expanded or [prompts(label) for label in labels]
    head = build_head(encoder, labels, prompts=prompts, cache=False)
    assert head.labels == tuple(labels)
    assert head.weight.shape == (len(expanded), encoder.dim)
    assert head.weight.dtype == torch.float32
    assert head.weight.device.type == "cpu"
    np.testing.assert_allclose(head.weight.numpy(), by_hand(encoder, expanded), atol=1e-6)
    np.testing.assert_allclose(head.weight.norm(dim=1).numpy(), 1, atol=1e-6)


def test_the_mean_is_normalised_again(fake: Any) -> None:
    # Without that, classes whose prompts disagree would score lower than others for no reason.
    head = build_head(fake, ["cat"], prompts=TEMPLATES, cache=False)
    mean = np.mean([fake.vector(template.replace("{}", "cat")) for template in TEMPLATES], axis=0)
    assert np.linalg.norm(mean) < 0.9
    np.testing.assert_allclose(head.weight[0].numpy(), mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 6, 7])
def test_rows_do_not_depend_on_how_prompts_are_cut_into_chunks(
    fake: Any, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    labels: dict[str, Any] = {"cat": "cat", "plane": ["airplane", "aeroplane", "jet"], "dog": ["dog", "hound"]}
    expected = build_head(fake, labels, prompts=["a {}", "the {}"], cache=False)
    fake.texts.clear()
    monkeypatch.setattr(head_module, "_PROMPTS_PER_CHUNK", chunk)
    head = build_head(fake, labels, prompts=["a {}", "the {}"], cache=False)
    torch.testing.assert_close(head.weight, expected.weight)
    assert sum(map(len, fake.texts)) == 12


def test_a_background_that_is_a_label_is_told(fake: Any) -> None:
    with pytest.warns(UserWarning, match="background 'Cat' is one of the labels too"):
        build_head(fake, LABELS, background=["noise", "Cat"], cache=False)


def test_a_head_is_opened_in_the_precision_that_it_was_built_in(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    build_head(zeroshot.load("mini", dtype="bfloat16"), LABELS, cache=False).save(path)
    assert Head.load(path).dtype == "bfloat16"
    assert str(zeroshot.Classifier.from_head(path).encoder.dtype) == "torch.bfloat16"  # type: ignore[attr-defined]
    with pytest.raises(HeadError, match=r"built in bfloat16, and 'mini' is in float32; pass dtype='bfloat16', or"):
        zeroshot.Classifier.from_head(path, dtype="float32")


def test_a_folder_or_nothing_in_place_of_the_file(fake: Any, tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"is a folder; expected a file that Head\.save wrote"):
        zeroshot.Classifier.from_head(tmp_path)
    with pytest.raises(HeadError, match=r"is a folder; expected a file, such as .*head\.safetensors"):
        build_head(fake, LABELS, cache=False).save(tmp_path)
    with pytest.raises(InputTypeError, match="the head is None of type NoneType; expected a Head or its file"):
        zeroshot.Classifier.from_head(None)  # type: ignore[arg-type]


def test_background_classes_are_the_last_rows(fake: Any, tmp_path: Path) -> None:
    head = build_head(fake, LABELS, prompts=TEMPLATES, background=["noise", "fog"])
    plain = build_head(fake, [*LABELS, "noise", "fog"], prompts=TEMPLATES)
    assert (head.labels, head.background, plain.background) == (tuple(LABELS), 2, 0)
    torch.testing.assert_close(head.weight, plain.weight)
    assert len({head.digest, plain.digest, build_head(fake, LABELS, prompts=TEMPLATES).digest}) == 3
    head.save(tmp_path / "head")
    assert Head.load(tmp_path / "head").background == 2
    fake.texts.clear()
    assert build_head(fake, LABELS, prompts=TEMPLATES, background=("noise", "fog")).background == 2
    assert fake.texts == []  # kept under a key of its own


def test_classes_of_the_prompt_set_are_the_default(fake: Any) -> None:
    head = build_head(fake, prompts="cifar10", cache=False)
    cifar = zeroshot.load_prompts("cifar10")
    assert head.labels == cifar.classes
    assert head.templates == cifar.templates
    with pytest.raises(LabelError, match=r"no labels were given, and the prompt.* names? no classes"):
        build_head(fake, prompts="a {}")
    with pytest.raises(LabelError, match="no labels were given"):
        build_head(fake)


def test_scale_and_bias_are_the_encoders(make_fake: Any) -> None:
    for scale, bias in ((12.5, None), (56.99, -10.0), (1.0, 0.0)):
        head = build_head(make_fake(scale=scale, bias=bias), LABELS, cache=False)
        assert (head.logit_scale, head.logit_bias) == (scale, bias)


def test_logits_are_scaled_cosines_with_the_bias(make_fake: Any) -> None:
    plain, biased = make_fake(scale=12.5), make_fake(scale=12.5, bias=-3.0)
    images = plain.encode_images(["one", "two"])
    for encoder, bias in ((plain, 0.0), (biased, -3.0)):
        head = build_head(encoder, LABELS, cache=False)
        expected = 12.5 * images.double().numpy() @ by_hand(encoder, [[f"a photo of a {x}."] for x in LABELS]).T + bias
        logits = head.logits(images)
        assert logits.dtype == torch.float32
        np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)


def test_logits_of_half_precision_embeddings_are_computed_in_full(fake: Any) -> None:
    head = build_head(fake, LABELS, cache=False)
    images = fake.encode_images(["one"]).half()
    assert head.logits(images).dtype == torch.float32
    torch.testing.assert_close(head.logits(images), head.logits(images.float()))


def test_embeddings_of_another_size_are_refused(fake: Any) -> None:
    head = build_head(fake, LABELS, cache=False)
    with pytest.raises(HeadError, match="embeddings have 7 dimensions; the head of 'fake' expects 8"):
        head.logits(torch.zeros(2, 7))


@pytest.mark.parametrize("shape", [(2, 8), (3, 8, 1), (3,)])
def test_a_head_needs_a_row_for_each_label(shape: tuple[int, ...]) -> None:
    with pytest.raises(HeadError, match=r"weight has shape .* for 3 labels"):
        Head(torch.zeros(shape), ("a", "b", "c"), 1.0, None, "fake", "f")


def test_a_head_says_what_it_is(fake: Any) -> None:
    assert repr(build_head(fake, LABELS)) == "<Head: 3 classes (cat, dog, aardvark), 8-d, for 'fake'>"
    assert "(a, b, c, d, …)" in repr(build_head(fake, list("abcdefg")))


@pytest.mark.parametrize("encoder", ["mini", None, 3, object()])
def test_something_that_is_no_encoder(encoder: Any) -> None:
    with pytest.raises(InputTypeError, match=f"{type(encoder).__name__}"):
        build_head(encoder, LABELS)


@pytest.mark.parametrize(
    ("labels", "prompts", "error"),
    [
        ([], None, LabelError),
        ("cat", None, LabelError),
        (["cat", " "], None, LabelError),
        (LABELS, "a photo", PromptError),
        (LABELS, ["a {} {}"], PromptError),
        (LABELS, lambda label: [], PromptError),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_computed(
    fake: Any, labels: Any, prompts: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        build_head(fake, labels, prompts=prompts)
    assert fake.texts == []
    assert kept() == []


def test_anything_with_the_members_is_an_encoder(fake: Any) -> None:
    assert isinstance(fake, Encoder)


# ----------------------------------------------------------------------------------------------------------- cache


def test_the_second_time_the_text_tower_is_not_run(fake: Any, make_fake: Any) -> None:
    first = build_head(fake, LABELS, prompts=TEMPLATES)
    assert len(fake.texts) == 1
    again = build_head(fake, LABELS, prompts=TEMPLATES)
    other = make_fake()
    another_process = build_head(other, LABELS, prompts=TEMPLATES)
    assert len(fake.texts) == 1
    assert other.texts == []
    for head in (again, another_process):
        assert torch.equal(head.weight, first.weight)
        assert (head.labels, head.templates, head.digest) == (first.labels, first.templates, first.digest)
    assert [path.name for path in kept()] == [f"{first.digest}.safetensors"]


def test_a_cached_head_belongs_to_the_encoder_that_asked(fake: Any, make_fake: Any) -> None:
    # Equal files in another folder: a head that named the first folder could not be used once that is gone.
    build_head(fake, LABELS)
    other = make_fake(name="a copy in another folder", scale=99.0, bias=-1.0)
    head = build_head(other, LABELS, prompts=lambda label: [f"a photo of a {label}."])
    assert other.texts == []  # the same prompts
    assert head.model == "a copy in another folder"
    assert (head.logit_scale, head.logit_bias) == (99.0, -1.0)
    assert head.templates == ()


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": [*TEMPLATES[:2], "{}."]},
        {"prompts": TEMPLATES[::-1]},
        {"prompts": TEMPLATES[:2]},
        {"labels": ["cat", "dog", "Aardvark"]},
        {"labels": ["dog", "cat", "aardvark"]},
        {"labels": [*LABELS, "cat"]},
        {"labels": {"cat": "cat", "dog": "dog", "aardvark": "ant bear"}},
        {"labels": {"Cat": "cat", "dog": "dog", "aardvark": "aardvark"}},  # another name for the same prompts
        {"fingerprint": "another"},
    ],
    ids=lambda change: str(next(iter(change.values()))),
)
@pytest.mark.filterwarnings("ignore:label .* reads like label")
def test_whatever_differs_is_built_anew(fake: Any, change: dict[str, Any]) -> None:
    first = build_head(fake, LABELS, prompts=TEMPLATES)
    fake.fingerprint = change.get("fingerprint", fake.fingerprint)
    head = build_head(fake, change.get("labels", LABELS), prompts=change.get("prompts", TEMPLATES))
    assert len(fake.texts) == 2
    assert head.digest != first.digest
    assert len(kept()) == 2


def test_prompts_do_not_run_into_each_other_in_the_key(fake: Any) -> None:
    made: list[dict[str, Any]] = [
        *({"x": ["a", "b"], "y": ["c"]}, {"x": ["a"], "y": ["b", "c"]}, {"x": ["ab"], "y": ["c"]}),
        *({"x": ["a", "b", "y", "c"]}, {"x": ['a", "b'], "y": ["c"]}, {"x": ["a,b"], "y": ["c"]}),
        *({"x": ["a", "b"], "y ": ["c"]}, {"xy": ["a", "b"], "z": ["c"]}, {"x": ["b", "a"], "y": ["c"]}),
    ]
    keys = {build_head(fake, labels, prompts="{}", cache=False).digest for labels in made}
    assert len(keys) == len(made)
    generated = build_head(fake, {"x": (word for word in "ab"), "y": "c"}, prompts="{}", cache=False)
    assert generated.digest == build_head(fake, made[0], prompts="{}", cache=False).digest


def test_without_a_cache_nothing_is_read_or_written(fake: Any) -> None:
    build_head(fake, LABELS, cache=False)
    assert not cache_folder().exists()
    build_head(fake, LABELS)
    build_head(fake, LABELS, cache=False)
    assert len(fake.texts) == 3


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "a bit of the weight": lambda content: content[:-2] + bytes([content[-2] ^ 1]) + content[-1:],
    "another file": lambda content: b"something else that is long enough to be read",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_built_again_with_a_warning(fake: Any, damage: str) -> None:
    first = build_head(fake, LABELS)
    (path,) = kept()
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    with pytest.warns(UserWarning, match="a cached head is damaged and is built again") as caught:
        head = build_head(fake, LABELS)
    assert caught[0].filename == __file__
    assert torch.equal(head.weight, first.weight)
    build_head(fake, LABELS)  # the file is mended: no second warning
    assert len(fake.texts) == 2


def test_a_file_under_the_name_of_another_is_not_used(fake: Any) -> None:
    build_head(fake, ["cat", "dog", "emu"])
    (wrong,) = kept()
    right = build_head(fake, LABELS)
    shutil.copy(wrong, wrong.with_name(f"{right.digest}.safetensors"))
    assert build_head(fake, LABELS).labels == tuple(LABELS)


def test_a_cache_that_cannot_be_written_is_a_warning(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in-the-way").touch()
    monkeypatch.setenv("ZEROSHOT_CACHE", str(tmp_path / "in-the-way"))
    with pytest.warns(UserWarning, match=r"the head was not kept in .*in-the-way.*Set ZEROSHOT_CACHE") as caught:
        head = build_head(fake, LABELS)
    assert caught[0].filename == __file__
    assert head.labels == tuple(LABELS)


def test_a_folder_in_place_of_the_file_is_a_warning(fake: Any) -> None:
    digest = build_head(fake, LABELS, cache=False).digest
    (cache_folder() / "heads" / f"{digest}.safetensors").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"(damaged|not kept)"):
        assert build_head(fake, LABELS).labels == tuple(LABELS)


def test_heads_of_a_real_encoder_are_kept_under_its_files(
    clip: Any, open_clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = build_head(clip, LABELS)
    encoder = zeroshot.load(shutil.copytree(open_clip_folder, tmp_path / "copy"))
    monkeypatch.setattr(type(encoder), "encode_texts", None)
    assert torch.equal(build_head(encoder, LABELS).weight, head.weight)


# -------------------------------------------------------------------------------------------------------- save, load


@pytest.mark.filterwarnings("ignore:label .* reads like label")
def test_save_and_load_give_everything_back(make_fake: Any, tmp_path: Path) -> None:
    labels = ["missile", "猫", "missile", 'a "quoted" {name}\n', "🐈"]
    for bias in (None, -10.125):
        head = build_head(make_fake(scale=1 / 3, bias=bias), labels, prompts=TEMPLATES)
        head.save(tmp_path / "new folder" / "own head")
        again = Head.load(tmp_path / "new folder" / "own head")
        assert torch.equal(again.weight, head.weight)
        for name in ("labels", "logit_scale", "logit_bias", "model", "fingerprint", "templates", "digest"):
            assert getattr(again, name) == getattr(head, name)
            assert type(getattr(again, name)) is type(getattr(head, name))
    assert Head.load(str(tmp_path / "new folder" / "own head")).labels == tuple(labels)
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["own head"]


@settings(max_examples=30)
@given(st.lists(st.text().filter(str.strip), min_size=1, max_size=4))
def test_any_labels_survive_the_file(tmp_path_factory: pytest.TempPathFactory, labels: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any-labels.safetensors"
    Head(torch.ones(len(labels), 2), tuple(labels), 1.0, None, "m", "f").save(path)
    assert Head.load(path).labels == tuple(labels)


def test_a_head_of_ones_own_can_be_kept(tmp_path: Path) -> None:
    # As a probe makes them: transposed views, or still attached to autograd.
    weights = [torch.arange(6.0).view(3, 2).T, torch.ones(2, 3, requires_grad=True), torch.ones(4, 3)[::2]]
    for weight in weights:
        Head(weight, ("a", "b"), 1.0, None, "m", "f").save(tmp_path / "head")
        assert torch.equal(Head.load(tmp_path / "head").weight, weight.detach())


def test_a_loaded_head_does_not_depend_on_its_file(fake: Any, tmp_path: Path) -> None:
    build_head(fake, LABELS).save(tmp_path / "head")
    head = Head.load(tmp_path / "head")
    before = head.weight.clone()
    (tmp_path / "head").write_bytes(bytes((tmp_path / "head").stat().st_size))
    assert torch.equal(head.weight, before)


def test_saving_over_a_head_is_all_or_nothing(fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "head"
    build_head(fake, LABELS).save(path)
    before = path.read_bytes()

    def fail(tensors: Any, name: Path, metadata: Any) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="the disk is full"):
        build_head(fake, ["other"], cache=False).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.glob("*head*") if p.is_file()] == ["head"]


@pytest.mark.parametrize("content", [b"", b"short", b"this is no head, but it is long enough to be one", None])
def test_a_file_that_is_no_head(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "head.safetensors"
    if content is None:
        safetensors.torch.save_file({"weight": torch.ones(2, 2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(HeadError, match=r"head\.safetensors (cannot be read as a head|is not a head)") as caught:
        Head.load(path)
    assert isinstance(caught.value, ValueError)


def test_a_checkpoint_is_no_head(open_clip_folder: Path) -> None:
    with pytest.raises(HeadError, match=r"is not a head of this library; expected a file that Head.save wrote"):
        Head.load(open_clip_folder / "open_clip_model.safetensors")


def test_a_head_that_does_not_exist(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(HeadError, match=r"(cannot be read as a head|is a folder)"):
            Head.load(path)


def _rewrite(path: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Change the metadata of a saved head and leave the rest as it is."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, weight = dict(file.metadata()), file.get_tensor("weight").clone()
    change(metadata)
    safetensors.torch.save_file({"weight": weight}, path, metadata=metadata)


def _edit_settings(metadata: dict[str, str], **changes: Any) -> None:
    settings = json.loads(metadata["head"]) | changes
    metadata["head"] = json.dumps({key: value for key, value in settings.items() if value != "DELETE"})


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("sha256"),
        lambda m: m.pop("head"),
        lambda m: m.pop("format"),
        lambda m: m.update(format="zeroshot-head/99"),
        lambda m: m.update(head="{"),
        lambda m: m.update(head="[]"),
        lambda m: _edit_settings(m, labels="DELETE"),
        lambda m: _edit_settings(m, labels=3),
        lambda m: _edit_settings(m, labels=["cat"]),
        lambda m: _edit_settings(m, labels=["cat", "dog", "zebra"]),
        lambda m: _edit_settings(m, logit_scale="DELETE"),
        lambda m: _edit_settings(m, logit_scale="high"),
        lambda m: _edit_settings(m, logit_scale=100.0),
        lambda m: _edit_settings(m, something_of_2030=1),
    ],
    ids=[
        *("no checksum", "no settings", "no format", "a later format", "no JSON", "a list"),
        *("no labels", "labels a number", "one label", "another label", "no scale", "scale a word", "another scale"),
        "unknown setting",
    ],
)
def test_changed_settings_are_noticed(fake: Any, tmp_path: Path, change: Callable[[dict[str, str]], object]) -> None:
    path = tmp_path / "head"
    build_head(fake, LABELS).save(path)
    _rewrite(path, lambda metadata: None)
    assert Head.load(path).labels == tuple(LABELS)  # rewriting alone changes nothing
    _rewrite(path, change)
    with pytest.raises(HeadError) as caught:
        Head.load(path)
    assert str(path) in str(caught.value)


def test_a_file_with_one_bit_flipped_is_never_another_head(make_fake: Any, tmp_path: Path) -> None:
    path = tmp_path / "head"
    head = build_head(make_fake(dim=2), ["cat", "dog"], cache=False)
    head.save(path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert 8 + length < len(content)
    wrong = []
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            again = Head.load(path)
        except HeadError:
            continue
        except Exception as error:
            wrong.append(f"byte {position}: {error!r}")
            continue
        if not torch.equal(again.weight, head.weight) or repr(again) != repr(head):
            wrong.append(f"byte {position}: {again}")
        elif (again.logit_scale, again.fingerprint, again.digest) != (head.logit_scale, head.fingerprint, head.digest):
            wrong.append(f"byte {position}: scale {again.logit_scale}, fingerprint {again.fingerprint}")
    assert wrong == []


def test_many_threads_build_one_head(fake: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(lambda _: build_head(fake, LABELS), range(16)))
    assert len({head.digest for head in heads}) == 1
    assert all(torch.equal(head.weight, heads[0].weight) for head in heads)
    assert [path.name for path in kept()] == [f"{heads[0].digest}.safetensors"]


# Forks of one process, since importing torch takes seconds; they begin together, when the pipe is closed.
_BUILDERS = """
import os, sys, warnings
from pathlib import Path
import torch
from conftest import FakeEncoder
from zeroshot.head import build_head
torch.set_num_threads(1)
warnings.simplefilter("ignore")
path, expected = Path(sys.argv[1]), build_head(FakeEncoder(), ["cat", "dog"], cache=False).weight
def build(start):
    os.read(start, 1)
    return torch.equal(build_head(FakeEncoder(), ["cat", "dog"]).weight, expected)
def build_sixteen():
    start, end = os.pipe()
    children = []
    for _ in range(16):
        if not (child := os.fork()):
            os.close(end)
            os._exit(0 if build(start) else 1)
        children.append(child)
    os.close(end)
    return {os.waitpid(child, 0)[1] for child in children}
path.unlink()
print(build_sixteen())
path.write_bytes(path.read_bytes()[:100])
print(build_sixteen())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_sixteen_processes_build_one_head(fake: Any) -> None:
    head = build_head(fake, ["cat", "dog"])
    (path,) = kept()
    command = [sys.executable, "-c", _BUILDERS, path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    assert done.stdout == "{0}\n{0}\n", done.stderr  # without a file, and with one that is cut short
    assert kept() == [path]
    assert torch.equal(Head.load(path).weight, head.weight)


def test_every_error_is_one_of_ours() -> None:
    assert issubclass(HeadError, ZeroShotError)
    assert issubclass(HeadError, ValueError)


# ---------------------------------------------------------------------------------- biases, features, temperatures


def other_head(**settings: Any) -> Head:
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    return Head(weight, ("a", "b", "c"), 3.0, None, "m", "f", **settings)


def test_logits_with_biases_and_a_temperature() -> None:
    bias = torch.tensor([0.5, -1.0, 2.0])
    rows = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    expected = (3 * rows @ other_head().weight.T + bias) / 4
    torch.testing.assert_close(other_head(bias=bias, temperature=4.0).logits(rows), expected)
    torch.testing.assert_close(
        Head(other_head().weight, ("a", "b", "c"), 3.0, -6.0, "m", "f", bias=bias, temperature=4.0).logits(rows),
        expected - 1.5,
    )


def test_save_and_load_give_biases_and_temperatures_back(tmp_path: Path) -> None:
    head = other_head(bias=torch.tensor([0.5, -1.0, 2.0]), space="features", temperature=1.75, origin="by hand")
    head.save(tmp_path / "head")
    again = Head.load(tmp_path / "head")
    assert torch.equal(again.bias, head.bias)  # type: ignore[arg-type]
    assert (again.space, again.temperature, again.origin, again.contents) == (
        ("features", 1.75, "by hand", head.contents)
    )
    assert repr(again) == "<Head: 3 classes (a, b, c), 2-d features, for 'm', by hand, temperature 1.75>"


def test_a_changed_bias_in_the_file_is_damage(tmp_path: Path) -> None:
    other_head(bias=torch.tensor([0.5, -1.0, 2.0])).save(tmp_path / "head")
    with safetensors.safe_open(tmp_path / "head", framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    for changed in ({"weight": tensors["weight"]}, tensors | {"bias": tensors["bias"] + 1}):
        safetensors.torch.save_file(changed, tmp_path / "head", metadata=metadata)
        with pytest.raises(HeadError, match="is damaged"):
            Head.load(tmp_path / "head")


def test_files_of_the_format_before_are_read(tmp_path: Path) -> None:
    """As release 0.1 wrote them: no bias, embeddings, no temperature."""
    head = other_head()
    names = ("labels", "logit_scale", "logit_bias", "model", "fingerprint", "templates", "background", "digest")
    text = json.dumps({name: getattr(head, name) for name in names})
    checksum = hashlib.sha256(head.weight.numpy().tobytes() + text.encode()).hexdigest()
    metadata = {"format": "zeroshot-head/2", "sha256": checksum, "head": text}
    safetensors.torch.save_file({"weight": head.weight}, tmp_path / "old", metadata=metadata)
    again = Head.load(tmp_path / "old")
    assert (again.bias, again.space, again.temperature, again.contents) == (None, "embeddings", 1.0, head.contents)
    metadata["format"] = "zeroshot-head/5"
    safetensors.torch.save_file({"weight": head.weight}, tmp_path / "new", metadata=metadata)
    with pytest.raises(HeadError, match=r"has the format 'zeroshot-head/5'; this release reads .*zeroshot-head/3"):
        Head.load(tmp_path / "new")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias": torch.zeros(2)}, r"bias has shape \(2,\) for 3 rows"),
        ({"bias": torch.zeros(3, 1)}, r"bias has shape \(3, 1\)"),
        ({"space": "pixels"}, "space is 'pixels'"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
    ],
)
def test_settings_that_make_no_head(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        other_head(**settings)


def test_whatever_decides_changes_the_contents() -> None:
    bias = torch.tensor([0.5, -1.0, 2.0])
    heads = [other_head(), other_head(bias=bias), other_head(bias=bias + 1), other_head(temperature=2.0)]
    heads += [other_head(space="features"), other_head(background=0, origin="told")]
    contents = [head.contents for head in heads]
    assert len(set(contents)) == 5
    assert contents[-1] == contents[0]  # what is for people to read decides nothing


def test_the_weight_is_copied_to_another_device_once() -> None:
    head = zeroshot.Head(torch.eye(3), ("a", "b", "c"), 1.0, None, "model", "fingerprint")
    meta = torch.device("meta")  # which every machine has
    copy, _ = head._on(meta)
    assert copy.device == meta
    assert head._on(meta)[0] is copy
    assert head._on(head.weight.device)[0] is head.weight
    head.weight.mul_(2)
    assert head._on(meta)[0] is not copy
    assert pickle.loads(pickle.dumps(head)).weight.device == head.weight.device
    assert head.logits(torch.ones(2, 3, device=meta)).shape == (2, 3)
