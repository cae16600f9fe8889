"""What loading a checkpoint costs: at most the memory of one copy of it, and none for the tower that is not used.

A process of its own measures, in a child for each case; it is this file, run as a script.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

MEGABYTE = 2**20
# For what is no weights: code that is used for the first time, activations, the tokenizer.
SLACK = 50 * MEGABYTE
WIDTH, LAYERS, HEAD, CONTEXT, PATCH, IMAGE_SIZE, VOCABULARY = 256, 10, 64, 24, 16, 32, 49408

pytestmark = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs what Linux tells of memory"
)


# --------------------------------------------------------------------------------------------- three checkpoints


def make_folders(root: Path) -> None:
    """Write the same random numbers as safetensors and as an archive of torch, and in transformers' layout."""
    import safetensors.torch
    import torch

    from zeroshot.layouts import transformers as layout
    from zeroshot.layouts.base import block_names
    from zeroshot.nets.text import TextConfig
    from zeroshot.nets.transformer import TransformerConfig
    from zeroshot.nets.vit import VisionTransformerConfig

    stack = TransformerConfig(WIDTH, LAYERS, WIDTH // HEAD, 4 * WIDTH, "quick_gelu")
    towers = {
        "visual.": VisionTransformerConfig(stack, (IMAGE_SIZE, IMAGE_SIZE), (PATCH, PATCH), WIDTH).build(),
        "": TextConfig(stack, VOCABULARY, CONTEXT, WIDTH, end_id=VOCABULARY - 1).build(),
    }
    renames = {
        "visual.": block_names("vision_model.encoder.layers.", layout._BLOCK, layout._CLIP_VISION),
        "": block_names("text_model.encoder.layers.", layout._BLOCK, layout._CLIP_TEXT),
    }
    state: dict[str, torch.Tensor] = {}
    other: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for prefix, tower in towers.items():
        for name, parameter in tower.state_dict().items():
            tensor = torch.empty(parameter.shape).uniform_(-0.05, 0.05, generator=generator)
            state[f"{prefix}{name}"] = tensor
            sources = renames[prefix](name)
            parts = (tensor.T if name.endswith("proj") or name == "text_projection" else tensor).chunk(len(sources))
            other |= {source: part.contiguous() for source, part in zip(sources, parts, strict=True)}
    state["logit_scale"] = other["logit_scale"] = torch.tensor(3.0)
    for name, write in {
        "safetensors": lambda path: safetensors.torch.save_file(state, path / "open_clip_model.safetensors"),
        "archive": lambda path: torch.save(state, path / "open_clip_pytorch_model.bin"),
        "transformers": lambda path: safetensors.torch.save_file(other, path / "model.safetensors"),
    }.items():
        (root / name).mkdir()
        write(root / name)
        for file, content in configurations().items():
            (root / name / file).write_text(json.dumps(content), encoding="utf-8")


def configurations() -> dict[str, dict[str, Any]]:
    common = {"width": WIDTH, "layers": LAYERS}
    vision = common | {"image_size": IMAGE_SIZE, "patch_size": PATCH, "head_width": HEAD}
    text = common | {"context_length": CONTEXT, "vocab_size": VOCABULARY, "heads": WIDTH // HEAD}
    statistics = {"mean": [0.5] * 3, "std": [0.5] * 3}
    stack = {"hidden_act": "quick_gelu", "num_attention_heads": WIDTH // HEAD, "layer_norm_eps": 1e-5}
    sides = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return {
        "open_clip_config.json": {
            "model_cfg": {"embed_dim": WIDTH, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text},
            "preprocess_cfg": statistics,
        },
        "config.json": {
            "model_type": "clip",
            "text_config": stack,
            "vision_config": stack | {"image_size": IMAGE_SIZE, "patch_size": PATCH},
        },
        "preprocessor_config.json": {
            "size": {"shortest_edge": IMAGE_SIZE},
            "crop_size": sides,
            "resample": 3,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
    }


# ------------------------------------------------------------------------------------------------------ measuring


def measure(root: Path) -> dict[str, dict[str, int]]:
    """Return what each case took: at the most, and of its own at the end, beyond pages of files."""
    import numpy as np
    import torch

    import zeroshot

    torch.set_num_threads(1)
    picture = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)

    def use(model: Path | str, dtype: Any = "float32") -> Any:
        encoder = zeroshot.load(model, device="cpu", dtype=dtype)
        encoder.encode_images([picture, picture])  # for one alone, and for a few texts, matrices are packed: a copy
        encoder.encode_texts([f"{number} photos of {number} things." for number in range(20)])
        return encoder

    def use_one(model: Path | str) -> Any:
        encoder = zeroshot.load(model, device="cpu")
        encoder.encode_images(picture)
        encoder.encode_images(picture)  # the second that comes alone
        encoder.encode_texts(["a photo of a cat."])
        return encoder

    def classify(model: Path | str) -> Any:
        classifier = zeroshot.Classifier(["cat", "dog"], model=model, device="cpu")
        classifier([picture, picture])
        return classifier

    def memory() -> dict[str, int]:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return {"peak": int(lines["VmHWM"].split()[0]) * 1024, "own": int(lines["RssAnon"].split()[0]) * 1024}

    def cost(case: Callable[[], Any]) -> dict[str, int]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                Path("/proc/self/clear_refs").write_text("5")  # the peak is that from now on
                before = memory()
                kept = case()  # while it is alive
                after = memory()
                os.write(writer, json.dumps({key: after[key] - before[key] for key in after}).encode())
                del kept
            finally:
                os._exit(0)
        os.close(writer)
        answer = os.read(reader, 1000)
        os.close(reader)
        os.waitpid(child, 0)
        costs: dict[str, int] = json.loads(answer)
        return costs

    use("mini")  # brings in the code
    cases: dict[str, Callable[[], Any]] = {}
    for folder in ("safetensors", "archive", "transformers"):
        for dtype in ("float32", "float16"):
            cases[f"{folder} {dtype}"] = partial(use, root / folder, dtype)
    cases["one image"] = partial(use_one, root / "safetensors")
    classify(root / "safetensors")  # its head is cached now
    cases["a cached head"] = partial(classify, root / "safetensors")
    return {name: cost(case) for name, case in cases.items()}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, dict[str, int]]]]:
    """The size of the weights, and what each case took, in bytes."""
    root = tmp_path_factory.mktemp("memory")
    make_folders(root)
    size = (root / "safetensors" / "open_clip_model.safetensors").stat().st_size
    process = subprocess.run(
        [sys.executable, __file__, str(root)],
        env=os.environ
        | {"ZEROSHOT_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
        | {"MALLOC_MMAP_THRESHOLD_": "100000"},  # what is freed is given back at once, and nothing is used twice
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    yield size, json.loads(process.stdout)
    shutil.rmtree(root)  # pytest would keep the gigabytes of three runs


@pytest.mark.parametrize("folder", ["safetensors", "archive", "transformers"])
def test_a_checkpoint_takes_the_memory_of_one_copy(measured: tuple[int, Any], folder: str) -> None:
    size, costs = measured
    assert size > 100 * MEGABYTE
    assert size / 3 < costs[f"{folder} float32"]["peak"] < size + SLACK
    # In another precision the copy comes on top; the pages of the file can be dropped at any time.
    assert costs[f"{folder} float16"]["peak"] < 1.5 * size + SLACK
    assert size / 2 - SLACK / 2 < costs[f"{folder} float16"]["own"] < size / 2 + SLACK


@pytest.mark.parametrize("folder", ["safetensors", "archive"])
def test_weights_that_are_as_they_are_needed_are_not_copied(measured: tuple[int, Any], folder: str) -> None:
    assert measured[1][f"{folder} float32"]["own"] < SLACK / 2


def test_one_image_and_a_few_texts_take_another_copy_of_the_blocks(measured: tuple[int, Any]) -> None:
    size, costs = measured
    blocks = 2 * LAYERS * 12 * WIDTH * WIDTH * 4
    assert blocks - SLACK / 4 < costs["one image"]["own"] < blocks + SLACK * 3 / 4
    assert costs["one image"]["peak"] < size + blocks + SLACK


def test_a_tower_that_is_not_used_is_not_read(measured: tuple[int, Any]) -> None:
    size, costs = measured
    assert costs["a cached head"]["peak"] < size / 3 + SLACK  # the image tower is less than a third


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
