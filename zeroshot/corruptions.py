"""Synthetic corruptions of images, for those who have no other images of the same classes: after ImageNet-C.

The kinds and the parameters of their five severities are those of Hendrycks and Dietterich, Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations, ICLR 2019 (hendrycks/robustness, ImageNet-C/create_c); the code is
our own and needs NumPy and Pillow alone. As there, an image is first made 224 x 224 pixels (shorter side to 256, centre
crop), since the parameters are in pixels of that size; severity 0 is that and nothing more, to be compared with.

Fed with the same random numbers, all but `frost` give what the published functions give, to one level of 255 (`snow`
to two); its entry says how it differs. The published data set was stored as JPEG of quality 85, which these are not.
Of the published kinds spatter is left out.

Robustness to such corruptions says little of robustness to natural shifts (Taori et al., 2020; CLIP's paper, section
3.3): where you can get images of the other kind, measure on them.
"""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroshot.errors import OptionError
from zeroshot.image import Item, iter_images, open_image

SIDE, SHORTER_SIDE = 224, 256
SEVERITIES = (1, 2, 3, 4, 5)

Floats: TypeAlias = npt.NDArray[np.float64]
Parameters: TypeAlias = "float | tuple[float, ...]"
# Takes an image of (224, 224, 3) in [0, 1], the parameters of a severity, and random numbers.
Function: TypeAlias = Callable[[Floats, Any, np.random.Generator], Floats]


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes
    ----------
    name, group : str
        Group is ``noise``, ``blur``, ``weather`` or ``digital``.
    what : str
        What is done, and what the parameters are.
    parameters : tuple
        For severities 1 to 5.
    benchmark : bool
        Whether it is one of the 15 over which the mean corruption error is taken; the others are for validation.
    differs : str
        From the published function; empty where only the random numbers do.
    function : callable
        What does it; `corrupt` calls it.

    Examples
    --------
    >>> fog = CORRUPTIONS["fog"]
    >>> fog.group, fog.benchmark, len(fog.parameters)
    ('weather', True, 5)
    """

    name: str
    group: str
    what: str
    parameters: tuple[Parameters, ...]
    benchmark: bool
    differs: str
    function: Function


def available_corruptions(*, benchmark: bool = False) -> list[str]:
    """Return the names of the kinds, in the published order; with `benchmark` the 15 of the mean corruption error.

    Parameters
    ----------
    benchmark : bool

    Examples
    --------
    >>> len(available_corruptions()), len(available_corruptions(benchmark=True))
    (18, 15)
    """
    return [name for name, kind in CORRUPTIONS.items() if kind.benchmark or not benchmark]


def corrupt(image: Any, kind: str, severity: int, *, seed: int | tuple[int, ...] = 0) -> Image.Image:
    """Corrupt an image.

    Parameters
    ----------
    image : image
        As `open_image` takes it.
    kind : str
        A name from `available_corruptions`.
    severity : int
        1 to 5; 0 only makes the image 224 x 224 pixels.
    seed : int, or tuple of int
        The same seed gives the same image. Kinds and severities draw apart.

    Returns
    -------
    PIL.Image.Image
        224 x 224 pixels, RGB.

    Raises
    ------
    OptionError
        If there is no such kind or severity.
    ImageError
        If the image cannot be decoded.

    Examples
    --------
    >>> corrupt("examples/images/cat.jpg", "fog", 3, seed=1).size
    (224, 224)
    """
    chosen, level = check_corruption(kind, severity)
    square = _square(open_image(image))
    if level == 0:
        return square
    digits = seed if isinstance(seed, tuple) else (seed,)
    rng = np.random.default_rng([*digits, zlib.crc32(kind.encode()), level])
    pixels = chosen.function(np.asarray(square, dtype=np.float64) / 255, chosen.parameters[level - 1], rng)
    # Cut off, not rounded, as published; 1e-9 keeps what 8 bits can tell from falling through rounding of floats.
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 1e-9).astype(np.uint8))


def corrupted_items(images: Any, kind: str, severity: int, *, seed: int = 0) -> Generator[Item, None, None]:
    """Yield the images of a collection as items that are corrupted when they are decoded.

    `Classifier.stream` and `embed_stream` take them; the work is done in their decoding threads, and what an image
    becomes depends on its position alone.

    Parameters
    ----------
    images : image or iterable of images or Item
    kind, severity
        As for `corrupt`.
    seed : int

    Yields
    ------
    Item

    Raises
    ------
    OptionError
        If there is no such kind or severity.

    Examples
    --------
    >>> import zeroshot
    >>> clf = zeroshot.Classifier(["cat", "rocket"], model="mini")
    >>> items = corrupted_items(["examples/images/cat.jpg"], "gaussian_noise", 2)
    >>> [outcome.prediction.label for outcome in clf.stream(items)]
    ['cat']
    """
    check_corruption(kind, severity)
    return _items(images, kind, severity, seed)


def corrupted_item(item: Item, kind: str, severity: int, *, seed: tuple[int, ...]) -> Item:
    """Return an item that opens as the corrupted image of another one.

    Parameters
    ----------
    item : Item
    kind, severity
        As for `corrupt`.
    seed : tuple of int

    Returns
    -------
    Item

    Examples
    --------
    >>> item = corrupted_item(Item("a cat", "examples/images/cat.jpg"), "fog", 3, seed=(0,))
    >>> item.source, item.image().size
    ('a cat', (224, 224))
    """
    return Item(item.source, functools.partial(_corrupt_item, item.image, kind, severity, seed))


def _items(images: Any, kind: str, severity: int, seed: int) -> Generator[Item, None, None]:
    for index, image in enumerate(iter_images(images)):
        item = image if isinstance(image, Item) else Item(str(image) if isinstance(image, str) else str(index), image)
        yield corrupted_item(item, kind, severity, seed=(seed, index))


def _corrupt_item(image: Any, kind: str, severity: int, seed: tuple[int, ...]) -> Image.Image:
    opened = image() if callable(image) else image
    try:
        return corrupt(opened, kind, severity, seed=seed)
    finally:
        if opened is not image and hasattr(opened, "close"):
            opened.close()


def check_corruption(kind: str, severity: int) -> tuple[Corruption, int]:
    """Return a kind by its name, and the severity as an int.

    Parameters
    ----------
    kind : str
    severity : int

    Returns
    -------
    tuple of Corruption and int

    Raises
    ------
    OptionError
        If there is no such kind or severity.

    Examples
    --------
    >>> check_corruption("fog", 3)[0].name
    'fog'
    """
    if kind not in CORRUPTIONS:
        raise OptionError(f"corruption {kind!r} is not known; expected one of {', '.join(CORRUPTIONS)}")
    if isinstance(severity, bool) or severity not in (0, *SEVERITIES):
        raise OptionError(f"severity is {severity!r}; expected 1 to 5, or 0 for none")
    return CORRUPTIONS[kind], int(severity)


def _square(image: Image.Image) -> Image.Image:
    """Make an image 224 x 224 as torchvision's Resize(256) and CenterCrop(224) do."""
    width, height = image.size
    if min(width, height) != SHORTER_SIDE:
        long = int(SHORTER_SIDE * max(width, height) / min(width, height))
        size = (SHORTER_SIDE, long) if width <= height else (long, SHORTER_SIDE)
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - SIDE) / 2) for side in image.size)
    return image.crop((left, top, left + SIDE, top + SIDE))


# ------------------------------------------------------------------------------------------------------------- noise


def _gaussian_noise(x: Floats, scale: float, rng: np.random.Generator) -> Floats:
    return x + rng.normal(scale=scale, size=x.shape)


def _shot_noise(x: Floats, photons: float, rng: np.random.Generator) -> Floats:
    return rng.poisson(x * photons) / photons


def _impulse_noise(x: Floats, amount: float, rng: np.random.Generator) -> Floats:
    hit, salt = rng.random(x.shape) <= amount, rng.random(x.shape) <= 0.5
    return np.where(hit, salt.astype(np.float64), x)


def _speckle_noise(x: Floats, scale: float, rng: np.random.Generator) -> Floats:
    return x + x * rng.normal(scale=scale, size=x.shape)


# -------------------------------------------------------------------------------------------------------------- blur


def _gaussian_blur(x: Floats, sigma: float, rng: np.random.Generator) -> Floats:
    return _smooth(x, sigma)


def _glass_blur(x: Floats, parameters: tuple[float, float, float], rng: np.random.Generator) -> Floats:
    sigma, reach, rounds = parameters[0], int(parameters[1]), int(parameters[2])
    x = np.floor(_smooth(x, sigma) * 255 + 1e-9) / 255
    # From the last pixel to the first each takes the place of a neighbour, which may have been moved before.
    rows, columns = (part.ravel() for part in np.mgrid[SIDE - reach : reach : -1, SIDE - reach : reach : -1])
    sources = list(range(SIDE * SIDE))
    for _ in range(rounds):
        right, down = rng.integers(-reach, reach, size=(len(rows), 2)).T
        places, others = rows * SIDE + columns, (rows + down) * SIDE + columns + right
        for place, other in zip(places.tolist(), others.tolist(), strict=True):
            sources[place] = sources[other]
    return _smooth(x.reshape(SIDE * SIDE, 3)[sources].reshape(x.shape), sigma)


def _defocus_blur(x: Floats, parameters: tuple[float, float], rng: np.random.Generator) -> Floats:
    radius, soft = parameters
    reach = max(8, int(radius))
    grid = np.arange(-reach, reach + 1)
    disk = (grid[:, None] ** 2 + grid[None, :] ** 2 <= radius**2).astype(np.float64)
    taps = 3 if radius <= 8 else 5
    edge = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * soft**2))
    kernel = _convolve((disk / disk.sum())[..., None], np.outer(edge, edge) / edge.sum() ** 2)[..., 0]
    return _convolve(x, kernel)


def _motion_blur(x: Floats, parameters: tuple[float, float], rng: np.random.Generator) -> Floats:
    radius, sigma = parameters
    return _streak(x, int(radius), sigma, rng.uniform(-45, 45))


def _zoom_blur(x: Floats, factors: tuple[float, float], rng: np.random.Generator) -> Floats:
    last, step = factors
    zooms = np.arange(1, last, step)
    return (x + sum(_zoom(x, float(factor)) for factor in zooms)) / (len(zooms) + 1)


def _smooth(x: Floats, sigma: float, *, mode: str = "nearest", truncate: float = 4.0) -> Floats:
    """Blur an array (H, W) or (H, W, C) as ``scipy.ndimage.gaussian_filter`` does along the first two axes."""
    rows, columns = (_smoothing(size, sigma, mode, truncate) for size in x.shape[:2])
    return np.tensordot(columns, np.tensordot(rows, x, axes=(1, 0)), axes=(1, 1)).swapaxes(0, 1)


@functools.lru_cache(maxsize=32)
def _smoothing(size: int, sigma: float, mode: str, truncate: float) -> Floats:
    """The blur of one axis as a matrix (size, size), with what lies beyond the edges folded in."""
    reach = int(truncate * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    places = np.arange(size)[:, None] + np.arange(-reach, reach + 1)
    if mode == "nearest":
        places = np.clip(places, 0, size - 1)
    else:  # "reflect": d c b a | a b c d | d c b a
        places = places % (2 * size)
        places = np.minimum(places, 2 * size - 1 - places)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], places), kernel / kernel.sum())
    return matrix


def _convolve(x: Floats, kernel: Floats) -> Floats:
    """Correlate (H, W, C) with a kernel of odd sides, mirrored at the edges without the edge itself, as OpenCV does."""
    down, right = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x, ((down, down), (right, right), (0, 0)), mode="reflect")
    shape = padded.shape[:2]
    product = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel[::-1, ::-1], s=shape)[..., None]
    full = np.fft.irfft2(product, s=shape, axes=(0, 1))
    return full[2 * down : 2 * down + x.shape[0], 2 * right : 2 * right + x.shape[1]]


def _streak(x: Floats, radius: int, sigma: float, angle: float) -> Floats:
    """Blur along a line to one side, as ImageMagick's motion blur: a Gaussian's half, over ``2 radius + 1`` pixels."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    turn = np.deg2rad(angle)
    right = np.ceil(steps * np.cos(turn) - 0.5).astype(np.int64)
    down = np.ceil(steps * np.sin(turn) - 0.5).astype(np.int64)
    rows, columns = np.arange(x.shape[0]), np.arange(x.shape[1])
    result = np.zeros_like(x)
    for weight, dy, dx in zip(weights, down, right, strict=True):
        y, z = np.clip(rows + dy, 0, len(rows) - 1), np.clip(columns + dx, 0, len(columns) - 1)
        result += weight * x[y][:, z]
    return result


def _zoom(x: Floats, factor: float) -> Floats:
    """Enlarge the middle of an array (H, H) or (H, H, C) and cut it to its size; bilinear, corners on corners."""
    side = x.shape[0]
    part = int(np.ceil(side / factor))
    top = (side - part) // 2
    x = x[top : top + part, top : top + part]
    large = round(part * factor)
    places = np.arange(large) * (part - 1) / (large - 1)
    low = np.minimum(places.astype(np.int64), part - 2)
    share = places - low
    weights = share.reshape(-1, *[1] * (x.ndim - 1))
    x = x[low] * (1 - weights) + x[low + 1] * weights
    weights = share.reshape(1, -1, *[1] * (x.ndim - 2))
    x = x[:, low] * (1 - weights) + x[:, low + 1] * weights
    trim = (large - side) // 2
    return x[trim : trim + side, trim : trim + side]


# ----------------------------------------------------------------------------------------------------------- weather


def _snow(x: Floats, parameters: tuple[float, ...], rng: np.random.Generator) -> Floats:
    mean, scale, zoom, least, radius, sigma, keep = parameters
    flakes = _zoom(rng.normal(mean, scale, size=x.shape[:2]), zoom)
    flakes[flakes < least] = 0
    flakes = np.floor(np.clip(flakes, 0, 1) * 255) / 255
    flakes = np.floor(_streak(flakes, int(radius), sigma, rng.uniform(-135, -45)) * 255 + 0.5)[..., None] / 255
    grey = x @ np.array([0.299, 0.587, 0.114])
    x = keep * x + (1 - keep) * np.maximum(x, grey[..., None] * 1.5 + 0.5)
    return x + flakes + np.rot90(flakes, k=2)


def _frost(x: Floats, parameters: tuple[float, float], rng: np.random.Generator) -> Floats:
    keep, ice = parameters
    return keep * x + ice * _ice(rng)


def _ice(rng: np.random.Generator) -> Floats:
    """Draw a pane with ice on it: bright needles of several sizes on bluish grey, (224, 224, 3)."""
    needles = np.zeros((SIDE, SIDE))
    for size in (1, 2, 4):
        seeds = (rng.random((SIDE, SIDE)) < 0.03 / size).astype(np.float64)
        for angle in rng.uniform(-180, 180, size=5):
            needles += _streak(seeds, 6 * size, 4 * size, float(angle)) * 3 * size
    cover = _smooth(_plasma(256, 2.0, rng)[:SIDE, :SIDE], 4.0)
    ice = np.clip(0.15 + 0.55 * cover + 0.45 * np.clip(needles, 0, 1) * cover, 0, 1)
    result: Floats = ice[..., None] * np.array([0.92, 0.97, 1.0])
    return result


def _fog(x: Floats, parameters: tuple[float, float], rng: np.random.Generator) -> Floats:
    amount, decay = parameters
    largest = x.max()
    result: Floats = (x + amount * _plasma(256, decay, rng)[:SIDE, :SIDE, None]) * largest / (largest + amount)
    return result


def _plasma(side: int, decay: float, rng: np.random.Generator) -> Floats:
    """Draw a height map (side, side) in [0, 1] by diamonds and squares, without edges; side is a power of two."""
    heights = np.zeros((side, side))
    step, wobble = side, 100.0
    while step >= 2:
        half = step // 2

        def mean(total: Floats, wobble: float = wobble) -> Floats:
            return total / 4 + wobble * rng.uniform(-wobble, wobble, size=total.shape)

        corners = heights[::step, ::step]
        total = corners + np.roll(corners, -1, axis=0)
        total = total + np.roll(total, -1, axis=1)
        heights[half::step, half::step] = mean(total)
        centres = heights[half::step, half::step]
        heights[::step, half::step] = mean(
            centres + np.roll(centres, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        )
        heights[half::step, ::step] = mean(
            centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        )
        step, wobble = half, wobble / decay
    heights -= heights.min()
    result: Floats = heights / heights.max()
    return result


def _brightness(x: Floats, by: float, rng: np.random.Generator) -> Floats:
    # Value of HSV, at the same hue and saturation: all channels by one factor. Black becomes grey.
    value = x.max(axis=2, keepdims=True)
    raised = np.clip(value + by, 0, 1)
    result: Floats = np.where(value > 0, x * (raised / np.where(value > 0, value, 1)), raised)
    return result


# ----------------------------------------------------------------------------------------------------------- digital


def _contrast(x: Floats, by: float, rng: np.random.Generator) -> Floats:
    means = x.mean(axis=(0, 1), keepdims=True)
    result: Floats = (x - means) * by + means
    return result


def _elastic_transform(x: Floats, parameters: tuple[float, float, float], rng: np.random.Generator) -> Floats:
    strength, sigma, shift = parameters
    centre, third = np.array([SIDE // 2, SIDE // 2], dtype=np.float64), SIDE // 3
    corners = np.array([centre + third, [centre[0] + third, centre[1] - third], centre - third])
    moved = corners + rng.uniform(-shift, shift, size=corners.shape)
    # The affine map that takes the three moved points (x, y) back to where they were.
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), corners)
    rows, columns = np.indices((SIDE, SIDE)).astype(np.float64)
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ back
    x = _sample(x, places[..., 1], places[..., 0], edge=0)
    dx, dy = (_smooth(rng.uniform(-1, 1, size=(SIDE, SIDE)), sigma, mode="reflect", truncate=3) for _ in range(2))
    return _sample(x, rows + strength * dy, columns + strength * dx, edge=1)


def _sample(x: Floats, rows: Floats, columns: Floats, *, edge: int) -> Floats:
    """Read an image between its pixels, bilinearly; mirrored beyond the edges, with the edge (1) or without (0)."""
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]

    def at(y: Floats, z: Floats) -> Floats:
        return x[_mirror(y, x.shape[0], edge), _mirror(z, x.shape[1], edge)]

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


def _mirror(places: Floats, size: int, edge: int) -> npt.NDArray[np.int64]:
    period = 2 * size if edge else 2 * size - 2
    inside = places.astype(np.int64) % period
    return np.minimum(inside, (period - 1 if edge else period) - inside)


def _pixelate(x: Floats, share: float, rng: np.random.Generator) -> Floats:
    side = int(SIDE * share)
    small = _as_image(x).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255


def _jpeg_compression(x: Floats, quality: float, rng: np.random.Generator) -> Floats:
    file = io.BytesIO()
    _as_image(x).save(file, "JPEG", quality=int(quality))
    with Image.open(file) as opened:
        return np.asarray(opened, dtype=np.float64) / 255


def _saturate(x: Floats, parameters: tuple[float, float], rng: np.random.Generator) -> Floats:
    factor, added = parameters
    value, least = x.max(axis=2, keepdims=True), x.min(axis=2, keepdims=True)
    saturation = (value - least) / np.where(value > 0, value, 1)
    wanted = np.clip(saturation * factor + added, 0, 1)
    red = np.array([0.0, 1.0, 1.0])  # grey has the hue 0
    away = np.where(saturation > 0, (value - x) / np.where(saturation > 0, saturation, 1), value * red)
    result: Floats = value - away * wanted
    return result


def _as_image(x: Floats) -> Image.Image:
    return Image.fromarray((x * 255 + 0.5).astype(np.uint8))


# -------------------------------------------------------------------------------------------------------------- table

_E = 244.0  # as published, where 224 was meant

CORRUPTIONS: dict[str, Corruption] = {
    kind.name: kind
    for kind in (
        Corruption(
            "gaussian_noise", "noise", "adds normal noise of this standard deviation to each channel",
            (0.08, 0.12, 0.18, 0.26, 0.38), True, "", _gaussian_noise,
        ),
        Corruption(
            "shot_noise", "noise", "counts photons (Poisson) of which white has this many",
            (60, 25, 12, 5, 3), True, "", _shot_noise,
        ),
        Corruption(
            "impulse_noise", "noise", "sets this share of all values to 0 or 1",
            (0.03, 0.06, 0.09, 0.17, 0.27), True, "", _impulse_noise,
        ),
        Corruption(
            "defocus_blur", "blur", "averages over a disk (radius, its own blur)",
            ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), True, "", _defocus_blur,
        ),
        Corruption(
            "glass_blur", "blur", "blurs (sigma), moves pixels about (by less than, rounds), and blurs again",
            ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), True, "", _glass_blur,
        ),
        Corruption(
            "motion_blur", "blur", "blurs along a line (radius, sigma) of random direction, -45 to 45 degrees",
            ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), True, "", _motion_blur,
        ),
        Corruption(
            "zoom_blur", "blur", "averages over enlargements (up to, by steps of)",
            ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)), True, "", _zoom_blur,
        ),
        Corruption(
            "snow", "weather", "adds flakes (mean, deviation, size, threshold, radius and sigma of their blur) to an "
            "image that is made whiter (share kept)",
            (
                (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
            ), True, "", _snow,
        ),
        Corruption(
            "frost", "weather", "lays ice over it (share of the image, share of the ice)",
            ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), True,
            "the ice is drawn; the published function takes pieces of five photographs of frosted panes", _frost,
        ),
        Corruption(
            "fog", "weather", "adds a plasma fractal (amount, decay)",
            ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)), True, "", _fog,
        ),
        Corruption(
            "brightness", "weather", "adds this to the value of HSV",
            (0.1, 0.2, 0.3, 0.4, 0.5), True, "", _brightness,
        ),
        Corruption(
            "contrast", "digital", "takes the distance to the mean of each channel by this factor",
            (0.4, 0.3, 0.2, 0.1, 0.05), True, "", _contrast,
        ),
        Corruption(
            "elastic_transform", "digital", "bends it (strength, smoothness) after an affine map (shift of corners)",
            (
                (_E * 2, _E * 0.7, _E * 0.1), (_E * 2, _E * 0.08, _E * 0.2), (_E * 0.05, _E * 0.01, _E * 0.02),
                (_E * 0.07, _E * 0.01, _E * 0.02), (_E * 0.12, _E * 0.01, _E * 0.02),
            ), True, "", _elastic_transform,
        ),
        Corruption(
            "pixelate", "digital", "makes it smaller by this factor and large again, in boxes",
            (0.6, 0.5, 0.4, 0.3, 0.25), True, "", _pixelate,
        ),
        Corruption(
            "jpeg_compression", "digital", "stores it as JPEG of this quality",
            (25, 18, 15, 10, 7), True, "", _jpeg_compression,
        ),
        Corruption(
            "speckle_noise", "noise", "adds normal noise of this standard deviation times the value",
            (0.15, 0.2, 0.35, 0.45, 0.6), False, "", _speckle_noise,
        ),
        Corruption(
            "gaussian_blur", "blur", "blurs with this standard deviation",
            (1, 2, 3, 4, 6), False, "", _gaussian_blur,
        ),
        Corruption(
            "saturate", "digital", "takes the saturation of HSV by a factor and adds to it",
            ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)), False, "", _saturate,
        ),
    )
}  # fmt: skip
