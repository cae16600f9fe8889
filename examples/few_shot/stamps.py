"""Few-shot curve of the bundled `mini` on the stamps of Tux Paint: cut-out photographs, and some drawings.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb stamps
    python examples/few_shot/stamps.py stamps/usr/share/tuxpaint/stamps --figure curve.png

Five of its folders have pictures enough, 319 in all. Their authors and licences are in the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from zeroshot.fewshot import few_shot
from zeroshot.image import open_image

FOLDERS = {
    "animals": "animal",
    "food": "food",
    "household": "household object",
    "plants": "plant",
    "vehicles": "vehicle",
}


def stamps(root: Path) -> tuple[list[Image.Image], list[str]]:
    """Return the pictures over white, at most 360 pixels wide and high, and the names of their classes."""
    images: list[Image.Image] = []
    names: list[str] = []
    for folder, name in FOLDERS.items():
        paths = [path for path in (root / folder).rglob("*.png") if "mirror" not in path.name]  # the same once more
        for path in sorted(paths, key=lambda path: f"{path.parent.name}-{path.stem}.png"):
            picture = open_image(path)
            picture.thumbnail((360, 360))
            images.append(picture)
            names.append(name)
    return images, names


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description="Few-shot curve on the stamps of Tux Paint.")
    parser.add_argument("folder", type=Path, help="the package's folder of stamps")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--figure", help="draw the curve there")
    arguments = parser.parse_args()
    images, names = stamps(arguments.folder)
    curve = few_shot(arguments.model, images, names, seeds=arguments.seeds)
    print(curve)
    if arguments.figure:
        curve.save_figure(arguments.figure, title=f"{curve.model}: animal, food, household object, plant or vehicle")


if __name__ == "__main__":
    main()
