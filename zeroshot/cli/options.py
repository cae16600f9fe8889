"""Options that several commands have: their help, and what comes of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.errors import LabelError

if TYPE_CHECKING:
    from typing import TypeAlias

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``--model`` and ``--device``."""
    parser.add_argument("--model", metavar="MODEL", help="'mini', architecture/tag, hf-hub:owner/name or a path")
    parser.add_argument("--device", metavar="DEVICE", help="'cpu', 'cuda', 'cuda:1', … (default: CUDA if there is one)")


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return ``device``, and ``model`` if one was named: which one is the default is the library's matter."""
    return {"device": arguments.device} | ({"model": arguments.model} if arguments.model else {})


def add_labels_file(parser: argparse.ArgumentParser, help: str = "names of the classes, one a line") -> None:
    """Add ``--labels-file``."""
    parser.add_argument("--labels-file", type=Path, metavar="FILE", help=help)


def read_labels(arguments: argparse.Namespace) -> list[str] | None:
    """Return the names given by ``--labels`` or ``--labels-file``; None if neither was."""
    named: list[str] | None = getattr(arguments, "labels", None)
    path: Path | None = arguments.labels_file
    if named and path:
        raise LabelError("both --labels and --labels-file were given; expected one of them")
    if path is None:
        return named
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
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
