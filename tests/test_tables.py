"""Tables line up, whatever their letters are as wide as."""

from __future__ import annotations

from zeroshot.tables import aligned, as_html, columns


def test_columns_line_up() -> None:
    lines = aligned([["name", "n", ""], ["猫", "12", "x"], ["cafe\u0301", "3", ""]], right=[1])
    assert lines == ["name   n", "猫    12  x", "cafe\u0301   3"]
    assert columns("cafe\u0301") == 4


def test_names_are_text_in_html() -> None:
    page = as_html("a & b", [["<head>"], ["<cell>"]], "<note>")
    assert page == (
        "<p>a &amp; b</p><table><tr><th>&lt;head&gt;</th></tr><tr><td>&lt;cell&gt;</td></tr></table><p>&lt;note&gt;</p>"
    )
