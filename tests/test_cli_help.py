"""The command line as a whole: help that fits, examples that run, one rule for JSON, colours, exit codes."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroshot.cli import _parser, main, output
from zeroshot.cli.parser import Parser

ROOT = Path(__file__).parent.parent
CAT = str(ROOT / "examples" / "images" / "cat.jpg")
MINI = ("--model", "mini")
PRINTS_A_TEXT = {"completions", "prompts gallery", "app"}  # a script, a page: no result


def _commands(parser: Parser, name: str = "") -> Iterator[tuple[str, Parser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for key, command in action.choices.items():
                yield f"{name} {key}".strip(), command
                yield from _commands(command, f"{name} {key}".strip())


COMMANDS = dict(_commands(_parser()))
# A command that has actions only, each of which is a command.
ACTIONS = {name for name in COMMANDS if any(other.startswith(f"{name} ") for other in COMMANDS)} - {"prompts"}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own."""
    return subprocess.run([sys.executable, "-m", "zeroshot", *words], capture_output=True, text=True, check=False)


# ------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_whole_and_fits_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: zeroshot {name}".rstrip())
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert name in ACTIONS or "exit codes: 0 done; 1 " in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ACTIONS])
def test_every_command_says_what_it_is_for_and_shows_it(name: str) -> None:
    command = COMMANDS[name]
    assert command.description
    assert command.examples
    for action in command._actions:
        assert action.help, action.dest
    titles = [group.title for group in command._action_groups if group._group_actions]
    assert "options" not in titles  # each option is in a group that says what it concerns
    assert ("--json" in command._option_string_actions) is (name not in PRINTS_A_TEXT)


def test_the_first_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr()
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == bare.out
    assert bare.err == ""
    for name in COMMANDS:
        if " " not in name:
            assert f"\n  {name:<12} " in bare.out
    assert len(bare.out.splitlines()) < 45


SERVERS = {"app"}  # run until they are stopped: their tests are `tests/extras/test_app.py`
SLOW = {"fewshot", "probe", "calibrate", "limits", "robustness"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.extra if name in SLOW else ())
        for name in COMMANDS
        if " " not in name and name not in SERVERS
    ],
)
def test_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path / "here")
    for other, command in COMMANDS.items():
        if f"{other} ".startswith(f"{name} "):
            for example in command.examples:
                _run_example(example, capsys)


def test_examples_of_the_first_screen(capsys: pytest.CaptureFixture[str]) -> None:
    from zeroshot.cli import _TRY

    for example in _TRY:
        _run_example(example, capsys)


def _run_example(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *words = shlex.split(example.partition(" > ")[0].replace("\\\n", " "))
    assert program == "zeroshot"
    words = [found for word in words for found in (sorted(map(str, Path().glob(word))) if "/*" in word else [word])]
    assert main(words) == 0, (example, capsys.readouterr().err)
    printed = capsys.readouterr().out
    if words[-1] == "--json":
        json.loads(printed)


# ------------------------------------------------------------------------------------------------------------- JSON


def test_json_in_place_of_text_or_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("prompts", "show", "food101", "--labels", "pizza")
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == [{"label": "pizza", "prompts": ["a photo of pizza, a type of food."]}]
    path = tmp_path / "new" / "found.json"
    assert main([*command, "--json", str(path)]) == 0
    assert capsys.readouterr().out == "a photo of pizza, a type of food.\n"
    assert path.read_text(encoding="utf-8") == printed
    assert main(["prompts", "--json", "show", "food101", "--labels", "pizza"]) == 0  # wherever it stands
    assert capsys.readouterr().out == printed


def test_json_takes_no_image_for_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "cat.jpg"
    image.write_bytes(Path(CAT).read_bytes())
    assert main(["classify", "--json", str(image), "--labels", "cat", "dog", *MINI]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)[0]["label"] == "cat"
    assert image.read_bytes() == Path(CAT).read_bytes()
    assert main(["classify", str(image), "--labels", "cat", *MINI, f"--json={image}"]) == 2
    assert "does not end in .json" in capsys.readouterr().err
    assert image.read_bytes() == Path(CAT).read_bytes()


def test_json_lines_come_one_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", CAT, "nowhere.jpg", "--labels", "cat", "dog", *MINI, "--format", "jsonl"]) == 1
    captured = capsys.readouterr()
    first, second = map(json.loads, captured.out.splitlines())
    assert (first["label"], len(first["top"])) == ("cat", 2)
    assert second["image"] == "nowhere.jpg"
    assert "nowhere.jpg" in captured.err  # errors go to standard error as without


def test_a_job_tells_what_became_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["classify", CAT, "--labels", "cat", "dog", *MINI, "--out", "a.csv", "--json"]) == 0
    expected = {"path": "a.csv", "count": 1, "resumed": 0, "failed": {}, "passed_over": {}}
    assert json.loads(capsys.readouterr().out) == expected
    assert main(["embed", CAT, *MINI, "--out", "a.safetensors", "--json", "told.json"]) == 0
    assert json.loads(Path("told.json").read_text()) == {**expected, "path": "a.safetensors"}


def test_json_is_valid_and_has_all_digits() -> None:
    import numpy as np

    data = {"nan": float("nan"), "all": [np.inf, -np.inf], 3: (np.float32(0.1), np.int64(7)), "path": Path("a")}
    text = output.as_json(data | {"sum": 0.1 + 0.2, "name": "é \udcff\n1,\n 2"}, ascii_only=True)
    assert json.loads(text) == {
        "nan": None,
        "all": [None, None],
        "3": [float(np.float32(0.1)), 7],
        "path": "a",
        "sum": 0.30000000000000004,
        "name": "é \udcff\n1,\n 2",
    }
    assert "[0.10000000149011612, 7]" in text  # numbers stay in a line
    assert output.as_json([[1, 2], [-3.5e-10]]) == "[\n  [1, 2],\n  [-3.5e-10]\n]"


# ----------------------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize(
    ("environment", "is_terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours_are_for_terminals(
    environment: dict[str, str], is_terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert output.has_colours(sys.stdout) is expected
    assert ("\x1b" in output.paint("text", "bold")) is expected


def test_colours_change_no_character(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    plain, painted = [], []
    for forced, shown in (("0", plain), ("1", painted)):
        monkeypatch.setenv("FORCE_COLOR", forced)
        for words in (["--help"], ["classify", "--help"], ["classify", CAT, "--labels", "cat", "dog", *MINI]):
            assert main(words) == 0
        assert main(["models", "mini"]) == 0
        assert main(["nonsense"]) == 2
        shown += capsys.readouterr()
    assert all("\x1b[" in text for text in painted)
    assert [re.sub(r"\x1b\[[\d;]*m", "", text) for text in painted] == plain


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_what_programs_read_is_never_coloured(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["classify", CAT, "--labels", "cat", "dog", *MINI, "--format", form]) == 0
    assert "\x1b" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------- what was meant


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["clasify"], 2, "there is no command 'clasify'; did you mean 'classify'?"),
        (["prompts", "shwo"], 2, "did you mean 'show'?"),
        (["classify", "x.jpg", "--lables", "cat"], 2, "there is no option --lables; did you mean '--labels'"),
        (["classify", "x.jpg", "--label", "cat"], 2, "did you mean '--labels'"),  # and no abbreviation
        (["models", "--sort", "acuracy"], 2, "did you mean 'accuracy'?"),
        (["embed", "x", "--out", "a.parquet", "--dtype", "float15"], 2, "did you mean 'float1"),
        (["models", "siglp2"], 1, "'zeroshot models' lists all"),
        (["models", "ViT-B-32/opnai"], 1, "did you mean 'ViT-B-32/openai'"),
        (["classify", CAT, "--labels", "cat", "--model", "ViT-B-32/opnai"], 1, "ViT-B-32/openai"),
        (["prompts", "show", "food11"], 1, "food101"),
        (["classify", "examples/images/cta.jpg", "--labels", "a", *MINI], 1, "Did you mean 'examples/images/cat.jpg'?"),
        (["classify", "exmaples/images/cat.jpg", "--labels", "a", *MINI], 1, "Did you mean 'examples/images/cat.jpg'?"),
        (["evaluate", "examples/photo", *MINI], 1, "Did you mean 'examples/photos'?"),
        (["completions", "bash", "zsh"], 2, "'zsh' is one argument too many"),
    ],
)
def test_near_misses(words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_a_label_that_is_nearly_one_of_the_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "show", "food101", "--labels", "piza", "my own dish"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "zeroshot: note: 'piza' is no class of food101; did you mean 'pizza'?\n"
    assert captured.out.startswith("a photo of piza")


# ------------------------------------------------------------------------------------------ whatever somebody types


_WORDS = st.one_of(
    st.sampled_from([word for name in COMMANDS for word in name.split()]),
    st.sampled_from(sorted({option for command in COMMANDS.values() for option in command._option_string_actions})),
    st.sampled_from(["mini", "cat", "food101", "a {}.", "{", "broken.jpg", "nowhere", "folder", "-", "--", "-1", "0"]),
    st.sampled_from(["1", "nan", "1e999", "x.json", "x.csv", "x.head", "folder/x.parquet", "cuda:9", "imagenet=0.5"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([[], *(name.split() for name in COMMANDS)]), st.lists(_WORDS, max_size=6))
def test_no_command_line_ends_in_a_traceback(
    playground: Path, capsys: pytest.CaptureFixture[str], command: list[str], words: list[str]
) -> None:
    # `main` lets nothing through but what it has no word for, which would be a traceback.
    small = ("--sets", "left_right", "--per-class", "1") if command == ["limits"] else ()
    code = main([*command, *words, *small, *(MINI if "--model" in _options(command) else ())])
    captured = capsys.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in captured.err
    assert code != 2 or captured.err.startswith("zeroshot: ")


def _options(command: list[str]) -> dict[str, argparse.Action]:
    return COMMANDS[" ".join(command)]._option_string_actions if command else {}


@pytest.fixture
def playground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a broken image, a folder, and nothing on standard input."""
    (tmp_path / "play" / "folder").mkdir(parents=True)
    (tmp_path / "play" / "broken.jpg").write_bytes(Path(CAT).read_bytes()[:700])
    (tmp_path / "play" / "empty").touch()
    monkeypatch.chdir(tmp_path / "play")
    with (tmp_path / "play" / "empty").open(encoding="utf-8") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield tmp_path
        monkeypatch.undo()


# ----------------------------------------------------------------------------------------------- pipes and signals


def test_a_disk_that_is_full() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "zeroshot", "completions", "bash"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "zeroshot: No space left on device\n")


def test_a_terminal_without_our_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run("classify", CAT, "--labels", "cat", "dog", *MINI)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith("%  ###################")
    done = run("prompts", "show", "imagenet_jp", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["classes"][0] == "テンチ"


def test_a_reader_of_help_that_leaves() -> None:
    for words in (["--help"], ["models"], ["nonsense"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "zeroshot", *words], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writer)
        assert done.returncode == (2 if words == ["nonsense"] else 0)
        assert "Broken" not in done.stderr
        assert "Traceback" not in done.stderr


def test_an_interrupt_is_130() -> None:
    # A shell that runs the tests in the background has its children ignore the signal.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from zeroshot.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "classify", "-", "--labels", "cat", "dog", *MINI]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    # It waits for its image; when it has come so far is seen by its threads, or else after a while.
    stat = Path(f"/proc/{process.pid}/wchan")
    end = time.monotonic() + 60
    while time.monotonic() < end and (not stat.exists() or "pipe" not in stat.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == b""
