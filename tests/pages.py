"""The pages that people read, and what of the package the reference explains."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Public modules, in the order of the reference.
MODULES = [
    "adapters",
    "calibration",
    "corruptions",
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
    "classifier.Outcome",
    "clip.ClipEncoder",
    "evaluation.ClassResult",
    "evaluation.Evaluation",
    "evaluation.Failure",
    "evaluation.LeftOut",
    "probe.Trial",
    "registry.ModelEntry",
    "stream.Item",
]


def pages() -> list[Path]:
    """Return the Markdown files of the checkout that people read."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for folder in ("examples", "prompts", "tests/benchmarks", "zeroshot/data"):
        found += sorted((ROOT / folder).rglob("*.md"))
    return found


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
