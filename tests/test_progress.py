"""Bars: text in a terminal, HTML in a notebook, nothing elsewhere."""

from __future__ import annotations

import io
import os
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from zeroshot import progress
from zeroshot.progress import can_be_seen, download_bar, is_notebook, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Notebook:
    """Stands for IPython: remembers what is shown, and what it is replaced by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[str] = []
        module = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=self.display))
        monkeypatch.setattr(progress, "_NOTEBOOK_DELAY_SECONDS", 0.0)

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        self.update(data, raw=True)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert data["text/plain"] == ""
        self.shown.append(data["text/html"])


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    return Notebook(monkeypatch)


def use(**options: Any) -> None:
    with progress_bar(10, unit="image", **options) as bar:
        for _ in range(10):
            if hasattr(bar, "_bar"):
                bar._bar.last_print_t = 0  # as if time had gone by
            bar.update()


def test_in_a_terminal_it_is_text_and_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert not is_notebook()
    use(desc="prompts")
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "prompts: 100%" in shown
    assert "10/10" in shown
    assert shown.endswith("\r")  # the cursor is where it was, on an empty line
    assert shown.rsplit("\r", 2)[1].strip() == ""


def test_a_terminal_without_a_size_shows_a_bar_too(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(terminal, "fileno", lambda: 2)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    use(desc="prompts")
    assert "prompts: 100%|" in terminal.getvalue()
    assert max(map(len, terminal.getvalue().split("\r"))) <= 80


@pytest.mark.parametrize("stderr", [io.StringIO(), None])
def test_elsewhere_there_is_none_and_no_thread(
    stderr: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(progress, "tqdm", None)
    before = threading.active_count()
    assert not can_be_seen()
    use()
    assert threading.active_count() == before
    assert stderr is None or stderr.getvalue() == ""


def test_who_wants_none_gets_none(monkeypatch: pytest.MonkeyPatch, notebook: Notebook) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    use(show=False)
    assert notebook.shown == []
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    assert not can_be_seen(False)


def test_in_a_notebook_it_is_html_and_vanishes(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_notebook()
    use(desc="<prompts>")
    *shown, last = notebook.shown
    assert last == ""
    assert len(shown) == 10
    assert "width:10.0%" in shown[0]
    assert "width:100.0%" in shown[-1]
    assert "&lt;prompts&gt;: 10/10 [" in shown[-1]
    assert capsys.readouterr() == ("", "")


def test_what_is_over_at_once_shows_nothing_in_a_notebook(notebook: Notebook) -> None:
    use(delay=60.0)
    assert notebook.shown == []


def test_without_a_total_there_are_numbers(notebook: Notebook) -> None:
    with progress_bar(unit="image", initial=5) as bar:
        bar._bar.last_print_t = 0  # type: ignore[attr-defined]
        bar.update(2)
    assert "7image" in notebook.shown[0]
    assert notebook.shown[-1] == ""


def test_an_error_takes_the_bar_away(notebook: Notebook) -> None:
    def fail() -> None:
        with progress_bar(3, unit="image") as bar:
            bar._bar.last_print_t = 0  # type: ignore[attr-defined]
            bar.update()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert notebook.shown[-1] == ""


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in (None, SimpleNamespace()):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert not is_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not is_notebook()
    assert "IPython" not in sys.modules


# -------------------------------------------------------------------------------------------------------- downloads


def test_huggingface_hub_shows_its_downloads_in_a_notebook_by_our_bar(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    def download(*, tqdm_class: Any = None) -> None:
        with tqdm_class(unit="B", unit_scale=True, total=2000, initial=500, desc="model.safetensors") as bar:
            bar.last_print_t = 0
            bar.update(1000)

    options = download_bar(download)
    download(**options)
    assert "width:75.0%" in notebook.shown[0]
    assert "model.safetensors: 1.50k/2.00k [" in notebook.shown[0]
    assert notebook.shown[-1] == ""
    disable_progress_bars()
    assert download_bar(download) == {}
    enable_progress_bars()
    assert download_bar(download) == options

    def of_older_releases() -> None: ...

    assert download_bar(of_older_releases) == {}
    monkeypatch.delitem(sys.modules, "IPython")
    assert download_bar(download) == {}  # on terminals the library's own bar is right
