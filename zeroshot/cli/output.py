"""What commands print, in what form and colours, and the codes they exit with.

The rule of ``--json``: a command prints its result for people; with ``--json`` it prints one JSON document in place of
that, and with ``--json FILE.json`` it prints for people and writes the document there. Numbers are not rounded; what is
not finite is ``null``. Errors go to standard error either way, and exit codes are the same.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from zeroshot.cache import write_atomically
from zeroshot.errors import ZeroShotError
from zeroshot.tables import aligned

# Exit codes: 0 done, 1 something could not be done, 2 the command line is wrong, 130 interrupted.
FAILED, USAGE, INTERRUPTED = 1, 2, 130
STDOUT = "-"  # as the file of --json

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_BLOCKS = "█▏▎▍▌▋▊▉"
# What stands for typographic characters where the terminal's encoding has none.
_PLAIN = str.maketrans({"█": "#", **dict.fromkeys(_BLOCKS[1:], ""), "…": "...", "–": "-", "’": "'"})
_NUMBERS = re.compile(r"\[\n\s+(-?[\d.eE+-]+(?:,\n\s+-?[\d.eE+-]+)*)\n\s+\]")


# ------------------------------------------------------------------------------------------------------------ colours


def has_colours(stream: TextIO) -> bool:
    """Whether to colour what goes to a stream: terminals only, unless NO_COLOR, FORCE_COLOR or TERM=dumb say other."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") != "0":
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, *styles: str, stream: TextIO | None = None) -> str:
    """Return a text in a style, such as ``"bold", "red"``, if the stream (by default standard output) has colours."""
    if not text or not has_colours(stream or sys.stdout):
        return text
    return f"\x1b[{';'.join(_STYLES[style] for style in styles)}m{text}\x1b[0m"


def paint_bars(text: str) -> str:
    """Return the lines of a prediction with the first one, the most probable class, in bold and bars in colour."""
    first, *others = text.split("\n")
    match = re.match(rf"[^{_BLOCKS}]*", first)
    assert match is not None  # may be empty
    first = paint(match[0], "bold") + first[match.end() :]
    return re.sub(rf"[{_BLOCKS}]+", lambda bar: paint(bar[0], "cyan"), "\n".join([first, *others]))


# ----------------------------------------------------------------------------------------------------------- messages


def say(text: object = "") -> None:
    """Print a line or several on standard output at once, in characters that it has."""
    print(_encodable(str(text), sys.stdout), flush=True)


def tell(message: str, *, kind: str = "") -> None:
    """Print a message as one line on standard error."""
    style = {"": ("bold", "red"), "warning": ("yellow",)}.get(kind, ("dim",))
    name = paint("zeroshot:", *style, stream=sys.stderr)
    line = " ".join(message.split())
    print(_encodable(f"{name} {kind + ': ' if kind else ''}{line}", sys.stderr), file=sys.stderr)


def inform(message: str) -> None:
    """Print a line on standard error that is no error: what became of a job."""
    print(_encodable(f"zeroshot: {message}", sys.stderr), file=sys.stderr, flush=True)


def fail(message: str) -> int:
    """Print a message as one line on standard error and return the exit code for what could not be done."""
    tell(message)
    return FAILED


def _encodable(text: str, stream: TextIO) -> str:
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeError:
        return text.translate(_PLAIN)
    return text


# ------------------------------------------------------------------------------------------------------------ results


def show(arguments: Any, text: object, data: Any) -> int:
    """Print a result, as the rule of ``--json`` says, and return the exit code.

    Parameters
    ----------
    arguments : argparse.Namespace
        With the ``json`` of `options.add_json`.
    text : object
        The result for people.
    data : object
        The same as JSON has it.
    """
    if arguments.json == STDOUT:
        print_json(data)
        return 0
    if str(text):
        say(text)
    return 0 if arguments.json is None else save_json(Path(arguments.json), data)


def as_json(data: Any, *, indent: int | None = 2, ascii_only: bool = False) -> str:
    """Return a JSON document: numbers with all digits, null for what is not finite, short lists of numbers in a line.

    >>> print(as_json({"value": 0.1 + 0.2, "interval": (float("nan"), 1)}))
    {
      "value": 0.30000000000000004,
      "interval": [
        null,
        1
      ]
    }
    """
    text = json.dumps(_plain(data), indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    # No string of a JSON text holds a line feed, so that this meets lists only.
    return _NUMBERS.sub(lambda match: "[" + ", ".join(re.split(r",\s+", match[1])) + "]", text)


def print_json(data: Any, *, indent: int | None = 2) -> None:
    """Print a JSON document; without `indent` in one line, at once."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().replace("-", "").startswith("utf")
    print(as_json(data, indent=indent, ascii_only=not is_unicode), flush=True)


def save_json(path: Path, data: Any) -> int:
    """Write a JSON document to a file, whole or not at all, and return the exit code."""
    # A byte of a file's name that is no UTF-8 becomes \udcXX, which in JSON stands for what Python has for it.
    return save_text(path, as_json(data) + "\n")


def save_text(path: Path, text: str) -> int:
    """Write a text to a file, whole or not at all, and return the exit code."""
    content = text.encode("utf-8", "backslashreplace")
    return save(path, lambda path: write_atomically(path, lambda temporary: temporary.write_bytes(content)))


def save(path: Path, action: Callable[[Path], object]) -> int:
    """Have a file written, and return the exit code; what prevents it is told in a line."""
    try:
        action(path)
    except OSError as error:
        if isinstance(error, ZeroShotError):
            raise
        return fail(f"{path} cannot be written: {error.strerror or error}; choose a folder that can be")
    return 0


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows under their heads: columns of numbers to the right, the others to the left."""
    heads = list(rows[0])
    cells = [[str(row[head]) for head in heads] for row in rows]
    numbers = [at for at, column in enumerate(zip(*cells, strict=True)) if all(c[:1].isdigit() for c in column if c)]
    first, *lines = aligned([heads, *cells], right=numbers)
    return "\n".join([paint(first, "bold"), *lines])


def write_csv(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows as CSV."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def _plain(value: Any) -> Any:
    """Return what JSON has: no NaN, no infinity, no numbers of NumPy, no paths."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _plain(value.item()) if hasattr(value, "item") else value
