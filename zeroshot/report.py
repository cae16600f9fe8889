"""The page of an evaluation: one HTML file with its pictures in it, to be read on light and dark; no script.

It is made of what `Evaluation.to_dict` returns, so that the page and the JSON say the same.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zeroshot.display import escape
from zeroshot.prompts import METRICS

_CLASSES_IN_MATRIX, _ROWS = 24, 1000
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #5d6672; --line: #d9dee5; --page: #ffffff; --card: #f6f8fa;
  --blue: 38 99 201; --red: 190 52 40; --right: #1a7f37; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b3; --line: #333b46; --page: #14181d;
  --card: #1d232b; --blue: 92 148 255; --red: 255 120 105; --right: #57c46f; --wrong: #ff8a7d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 32px 24px 64px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 8px; }
p { margin: 4px 0 12px; max-width: 75ch; } .soft { color: var(--soft); } a { color: inherit; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); } .n { text-align: right; white-space: nowrap; }
.big { font-size: 44px; font-weight: 650; line-height: 1.1; }
.cards { display: flex; flex-wrap: wrap; gap: 16px; margin: 20px 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
figure img { display: block; width: 100%; height: 132px; object-fit: contain; background: rgb(128 128 128 / .12); }
figcaption { padding: 6px 9px 8px; font-size: 12.5px; line-height: 1.35; overflow-wrap: anywhere; }
figcaption small { display: block; color: var(--soft); font-size: 11px; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
.matrix { overflow-x: auto; } .matrix table { font-size: 11.5px; } .matrix td, .matrix th { border: 0; padding: 0; }
.matrix td { width: 27px; height: 27px; text-align: center; vertical-align: middle; border: 1px solid var(--page); }
.matrix tbody th { text-align: right; padding-right: 8px; white-space: nowrap; vertical-align: middle; }
.matrix thead th { height: 130px; vertical-align: bottom; }
.matrix thead div { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; padding-top: 6px; }
.scroll { max-height: 460px; overflow: auto; display: inline-block; max-width: 100%; padding-right: 8px; }
.scroll thead th { position: sticky; top: 0; background: var(--page); }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .axis { stroke: var(--line); fill: none; }
svg .bar { fill: rgb(var(--blue) / .75); } svg .over { fill: rgb(var(--red) / .45); }
svg .under { fill: rgb(var(--blue) / .3); }
svg .ideal { stroke: var(--soft); stroke-dasharray: 5 4; fill: none; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; overflow: auto;
  font-size: 12.5px; white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin: 12px 0; } summary { cursor: pointer; font-weight: 600; }
"""


@dataclass(frozen=True)
class Picture:
    """An image of a page: its name, its class, the most probable class and its probability in [0, 1], and a JPEG."""

    source: str
    target: str
    predicted: str
    confidence: float
    is_right: bool
    jpeg: bytes


@dataclass(frozen=True)
class Gallery:
    """Pictures under a title."""

    title: str
    note: str
    pictures: tuple[Picture, ...]


def html_page(evaluation: Mapping[str, Any], galleries: Sequence[Gallery]) -> str:
    """Return the whole page."""
    setup = evaluation["setup"]
    title = f"{setup['model']['name']} on {setup['data']['name']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_about(evaluation))}</p>',
        _headline(evaluation),
        _problems(evaluation),
        "<h2>Metrics</h2>",
        f'<p class="soft">In brackets: {setup["options"]["level"]:.0%} intervals by the bootstrap over images.</p>',
        _metrics(evaluation),
        *(_gallery(one) for one in galleries),
        _confusion(evaluation),
        _reliability(evaluation),
        _classes(evaluation),
        _setup(setup),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _about(evaluation: Mapping[str, Any]) -> str:
    setup = evaluation["setup"]
    left_out = sum(one["images"] for one in evaluation["left_out"])
    parts = [f"{evaluation['images']:,} images measured", f"{len(evaluation['classes']):,} classes"]
    parts += [f"{len(evaluation['failed']):,} failed"] if evaluation["failed"] else []
    parts += [f"{left_out:,} left out"] if left_out else []
    if setup["prompts"]["name"]:
        templates = len(setup["prompts"]["templates"])
        parts.append(f"prompts {setup['prompts']['name']} ({templates} template{'s' * (templates != 1)})")
    return ", ".join(parts)


def _headline(evaluation: Mapping[str, Any]) -> str:
    name = evaluation["metric"]
    one = evaluation["metrics"][name]
    value = "not defined" if one["value"] is None else f"{one['value']:.1%}"
    interval = "" if one["low"] is None else f"{one['low']:.1%} to {one['high']:.1%}"
    return (
        f'<div class="cards"><div class="card"><div class="big">{value}</div><div>{escape(METRICS[name])}</div>'
        f'<div class="soft">{interval}</div></div></div>'
    )


def _metrics(evaluation: Mapping[str, Any]) -> str:
    rows = []
    for name, one in evaluation["metrics"].items():
        value = "not defined" if one["value"] is None else f"{one['value']:.1%}"
        interval = "" if one["low"] is None else f"[{100 * one['low']:.1f}, {100 * one['high']:.1f}]"
        rows.append([METRICS[name], value, interval])
    return _table(["metric", "value", "interval"], rows, numbers=(1, 2))


def _problems(evaluation: Mapping[str, Any]) -> str:
    lines = [*evaluation["notes"]]
    lines += [
        f"{one['images']} left out: {one['reason']} ({', '.join(one['examples'])})" for one in evaluation["left_out"]
    ]
    failed = evaluation["failed"]
    lines += [f"failed: {one['message']}" for one in failed[:20]]
    lines += [f"and {len(failed) - 20} more failed"] if len(failed) > 20 else []
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>Worth knowing</h2><ul>{items}</ul>"


def _gallery(gallery: Gallery) -> str:
    figures = []
    for one in gallery.pictures:
        source = base64.b64encode(one.jpeg).decode("ascii")
        kind = "right" if one.is_right else "wrong"
        shown = "" if one.is_right else f"<div>shows {escape(one.target)}</div>"
        figures.append(
            f'<figure><img alt="{escape(one.target)}" src="data:image/jpeg;base64,{source}"><figcaption>'
            f'<div class="{kind}">{escape(one.predicted)} {one.confidence:.0%}</div>{shown}'
            f"<small>{escape(one.source)}</small></figcaption></figure>"
        )
    return (
        f'<h2>{escape(gallery.title)}</h2><p class="soft">{escape(gallery.note)}</p>'
        f'<div class="pictures">{"".join(figures)}</div>'
    )


def _confusion(evaluation: Mapping[str, Any]) -> str:
    cells = evaluation["confusion"]
    if not cells:
        return ""
    labels = [one["label"] for one in evaluation["classes"]]
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    pairs = [[labels[target], labels[predicted], images] for target, predicted, images in wrong[:12]]
    parts = ["<h2>Confusions</h2>"]
    if pairs:
        parts.append(_table(["shows", "taken for", "images"], pairs, numbers=(2,)))
    involved = {target for target, _, _ in cells} | {predicted for _, predicted, _ in cells}
    if len(involved) > _CLASSES_IN_MATRIX:
        involved = set()
        for target, predicted, _ in wrong:
            if len(involved | {target, predicted}) > _CLASSES_IN_MATRIX:
                break
            involved |= {target, predicted}
        parts.append(f'<p class="soft">The {len(involved)} classes that are most often confused:</p>')
    parts.append(_matrix(cells, sorted(involved), labels))
    return "".join(parts)


def _matrix(cells: Sequence[Sequence[int]], shown: Sequence[int], labels: Sequence[str]) -> str:
    counts = {(target, predicted): images for target, predicted, images in cells}
    totals: dict[int, int] = {}
    for target, _, images in cells:
        totals[target] = totals.get(target, 0) + images
    head = "".join(f'<th scope="col"><div>{escape(_short(labels[i]))}</div></th>' for i in shown)
    rows = []
    for target in shown:
        row = []
        for predicted in shown:
            images = counts.get((target, predicted), 0)
            share = images / totals[target] if images else 0
            colour = "--blue" if target == predicted else "--red"
            style = f' style="background: rgb(var({colour}) / {0.12 + 0.6 * share:.2f})"' if images else ""
            name = f"{labels[target]} taken for {labels[predicted]}: {images} of {totals.get(target, 0)}"
            row.append(f'<td title="{escape(name)}"{style}>{images or ""}</td>')
        rows.append(f'<tr><th scope="row">{escape(_short(labels[target]))}</th>{"".join(row)}</tr>')
    return (
        '<p class="soft">Rows: what the images show. Columns: what they are taken for. The deeper the colour, the '
        f'larger the share of the row.</p><div class="matrix"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _reliability(evaluation: Mapping[str, Any]) -> str:
    bins = evaluation["reliability"]
    if not bins:
        return ""
    left, top, size, room = 52, 14, 320, 56
    bottom = top + size
    most = max(one["images"] for one in bins)

    def x(share: float) -> float:
        return left + size * share

    def y(share: float) -> float:
        return bottom - size * share

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="axis" d="M{left} {y(tick):.1f}H{left + size}"/>')
        parts.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.0%}</text>')
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + room + 38}" text-anchor="middle">{tick:.0%}</text>')
    for one in bins:
        x0, width = x(one["low"]) + 1, size * (one["high"] - one["low"]) - 2
        accuracy, confidence = y(one["accuracy"]), y(one["confidence"])
        upper, lower = min(accuracy, confidence), max(accuracy, confidence)  # y grows downwards
        kind = "over" if confidence < accuracy else "under"
        name = f"{one['images']} images: confidence {one['confidence']:.1%}, accuracy {one['accuracy']:.1%}"
        tall = room * one["images"] / most
        parts.append(
            f"<g><title>{name}</title>"
            f'<rect class="bar" x="{x0:.1f}" y="{lower:.1f}" width="{width:.1f}" height="{bottom - lower:.1f}"/>'
            f'<rect class="{kind}" x="{x0:.1f}" y="{upper:.1f}" width="{width:.1f}" height="{lower - upper:.1f}"/>'
            f'<rect class="bar" x="{x0:.1f}" y="{bottom + 18 + room - tall:.1f}" width="{width:.1f}" '
            f'height="{tall:.1f}"/></g>'
        )
    parts.append(f'<path class="ideal" d="M{left} {bottom}L{left + size} {top}"/>')
    parts.append(f'<text x="{left + size / 2}" y="{bottom + room + 60}" text-anchor="middle">confidence</text>')
    parts.append(f'<text transform="translate(12 {top + size / 2}) rotate(-90)" text-anchor="middle">accuracy</text>')
    parts.append(f'<text x="{left + size + 12}" y="{bottom + 18 + room}">images</text>')
    height = bottom + room + 72
    error = evaluation["metrics"]["expected_calibration_error"]["value"]
    return (
        "<h2>Reliability</h2>"
        '<p class="soft">Of the images about which the model is so sure, how many are right: on the dashed line it is '
        "as sure as it should be. Red: it is too sure; pale: not sure enough. Expected calibration error "
        f"{error:.1%}.</p>"
        f'<svg role="img" aria-label="Reliability diagram" width="{left + size + 70}" height="{height}" '
        f'viewBox="0 0 {left + size + 70} {height}">{"".join(parts)}</svg>'
    )


def _classes(evaluation: Mapping[str, Any]) -> str:
    several = any(one["average_precision"] is not None for one in evaluation["classes"])
    keys = ["average_precision"] if several else ["recall", "precision", "f1"]
    ordered = sorted(evaluation["classes"], key=lambda one: (one[keys[0]] is None, one[keys[0]] or 0, one["index"]))
    rows = [
        [one["label"], one["images"], *("" if one[key] is None else f"{one[key]:.1%}" for key in keys)]
        for one in ordered[:_ROWS]
    ]
    names = [key.replace("_", " ") for key in keys]
    table = _table(["class", "images", *names], rows, numbers=range(1, 2 + len(keys)))
    more = len(ordered) - len(rows)
    rest = f'<p class="soft">and {more:,} more: the JSON has all</p>' if more > 0 else ""
    return f'<h2>Classes</h2><p class="soft">The worst first.</p><div class="scroll">{table}</div>{rest}'


def _setup(setup: Mapping[str, Any]) -> str:
    model, prompts, data = setup["model"], setup["prompts"], setup["data"]
    rows = [
        ["model", model["name"]],
        ["fingerprint", model["fingerprint"]],
        ["device, dtype", ", ".join(str(model[key]) for key in ("device", "dtype") if model[key])],
        ["prompt set", prompts["name"] or ""],
        ["digest of the prompts", prompts["digest"] or ""],
        ["head", setup["head"]],
        ["data", f"{data['name']} ({data['kind']}), {data['images']:,} images"],
        ["digest of the data", data["digest"]],
        ["classes and labels matched by", setup["match"]],
        *([name.replace("_", " "), str(value)] for name, value in setup["options"].items()),
        ["versions", ", ".join(f"{name} {version}" for name, version in setup["versions"].items())],
        ["platform", setup["platform"]],
    ]
    templates = "\n".join(prompts["templates"])
    shown = f"<details><summary>Templates</summary><pre>{escape(templates)}</pre></details>" if templates else ""
    return f"<h2>To repeat it</h2>{_table(['', ''], [row for row in rows if row[1]])}{shown}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: Sequence[int] = ()) -> str:
    def cells(tag: str, row: Sequence[Any]) -> str:
        kinds = [' class="n"' if index in numbers else "" for index in range(len(row))]
        return "".join(f"<{tag}{kind}>{escape(str(cell))}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    top = f"<thead><tr>{cells('th', head)}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"


def _short(text: str) -> str:
    return text if len(text) <= 22 else f"{text[:21]}…"
