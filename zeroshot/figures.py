"""Figures of results with matplotlib, which is an extra; no state of pyplot is touched, and no window opened."""

from __future__ import annotations

import io
import os
import re
import unicodedata
import warnings
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroshot.cache import write_atomically
from zeroshot.display import BLUE, Bar, printable
from zeroshot.errors import MissingExtraError, OptionError

_GREY, _TRACK = "#9a9a9a", "#ececec"
_PIXELS_PER_INCH = 100  # of a figure in a notebook; twice as many would be fine, and four times as large
_ROWS_BESIDE_A_PICTURE = 12  # of more it would stand in the middle, far from the first ones
# Fonts that have what matplotlib's own lacks, in the order in which they are asked; those that are installed.
_MORE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "Yu Gothic",
    "Hiragino Sans",
    "PingFang SC",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Sans Hebrew",
)


class Panel(NamedTuple):
    """A picture and its bar chart: a JPEG, if there is one, and the lines of the chart."""

    jpeg: bytes | None
    rows: Sequence[Bar]


def new_figure(width: float, height: float) -> Any:
    """Return an empty ``matplotlib.figure.Figure`` of this size in inches, which notebooks show as a picture.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("figures need matplotlib: pip install 'zeroshot-clip[plot]'") from error
    figure: Any = Figure(figsize=(width, height), layout="constrained")
    # IPython asks for it: it knows how to show figures of pyplot alone.
    figure._repr_png_ = partial(_as_png, figure)
    return figure


def _as_png(figure: Any) -> bytes:
    file = io.BytesIO()
    _write(figure, file, format="png", dpi=_PIXELS_PER_INCH)
    return file.getvalue()


def _write(figure: Any, file: Any, **options: Any) -> None:
    """Write a figure; letters that no font has are told in one warning, not in one each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(file, **options)
    missing = []
    for one in caught:
        if match := re.match(r"Glyph (\d+) ", str(one.message)):
            missing.append(chr(int(match[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing:
        letters = "".join(dict.fromkeys(missing))
        warnings.warn(
            f"no font that matplotlib finds has the letters {shorten(letters, 40)}: they are drawn as boxes. Install "
            "one that has, such as Noto Sans CJK, or name it in matplotlib.rcParams['font.family']",
            stacklevel=2,
        )


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
    write_atomically(target, lambda temporary: _write(figure, temporary, format=suffix, dpi=150, metadata=metadata))


def plot_panels(panels: Sequence[Panel], *, columns: int = 1) -> Any:
    """Draw one panel, the picture beside its bars, or several in a grid, the bars below.

    Returns
    -------
    matplotlib.figure.Figure
        Its axes are a picture, its bars, the next picture, ….

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    if len(panels) == 1:
        figure = new_figure(7.6, max(1.0 + 0.26 * len(panels[0].rows), 2.4))
        pairs = [figure.subplots(1, 2, width_ratios=(1, 1))]
    else:
        columns = min(columns, len(panels))
        lines = -(-len(panels) // columns)
        bars = max(len(panel.rows) for panel in panels)
        figure = new_figure(2.4 * columns, (1.9 + 0.3 * bars) * lines)
        grid = figure.add_gridspec(lines, columns)
        pairs = []
        for number in range(len(panels)):
            cell = grid[divmod(number, columns)].subgridspec(2, 1, height_ratios=(1.6, 0.1 + 0.27 * bars))
            pairs.append((figure.add_subplot(cell[0]), figure.add_subplot(cell[1])))
    for panel, (above, below) in zip(panels, pairs, strict=True):
        above.axis("off")
        if panel.jpeg is None:
            above.text(0.5, 0.5, "no picture", ha="center", va="center", color="#767676", transform=above.transAxes)
        else:
            above.imshow(np.asarray(Image.open(io.BytesIO(panel.jpeg))))
        if len(panels) == 1:
            above.set_anchor("C" if len(panel.rows) <= _ROWS_BESIDE_A_PICTURE else "N")
            _draw_bars(below, panel.rows)
        else:
            _draw_narrow_bars(below, panel.rows)
            below.set_ylim(2 * bars - 0.4, -0.6)  # as far apart as those of the others
    return figure


def _draw_bars(axes: Any, rows: Sequence[Bar]) -> None:
    """Draw names, bars and shares on a line each, the first one at the top."""
    places = np.arange(len(rows))
    for place, row in zip(places, rows, strict=True):
        if row.share is not None:
            axes.barh(place, 1, height=0.62, color=_TRACK)
            axes.barh(place, row.share, height=0.62, color=BLUE if row.is_chosen else _GREY)
            axes.text(1.03, place, f"{row.share:.1%}", va="center", **_weight(row))
    axes.set_yticks(places, [shorten(row.name, 30) for row in rows], **text_style())
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_narrow_bars(axes: Any, rows: Sequence[Bar]) -> None:
    """Draw names and shares above the bars, for where there is little room."""
    places = 2 * np.arange(len(rows))
    for place, row in zip(places, rows, strict=True):
        axes.text(0, place, shorten(row.name, 22), va="center", fontsize=8, **_weight(row), **text_style())
        if row.share is not None:
            axes.barh(place + 0.8, 1, height=0.32, color=_TRACK)
            axes.barh(place + 0.8, row.share, height=0.32, color=BLUE if row.is_chosen else _GREY)
            axes.text(1, place, f"{row.share:.1%}", va="center", ha="right", fontsize=8, **_weight(row))
    axes.set(xlim=(0, 1), ylim=(2 * len(rows) - 0.4, -0.6))
    axes.axis("off")


def _weight(row: Bar) -> dict[str, str]:
    return {"fontweight": "bold" if row.is_chosen else "normal"}


def plot_matrix(axes: Any, counts: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw a confusion matrix on axes: rows are what images show, columns what they are taken for.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    counts : ndarray of shape (n_classes, n_classes), int64
    names : sequence of str, of length n_classes
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.55 else "#202020"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=8)
    shown = [shorten(name, 22) for name in names]
    places = np.arange(len(names))
    axes.set_xticks(places, shown, rotation=45, ha="right", rotation_mode="anchor", fontsize=8, **text_style())
    axes.set_yticks(places, shown, fontsize=8, **text_style())
    axes.set(xlabel="taken for", ylabel="shows")
    axes.tick_params(length=0)


def shorten(text: str, room: int) -> str:
    """Return text that takes so many cells at most; letters of East Asia take two.

    Examples
    --------
    >>> shorten("construction crane", 10), shorten("猫と犬と鳥", 6)
    ('construct…', '猫と…')
    """
    text = printable(text).strip() or " "
    cells = np.cumsum([2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text])
    if cells[-1] <= room:
        return text
    return text[: int(np.searchsorted(cells, room - 1, side="right"))] + "…"


def text_style() -> dict[str, Any]:
    """How names are written: as they are, "$" too, in fonts that have their letters."""
    return {"parse_math": False, "fontfamily": list(_fonts())}


@lru_cache(maxsize=1)
def _fonts() -> tuple[str, ...]:
    from matplotlib import font_manager, rcParams

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (*rcParams["font.family"], *(name for name in _MORE_FONTS if name in installed))
