"""Adapters and metrics beside the real libraries: open_clip, clip, timm, sentence-transformers.

They need torchvision, which is no test dependency, so these tests run only where they are installed::

    pip install open_clip_torch openai-clip timm sentence-transformers
    pip install "setuptools<81"  # for openai-clip, which imports pkg_resources
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import zeroshot
from zeroshot.adapters import (
    AdaptedEncoder,
    from_functions,
    from_open_clip,
    from_sentence_transformers,
    from_timm,
    to_open_clip,
)
from zeroshot.errors import InputTypeError, OptionError

Pictures = list[npt.NDArray[np.uint8]]

# The libraries warn of their own doings; what is ours to warn of is tested beside its module.
pytestmark = pytest.mark.filterwarnings("default")

TEXTS = ["a cat", "a photo of the red car.", "Émile's dog, 1,024 of them"]
PHOTOGRAPHS = Path(__file__).parents[2] / "examples" / "images"


def deviation(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - F.normalize(theirs.float(), dim=-1)).abs().max())


def images_of(pictures: Pictures, transform: Callable[[Image.Image], Tensor]) -> Tensor:
    return torch.stack([transform(Image.fromarray(picture)) for picture in pictures])


def perturb(model: torch.nn.Module, *, seed: int = 0) -> None:
    """Make random weights large enough for the inputs to matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "logit" not in name:
                inputs = parameter[0].numel() if parameter.ndim > 1 else 25
                parameter.data.add_(torch.randn(parameter.shape) * inputs**-0.5)


def assert_same_as_at_home(
    encoder: AdaptedEncoder, pictures: Pictures, images: Tensor, texts: Tensor, *, tolerance: float = 1e-5
) -> None:
    assert deviation(encoder.encode_images(pictures, batch_size=4), images) < tolerance
    assert deviation(encoder.encode_texts(TEXTS), texts) < tolerance
    assert deviation(encoder.encode_images(pictures)[:-1], images[1:]) > 1e-3  # images differ
    assert deviation(encoder.encode_texts(TEXTS)[:-1], texts[1:]) > 1e-3


# --------------------------------------------------------------------------------------------- open_clip and clip


def make_open_clip(kind: str = "ViT", *, bias: float | None = None) -> tuple[Any, Any]:
    open_clip = pytest.importorskip("open_clip")
    visions: dict[str, dict[str, Any]] = {
        "ViT": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
        "ResNet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    }
    text: dict[str, Any] = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        build = open_clip.model.CLIP if bias is None else open_clip.model.CustomTextCLIP
        model = build(16, visions[kind], text, init_logit_scale=np.log(37.5), init_logit_bias=bias)
    perturb(model)
    preprocess = open_clip.transform.image_transform(32, is_train=False)
    return model, preprocess


def open_clip_tokens(texts: list[str]) -> Tensor:
    open_clip = pytest.importorskip("open_clip")
    tokens: Tensor = open_clip.tokenizer.SimpleTokenizer(context_length=20)(texts)
    return tokens


@pytest.mark.parametrize(("kind", "bias"), [("ViT", None), ("ResNet", None), ("ViT", -7.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_open_clip(kind: str, bias: float | None, dtype: torch.dtype, pictures: Pictures) -> None:
    open_clip = pytest.importorskip("open_clip")
    model, preprocess = make_open_clip(kind, bias=bias)
    if dtype != torch.float32:
        open_clip.model.convert_weights_to_lp(model, dtype)
    encoder = from_open_clip(model.train(), preprocess, open_clip.tokenizer.SimpleTokenizer(context_length=20))
    assert not model.training
    assert isinstance(encoder, AdaptedEncoder)
    pixels, tokens = images_of(pictures, preprocess), open_clip_tokens(TEXTS)
    with torch.no_grad():
        images, texts = model.encode_image(pixels.to(dtype)), model.encode_text(tokens)
        logits = model.get_logits(pixels.to(dtype), tokens)[0]
    # In half precision sums depend on the size of the batch.
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert_same_as_at_home(encoder, pictures, images, texts, tolerance=tolerance)
    ours = encoder.logit_scale * encoder.encode_images(pictures) @ encoder.encode_texts(TEXTS).T
    ours = ours + (encoder.logit_bias or 0)
    assert float((ours - logits.float()).abs().max()) < tolerance * encoder.logit_scale
    assert encoder.logit_bias == bias


def test_open_clip_notices_a_changed_weight(pictures: Pictures) -> None:
    model, preprocess = make_open_clip()
    encoder = from_open_clip(model, preprocess, open_clip_tokens)
    images, texts = encoder.encode_images(pictures), encoder.encode_texts(TEXTS)
    model.visual.proj.data[3, 3] += 0.5
    assert deviation(encoder.encode_images(pictures), images) > 1e-3
    assert deviation(encoder.encode_texts(TEXTS), texts) == 0
    model.text_projection.data[3, 3] += 0.5
    assert deviation(encoder.encode_texts(TEXTS), texts) > 1e-3


def test_open_clip_with_a_tokenizer_of_transformers(tmp_path: Path) -> None:
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    open_clip = pytest.importorskip("open_clip")

    def make(name: str, words: list[str]) -> Any:
        tokenizer = tokenizers.Tokenizer(
            tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
        )
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        folder = tmp_path / name
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>"
        ).save_pretrained(folder)
        return open_clip.tokenizer.HFTokenizer(str(folder), context_length=20)

    model, preprocess = make_open_clip()
    words = ["<pad>", "<unk>", "a", "cat", "dog"]
    first = from_open_clip(model, preprocess, make("first", words))
    assert first.encode_texts(TEXTS).shape == (3, 16)
    again = from_open_clip(model, preprocess, make("again", words))
    other = from_open_clip(model, preprocess, make("other", ["<pad>", "<unk>", "a", "dog", "cat"]))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_open_clips_transform_for_training_is_refused() -> None:
    open_clip = pytest.importorskip("open_clip")
    model, preprocess = make_open_clip()
    with torch.random.fork_rng():
        for seed in range(20):
            torch.manual_seed(seed)
            with pytest.raises(OptionError, match="other pixels each time"):
                from_open_clip(model, open_clip.transform.image_transform(32, is_train=True), open_clip_tokens)
    with pytest.raises(InputTypeError, match="preprocess makes no pixels"):
        from_open_clip(model, open_clip_tokens, preprocess)


def test_open_clips_fingerprint_is_that_of_equal_objects() -> None:
    model, preprocess = make_open_clip()
    first = from_open_clip(model, preprocess, open_clip_tokens).fingerprint
    assert from_open_clip(*make_open_clip(), open_clip_tokens).fingerprint == first
    quick = copy.deepcopy(model)
    quick.visual.transformer.resblocks[0].mlp.gelu = pytest.importorskip("open_clip").transformer.QuickGELU()
    assert from_open_clip(quick, preprocess, open_clip_tokens).fingerprint != first
    transform = pytest.importorskip("open_clip").transform.image_transform
    for other in (transform(32, is_train=False, resize_mode="squash"), transform(32, is_train=False, mean=(0, 0, 0))):
        assert from_open_clip(model, other, open_clip_tokens).fingerprint != first


def test_openai_clip(pictures: Pictures) -> None:
    clip = pytest.importorskip("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = clip.model.CLIP(16, 32, 2, 64, 8, 77, 49408, 64, 1, 2)
    perturb(model)
    model.float()
    preprocess = clip.clip._transform(32)
    encoder = from_open_clip(model, preprocess, clip.tokenize, name="openai")
    with torch.no_grad():
        logits, _ = model(images_of(pictures, preprocess), clip.tokenize(TEXTS))
        images, texts = model.encode_image(images_of(pictures, preprocess)), model.encode_text(clip.tokenize(TEXTS))
    assert_same_as_at_home(encoder, pictures, images, texts)
    ours = encoder.logit_scale * encoder.encode_images(pictures) @ encoder.encode_texts(TEXTS).T
    assert float((ours - logits).abs().max()) < 1e-5 * encoder.logit_scale
    assert len(encoder.fingerprint) == 64


def test_open_clips_classifier_of_a_native_encoder_is_its_head() -> None:
    open_clip = pytest.importorskip("open_clip")
    encoder = zeroshot.load("mini")
    model, _, tokenizer = to_open_clip(encoder)
    templates = ["a photo of a {}.", "a drawing of a {}.", "{}"]
    labels = ["cat", "dog", "rocket"]
    weights = open_clip.build_zero_shot_classifier(model, tokenizer, labels, templates, num_classes_per_batch=2)
    head = zeroshot.build_head(encoder, labels, prompts=templates, cache=False)
    torch.testing.assert_close(weights.T, head.weight, atol=1e-5, rtol=0)


# --------------------------------------------------------------------------------------------------- timm and others


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_timm(name: str, pictures: Pictures) -> None:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False)
    perturb(model)
    encoder = from_timm(model.train())
    assert not model.training
    assert encoder.name == name
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    bare = copy.deepcopy(model)
    bare.reset_classifier(0)  # timm's own way to the features before the classifier
    with torch.no_grad():
        expected = bare(images_of(pictures, transform))
    # Models whose head has layers before the classifier drop or keep them with it; these have none.
    assert deviation(encoder.encode_images(pictures, batch_size=4), expected) < 1e-5
    assert deviation(encoder.encode_images(pictures)[:-1], expected[1:]) > 1e-3
    assert encoder.encode_pixels(images_of(pictures, transform)).shape == (len(pictures), encoder.dim)
    with pytest.raises(InputTypeError, match=f"'{name}' embeds images only"):
        zeroshot.build_head(encoder, ["cat", "dog"])
    assert from_timm(copy.deepcopy(model)).fingerprint == encoder.fingerprint


def coloured(n: int, *, seed: int) -> tuple[Pictures, list[str]]:
    """Draw red, green and blue pictures under noise."""
    names = [("red", "green", "blue")[index % 3] for index in range(n)]
    colours = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
    noise = np.random.default_rng(seed).normal(0, 40, size=(n, 48, 48, 3))
    return [
        np.uint8(np.clip(np.array(colours[name]) + each, 0, 255)) for name, each in zip(names, noise, strict=True)
    ], names


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_backbones_without_texts_get_probes(library: str) -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if library == "timm":
            encoder: Any = from_timm(pytest.importorskip("timm").create_model("resnet18", pretrained=False))
        else:
            models = pytest.importorskip("torchvision.models")
            transform = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
            network = models.resnet18(weights=None)
            network.fc = torch.nn.Identity()
            network.eval()

            def encode(images: list[Image.Image]) -> Tensor:
                with torch.inference_mode():
                    features: Tensor = network(torch.stack([transform(image) for image in images]))
                return features

            encoder = from_functions(encode, name="resnet18", dim=512, logit_scale=1.0, fingerprint="random")
    pictures, names = coloured(24, seed=0)
    head = zeroshot.fit_probe(encoder, pictures, names, l2=0.01)
    features = encoder.encode_features(pictures).double().numpy()
    theirs = sklearn.LogisticRegression(C=100, max_iter=1000).fit(features, names)
    assert head.labels == tuple(theirs.classes_)
    assert np.abs(head.weight.numpy() - theirs.coef_).max() < 1e-5 * np.abs(theirs.coef_).max()
    fresh, truth = coloured(12, seed=1)
    classifier = zeroshot.Classifier.from_head(head, model=encoder)
    assert [outcome.prediction.label for outcome in classifier.stream(fresh) if outcome.prediction] == truth


@pytest.fixture
def sentences(tmp_path: Path) -> tuple[Any, Any, Any]:
    """Return a tiny CLIP as sentence-transformers loads it, and its model and processor in transformers."""
    library = pytest.importorskip("sentence_transformers")
    import tokenizers
    import transformers

    words = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "photo", "cat", "dog", "of", "the", "red", "car", "."]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = tower | {"vocab_size": len(words), "max_position_embeddings": 20, "eos_token_id": 2, "bos_token_id": 1}
    vision = tower | {"image_size": 32, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text | {"pad_token_id": 0}, vision_config=vision, projection_dim=12)
        )
    perturb(model)
    untyped: Any = transformers
    processor = untyped.CLIPProcessor(
        untyped.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        untyped.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            eos_token="<eos>",
            model_max_length=20,
            model_input_names=["input_ids", "attention_mask"],
        ),
    )
    model.save_pretrained(tmp_path / "clip")
    processor.save_pretrained(tmp_path / "clip")
    modules = [library.sentence_transformer.modules.Transformer(str(tmp_path / "clip"))]
    return library.SentenceTransformer(modules=modules, device="cpu"), model.eval(), processor


def test_sentence_transformers(sentences: tuple[Any, Any, Any], pictures: Pictures) -> None:
    wrapped, model, processor = sentences
    encoder = from_sentence_transformers(wrapped.train(), name="tiny")
    assert not wrapped.training
    opened = [Image.fromarray(picture) for picture in pictures]
    with torch.no_grad():
        pixels = processor.image_processor(images=opened, return_tensors="pt")
        tokens = processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
        images, texts = model.get_image_features(**pixels), model.get_text_features(**tokens)
    assert_same_as_at_home(encoder, pictures, images.pooler_output, texts.pooler_output)
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())
    first = encoder.fingerprint
    assert from_sentence_transformers(copy.deepcopy(wrapped)).fingerprint == first
    wrapped.processor.image_processor.resample = 2
    second = from_sentence_transformers(wrapped).fingerprint
    wrapped.tokenizer.add_tokens(["zebra"])
    assert len({first, second, from_sentence_transformers(wrapped).fingerprint}) == 3
