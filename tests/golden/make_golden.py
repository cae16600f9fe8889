"""Compute the golden files with the reference implementations: OpenAI's clip, open_clip and torchvision.

    python -m venv oracle && . oracle/bin/activate
    pip install torch torchvision open_clip_torch openai-clip timm transformers "setuptools<81"
    python tests/golden/make_golden.py

Nothing of `zeroshot` is imported, and nothing is downloaded. Two runs give the same bytes. The files:

tokens.json            digests of the tokens of 100,000 strings (`strings.py`), on which both tokenizers agree;
                       tokens of special strings, on which they do not, as OpenAI's has them
pixels.json            digests of what open_clip resizes and crops the images of `images.py` to
pixels.safetensors     a few of them normalised
open_clip.json         configurations, names, shapes and checksums of random models, filled by `weights.py`
open_clip.safetensors  their tokens, embeddings and logits of a few pictures and texts, and heads
full_size.json.gz      the same for a few architectures of open_clip's own table, in full
full_size.safetensors

The versions that computed them are in each JSON file.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import itertools
import json
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy

FOLDER = Path(__file__).resolve().parent
if not __package__:  # run as a script: the siblings are imported as the tests import them
    sys.path.insert(0, str(FOLDER.parent))

from golden import images, weights  # noqa: E402
from golden.strings import SPECIAL_STRINGS, strings  # noqa: E402

COUNT, CHUNK = 100_000, 500
SHORT_CONTEXTS, SHORT_COUNT = (16, 40), 5_000

PICTURES = ((64, 64), (100, 75), (75, 101), (320, 241))
TEXTS = (
    "a photo of a cat.",
    "a photo of a dog.",
    "A BLURRY photo of “Ångström's café” 😀",
    "",
    "x",
    "x!%y",  # "!" before other punctuation is id 0 of CLIP's vocabulary, which CoCa takes for padding
    "50%!$",
    "the origami airplane, " * 30,  # fills every context
)
NAMES = ("tabby cat", "fire engine", "crème brûlée")

# Each differs from the others where a loader can go wrong: patch, head width, feed-forward width, depth of one block,
# context, activation, epsilon, nesting of the text tower, aspect ratio, bias, and the preprocessing; then the families.
SHORT_TEXT = {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
OWN_TEXT = {**SHORT_TEXT, "vocab_size": 640}  # with a vocabulary of its own
SIGLIP_TEXT = {
    **OWN_TEXT,
    **{"tokenizer_kwargs": {"clean": "canonicalize"}, "norm_kwargs": {"eps": 1e-6}},
    **{"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}
MODELS: dict[str, dict[str, Any]] = {
    "patch32-quickgelu": {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 128, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
    },
    "patch16": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 192, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
    },
    "patch14-head88": {
        "embed_dim": 80,
        "vision_cfg": {
            **{"image_size": 56, "layers": 2, "width": 176, "head_width": 88, "mlp_ratio": 4.9231, "patch_size": 14},
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 96, "heads": 6, "layers": 2},
    },
    "patch8-head80-context32": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {
            **{"image_size": 40, "layers": 1, "width": 160, "head_width": 80, "mlp_ratio": 4.9231, "patch_size": 8},
        },
        "text_cfg": {
            **{"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1, "mlp_ratio": 3.0},
        },
    },
    "nested-text": {
        "embed_dim": 64,
        "custom_text": True,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 8, "layers": 2},
    },
    "nested-text-quickgelu-longest": {
        "embed_dim": 40,
        "quick_gelu": True,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 32},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    },
    "epsilon-squash": {
        "embed_dim": 40,
        "vision_cfg": {
            **{"image_size": 56, "layers": 2, "width": 64, "patch_size": 14, "norm_kwargs": {"eps": 1e-2}},
        },
        "text_cfg": {
            **{"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
            "norm_kwargs": {"eps": 3e-3},
        },
    },
    "not-square": {
        "embed_dim": 40,
        "vision_cfg": {"image_size": [48, 80], "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
    },
    "bias": {
        "embed_dim": 40,
        "init_logit_bias": -10.0,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
    },
    "resnet": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16},
        "text_cfg": SHORT_TEXT,
    },
    "resnet-head32": {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 96, "layers": [2, 1, 2, 1], "width": 8, "head_width": 32},
        "text_cfg": SHORT_TEXT,
    },
    "coca": {
        "embed_dim": 48,
        "custom_text": True,
        "vision_cfg": {
            **{"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "output_tokens": True},
            **{"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 8},
        },
        "text_cfg": {**SHORT_TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**SHORT_TEXT, "layers": 1, "attn_pooler_heads": 4},
    },
    "clipa": {
        "embed_dim": 48,
        "vision_cfg": {
            **{"image_size": 56, "layers": 2, "width": 64, "patch_size": 14, "no_ln_pre": True},
            **{"pool_type": "avg", "final_ln_after_pool": True},
        },
        "text_cfg": {
            **OWN_TEXT,
            **{"hf_tokenizer_name": "hf_bert", "tokenizer_kwargs": {"strip_sep_token": True}},
            **{"pool_type": "last", "no_causal_mask": True},
        },
    },
    "mean-first-tanh": {  # published by nobody, but open_clip's to ask for
        "embed_dim": 48,
        "vision_cfg": {
            **{"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "pos_embed_type": "sin_cos_2d"},
            **{"pool_type": "avg", "act_kwargs": {"approximate": "tanh"}},
        },
        "text_cfg": {**SHORT_TEXT, "pool_type": "first", "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}},
    },
    "metaclip2": {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {**OWN_TEXT, "hf_tokenizer_name": "hf_xlm_roberta", "pool_type": "eos", "eos_id": 2},
    },
    "mobileclip-text": {
        "embed_dim": 48,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {**SHORT_TEXT, "no_causal_mask": True},
    },
    "siglip": {
        "embed_dim": 96,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            **{"image_size": 64, "timm_model_name": "vit_base_patch16_siglip_224", "timm_model_pretrained": False},
            **{"timm_pool": "map", "timm_proj": "none"},
        },
        "text_cfg": {**SIGLIP_TEXT, "context_length": 64, "width": 96, "heads": 12, "hf_tokenizer_name": "hf_t5"},
    },
    "siglip-so400m": {  # its image is no multiple of the patch, and its text tower ends without a projection
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            **{"image_size": 60, "timm_model_name": "vit_so400m_patch14_siglip_384", "timm_model_pretrained": False},
            **{"timm_pool": "map", "timm_proj": "none"},
        },
        "text_cfg": {
            **{**SIGLIP_TEXT, "context_length": 16, "width": 64, "heads": 16, "mlp_ratio": 3.7362},
            **{"hf_tokenizer_name": "hf_t5", "proj_type": "none"},
        },
    },
    "siglip2-gopt": {  # its text tower is narrower than its image tower
        "embed_dim": 128,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            **{"image_size": 64, "timm_model_name": "vit_giantopt_patch16_siglip_256", "timm_model_pretrained": False},
            **{"timm_pool": "map", "timm_proj": "none"},
        },
        "text_cfg": {
            **{**SIGLIP_TEXT, "context_length": 64, "width": 96, "heads": 16, "mlp_ratio": 3.7362},
            **{"hf_tokenizer_name": "hf_gemma", "act_kwargs": {"approximate": "tanh"}},
        },
    },
}
# timm's own networks, made smaller; heads, activation and pooling stay as timm has them under the name.
TIMM: dict[str, dict[str, Any]] = {
    "siglip": {"img_size": 64, "embed_dim": 96, "depth": 2},
    "siglip-so400m": {"img_size": 60, "embed_dim": 64, "depth": 2},
    "siglip2-gopt": {"img_size": 64, "embed_dim": 128, "depth": 2},
}
FULL_SIZE = {  # of open_clip's own table -> layers of both towers, where all of them would be too many
    **dict.fromkeys(("ViT-B-32-quickgelu", "RN50-quickgelu", "ViT-B-16-SigLIP", "ViT-L-14"), None),
    "ViT-H-14": 2,
}
HALF = (0.5, 0.5, 0.5)
SIGLIP = {"image_mean": HALF, "image_std": HALF, "image_resize_mode": "squash"}
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
SETTINGS: dict[str, dict[str, Any]] = {
    "nested-text-quickgelu-longest": {
        **{"image_mean": HALF, "image_std": HALF, "image_interpolation": "bilinear", "image_resize_mode": "longest"},
    },
    "epsilon-squash": {"image_resize_mode": "squash", **IMAGENET},
    "patch16": {"image_interpolation": "bilinear"},
    "resnet-head32": IMAGENET,
    "mobileclip-text": {"image_mean": (0, 0, 0), "image_std": (1, 1, 1), "image_interpolation": "bilinear"},
    **dict.fromkeys(TIMM, SIGLIP),
}


def main() -> None:
    """Write all golden files beside this script."""
    import torch

    torch.set_num_threads(1)  # sums in the same order in every run
    make_tokens()
    make_pixels()
    make_embeddings()
    make_full_size()


def make_tokens() -> None:
    """Tokens of generated strings, by both tokenizers."""
    import clip
    import open_clip

    def tokens_of(texts: list[str], context: int) -> np.ndarray[Any, Any]:
        tokens = clip.tokenize(texts, context_length=context, truncate=True).numpy().astype(np.int64)
        other = open_clip.tokenize(texts, context_length=context).numpy()
        for text, row, other_row in zip(texts, tokens, other, strict=True):
            if (row != other_row).any():
                raise SystemExit(f"OpenAI's tokenizer and open_clip's differ on {text!r}")
        return tokens

    digests: dict[int, list[str]] = {}
    for context, count in ((77, COUNT), *((short, SHORT_COUNT) for short in SHORT_CONTEXTS)):
        texts = strings(count)
        chunks = iter(lambda: list(itertools.islice(texts, CHUNK)), [])  # noqa: B023  (used up within the iteration)
        digests[context] = [hashlib.sha256(tokens_of(chunk, context).tobytes()).hexdigest()[:16] for chunk in chunks]
    special = clip.tokenize(list(SPECIAL_STRINGS), context_length=24, truncate=True)
    content = {
        "versions": _versions("ftfy", "regex", "openai-clip", "open_clip_torch"),
        "chunk": CHUNK,
        "digests": digests,
        "special": [[int(token) for token in row if token] for row in special],
    }
    _write("tokens.json", content)


def make_pixels() -> None:
    """Images after open_clip's resize and crop, and after its normalisation."""
    import clip.clip
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import Compose

    def pixels_of(transform: Any, image: Any) -> np.ndarray[Any, Any]:
        return np.asarray(Compose(transform.transforms[:-2])(image))  # without MaybeToTensor and Normalize

    digests: dict[str, str | None] = {}
    grey: dict[str, str] = {}
    for case in images.cases():
        picture = images.picture(case.width, case.height)
        cfg = PreprocessCfg(
            size=case.target, resize_mode=case.resize_mode, interpolation=case.interpolation, fill_color=images.FILL
        )
        transform = image_transform_v2(cfg, is_train=False)
        try:
            pixels = pixels_of(transform, picture)
        except ValueError:  # it rounds a side to 0 pixels and cannot go on
            digests[str(case)] = None
            continue
        digests[str(case)] = images.digest(pixels)
        if case.target == (97, 97) and min(picture.size) > 30:
            grey[str(case)] = images.digest(pixels_of(transform, picture.convert("L")))
        if case.target == (224, 224) and case.resize_mode == "shortest" and case.interpolation == "bicubic":
            theirs = pixels_of(clip.clip._transform(224), picture)
            if theirs.shape != pixels.shape or (theirs != pixels).any():
                raise SystemExit(f"OpenAI's preprocessing and open_clip's differ on {case}")

    normalized: dict[str, np.ndarray[Any, Any]] = {}
    for name, (mean, std) in images.NORMALIZATIONS.items():
        cfg = PreprocessCfg(size=16, mean=mean, std=std)
        normalized[name] = image_transform_v2(cfg, is_train=False)(images.picture(40, 30)).numpy()
    _save("pixels.safetensors", normalized)
    versions = _versions("torchvision", "pillow", "open_clip_torch", "openai-clip")
    _write("pixels.json", {"versions": versions, "rgb": digests, "grey": grey})


def make_embeddings() -> None:
    """Embeddings of random models that open_clip builds, by open_clip."""
    import open_clip

    content: dict[str, Any] = {"versions": _open_clip_versions(), "models": {}}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, config in MODELS.items():
        with built(name, config, **SETTINGS.get(name, {})) as (model, preprocess, tokenizer):
            content["models"][name] = describe(model, name) | fill(model)
            embeddings = embed(model, preprocess, tokenizer, PICTURES, TEXTS)
            head = open_clip.build_zero_shot_classifier(
                model, tokenizer, NAMES, open_clip.OPENAI_IMAGENET_TEMPLATES, num_classes_per_batch=None
            )
            embeddings["head"] = np.ascontiguousarray(head.numpy().T)  # (n_classes, dim)
        arrays |= {f"{name}/{part}": values for part, values in embeddings.items()}
    content |= {"pictures": PICTURES, "texts": TEXTS, "names": NAMES}
    content["templates"] = len(open_clip.OPENAI_IMAGENET_TEMPLATES)
    _save("open_clip.safetensors", arrays)
    _write("open_clip.json", content)


def make_full_size() -> None:
    """Embeddings of architectures of open_clip's own table, by open_clip."""
    import open_clip

    content: dict[str, Any] = {"versions": _open_clip_versions(), "models": {}}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, layers in FULL_SIZE.items():
        config = open_clip.get_model_config(name)
        for tower in ("vision_cfg", "text_cfg"):
            config[tower] |= {} if layers is None else {"layers": layers}
        if "hf_tokenizer_name" in config["text_cfg"]:
            config["text_cfg"]["hf_tokenizer_name"] = "hf_t5"
        settings = SIGLIP if "SigLIP" in name else {}
        with built(name, config, **settings) as (model, preprocess, tokenizer):
            content["models"][name] = describe(model, name) | fill(model)
            embeddings = embed(model, preprocess, tokenizer, PICTURES[:2], TEXTS[:3])
        arrays |= {f"{name}/{part}": values for part, values in embeddings.items()}
    content |= {"pictures": PICTURES[:2], "texts": TEXTS[:3]}
    _save("full_size.safetensors", arrays)
    _write_compressed("full_size.json.gz", content)


@contextlib.contextmanager
def built(name: str, config: dict[str, Any], **settings: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Let open_clip build a model, its preprocessing and its tokenizer, and know them by the name for a while."""
    import open_clip
    import timm

    smaller = functools.partial(timm.create_model, **TIMM.get(name, {}))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(FOLDER / "tokenizers"):
        Path(folder, f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder)
        with mock.patch.object(timm, "create_model", smaller):
            model, _, preprocess = open_clip.create_model_and_transforms(name, **settings)
        yield model.eval(), preprocess, open_clip.get_tokenizer(name)


def describe(model: Any, name: str) -> dict[str, Any]:
    """Return what open_clip publishes beside the weights."""
    import open_clip
    from open_clip.push_to_hf_hub import save_config_for_hf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "open_clip_config.json")
        save_config_for_hf(model, path, model_config=open_clip.get_model_config(name))
        return {"config": json.loads(path.read_text())}


def fill(model: Any) -> dict[str, Any]:
    """Give a model the weights of `golden.weights`, and return what they are."""
    import torch

    filled = {key: weights.fill(key, tensor.shape) for key, tensor in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(values) for key, values in filled.items()}, strict=True)
    return {
        "tensors": {key: list(values.shape) for key, values in filled.items()},
        "checksum": weights.checksum(filled.values()),
        "logit_scale": model.logit_scale.exp().item(),
        "logit_bias": None if model.logit_bias is None else model.logit_bias.item(),
    }


def embed(
    model: Any, preprocess: Any, tokenizer: Any, pictures: tuple[tuple[int, int], ...], texts: tuple[str, ...]
) -> dict[str, np.ndarray[Any, Any]]:
    import open_clip
    import torch

    pixels = torch.stack([preprocess(images.picture(*size)) for size in pictures])
    tokens = tokenizer(list(texts))
    with torch.no_grad():
        return {
            "tokens": tokens.numpy().astype(np.int32),
            "images": model.encode_image(pixels, normalize=True).numpy(),
            "texts": model.encode_text(tokens, normalize=True).numpy(),
            "logits": open_clip.CLIP.get_logits(model, pixels, tokens)[0].numpy(),  # CoCa has no such method
        }


def _open_clip_versions() -> dict[str, str]:
    return _versions("torch", "open_clip_torch", "timm", "transformers", "tokenizers", "torchvision", "pillow")


def _versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version(), "numpy": np.__version__, **{name: version(name) for name in packages}}


def _save(name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    (FOLDER / name).write_bytes(safetensors.numpy.save(arrays))


def _write_compressed(name: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, separators=(",", ":"))
    (FOLDER / name).write_bytes(gzip.compress(text.encode("ascii"), mtime=0))


def _write(name: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1)
    # A list of numbers takes one line, not one for each number.
    text = re.sub(r"\[[-\d.,\s\[\]]*\]", lambda match: "".join(match.group().split()).replace(",", ", "), text)
    (FOLDER / name).write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
