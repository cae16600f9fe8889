"""What in a picture speaks for a label: heat maps by published methods, drawn over the picture.

>>> import zeroshot
>>> clf = zeroshot.Classifier(["cat", "dog", "car"], model="mini")
>>> explanation = clf.explain("examples/images/cat.jpg")
>>> explanation
<Explanation of 'cat' (99.4%): class activation map, weights by integrated gradients, 9 x 9>
>>> explanation.map.shape
(300, 451)

The methods are in `zeroshot.nets.relevance`, with their sources; how far they can be trusted is measured by
`zeroshot.faithfulness`. A map says where the network looked, and not whether it was right to.
"""

from __future__ import annotations

import base64
import difflib
import html
import io
import operator
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zeroshot.clip import ClipEncoder
from zeroshot.display import Html, literal
from zeroshot.encoder import Encoder, FeatureEncoder
from zeroshot.errors import InputTypeError, LabelError, OptionError, check_positive
from zeroshot.figures import new_figure, shorten, text_style
from zeroshot.head import Head
from zeroshot.image import ImageLike, is_single_image, open_image
from zeroshot.nets import relevance

Of = Literal["probability", "similarity"]
Floats = npt.NDArray[np.float32]

# Inferno of matplotlib (Smith and van der Walt, CC0), every sixteenth of its colours: lightness rises evenly, so that
# it reads in grey and to the colour-blind. Between them it is linear, to within 7 of 255.
_COLOURS = (
    "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 "
    "fcffa4"
)
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_STRIPE = 6  # pixels, of the stripes over what was not seen
_SHOWN = 420  # pixels of the longer side, in notebooks


@dataclass(frozen=True, eq=False)
class Explanation:
    """A heat map of what speaks for a label; made by `Classifier.explain`.

    Attributes
    ----------
    image : PIL.Image.Image
        The picture, RGB and upright.
    label : str
    index : int
        Position of the label in the head.
    score : float
        Its probability, in [0, 1].
    of : {"probability", "similarity"}
        What is explained. ``"probability"``: the logit of the label's probability, log(p / (1 - p)), so what speaks for
        it and against all the others. ``"similarity"``: the label's own logit, the scaled cosine, whatever the others.
    value : float
        That number.
    baseline : float or None
        For class activation maps: `value` for an empty grid; ``grid.sum()`` is ``value - baseline``, to 1e-4. None for
        the other methods, whose maps have no such sum.
    grid : ndarray of shape (rows, columns), float32
        The map as the network has it, a number for each of its cells. Above 0 is for the label. Below 0, in class
        activation maps alone, is against it.
    rows, columns : ndarray of shape (rows,) and (columns,), float32
        The middles of the cells, in pixels of `image`; cells of class activation maps may reach beyond it.
    window : tuple of float
        Left, top, right and bottom of what the network saw, in pixels of `image`. It may reach beyond it.
    method : str
    citation : str
        Where the method was published.
    model : str
        Name of the encoder that was asked.

    Examples
    --------
    >>> import zeroshot
    >>> clf = zeroshot.Classifier(["cat", "rocket"], model="mini")
    >>> found = clf.explain("examples/images/cat.jpg")
    >>> found.label, found.grid.shape, found.map.shape == found.image.size[::-1]
    ('cat', (9, 9), True)
    >>> bool(found.seen.all()), found.overlay(longest=100).size
    (True, (100, 67))
    >>> type(found.plot()).__name__, found.to_dict()["label"]
    ('Figure', 'cat')
    """

    image: Image.Image = field(repr=False)
    label: str
    index: int
    score: float
    of: Of
    value: float
    baseline: float | None
    grid: Floats
    rows: Floats
    columns: Floats
    window: tuple[float, float, float, float]
    method: str
    citation: str
    model: str

    def __repr__(self) -> str:
        rows, columns = self.grid.shape
        of = "" if self.of == "probability" else "similarity of "
        return f"<Explanation of {of}{self.label!r} ({self.score:.1%}): {self.method}, {rows} x {columns}>"

    @cached_property
    def map(self) -> Floats:
        """Return the grid over the picture: (height, width) float32, linear between the middles of the cells.

        NaN where the network did not look, such as beside the centre that is cut out of a wide picture.
        """
        return self._sample(self.image.size)

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Return where the network looked: (height, width) bool."""
        seen: npt.NDArray[np.bool_] = ~np.isnan(self.map)
        return seen

    def overlay(self, *, longest: int | None = None) -> Image.Image:
        """Draw what speaks for the label over the picture, in grey: from dark to light, the more the lighter.

        What speaks against it has no colour. Where the network did not look there are stripes.

        Parameters
        ----------
        longest : int, optional
            Pixels of the longer side; by default those of the picture. Smaller pictures stay as they are.

        Returns
        -------
        PIL.Image.Image
            Mode ``RGB``.

        Raises
        ------
        OptionError
            If `longest` is below 1.
        """
        picture = self._picture(longest)
        pixels = np.asarray(picture, dtype=np.float32)
        heat = self._sample(picture.size)
        seen = ~np.isnan(heat)
        strength = np.where(seen, heat, 0).clip(min=0) / max(self.grid.max(), np.finfo(np.float32).tiny)
        grey = (pixels @ _LUMINANCE)[:, :, None]
        # The colour shows the heat and the grey below it the picture: of both there has to be enough everywhere.
        share = (0.25 + 0.45 * strength)[:, :, None]
        drawn = (1 - share) * (0.15 * pixels + 0.75 * grey) + share * colour(strength)
        rows, columns = np.indices(seen.shape)
        stripes = np.where((rows + columns) // _STRIPE % 2, 0.55, 0.75)[:, :, None]
        drawn = np.where(seen[:, :, None], drawn, stripes * grey + 40)
        return Image.fromarray(drawn.clip(0, 255).round().astype(np.uint8))

    def plot(self) -> Any:
        """Draw the picture, the map over it, and what its colours stand for.

        Returns
        -------
        matplotlib.figure.Figure
            Not known to pyplot; `zeroshot.figures.save_figure` writes it, and notebooks show it.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        figure = new_figure(9, 1.2 + 3.6 * min(self.image.height / self.image.width, 1.5))
        left, right = figure.subplots(1, 2)
        from matplotlib.cm import ScalarMappable  # new_figure has said it if there is no matplotlib
        from matplotlib.colors import ListedColormap, Normalize

        left.imshow(self._picture(None))
        right.imshow(self.overlay())
        title = textwrap.fill(f"{shorten(self.label, 60)}, {self.score:.1%}", 36)
        left.set_title(title, **text_style())
        right.set_title(textwrap.fill(self.method, 36), fontsize="medium")
        for axes in (left, right):
            axes.set_axis_off()
        colours = ListedColormap(colour(np.linspace(0, 1, 256)) / 255)
        scale = ScalarMappable(Normalize(0, max(float(self.grid.max()), 0.0) or 1.0), colours)
        figure.colorbar(scale, ax=right, label="speaks for it", shrink=0.8)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Return all but the picture, as JSON has it; `grid`, `rows` and `columns` as lists."""
        names = ("label", "index", "score", "of", "value", "baseline", "method", "citation", "model")
        size = {"width": self.image.width, "height": self.image.height}
        arrays = {name: getattr(self, name).tolist() for name in ("grid", "rows", "columns")}
        return {name: getattr(self, name) for name in names} | size | {"window": list(self.window)} | arrays

    def _repr_html_(self) -> str:
        """The picture beside the map over it, for notebooks; in colours that hold on light and dark."""
        pictures = "".join(
            f'<img src="data:image/jpeg;base64,{_jpeg(picture)}" alt="{html.escape(text)}" '
            'style="max-width:49%;margin:0;border-radius:4px;vertical-align:top">'
            for picture, text in (
                (self._picture(_SHOWN), "the picture"),
                (self.overlay(longest=_SHOWN), f"what speaks for {self.label}"),
            )
        )
        stops = ",".join(f"#{part}" for part in _COLOURS.split())
        bar = (
            f'<span style="display:inline-block;width:96px;height:10px;border-radius:2px;vertical-align:middle;'
            f'margin:0 6px;font-size:0;background:linear-gradient(to right,{stops})"> to </span>'  # read without styles
        )
        about = html.escape(f"{self.label} {self.score:.1%}")
        source = html.escape(f"{self.method} ({self.citation})")
        figure = (
            '<figure style="margin:0;max-width:880px;font-size:13px">'
            f'<div style="display:flex;gap:2%">{pictures}</div>'
            f"<figcaption style='padding:6px 0'><b>{about}</b> &nbsp; little{bar}much speaks for it<br>"
            f'<span style="opacity:.7">{source}</span></figcaption></figure>'
        )
        return literal(Html(figure))

    def _picture(self, longest: int | None) -> Image.Image:
        if longest is None or max(self.image.size) <= check_positive("longest", longest):
            return self.image
        picture = self.image.copy()
        picture.thumbnail((longest, longest))
        return picture

    def _sample(self, size: tuple[int, int]) -> Floats:
        """The grid over the picture at another width and height."""
        width, height = size
        left, top, right, bottom = self.window
        across = _interpolate(self.columns, left, right, self.image.width, width)
        down = _interpolate(self.rows, top, bottom, self.image.height, height)
        sampled: Floats = (down @ self.grid.astype(np.float64) @ across.T).astype(np.float32)
        return sampled


def explain(
    encoder: Encoder | FeatureEncoder,
    head: Head,
    image: ImageLike,
    label: str | int | None = None,
    *,
    of: Of = "probability",
    layers: int = 1,
    multi_label: bool = False,
) -> Explanation:
    """Show what in an image speaks for a label; see `Classifier.explain`, which calls it.

    Parameters
    ----------
    encoder : Encoder or FeatureEncoder
        Made by `zeroshot.load`.
    head : Head
    image : image
    label : str or int, optional
    of : {"probability", "similarity"}
    layers : int
    multi_label : bool
        Whether probabilities are sigmoids: of them "probability" and "similarity" are the same number.

    Raises
    ------
    LabelError, OptionError, InputTypeError, ImageError
    """
    if of not in get_args(Of):
        raise OptionError(f"of is {of!r}; expected one of {', '.join(get_args(Of))}")
    check_positive("layers", layers)
    if of == "probability" and not multi_label and len(head.weight) == 1:
        raise OptionError(
            f"the only class is {head.labels[0]!r}, whose probability is 1 whatever the image shows; expected other "
            "labels or a background to hold it against, or of='similarity'"
        )
    index = None if label is None else find_label(head.labels, label)
    if not is_single_image(image):
        raise InputTypeError(f"image is of type {type(image).__name__}; expected one image, and a call for each")
    base = _check_encoder(encoder)
    picture = open_image(image)
    preprocess, tower = base.preprocess, base.vision
    pixels = torch.from_numpy(preprocess.normalize(np.asarray(preprocess.resize(picture))))[None]
    like = next(tower.parameters())
    pixels = pixels.to(device=like.device, dtype=like.dtype)
    # What was made for inference alone has no gradients, and nothing that goes through it.
    with torch.inference_mode(False):
        if head.weight.is_inference() or (head.bias is not None and head.bias.is_inference()):
            head = replace(head, weight=head.weight.clone(), bias=None if head.bias is None else head.bias.clone())
        scored = _Scored(head, multi_label)
        if index is None:
            with torch.no_grad():
                index = scored.best(tower.features(pixels) if scored.features else tower(pixels))  # type: ignore[operator]
        objective = scored.objective(index, of)
        found = relevance.trace(tower, pixels, objective, features=scored.features, layers=layers)
        probability = float(scored.probabilities(found.output[None])[0, index])
    left, top, right, bottom = preprocess.window(picture.size)
    (height, width), (seen_height, seen_width) = preprocess.size, found.seen
    across, down = (right - left) / width, (bottom - top) / height  # pixels of the picture for one of the network
    return Explanation(
        image=picture,
        label=head.labels[index],
        index=index,
        score=probability,
        of=of,
        value=found.value,
        baseline=found.baseline,
        grid=found.grid.numpy(),
        rows=(top + down * found.rows).numpy(),
        columns=(left + across * found.columns).numpy(),
        window=(left, top, left + across * seen_width, top + down * seen_height),
        method=found.method.name,
        citation=found.method.citation,
        model=head.model,
    )


def find_label(labels: Sequence[str], label: str | int) -> int:
    """Return the position of a label that is given by its name or position.

    Raises
    ------
    LabelError
        If there is none of that name, with names that are near, if there are several, or no such position.
    InputTypeError
        If it is neither a name nor a position.
    """
    if isinstance(label, str):
        places = [index for index, name in enumerate(labels) if name == label]
        if len(places) == 1:
            return places[0]
        if places:
            raise LabelError(f"{len(places)} labels are called {label!r}; expected a position, one of {places}")
        near = difflib.get_close_matches(label, labels, n=3)
        hint = f"; near it: {', '.join(map(repr, near))}" if near else f"; there are {_some(labels)}"
        raise LabelError(f"no label is called {label!r}{hint}")
    if isinstance(label, bool) or not hasattr(label, "__index__"):
        raise InputTypeError(
            f"label is of type {type(label).__name__}; expected a name, or a position among the labels"
        )
    if not 0 <= operator.index(label) < len(labels):
        raise LabelError(f"label is {label}; expected a position from 0 to {len(labels) - 1}, or a name")
    return operator.index(label)


class _Scored:
    """What a head makes of an encoder's outputs, embeddings that are not normalised yet, or features."""

    def __init__(self, head: Head, multi_label: bool) -> None:
        self.head, self.multi_label = head, multi_label
        self.features = head.space == "features"

    def logits(self, outputs: Tensor) -> Tensor:
        """(n, dim) -> (n, n_classes + background)."""
        outputs = outputs.float()
        return self.head.logits(outputs if self.features else F.normalize(outputs, dim=-1))

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(n, dim) -> (n, n_classes + background)."""
        logits = self.logits(outputs)
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def best(self, outputs: Tensor) -> int:
        """Return the most probable label of the first output."""
        return int(self.logits(outputs)[0, : len(self.head.labels)].argmax())

    def objective(self, index: int, of: Of) -> Callable[[Tensor], Tensor]:
        """Return the function that is explained: (n, dim) -> (n,)."""

        def number(outputs: Tensor) -> Tensor:
            logits = self.logits(outputs)
            if of == "similarity" or self.multi_label:  # the logit of a sigmoid is what goes into it
                return logits[:, index]
            others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
            # log(p / (1 - p)). The gradient of p itself has the same direction, and vanishes where p is near 0 or 1.
            return logits[:, index] - others.logsumexp(dim=1)

        return number


def _check_encoder(encoder: object) -> ClipEncoder:
    base = encoder.base if isinstance(encoder, FeatureEncoder) else encoder
    if not isinstance(base, ClipEncoder):
        raise InputTypeError(
            f"the encoder is of type {type(base).__name__}, whose gradients are not to be had from here; expected one "
            "of zeroshot.load"
        )
    if relevance.find_method(base.vision) is None:
        raise InputTypeError(
            f"the image tower of {base.name!r} is timm's, and there is no method for it here; expected a checkpoint "
            "whose family in 'zeroshot models' is another"
        )
    if not relevance.is_differentiable(base.vision):
        raise OptionError(
            f"{base.name!r} was loaded with dtype='int8', and bytes have no gradients; expected dtype='float32', "
            "'float16' or 'bfloat16'"
        )
    return base


def colour(heat: Floats | npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Colours of numbers in [0, 1]: (...,) -> (..., 3) float32 in [0, 255], R, G and B; dark to light.

    Examples
    --------
    >>> colour(np.array([0.0, 0.5, 1.0])).tolist()
    [[0.0, 0.0, 4.0], [188.0, 55.0, 84.0], [252.0, 255.0, 164.0]]
    """
    table = np.array([list(bytes.fromhex(part)) for part in _COLOURS.split()], dtype=np.float64)
    places = np.linspace(0, 1, len(table))
    return np.stack([np.interp(heat, places, table[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def _interpolate(centres: Floats, start: float, end: float, length: int, pixels: int) -> npt.NDArray[np.float64]:
    """Return the weights of cells for pixels along one side: (pixels, cells), NaN for pixels outside of start to end.

    Parameters
    ----------
    centres : ndarray of shape (cells,), float32
        Where the weight of each cell is 1, in pixels of the picture. Before the first and after the last it stays.
    length : int
        Pixels of the picture.
    pixels : int
        Pixels of what is drawn.
    """
    middles = (np.arange(pixels) + 0.5) * (length / pixels)
    places = np.interp(middles, centres, np.arange(len(centres)))  # between which cells
    weights: npt.NDArray[np.float64] = (1 - np.abs(places[:, None] - np.arange(len(centres)))).clip(min=0)
    weights[(middles < start) | (middles > end)] = np.nan
    return weights


def _some(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
