"""Pieces of HTML: whatever a text holds is shown as text, and every element that is opened is closed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reader import Reader
from zeroshot import display
from zeroshot.display import Bar, Card, Html

HOSTILE = "<script>alert('x')</script> & \"quoted\" $5 or $10"
# Everything but lone surrogates, which no page can hold, and which are shown as �.
TEXTS = st.text(max_size=40)


def everything(text: str) -> Html:
    """Return a page with a text in every place that takes one."""
    bars = [Bar(text, 0.5, is_chosen=True), Bar(text, 0.25), Bar(text, 0.25, is_none=True)]
    return display.page(
        text,
        display.title(text, text),
        display.facts([(text, text), ("empty", ""), ("none", None)]),
        display.table([text], [[text]], numbers=[0]),
        display.words([text, text, text], shown=2),
        display.lines([text, text, text], shown=2),
        display.details(text, text),
        display.beside(display.picture(b"jpeg", text), display.bars(bars)),
        display.grid([Card(None, text, bars), Card(b"jpeg", text, bars)]),
    )


KNOWN = {"div", "b", "span", "table", "tbody", "thead", "tr", "th", "td", "bdi", "details", "summary", "img", "i"}


@given(TEXTS)
def test_a_text_is_shown_and_never_read(text: str) -> None:
    page = Reader(everything(f"[{text}]"))
    assert page.tags == KNOWN
    shown = "\n".join(map(display.printable, f"[{text}]".split("\n")))
    assert page.text.count(shown) == 24
    assert set(page.titles) == {shown}


def test_hostile_texts() -> None:
    html = everything(HOSTILE)
    assert "<script" not in html
    page = Reader(html)
    assert page.tags == KNOWN
    assert page.text.count(HOSTILE) == 24
    assert set(page.titles) == {HOSTILE}
    assert "tex2jax_ignore" in html  # or MathJax would make a formula of "$5 or $"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("кот 猫 قطة", "кот 猫 قطة"),
        ("می‌خواهم", "می‌خواهم"),  # a joiner inside a word
        ("👩‍🚀", "👩‍🚀"),
        ("cat\u202egod", "cat�god"),  # turns the direction of what follows
        ("a\x00b\x1b[31m", "a�b�[31m"),
        ("\udce9", "�"),
        ("a\tb\nc", "a b c"),
    ],
)
def test_what_has_no_form_of_its_own(text: str, shown: str) -> None:
    assert display.printable(text) == shown
    display.escape(text).encode("utf-8")


def test_lines_stay_lines_in_html() -> None:
    assert display.escape("a\nb") == "a\nb"


def test_html_is_escaped_once() -> None:
    assert display.escape(display.escape("<&>")) == "&lt;&amp;&gt;"
    assert display.escape(3) == "3"


def test_bars_are_as_long_as_shares() -> None:
    html = display.bars([Bar("whole", 1.0, is_chosen=True), Bar("half", 0.5), Bar("nothing", 0.0), Bar("more", 1.0001)])
    assert [part.split("%")[0] for part in html.split('style="width:')[1:]] == ["100.0", "50.0", "0.5", "100.0"]
    assert [shown in html for shown in (">100.0%<", ">50.0%<", ">0.0%<")] == [True] * 3
    assert html.count(display.BLUE) == 1


def test_a_line_without_a_share_is_text() -> None:
    rows = [Bar("(none reaches 50%)", None, is_none=True), Bar("cat", 0.25)]
    for html in (display.bars(rows), display.grid([Card(None, "", rows)])):
        assert "<i>(none reaches 50%)</i>" in html
        assert html.count("%</td>") + html.count("%</span>") == html.count("background:rgba(128,128,128,.18)") == 1


def test_a_name_is_cut_off_at_its_end_in_the_direction_in_which_it_is_written() -> None:
    rows = [Bar("قطة", 0.5), Bar("cat", 0.5)]
    for html in (display.bars(rows), display.grid([Card(None, "", rows)]), display.words(["قطة", "cat"])):
        for name in ("قطة", "cat"):
            # The direction is that of the text in the element itself: a <bdi> in it would not be looked into.
            assert re.search(rf'<(td|span) dir="auto" style="[^"]*text-overflow:ellipsis[^"]*"[^>]*>{name}</\1>', html)


def test_what_is_left_out_is_counted() -> None:
    names = [f"name {number}" for number in range(1030)]
    assert "and 1,006 more" in display.words(names)
    assert "and 1,022 more" in display.lines(names)
    assert "more" not in display.words(names[:24]) + display.lines(names[:8])


def test_a_picture_that_is_missing_is_told() -> None:
    assert "no picture" in display.grid([Card(None, "", [Bar("cat", 1.0)])])
