"""What notebooks show: small pieces of HTML, made of plain text and numbers.

Every text is escaped but for what is `Html` already. Styles stand in the elements, since pages such as those of GitHub
and notebooks that are not trusted take style sheets away. Text has the colour of the page, and all else is one blue or
grey that is half transparent, so that it can be read on light and dark. Nothing here knows what it shows.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

BLUE = "#4c8bf5"
_GREY = "rgba(128,128,128,.55)"
_TRACK = "rgba(128,128,128,.18)"
_LINE = "rgba(128,128,128,.35)"
_TABLE = "border-collapse:collapse;border:0;margin:0;font-size:13px"
_ROW = "background:none;border:0"
_CELL = "border:0;padding:1px 0;vertical-align:middle;text-align:left"
# With dir="auto" beside it, so that a name is cut off at its end: in Arabic and Hebrew that is on the left.
_CUT = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap;text-align:left"
_NUMBER = "font-variant-numeric:tabular-nums;white-space:nowrap"
_SOFT = "opacity:.72"
_HEIGHT, _BREADTH = 180, 280  # of a picture beside its bars, at most, in pixels
# Format characters that words are written with: they join letters, or keep them apart, in Persian, Hindi and emoji.
_JOINERS = "\u200c\u200d"


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


class Bar(NamedTuple):
    """A line of a bar chart: its name, a share in [0, 1], whether it stands out, and whether it names no class.

    Without a share it is a line of text.
    """

    name: str
    share: float | None
    is_chosen: bool = False
    is_none: bool = False


def printable(text: str) -> str:
    r"""Return text with ``�`` for all that has no form of its own, such as what turns the direction of writing around.

    Examples
    --------
    >>> printable("cat\x00")
    'cat�'
    """
    return "".join(c if c.isprintable() or c in _JOINERS else " " if c in "\n\t" else "�" for c in text)


def escape(text: object) -> Html:
    """Return HTML that shows a text as it is; what is `Html` already is not changed.

    Examples
    --------
    >>> escape("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    if isinstance(text, Html):
        return text
    return Html("\n".join(html.escape(printable(line)) for line in str(text).split("\n")))


def page(*parts: object) -> Html:
    """Put parts under each other, as the whole of what a cell shows; formulas are not looked for in it."""
    inner = "".join(f"<div>{escape(part)}</div>" for part in parts if part)
    style = "font-size:13px;line-height:1.45;display:flex;flex-direction:column;gap:6px;max-width:920px"
    return literal(Html(inner), style=style)


def literal(content: Html, *, style: str = "") -> Html:
    """Return HTML whose text stays as it is: MathJax, which notebooks have, would make a formula of "$5 or $10"."""
    attribute = f' style="{style}"' if style else ""
    return Html(f'<div class="tex2jax_ignore mathjax_ignore"{attribute}>{content}</div>')


def title(kind: str, about: object = "") -> Html:
    """Return the first line: what it is in bold, and what there is to say of it."""
    return Html(f'<b>{escape(kind)}</b> <span style="{_SOFT}">{escape(about)}</span>')


def facts(rows: Iterable[tuple[str, object]]) -> Html:
    """Return names and values in two columns; those whose value is empty or None are left out."""
    inner = "".join(
        f'<tr style="{_ROW}"><td style="{_CELL};{_SOFT};padding-right:14px;white-space:nowrap;vertical-align:top">'
        f'{escape(name)}</td><td style="{_CELL};overflow-wrap:anywhere">{escape(value)}</td></tr>'
        for name, value in rows
        if value is not None and value != ""
    )
    return Html(f'<table style="{_TABLE}"><tbody>{inner}</tbody></table>')


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Iterable[int] = ()) -> Html:
    """Return a table; the columns at the positions `numbers` are set to the right."""
    right = set(numbers)

    def cells(tag: str, row: Sequence[object], style: str) -> str:
        return "".join(
            f'<{tag} style="padding:2px 16px 2px 0;border:0;border-bottom:1px solid {_LINE};{style};'
            f'text-align:{"right" if index in right else "left"}{";" + _NUMBER if index in right else ""}">'
            f"{escape(cell)}</{tag}>"
            for index, cell in enumerate(row)
        )

    top = f'<thead><tr style="{_ROW}">{cells("th", head, "font-weight:600;" + _SOFT)}</tr></thead>'
    body = "".join(f'<tr style="{_ROW}">{cells("td", row, "vertical-align:top")}</tr>' for row in rows)
    return Html(f'<table style="{_TABLE}">{top}<tbody>{body}</tbody></table>')


def words(names: Sequence[str], *, shown: int = 24) -> Html:
    """Return the first so many names, each apart from the others, and how many more there are."""
    style = f"display:inline-block;max-width:260px;{_CUT};vertical-align:bottom;margin:1px 4px 1px 0;padding:0 7px;"
    style += f"border:1px solid {_LINE};border-radius:9px"
    parts = [
        f'<span dir="auto" style="{style}" title="{escape(name)}">{escape(name)}</span> ' for name in names[:shown]
    ]
    more = len(names) - shown
    return Html("".join(parts) + (f'<span style="{_SOFT}">and {more:,} more</span>' if more > 0 else ""))


def lines(texts: Sequence[str], *, shown: int = 8, monospace: bool = True) -> Html:
    """Return the first so many texts, each on a line of its own, and how many more there are."""
    style = "font-family:monospace" if monospace else _SOFT
    parts = [f'<div style="{style}"><bdi>{escape(text)}</bdi></div>' for text in texts[:shown]]
    more = len(texts) - shown
    return Html("".join(parts) + (f'<div style="{_SOFT}">and {more:,} more</div>' if more > 0 else ""))


def details(summary: str, content: object) -> Html:
    """Return content that is shown when its summary is clicked on."""
    return Html(f'<details><summary style="cursor:pointer">{escape(summary)}</summary>{escape(content)}</details>')


def bars(rows: Iterable[Bar], *, width: int = 200) -> Html:
    """Return a bar chart: names, bars of at most `width` pixels, and the shares in per cent."""
    parts = []
    for name, share, is_chosen, is_none in rows:
        inner = f"<i>{escape(name)}</i>" if is_none else escape(name)
        if share is None:
            parts.append(f'<tr style="{_ROW}"><td colspan="3" style="{_CELL}">{inner}</td></tr>')
            continue
        colour = BLUE if is_chosen else _GREY
        weight = "font-weight:600" if is_chosen else "font-weight:400"
        length = min(max(100 * share, 0.5), 100)
        parts.append(
            f'<tr style="{_ROW}"><td dir="auto" style="{_CELL};{weight};max-width:240px;{_CUT}" '
            f'title="{escape(name)}">{inner}</td>'
            f'<td style="{_CELL};padding-left:10px;width:{width}px"><div style="background:{_TRACK};border-radius:3px">'
            f'<div style="width:{length:.1f}%;height:11px;border-radius:3px;background:{colour}"></div></div></td>'
            f'<td style="{_CELL};{weight};padding-left:10px;text-align:right;{_NUMBER}">{share:.1%}</td></tr>'
        )
    return Html(f'<table style="{_TABLE}"><tbody>{"".join(parts)}</tbody></table>')


def picture(jpeg: bytes, name: str) -> Html:
    """Return a JPEG as an image."""
    style = f"max-width:{_BREADTH}px;max-height:{_HEIGHT}px;margin:0;border-radius:6px;display:block"
    return Html(f'<img src="{_data(jpeg)}" alt="{escape(name)}" title="{escape(name)}" style="{style}">')


def beside(left: object, right: object) -> Html:
    """Put two parts beside each other, or under each other where there is no room; the left one stays at the top."""
    return Html(
        f'<div style="display:flex;flex-wrap:wrap;gap:10px 22px;align-items:flex-start"><div>{escape(left)}</div>'
        f'<div style="align-self:center">{escape(right)}</div></div>'
    )


class Card(NamedTuple):
    """A result in a grid: a small JPEG, if there is one, what it is of, and its bars."""

    jpeg: bytes | None
    name: str
    rows: Sequence[Bar]


def grid(cards: Iterable[Card]) -> Html:
    """Return results as cards, as many beside each other as there is room for."""
    return Html(
        '<div style="display:grid;grid-template-columns:repeat(auto-fill,minmax(176px,1fr));gap:12px">'
        + "".join(map(_card, cards))
        + "</div>"
    )


def _card(card: Card) -> str:
    if card.jpeg is None:
        top = f'<span style="{_SOFT}">no picture</span>'
    else:
        style = "max-width:100%;max-height:100%;object-fit:contain;margin:0;display:block"
        top = f'<img src="{_data(card.jpeg)}" alt="{escape(card.name)}" style="{style}">'
    rows = []
    for name, share, is_chosen, is_none in card.rows:
        inner = f"<i>{escape(name)}</i>" if is_none else escape(name)
        if share is None:
            rows.append(f"<div>{inner}</div>")
            continue
        colour = BLUE if is_chosen else _GREY
        rows.append(
            f'<div title="{escape(name)}" style="{"font-weight:600" if is_chosen else ""};display:flex;gap:8px">'
            f'<span dir="auto" style="flex:1;min-width:0;{_CUT}">{inner}</span> '
            f'<span style="{_NUMBER}">{share:.1%}</span></div>'
            f'<div style="background:{_TRACK};border-radius:2px;margin-bottom:3px"><div style="height:4px;'
            f'border-radius:2px;width:{min(max(100 * share, 1), 100):.1f}%;background:{colour}"></div></div>'
        )
    name = f'<div style="{_SOFT};font-size:11px;{_CUT}" title="{escape(card.name)}">{escape(card.name)}</div>'
    return (
        f'<div style="border:1px solid {_LINE};border-radius:8px;overflow:hidden;min-width:0"><div style="height:132px;'
        f'display:flex;align-items:center;justify-content:center;background:rgba(128,128,128,.1)">{top}</div>'
        f'<div style="padding:6px 9px 7px">{"".join(rows)}{name if card.name else ""}</div></div>'
    )


def _data(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def plural(count: int, noun: str) -> str:
    """Return a number and what it counts.

    Examples
    --------
    >>> plural(1, "class"), plural(1200, "class"), plural(2, "image")
    ('1 class', '1,200 classes', '2 images')
    """
    return f"{count:,} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"
