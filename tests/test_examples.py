"""The scripts in `examples/` do what their pages say."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "large_jobs"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sizing() -> Any:
    spec = importlib.util.spec_from_file_location("sizing", FOLDER / "sizing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sizing"] = module  # dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_page_is_what_its_command_prints(
    sizing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = re.search(r"sizing\.py (--.*)", PAGE)
    table = re.search(r"\| images.*\n(?:\|.*\n)+", PAGE)
    assert command is not None
    assert table is not None
    monkeypatch.setattr(sys, "argv", ["sizing.py", *shlex.split(command[1])])
    sizing.main()
    assert capsys.readouterr().out.endswith("\n\n" + table[0])


def test_the_slowest_stage_sets_the_rate(sizing: Any) -> None:
    machine = sizing.Machine(decode=200, encode=3000, write=1e5, cores=8, devices=2, price=3.0)
    assert (machine.rate, machine.bottleneck) == (1600, "decode")
    machine = sizing.Machine(decode=200, encode=50, write=1e5, cores=8, devices=0, price=3.0)
    assert (machine.rate, machine.bottleneck) == (pytest.approx(320), "decode + encode")  # 8 / (1/200 + 1/50)
    assert sizing.plan(machine, 320 * 3600 * 10, hours=4) == (3, pytest.approx(10 / 3), pytest.approx(30))
