"""The same random weights for everybody: a checkpoint in open_clip's layout, and what each library makes of it.

The weights are those of the golden files (`golden/weights.py`): each follows from its name and shape, so the checkpoint
can be written where open_clip is not installed, and is what open_clip would save.
"""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from golden.checkpoints import FULL_SIZE, Reference
from torch import Tensor, nn

import zeroshot
from zeroshot.clip import ClipEncoder
from zeroshot.errors import OptionError

from .measure import MissingError

_GOLDEN = {"ViT-B-32": "ViT-B-32-quickgelu"}


def needs(package: str) -> None:
    """Raise `MissingError` if a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingError(f"{package} is not installed")


def checkpoint(name: str, folder: Path) -> Path:
    """Write a checkpoint of full size unless it is there, and return its folder."""
    target = folder / name
    if not (target / "open_clip_config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        reference: Reference = FULL_SIZE[_GOLDEN.get(name, name)]
        reference.write(
            target,
            config=lambda settings: settings["model_cfg"].update(quick_gelu=name.endswith("-quickgelu")),
        )
    return target


def weights(folder: Path) -> Path:
    """Return the weights file of a checkpoint."""
    return folder / "open_clip_model.safetensors"


# ------------------------------------------------------------------------------------------------------------ ours


def ours(model: Path | str, **options: Any) -> ClipEncoder:
    """Load a checkpoint; options that this version does not have raise `MissingError`."""
    known = inspect.signature(zeroshot.load).parameters
    if lacking := [name for name in options if name not in known]:
        raise MissingError(f"zeroshot.load has no option {', '.join(lacking)}")
    try:
        return zeroshot.load(model, device="cpu", **options)
    except OptionError as error:
        raise MissingError(str(error)) from error


def encoder_of_pixels(model: Path | str, pixels: Tensor, **options: Any) -> Callable[[], Tensor]:
    """Return a function that embeds the pixels with our encoder."""
    encoder = ours(model, **options)
    if len(pixels) == 1:  # as in a session in which images come one by one
        for _ in range(2):
            encoder.encode_images(np.zeros((16, 16, 3), np.uint8))
    return lambda: encoder.encode_pixels(pixels)


# ----------------------------------------------------------------------------------------------------------- peers


@lru_cache(maxsize=2)
def open_clip_model(folder: Path) -> Any:
    """Load a checkpoint with open_clip: eager, float32, in eval mode."""
    needs("open_clip")
    import open_clip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_clip.create_model(folder.name, pretrained=str(weights(folder)), device="cpu").eval()


def transformers_folder(folder: Path) -> Path:
    """Write a checkpoint in transformers' layout, for its CLIPModel, unless it is there, and return its folder."""
    needs("transformers")
    if not folder.name.startswith("ViT-B-32"):
        raise MissingError("transformers has no CLIP with a ResNet")
    target = folder.with_name(f"{folder.name}-transformers")
    if not (target / "config.json").exists():
        from transformers import CLIPConfig, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        activation = "quick_gelu" if folder.name.endswith("-quickgelu") else "gelu"
        config = CLIPConfig(
            text_config={"hidden_act": activation, "eos_token_id": 49407}, vision_config={"hidden_act": activation}
        )
        with torch.device("meta"):
            model = CLIPModel(config)
        state = as_transformers(safetensors.torch.load_file(weights(folder)))
        target.mkdir(exist_ok=True)
        lacking = {name for name in model.state_dict() if not name.endswith("position_ids")} ^ state.keys()
        assert not lacking, f"names differ: {sorted(lacking)[:5]}"
        safetensors.torch.save_file(state, target / "model.safetensors", metadata={"format": "pt"})
        CLIPImageProcessorPil().save_pretrained(target)
        config.architectures = ["CLIPModel"]
        config.save_pretrained(target)
    return target


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a CLIP with a ViT from open_clip's names to those of transformers' CLIPModel."""
    towers = {"visual.": "vision_model.", "": "text_model."}
    parts = {
        **{"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"},
        **{"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"},
    }
    others = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final": "text_model.final_layer_norm",
        "logit_scale": "logit_scale",
    }
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tower = "visual." if name.startswith("visual.") else ""
        stem, kind = name.rsplit(".", 1) if "." in name else (name, "")
        if name in ("visual.proj", "text_projection"):
            new = "visual_projection.weight" if tower else "text_projection.weight"
            out[new] = tensor.T.contiguous()
        elif "resblocks." in name:
            layer, part = name.removeprefix(f"{tower}transformer.resblocks.").split(".", 1)
            prefix = f"{towers[tower]}encoder.layers.{layer}."
            if part.startswith("attn.in_proj_"):
                kind = part.removeprefix("attn.in_proj_")
                for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
                    out[f"{prefix}self_attn.{letter}_proj.{kind}"] = piece.clone()
            else:
                part, kind = part.rsplit(".", 1)
                out[f"{prefix}{parts[part]}.{kind}"] = tensor
        else:
            out[others[name] if name in others else f"{others[stem]}.{kind}"] = tensor
    return out


@lru_cache(maxsize=1)
def transformers_model(folder: Path) -> Any:
    """Load a checkpoint with transformers: eager, float32, its own choice of attention."""
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(transformers_folder(folder)).eval()


@lru_cache(maxsize=1)
def openai_model(folder: Path) -> Any:
    """Let OpenAI's package build its network around the weights, in float32."""
    needs("clip")
    if not folder.name.endswith("-quickgelu"):
        raise MissingError("OpenAI's package has QuickGELU alone")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import clip.model
        except ImportError as error:
            raise MissingError(f"OpenAI's package cannot be imported: {error}") from error
    state = safetensors.torch.load_file(weights(folder))
    return clip.model.build_model(state).float().eval()  # which makes half precision of it first, as ever


def openai_exact(folder: Path) -> Any:
    """As `openai_model`, with the weights once more in full precision, which its loader rounds to half."""
    model = openai_model(folder)
    state = safetensors.torch.load_file(weights(folder))
    model.load_state_dict(state, strict=True)
    return model


def features(value: Any) -> Tensor:
    """Return the embeddings in what transformers returns, which differs among its versions."""
    return value if isinstance(value, Tensor) else value.pooler_output


# ----------------------------------------------------------------------------------------------------- onnxruntime


class Tower(nn.Module):
    """The image tower of an encoder of ours, for the export of `mini`."""

    def __init__(self, encoder: ClipEncoder) -> None:
        super().__init__()
        self.tower = encoder.vision

    def forward(self, pixels: Tensor) -> Tensor:
        """As the tower."""
        out: Tensor = self.tower(pixels)
        return out


def exported(network: Callable[[], nn.Module], path: Path, *, size: int, batch: int) -> Path:
    """Export an image tower for a fixed number of images, unless that is done, and return the file."""
    needs("onnxruntime")
    needs("onnx")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part.onnx")
        options: dict[str, Any] = {"input_names": ["pixels"], "output_names": ["embeddings"], "opset_version": 18}
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(
                    network().eval(), (torch.zeros(batch, 3, size, size),), str(temporary), dynamo=True,
                    external_data=False, verbose=False, **options,
                )  # fmt: skip
            except Exception as error:  # exporters fail in many ways, and a failed one is a missing row
                raise MissingError(
                    f"the export failed: {type(error).__name__}: {str(error).splitlines()[0]:.120}"
                ) from error
        temporary.rename(path)
    return path


def quantized(path: Path) -> Path:
    """Quantise the matrices of an exported network for dynamic int8 (signed, by channel), and return the file."""
    target = path.with_suffix(".int8.onnx")
    if not target.exists():
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = path.with_suffix(".prepared.onnx")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantize_dynamic(
                str(prepared), str(target), per_channel=True, weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm"],
            )  # fmt: skip
        prepared.unlink()
    return target


def onnxruntime_session(path: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """Return a function from pixels to embeddings that runs an exported network."""
    needs("onnxruntime")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # They spin within a run, as ever, but not on while the next in turn computes.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: torch.from_numpy(session.run(None, {name: pixels.numpy()})[0])
