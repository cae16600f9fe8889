"""Write what OpenAI's package makes of two small CLIP models: archives like those that it downloads, and embeddings.

    python -m venv oracle && . oracle/bin/activate
    pip install torch torchvision openai-clip "setuptools<81"
    python tests/golden/make_openai.py

Nothing of `zeroshot` is imported, and nothing is downloaded. Two runs give the same bytes. The files:

openai_vit.pt.gz,    traced modules that `torch.jit.save` wrote, in half precision where OpenAI's are; zeros stand for
openai_resnet.pt.gz  their weights, which follow from `weights.py`, so that little is left: `archives.py` fills them in
openai.json          what fills them: type, shape and place of each tensor, and the SHA-256 of the whole
openai.safetensors   pixels and tokens of pictures and texts, their embeddings, and the logits, in single precision

OpenAI's own archives come from an older torch. They have the same records, but for what torch has added since.
The records that trace each line of code back to the files of the machine are left out here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import re
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

FOLDER = Path(__file__).resolve().parent
if not __package__:  # run as a script: the siblings are imported as the tests import them
    sys.path.insert(0, str(FOLDER.parent))

from golden import images, weights  # noqa: E402

# The arguments of OpenAI's CLIP. Heads follow from the widths, one for 64.
TEXT = {"context_length": 77, "vocab_size": 49408, "transformer_layers": 2}
MODELS: dict[str, dict[str, Any]] = {
    "vit": {
        **{"embed_dim": 32, "image_resolution": 32, "vision_layers": 2, "vision_width": 128, "vision_patch_size": 8},
        **{"transformer_width": 128, "transformer_heads": 2, **TEXT},
    },
    "resnet": {
        **{"embed_dim": 48, "image_resolution": 64, "vision_layers": (1, 2, 1, 1), "vision_width": 8},
        **{"vision_patch_size": None, "transformer_width": 64, "transformer_heads": 1, **TEXT},
    },
}
PICTURES = ((100, 75), (75, 101))
TEXTS = ("a photo of a cat.", "a diagram", "A BLURRY photo of “Ångström's café” 😀")

_LIST = re.compile(r"\[([^\[\]{}]|\[[^\[\]{}]*\])*\]")  # of numbers, strings and lists of those


def main() -> None:
    """Write all files beside this script."""
    import torch

    torch.set_num_threads(1)  # sums in the same order in every run
    warnings.simplefilter("ignore")  # torch warns that tracing is of the past, and of every Python number
    content: dict[str, Any] = {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "pillow", "torch", "torchvision", "openai-clip")},
        },
        "pictures": PICTURES,
        "texts": TEXTS,
        "models": {},
    }
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, arguments in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.pt")
            state = _save(path, arguments)
            content["models"][name] = _pack(path, state)
            arrays |= {f"{name}/{part}": values for part, values in _embed(path).items()}
    (FOLDER / "openai.safetensors").write_bytes(safetensors.numpy.save(arrays))
    # A list takes one line, not one for each of its entries.
    text = _LIST.sub(lambda match: json.dumps(json.loads(match.group())), json.dumps(content, indent=1))
    (FOLDER / "openai.json").write_text(text + "\n", encoding="ascii")


def _save(path: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Save a model as OpenAI's are saved, and return its tensors."""
    import clip.model
    import torch

    model = clip.model.CLIP(**arguments).eval()
    clip.model.convert_weights(model)
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(weights.fill(name, tensor.shape)))
    for name in ("context_length", "vocab_size"):
        delattr(model, name)
    resolution = arguments["image_resolution"]
    for name, number in (("input_resolution", resolution), *((name, arguments[name]) for name in list(TEXT)[:2])):
        model.register_buffer(name, torch.tensor(number))

    pictures, texts = torch.zeros(2, 3, resolution, resolution), clip.tokenize(["a", "b"])
    inputs = {"forward": (pictures, texts), "encode_image": pictures, "encode_text": texts}
    with torch.no_grad():
        traced = torch.jit.trace_module(model, inputs, check_trace=False, _store_inputs=False)
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        torch.jit.save(traced, file.name)
        _copy(file.name, path)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def _copy(source: str, target: Path) -> None:
    """Copy an archive, without what tells of this machine, by the class that wrote it."""
    import torch

    reader, writer = torch._C.PyTorchFileReader(source), torch._C.PyTorchFileWriter(str(target))
    for record in reader.get_all_records():
        own = record in ("version", "byteorder") or record.startswith(".")  # the writer adds them itself
        if not own and not record.endswith(".debug_pkl"):
            data = reader.get_record(record)
            writer.write_record(record, data, len(data))
    writer.write_end_of_file()


def _pack(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Store an archive with zeros in place of what `weights.py` knows, and return what fills it again."""
    import torch

    reader = torch._C.PyTorchFileReader(str(path))
    names = [record for record in reader.get_all_records() if record.startswith("data/")]
    places = {reader.get_record(record): reader.get_record_offset(record) for record in names}
    content = path.read_bytes()
    packed = bytearray(content)
    tensors, numbers = {}, {}
    for name, values in state.items():
        if values.dtype.kind == "f":
            offset = places.pop(values.tobytes())  # no two are alike
            packed[offset : offset + values.nbytes] = bytes(values.nbytes)
            tensors[name] = [str(values.dtype), list(values.shape), offset]
        else:
            numbers[name] = int(values)
    (FOLDER / f"openai_{path.name}.gz").write_bytes(gzip.compress(bytes(packed), mtime=0))
    return {"sha256": hashlib.sha256(content).hexdigest(), "tensors": tensors, "numbers": numbers}


def _embed(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Load an archive as OpenAI's package does, on the CPU, and compute all that it computes."""
    import clip
    import torch

    model, preprocess = clip.load(str(path), device="cpu")
    with torch.no_grad():
        pixels = torch.stack([preprocess(images.picture(*size)) for size in PICTURES])
        tokens = clip.tokenize(list(TEXTS))
        image, text = model.encode_image(pixels), model.encode_text(tokens)
        arrays = {
            "pixels": pixels,
            "tokens": tokens.long(),
            "images": image / image.norm(dim=1, keepdim=True),
            "texts": text / text.norm(dim=1, keepdim=True),
            "logits": model(pixels, tokens)[0],
        }
    return {name: tensor.numpy() for name, tensor in arrays.items()}


if __name__ == "__main__":
    main()
