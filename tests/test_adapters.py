"""Adapters: other people's models give here what they give at home, and what does not fit is refused in words.

transformers is compared with live; open_clip, OpenAI's clip, timm and sentence-transformers need torchvision, which is
no test dependency: stand-ins with their interface are here, they themselves in `tests/oracle`.
"""

from __future__ import annotations

import copy
import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import zeroshot
from zeroshot.adapters import (
    AdaptedEncoder,
    AdaptedPixelEncoder,
    from_functions,
    from_open_clip,
    from_sentence_transformers,
    from_timm,
    from_transformers,
    to_open_clip,
)
from zeroshot.encoder import Encoder
from zeroshot.errors import (
    CheckpointError,
    DeviceError,
    ImageError,
    InputTypeError,
    MissingExtraError,
    OptionError,
)

Pictures = list[npt.NDArray[np.uint8]]

TEXTS = ["a cat", "a photo of the red car .", "dog"]
DIM = 12


def deviation(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def assert_encodes_as_the_protocol_says(encoder: AdaptedEncoder, pictures: Pictures) -> None:
    assert isinstance(encoder, Encoder)
    images = encoder.encode_images(pictures)
    assert images.shape == (len(pictures), encoder.dim)
    assert (images.dtype, images.device, images.requires_grad) == (torch.float32, encoder.device, False)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(len(pictures)))
    torch.testing.assert_close(encoder.encode_images(iter(pictures), batch_size=2), images)
    torch.testing.assert_close(encoder.encode_images(pictures[4]), images[4:5])
    assert encoder.encode_images([]).shape == (0, encoder.dim)
    features = encoder.encode_features(pictures, batch_size=2)
    assert features.shape == (len(pictures), encoder.feature_dim)
    assert (features.dtype, features.device, features.requires_grad) == (torch.float32, encoder.device, False)
    torch.testing.assert_close(F.normalize(features, dim=1), images)


# --------------------------------------------------------------------------------------------------- transformers

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "photo", "of", "the", "red", "cat", "dog", "car", "."]
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TOWER | {"image_size": 32, "patch_size": 8, "projection_dim": DIM}
TEXT = TOWER | {
    "vocab_size": len(WORDS),
    "max_position_embeddings": 10,
    "projection_dim": DIM,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EFFICIENTNET = {"image_size": 32, "width_coefficient": 0.1, "depth_coefficient": 0.1}
FAMILIES: dict[str, dict[str, Any]] = {
    "CLIP": {"text_config": TEXT, "vision_config": VISION, "projection_dim": DIM},
    "Siglip": {"text_config": TEXT, "vision_config": VISION},
    "Siglip2": {"text_config": TEXT, "vision_config": VISION | {"num_patches": 16}},
    "Align": {"text_config": TEXT, "vision_config": EFFICIENTNET, "projection_dim": 32, "temperature_init_value": 0.3},
    "Aimv2": {"text_config": TEXT, "vision_config": VISION, "projection_dim": DIM},
}
SIGMOID = ["Siglip", "Siglip2"]


@pytest.fixture(scope="module")
def processors() -> Callable[[str], Any]:
    """Return a function from a family to its processor, with a vocabulary of a dozen words."""
    import tokenizers
    import transformers

    library: Any = transformers  # without types that are of use
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    options = {"pad_token": "<pad>", "unk_token": "<unk>", "model_max_length": 77}
    wrapped = library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **options
    )
    square = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}

    def make(family: str) -> Any:
        if family == "Siglip2":
            images = library.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        else:
            images = library.CLIPImageProcessor(**square)
        return SimpleNamespace(image_processor=images, tokenizer=copy.deepcopy(wrapped))

    return make


def make_model(family: str, *, seed: int = 0) -> Any:
    """Make a tiny model of a family, with weights large enough for the inputs to matter."""
    import transformers

    config = getattr(transformers, f"{family}Config")(**copy.deepcopy(FAMILIES[family]))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = getattr(transformers, f"{family}Model")(config)
        for name, parameter in model.named_parameters():
            if name not in ("logit_scale", "logit_bias", "temperature"):
                inputs = parameter[0].numel() if parameter.ndim > 1 else 25
                parameter.data.add_(torch.randn(parameter.shape) * 2 * inputs**-0.5)
    if family in SIGMOID:
        model.logit_scale.data.fill_(math.log(20.0))
        model.logit_bias.data.fill_(-3.5)
    return model


def at_home(model: Any, processor: Any, family: str, pictures: Pictures, **padding: Any) -> Any:
    """What the model gives in its own library, called as its documentation says."""
    images = processor.image_processor(images=[Image.fromarray(picture) for picture in pictures], return_tensors="pt")
    padding = padding or ({"padding": "max_length", "max_length": 10} if family in SIGMOID else {"padding": True})
    tokens = processor.tokenizer(TEXTS, return_tensors="pt", **padding)
    if family in SIGMOID:
        del tokens["attention_mask"]
    model.eval()
    with torch.no_grad():
        return model(**images, **tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_transformers_gives_what_it_gives_at_home(
    family: str, processors: Callable[[str], Any], pictures: Pictures
) -> None:
    model, processor = make_model(family), processors(family)
    theirs = at_home(model, processor, family, pictures)
    encoder = from_transformers(model.train(), processor)
    assert not model.training
    images, texts = encoder.encode_images(pictures), encoder.encode_texts(TEXTS)
    assert deviation(images, F.normalize(theirs.image_embeds, dim=-1)) < 1e-5
    assert deviation(texts, F.normalize(theirs.text_embeds, dim=-1)) < 1e-5
    logits = encoder.logit_scale * images @ texts.T + (encoder.logit_bias or 0)
    assert deviation(logits, theirs.logits_per_image) < 1e-5 * encoder.logit_scale
    assert (encoder.logit_bias is not None) == (family in SIGMOID)
    spread = [float(theirs.logits_per_image.std(dim=dim).mean()) for dim in (0, 1)]
    assert min(spread) > 0.2  # images differ and texts differ, else agreement would mean little
    assert_encodes_as_the_protocol_says(encoder, pictures)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_changed_weight_is_noticed(family: str, processors: Callable[[str], Any], pictures: Pictures) -> None:
    model, processor = make_model(family), processors(family)
    theirs = at_home(model, processor, family, pictures)
    encoder = from_transformers(model, processor)
    cases: list[tuple[Any, Callable[[], Tensor], Tensor]] = [
        (model.vision_model, lambda: encoder.encode_images(pictures), theirs.image_embeds),
        (model.text_model, lambda: encoder.encode_texts(TEXTS), theirs.text_embeds),
    ]
    for tower, encode, expected in cases:
        weight = next(parameter for parameter in tower.parameters() if parameter.ndim > 1).data
        weight.view(-1)[: weight.numel() // 2] += 0.5
        assert deviation(encode(), F.normalize(expected, dim=-1)) > 1e-3


def test_a_sigmoid_model_is_padded_to_its_full_length_and_not_masked(
    processors: Callable[[str], Any], pictures: Pictures
) -> None:
    model, processor = make_model("Siglip"), processors("Siglip")
    encoder = from_transformers(model, processor)
    right = at_home(model, processor, "Siglip", pictures).text_embeds
    short = at_home(model, processor, "Siglip", pictures, padding=True).text_embeds
    assert deviation(encoder.encode_texts(TEXTS), F.normalize(right, dim=-1)) < 1e-5
    assert deviation(encoder.encode_texts(TEXTS), F.normalize(short, dim=-1)) > 1e-2
    with torch.no_grad():
        tokens = processor.tokenizer(TEXTS, padding="max_length", max_length=10, return_tensors="pt")
        masked = model.get_text_features(**tokens)
    assert deviation(encoder.encode_texts(TEXTS), F.normalize(masked.pooler_output, dim=-1)) > 1e-2


@pytest.mark.parametrize("family", ["CLIP", "Siglip"])
def test_long_texts_are_cut_where_positions_end(family: str, processors: Callable[[str], Any]) -> None:
    encoder = from_transformers(make_model(family), processors(family))
    long = ["cat " * 8, "cat " * 100]
    embeddings = encoder.encode_texts(long)
    torch.testing.assert_close(embeddings[0], embeddings[1])


def test_features_without_an_output_object(processors: Callable[[str], Any], pictures: Pictures) -> None:
    # As transformers before version 5 returned them.
    model, processor = make_model("CLIP"), processors("CLIP")
    before = from_transformers(model, processor)
    images, texts = before.encode_images(pictures), before.encode_texts(TEXTS)
    for method in ("get_image_features", "get_text_features"):
        original = getattr(model, method)
        setattr(model, method, lambda original=original, **inputs: original(**inputs).pooler_output)
    after = from_transformers(model, processor)
    assert torch.equal(after.encode_images(pictures), images)
    assert torch.equal(after.encode_texts(TEXTS), texts)


def test_a_scale_above_the_models_limit_is_held_there(processors: Callable[[str], Any], pictures: Pictures) -> None:
    model, processor = make_model("Aimv2"), processors("Aimv2")
    model.logit_scale.data.fill_(9.0)
    encoder = from_transformers(model, processor)
    assert encoder.logit_scale == pytest.approx(model.config.max_logit_scale)
    logits = encoder.logit_scale * encoder.encode_images(pictures) @ encoder.encode_texts(TEXTS).T
    theirs = at_home(model, processor, "Aimv2", pictures).logits_per_image
    assert deviation(logits, theirs) < 1e-5 * encoder.logit_scale


@pytest.mark.parametrize("family", ["CLIP", "Siglip2"])
def test_the_precision_is_the_models_own(family: str, processors: Callable[[str], Any], pictures: Pictures) -> None:
    model, processor = make_model(family), processors(family)
    exact = from_transformers(model, processor).encode_images(pictures)
    original, seen = model.to(torch.bfloat16).get_image_features, set()

    def record(**inputs: Any) -> Any:
        seen.add(inputs["pixel_values"].dtype)
        return original(**inputs)

    model.get_image_features = record
    rounded = from_transformers(model, processor).encode_images(pictures)
    assert seen == {torch.bfloat16}
    assert rounded.dtype == torch.float32
    assert 1e-4 < deviation(rounded, exact) < 0.1


def test_pixels_can_be_made_apart_from_the_model(processors: Callable[[str], Any], pictures: Pictures) -> None:
    encoder = from_transformers(make_model("CLIP"), processors("CLIP"))
    assert isinstance(encoder, AdaptedPixelEncoder)
    pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
    assert pixels.shape == (len(pictures), 3, 32, 32)
    assert pixels.dtype == np.float32
    for batch in (pixels, torch.from_numpy(pixels)):
        torch.testing.assert_close(encoder.encode_pixels(batch), encoder.encode_images(pictures))
    # SigLIP 2 with any aspect ratio has masks and shapes beside its pixels.
    flexible = from_transformers(make_model("Siglip2"), processors("Siglip2"))
    assert not hasattr(flexible, "encode_pixels")
    assert not hasattr(flexible, "preprocess")


def test_names_of_models_of_transformers(processors: Callable[[str], Any]) -> None:
    model = make_model("CLIP")
    assert from_transformers(model, processors("CLIP")).name == "CLIPModel"
    model.name_or_path = "openai/clip-vit-base-patch32"
    assert from_transformers(model, processors("CLIP")).name == "openai/clip-vit-base-patch32"
    assert repr(from_transformers(model, processors("CLIP"), name="mine")) == (
        f"<AdaptedPixelEncoder 'mine': {DIM}-d on cpu>"
    )


def test_what_is_no_dual_encoder_of_transformers(processors: Callable[[str], Any]) -> None:
    model, processor = make_model("CLIP"), processors("CLIP")
    with pytest.raises(InputTypeError, match="model is of type CLIPVisionModel, which lacks get_image_features"):
        from_transformers(model.vision_model, processor)
    with pytest.raises(InputTypeError, match=r"processor is of type .*, which lacks image_processor"):
        from_transformers(model, processor.tokenizer)
    del model.logit_scale
    with pytest.raises(InputTypeError, match="CLIPModel, which has no logit_scale"):
        from_transformers(model, processor)


def test_fingerprints_of_models_of_transformers(processors: Callable[[str], Any]) -> None:
    def fingerprint(model: Any = None, processor: Any = None) -> str:
        return from_transformers(model or make_model("CLIP"), processor or processors("CLIP"), name="x").fingerprint

    first = fingerprint()
    assert first == fingerprint()  # the same numbers in other objects
    moved = make_model("CLIP")
    moved.config._name_or_path = "another/folder"
    assert fingerprint(moved) == first
    activation, pooling, resize, words = make_model("CLIP"), make_model("CLIP"), processors("CLIP"), processors("CLIP")
    activation.vision_model.encoder.layers[0].mlp.activation_fn = nn.ReLU()
    pooling.config.text_config.eos_token_id = 3
    resize.image_processor.resample = 2
    words.tokenizer.add_tokens(["zebra"])
    others = {
        fingerprint(make_model("CLIP", seed=1)),
        fingerprint(make_model("CLIP").to(torch.float64)),
        fingerprint(activation),
        fingerprint(pooling),
        fingerprint(processor=resize),
        fingerprint(processor=words),
    }
    assert len(others | {first}) == 7


# ------------------------------------------------------------------------------------- stand-ins of other libraries


class Towers(nn.Module):
    """What open_clip's models show: towers as methods, the scale as a logarithm, dropout while training."""

    def __init__(self, *, bias: float | None = None, dim: int = DIM) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.positions = nn.Parameter(torch.randn(1, dim, generator=generator))
        self.conv = nn.Conv2d(3, dim, 4)
        self.table = nn.Embedding(128, dim)
        for parameter in (self.conv.weight, self.table.weight):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
        self.conv.bias.data.zero_()  # type: ignore[union-attr]
        self.activation: nn.Module = nn.GELU()
        self.dropout = nn.Dropout(0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(37.5)))
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def encode_image(self, image: Tensor) -> Tensor:
        """Return features that are not normalised: (n_images, 3, H, W) -> (n_images, dim)."""
        features: Tensor = self.activation(self.conv(image)).mean(dim=(2, 3)) + self.positions.to(image.dtype)
        dropped: Tensor = self.dropout(features)
        return dropped

    def encode_text(self, text: Tensor) -> Tensor:
        """Return features that are not normalised: (n_texts, context) -> (n_texts, dim)."""
        features: Tensor = self.dropout(self.table(text).sum(dim=1))
        return features


def transform(image: Image.Image) -> Tensor:
    assert image.mode == "RGB"
    pixels = np.asarray(image.resize((8, 8)), dtype=np.float32) / 255
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def characters(texts: list[str], context: int = 12) -> Tensor:
    rows = [[ord(character) % 128 for character in text[:context]] for text in texts]
    return torch.tensor([row + [0] * (context - len(row)) for row in rows])


def adapt(model: Any = None, preprocess: Any = transform, tokenizer: Any = characters) -> AdaptedPixelEncoder:
    return from_open_clip(model or Towers(), preprocess, tokenizer)


def test_a_model_of_open_clip_gives_what_it_gives_at_home(pictures: Pictures) -> None:
    model = Towers()
    encoder = adapt(model.train())
    assert not model.training
    pixels = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
    with torch.no_grad():
        images, texts = model.encode_image(pixels), model.encode_text(characters(TEXTS))
    assert deviation(encoder.encode_images(pictures), F.normalize(images, dim=-1)) < 1e-6
    assert deviation(encoder.encode_texts(TEXTS), F.normalize(texts, dim=-1)) < 1e-6
    torch.testing.assert_close(encoder.encode_pixels(pixels), encoder.encode_images(pictures))
    assert (encoder.name, encoder.dim, encoder.logit_bias) == ("Towers", DIM, None)
    assert encoder.logit_scale == pytest.approx(37.5)
    assert adapt(Towers(bias=-10.0)).logit_bias == -10
    assert_encodes_as_the_protocol_says(encoder, pictures)


def test_the_conv_says_what_pixels_are_cast_to(pictures: Pictures) -> None:
    # open_clip's half precision leaves the first parameters in float32.
    model = Towers()
    exact = adapt(model).encode_images(pictures)
    model.conv.to(torch.bfloat16)
    assert model.positions.dtype == torch.float32
    assert 1e-5 < deviation(adapt(model).encode_images(pictures), exact) < 0.1


def test_images_are_upright_and_over_white(tmp_path: Path) -> None:
    encoder = adapt()
    rng = np.random.default_rng(1)
    upright = Image.fromarray(rng.integers(0, 256, size=(20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 8  # turned by a quarter
    upright.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png", exif=exif)
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    embeddings = encoder.encode_images([tmp_path / "turned.png", upright, clear, Image.new("RGB", (20, 20), "white")])
    assert torch.equal(embeddings[0], embeddings[1])
    assert torch.equal(embeddings[2], embeddings[3])
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        encoder.encode_images([upright, tmp_path / "nowhere.png"])


def test_everything_above_the_encoder_works_unchanged(pictures: Pictures) -> None:
    encoder = adapt()
    classifier = zeroshot.Classifier(["cat", "dog"], model=encoder, prompts=["a {}", "the {}"])
    probabilities = classifier.predict_proba(pictures, batch_size=4)
    images, texts = encoder.encode_images(pictures), encoder.encode_texts(["a cat", "the cat", "a dog", "the dog"])
    rows = F.normalize(texts.view(2, 2, -1).mean(dim=1), dim=-1)
    expected = (encoder.logit_scale * images @ rows.T).softmax(dim=1)
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-5)
    assert zeroshot.classify(pictures[0], ["cat", "dog"], model=encoder).label in ("cat", "dog")


def test_saved_heads_fit_the_model_they_are_of(tmp_path: Path) -> None:
    zeroshot.build_head(adapt(), ["cat", "dog"]).save(tmp_path / "head")
    assert zeroshot.Classifier.from_head(tmp_path / "head", model=adapt()).labels == ("cat", "dog")
    other = Towers()
    other.table.weight.data[5, 3] += 1e-3
    with pytest.raises(zeroshot.errors.HeadError, match="another state of"):
        zeroshot.Classifier.from_head(tmp_path / "head", model=adapt(other))


def make_function(scale: float) -> Callable[[Image.Image], Tensor]:
    def function(image: Image.Image) -> Tensor:
        return transform(image) * scale

    return function


class Settings:
    """A transform that shows its settings, as those of torchvision do."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Tensor:
        return transform(image)

    def __repr__(self) -> str:
        return f"Resize(size={self.size}) and {transform}"


def test_fingerprints_of_models_of_open_clip() -> None:
    first = adapt().fingerprint
    assert len(first) == 64
    assert first == adapt(copy.deepcopy(Towers())).fingerprint
    # Where functions lie in memory does not count: another process must find the same head.
    assert adapt(preprocess=make_function(1)).fingerprint == adapt(preprocess=make_function(1)).fingerprint
    encoder = adapt()
    assert encoder.fingerprint is encoder.fingerprint

    changed, renamed, precise, relu = Towers(), Towers(), Towers(), Towers()
    changed.table.weight.data[7, 7] += 1e-6
    renamed._parameters = {("offsets" if key == "positions" else key): p for key, p in renamed._parameters.items()}
    relu.activation = nn.ReLU()
    others = [
        adapt(changed),
        adapt(renamed),
        adapt(precise.to(torch.bfloat16)),
        adapt(relu),
        adapt(Towers(bias=0.0)),
        adapt(preprocess=Settings(224)),
        adapt(preprocess=Settings(336)),
        adapt(tokenizer=lambda texts: characters(texts, context=13)),
        adapt(tokenizer=lambda texts: characters([text.lower() for text in texts])),
    ]
    assert len({first, *(encoder.fingerprint for encoder in others)}) == 1 + len(others)


def test_fingerprints_see_the_whole_vocabulary() -> None:
    def make(words: dict[str, int]) -> AdaptedPixelEncoder:
        class Tokenizer:
            tokenizer = SimpleNamespace(get_vocab=lambda: words)  # as open_clip wraps those of transformers

            def __call__(self, texts: list[str]) -> Tensor:
                return characters(texts)

        return adapt(tokenizer=Tokenizer())

    assert make({"cat": 1, "dog": 2}).fingerprint == make({"dog": 2, "cat": 1}).fingerprint
    assert make({"cat": 1, "dog": 2}).fingerprint != make({"cat": 2, "dog": 1}).fingerprint


def test_the_transform_for_training_is_refused() -> None:
    rng = np.random.default_rng(0)

    def crop(image: Image.Image) -> Tensor:
        left = int(rng.integers(0, 16))
        return transform(image.crop((left, 0, left + 32, 32)))

    with pytest.raises(OptionError, match=r"other pixels each time.*the third result of open_clip"):
        adapt(preprocess=crop)


@pytest.mark.parametrize(
    ("preprocess", "error", "message"),
    [
        (lambda image: np.asarray(image).transpose(2, 0, 1), OptionError, r"\(3, 48, 64\) and \(3, 64, 48\)"),
        (lambda image: np.zeros((8, 8)), OptionError, r"\(8, 8\)"),
        (characters, InputTypeError, "preprocess makes no pixels"),
        (None, InputTypeError, "preprocess makes no pixels"),
    ],
    ids=["any size", "grey", "the tokenizer", "None"],
)
def test_what_is_no_preprocessing(preprocess: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        adapt(preprocess=preprocess)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (transform, "tokenizer makes no tokens"),
        (None, "tokenizer makes no tokens"),
        (lambda texts: {"input_ids": [[1, 2]]}, "tokenizer returns dict"),
        (lambda texts: torch.zeros(3), "tokenizer returns Tensor"),
    ],
    ids=["the transform", "None", "of transformers", "one row"],
)
def test_what_is_no_tokenizer(tokenizer: Any, message: str) -> None:
    with pytest.raises(InputTypeError, match=message):
        adapt(tokenizer=tokenizer)


@pytest.mark.parametrize("model", [object(), nn.Linear(2, 2), "ViT-B-32", (Towers(), transform)])
def test_what_is_no_model_of_open_clip(model: Any) -> None:
    with pytest.raises(
        InputTypeError, match=rf"{type(model).__name__}, which lacks encode_image.*a model of open_clip"
    ):
        adapt(model)


class Sentences(nn.Module):
    """What sentence-transformers' models show: one method for images and texts."""

    device = "cpu"
    tokenizer = None

    def __init__(self) -> None:
        super().__init__()
        self.towers = Towers(bias=-2.0)

    def encode(self, inputs: list[Any], *, batch_size: int, convert_to_tensor: bool, show_progress_bar: bool) -> Tensor:
        """Embed images or texts."""
        assert batch_size == len(inputs)
        assert convert_to_tensor
        assert not show_progress_bar
        if isinstance(inputs[0], str):
            return self.towers.encode_text(characters(inputs))
        assert all(image.mode == "RGB" for image in inputs)
        return self.towers.encode_image(torch.stack([transform(image) for image in inputs]))


def test_a_model_of_sentence_transformers(pictures: Pictures) -> None:
    model = Sentences().train()
    encoder = from_sentence_transformers(model, name="clip-ViT-B-32")
    assert not model.training
    expected = adapt(model.towers)
    torch.testing.assert_close(encoder.encode_images(pictures), expected.encode_images(pictures))
    torch.testing.assert_close(encoder.encode_texts(TEXTS), expected.encode_texts(TEXTS))
    assert encoder.logit_scale == pytest.approx(37.5)
    assert (encoder.name, encoder.logit_bias) == ("clip-ViT-B-32", -2)
    assert from_sentence_transformers(model, logit_scale=20).logit_scale == 20
    assert_encodes_as_the_protocol_says(encoder, pictures)
    assert encoder.fingerprint == from_sentence_transformers(copy.deepcopy(model)).fingerprint
    model.towers.table.weight.data[3, 3] += 1
    assert encoder.fingerprint != from_sentence_transformers(model).fingerprint


def test_a_model_of_sentence_transformers_without_a_scale() -> None:
    model = Sentences()
    del model.towers.logit_scale
    with pytest.raises(OptionError, match="holds no logit scale; give logit_scale="):
        from_sentence_transformers(model)
    assert from_sentence_transformers(model, logit_scale=100).logit_scale == 100
    with pytest.raises(InputTypeError, match="str, which lacks modules, device; expected a SentenceTransformer"):
        from_sentence_transformers("clip-ViT-B-32")


class Backbone(nn.Module):
    """What timm's models show."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, DIM, 4)
        self.norm = nn.BatchNorm2d(DIM)
        self.classifier = nn.Linear(DIM, 1000)
        self.pretrained_cfg = {"architecture": "tiny_backbone", "input_size": (3, 8, 8)}

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Return the feature map."""
        features: Tensor = self.norm(self.stem(pixels))
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool, and classify if wanted."""
        pooled = features.mean(dim=(2, 3))
        logits: Tensor = pooled if pre_logits else self.classifier(pooled)
        return logits


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the two functions of timm that are used."""
    data = ModuleType("timm.data")
    data.resolve_data_config = lambda args, model: {"input_size": model.pretrained_cfg["input_size"]}  # type: ignore[attr-defined]

    def create_transform(input_size: tuple[int, ...], is_training: bool) -> Settings:
        assert not is_training
        return Settings(input_size[1])

    data.create_transform = create_transform  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", ModuleType("timm"))
    monkeypatch.setitem(sys.modules, "timm.data", data)


@pytest.mark.usefixtures("timm")
def test_a_backbone_of_timm_embeds_images_only(pictures: Pictures) -> None:
    model = Backbone().train()
    encoder = from_timm(model)
    assert not model.training
    pixels = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
    with torch.no_grad():
        features = model.forward_features(pixels).mean(dim=(2, 3))
    assert deviation(encoder.encode_images(pictures), F.normalize(features, dim=-1)) < 1e-6
    assert (encoder.name, encoder.dim, encoder.logit_scale) == ("tiny_backbone", DIM, 1)
    assert_encodes_as_the_protocol_says(encoder, pictures)
    message = "'tiny_backbone' embeds images only: it has no text tower, and serves for probes"
    with pytest.raises(InputTypeError, match=message):
        encoder.encode_texts(["a cat"])
    with pytest.raises(InputTypeError, match=message):
        zeroshot.build_head(encoder, ["cat", "dog"])
    other = copy.deepcopy(model)
    other.pretrained_cfg["input_size"] = (3, 16, 16)
    assert from_timm(model).fingerprint == encoder.fingerprint != from_timm(other).fingerprint


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'zeroshot-clip\[timm\]'"):
        from_timm(Backbone())
    with pytest.raises(InputTypeError, match=r"str, which lacks forward_features.*expected a model of timm"):
        from_timm("resnet50")


# -------------------------------------------------------------------------------------------------------- functions


def mean_colours(images: list[Image.Image]) -> npt.NDArray[Any]:
    return np.stack([np.asarray(image).mean(axis=(0, 1)) for image in images])


def lengths(texts: list[str]) -> npt.NDArray[Any]:
    return np.array([[len(text), 1, text.count("a")] for text in texts])


def adapt_functions(images: Any = mean_colours, texts: Any = lengths, **options: Any) -> AdaptedEncoder:
    settings: dict[str, Any] = {"name": "functions", "dim": 3, "logit_scale": 12.5}
    return from_functions(images, texts, **(settings | options))


def test_any_pair_of_functions_is_an_encoder(pictures: Pictures) -> None:
    encoder = adapt_functions(logit_bias=np.float32(-1.5))
    assert_encodes_as_the_protocol_says(encoder, pictures)
    expected = F.normalize(torch.from_numpy(lengths(TEXTS)).float(), dim=-1)
    assert deviation(encoder.encode_texts(TEXTS), expected) < 1e-6
    assert torch.equal(encoder.encode_texts("a cat"), encoder.encode_texts(["a cat"]))
    assert (encoder.name, encoder.dim, encoder.logit_scale, encoder.logit_bias) == ("functions", 3, 12.5, -1.5)
    assert zeroshot.classify(pictures, ["cat", "aardvark"], model=encoder)[0].label in ("cat", "aardvark")


def test_a_model_that_gives_more_than_one_vector() -> None:
    class Patches(Towers):
        def encode_text(self, text: Tensor) -> Tensor:
            patches: Tensor = self.table(text)
            return patches

    with pytest.raises(CheckpointError, match=r"shape \(1, 12, 12\) for one input; expected \(1, dim\)"):
        adapt(Patches())


def test_functions_without_a_fingerprint_never_share_a_head() -> None:
    first, second = adapt_functions(), adapt_functions(texts=lambda texts: lengths(texts)[:, ::-1].copy())
    assert first.fingerprint == first.fingerprint != second.fingerprint
    heads = [zeroshot.build_head(encoder, ["cat", "aardvark"]) for encoder in (first, second)]
    assert not torch.equal(heads[0].weight, heads[1].weight)
    assert adapt_functions(fingerprint="mine/1").fingerprint == "mine/1"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dim": 0}, OptionError, "dim is 0"),
        ({"dim": 2.5}, OptionError, "dim is 2.5"),
        ({"logit_scale": 0}, OptionError, "logit_scale is 0; expected a positive number"),
        ({"logit_scale": math.nan}, OptionError, "logit_scale is nan"),
        ({"logit_scale": "100"}, OptionError, "logit_scale is '100'"),
        ({"logit_scale": True}, OptionError, "logit_scale is True"),
        ({"logit_bias": math.inf}, OptionError, "logit_bias is inf; expected a finite number"),
        ({"device": "gpu"}, DeviceError, "device is 'gpu'"),
        ({"images": "encode"}, InputTypeError, "encode_images is of type str; expected a callable"),
        ({"texts": 3}, InputTypeError, "encode_texts is of type int; expected a callable"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        adapt_functions(**options)


# ---------------------------------------------------------------------------------------------------- the other way


def test_a_native_encoder_is_a_model_of_open_clip(clip: Any, pictures: Pictures) -> None:
    model, preprocess, tokenizer = to_open_clip(clip)
    assert not model.training
    pixels = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
    tokens = tokenizer(TEXTS)
    assert (pixels.dtype, tokens.dtype, tokens.shape) == (torch.float32, torch.int64, (len(TEXTS), clip.context))
    assert torch.equal(tokenizer("a cat"), tokenizer(["a cat"]))
    images, texts, scale = model(pixels, tokens)
    torch.testing.assert_close(images, clip.encode_images(pictures))
    torch.testing.assert_close(texts, clip.encode_texts(TEXTS))
    assert scale.item() == pytest.approx(clip.logit_scale)
    assert model.logit_scale.exp().item() == pytest.approx(clip.logit_scale)
    for normalize in (True, False):
        assert torch.equal(model.encode_image(pixels, normalize=normalize), images)
        assert torch.equal(model.encode_text(tokens, normalize=normalize), texts)
    assert model(text=tokens)[0] is None
    assert model(image=pixels)[1] is None


def test_there_and_back(clip: Any, pictures: Pictures) -> None:
    encoder = from_open_clip(*to_open_clip(clip))
    torch.testing.assert_close(encoder.encode_images(pictures), clip.encode_images(pictures))
    torch.testing.assert_close(encoder.encode_texts(TEXTS), clip.encode_texts(TEXTS))
    assert encoder.logit_scale == pytest.approx(clip.logit_scale)


def test_a_bias_is_the_fourth_of_the_results(clip: Any) -> None:
    biased = copy.copy(clip)
    biased.logit_bias = -12.5
    model, _, tokenizer = to_open_clip(biased)
    assert [float(value.detach()) for value in model(text=tokenizer(TEXTS))[2:]] == pytest.approx([37.5, -12.5])
    assert from_open_clip(*to_open_clip(biased)).logit_bias == -12.5


def test_probes_can_be_trained_on_the_features(clip: Any, pictures: Pictures) -> None:
    model, preprocess, _ = to_open_clip(clip)
    probe = nn.Linear(clip.dim, 2)
    features = model.encode_image(torch.stack([preprocess(picture) for picture in pictures]))
    probe(features).sum().backward()
    assert probe.weight.grad is not None


def test_the_transform_goes_to_worker_processes(clip: Any, pictures: Pictures) -> None:
    _, preprocess, _ = to_open_clip(clip)
    again = pickle.loads(pickle.dumps(preprocess))
    assert torch.equal(again(pictures[0]), preprocess(pictures[0]))


@pytest.mark.cuda
def test_embeddings_stay_where_the_model_is(
    open_clip_folder: Path, processors: Callable[[str], Any], pictures: Pictures
) -> None:
    model, processor = make_model("CLIP"), processors("CLIP")
    for encoder in (from_transformers(model, processor), adapt()):
        expected = encoder.encode_images(pictures), encoder.encode_texts(TEXTS)
        moved = from_transformers(model.cuda(), processor) if encoder.name == "CLIPModel" else adapt(Towers().cuda())
        assert moved.device.type == "cuda"
        for ours, theirs in zip((moved.encode_images(pictures), moved.encode_texts(TEXTS)), expected, strict=True):
            assert ours.device.type == "cuda"
            assert deviation(ours.cpu(), theirs) < 1e-2
    native, preprocess, tokenizer = to_open_clip(zeroshot.load(open_clip_folder, device="cuda"))
    for device in ("cpu", "cuda"):
        assert native.encode_image(preprocess(pictures[0])[None].to(device)).device.type == device
        assert native.encode_text(tokenizer(TEXTS).to(device)).device.type == device


def test_only_native_encoders_have_tokens(fake: Any) -> None:
    with pytest.raises(InputTypeError, match=r"FakeEncoder, which lacks preprocess, tokenize.*zeroshot.load"):
        to_open_clip(fake)
