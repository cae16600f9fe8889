"""Image-text pairs without a download: drawn scenes, and captions that say some of what is in them.

A scene is a background and one to three things, or several of a kind: ten shapes in ten colours, two sizes and three
textures, somewhere on a grid of nine cells. Its caption leaves things out, chooses among synonyms and turns sentences
around, as captions on the web do. One pairing of a colour with each shape is never drawn for training, so that there
are things to be tested on which the network has met only in parts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from zeroshot.article import indefinite_article

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 40, 40),
    "orange": (245, 130, 30),
    "yellow": (250, 215, 40),
    "lime": (165, 220, 60),
    "green": (30, 130, 60),
    "turquoise": (50, 200, 190),
    "blue": (40, 90, 215),
    "purple": (125, 50, 165),
    "pink": (245, 130, 185),
    "brown": (125, 75, 35),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond", "crescent", "arrow")
SIZES = ("large", "small")
TEXTURES = ("plain", "striped", "dotted")
BACKGROUNDS: dict[str, Rgb] = {
    "white": (245, 245, 245),
    "grey": (150, 150, 150),
    "black": (20, 20, 20),
    "beige": (225, 205, 165),
    "navy": (25, 35, 80),
}
PATTERNS = ("plain", "checked", "striped", "grainy")

# Each colour has one shape that it is never seen with in training.
PAIRINGS = {
    "new": tuple(zip(COLOURS, SHAPES, strict=True)),
    "familiar": tuple((c, s) for i, c in enumerate(COLOURS) for j, s in enumerate(SHAPES) if i != j),
}

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")
SYNONYMS = {"large": ("large", "big", "large"), "small": ("small", "little", "tiny"), "grey": ("grey", "gray")}
NUMBERS = {2: "two", 3: "three"}

IMAGE_SIZE = 48  # pixels; a cell of the grid is a third
SUPERSAMPLING = 2  # drawn larger, then averaged, which smooths the edges


@dataclass(frozen=True)
class Kind:
    """One thing, or some that look the same: what a noun phrase says."""

    colour: str
    shape: str
    size: str = "large"
    texture: str = "plain"


@dataclass(frozen=True)
class Scene:
    """What is to be seen: for each kind the cells, 0 to 8, where one stands."""

    kinds: tuple[tuple[Kind, tuple[int, ...]], ...]
    background: str = "white"
    pattern: str = "plain"


class Scenes:
    """A sequence of pairs (image, caption), drawn when they are asked for; the same for the same seed.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        Other seeds give other scenes.
    pairings : {"familiar", "new"}
        Colours and shapes as in training; or in each scene one thing whose colour and shape are never together there.
    kinds : sequence of int
        How many kinds of things a scene may have, at most three; one that stands here twice is twice as likely.
    """

    def __init__(
        self, count: int, *, seed: int = 0, pairings: str = "familiar", kinds: Sequence[int] = (1, 1, 2, 3)
    ) -> None:
        self.count, self.seed, self.pairings, self.kinds = count, seed, pairings, kinds

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, str]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = random.Random(f"{self.pairings} {self.seed} {index}")
        scene = draw_lots(rng, pairings=self.pairings, kinds=self.kinds)
        return paint(scene, rng), describe(scene, rng)


def draw_lots(rng: random.Random, *, pairings: str = "familiar", kinds: Sequence[int] = (1, 1, 2, 3)) -> Scene:
    """Return a random scene; the parameters are those of `Scenes`."""
    cells = rng.sample(range(9), 9)
    things: list[tuple[Kind, tuple[int, ...]]] = []
    for position in range(rng.choice(kinds)):
        count = rng.choice((1, 1, 1, 1, 2, 3))
        colour, shape = rng.choice(PAIRINGS[pairings if position == 0 else "familiar"])
        kind = Kind(colour, shape, rng.choice(SIZES), rng.choice(("plain", *TEXTURES)))
        things.append((kind, tuple(cells.pop() for _ in range(count))))
    rng.shuffle(things)
    return Scene(tuple(things), rng.choice(list(BACKGROUNDS)), rng.choice(("plain", *PATTERNS)))


def portrait(
    rng: random.Random,
    colour: str,
    shape: str,
    *,
    sizes: Sequence[str] = SIZES,
    textures: Sequence[str] = TEXTURES,
    backgrounds: Sequence[str] = tuple(BACKGROUNDS),
    patterns: Sequence[str] = PATTERNS,
) -> Image.Image:
    """Return an image of one thing, for tests of classification."""
    kind = Kind(colour, shape, rng.choice(sizes), rng.choice(textures))
    return paint(Scene(((kind, (rng.randrange(9),)),), rng.choice(backgrounds), rng.choice(patterns)), rng)


# ---------------------------------------------------------------------------------------------------- the caption


def describe(scene: Scene, rng: random.Random) -> str:
    """Return a caption: true, and seldom all of the truth."""
    things = [_noun_phrase(kind, len(cells), rng) for kind, cells in scene.kinds]
    if len(scene.kinds) == 1 and len(cells := scene.kinds[0][1]) == 1 and rng.random() < 0.5:
        what = f"{things[0]} {_place(cells[0], rng)}"
    elif len(scene.kinds) == 2 and rng.random() < 0.6 and (relation := _relation(scene, rng)):
        what = f"{things[0]} {relation} {things[1]}"
    else:
        order = rng.sample(things, len(things))
        what = " and ".join([", ".join(order[:-1]), order[-1]] if len(order) > 1 else order)
    where = ""
    if rng.random() < 0.5:
        background = rng.choice(SYNONYMS.get(scene.background, (scene.background,)))
        pattern = f"{scene.pattern} " if scene.pattern != "plain" and rng.random() < 0.7 else ""
        where = f"{pattern}{background} background"
        where = f"{indefinite_article(where)} {where}"
    if where and rng.random() < 0.3:
        return f"on {where}: {what}"
    start = rng.choice(("", "", "a photo of ", "a photo of ", "a drawing of ", "a picture of ", "a scene with "))
    return f"{start}{what}{f' on {where}' if where else ''}{rng.choice(('', '.'))}"


def _noun_phrase(kind: Kind, count: int, rng: random.Random) -> str:
    words = [kind.colour, kind.shape]
    if kind.texture != "plain" and rng.random() < 0.7:
        words.insert(0, kind.texture)
    if rng.random() < 0.4:
        words.insert(0, rng.choice(SYNONYMS[kind.size]))
    phrase = " ".join(words)
    if count == 1:
        return f"{indefinite_article(phrase)} {phrase}"
    return f"{NUMBERS[count]} {phrase}{'es' if kind.shape == 'cross' else 's'}"


def _place(cell: int, rng: random.Random) -> str:
    row, column = ROWS[cell // 3], COLUMNS[cell % 3]
    if row == column:
        return rng.choice(("in the middle", "in the centre"))
    if "middle" in (row, column):
        return f"{'at' if column == 'middle' else 'on'} the {row if column == 'middle' else column}"
    return rng.choice((f"in the {row} {column}", f"in the {row} {column} corner"))


def _relation(scene: Scene, rng: random.Random) -> str | None:
    (_, (first, *more)), (_, (second, *others)) = scene.kinds
    if more or others:
        return None
    options = ["next to"]
    if first % 3 != second % 3:
        options.append("left of" if first % 3 < second % 3 else "right of")
    if first // 3 != second // 3:
        options.append("above" if first // 3 < second // 3 else "below")
    return rng.choice(options)


# ---------------------------------------------------------------------------------------------------- the picture


def paint(scene: Scene, rng: random.Random) -> Image.Image:
    """Return the scene as an RGB image of `IMAGE_SIZE`; positions, sizes, angles and colours vary a little."""
    canvas = _background(scene, rng)
    cell = IMAGE_SIZE * SUPERSAMPLING / 3
    for kind, cells in scene.kinds:
        for position in cells:
            radius = cell * (0.48 if kind.size == "large" else 0.33) * rng.uniform(0.92, 1.08)
            x = cell * (position % 3 + rng.uniform(0.42, 0.58))
            y = cell * (position // 3 + rng.uniform(0.42, 0.58))
            stamp, mask = _thing(kind, radius, rng)
            canvas.paste(stamp, (round(x - radius), round(y - radius)), mask)
    return canvas.reduce(SUPERSAMPLING)


def _background(scene: Scene, rng: random.Random) -> Image.Image:
    size = IMAGE_SIZE * SUPERSAMPLING
    colour = _vary(BACKGROUNDS[scene.background], 8, rng)
    canvas = Image.new("RGB", (size, size), colour)
    draw = ImageDraw.Draw(canvas)
    other, step = _shade(colour), size // 8
    if scene.pattern == "checked":
        for i in range(8):
            for j in range(i % 2, 8, 2):
                draw.rectangle((i * step, j * step, (i + 1) * step - 1, (j + 1) * step - 1), fill=other)
    elif scene.pattern == "striped":
        for i in range(0, 8, 2):
            draw.rectangle((0, i * step, size, (i + 1) * step - 1), fill=other)
    elif scene.pattern == "grainy":
        for _ in range(150):
            x, y = rng.randrange(size), rng.randrange(size)
            draw.rectangle((x, y, x + 3, y + 3), fill=other)
    return canvas


def _thing(kind: Kind, radius: float, rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """Return a square of the thing's colour and texture, and the mask that cuts out its shape."""
    size = round(2 * radius)
    colour = _vary(COLOURS[kind.colour], 12, rng)
    stamp, mask = Image.new("RGB", (size, size), colour), Image.new("L", (size, size))
    draw, step = ImageDraw.Draw(stamp), size / 5
    if kind.texture == "striped":
        for i in range(-5, 5, 2):  # slanted
            corners = [(i * step, 0), ((i + 1) * step, 0), ((i + 6) * step, size), ((i + 5) * step, size)]
            draw.polygon(corners, fill=_shade(colour, 90))
    elif kind.texture == "dotted":
        for i in range(25):
            x, y = (i % 5 + 0.25) * step, (i // 5 + 0.25) * step
            draw.ellipse((x, y, x + step / 2, y + step / 2), fill=_shade(colour, 90))
    _shape(ImageDraw.Draw(mask), kind.shape, size, rng.uniform(-0.2, 0.2))
    return stamp, mask


def _shape(draw: ImageDraw.ImageDraw, shape: str, size: int, angle: float) -> None:
    """Fill a shape of [-1, 1] x [-1, 1], turned by an angle in radians."""

    def disc(x: float, y: float, radius: float, fill: int = 255) -> None:
        (x, y), radius = place(x, y), radius * size / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def place(x: float, y: float) -> tuple[float, float]:
        turned = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
        return (turned[0] + 1) * size / 2, (turned[1] + 1) * size / 2

    def polygon(*corners: tuple[float, float]) -> None:
        draw.polygon([place(*corner) for corner in corners], fill=255)

    if shape == "circle":
        disc(0, 0, 0.9)
    elif shape == "ring":
        disc(0, 0, 0.95)
        disc(0, 0, 0.5, fill=0)
    elif shape == "crescent":
        disc(0, 0, 0.95)
        disc(0.45, -0.2, 0.75, fill=0)
    elif shape == "square":
        polygon((-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75))
    elif shape == "diamond":
        polygon((0, -1), (0.65, 0), (0, 1), (-0.65, 0))
    elif shape == "triangle":
        polygon((0, -0.95), (0.9, 0.75), (-0.9, 0.75))
    elif shape == "cross":
        polygon((-0.3, -0.95), (0.3, -0.95), (0.3, 0.95), (-0.3, 0.95))
        polygon((-0.95, -0.3), (0.95, -0.3), (0.95, 0.3), (-0.95, 0.3))
    elif shape == "star":
        tips = [(math.sin(i * math.pi / 5), -math.cos(i * math.pi / 5)) for i in range(10)]
        polygon(*((x, y) if i % 2 == 0 else (0.42 * x, 0.42 * y) for i, (x, y) in enumerate(tips)))
    elif shape == "heart":
        disc(-0.42, -0.35, 0.5)
        disc(0.42, -0.35, 0.5)
        polygon((-0.88, -0.15), (0.88, -0.15), (0, 0.95))
    elif shape == "arrow":  # to the right
        polygon((-0.95, -0.25), (0.1, -0.25), (0.1, 0.25), (-0.95, 0.25))
        polygon((0, -0.8), (0.95, 0), (0, 0.8))
    else:
        raise ValueError(f"shape is {shape!r}; expected one of {', '.join(SHAPES)}")


def _vary(colour: Rgb, by: int, rng: random.Random) -> Rgb:
    red, green, blue = (min(max(value + rng.randint(-by, by), 0), 255) for value in colour)
    return red, green, blue


def _shade(colour: Rgb, by: int = 45) -> Rgb:
    """Return a darker colour, or of a dark one a lighter."""
    sign = -1 if sum(colour) > 3 * 110 else 1
    red, green, blue = (min(max(value + sign * by, 0), 255) for value in colour)
    return red, green, blue
