"""Pictures that leave no doubt: what `zeroshot.limits` asks, and how each of its sets is drawn.

Each set asks one thing: which number, which side, which word. Sources of the limits stand in `LIMITS`, above all
section 6 of the paper: CLIP "struggles with more abstract and systematic tasks such as counting the number of objects
in an image"; "for novel tasks […] such as classifying the distance to the nearest car in a photo, CLIP's performance
can be near random"; and it "only achieves 88% accuracy on the handwritten digits of MNIST".

Two sets are controls, colours and shapes: an encoder that fails on them does not understand drawings at all, and its
failure on the others says nothing of the limit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zeroshot.errors import OptionError
from zeroshot.image import ImageLike, open_image

SIDE = 224
PER_CLASS = 20

_COLOURS = {
    "red": (206, 32, 41),
    "green": (38, 148, 62),
    "blue": (33, 84, 196),
    "yellow": (242, 201, 28),
    "purple": (126, 52, 157),
    "orange": (238, 124, 22),
}
_PAPERS = ((255, 255, 255), (243, 240, 232), (226, 233, 240), (235, 226, 226), (214, 216, 212))
_SHAPES = ("circle", "square", "triangle", "star")
_NUMBERS = ("one", "two", "three", "four", "five", "six")
_WORDS = ("apple", "house", "river", "music", "paper", "seven", "light", "bread")
_Drawing = Callable[[int, random.Random], Image.Image]


@dataclass(frozen=True)
class Limit:
    """One thing to ask: how its pictures are drawn, and the prompts of its classes.

    Attributes
    ----------
    name, title : str
    labels : tuple of str
    prompts : tuple of str
        One for each label.
    draw : callable
        ``(class, random numbers) -> image``.
    control : bool
        Whether it is one that models are expected to pass.
    asks, source : str
        What is asked, and who found that it fails.

    Examples
    --------
    >>> counting = LIMITS["counting"]
    >>> counting.labels[:2], counting.prompts[0]
    (('one', 'two'), 'a drawing of one circle.')
    >>> pictures, classes = counting.images(per_class=1)
    >>> len(pictures), classes
    (6, [0, 1, 2, 3, 4, 5])
    """

    name: str
    title: str
    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    draw: _Drawing
    control: bool
    asks: str
    source: str

    def image(self, label: int, number: int, *, seed: int = 0) -> Image.Image:
        """Draw the picture of a class with this number: 224 x 224 pixels, the same each time.

        Parameters
        ----------
        label : int
            Position of the class.
        number : int
            Which of its pictures.
        seed : int
            Another seed gives other pictures.

        Returns
        -------
        PIL.Image.Image

        Examples
        --------
        >>> LIMITS["counting"].image(2, 0).size
        (224, 224)
        """
        # Strings as seeds are the same on every machine and in every run.
        return self.draw(label, random.Random(f"{self.name}/{self.labels[label]}/{number}/{seed}"))

    def images(self, per_class: int = PER_CLASS, *, seed: int = 0) -> tuple[list[Image.Image], list[int]]:
        """Draw a set: so many pictures of each class, and their classes.

        Parameters
        ----------
        per_class : int
        seed : int
            As for `image`.

        Returns
        -------
        images : list of PIL.Image.Image
        classes : list of int
        """
        pairs = [(label, number) for label in range(len(self.labels)) for number in range(per_class)]
        return [self.image(label, number, seed=seed) for label, number in pairs], [label for label, _ in pairs]


# ---------------------------------------------------------------------------------------------------------- drawing


def _paper(rng: random.Random) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), rng.choice(_PAPERS))


def _shape(
    image: Image.Image, shape: str, centre: tuple[float, float], size: float, colour: str, turn: float = 0
) -> None:
    """Draw a filled shape that fits into a circle of the radius `size`, with smooth edges."""
    scale = 4
    layer = Image.new("L", (SIDE * scale, SIDE * scale))
    pen = ImageDraw.Draw(layer)
    x, y, r = centre[0] * scale, centre[1] * scale, size * scale
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[shape]
        first = {"square": 45.0, "triangle": -90.0, "star": -90.0}[shape] + turn
        points = []
        for corner in range(corners):
            angle = np.deg2rad(first + 360 * corner / corners)
            reach = r * (0.42 if shape == "star" and corner % 2 else 1)
            points.append((float(x + reach * np.cos(angle)), float(y + reach * np.sin(angle))))
        pen.polygon(points, fill=255)
    image.paste(_COLOURS[colour], mask=layer.resize((SIDE, SIDE), Image.Resampling.BOX))


def _apart(count: int, size: float, rng: random.Random) -> list[tuple[float, float]]:
    """Find places for circles of the radius `size` that do not touch; cells of a grid, so that it always ends."""
    cells = 3
    room = SIDE / cells
    free = room / 2 - size - 1
    chosen = rng.sample([(row, column) for row in range(cells) for column in range(cells)], count)
    return [
        ((column + 0.5) * room + rng.uniform(-free, free), (row + 0.5) * room + rng.uniform(-free, free))
        for row, column in chosen
    ]


def _draw_count(label: int, rng: random.Random) -> Image.Image:
    image, colour, size = _paper(rng), rng.choice(list(_COLOURS)), rng.uniform(16, 28)
    for place in _apart(label + 1, size, rng):
        _shape(image, "circle", place, size, colour)
    return image


def _draw_text(text: str, rng: random.Random, *, largest: int, smallest: int) -> Image.Image:
    image, size = _paper(rng), rng.randint(smallest, largest)
    font = ImageFont.load_default(size)  # Pillow's own, the same on every machine
    left, top, right, bottom = font.getbbox(text)
    width, height = right - left, bottom - top
    place = rng.uniform(4, max(SIDE - width - 4, 5)), rng.uniform(4, max(SIDE - height - 4, 5))
    ink = rng.choice([(20, 20, 20), (30, 40, 90), (110, 20, 25), (25, 80, 40)])
    ImageDraw.Draw(image).text((place[0] - left, place[1] - top), text, fill=ink, font=font)
    return image


def _draw_digit(label: int, rng: random.Random) -> Image.Image:
    return _draw_text(str(label), rng, largest=180, smallest=90)


def _draw_word(label: int, rng: random.Random) -> Image.Image:
    return _draw_text(_WORDS[label], rng, largest=60, smallest=34)


def _misspelt(word: str) -> str:
    """Swap two letters in the middle."""
    return word[0] + word[2] + word[1] + word[3:]


def _draw_spelling(label: int, rng: random.Random) -> Image.Image:
    word = rng.choice(["house", "music", "paper", "light", "bread", "table"])
    return _draw_text(word if label == 0 else _misspelt(word), rng, largest=60, smallest=40)


def _draw_distance(label: int, rng: random.Random) -> Image.Image:
    """A road to the horizon, and a car on it that is smaller the further away it is."""
    horizon = rng.uniform(80, 110)
    image = Image.new("RGB", (SIDE, SIDE), rng.choice([(176, 208, 236), (205, 214, 222), (150, 190, 230)]))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, horizon, SIDE, SIDE), fill=rng.choice([(98, 140, 74), (150, 142, 96), (120, 150, 90)]))
    vanish = SIDE / 2 + rng.uniform(-15, 15)
    pen.polygon([(vanish - 3, horizon), (vanish + 3, horizon), (SIDE + 20, SIDE), (-20, SIDE)], fill=(92, 92, 96))
    near = (1.0, 0.42, 0.14)[label] * rng.uniform(0.85, 1.15)  # 1 at the lower edge, 0 at the horizon
    bottom = horizon + (SIDE - horizon) * min(near, 1.0) * 0.97
    middle, width = vanish + (SIDE / 2 - vanish) * near, 118 * near
    colour = _COLOURS[rng.choice(["red", "blue", "yellow", "green"])]
    height = width * 0.72
    body = (middle - width / 2, bottom - height * 0.62, middle + width / 2, bottom - height * 0.12)
    pen.rounded_rectangle(
        (middle - width * 0.36, bottom - height, middle + width * 0.36, bottom - height * 0.4), width * 0.1, fill=colour
    )
    pen.rectangle(
        (middle - width * 0.29, bottom - height * 0.92, middle + width * 0.29, bottom - height * 0.62),
        fill=(40, 52, 66),
    )
    for side in (-1, 1):
        x = middle + side * width * 0.36
        pen.rectangle((x - width * 0.09, bottom - height * 0.2, x + width * 0.09, bottom), fill=(18, 18, 18))
    pen.rounded_rectangle(body, width * 0.06, fill=colour)
    for side in (-1, 1):
        x, y, r = middle + side * width * 0.38, bottom - height * 0.38, max(width * 0.06, 0.6)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(250, 60, 50))
    return image


def _draw_size(label: int, rng: random.Random) -> Image.Image:
    """A red and a blue circle; class 0 has the larger one red."""
    image, sizes = _paper(rng), [rng.uniform(38, 46), rng.uniform(14, 20)]
    colours = ["red", "blue"] if label == 0 else ["blue", "red"]
    places = [(rng.uniform(50, 66), rng.uniform(60, 164)), (rng.uniform(158, 174), rng.uniform(60, 164))]
    rng.shuffle(places)
    for place, size, colour in zip(places, sizes, colours, strict=True):
        _shape(image, "circle", place, size, colour)
    return image


def _draw_negation(label: int, rng: random.Random) -> Image.Image:
    """A square, with a circle beside it or without."""
    image = _paper(rng)
    places = _apart(3, 28, rng)
    square, other = rng.sample(list(_COLOURS), 2)
    _shape(image, "square", places[0], 28, square)
    _shape(image, "circle" if label == 0 else "triangle", places[1], 26, other)
    return image


def _draw_side(label: int, rng: random.Random) -> Image.Image:
    """A circle and a square beside each other; class 0 has the circle to the left."""
    image = _paper(rng)
    left, right = ("circle", "square") if label == 0 else ("square", "circle")
    colour = rng.choice(list(_COLOURS))
    height = rng.uniform(70, 154)
    for shape, x in ((left, rng.uniform(48, 66)), (right, rng.uniform(158, 176))):
        _shape(image, shape, (x, height + rng.uniform(-12, 12)), rng.uniform(28, 36), colour)
    return image


def _draw_colour(label: int, rng: random.Random) -> Image.Image:
    image = _paper(rng)
    _shape(image, rng.choice(_SHAPES), _middle(rng), rng.uniform(50, 75), list(_COLOURS)[label])
    return image


def _draw_shape(label: int, rng: random.Random) -> Image.Image:
    image = _paper(rng)
    turn = rng.uniform(-12, 12)
    _shape(image, _SHAPES[label], _middle(rng), rng.uniform(50, 75), rng.choice(list(_COLOURS)), turn)
    return image


def _middle(rng: random.Random) -> tuple[float, float]:
    return rng.uniform(90, 134), rng.uniform(90, 134)


# --------------------------------------------------------------------------------------------------------- the sets

_PAPER = "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021"
_SIDES = ("a circle to the left of a square", "a square to the left of a circle")


def _limit(
    name: str, title: str, labels: Sequence[str], prompt: Callable[[str], str] | Sequence[str], draw: _Drawing,
    asks: str, source: str, *, control: bool = False,
) -> Limit:  # fmt: skip
    prompts = tuple(prompt(label) for label in labels) if callable(prompt) else tuple(prompt)
    return Limit(name, title, tuple(labels), prompts, draw, control, asks, source)


LIMITS: Mapping[str, Limit] = {
    limit.name: limit
    for limit in (
        _limit(
            "colours", "Colours", list(_COLOURS), lambda name: f"a drawing of a {name} shape.".replace("a o", "an o"),
            _draw_colour, "Which colour has the shape?", "Expected to be easy.", control=True,
        ),
        _limit(
            "shapes", "Shapes", _SHAPES, lambda name: f"a drawing of a {name}.",
            _draw_shape, "Which shape is it?", "Expected to be easy.", control=True,
        ),
        _limit(
            "counting", "Counting", _NUMBERS,
            lambda number: f"a drawing of {number} circle{'' if number == 'one' else 's'}.",
            _draw_count, "How many circles are there?",
            f"{_PAPER}, section 6, and CLEVRCounts, table 11; Paiss et al., Teaching CLIP to Count to Ten, ICCV 2023.",
        ),
        _limit(
            "digits", "Digits", [str(digit) for digit in range(10)], lambda digit: f'a photo of the number: "{digit}".',
            _draw_digit, "Which digit is it? (Printed; MNIST's are written by hand.)",
            f"{_PAPER}, section 6 and appendix E.2: 88% on MNIST, less than logistic regression on pixels.",
        ),
        _limit(
            "distance", "Distance", ["near", "middle", "far"],
            ["a car right in front of the camera.", "a car at a middle distance.", "a car far away on the horizon."],
            _draw_distance, "How far away is the car?", f"{_PAPER}, section 6, and KITTI Distance in table 11.",
        ),
        _limit(
            "size", "Size", ["red larger", "blue larger"],
            ["a large red circle and a small blue circle.", "a large blue circle and a small red circle."],
            _draw_size, "Which of the two is larger?",
            "Yuksekgonul et al., When and Why Vision-Language Models Behave like Bags-Of-Words, ICLR 2023: which "
            "thing has which attribute.",
        ),
        _limit(
            "negation", "Negation", ["with a circle", "without a circle"],
            ["a drawing with a circle.", "a drawing without a circle."],
            _draw_negation, "Is there a circle?",
            "Alhamoud et al., Vision-Language Models Do Not Understand Negation, CVPR 2025.",
        ),
        _limit(
            "left_right", "Left and right", ["circle left", "square left"], [f"{side}." for side in _SIDES],
            _draw_side, "Which of the two is on the left?",
            "Kamath, Hessel and Chang, What's \"up\" with vision-language models?, EMNLP 2023.",
        ),
        _limit(
            "words", "Rendered words", _WORDS, lambda word: f'an image of the word "{word}".',
            _draw_word, "Which word is written there? (What CLIP learned to do.)",
            f"{_PAPER}, section 6: digitally rendered text is common in its training data.",
        ),
        _limit(
            "spelling", "Spelling", ["right", "wrong"], ["a correctly spelled word.", "a misspelled word."],
            _draw_spelling, "Is the word spelled right?",
            f"{_PAPER}, appendix E.2: what it learned of text is of its meaning.",
        ),
    )
}  # fmt: skip


# ----------------------------------------------------------------------------------------------------- of photographs


def photograph_limits(photographs: Mapping[str, ImageLike]) -> list[Limit]:
    """Return sets composed of photographs: which thing it is (a control), counting, negation, left and right.

    Parameters
    ----------
    photographs : mapping from name to image
        Names with their articles, as they go into prompts. Each image shows its thing alone, in the middle.

    Returns
    -------
    list of Limit

    Raises
    ------
    OptionError
        If there are fewer than two.
    ImageError
        If one cannot be read.

    Examples
    --------
    >>> found = photograph_limits({"a cat": "examples/images/cat.jpg", "a rocket": "examples/images/rocket.jpg"})
    >>> [limit.name for limit in found]
    ['photographs', 'photographs_counting', 'photographs_negation', 'photographs_left_right']
    """
    if len(photographs) < 2:
        raise OptionError(f"photographs are {list(photographs)}; expected two at least, such as a cat and a rocket")
    names = list(photographs)
    images = [_centre(open_image(image)) for image in photographs.values()]
    first, second = names[:2]

    def alone(label: int, rng: random.Random) -> Image.Image:
        return _piece(images[label], SIDE, rng)

    def count(label: int, rng: random.Random) -> Image.Image:
        image, side = _paper(rng), SIDE // 2 - 6
        piece = _piece(rng.choice(images), side, rng)
        for cell in rng.sample(range(4), label + 1):
            image.paste(piece, (cell % 2 * SIDE // 2 + 3, cell // 2 * SIDE // 2 + 3))
        return image

    def beside(label: int, rng: random.Random) -> Image.Image:
        image, side = _paper(rng), SIDE // 2 - 4
        top = rng.randrange(4, SIDE // 2)
        for number, x in ((label, 2), (1 - label, SIDE // 2 + 2)):
            image.paste(_piece(images[number], side, rng), (x, top))
        return image

    def without(label: int, rng: random.Random) -> Image.Image:
        return _piece(images[0] if label == 0 else rng.choice(images[1:]), SIDE, rng)

    negation, sides = LIMITS["negation"].source, LIMITS["left_right"].source
    return [
        Limit(
            "photographs", "Photographs", tuple(names), tuple(f"a photo of {name}." for name in names), alone, True,
            "Which thing is it?", "Expected to be easy.",
        ),
        Limit(
            "photographs_counting", "Counting photographs", _NUMBERS[:4],
            tuple(f"{number} photo{'' if number == 'one' else 's'}." for number in _NUMBERS[:4]), count, False,
            "How often is the photograph there?", LIMITS["counting"].source,
        ),
        Limit(
            "photographs_negation", "Negation, photographs", (f"with {first}", f"without {first}"),
            (f"a photo with {first}.", f"a photo without {first}."), without, False, f"Is there {first}?", negation,
        ),
        Limit(
            "photographs_left_right", "Left and right, photographs", (f"{first} left", f"{second} left"),
            (f"{first} to the left of {second}.", f"{second} to the left of {first}."), beside, False,
            "Which of the two is on the left?", sides,
        ),
    ]  # fmt: skip


def _centre(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _piece(image: Image.Image, side: int, rng: random.Random) -> Image.Image:
    """Take nine tenths of an image or more from a random place, mirrored or not, and make it `side` pixels."""
    part = int(image.width * rng.uniform(0.9, 1))
    left, top = (rng.randint(0, image.width - part) for _ in range(2))
    piece = image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + part, top + part))
    return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else piece
