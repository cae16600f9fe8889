"""The table of published checkpoints, row by row: against open_clip's own tables, and against itself."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden import make_models
from safetensors import safe_open

import zeroshot
from zeroshot.registry import ModelEntry, available_models

DATA = Path(zeroshot.__file__).parent / "data"
GOLDEN: dict[str, dict[str, Any]] = json.loads(make_models.FILE.read_text(encoding="ascii"))
ENTRIES = {entry.name: entry for entry in available_models()}
OURS = [name for name, entry in ENTRIES.items() if entry.layout == "transformers"]

EXTRAS = {"tokenizers", "timm", "transformers"}
# Who gives which licence: the first part of a name that is found in a row's name or repository; all others give MIT's.
LICENSES = {
    "metaclip": "CC-BY-NC-4.0",
    "nllb": "CC-BY-NC-4.0",
    "MobileCLIP": "apple-amlr",
    "apple/": "apple-amlr",
    "SigLIP": "Apache-2.0",
    "CLIPA": "Apache-2.0",
    "PE-Core": "Apache-2.0",
    "mini": "Apache-2.0",
    "": "MIT",
}
NEEDS = {
    "mini": (),
    "clip-vit": (),
    "clip-resnet": (),
    "coca": (),
    "siglip": ("tokenizers",),
    "clipa": ("tokenizers",),
    "metaclip2": ("tokenizers",),
    "timm": ("timm",),
    "hf-text": ("transformers",),
}
# The side of the input where open_clip's configuration is not what the repository was trained with.
IMAGE_SIZES = {"ViTamin-XL-384/datacomp1b": 384}


# ---------------------------------------------------------------------------------------------- open_clip's own table


def test_the_rows_are_those_of_open_clip_and_ours() -> None:
    assert set(ENTRIES) - set(OURS) - {"mini"} == set(GOLDEN["checkpoints"])
    assert len(GOLDEN["checkpoints"]) == 196


@pytest.mark.parametrize("name", GOLDEN["checkpoints"])
def test_a_row_is_what_open_clip_says(name: str) -> None:
    entry, row = ENTRIES[name], GOLDEN["checkpoints"][name]
    architecture = GOLDEN["architectures"][entry.architecture]
    repository, _, file = row["hf_hub"].rpartition("/")
    assert entry.layout == "open_clip"
    assert entry.repository == repository  # all rows have one; a URL alone could not be loaded
    assert entry.files == ((file,) if file else ())
    assert [*entry.mean] == row["mean"]
    assert [*entry.std] == row["std"]
    assert entry.interpolation == row["interpolation"]
    assert entry.resize_mode == row["resize_mode"]
    assert entry.activation == row["activation"]
    assert entry.image_size == IMAGE_SIZES.get(name, architecture["image_size"])
    assert entry.context == architecture["context"]
    assert entry.tokenizer == architecture["tokenizer"]
    assert entry.parameters_million == round(architecture["parameters"] / 1e6, 2)
    assert entry.family == family(entry.architecture)


def family(name: str) -> str:
    """Return what is told by the towers and the tokenizer that open_clip gives an architecture."""
    architecture = GOLDEN["architectures"][name]
    image_tower, tokenizer = architecture["image_tower"] or "", architecture["tokenizer"]
    if architecture["text_tower"]:
        return "hf-text"  # transformers brings its tokenizer, and SigLIP's image tower is native
    if image_tower:
        return "siglip" if "siglip" in image_tower else "timm"
    if tokenizer != "clip":
        return {"bert-base-uncased": "clipa", "facebook/xlm-v-base": "metaclip2"}[tokenizer]
    return {"RN": "clip-resnet", "co": "coca", "Vi": "clip-vit"}[name[:2]]


def test_the_golden_file_is_what_open_clip_says_today() -> None:
    pytest.importorskip("open_clip")
    if make_models.versions()["open_clip_torch"] != GOLDEN["versions"]["open_clip_torch"]:
        pytest.skip("another version of open_clip")
    architectures = make_models.published_architectures()
    assert make_models.published_checkpoints() == GOLDEN["checkpoints"]
    assert make_models.configurations() == json.loads(make_models.CONFIGURATIONS.read_text())
    for name, row in GOLDEN["architectures"].items():
        assert architectures.pop(name) == {key: value for key, value in row.items() if key != "parameters"}
    assert architectures == {}
    for name in ("RN50", "coca_ViT-B-32", "ViT-B-16-SigLIP2", "roberta-ViT-B-32"):  # all of them take a minute
        assert make_models.count_parameters(name) == GOLDEN["architectures"][name]["parameters"]


# --------------------------------------------------------------------------------------------- the table against itself


def test_names_are_unique_and_in_order() -> None:
    lines = (DATA / "models.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) - 1 == len(ENTRIES)

    def natural(text: str) -> list[int | str]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text.lower())]

    names = [(natural(entry.architecture), natural(entry.tag)) for entry in ENTRIES.values()]
    assert names == sorted(names)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_a_row_is_complete(entry: ModelEntry) -> None:
    assert set(entry.needs) <= EXTRAS
    assert entry.needs == NEEDS[entry.family]
    whose = f"{entry.name} {entry.repository}"
    assert entry.license == next(license for part, license in LICENSES.items() if part in whose)
    assert 128 <= entry.image_size <= 512
    assert entry.interpolation in ("bicubic", "bilinear")
    assert entry.resize_mode in ("shortest", "squash")
    assert 10 < entry.parameters_million < 10_000
    assert entry.imagenet_top1 is None or 0 < entry.imagenet_top1 < 100
    assert entry.revision == "" or re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert re.fullmatch(r"clip|([\w-]+/)?[\w.-]+", entry.tokenizer)
    assert entry.activation in ("gelu", "gelu_tanh", "quick_gelu", None)
    if entry.name != "mini":
        assert re.fullmatch(r"[\w-]+/[\w.-]+", entry.repository)
        assert entry.architecture
        assert entry.tag


def test_a_configuration_decides_only_where_it_is_sure_to_be_there() -> None:
    # transformers writes the activation into every config.json; towers of timm and transformers bring their own.
    undecided = {entry.name for entry in ENTRIES.values() if entry.activation is None}
    assert undecided == {name for name in ENTRIES if name.startswith("TinyCLIP-")} | {
        f"nllb-clip-{size}-siglip/{tag}" for size in ("base", "large") for tag in ("v1", "mrl")
    }


@pytest.mark.parametrize("name", [name for name in ENTRIES if "-quickgelu/" in name])
def test_an_architecture_with_quickgelu_is_another_name_for_the_same_weights(name: str) -> None:
    # Under both names the weights get the activation that they were trained with; open_clip only warns.
    entry = ENTRIES[name]
    assert entry.activation == "quick_gelu"
    plain = ENTRIES[name.replace("-quickgelu/", "/")]
    assert replace(plain, architecture=entry.architecture) == entry


@pytest.mark.parametrize(
    ("name", "activation", "top1"),
    [
        ("ViT-B-32/openai", "quick_gelu", 63.32),  # open_clip's configuration says nothing; OpenAI trained with it
        ("ViT-B-32/laion400m_e32", "quick_gelu", 62.93),  # 60.24 without
        ("RN50/cc12m", "quick_gelu", 36.47),  # 35.91 without
        ("ViT-B-32/laion2b_s34b_b79k", "gelu", 66.56),
        ("ViT-B-32/datacomp_xl_s13b_b90k", "gelu", 69.17),
        ("ViT-L-14-quickgelu/dfn2b", "quick_gelu", 81.41),
        ("roberta-ViT-B-32/laion2b_s12b_b32k", "quick_gelu", 61.71),  # by its configuration; the tag is silent
        ("ViT-SO400M-14-SigLIP-384/webli", "gelu", 83.08),
        ("ViT-L-16-SigLIP2-256/webli", "gelu_tanh", 82.5),
    ],
)
def test_the_activation_is_the_one_that_the_accuracy_was_measured_with(name: str, activation: str, top1: float) -> None:
    assert ENTRIES[name].activation == activation
    assert ENTRIES[name].imagenet_top1 == top1


def test_the_bundled_model_is_what_its_configuration_says() -> None:
    mini = ENTRIES["mini"]
    config = json.loads((DATA / "mini" / "open_clip_config.json").read_text(encoding="utf-8"))
    images, text = config["preprocess_cfg"], config["model_cfg"]["text_cfg"]
    assert (mini.repository, mini.tag, mini.layout) == ("", "", "open_clip")
    assert (mini.image_size, [*mini.mean], [*mini.std]) == (images["size"], images["mean"], images["std"])
    assert (mini.interpolation, mini.resize_mode) == (images["interpolation"], images["resize_mode"])
    assert mini.context == text["context_length"]
    with safe_open(DATA / "mini" / "open_clip_model.safetensors", "numpy") as weights:
        counts = [math.prod(weights.get_slice(name).get_shape()) for name in weights.keys()]  # noqa: SIM118
    assert mini.parameters_million == round(sum(counts) / 1e6, 1)


# -------------------------------------------------------------------------- rows that open_clip's table does not have


def test_our_tags_cannot_be_those_of_open_clip() -> None:
    assert all(name.partition("/")[2].startswith("hf-") for name in OURS)
    assert not any("-" in name.partition("/")[2] for name in GOLDEN["checkpoints"])


@pytest.mark.parametrize("name", [name for name in OURS if ENTRIES[name].architecture in GOLDEN["architectures"]])
def test_an_architecture_is_the_same_network_in_both_layouts(name: str) -> None:
    entry, architecture = ENTRIES[name], GOLDEN["architectures"][ENTRIES[name].architecture]
    assert entry.image_size == architecture["image_size"]
    assert entry.context == architecture["context"]
    # open_clip leaves out a projection of 1152 x 1152 that transformers keeps as an identity.
    projection = 1152 * 1153 if entry.architecture == "ViT-SO400M-16-SigLIP-i18n-256" else 0
    assert entry.parameters_million == round((architecture["parameters"] + projection) / 1e6, 2)
    same = ENTRIES[name.replace("/hf-", "/")]
    assert entry.family == same.family
    assert (entry.mean, entry.std, entry.resize_mode) == (same.mean, same.std, same.resize_mode)
    assert entry.imagenet_top1 == same.imagenet_top1


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith("/hf-openai")])
def test_models_of_openai_are_the_same_in_both_layouts(name: str) -> None:
    entry, same = ENTRIES[name], ENTRIES[name.replace("/hf-", "/")]
    assert replace(same, tag=entry.tag, layout=entry.layout, repository=entry.repository) == entry
    size, patch, side = re.fullmatch(r"ViT-([BL])-(\d+)(-336)?", entry.architecture).groups()  # type: ignore[union-attr]
    letter = {"B": "base", "L": "large"}[size]
    assert entry.repository == f"openai/clip-vit-{letter}-patch{patch}{side or ''}"


@pytest.mark.parametrize("name", [name for name in OURS if "SigLIP" in name])
def test_repositories_of_siglip_say_what_they_hold(name: str) -> None:
    entry = ENTRIES[name]
    found = re.fullmatch(r"google/siglip(2?)-([a-z0-9-]+)-patch(\d+)-(\d+)(-i18n|-multilingual)?", entry.repository)
    assert found is not None
    version, size, patch, side, languages = found.groups()
    letter = {"base": "B", "large": "L", "so400m": "SO400M", "giant-opt": "gopt"}[size]
    stem = f"ViT-{letter}-{patch}-SigLIP{version}{'-i18n' if languages else ''}"
    assert entry.architecture == (stem if side == "224" else f"{stem}-{side}")
    assert entry.image_size == int(side)
    assert entry.tokenizer == entry.repository
    assert entry.activation == "gelu_tanh"
    assert entry.context == (16 if stem == "ViT-SO400M-14-SigLIP" and side == "224" else 64)
    assert (entry.mean, entry.std, entry.resize_mode) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "squash")
    # What transformers' converter of these checkpoints wrote into their preprocessor_config.json.
    assert entry.interpolation == ("bilinear" if version else "bicubic")


@pytest.mark.parametrize("name", [name for name in OURS if name.startswith("TinyCLIP")])
def test_repositories_of_tinyclip_say_what_they_hold(name: str) -> None:
    entry = ENTRIES[name]
    like = ENTRIES["ViT-B-32/openai"]
    fields = ("family", "image_size", "mean", "std", "interpolation", "resize_mode", "tokenizer", "context")
    assert all(getattr(entry, field) == getattr(like, field) for field in fields)
    data = entry.tag.removeprefix("hf-").upper()
    assert entry.repository == f"wkcn/{entry.architecture}-{data}"
    towers = sum(map(int, re.findall(r"(\d+)M", entry.architecture)))
    # Their names leave the token embeddings out: 49408 of the text tower's width.
    width = 256 if "Text-3M" in name else 512
    assert entry.parameters_million == pytest.approx(towers + 49408 * width / 1e6, abs=1)


# ------------------------------------------------------------------------------------------------------ known oddities


def test_what_is_odd_is_noted() -> None:
    # open_clip's table gives e31's repository for e32 too; we repeat it, for want of another.
    one, other = ENTRIES["ViT-B-16-plus-240/laion400m_e31"], ENTRIES["ViT-B-16-plus-240/laion400m_e32"]
    assert one.repository == other.repository
    assert "repository of laion400m_e31" in other.note
    assert one.note == ""
    # 384 is no multiple of the patch of 14 pixels; 378 is.
    whole, cut = ENTRIES["ViT-SO400M-14-SigLIP-378/webli"], ENTRIES["ViT-SO400M-14-SigLIP-384/webli"]
    assert whole.repository == cut.repository
    assert "ViT-SO400M-14-SigLIP-384" in whole.note
    assert "256" in ENTRIES["ViTamin-XL-384/datacomp1b"].note
    # The only weights that are in no file of their layout's usual names.
    unusual = {entry.architecture.partition("-")[0] for entry in ENTRIES.values() if entry.files}
    assert unusual == {"ViTamin"}


def test_only_rows_that_are_known_to_share_their_weights_do() -> None:
    by_repository: dict[str, set[str]] = {}
    for entry in ENTRIES.values():
        by_repository.setdefault(entry.repository, set()).add(entry.name.replace("-quickgelu/", "/"))
    assert [names for names in by_repository.values() if len(names) > 1] == [
        {"ViT-B-16-plus-240/laion400m_e31", "ViT-B-16-plus-240/laion400m_e32"},
        {"ViT-SO400M-14-SigLIP-378/webli", "ViT-SO400M-14-SigLIP-384/webli"},
    ]
