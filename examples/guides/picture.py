"""Draw the README's picture: the four example photographs and what `mini` says of them, for light and dark pages.

``python examples/guides/picture.py`` writes ``photographs-light.jpg`` and ``photographs-dark.jpg`` beside itself.
Nothing in them is written down here but the labels: bars and numbers are the library's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import zeroshot

PHOTOGRAPHS = Path(__file__).parents[1] / "images"
LABELS = ["cat", "dog", "clock", "plate", "rocket", "lighthouse", "cup of coffee", "bowl of soup"]
SIDE, GAP, ROW, ROWS = 340, 24, 40, 3
THEMES = {"light": ("#ffffff", "#1f2328", "#d9dee3", "#2563c9"), "dark": ("#0d1117", "#e6edf3", "#2b3138", "#4c8bf5")}


def draw(predictions: list[zeroshot.Prediction], paths: list[Path], theme: str) -> Image.Image:
    """Return the photographs in a row, each with bars of its most probable labels below."""
    ground, ink, rail, bar = THEMES[theme]
    font = ImageFont.load_default(size=22)
    image = Image.new("RGB", (len(paths) * (SIDE + GAP) + GAP, SIDE + GAP * 3 + ROW * ROWS), ground)
    pen = ImageDraw.Draw(image)
    for column, (path, prediction) in enumerate(zip(paths, predictions, strict=True)):
        left, top = GAP + column * (SIDE + GAP), GAP
        with Image.open(path) as photograph:
            edge = min(photograph.size)
            x, y = (photograph.width - edge) // 2, (photograph.height - edge) // 2
            square = photograph.convert("RGB").crop((x, y, x + edge, y + edge)).resize((SIDE, SIDE))
        image.paste(square, (left, top))
        for row, match in enumerate(prediction.top(ROWS)):
            base = top + SIDE + GAP + row * ROW
            pen.text((left, base), match.label, font=font, fill=ink)
            pen.text((left + SIDE, base), f"{match.score:.1%}", font=font, fill=ink, anchor="ra")
            pen.rectangle((left, base + 28, left + SIDE - 1, base + 33), fill=rail)
            pen.rectangle((left, base + 28, left + max(round((SIDE - 1) * match.score), 1), base + 33), fill=bar)
    return image


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    paths = sorted(PHOTOGRAPHS.glob("*.jpg"))
    predictions = zeroshot.classify(paths, LABELS, model="mini")
    for theme in THEMES:
        draw(predictions, paths, theme).save(folder / f"photographs-{theme}.jpg", quality=82, optimize=True)


if __name__ == "__main__":
    main()
