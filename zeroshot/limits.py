"""Where it fails: small drawn sets that show what contrastive models are known not to do, before production does.

Each set asks one thing of pictures that leave no doubt: which number, which side, which word. A verdict is not a
benchmark; it says whether an encoder does better than chance at what a person finds easy. Sources of the limits stand
in `LIMITS`, above all section 6 of the paper: CLIP "struggles with more abstract and systematic tasks such as counting
the number of objects in an image"; "for novel tasks […] such as classifying the distance to the nearest car in a photo,
CLIP's performance can be near random"; and it "only achieves 88% accuracy on the handwritten digits of MNIST".

Two sets are controls, colours and shapes: an encoder that fails on them does not understand drawings at all, and its
failure on the others says nothing of the limit.
"""

from __future__ import annotations

import base64
import html
import io
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from zeroshot.cache import write_atomically
from zeroshot.classifier import ModelLike, as_encoder
from zeroshot.errors import OptionError, check_positive
from zeroshot.evaluation import Evaluation, evaluate
from zeroshot.image import ImageLike, open_image
from zeroshot.prompts import PromptSet
from zeroshot.registry import DEFAULT_MODEL

SIDE = 224
PER_CLASS = 20
ABOVE, CHANCE, BELOW = "above chance", "no better than chance", "below chance"

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


@dataclass(frozen=True)
class LimitResult:
    """What an encoder reached on one set.

    Attributes
    ----------
    limit : Limit
    n_images : int
    accuracy : float
        Top-1, in [0, 1].
    interval : tuple of float
        95% interval of `accuracy`: Clopper and Pearson's, which is never too narrow.
    chance : float
        One over the number of classes: what guessing reaches, and what always saying the same reaches.
    p_value : float
        In [0, 1]: how often guessing does at least as well (exact binomial test, one-sided).
    favourite : str
        The label that is given most often, and
    favourite_share : float
        how often; 1 means that the pictures make no difference.
    verdict : {"above chance", "no better than chance", "below chance"}
        Above or below where the interval leaves chance out.

    Examples
    --------
    >>> result = find_limits("mini", sets=["size"], per_class=5).results[0]
    >>> result.limit.name, result.n_images, result.chance, result.verdict
    ('size', 10, 0.5, 'no better than chance')
    """

    limit: Limit
    n_images: int
    accuracy: float
    interval: tuple[float, float]
    chance: float
    p_value: float
    favourite: str
    favourite_share: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Limits:
    """What `find_limits` found; `print` shows a table, a notebook the table too.

    Attributes
    ----------
    results : tuple of LimitResult
    model : str
    per_class, seed : int
        Of the drawn sets.

    Examples
    --------
    >>> limits = find_limits("mini", sets=["size"], per_class=5)
    >>> limits.to_dict()["per_class"], "| Size | 2 | 10 |" in limits.markdown()
    (5, True)
    >>> limits.save_html("limits.html")  # doctest: +SKIP
    """

    results: tuple[LimitResult, ...]
    model: str
    per_class: int
    seed: int

    def __str__(self) -> str:
        """A table, for `print`."""
        table = self._table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        right = (1, 2, 3, 5)
        lines = [
            "  ".join(
                c.rjust(w) if n in right else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in table
        ]
        return "\n".join([f"model: {self.model}", "", *(line.rstrip() for line in lines), "", self._note()])

    def _repr_html_(self) -> str:
        head, *rows = self._table()
        lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
        lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
        return f"<p>model: {html.escape(self.model)}</p><table>{''.join(lines)}</table><p>{self._note()}</p>"

    def to_dict(self) -> dict[str, Any]:
        """Return all that is known as plain lists, dicts and numbers, ready for JSON."""
        return {
            "model": self.model,
            "per_class": self.per_class,
            "seed": self.seed,
            "sets": [
                {
                    "name": one.limit.name,
                    "control": one.limit.control,
                    "labels": list(one.limit.labels),
                    "prompts": list(one.limit.prompts),
                    "source": one.limit.source,
                    "n_images": one.n_images,
                    "accuracy": one.accuracy,
                    "interval": list(one.interval),
                    "chance": one.chance,
                    "p_value": one.p_value,
                    "favourite": one.favourite,
                    "favourite_share": one.favourite_share,
                    "verdict": one.verdict,
                }
                for one in self.results
            ],
        }

    def markdown(self) -> str:
        """Return the table and what each set asks, in Markdown: the page of `zeroshot limits --markdown`."""
        head, *rows = self._table()
        lines = [f"| {' | '.join(head)} |", "|---|--:|--:|--:|---|--:|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        about = [
            f"- **{one.limit.title}**{' (a control)' if one.limit.control else ''}: {one.limit.asks} "
            f"`{one.limit.prompts[0]}`, … {one.limit.source}"
            for one in self.results
        ]
        return "\n".join([f"Measured: `{self.model}`. {self._note()}", "", *lines, "", *about, ""])

    def save_html(self, path: str | os.PathLike[str], *, pictures: int = 3) -> None:
        """Write a page with the table and pictures of every class, all in one file.

        Parameters
        ----------
        path : str or path-like
        pictures : int
            Of each class, at least 1.

        Raises
        ------
        OptionError
            If `pictures` is below 1.
        OSError
            If the folder cannot be written.
        """
        check_positive("pictures", pictures)
        parts = [_HEAD, f"<h1>Where {html.escape(self.model)} fails</h1>", self._repr_html_()]
        for one in self.results:
            limit = one.limit
            parts.append(
                f"<h2>{html.escape(limit.title)}: {one.accuracy:.0%}, {html.escape(one.verdict)}</h2>"
                f"<p>{html.escape(limit.asks)} {html.escape(limit.source)}</p><div class=row>"
            )
            for label in range(len(limit.labels)):
                shown = "".join(
                    f'<img src="{_data_url(limit.image(label, number, seed=self.seed))}" alt="" width=112 height=112>'
                    for number in range(min(pictures, self.per_class))
                )
                parts.append(f"<figure>{shown}<figcaption>{html.escape(limit.prompts[label])}</figcaption></figure>")
            parts.append("</div>")
        text = "\n".join([*parts, "</html>\n"])
        write_atomically(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def _table(self) -> list[list[str]]:
        table = [["set", "classes", "images", "accuracy", "95%", "chance", "verdict", "says most often"]]
        for one in self.results:
            low, high = one.interval
            name = one.limit.title + (" (control)" if one.limit.control else "")
            cells = [name, str(len(one.limit.labels)), str(one.n_images), f"{one.accuracy:.1%}"]
            cells += [f"{100 * low:.0f} to {100 * high:.0f}", f"{one.chance:.1%}", one.verdict]
            table.append([*cells, f"{one.favourite!r}, {one.favourite_share:.0%}"])
        return table

    def _note(self) -> str:
        failed = [one.limit.title for one in self.results if one.limit.control and one.verdict != ABOVE]
        note = f"{self.per_class} pictures a class, seed {self.seed}."
        if failed:
            note += (
                f" A control failed ({', '.join(failed)}): this encoder hardly knows such pictures, and failures on "
                "pictures of that kind say nothing of the limit."
            )
        return note


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Where it fails</title><style>
body{font-family:system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.25rem .7rem;text-align:left;border-bottom:1px solid #ddd}
.row{display:flex;flex-wrap:wrap;gap:.8rem}figure{margin:0}figcaption{font-size:.8rem;max-width:22rem}
img{border:1px solid #ddd;margin-right:2px}</style>"""


def find_limits(
    model: ModelLike = DEFAULT_MODEL,
    *,
    sets: Iterable[str] | None = None,
    photographs: Mapping[str, ImageLike] | None = None,
    per_class: int = PER_CLASS,
    seed: int = 0,
    device: str | torch.device | None = None,
    batch_size: int = 32,
) -> Limits:
    """Measure an encoder on drawn sets of what is known to fail: ``zeroshot limits``.

    Parameters
    ----------
    model : str, path or Encoder
        As `load` takes it, or any object with the members of `Encoder`.
    sets : iterable of str, optional
        Keys of `LIMITS`; by default all.
    photographs : mapping from name to image, optional
        Two things or more, such as ``{"a cat": "cat.jpg", "a rocket": "rocket.jpg"}``: sets that are composed of these
        are measured too, for encoders that know photographs and no drawings (`photograph_limits`).
    per_class : int
        Pictures of each class. With 20, two classes are told from chance at 65%.
    seed : int
        Another seed draws other pictures of the same kind.
    device, batch_size
        As for `Classifier`.

    Returns
    -------
    Limits

    Raises
    ------
    OptionError
        If there is no such set, or `per_class` is below 1.
    ZeroShotError
        As `load` does.

    Examples
    --------
    >>> limits = find_limits("mini", sets=["left_right"], per_class=10)
    >>> limits.results[0].n_images, limits.results[0].chance
    (20, 0.5)
    """
    chosen = _choose(sets)
    if photographs is not None:
        chosen += photograph_limits(photographs)
    check_positive("per_class", per_class)
    encoder = as_encoder(model, device=device)
    results = []
    for limit in chosen:
        images, targets = limit.images(per_class, seed=seed)
        written = PromptSet.from_descriptions(
            {label: [prompt] for label, prompt in zip(limit.labels, limit.prompts, strict=True)}, name=limit.name
        )
        names = [limit.labels[target] for target in targets]
        found = evaluate((images, names), model=encoder, prompts=written, resamples=1, batch_size=batch_size)
        results.append(_result(limit, found))
    return Limits(tuple(results), encoder.name, per_class, seed)


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


def _choose(sets: Iterable[str] | None) -> list[Limit]:
    names = list(LIMITS) if sets is None else [sets] if isinstance(sets, str) else list(sets)
    unknown = [name for name in names if name not in LIMITS]
    if unknown or not names:
        raise OptionError(f"sets are {names}; expected some of {', '.join(LIMITS)}")
    return [LIMITS[name] for name in names]


def _result(limit: Limit, found: Evaluation) -> LimitResult:
    matrix = found.confusion()
    images, right, classes = int(matrix.sum()), int(np.trace(matrix)), len(limit.labels)
    given = matrix.sum(axis=0)
    low, high = clopper_pearson(right, images)
    chance = 1 / classes
    verdict = ABOVE if low > chance else BELOW if high < chance else CHANCE
    favourite = int(given.argmax())
    return LimitResult(
        limit=limit,
        n_images=images,
        accuracy=right / images,
        interval=(low, high),
        chance=chance,
        p_value=binomial_tail(right, images, chance),
        favourite=limit.labels[favourite],
        favourite_share=float(given[favourite] / images),
        verdict=verdict,
    )


# -------------------------------------------------------------------------------------------------------- statistics


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Return how often at least so many of `trials` succeed if each does with probability `share`.

    Parameters
    ----------
    successes, trials : int
    share : float, in [0, 1]

    Examples
    --------
    >>> round(binomial_tail(9, 10, 0.5), 6)
    0.010742
    """
    if successes <= 0:
        return 1.0
    if share <= 0 or share >= 1:
        return float(share >= 1)
    counts = np.arange(successes, trials + 1)
    steps = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])  # logarithms of factorials
    logs = steps[trials] - steps[counts] - steps[trials - counts]
    logs = logs + counts * np.log(share) + (trials - counts) * np.log1p(-share)
    return min(float(np.exp(logs).sum()), 1.0)


def clopper_pearson(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a proportion, in [0, 1]: Clopper and Pearson, Biometrika 26, 1934.

    The proportions that neither one-sided binomial test rejects at ``(1 - level) / 2``; it covers at least `level`,
    however few trials there are.

    Parameters
    ----------
    successes, trials : int
    level : float, in (0, 1)

    Examples
    --------
    >>> [round(end, 4) for end in clopper_pearson(9, 10)]
    [0.555, 0.9975]
    """
    alpha = (1 - level) / 2
    low = _root(lambda share: binomial_tail(successes, trials, share) - alpha) if successes > 0 else 0.0
    # At most k succeed: at least n - k fail.
    high = (
        1 - _root(lambda share: binomial_tail(trials - successes, trials, share) - alpha) if successes < trials else 1.0
    )
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


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


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


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
