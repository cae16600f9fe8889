"""The page without its extra: what says no to whom. With Gradio, and in a browser: `tests/extras/test_app.py`."""

from __future__ import annotations

import os
import sys

import pytest

from zeroshot import app
from zeroshot.cli import main
from zeroshot.errors import MissingExtraError


def test_without_gradio_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'zeroshot-clip\[app\]'"):
        app.build_app()
    assert main(["app", "--no-open"]) == 1
    assert capsys.readouterr().err == "zeroshot: the page needs gradio: pip install 'zeroshot-clip[app]'\n"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.0.2", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_which_addresses_are_of_this_machine_alone(host: str, own: bool) -> None:
    assert app.is_loopback(host) is own


def test_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "before")
    before = dict(os.environ)
    with app._environment_kept():
        os.environ.update(KEPT="after", NEW="1")
    assert dict(os.environ) == before
