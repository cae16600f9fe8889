"""The pages run: their Python prints what it shows, their commands too, and what they link is there.

The blocks ``python`` of a page run one after the other; a block ``text`` behind one is what it prints, with ``…`` for
what differs from run to run. Blocks ``python LIBRARY`` need another library: they are compiled here, and
held against that library in `tests/oracle/test_guides_oracle.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import zeroshot
from tests.pages import ROOT, Block, anchors, blocks, links, pages
from zeroshot import cli

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {str(path.relative_to(ROOT)): path for path in pages()}
# About models that are a download or have to be trained: blocks are compiled.
COMPILED = {"prompts/README.md", "examples/contrastive_pretraining/README.md"}
END = "--- the end of a block ---"
RUN = [
    name
    for name in PAGES
    if name not in {"README.md", *COMPILED} and any(block.info == "python" for block in blocks(PAGES[name]))
]


@pytest.mark.parametrize("name", RUN)
def test_python_prints_what_is_shown(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block, shown in python_of(name):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.text, f"{name}:{block.line}", "exec"), namespace)
        assert_prints(printed.getvalue(), shown, f"{name}:{block.line}")


def test_the_readme_prints_what_is_shown_and_warns_of_nothing(tmp_path: Path) -> None:
    # In a process of its own, where warnings are errors from the first import on, and a folder: it saves a head.
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    found = list(python_of("README.md"))
    code = "".join(f"{block.text}\nprint({END!r})\n" for block, _ in found)
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    printed = run_strictly("readme.py", folder=tmp_path).split(f"{END}\n")
    assert printed.pop() == ""
    for text, (block, shown) in zip(printed, found, strict=True):
        assert_prints(text, shown, f"README.md:{block.line}")


def python_of(name: str) -> Iterator[tuple[Block, str]]:
    """Yield the blocks of Python of a page, each with what it is said to print."""
    found = blocks(PAGES[name])
    for block, after in zip(found, [*found[1:], None], strict=True):
        if block.info == "python":
            yield block, after.text if after is not None and after.info == "text" else ""


def assert_prints(printed: str, shown: str, where: str) -> None:
    pattern = ".*".join(map(re.escape, shown.split("…")))
    assert re.fullmatch(pattern, printed), f"{where} printed {printed!r}"


def run_strictly(*words: str, folder: Path) -> str:
    """Run Python where every warning is an error, and return what it prints."""
    command = [sys.executable, "-W", "error", *words]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_all_python_compiles(name: str) -> None:
    for block in blocks(PAGES[name]):
        if block.info.startswith("python"):
            compile(block.text, f"{name}:{block.line}", "exec")


def test_the_first_command_of_the_readme_warns_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run_strictly("-m", "zeroshot", *_shown("classify examples/")[0], folder=tmp_path)


# ------------------------------------------------------------------------------------------------------------ commands


def commands(name: str) -> list[str]:
    """Return the commands ``zeroshot …`` of a page, without the comments behind them."""
    lines = [line for block in blocks(PAGES[name]) if block.info == "console" for line in block.text.splitlines()]
    found = [line.removeprefix("$ ").partition(" # ")[0].strip() for line in lines if line.startswith("$ zeroshot ")]
    return [line for line in found if " … " not in f"{line} "]


@pytest.mark.parametrize("name", [name for name in PAGES if commands(name)])
def test_commands_are_commands(name: str) -> None:
    for command in commands(name):
        words = shlex.split(command.partition(" > ")[0].partition(" | ")[0])[1:]
        arguments = cli._parser().parse_args(words)  # leaves with a message if it does not know them
        assert callable(arguments.run)


def test_a_command_that_is_none_is_seen() -> None:
    with pytest.raises(SystemExit):
        cli._parser().parse_args(["classify", "photos/", "--labells", "cat"])


def _shown(start: str) -> tuple[list[str], str]:
    found = re.search(rf"\$ zeroshot ({start}.*)\n((?:[^$`].*\n)+)", README)
    assert found is not None
    return shlex.split(found.group(1)), found.group(2)


@pytest.mark.parametrize("start", ["classify examples/", "models --summary"])
def test_the_shown_command_prints_what_is_shown(
    start: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    command, shown = _shown(start)
    assert cli.main(command) == 0
    assert capsys.readouterr().out == shown


def test_the_count_of_checkpoints_is_that_of_the_table() -> None:
    assert f"`zeroshot models` lists {len(zeroshot.available_models())} checkpoints" in README


# --------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = PAGES[name]
    for target in links(page):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# From OpenAI's `clip`, line by line\n\n## Same\n\n## Same\n\n[x](#none) `[y](no.md)`\n", encoding="utf-8"
    )
    assert anchors(page) == {"from-openais-clip-line-by-line", "same", "same-1"}
    assert links(page) == ["#none"]


def test_the_picture_is_small() -> None:
    for theme in ("light", "dark"):
        assert (ROOT / f"examples/guides/photographs-{theme}.jpg").stat().st_size < 150_000
