"""The pages that people read, and what of the package the reference explains."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

# Public modules, in the order of the reference.
MODULES = [
    "adapters",
    "baselines",
    "calibration",
    "corruptions",
    "drawings",
    "engines",
    "errors",
    "fewshot",
    "limits",
    "metrics",
    "robustness",
    "shifted",
    "shifts",
    "tokenizer",
    "weighting",
]
# What functions of the root return and take, and is not of the root itself.
RESULTS = [
    "adapters.AdaptedEncoder",
    "adapters.AdaptedPixelEncoder",
    "clip.ClipEncoder",
    "evaluation.ClassResult",
    "evaluation.Evaluation",
    "evaluation.Failure",
    "evaluation.LeftOut",
    "explain.Explanation",
    "prediction.Outcome",
    "prediction.Predictions",
    "probe.Trial",
    "registry.ModelEntry",
    "stream.Item",
]


class Block(NamedTuple):
    """A block of code of a page: what stands behind the fence, the code, and its first line."""

    info: str
    text: str
    line: int


def pages() -> list[Path]:
    """Return the Markdown files of the checkout that people read."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for folder in ("examples", "prompts", "tests/benchmarks", "zeroshot/data"):
        found += sorted((ROOT / folder).rglob("*.md"))
    return found


_FENCE = re.compile(r"^```(\S[^\n]*)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(m[1] or "", m[2], text.count("\n", 0, m.start()) + 2) for m in _FENCE.finditer(text)]


def prose(page: Path) -> str:
    """Return a page without its code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))


def links(page: Path) -> list[str]:
    """Return what a page links and shows, but for addresses of the web."""
    text = prose(page)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        count = 1
        while name in found:
            name, count = f"{name.removesuffix(f'-{count - 1}')}-{count}", count + 1
        found.add(name)
    return found
