"""``zeroshot models``: which checkpoints can be loaded by name."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import zeroshot
from zeroshot.cli.output import fail, print_table, write_csv

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands
    from zeroshot.registry import ModelEntry


def add_parser(commands: Commands) -> None:
    """Add the command ``models``."""
    models = commands.add_parser(
        "models",
        help="list the checkpoints that can be loaded by name",
        description="List the checkpoints that can be loaded by name; JSON and CSV tell all that is known of them.",
        epilog="Example: zeroshot models siglip2 '*-256/*' --sort accuracy",
    )
    models.add_argument("pattern", nargs="*", metavar="PATTERN", help="part of the name, or a pattern: 'RN50*/*'")
    models.add_argument("--sort", choices=("name", "size", "accuracy"), default="name", help="default: name")
    models.add_argument("--summary", action="store_true", help="count them, by family and by the extras that they need")
    models.add_argument("--format", choices=("table", "json", "csv"), default="table", help="default: table")
    models.set_defaults(run=_models)


def _models(arguments: argparse.Namespace) -> int:
    pattern = " ".join(arguments.pattern)
    entries = zeroshot.available_models(pattern, sort=arguments.sort)
    if not entries:
        return fail(f"no model's name fits {pattern!r}; 'zeroshot models' lists all")
    if arguments.summary:
        rows = _support(entries)
    elif arguments.format == "table":
        rows = [_describe(entry) for entry in entries]
    else:
        rows = [{"name": entry.name, **asdict(entry)} for entry in entries]
    if arguments.format == "json":
        print(json.dumps(rows, indent=2))
    elif arguments.format == "csv":
        values = ([" ".join(map(str, v)) if isinstance(v, tuple) else v for v in row.values()] for row in rows)
        write_csv(list(rows[0]), values)
    else:
        print_table(rows)
    return 0


def _describe(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "params": f"{entry.parameters_million:.0f} M",
        "px": entry.image_size,
        "top-1": "" if entry.imagenet_top1 is None else f"{entry.imagenet_top1:.1f}%",
        "needs": " ".join(entry.needs),
        "licence": entry.license,
    }


def _support(entries: Sequence[ModelEntry]) -> list[dict[str, Any]]:
    """Return how many checkpoints of each family the core loads, and how many each extra."""
    kinds = sorted({entry.needs for entry in entries})
    rows = []
    for family in [*sorted({entry.family for entry in entries}), "all"]:
        needs = Counter(entry.needs for entry in entries if family in (entry.family, "all"))
        rows.append({"family": family, **{" ".join(kind) or "core": needs[kind] for kind in kinds}})
        rows[-1]["total"] = needs.total()
    return rows
