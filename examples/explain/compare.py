"""Which class activation map for `mini`? The published ones on one half of the pictures, the better ones on the other.

    data="stamps/usr/share/tuxpaint/stamps skimage/data gcompris/usr/share/gcompris-qt/rcc"
    python examples/explain/compare.py $data --half choose --json compared.json
    python examples/explain/compare.py $data --half choose --pairs

The pictures are those of `measure.py`, which says where they come from: 60, in its order. Methods are chosen on the
even positions (`--half choose`) and reported on the odd ones (`--half report`), of which the choice knew nothing. What
the file of ``--json`` has already is not measured again.

Deletion and insertion see whether the network needs what a map shows; they do not see whether a map is of the label
that was asked about. That is what ``--pairs`` is for: two pictures side by side, of which the heat for a label should
be on its own (the grid pointing game of Böhle, Fritz and Schiele, CVPR 2021, arXiv:2104.00032).
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from measure import LABELS, MORE, gcompris, photographs, scenes
from PIL import Image
from torch import Tensor

import zeroshot
from zeroshot import Classifier
from zeroshot.explain import Explanation
from zeroshot.faithfulness import Curve, Test, _centre, _pictures
from zeroshot.metrics import estimate
from zeroshot.nets.efficientnet import EfficientNet, SameConv2d

SIDE = 260  # of what the network sees
NODES = 8  # on the way from nothing to the picture
SPLIT = 15  # the block before whose filter the grid is 17 x 17 for the last time


class Network:
    """The tower in two parts, and the number that is explained: log(p / (1 - p)) of a label."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.preprocess = classifier, classifier.encoder.preprocess  # type: ignore[attr-defined]
        self.tower: EfficientNet = copy.deepcopy(classifier.encoder.vision)  # type: ignore[attr-defined]
        for module in self.tower.modules():
            if hasattr(module, "kept"):
                module.kept = None  # fused convolutions have no gradients

    def pixels(self, picture: Image.Image) -> Tensor:
        return torch.from_numpy(self.preprocess.normalize(np.asarray(picture)))[None]

    def middle(self, pixels: Tensor) -> Tensor:
        """(n, 3, 260, 260) -> (n, 720, 17, 17), what the last filter with a stride gets, behind its ReLU6."""
        x = self.tower.stem(pixels.contiguous(memory_format=torch.channels_last), limit=6)
        for block in self.tower.blocks[:SPLIT]:
            x = block(x)
        return self.tower.blocks[SPLIT].expand(x, limit=6)

    def last(self, middle: Tensor) -> Tensor:
        """(n, 720, 17, 17) -> (n, 1280, 9, 9), what is averaged."""
        block = self.tower.blocks[SPLIT]
        x = block.project(block.depthwise(middle, limit=6))
        for block in self.tower.blocks[SPLIT + 1 :]:
            x = block(x)
        return self.tower.head(x, limit=6)

    def number(self, last: Tensor, index: int) -> Tensor:
        """(n, 1280, rows, columns) -> (n,)."""
        embeddings = self.tower.place(self.tower.classifier(last.mean(dim=(2, 3))))
        logits = self.classifier.head.logits(F.normalize(embeddings, dim=-1))
        others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
        return logits[:, index] - others.logsumexp(dim=1)

    def centres(self) -> npt.NDArray[np.float32]:
        """Return the middles of the 17 cells along a side, in pixels."""
        first, step, length = 0.5, 1, SIDE
        parts = [self.tower.stem, *self.tower.blocks[:SPLIT]]
        for one in (module for part in parts for module in part.modules() if isinstance(module, SameConv2d)):
            kernel, stride = one.kernel_size[0], one.stride[0]
            cells = -(-length // stride)
            first += step * ((kernel - 1) / 2 - max((cells - 1) * stride + kernel - length, 0) // 2)
            step, length = step * stride, cells
        return (first + step * np.arange(length)).astype(np.float32)


def gradients(network: Network, last: Tensor, index: int) -> Tensor:
    """(n, C, rows, columns) -> the same."""
    last = last.detach().requires_grad_()
    (found,) = torch.autograd.grad(network.number(last, index).sum(), last)
    return found


def middle_gradients(network: Network, middle: Tensor, index: int) -> Tensor:
    """(n, 720, 17, 17) -> the same; one at a time, which takes less memory."""
    found = []
    for one in middle.detach().split(1):
        one = one.requires_grad_()
        found.append(torch.autograd.grad(network.number(network.last(one), index).sum(), one)[0])
    return torch.cat(found)


Grid = npt.NDArray[np.float32]
Method = Callable[[Network, Image.Image, Explanation], Explanation]


def on_last(make: Callable[[Network, Tensor, int], Tensor]) -> Method:
    """A method that needs the last grid alone."""

    def method(network: Network, picture: Image.Image, found: Explanation) -> Explanation:
        with torch.no_grad():
            last = network.last(network.middle(network.pixels(picture)))
        return replace(found, grid=make(network, last, found.index).numpy())

    return method


def on_middle(make: Callable[[Network, Tensor, int], Tensor]) -> Method:
    """A method that needs the grid of 17 x 17."""

    def method(network: Network, picture: Image.Image, found: Explanation) -> Explanation:
        with torch.no_grad():
            middle = network.middle(network.pixels(picture))
        centres = network.centres()
        return replace(found, grid=make(network, middle, found.index).numpy(), rows=centres, columns=centres)

    return method


def grad_cam(network: Network, last: Tensor, index: int) -> Tensor:
    weights = gradients(network, last, index).mean(dim=(2, 3), keepdim=True)
    return (weights * last).sum(dim=1)[0].relu()


def grad_cam_pp(network: Network, last: Tensor, index: int) -> Tensor:
    g = gradients(network, last, index)
    below = 2 * g**2 + last.sum(dim=(2, 3), keepdim=True) * g**3
    alpha = g**2 / torch.where(below == 0, torch.ones_like(below), below)
    return ((alpha * g.relu()).sum(dim=(2, 3), keepdim=True) * last).sum(dim=1)[0].relu()


def layer_cam(network: Network, last: Tensor, index: int) -> Tensor:
    return (gradients(network, last, index).relu() * last).sum(dim=1)[0]


def hires_cam_middle(network: Network, middle: Tensor, index: int) -> Tensor:
    return (middle_gradients(network, middle, index) * middle).sum(dim=1)[0]


def layer_cam_middle(network: Network, middle: Tensor, index: int) -> Tensor:
    return (middle_gradients(network, middle, index).relu() * middle).sum(dim=1)[0]


def integrated_middle(network: Network, middle: Tensor, index: int) -> Tensor:
    nodes, weights = (torch.from_numpy(x).float() for x in np.polynomial.legendre.leggauss(NODES))
    found = middle_gradients(network, (nodes[:, None, None, None] + 1) / 2 * middle, index)
    return (torch.einsum("n,nchw->chw", weights / 2, found) * middle[0]).sum(dim=0)


def integrated_layer_cam_middle(network: Network, middle: Tensor, index: int) -> Tensor:
    """LayerCAM with the gradients averaged on the way from an empty grid."""
    nodes, weights = (torch.from_numpy(x).float() for x in np.polynomial.legendre.leggauss(NODES))
    found = middle_gradients(network, (nodes[:, None, None, None] + 1) / 2 * middle, index)
    return (torch.einsum("n,nchw->chw", weights / 2, found).relu() * middle[0]).sum(dim=0)


def grey_middle(network: Network, middle: Tensor, index: int) -> Tensor:
    """Integrated gradients on the grid of 17 x 17, from that of a grey picture."""
    with torch.no_grad():
        grey = network.middle(torch.zeros(1, 3, SIDE, SIDE))
    nodes, weights = (torch.from_numpy(x).float() for x in np.polynomial.legendre.leggauss(NODES))
    way = grey + (nodes[:, None, None, None] + 1) / 2 * (middle - grey)
    found = middle_gradients(network, way, index)
    return (torch.einsum("n,nchw->chw", weights / 2, found) * (middle - grey)[0]).sum(dim=0)


def fused(network: Network, middle: Tensor, index: int) -> Tensor:
    """LayerCAM of two layers as its authors fuse them: the larger of both, each as a part of its largest."""
    with torch.no_grad():
        last = network.last(middle)
    coarse = layer_cam(network, last, index)
    across = F.interpolate(coarse[None, None], (17, 17), mode="bilinear", align_corners=True)[0, 0]
    fine = layer_cam_middle(network, middle, index)
    return torch.maximum(across / across.max(), fine / fine.max())


def earlier_layer_cam(network: Network, picture: Image.Image, found: Explanation) -> Explanation:
    """LayerCAM a block earlier: its authors see a lattice where the next filter has a stride."""
    blocks = network.tower.blocks
    with torch.no_grad():
        x = network.tower.stem(network.pixels(picture).contiguous(memory_format=torch.channels_last), limit=6)
        for block in blocks[: SPLIT - 1]:
            x = block(x)
        hidden = blocks[SPLIT - 1].expand(x, limit=6)
    hidden.requires_grad_()
    y = blocks[SPLIT - 1].project(blocks[SPLIT - 1].depthwise(hidden, limit=6), add=x)
    last = network.last(blocks[SPLIT].expand(y, limit=6))
    (gradient,) = torch.autograd.grad(network.number(last, found.index).sum(), hidden)
    centres = network.centres()
    grid = (gradient.relu() * hidden.detach()).sum(dim=1)[0].numpy()
    return replace(found, grid=grid, rows=centres, columns=centres)


def product(network: Network, picture: Image.Image, found: Explanation) -> Explanation:
    """What `explain` gives, where positive, times LayerCAM of the finer grid; Guided Grad-CAM is made so."""
    fine = on_middle(layer_cam_middle)(network, picture, found)
    coarse = found.map.clip(min=0)
    cells = (np.arange(SIDE) + 0.5).astype(np.float32)
    return replace(found, grid=coarse * fine.map, rows=cells, columns=cells)


def mirrored(make: Method) -> Method:
    """The mean over the picture and its mirror image, whose map is put back."""

    def method(network: Network, picture: Image.Image, found: Explanation) -> Explanation:
        one, other = (make(network, x, found) for x in (picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        cells = (np.arange(SIDE) + 0.5).astype(np.float32)
        return replace(found, grid=one.map + other.map[:, ::-1], rows=cells, columns=cells)

    return method


def grey_last(network: Network, last: Tensor, index: int) -> Tensor:
    """Integrated gradients as `explain` has them, from the grid of a grey picture instead of an empty one."""
    with torch.no_grad():
        grey = network.last(network.middle(torch.zeros(1, 3, SIDE, SIDE)))
    nodes, weights = (torch.from_numpy(x).float() for x in np.polynomial.legendre.leggauss(32))
    way = grey + (nodes[:, None, None, None] + 1) / 2 * (last - grey)
    return (torch.einsum("n,nchw->chw", weights / 2, gradients(network, way, index)) * (last - grey)[0]).sum(dim=0)


def integrated_grad_cam(network: Network, picture: Image.Image, found: Explanation) -> Explanation:
    """The way goes from a grey picture to the picture (Sattarzadeh et al.), straight between its points: it adds up."""
    shares = torch.linspace(0, 1, NODES + 1)[:, None, None, None]
    with torch.no_grad():
        last = network.last(network.middle(shares * network.pixels(picture)))
    nodes, weights = (torch.from_numpy(x).float() for x in np.polynomial.legendre.leggauss(NODES))
    total = torch.zeros_like(last[0])
    for before, after in pairwise(last):
        way = before + (nodes[:, None, None, None] + 1) / 2 * (after - before)
        total += torch.einsum("n,nchw->chw", weights / 2, gradients(network, way, found.index)) * (after - before)
    return replace(found, grid=total.sum(dim=0).numpy())


def empty_last(network: Network, last: Tensor, index: int) -> Tensor:
    """What `explain` does."""
    nodes, weights = (torch.from_numpy(x).float() for x in np.polynomial.legendre.leggauss(32))
    found = gradients(network, (nodes[:, None, None, None] + 1) / 2 * last, index)
    return (torch.einsum("n,nchw->chw", weights / 2, found) * last[0]).sum(dim=0)


def similarity(network: Network, picture: Image.Image, found: Explanation) -> Explanation:
    return network.classifier.explain(picture, found.index, of="similarity")


METHODS: dict[str, Method] = {
    "explain": lambda network, picture, found: found,
    "centre": lambda network, picture, found: replace(found, grid=_centre(found.grid.shape)),
    "cosine alone": similarity,
    "Grad-CAM": on_last(grad_cam),
    "Grad-CAM++": on_last(grad_cam_pp),
    "LayerCAM": on_last(layer_cam),
    "LayerCAM 17": on_middle(layer_cam_middle),
    "LayerCAM 17 earlier": earlier_layer_cam,
    "explain x LayerCAM 17": product,
    "HiResCAM 17": on_middle(hires_cam_middle),
    "integrated 17": on_middle(integrated_middle),
    "integrated LayerCAM 17": on_middle(integrated_layer_cam_middle),
    "from grey 17": on_middle(grey_middle),
    "LayerCAM 17 + 9": on_middle(fused),
    "LayerCAM 17 mirrored": mirrored(on_middle(layer_cam_middle)),
    "from grey": on_last(grey_last),
    "Integrated Grad-CAM": integrated_grad_cam,
    "mirrored": mirrored(on_last(empty_last)),
}


RANDOM = {"random": 9, "random 17": 17}  # cells along a side


def random(position: int, draw: int, cells: int) -> Method:
    def method(network: Network, picture: Image.Image, found: Explanation) -> Explanation:
        grid = np.random.default_rng([position, draw]).random((cells, cells), dtype=np.float32)
        centres = found.rows if cells == 9 else network.centres()
        return replace(found, grid=grid, rows=centres, columns=centres)

    return method


def areas(
    classifier: Classifier, picture: Image.Image, heat: Grid, index: int, ends: dict[str, Any], steps: int
) -> Any:
    """Areas under both curves; the probabilities of the first and last pictures are kept in `ends`."""
    tests: tuple[Test, ...] = ("deletion", "insertion")
    series = {test: list(_pictures(picture, heat, test, steps)) for test in tests}
    if not ends:
        pictures = [series[test][place] for test in series for place in (0, -1)]
        scores = classifier.predict_proba(pictures)[:, index].tolist()
        ends |= {"deletion": scores[:2], "insertion": scores[2:]}
    inner = [one for pictures in series.values() for one in pictures[1:-1]]
    scores = classifier.predict_proba(inner)[:, index].astype(np.float64).reshape(2, -1)
    curves = {test: [ends[test][0], *part, ends[test][1]] for test, part in zip(series, scores, strict=True)}
    return {test: Curve(np.linspace(0, 1, steps + 1), np.array(curve)).area for test, curve in curves.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Deletion and insertion tests of several methods.")
    parser.add_argument("stamps", type=Path)
    parser.add_argument("textures", type=Path)
    parser.add_argument("gcompris", type=Path)
    parser.add_argument("--pairs", action="store_true", help="the pictures side by side instead: no deletion")
    parser.add_argument("--half", choices=("choose", "report"), default="choose")
    parser.add_argument("--methods", nargs="+", help="some of them, and 'random'; by default all")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("compared.json"))
    arguments = parser.parse_args()
    labels = list(dict.fromkeys(LABELS + MORE))
    classifier = zeroshot.Classifier(labels, model="mini", prompts="photo", device="cpu")
    network = Network(classifier)
    pictures: list[tuple[Image.Image, Any]] = [(image, None) for image in photographs()]
    pictures += scenes(arguments.stamps, arguments.textures)
    pictures += [(image, None) for image in gcompris(arguments.gcompris)]
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    wanted = arguments.methods or [*METHODS, *RANDOM]
    if arguments.pairs:
        side_by_side(network, [picture for picture, _ in pictures[arguments.half == "report" :: 2]], wanted)
        return
    for position in range(arguments.half == "report", len(pictures), 2):
        picture, mask = pictures[position]
        seen = network.preprocess.resize(picture)
        ends: dict[str, Any] = {}
        row = results.setdefault(str(position), {})
        missing = [name for name in wanted if name not in row]
        if not missing:
            continue
        found = classifier.explain(seen)
        for name in missing:
            if name in RANDOM:
                several = [random(position, draw, RANDOM[name]) for draw in range(arguments.draws)]
            else:
                several = [METHODS[name]]
            maps = [method(network, seen, found) for method in several]
            each = [areas(classifier, seen, one.map, found.index, ends, arguments.steps) for one in maps]
            row[name] = {test: float(np.mean([one[test] for one in each])) for test in each[0]}
            if mask is not None and name not in ("centre", *RANDOM):
                own = classifier.explain(seen, LABELS[position])
                heat = METHODS[name](network, seen, own).map
                small = np.asarray(Image.fromarray(mask).resize((SIDE, SIDE)))
                peak = np.unravel_index(np.nanargmax(heat), heat.shape)
                positive = heat.clip(min=0)
                row[name] |= {"heat": float(positive[small].sum() / positive.sum()), "peak": bool(small[peak])}
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(position, found.label, f"{found.score:.1%}", flush=True)
    report(results, wanted, arguments.half)


def side_by_side(network: Network, pictures: list[Image.Image], wanted: list[str]) -> None:
    """Of two pictures beside each other, the heat for a label should be on its own (Boehle et al., CVPR 2021)."""
    classifier = network.classifier
    alone = [network.preprocess.resize(picture) for picture in pictures]
    indices = classifier.predict_proba(alone).argmax(axis=1)
    shares: dict[str, list[float]] = {name: [] for name in wanted}
    half = len(pictures) // 2
    for first, second in zip(range(half), range(half, 2 * half), strict=True):
        if indices[first] == indices[second]:
            continue
        both = Image.new("RGB", (2 * SIDE, SIDE))
        both.paste(alone[first], (0, 0))
        both.paste(alone[second], (SIDE, 0))
        seen = network.preprocess.resize(both)
        for index, own in ((indices[first], slice(0, SIDE // 2)), (indices[second], slice(SIDE // 2, SIDE))):
            found = classifier.explain(seen, int(index))
            for name in wanted:
                heat = METHODS[name](network, seen, found).map.clip(min=0)
                shares[name].append(float(heat[:, own].sum() / heat.sum()) if heat.any() else 0.0)
    for name, values in shares.items():
        found = estimate(lambda x: float(np.mean(x)), np.array(values))
        wins = sum(value > 0.5 for value in values)
        print(f"{name:<24} {found.value:.1%} [{found.low:.1%}, {found.high:.1%}] {wins}/{len(values)}", flush=True)


def report(results: Any, wanted: list[str], half: str) -> None:
    rows = [row for position, row in results.items() if int(position) % 2 == (half == "report")]
    print(f"\n{len(rows)} pictures, half: {half}; gain is that over explain, positive where better")
    for name in wanted:
        done = [row for row in rows if name in row and "explain" in row]
        if not done:
            continue
        cells = f"{name:<24}{len(done):>3}"
        for test, sign in (("deletion", -1), ("insertion", 1)):
            values, ours = (np.array([row[x][test] for row in done]) for x in (name, "explain"))
            gain = estimate(lambda x: float(np.mean(x)), sign * (values - ours))
            cells += f"{values.mean():7.3f} {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]  "
        things = [row[name] for row in done if "heat" in row[name]]
        if things:
            cells += f"{np.mean([x['heat'] for x in things]):6.1%} {sum(x['peak'] for x in things)}/{len(things)}"
        print(cells.rstrip())


if __name__ == "__main__":
    main()
