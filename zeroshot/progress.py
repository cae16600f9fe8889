"""Bars that show how far something is: lines of text in a terminal, HTML in a notebook, nothing elsewhere.

tqdm counts and times. Its own bar for notebooks needs ipywidgets, complains where they are missing, and leaves behind
a widget that a saved notebook cannot show; with ``disable=None`` it never appears, as no notebook calls itself a
terminal.
"""

from __future__ import annotations

import html
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tqdm import tqdm

from zeroshot.display import BLUE

_LINE = "font-size:12px;font-variant-numeric:tabular-nums"
# What is over before that needs no bar in a notebook, where even one that is taken away leaves an empty line.
_NOTEBOOK_DELAY_SECONDS = 0.7


class Progress:
    """A bar, or none, made by `progress_bar`: `update` it, and close it, which takes it away; ``with`` does."""

    def update(self, count: int = 1) -> None:
        """Say that so many more are done."""

    def close(self) -> None:
        """Take the bar away."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Shown(Progress):
    """One of tqdm's bars."""

    def __init__(self, bar: type[tqdm[Any]], options: dict[str, Any]) -> None:
        self._bar = bar(**options)

    def update(self, count: int = 1) -> None:
        self._bar.update(count)

    def close(self) -> None:
        self._bar.close()


class _NotebookBar(tqdm):  # type: ignore[type-arg]  # its type is generic in the stubs alone
    """tqdm's numbers, shown by the means that every notebook has, and taken away at the end."""

    _handle: Any = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, gui=True)  # gui: tqdm itself writes nothing

    def display(self, *_: Any, **__: Any) -> None:
        shown = {"text/plain": "", "text/html": self._as_html()}
        if self._handle is None:
            show: Any = importlib.import_module("IPython.display").display
            self._handle = show(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def clear(self, *_: Any, **__: Any) -> None:
        """Do nothing: there is nothing of it where others write."""

    def close(self) -> None:
        super().close()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.update({"text/plain": "", "text/html": ""}, raw=True)

    def _as_html(self) -> str:
        numbers = dict(self.format_dict)
        if not self.total:
            return f'<div style="{_LINE}">{html.escape(self.format_meter(**numbers))}</div>'
        numbers["prefix"] = f"{self.desc}: " if self.desc else ""
        numbers["bar_format"] = "{desc}{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
        bar = "display:inline-block;width:220px;height:9px;border-radius:4px;background:rgba(128,128,128,.18)"
        inner = f"width:{min(self.n / self.total, 1):.1%};height:9px;border-radius:4px;background:{BLUE}"
        return (
            f'<div style="{_LINE}"><div style="{bar}"><div style="{inner}"></div></div> '
            f"{html.escape(self.format_meter(**numbers))}</div>"
        )


def progress_bar(
    total: int | None = None, *, unit: str, desc: str = "", initial: int = 0, delay: float = 0.0, show: bool = True
) -> Progress:
    """Return a bar that is shown where somebody can see it: standard error is a terminal, or this is a notebook.

    Parameters
    ----------
    total : int, optional
        How many there are, if that is known.
    unit : str
        What is counted.
    desc : str
        What stands before the bar.
    initial : int
        How many are done already.
    delay : float
        Seconds before it appears.
    show : bool
        Whether it may be shown at all.

    Examples
    --------
    >>> with progress_bar(3, unit="image") as bar:
    ...     bar.update(3)
    """
    options = {"total": total, "unit": unit, "desc": desc or None, "initial": initial, "delay": delay, "leave": False}
    if show and is_notebook():
        return _Shown(_NotebookBar, options | {"delay": max(delay, _NOTEBOOK_DELAY_SECONDS)})
    if can_be_seen(show):
        return _Shown(tqdm, options | _size())
    return Progress()  # tqdm would start a thread even for a bar that is not shown


def _size() -> dict[str, int]:
    """Return a size for a terminal that says it has none, as in containers: tqdm would write nothing there."""
    try:
        return {} if os.get_terminal_size(sys.stderr.fileno()).columns else {"ncols": 80, "nrows": 24}
    except (OSError, ValueError):  # it is none that the system knows
        return {}


class _DownloadBar(_NotebookBar):
    """A bar as huggingface_hub makes it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"delay": _NOTEBOOK_DELAY_SECONDS})


def download_bar(download: Callable[..., Any]) -> dict[str, Any]:
    """Return what to hand to a function of huggingface_hub beside its arguments, so that a notebook shows its bar.

    The library's own bar never appears in one. On terminals it is right, and everywhere it is for the library to say
    whether bars are wanted. Releases before 1.2 take no other bar; with those there is none.

    Examples
    --------
    >>> from huggingface_hub import hf_hub_download
    >>> download_bar(hf_hub_download)  # this is no notebook
    {}
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    takes_one = "tqdm_class" in inspect.signature(download).parameters
    return {"tqdm_class": _DownloadBar} if takes_one and is_notebook() and not are_progress_bars_disabled() else {}


def import_tqdm_quietly() -> None:
    """Import the part of tqdm that huggingface_hub uses, before it does.

    In a notebook without ipywidgets it warns that its bars need them, which is true and of no use: ours do not.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        importlib.import_module("tqdm.auto")


def can_be_seen(show: bool = True) -> bool:
    """Whether `progress_bar` shows anything."""
    return show and (is_notebook() or (sys.stderr is not None and sys.stderr.isatty()))


def is_notebook() -> bool:
    """Whether this runs in the kernel of a notebook: Jupyter, VS Code, Colab; IPython in a terminal is none."""
    ipython = sys.modules.get("IPython")  # nothing is imported for the question
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
