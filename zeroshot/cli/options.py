"""Options that several commands have: their help, and what comes of them."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.cli.parser import Templates
from zeroshot.errors import LabelError

if TYPE_CHECKING:
    from typing import TypeAlias

    from zeroshot.cli.parser import Parser

    Commands: TypeAlias = argparse._SubParsersAction[Parser]
    Container: TypeAlias = argparse._ActionsContainer

DTYPES = ("float32", "float16", "bfloat16", "int8", "auto")
BATCH = 32  # images at once
_PROMPTS = "name of a prompt set, a file, or templates with {}"


def add_model(parser: Parser) -> None:
    """Add the group of options by which a model is loaded."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="MODEL",
        help="'mini' (bundled), architecture/tag, hf-hub:owner/name or a path "
        "(default: ViT-B-32/datacomp_xl_s13b_b90k)",
    )
    add_device(group)
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        metavar="DTYPE",
        help="precision of the network: float32, float16, bfloat16, int8 (CPUs only), auto: that of the weights "
        "(default: that of a saved head, else float32)",
    )
    group.add_argument("--approximate", action="store_true", help="decode large JPEGs at a part of their size")
    group.add_argument("--compile", action="store_true", help="let torch.compile translate the image tower (GPUs)")


def add_device(container: Container) -> None:
    """Add ``--device``."""
    container.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, … (default: CUDA if there is one)")


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `zeroshot.load` takes; ``model`` and ``dtype`` if given: the defaults are the library's matter."""
    options = {name: getattr(arguments, name) for name in ("device", "approximate", "compile")}
    return options | {name: value for name in ("model", "dtype") if (value := getattr(arguments, name))}


def encoder_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return ``model`` and ``device``, for functions that take no more; a loaded encoder if others were given."""
    options = model_options(arguments)
    if options.get("dtype", "float32") == "float32" and not options["approximate"] and not options["compile"]:
        return {name: options[name] for name in ("device", "model") if name in options}
    import zeroshot

    return {"model": zeroshot.load(**options)}


def add_prompts(container: Container, help: str = _PROMPTS) -> None:
    """Add ``--prompts``."""
    container.add_argument("--prompts", action=Templates, metavar="PROMPTS", help=help)


def add_labels(container: Container, help: str = "names of the classes") -> None:
    """Add ``--labels`` and ``--labels-file``; what comes of them says `read_labels`."""
    container.add_argument("--labels", nargs="+", metavar="LABEL", help=help)
    add_labels_file(container)


def add_labels_file(container: Container, help: str = "names of the classes, one a line; - for standard input") -> None:
    """Add ``--labels-file``."""
    container.add_argument("--labels-file", type=Path, metavar="FILE", help=help)


def add_batches(container: Container) -> None:
    """Add ``--batch-size`` and ``--workers``."""
    container.add_argument(
        "--batch-size", type=positive, default=BATCH, metavar="N", help=f"images at once (default: {BATCH})"
    )
    container.add_argument("--workers", type=positive, metavar="N", help="threads that decode (default: by processors)")


def add_json(container: Container, *, default: str | None = None) -> None:
    """Add ``--json``; the rule is that of `output.show`."""
    container.add_argument(
        "--json",
        default=default,
        metavar="[FILE.json]",
        type=_json_file,
        help="print one JSON document in place of this text; with FILE.json: write it there, and print this text",
    )


def add_general(parser: Parser, *, json: bool = True, default: str | None = None) -> None:
    """Add ``--json``, if there is no other place for it, and ``--help``."""
    if json:
        add_json(parser.add_argument_group("for programs"), default=default)
    parser.add_help_option()


def read_labels(arguments: argparse.Namespace) -> list[str] | None:
    """Return the names given by ``--labels`` or ``--labels-file``; None if neither was."""
    named: list[str] | None = getattr(arguments, "labels", None)
    path: Path | None = arguments.labels_file
    if named and path:
        raise LabelError("both --labels and --labels-file were given; expected one of them")
    if named and len(named) == 1 and "," in named[0]:
        warnings.warn(f"{named[0]!r} is taken as one label; labels are separated by spaces", stacklevel=2)
    return named if path is None else read_lines(path)


def image_among(labels: Sequence[str] | None) -> str | None:
    """Return the first label that is an image's file, which was meant as an image."""
    from zeroshot.sources import image_extensions

    paths = ((label, Path(label)) for label in labels or () if "." in label)
    return next((label for label, path in paths if path.suffix.lower() in image_extensions() and path.is_file()), None)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text that are not blank; of standard input if it is called ``-``."""
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path} cannot be read: {error}; expected a text file with one name a line") from error
    return [line.strip() for line in lines if line.strip()]


def positive(text: str) -> int:
    """Read a whole number of at least 1; as the ``type`` of an argument."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _json_file(text: str) -> str:
    if text == "-" or text.endswith(".json"):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} does not end in .json; expected such a file, or nothing")
