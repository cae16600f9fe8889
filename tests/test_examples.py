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


# ---------------------------------------------------------------------------------------------- robustness and limits


def _script(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_on_robustness_has_the_table_of_its_script() -> None:
    folder = FOLDER.parent / "robustness"
    page = (folder / "README.md").read_text(encoding="utf-8")
    published = _script("robustness_figure", folder / "figure.py").published
    assert f"```text\n{published('vit_b_32_clip_zeroshot', 'CLIP ViT-B/32, zero-shot')}\n```" in page


def test_the_contact_sheet_has_a_row_for_each_kind() -> None:
    from PIL import Image

    from zeroshot.corruptions import available_corruptions

    folder = FOLDER.parent / "robustness"
    module = _script("robustness_sheet", folder / "sheet.py")
    with Image.open(folder / "corruptions.jpg") as sheet:
        assert sheet.size == (module.NAMES + 6 * module.SIDE, module.SIDE * len(available_corruptions()))


def test_the_page_on_limits_has_all_sets_as_they_are() -> None:
    from zeroshot.limits import LIMITS, photograph_limits

    page = (FOLDER.parent / "limits" / "README.md").read_text(encoding="utf-8")
    command = re.search(r"--photographs ((?:'[^']+' ?)+)", page)
    assert command is not None
    photographs = dict(text.split("=") for text in shlex.split(command[1]))
    for limit in (*LIMITS.values(), *photograph_limits(photographs)):
        name = limit.title + (" (control)" if limit.control else "")
        row = re.search(
            rf"^\| {re.escape(name)} \| {len(limit.labels)} \| {20 * len(limit.labels)} \|.*\|$", page, re.M
        )
        assert row is not None, name
        assert f"| {1 / len(limit.labels):.1%} |" in row[0]
        assert f"{limit.asks} `{limit.prompts[0]}`, … {limit.source}" in page


@pytest.mark.extra
def test_figures_on_limits_are_those_that_are_measured() -> None:
    from zeroshot.limits import find_limits

    page = (FOLDER.parent / "limits" / "README.md").read_text(encoding="utf-8")
    rows = [
        line for line in find_limits("mini", sets=["size", "left_right"]).markdown().splitlines() if "| 40 |" in line
    ]
    assert len(rows) == 2
    assert all(row in page.splitlines() for row in rows)
