"""The command line: composition only. Whatever it prints can be had in Python by a function of the library.

One module for each group of commands, with ``add_parser(commands)``; it sets ``run``, which takes the arguments and
returns an exit code. Such a module imports torch, and what needs it, in ``run`` only: ``zeroshot --help`` is quick.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import zeroshot
from zeroshot.cli import adapt, app, classify, completions, evaluate, explain, head, limits, models, prompts, robustness
from zeroshot.cli.output import INTERRUPTED, fail, tell
from zeroshot.cli.parser import Parser, near_file
from zeroshot.errors import ZeroShotError

__all__ = ["main"]

_GROUPS = (  # in the order of the help
    ("images", (classify, explain, app)),
    ("measure on labelled images", (evaluate, robustness, limits)),
    ("heads: made of names, or of labelled images", (head, adapt)),
    ("look up", (models, prompts, completions)),
)
_TRY = (
    "zeroshot classify examples/images/cat.jpg --labels cat dog car --model mini",
    "zeroshot models siglip2 --sort accuracy",
    "zeroshot prompts show food101 --labels pizza ramen",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on standard error."""
    warnings.showwarning = _print_warning
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata and the like, in a file that is not named
    warnings.filterwarnings("ignore", message="not every image was measured")  # what is printed tells all of it
    _open_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = argparse.Namespace()
    try:
        try:
            if words[:1] == ["completions"] and words[2:3] == ["--words"]:  # our scripts ask; the words are no options
                return completions.answer(_parser(), words[1], words[3:])
            _parser().parse_args(words, arguments)
            code: int = arguments.run(arguments)
        except SystemExit as stop:  # argparse: help, or a mistake that is told
            code = int(stop.code or 0)
        sys.stdout.flush()
    except BrokenPipeError:  # `zeroshot … | head`: the reader has seen enough
        _let_go_of_pipes()
        return 0
    except ZeroShotError as error:
        return fail(f"{error}{near_file(str(error), _words(vars(arguments).values()))}")
    except OSError as error:  # of a file to write, of standard output on a full disk
        what = "" if error.filename is None else f"{error.filename}: "
        return fail(f"{what}{error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "out of memory" not in str(error):
            raise
        return fail(f"there is not memory enough: {str(error) or 'MemoryError'}; take a smaller batch or model")
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> Parser:
    parser = _Root(
        prog="zeroshot", usage="zeroshot COMMAND … [options]", description="Classify images by naming the classes."
    )
    commands = parser.add_subparsers(metavar="COMMAND", prog="zeroshot", parser_class=Parser)
    for title, modules in _GROUPS:
        before = len(commands.choices)
        for module in modules:
            module.add_parser(commands)
        parser.titles[title] = list(commands.choices)[before:]
    parser.add_help_option()
    parser.add_argument("--version", action="version", version=f"zeroshot {zeroshot.__version__}")
    parser.set_defaults(run=parser.run_help)
    return parser


class _Root(Parser):
    """The first screen: what there is, and what to try."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.titles: dict[str, list[str]] = {}

    def format_help(self) -> str:
        commands = next(action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        helps = {action.dest: action.help for action in commands._choices_actions}
        lines = [f"usage: {self.usage}", "", str(self.description), "", "try, in a checkout, offline:"]
        lines += [f"  {line}" for line in _TRY]
        for title, names in self.titles.items():
            lines += ["", f"{title}:", *(f"  {name:<12} {helps[name]}" for name in names)]
        lines += [
            "",
            "'zeroshot COMMAND --help' has options, examples and exit codes.",
        ]
        lines += ["json: --json prints one document in place of text; --json FILE.json writes it."]
        lines += ["exit codes: 0 done; 1 something could not be done; 2 the command line is wrong."]
        return "\n".join(lines) + "\n"


def _open_streams() -> None:
    """Let standard output and error take whatever is printed: names that are no UTF-8, characters they do not have."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: `zeroshot … >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _let_go_of_pipes() -> None:
    """Point standard output and error to nowhere, so that the interpreter does not stumble over them when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


def _words(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _words(value)
        elif isinstance(value, (str, Path)):
            yield str(value)


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    tell(str(message), kind="warning")
