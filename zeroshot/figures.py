"""Figures of results with matplotlib, which is an extra; no state of pyplot is touched, and no window opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zeroshot.cache import write_atomically
from zeroshot.errors import MissingExtraError, OptionError


def new_figure(width: float, height: float) -> Any:
    """Return an empty ``matplotlib.figure.Figure`` of this size in inches.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("figures need matplotlib: pip install 'zeroshot-clip[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure, whole or not at all, in the format that its suffix names: ``.png``, ``.svg``, ``.pdf``.

    Raises
    ------
    OptionError
        If matplotlib writes no such format.
    OSError
        If the folder cannot be written.
    """
    target = Path(path)
    suffix = target.suffix[1:].lower()
    formats = figure.canvas.get_supported_filetypes()
    if suffix not in formats:
        raise OptionError(f"the figure's name is {str(target)!r}; expected a suffix such as .png, .svg or .pdf")
    # Without a date the same figure has the same bytes.
    metadata = {"Date": None} if suffix == "svg" else {"CreationDate": None} if suffix == "pdf" else None
    write_atomically(target, lambda temporary: figure.savefig(temporary, format=suffix, dpi=150, metadata=metadata))
