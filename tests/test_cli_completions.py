"""Completions: what the program answers, and real shells that ask it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zeroshot
from zeroshot.cli import _parser, main
from zeroshot.cli.completions import SHELLS, complete
from zeroshot.corruptions import available_corruptions
from zeroshot.drawings import LIMITS


def words_for(*words: str) -> list[str]:
    return [value for value, _ in complete(_parser(), words)[0]]


def takes_files(*words: str) -> bool:
    return complete(_parser(), words)[1]


def test_commands_and_what_they_do() -> None:
    found = dict(complete(_parser(), [""])[0])
    assert {"classify", "embed", "evaluate", "head", "completions"} <= set(found)
    assert found["embed"].startswith("embed images once")
    assert words_for("cl") == ["classify"]
    assert words_for("prompts", "") == ["list", "show", "lint", "compare", "gallery"]
    assert words_for("nonsense", "") == words_for("")


def test_options_of_the_command_that_is_typed() -> None:
    assert words_for("classify", "cat.jpg", "--lab") == ["--labels", "--labels-file"]
    assert words_for("head", "build", "--ou") == ["--out"]
    assert "--labels" not in words_for("models", "--")
    assert words_for("--ver") == ["--version"]


def test_values_of_options() -> None:
    assert words_for("classify", "--dtype", "") == ["float32", "float16", "bfloat16", "int8", "auto"]
    assert words_for("classify", "--dtype=fl") == ["--dtype=float32", "--dtype=float16"]
    assert words_for("models", "--sort", "a") == ["accuracy"]
    assert words_for("completions", "") == list(SHELLS)
    assert words_for("classify", "--top-k", "") == []


def test_names_of_models_and_prompt_sets() -> None:
    names = [entry.name for entry in zeroshot.available_models()]
    assert words_for("classify", "cat.jpg", "--model", "") == names
    assert words_for("classify", "--model", "rn50x64/") == ["RN50x64/openai"]  # whatever the case, if nothing fits it
    assert words_for("reproduce", "--model", "mini", "RN50x64/") == ["RN50x64/openai"]  # of an option with several
    assert words_for("prompts", "show", "oxf") == ["oxford_pets"]
    assert takes_files("classify", "--prompts", "")


def test_sets_of_limits_and_kinds_of_corruptions() -> None:
    assert words_for("limits", "--sets", "") == list(LIMITS)
    assert words_for("limits", "--sets", "counting", "le") == ["left_right"]
    assert words_for("robustness", "corruptions", "photos", "--kinds", "") == available_corruptions()
    assert words_for("robustness", "corruptions", "photos", "--kinds", "fog", "gauss") == [
        "gaussian_noise",
        "gaussian_blur",
    ]
    assert dict(complete(_parser(), ["limits", "--sets", ""])[0])["counting"] == "How many circles are there?"


def test_what_is_known_is_said_without_torch() -> None:
    code = (
        "import sys; from zeroshot.cli import main\n"
        "main(['completions', 'fish', '--words', 'limits', '--sets', ''])\n"
        "main(['completions', 'fish', '--words', 'robustness', 'corruptions', '--kinds', ''])\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "left_right\t" in done.stdout
    assert "fog\t" in done.stdout
    assert done.stderr == "False\n"


def test_labels_of_the_prompt_set_that_is_typed() -> None:
    assert words_for("classify", "x.jpg", "--prompts", "food101", "--labels", "pizza", "spring") == ["spring rolls"]
    assert words_for("prompts", "show", "food101", "--labels", "ra") == ["ramen", "ravioli"]
    assert words_for("head", "build", "--prompts=food101", "--labels", "piz") == ["pizza"]
    assert words_for("classify", "x.jpg", "--labels", "") == []  # of no set
    assert words_for("classify", "x.jpg", "--prompts", "a {}.", "--labels", "") == []


@pytest.mark.parametrize(
    "words",
    [("classify", ""), ("classify", "a.jpg", ""), ("evaluate", ""), ("embed", "x", "--out", ""), ("head", "show", "")],
)
def test_files_where_files_are_meant(words: tuple[str, ...]) -> None:
    assert takes_files(*words)


def test_an_image_behind_json_is_an_image() -> None:
    assert takes_files("classify", "--json", "")
    assert not takes_files("evaluate", "photos", "--json", "")  # all arguments are there


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completions", shell]) == 0
    script = capsys.readouterr().out
    assert f"completions {shell} --words" in script


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completions", "fihs"]) == 2
    assert "did you mean 'fish'?" in capsys.readouterr().err


def test_words_that_are_no_options_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completions", "fish", "--words", "classify", "--json", "--mult"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("--multi-label\t")


def test_quotes_of_bash(capsys: pytest.CaptureFixture[str]) -> None:
    def asked(*words: str) -> list[str]:
        assert main(["completions", "bash", "--words", *words]) == 0
        return capsys.readouterr().out.splitlines()

    labels = ("classify", "x.jpg", "--prompts", "food101", "--labels")
    assert asked(*labels, "spr") == ["words", r"spring\ rolls"]
    assert asked(*labels, "'spr") == ["words", "spring rolls"]
    assert asked(*labels, r"spring\ r") == ["words", r"spring\ rolls"]
    assert asked("classify", "--model", "=", "RN50x64/") == ["files", "RN50x64/openai"]  # bash cuts words at "="
    assert asked("classify", "--dtype", "=")[1] == "float32"


# ----------------------------------------------------------------------------------------------------- real shells


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder at the front of $PATH with the command ``zeroshot``."""
    root = Path(zeroshot.__file__).parent.parent
    command = tmp_path / "bin" / "zeroshot"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m zeroshot "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(shell: list[str], before: str, line: str, wanted: str) -> str:
    """Type a line with tabs into a shell that runs in a terminal of its own, until it shows what is wanted."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"TERM": "dumb", "PS1": "> "}
        os.execvp(shell[0], shell)
    shown = ""
    try:
        os.write(terminal, f"{before}; echo rea''dy\n".encode())
        for text, mark in ((None, "ready"), (line, wanted)):
            if text is not None:
                os.write(terminal, text.encode())
            end = time.monotonic() + 200
            shown = ""
            while mark not in shown and time.monotonic() < end and select.select([terminal], [], [], 200)[0]:
                shown += os.read(terminal, 4096).decode("utf-8", "replace")
        return shown
    finally:
        os.kill(process, 9)
        os.close(terminal)
        os.waitpid(process, 0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking beside threads, which only exec follows here
def test_bash(program: Path) -> None:
    line = "zeroshot classify --prompts food101 --labels spr\t"
    shown = typed(["bash", "--norc", "-i"], 'eval "$(zeroshot completions bash)"', line, "rolls")
    assert r"spring\ rolls" in shown


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_zsh(program: Path) -> None:
    before = 'autoload -U compinit; compinit -u; eval "$(zeroshot completions zsh)"'
    shown = typed(["zsh", "-f", "-i"], before, "zeroshot classify --prompts food101 --labels spr\t", "rolls")
    assert r"spring\ rolls" in shown


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish(program: Path) -> None:
    code = (
        "zeroshot completions fish | source; complete -C 'zeroshot classify --prompts food101 --labels spr';"
        "complete -C 'zeroshot classify --model=RN50x64/'; touch photo.jpg; complete -C 'zeroshot classify pho'"
    )
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, check=True)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == [
        "spring rolls",
        "--model=RN50x64/openai",
        "photo.jpg",
    ]
