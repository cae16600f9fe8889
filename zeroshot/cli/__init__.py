"""The command line: composition only. Whatever it prints can be had in Python by a function of the library.

One module for each group of commands, with ``add_parser(commands)``; it sets ``run``, which takes the arguments and
returns an exit code. Such a module imports torch, and what needs it, in ``run`` only: ``zeroshot --help`` is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import zeroshot
from zeroshot.cli import adapt, classify, evaluate, limits, models, prompts, robustness
from zeroshot.cli.output import INTERRUPTED, USAGE, fail
from zeroshot.errors import ZeroShotError

__all__ = ["main"]

_GROUPS = (classify, evaluate, models, prompts, adapt, robustness, limits)  # in the order of the help


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"zeroshot: {message}. Try '{self.prog} --help'.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on standard error."""
    warnings.showwarning = _print_warning
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata and the like, in a file that is not named
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except ZeroShotError as error:
        return fail(str(error))
    except BrokenPipeError:  # `zeroshot … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(prog="zeroshot", description="Classify images by naming the classes.")
    parser.add_argument("--version", action="version", version=f"zeroshot {zeroshot.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in _GROUPS:
        group.add_parser(commands)
    return parser


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"zeroshot: warning: {message}", file=sys.stderr)
