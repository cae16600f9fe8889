"""Draw the contact sheet of this page: a photograph under every corruption, without and at severities 1 to 5.

python examples/robustness/sheet.py examples/images/coffee.jpg sheet.jpg
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw, ImageFont

from zeroshot.corruptions import SEVERITIES, available_corruptions, corrupt

SIDE, NAMES = 96, 150


def sheet(photograph: str) -> Image.Image:
    """Return a row for each kind, a column for each severity."""
    kinds = available_corruptions()
    levels = (0, *SEVERITIES)
    page = Image.new("RGB", (NAMES + SIDE * len(levels), SIDE * len(kinds)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for row, kind in enumerate(kinds):
        pen.text((6, row * SIDE + SIDE // 2 - 8), kind, fill="black", font=font)
        for column, level in enumerate(levels):
            small = corrupt(photograph, kind, level).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            page.paste(small, (NAMES + column * SIDE, row * SIDE))
    return page


if __name__ == "__main__":
    sheet(sys.argv[1]).save(sys.argv[2], quality=60, optimize=True)
