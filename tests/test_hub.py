"""Repositories on a hub: what is fetched of them, when, and what a person reads when it fails.

The hub is `hub.Hub`, on this machine; huggingface_hub is the real one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hub import EXPIRED, Hub
from huggingface_hub import __version__, constants, file_download
from huggingface_hub.utils import _http
from packaging.version import Version

import zeroshot
from zeroshot import registry
from zeroshot.errors import CheckpointError, CheckpointNotFoundError, HubError, ModelNotFoundError
from zeroshot.registry import available_models, locate

Files = dict[str, bytes]
Make = Callable[..., Path]
NAME = "hf-hub:owner/tiny"
CONFIG = b'{"model_cfg": {"text_cfg": {}}}'
OTHER_TOKENIZER = b'{"model_cfg": {"text_cfg": {"hf_tokenizer_name": "owner/tokenizer"}}}'
SMALL = {"open_clip_config.json": CONFIG, "open_clip_model.safetensors": b"weights"}
LARGE = SMALL | {"open_clip_model.safetensors": bytes(range(256)) * 4096}  # a megabyte
# With requests in place of httpx it tries again less often, and keeps sessions that know whether they are offline.
BEFORE_1 = Version(__version__) < Version("1.0")
tries_again = pytest.mark.skipif(BEFORE_1, reason="huggingface_hub before 1.0 gives up here")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process uses; huggingface_hub reads its environment at import, so its constants are set too."""
    with Hub() as server:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        set_offline(False, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        use(server.url, monkeypatch)
        yield server


def set_offline(flag: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", flag)
    if BEFORE_1:
        _http.reset_sessions()


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)  # before 1.0


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that goes offline."""

    def unplug() -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        set_offline(True, monkeypatch)

    return unplug


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Do not wait between attempts; return the seconds that would have been waited."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def files_of(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tree() -> dict[str, tuple[int, int]]:
    """Return every file, folder and link of the hub's cache, with its size and time of change."""
    paths = Path(constants.HF_HUB_CACHE).rglob("*")
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


def repository(name: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


# ---------------------------------------------------------------------------------------------- what is fetched


def as_bin(content: bytes, folder: Path) -> bytes:
    """Return safetensors weights as an archive of torch."""
    import safetensors.torch

    torch.save(safetensors.torch.load(content), folder / "weights.bin")
    return (folder / "weights.bin").read_bytes()


def as_shards(content: bytes, name: str) -> Files:
    """Return weights as two shards and their index; `name` is what the whole would be called."""
    import safetensors.torch

    stem, dot, ending = name.rpartition(".")
    state = safetensors.torch.load(content)
    halves: list[dict[str, Any]] = [{}, {}]
    for i, key in enumerate(sorted(state)):
        halves[i % 2][key] = state[key]
    names = [f"{stem}-0000{i}-of-00002{dot}{ending}" for i in (1, 2)]
    weight_map = {key: shard for half, shard in zip(halves, names, strict=True) for key in half}
    shards = {shard: safetensors.torch.save(half) for half, shard in zip(halves, names, strict=True)}
    return {f"{name}.index.json": json.dumps({"weight_map": weight_map}).encode()} | shards


def both(open_clip: Files, transformers: Files, folder: Path) -> tuple[Files, list[str]]:
    return open_clip | transformers, list(open_clip)


def open_clip_bin(open_clip: Files, transformers: Files, folder: Path) -> tuple[Files, list[str]]:
    weights = as_bin(open_clip.pop("open_clip_model.safetensors"), folder)
    files = open_clip | {"open_clip_pytorch_model.bin": weights}
    return files, list(files)


def transformers_bin(open_clip: Files, transformers: Files, folder: Path) -> tuple[Files, list[str]]:
    weights = as_bin(transformers.pop("model.safetensors"), folder)
    files = transformers | {"pytorch_model.bin": weights}
    return files | {"flax_model.msgpack": b"", "tokenizer.json": b"{}"}, list(files)


def bin_in_the_better_layout(open_clip: Files, transformers: Files, folder: Path) -> tuple[Files, list[str]]:
    weights = as_bin(open_clip.pop("open_clip_model.safetensors"), folder)
    return open_clip | {"open_clip_pytorch_model.bin": weights} | transformers, list(transformers)


def shards(open_clip: Files, transformers: Files, folder: Path) -> tuple[Files, list[str]]:
    weights = transformers.pop("model.safetensors")
    files = transformers | as_shards(weights, "model.safetensors")
    return files | {"model-00003-of-00002.safetensors": b"not in the index"}, list(files)


def bin_shards(open_clip: Files, transformers: Files, folder: Path) -> tuple[Files, list[str]]:
    weights = open_clip.pop("open_clip_model.safetensors")
    files = open_clip | as_shards(weights, "open_clip_pytorch_model.bin")
    files = {name: as_bin(content, folder) if name.endswith(".bin") else content for name, content in files.items()}
    return files, list(files)


def timm(open_clip: Files, transformers: Files, folder: Path) -> tuple[Files, list[str]]:
    """A repository of timm's: its image tower alone has the name of transformers' weights."""
    files = open_clip | {"config.json": b'{"architecture": "vit_base_patch32_clip_224"}'}
    return files | {"model.safetensors": b"one tower", "pytorch_model.bin": b"one tower"}, list(open_clip)


KINDS = [both, open_clip_bin, transformers_bin, bin_in_the_better_layout, shards, bin_shards, timm]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_repository_gives_the_embeddings_of_its_folder(
    hub: Hub, tiny_folders: dict[str, Path], tmp_path: Path, clip: Any, kind: Callable[..., tuple[Files, list[str]]]
) -> None:
    files, wanted = kind(files_of(tiny_folders["open_clip"]), files_of(tiny_folders["transformers"]), tmp_path)
    hub.add("owner/tiny", files | {"README.md": b""})
    encoder = zeroshot.load(NAME, device="cpu")
    assert encoder.name == NAME
    assert sorted(hub.downloads()) == sorted(wanted)  # and nothing else of the repository
    picture = torch.zeros(40, 30, 3, dtype=torch.uint8).numpy()
    torch.testing.assert_close(encoder.encode_images(picture), clip.encode_images(picture), atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.encode_texts(["a cat"]), clip.encode_texts(["a cat"]), atol=1e-6, rtol=0)
    assert encoder.fingerprint


def test_small_files_are_fetched_before_large_ones(hub: Hub) -> None:
    hub.add("owner/tokenizer", {"tokenizer.json": b"{}", "tokenizer_config.json": b"{ }", "vocab.txt": b"words"})
    hub.add("owner/tiny", SMALL | {"open_clip_config.json": OTHER_TOKENIZER})
    locate(NAME)
    weights = "open_clip_model.safetensors"
    assert hub.downloads() == ["open_clip_config.json", "tokenizer_config.json", "tokenizer.json", weights]


@pytest.mark.parametrize(
    "files",
    [
        {"open_clip_model.safetensors": b"", "config.json": b"{}"},
        {"config.json": b"{}", "model.safetensors": b"timm's image tower"},
        {"ViT-B-32.pt": b"", "config.json": b"{}", "preprocessor_config.json": b"{}"},
        {"open_clip_config.json": CONFIG},
        {},
    ],
    ids=["no configuration", "timm", "unknown weights", "no weights", "nothing"],
)
def test_a_repository_without_a_layout_that_can_be_read(hub: Hub, files: Files) -> None:
    hub.add("owner/tiny", files)
    found = ", ".join(sorted(files)) or "nothing"
    expected = rf"owner/tiny is in no layout that can be read; expected open_clip_config.json, or .*; found {found}"
    with pytest.raises(CheckpointNotFoundError, match=expected):
        locate(NAME)
    assert hub.downloads() == []


@pytest.mark.parametrize("config", [b"{", b"[]", b"{}", b'{"model_cfg": 1}', b'{"model_cfg": {"text_cfg": "x"}}'])
def test_a_damaged_configuration_is_told_before_the_weights_are_fetched(hub: Hub, config: bytes) -> None:
    hub.add("owner/tiny", SMALL | {"open_clip_config.json": config})
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json"):
        locate(NAME)
    assert hub.downloads() == ["open_clip_config.json"]


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_weights_with_a_link_of_git_or_lfs_in_their_place(hub: Hub, tiny_folders: Any, layout: str) -> None:
    # A link in a repository is served as what it is in git: the text of its target. It leads nowhere.
    for content in (b"../../../../etc/passwd", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"):
        files = files_of(tiny_folders[layout])
        weights = next(name for name in files if name.endswith(".safetensors"))
        hub.add("owner/tiny", files | {weights: content}, revision=str(len(content)))
        with pytest.raises(CheckpointError, match=weights):
            zeroshot.load(f"{NAME}@{len(content)}", device="cpu")


# ------------------------------------------------------------------------------------------------------- shards

INDEX = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
SHARDS = {
    "config.json": b"{}",
    "preprocessor_config.json": b"{}",
    "model.safetensors.index.json": INDEX,
    "model-1.safetensors": b"1",
    "model-2.safetensors": b"2",
}


def test_shards_are_found_through_their_index(hub: Hub) -> None:
    hub.add("owner/tiny", SHARDS)
    path = locate(NAME).path
    assert path.name == "model.safetensors.index.json"
    assert files_of(path.parent) == SHARDS


def test_a_shard_that_the_cache_lost_is_fetched_again(hub: Hub) -> None:
    hub.add("owner/tiny", SHARDS)
    path = locate(NAME).path
    (path.parent / "model-2.safetensors").resolve().unlink()  # the link stays, and leads to nothing
    hub.requests.clear()
    assert locate(NAME).path == path
    assert hub.downloads() == ["model-2.safetensors"]
    assert files_of(path.parent) == SHARDS


def test_a_shard_that_the_repository_lacks(hub: Hub) -> None:
    hub.add("owner/tiny", {name: content for name, content in SHARDS.items() if name != "model-2.safetensors"})
    with pytest.raises(CheckpointNotFoundError, match=r"has no model-2\.safetensors, which model.*index\.json lists"):
        locate(NAME)


@pytest.mark.parametrize("shard", ["../../other/repository.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_an_index_cannot_fetch_files_from_elsewhere(hub: Hub, shard: str) -> None:
    index = json.dumps({"weight_map": {"a": shard}}).encode()
    hub.add("owner/tiny", SHARDS | {"model.safetensors.index.json": index, shard: b""})
    with pytest.raises(CheckpointError, match="expected a file name without a folder"):
        locate(NAME)
    assert "model.safetensors.index.json" in hub.downloads()
    assert not any(shard.endswith(name) for name in hub.downloads())


# --------------------------------------------------------------------------------------------------- tokenizers


@pytest.fixture
def folder_with_words(make_checkpoint: Make) -> Path:
    """A checkpoint in open_clip's layout with a vocabulary of eight words, whose tokenizer is owner/tokenizer's."""

    def edit(config: dict[str, Any]) -> None:
        own = {"vocab_size": 8, "hf_tokenizer_name": "owner/tokenizer", "pool_type": "last"}
        config["model_cfg"]["text_cfg"].update(own)

    def weights(state: dict[str, torch.Tensor]) -> None:
        state["token_embedding.weight"] = state["token_embedding.weight"][:8].clone()

    return make_checkpoint(config=edit, weights=weights)


@pytest.fixture(scope="module")
def tokenizer_files() -> Files:
    import tokenizers

    words = ["<pad>", "<unk>", "a", "cat", "dog", "of", "photo", "the"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": b'{"pad_token": "<pad>"}'}


def test_a_tokenizer_in_another_repository(
    hub: Hub, folder_with_words: Path, tokenizer_files: Files, offline: Callable[[], None]
) -> None:
    hub.add("owner/tiny", files_of(folder_with_words))
    hub.add("owner/tokenizer", tokenizer_files)
    encoder = zeroshot.load(NAME, device="cpu")
    assert encoder.tokenize(["the cat"])[0, :3].tolist() == [7, 3, 0]
    hub.requests.clear()
    offline()
    again = zeroshot.load(NAME, device="cpu")
    assert hub.requests == []
    assert torch.equal(again.encode_texts(["a dog"]), encoder.encode_texts(["a dog"]))


def test_a_tokenizer_beside_the_weights_goes_before_another(
    hub: Hub, folder_with_words: Path, tokenizer_files: Files
) -> None:
    hub.add("owner/tiny", files_of(folder_with_words) | tokenizer_files)
    hub.add("owner/tokenizer", {"tokenizer.json": b"another"})
    location = locate(NAME)
    assert location.tokenizer == location.path.parent
    assert not any("owner/tokenizer" in request.line for request in hub.requests)
    assert zeroshot.load(NAME, device="cpu").tokenize(["the cat"])[0, :3].tolist() == [7, 3, 0]


def test_a_tokenizer_without_its_settings_is_not_taken_for_complete(hub: Hub, tokenizer_files: Files) -> None:
    hub.add("owner/tiny", SMALL | {"open_clip_config.json": OTHER_TOKENIZER})
    hub.add("owner/tokenizer", tokenizer_files)
    hub.failures.append(("HEAD /owner/tokenizer/resolve/main/tokenizer_config.json", 404))
    with pytest.raises(HubError):
        locate(NAME)
    folder = locate(NAME).tokenizer
    assert folder is not None
    assert files_of(folder) == tokenizer_files


def test_a_sentencepiece_model_is_a_tokenizer(hub: Hub) -> None:
    names = ["preprocessor_config.json", "model.safetensors", "special_tokens_map.json", "spiece.model"]
    files = {"config.json": b'{"model_type": "siglip"}'} | {name: name.encode() for name in names}
    hub.add("owner/tiny", files | {"vocab.json": b"{}"})
    location = locate(NAME)
    assert location.tokenizer == location.path.parent
    assert sorted(hub.downloads()) == sorted(files)


@pytest.mark.parametrize(
    ("files", "where"),
    [
        (SMALL | {"open_clip_config.json": OTHER_TOKENIZER}, "owner/tiny or owner/tokenizer"),
        (
            {"config.json": b'{"model_type": "siglip"}', "processor_config.json": b"{}", "model.safetensors": b""},
            "owner/tiny",
        ),
    ],
    ids=["another repository", "the same repository"],
)
def test_a_tokenizer_that_is_not_there(hub: Hub, files: Files, where: str) -> None:
    hub.add("owner/tiny", files)
    hub.add("owner/tokenizer", {"vocab.txt": b""})
    with pytest.raises(
        CheckpointNotFoundError, match=rf"vocabulary of its own; expected tokenizer.json or spiece.model in {where}$"
    ):
        locate(NAME)
    assert not any(name.endswith(".safetensors") for name in hub.downloads())


def test_a_tokenizer_in_a_repository_that_is_not_there(hub: Hub) -> None:
    hub.add("owner/tiny", SMALL | {"open_clip_config.json": OTHER_TOKENIZER})
    with pytest.raises(HubError, match="has no repository 'owner/tokenizer' that you may read"):
        locate(NAME)


@pytest.mark.parametrize("name", ["/home/somebody/tokenizer", "../../../etc", "a/b/c", "a" * 5000, "\0", "C:\\x"])
def test_a_tokenizer_whose_name_is_no_repository(hub: Hub, name: str) -> None:
    config = json.dumps({"model_cfg": {"text_cfg": {"hf_tokenizer_name": name}}}).encode()
    hub.add("owner/tiny", SMALL | {"open_clip_config.json": config})
    with pytest.raises(CheckpointError, match=r"owner/tiny has no tokenizer\.json, and its configuration names"):
        locate(NAME)


def test_a_tokenizer_that_is_no_name(hub: Hub) -> None:
    hub.add("owner/tiny", SMALL | {"open_clip_config.json": OTHER_TOKENIZER.replace(b'"owner/tokenizer"', b"[1]")})
    with pytest.raises(CheckpointError, match=r"the tokenizer is \[1\]; expected the name of a repository"):
        locate(NAME)


# ------------------------------------------------------------------------------------------------------ revisions


def test_a_revision(hub: Hub) -> None:
    hub.add("owner/tiny", SMALL)
    hub.add("owner/tiny", SMALL | {"open_clip_model.safetensors": b"older weights"}, revision="v1")
    hub.add("owner/tiny", SMALL | {"open_clip_model.safetensors": b"proposed weights"}, revision="refs/pr/1")
    main, old, proposed = (locate(NAME + suffix).path for suffix in ("", "@v1", "@refs/pr/1"))
    assert (main.read_bytes(), old.read_bytes()) == (b"weights", b"older weights")
    assert proposed.read_bytes() == b"proposed weights"
    commit = hub.repositories["owner/tiny"].find("v1")
    hub.requests.clear()
    assert locate(f"{NAME}@{commit}").path == old
    assert hub.requests == []


def test_a_commit_that_is_not_cached(hub: Hub) -> None:
    hub.add("owner/tiny", SMALL | {"open_clip_model.safetensors": b"older weights"}, revision="v1")
    commit = hub.repositories["owner/tiny"].find("v1")
    assert locate(f"{NAME}@{commit}").path.read_bytes() == b"older weights"


def test_a_revision_that_does_not_exist(hub: Hub) -> None:
    hub.add("owner/tiny", SMALL)
    with pytest.raises(HubError, match="no repository 'owner/tiny' at revision 'v9' that you may read"):
        locate(f"{NAME}@v9")


@pytest.mark.parametrize(
    "name",
    [
        *("hf-hub:", "hf-hub:a/b/c", "hf-hub:own er/name", "hf-hub:owner/", "hf-hub:-a/b", "hf-hub:@x"),
        *("hf-hub:../name", "hf-hub:owner/..", "hf-hub:/etc/passwd", "hf-hub:owner/tiny@../../main"),
        *("hf-hub:owner/tiny@/etc/hostname", "hf-hub:owner/tiny@..", "hf-hub:owner/tiny@a\\b"),
    ],
)
def test_a_malformed_repository_or_revision(hub: Hub, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"is not of the form hf-hub:owner/name\[@revision\]") as caught:
        locate(name)
    assert repr(name) in str(caught.value)
    assert hub.requests == []


def test_all_files_are_of_one_commit(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/tiny", SMALL)
    verify = registry._verify

    def verify_and_push(path: Path) -> None:
        verify(path)
        hub.add("owner/tiny", SMALL | {"open_clip_model.safetensors": b"newer weights"})

    monkeypatch.setattr(registry, "_verify", verify_and_push)
    path = locate(NAME).path
    assert files_of(path.parent) == SMALL
    assert locate(NAME).path == path


# ------------------------------------------------------------------------------------------ models of the table


@pytest.fixture
def publish(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that changes a row of the table, publishes its repository and returns its name."""

    def change(content: Files, **columns: Any) -> str:
        entry = next(entry for entry in available_models() if entry.name == "ViT-B-32/laion2b_s34b_b79k")
        entry = replace(entry, **columns)
        monkeypatch.setattr(registry, "_table", lambda: {entry.name: entry})
        hub.add(entry.repository, content, revision=columns.get("revision") or "main")
        return entry.name

    return change


def test_the_configuration_comes_from_the_table(
    publish: Callable[..., str], open_clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The configuration in the repository says quick_gelu, and other means; open_clip reads it as little for its names.
    model = json.loads((open_clip_folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setattr(registry, "_architectures", lambda: {"ViT-B-32": model})
    name = publish(files_of(open_clip_folder), activation="gelu", image_size=32, mean=(0.1, 0.2, 0.3))
    encoder = zeroshot.load(name, device="cpu")
    assert encoder.name == name
    assert encoder.text.config.transformer.activation == "gelu"
    assert encoder.preprocess.mean == (0.1, 0.2, 0.3)
    by_repository = zeroshot.load("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", device="cpu")
    assert by_repository.text.config.transformer.activation == "quick_gelu"
    assert by_repository.fingerprint != encoder.fingerprint


def test_the_revision_comes_from_the_table(publish: Callable[..., str]) -> None:
    name = publish(SMALL | {"open_clip_model.safetensors": b"pinned"}, revision="v3")
    assert locate(name).path.read_bytes() == b"pinned"


def test_the_files_come_from_the_table(hub: Hub, publish: Callable[..., str]) -> None:
    name = publish(
        SMALL | {"second.bin": b"", "epoch_32.pt": b"these"}, files=("first.safetensors", "epoch_32.pt", "second.bin")
    )
    path = locate(name).path
    assert path.read_bytes() == b"these"
    assert hub.downloads() == ["epoch_32.pt"]  # its configuration is in our own table
    hub.requests.clear()
    assert locate(name).path == path
    assert hub.requests == []


def test_the_tokenizer_that_the_table_names_goes_before_one_beside_the_weights(hub: Hub) -> None:
    entry = next(entry for entry in available_models() if entry.name == "ViT-B-16-SigLIP-256/webli")
    hub.add(entry.repository, {"open_clip_model.safetensors": b"weights", "tokenizer.json": b"another"})
    hub.add(entry.tokenizer, {"tokenizer.json": b"this", "tokenizer_config.json": b"{}"})
    location = locate(entry.name)
    assert location.tokenizer is not None
    assert (location.tokenizer / "tokenizer.json").read_bytes() == b"this"
    hub.requests.clear()
    assert locate(entry.name) == location
    assert hub.requests == []


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_the_layout_comes_from_the_table(publish: Callable[..., str], layout: str) -> None:
    transformers = dict.fromkeys(["config.json", "preprocessor_config.json", "model.safetensors"], b"{}")
    name = publish(SMALL | transformers, layout=layout)
    expected = {"open_clip": "open_clip_model.safetensors", "transformers": "model.safetensors"}
    assert locate(name).path.name == expected[layout]


# ------------------------------------------------------------------------------------------------------ the cache


def test_the_second_time_asks_nothing_and_writes_nothing(hub: Hub) -> None:
    hub.add("owner/tiny", SMALL)
    first = locate(NAME)
    assert [request.line.split("/")[0] for request in hub.requests] == ["GET ", "HEAD ", "GET ", "HEAD ", "GET "]
    hub.requests.clear()
    hub.add("owner/tiny", SMALL | {"open_clip_model.safetensors": b"newer weights"})
    before = tree()
    assert locate(NAME) == first  # the same weights every time, whatever the hub has by now
    assert hub.requests == []
    assert first.path.read_bytes() == b"weights"
    assert tree() == before  # so the cache may be read-only


def test_what_other_programs_cached_is_used(hub: Hub) -> None:
    import huggingface_hub

    hub.add("owner/tiny", SMALL)
    for file in SMALL:
        huggingface_hub.hf_hub_download("owner/tiny", file)
    hub.requests.clear()
    assert locate(NAME).path.read_bytes() == b"weights"
    assert hub.requests == []


def test_only_what_is_missing_is_fetched(hub: Hub) -> None:
    hub.add("owner/tiny", SMALL)
    path = locate(NAME).path
    path.unlink()
    hub.requests.clear()
    assert locate(NAME).path.read_bytes() == b"weights"
    assert hub.downloads() == []  # the content is still there, under its digest
    path.resolve().unlink()
    assert locate(NAME).path.read_bytes() == b"weights"
    assert hub.downloads() == ["open_clip_model.safetensors"]


@pytest.mark.parametrize("ref", ["../../../etc", "", "f" * 40])
def test_a_damaged_reference_in_the_cache_is_mended(hub: Hub, ref: str) -> None:
    hub.add("owner/tiny", SMALL)
    path = locate(NAME).path
    (repository("owner/tiny") / "refs" / "main").write_text(ref)
    assert locate(NAME).path == path


def test_a_cache_that_cannot_be_read(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/tiny", SMALL)
    path = locate(NAME).path
    hub.requests.clear()

    def refuse(folder: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)

    with monkeypatch.context() as patch:  # root may read everything
        patch.setattr(Path, "iterdir", refuse)
        assert locate(NAME).path == path
    assert hub.requests


def test_a_cache_that_cannot_be_written(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.add("owner/tiny", SMALL)
    (tmp_path / "file").touch()  # root may write everywhere, but not into a file
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(
        HubError, match=r"could not be fetched.*NotADirectoryError.*Of owner/tiny, .*/file/hub has nothing"
    ):
        locate(NAME)


def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/tiny", SMALL)
    fetch = file_download.http_get

    def fill(url: str, temp_file: Any, **options: Any) -> None:
        if "blobs" in url:
            temp_file.write(b"wei")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fetch(url, temp_file, **options)

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", fill)
        with pytest.raises(HubError, match="No space left on device") as caught:
            locate(NAME)
    assert f"Of owner/tiny, {constants.HF_HUB_CACHE} has open_clip_config.json;" in str(caught.value)
    assert locate(NAME).path.read_bytes() == b"weights"


def test_threads_that_fetch_the_same_file(hub: Hub) -> None:
    hub.add("owner/tiny", LARGE)
    barrier = threading.Barrier(8)

    def fetch(_: int) -> bytes:
        barrier.wait()
        return locate(NAME).path.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(fetch, range(8))) == {LARGE["open_clip_model.safetensors"]}
    assert len(list((repository("owner/tiny") / "blobs").iterdir())) == len(LARGE)


# The environment as a shell sets it, in a process of its own: huggingface_hub reads it when it is imported.
# A shell that runs the tests in the background has its children ignore the interrupt.
_LOCATE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "import zeroshot.registry as r\ntry: print(r.locate(sys.argv[1]).path)\nexcept r.HubError as e: print('E', e)"
)


def start(environment: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _LOCATE, NAME],
        env=os.environ | environment,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return what a process printed; on standard error there was nothing."""
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors or "") == (0, "")
    return out.strip()


def test_processes_that_fetch_the_same_file(hub: Hub) -> None:
    hub.add("owner/tiny", LARGE)
    hub.hold = threading.Event()
    processes = [start({"HF_ENDPOINT": hub.url}) for _ in range(2)]
    listing = "GET /api/models/owner/tiny"
    while [request.line for request in hub.requests].count(listing) < 2:  # until both are at it
        assert not any(process.poll() for process in processes)
        hub.hold.wait(0.01)
    hub.hold.set()
    paths = {finish(process) for process in processes}
    assert [Path(path).read_bytes() for path in paths] == [LARGE["open_clip_model.safetensors"]]
    assert len(list((repository("owner/tiny") / "blobs").iterdir())) == len(LARGE)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_killed_goes_on_the_next_time(
    hub: Hub, how: signal.Signals, offline: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/tiny", LARGE)
    hub.hold = threading.Event()
    process = start({"HF_ENDPOINT": hub.url})
    assert hub.holding.wait(60)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (-how, 1)
    assert ("KeyboardInterrupt" in errors) == (how == signal.SIGINT)
    hub.hold.set()
    hub.requests.clear()
    with monkeypatch.context():
        offline()
        with pytest.raises(
            HubError, match=r"has open_clip_config\.json; complete there: no model"
        ):  # and no half of the weights
            locate(NAME)
    set_offline(False, monkeypatch)
    assert locate(NAME).path.read_bytes() == LARGE["open_clip_model.safetensors"]
    assert hub.downloads() == ["open_clip_model.safetensors"]


# ---------------------------------------------------------------------------------------------------- the network


@tries_again
def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    hub: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # the library writes, and goes on by, whole chunks
    hub.add("owner/tiny", LARGE)
    hub.cuts = [100_000, 300_000]
    assert locate(NAME).path.read_bytes() == LARGE["open_clip_model.safetensors"]
    starts = [request.start for request in hub.requests if request.line.startswith("GET /blobs/")]
    assert starts == [0, 100_000, 400_000]


@tries_again
def test_a_server_that_begins_again_after_a_break(hub: Hub, waits: list[float]) -> None:
    hub.add("owner/tiny", LARGE)
    hub.ranges = False
    hub.cuts = [100_000]
    assert locate(NAME).path.read_bytes() == LARGE["open_clip_model.safetensors"]


def test_a_connection_that_breaks_again_and_again(hub: Hub, waits: list[float]) -> None:
    hub.add("owner/tiny", LARGE)
    hub.cuts = [1000] + [0] * 20
    with pytest.raises(HubError, match=f"'{NAME}' is not in the cache, or not all of it, and could not be fetched"):
        locate(NAME)
    hub.cuts = []
    # Nothing of the half is left that could be taken for the whole.
    assert locate(NAME).path.read_bytes() == LARGE["open_clip_model.safetensors"]


def test_damaged_weights_are_refused_and_removed(hub: Hub, offline: Callable[[], None]) -> None:
    hub.add("owner/tiny", LARGE)
    hub.damaged = True
    with pytest.raises(HubError, match=r"open_clip_model.safetensors came damaged: its SHA-256 is .*; expected .*try"):
        locate(NAME)
    hub.damaged = False
    assert locate(NAME).path.read_bytes() == LARGE["open_clip_model.safetensors"]


@tries_again
@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_fails_for_a_moment(hub: Hub, waits: list[float], status: int) -> None:
    hub.add("owner/tiny", SMALL)
    hub.failures = [("HEAD", status), ("HEAD", status)]
    assert locate(NAME).path.read_bytes() == b"weights"
    assert sum(waits) > 0


@pytest.mark.parametrize(("status", "reason"), [(429, "Too Many Requests"), (503, "Service Unavailable")])
def test_a_hub_that_fails(hub: Hub, waits: list[float], status: int, reason: str) -> None:
    hub.add("owner/tiny", SMALL)
    hub.status = status
    with pytest.raises(HubError, match=rf"could not be fetched from {hub.url}: HfHubHTTPError: .*{reason}.*'mini'"):
        locate(NAME)
    assert waits == []  # nobody waits to be told


def test_a_hub_that_fails_in_the_middle(hub: Hub, waits: list[float]) -> None:
    hub.add("owner/tiny", SMALL)
    hub.failures = [("HEAD", 503)] * 10
    with pytest.raises(HubError, match=r"could not be fetched from .*: HfHubHTTPError: .*Service Unavailable"):
        locate(NAME)
    assert sum(waits) <= 30


def test_a_hub_that_does_not_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls, and says nothing
        use(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        monkeypatch.setattr(registry, "_PATIENCE_SECONDS", 0.05)
        with pytest.raises(HubError, match=r"could not be fetched from .*: ReadTimeout: "):
            locate(NAME)


def test_a_download_that_stands_still(hub: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/tiny", LARGE)
    hub.hold = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    with pytest.raises(HubError, match=r"could not be fetched from .*: (ReadTimeout: |.*Read timed out)"):
        locate(NAME)


def test_a_hub_that_is_no_hub(hub: Hub) -> None:
    hub.status = 200  # a captive portal answers everything
    with pytest.raises(HubError, match=f"could not be fetched from {hub.url}: JSONDecodeError: "):
        locate(NAME)


def test_a_hub_that_cannot_be_reached(hub: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    use(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(HubError, match=r"and could not be fetched.*Connect(ion)?Error.*model='mini', which is") as e:
        locate(NAME)
    assert NAME in str(e.value)
    assert f"http://127.0.0.1:{port}" in str(e.value)
    assert isinstance(e.value, ConnectionError)
    assert waits == []


# ---------------------------------------------------------------------------------------------------- permissions


@pytest.mark.parametrize("name", ["owner/nothing", "owner/private"])
def test_a_repository_that_may_not_be_read(hub: Hub, name: str) -> None:
    hub.add("owner/private", SMALL, token="secret")
    with pytest.raises(
        HubError,
        match=f"{hub.url} has no repository '{name}' that you may read; check the name, or set HF_TOKEN if it is priv",
    ):
        locate(f"hf-hub:{name}")


def test_a_gated_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/gated", SMALL, token="hf_accepted")
    hub.repositories["owner/gated"].gated = True
    with pytest.raises(HubError, match=f"owner/gated is gated; accept its conditions at {hub.url}/owner/gated, and"):
        locate("hf-hub:owner/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_accepted")
    assert locate("hf-hub:owner/gated").path.read_bytes() == b"weights"


def test_a_token_that_has_expired(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/private", SMALL, token="hf_secret")
    monkeypatch.setenv("HF_TOKEN", EXPIRED)
    with pytest.raises(HubError, match=r"could not be fetched.*401 .*Unauthorized.*Invalid credentials in Auth"):
        locate("hf-hub:owner/private")


def test_the_token_is_sent_to_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/private", SMALL, token="hf_secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert locate("hf-hub:owner/private").path.read_bytes() == b"weights"
    for request in hub.requests:
        assert request.token == ("" if request.line.startswith("GET /blobs/") else "hf_secret")


# -------------------------------------------------------------------------------------------------------- offline


def test_offline_says_what_there_is_and_what_to_do(hub: Hub, waits: list[float], offline: Callable[[], None]) -> None:
    hub.add("owner/tiny", SMALL)
    for entry in available_models():
        if entry.name in ("ViT-B-32/laion2b_s34b_b79k", "ViT-L-14/laion2b_s32b_b82k"):
            hub.add(entry.repository, SMALL)
            locate(entry.name)
    hub.cuts = [0] * 20
    with pytest.raises(HubError, match="ChunkedEncodingError" if BEFORE_1 else "RemoteProtocolError"):
        locate(NAME)
    offline()
    hub.requests.clear()
    with pytest.raises(HubError) as caught:
        locate(NAME)
    assert hub.requests == []
    message = str(caught.value)
    assert message.startswith(f"{NAME!r} is not in the cache, or not all of it")
    assert "HF_HUB_OFFLINE" in message  # a person who set it a year ago will look for the cable
    cache = constants.HF_HUB_CACHE
    known = "ViT-B-32/laion2b_s34b_b79k, ViT-L-14/laion2b_s32b_b82k"
    assert f"Of owner/tiny, {cache} has open_clip_config.json; complete there: {known}. Try again" in message
    assert message.endswith("or use model='mini', which is bundled")


def test_offline_with_an_empty_cache(hub: Hub, offline: Callable[[], None]) -> None:
    offline()
    with pytest.raises(
        HubError, match=f"Of owner/tiny, {constants.HF_HUB_CACHE} has nothing; complete there: no model"
    ):
        locate(NAME)


def finish_on_terminal(environment: dict[str, str]) -> tuple[str, bytes]:
    """Return what a process printed, and what its terminal showed."""
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 120))
    process = start(environment, stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # the process has left the terminal
        while chunk := os.read(terminal, 1000):
            shown += chunk
    os.close(terminal)
    return finish(process), shown


def test_the_environment_counts(hub: Hub, tmp_path: Path) -> None:
    hub.add("owner/tiny", LARGE)
    home = {"HF_HOME": str(tmp_path / "another home"), "HF_ENDPOINT": hub.url}
    path, shown = finish_on_terminal(home | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"})
    assert path.startswith(str(tmp_path / "another home"))
    assert shown == b""
    hub.requests.clear()
    assert finish(start(home | {"HF_HUB_OFFLINE": "1"})) == path
    assert hub.requests == []


def test_progress_is_shown_on_a_terminal(hub: Hub) -> None:
    hub.add("owner/tiny", LARGE)
    _, shown = finish_on_terminal({"HF_ENDPOINT": hub.url})
    assert b"open_clip_model.safetensors: 100%" in shown  # and not in a pipe: `finish` sees to that


@pytest.mark.extra  # starts a kernel
def test_a_notebook_shows_progress_and_no_warning(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    shown: list[Any] = []

    class Client(nbclient.NotebookClient):  # type: ignore[misc, name-defined]
        def process_message(self, message: Any, *rest: Any) -> Any:
            content = message["content"]
            shown.extend([content["data"].get("text/html")] if "data" in content else [content.get("text")])
            return super().process_message(message, *rest)

    hub.add("owner/tiny", LARGE)
    hub.hold = threading.Event()
    threading.Thread(target=lambda: hub.holding.wait(60) and (time.sleep(1.5), hub.hold.set())).start()
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    code = f"from zeroshot.registry import locate\nlocate({NAME!r}).path.stat().st_size"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    Client(notebook, timeout=60).execute()
    bar, result = notebook.cells[0].outputs  # and nothing on standard error
    assert result.data["text/plain"] == str(len(LARGE["open_clip_model.safetensors"]))
    assert bar.data == {"text/plain": "", "text/html": ""}
    assert any("open_clip_model.safetensors: 1.05M/1.05M [" in (html or "") for html in shown)
