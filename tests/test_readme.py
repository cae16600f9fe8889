"""The README runs: its Python prints what it shows, its commands too."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

import zeroshot
from zeroshot.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_prints_what_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)  # the README saves a head
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == len(re.findall(r"```python\n", README)) >= 5  # each has its output
    namespace: dict[str, object] = {}
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        assert printed.getvalue() == shown


def test_the_shown_command_prints_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    found = re.search(r"\$ zeroshot (classify examples/.*)\n((?:[^$].*\n)+)", README)
    assert found is not None
    assert main(shlex.split(found.group(1))) == 0
    assert capsys.readouterr().out == found.group(2)


def test_the_counts_of_checkpoints_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"\$ zeroshot (models --summary)\n((?:[^$`].*\n)+)", README)
    assert found is not None
    assert main(shlex.split(found.group(1))) == 0
    assert capsys.readouterr().out == found.group(2)
    assert f"`zeroshot models` lists {len(zeroshot.available_models())} checkpoints" in README


def test_files_that_are_linked_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
