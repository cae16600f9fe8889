"""The form that all commands have: help that fits the terminal, one line for a mistake, what may have been meant."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from zeroshot.cli.output import USAGE, paint, tell

_WIDEST = 100
# What a `metavar` shows for options of several values: argparse's own "NAME [NAME ...]" takes twice the room.
_MORE = {"+": "{0} …", "*": "[{0} …]"}


class Parser(argparse.ArgumentParser):
    """The parser of a command; its errors are one line, and its help ends in examples and exit codes.

    Parameters
    ----------
    examples : sequence of str
        Command lines, as they are typed at the root of the checkout; tests run them.
    failure : str
        What exit code 1 means here.
    **options
        As argparse takes them.
    """

    def __init__(self, *, examples: Sequence[str] = (), failure: str = "", **options: Any) -> None:
        options.setdefault("allow_abbrev", False)  # a script must not break when an option is added
        options.setdefault("formatter_class", Help)
        super().__init__(**options, add_help=False)
        self.color = False  # of argparse in Python 3.14; `print_help` colours in all releases alike
        self.examples = tuple(examples)
        if self.examples or failure:
            parts = [f"  {example}" for example in self.examples]
            codes = f"exit codes: 0 done; 1 {failure or 'it could not be done'}; 2 the command line is wrong"
            lines = textwrap.wrap(codes, 78, subsequent_indent="  ")
            self.epilog = "\n".join([*(["examples:", *parts, ""] if parts else []), *lines])

    def add_help_option(self) -> None:
        """Add ``--help``, as the last of all."""
        group = self.add_argument_group("help")
        group.add_argument("-h", "--help", action="help", help="show this and exit")

    def print_help(self, file: Any = None) -> None:
        """Print the help, its headings in bold and its options in colour where there are colours."""
        stream: TextIO = file or sys.stdout
        lines = self.format_help().splitlines()
        self._print_message("\n".join(_paint_line(line, stream) for line in lines) + "\n", stream)

    def run_help(self, arguments: argparse.Namespace) -> int:
        """Print the help; as the ``run`` of a command that wants another one behind it."""
        self.print_help()
        return 0

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong with the command line, in one line, and exit with 2."""
        end = "" if message.endswith("?") else "."
        tell(f"{message.rstrip('.')}{end} Try '{self.prog} --help'.")
        sys.exit(USAGE)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it; what is unknown is told here, by the parser of the command, which knows its options."""
        words = list(sys.argv[1:] if args is None else args)
        words = _settle_json(words)
        if isinstance(self._option_string_actions.get("--prompts"), Templates):
            words = _settle_templates(words)
        found, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return found, unknown

    def _unknown(self, word: str) -> str:
        if not word.startswith("-") or word == "-":
            return f"{word!r} is one argument too many"
        name = word.partition("=")[0]
        known = [option for option in self._option_string_actions if option.startswith("--")]
        return f"there is no option {name}{suggest(name, known)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            kind = (action.metavar or "command") if isinstance(action.metavar, str) else "command"
            message = f"there is no {kind.lower()} {value!r}{suggest(str(value), choices)}"
            if len(choices) < 8:
                message += f"; expected one of {', '.join(choices)}"
            self.error(message)
        raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(choices)}{suggest(str(value), choices)}")


class Templates(argparse.Action):
    """Keep the one value of an option, or all of them in a list if it came again."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        before = getattr(namespace, self.dest)
        if before is not None:
            values = [*([before] if isinstance(before, str) else before), values]
        setattr(namespace, self.dest, values)


class Help(argparse.HelpFormatter):
    """Help at the width of the terminal, at most 100 columns; a text that has lines of its own keeps them."""

    def __init__(self, prog: str, **options: Any) -> None:
        options.setdefault("width", min(shutil.get_terminal_size().columns, _WIDEST) - 2)
        super().__init__(prog, max_help_position=27, **options)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs in _MORE:
            (metavar,) = self._metavar_formatter(action, default_metavar)(1)
            return _MORE[str(action.nargs)].format(metavar)
        return super()._format_args(action, default_metavar)


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` with what is near to a word; empty if nothing is.

    >>> suggest("clasify", ["classify", "embed"])
    "; did you mean 'classify'?"
    >>> suggest("--model", ["--help", "--sort"])  # dashes alone are no likeness
    ''
    """
    folded = {each.lower().strip("-"): each for each in known}
    near = [folded[each] for each in difflib.get_close_matches(word.lower().strip("-"), folded, n=2, cutoff=0.6)]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def near_file(message: str, words: Iterable[str]) -> str:
    """Return what may have been meant by a path among some words that a message names and that does not exist.

    >>> near_file("no file at 'examples/image'", ["examples/image"])
    ". Did you mean 'examples/images'?"
    >>> near_file("no image at 'examples/images/nope.jpg'", ["examples/images/nope.jpg"])  # an ending is no likeness
    ''
    """
    for word in words:
        path = Path(word.removeprefix("@"))
        if not word or word not in message or "://" in word:
            continue
        try:
            if path.exists():
                continue
            folder = next(parent for parent in path.parents if parent.is_dir())
            name, *rest = path.relative_to(folder).parts
            names = [found.name for found in folder.iterdir() if _alike(Path(name).stem, found.stem)]
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        except (OSError, StopIteration, ValueError):  # too long, not to be read, …
            continue
        if near and (found := folder.joinpath(near[0], *rest)).exists():
            return f". Did you mean {str(found)!r}?"
    return ""


def _alike(one: str, other: str) -> bool:
    return bool(difflib.get_close_matches(one, [other], cutoff=0.6))


def _settle_json(words: list[str]) -> list[str]:
    """Give ``--json`` its file if one follows: a name that ends in .json. An image behind it is not taken for one."""
    settled: list[str] = []
    rest = iter(range(len(words)))
    for at in rest:
        word = words[at]
        if word == "--":
            return settled + words[at:]
        if word == "--json":
            following = words[at + 1] if at + 1 < len(words) else ""
            is_file = following.endswith(".json") and not following.startswith(("-", "@"))
            word = f"--json={following if is_file else '-'}"
            if is_file:
                next(rest)
        settled.append(word)
    return settled


def _settle_templates(words: list[str]) -> list[str]:
    """Put ``--prompts`` before each template that follows one: ``--prompts '{}' 'a {}'``. Images are not taken so."""
    settled: list[str] = []
    is_behind = False  # a template, before which there was --prompts
    for at, word in enumerate(words):
        if word == "--":
            return settled + words[at:]
        is_template = "{}" in word and not word.startswith("-")
        if is_template and is_behind:
            settled.append("--prompts")
        is_behind = is_template and settled[-1:] == ["--prompts"]
        settled.append(word)
    return settled


def _paint_line(line: str, stream: TextIO) -> str:
    heading, mark, rest = line.partition(":")
    if mark and line[:1].isalpha() and (not rest or heading in ("usage", "exit codes", "json", "documents")):
        return paint(heading + mark, "bold", stream=stream) + rest
    body = line.lstrip()
    if body.startswith("-") and len(line) - len(body) == 2:
        option, gap, help_text = body.partition("  ")
        return "  " + paint(option, "cyan", stream=stream) + gap + help_text
    if body.startswith("zeroshot ") and len(line) - len(body) == 2:
        return "  " + paint(body, "green", stream=stream)
    return line
