"""Tables of text, as terminals and notebooks show them."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Container, Iterable, Sequence


def aligned(table: Iterable[Sequence[str]], *, right: Container[int] = ()) -> list[str]:
    r"""Return the lines of a table, two spaces between columns; those at the positions `right` are set to the right.

    Examples
    --------
    >>> print("\n".join(aligned([["set", "images"], ["counting", "6"]], right=[1])))
    set       images
    counting       6
    """
    rows = list(table)
    rooms = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    padded = ([_pad(cell, rooms[at], right=at in right) for at, cell in enumerate(row)] for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]


def as_html(about: str, table: Iterable[Sequence[str]], note: str) -> str:
    """Return a table, whose first row is its head, between a line about it and a note."""
    head, *rows = table
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<p>{html.escape(about)}</p><table>{''.join(lines)}</table><p>{html.escape(note)}</p>"


def columns(text: str) -> int:
    """Return the width in columns of a fixed-width font: two for East Asian characters, none for accents set on others.

    Examples
    --------
    >>> columns("café"), columns("猫")
    (4, 2)
    """
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, room: int, *, right: bool) -> str:
    space = " " * (room - columns(text))
    return space + text if right else text + space
