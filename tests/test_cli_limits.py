"""``zeroshot limits``: a table, a page, figures; and one line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zeroshot.cli import main

SMALL = ["limits", "--model", "mini", "--sets", "left_right", "--per-class", "3"]


def test_a_table_a_page_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, figures = tmp_path / "limits.html", tmp_path / "limits.json"
    assert main([*SMALL, "--html", str(page), "--json", str(figures), "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("model: mini\n\nset             classes  images  accuracy")
    assert "3 pictures a class, seed 3." in out
    assert page.read_text(encoding="utf-8").count("<img") == 6
    data = json.loads(figures.read_text(encoding="utf-8"))
    assert (data["seed"], data["sets"][0]["n_images"], data["sets"][0]["chance"]) == (3, 6, 0.5)


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--markdown"]) == 0
    assert "| Left and right | 2 | 6 |" in capsys.readouterr().out


def test_photographs(capsys: pytest.CaptureFixture[str]) -> None:
    named = ["a cat=examples/images/cat.jpg", "a rocket=examples/images/rocket.jpg"]
    assert main([*SMALL, "--photographs", *named]) == 0
    assert "Left and right, photographs" in capsys.readouterr().out
    assert main([*SMALL, "--photographs", "cat.jpg"]) == 1
    assert "'cat.jpg' is no photograph with a name" in capsys.readouterr().err


def test_an_unknown_set_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["limits", "--model", "mini", "--sets", "time"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("zeroshot: sets are ['time']; expected some of colours, shapes")
    assert captured.err.count("\n") == 1
