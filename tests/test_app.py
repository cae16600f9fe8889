"""The page without its extra: what says no to whom. With Gradio, and in a browser: `tests/extras/test_app.py`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

from zeroshot import app
from zeroshot.cli import main
from zeroshot.errors import MissingExtraError, OptionError


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


def test_what_needs_a_loop_gets_one_that_is_closed() -> None:
    loop = app._in_a_loop(asyncio.get_running_loop)
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="of the function"):
        app._in_a_loop(lambda: (_ for _ in ()).throw(RuntimeError("of the function")))

    async def notebook() -> bool:
        return app._in_a_loop(asyncio.get_running_loop) is asyncio.get_running_loop()

    assert asyncio.run(notebook())


def test_ports_that_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((app.LOOPBACK, 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(OptionError, match=f"port {taken} of 127.0.0.1 is taken; name another one with --port"):
            app._free_port(app.LOOPBACK, taken)
        monkeypatch.setattr(app, "_FIRST_PORT", taken)
        assert app._free_port("localhost", None) in range(taken + 1, taken + 100)
        monkeypatch.setattr(app, "_PORTS", 1)
        with pytest.raises(OptionError, match=f"each port from {taken} to {taken} of 0.0.0.0 is taken"):
            app._free_port("0.0.0.0", None)
    assert app._free_port(app.LOOPBACK, taken) == taken
    with pytest.raises(OptionError, match="port is 70000; expected one from 1 to 65535"):
        app._free_port(app.LOOPBACK, 70000)
    # An address for documentation (RFC 5737), which is no machine's.
    with pytest.raises(OptionError, match=f"nothing can listen on port {taken} of 192.0.2.1: .*; expected an address"):
        app._free_port("192.0.2.1", taken)
