"""``zeroshot models``: which checkpoints can be loaded by name, and which are on this disk."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zeroshot
from zeroshot.cli.options import add_json
from zeroshot.cli.output import STDOUT, fail, print_json, save_json, say, table, write_csv
from zeroshot.cli.parser import suggest

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands
    from zeroshot.registry import ModelEntry


def add_parser(commands: Commands) -> None:
    """Add the command ``models``."""
    models = commands.add_parser(
        "models",
        help="the checkpoints that can be loaded by name",
        usage="zeroshot models [PATTERN …] [options]",
        description="List the checkpoints that can be loaded by name; JSON and CSV tell all that is known of them.",
        examples=(
            "zeroshot models siglip2 '*-256/*' --sort accuracy",
            "zeroshot models --cached",
            "zeroshot models --summary",
        ),
        failure="no name fits",
    )
    group = models.add_argument_group("which")
    group.add_argument("pattern", nargs="*", metavar="PATTERN", help="part of the name, or a pattern: 'RN50*/*'")
    group.add_argument("--cached", action="store_true", help="only those on this disk, with the size of their weights")
    group = models.add_argument_group("what is shown")
    group.add_argument(
        "--sort",
        choices=("name", "size", "accuracy"),
        default="name",
        metavar="ORDER",
        help="by name, size (the smallest first) or accuracy (the best first) (default: name)",
    )
    group.add_argument("--summary", action="store_true", help="count them, by family and by the extras that they need")
    group.add_argument(
        "--format",
        choices=("table", "json", "csv"),
        metavar="FORMAT",
        help="table, json or csv (default: table)",
    )
    add_json(group)
    models.add_help_option()
    models.set_defaults(run=_models, usage_error=models.error)


def _models(arguments: argparse.Namespace) -> int:
    if arguments.format and arguments.json:
        arguments.usage_error("--format and --json both say what is printed; expected one of them")
    form = arguments.format or ("json" if arguments.json == STDOUT else "table")
    pattern = " ".join(arguments.pattern)
    entries = zeroshot.available_models(pattern, sort=arguments.sort)
    if not entries:
        near = suggest(pattern, [entry.name for entry in zeroshot.available_models()])
        return fail(f"no model's name fits {pattern!r}; 'zeroshot models' lists all{near}")
    sizes = _sizes(entries) if arguments.cached else {}
    if arguments.cached:
        entries = [entry for entry in entries if entry.name in sizes]
        if not entries:
            return fail(f"no model whose name fits {pattern!r} is on this disk; zeroshot.load(NAME) fetches one")
    if arguments.summary:
        known = shown = _support(entries)
    else:
        known = [{"name": entry.name, **asdict(entry)} for entry in entries]
        if arguments.cached:
            known = [{**row, "bytes_on_disk": sizes[row["name"]]} for row in known]
        shown = [_describe(entry, sizes.get(entry.name)) for entry in entries]
    if form == "json":
        print_json(known)
    elif form == "csv":
        values = ([" ".join(map(str, v)) if isinstance(v, tuple) else v for v in row.values()] for row in known)
        write_csv(list(known[0]), values)
    else:
        say(table(shown))
    return 0 if arguments.json in (None, STDOUT) else save_json(Path(arguments.json), known)


def _sizes(entries: Sequence[ModelEntry]) -> dict[str, int]:
    """Return the size of the weights of those that are on this disk, by name."""
    from zeroshot.registry import bytes_on_disk

    found = {entry.name: bytes_on_disk(entry.name) for entry in entries}
    return {name: size for name, size in found.items() if size}


def _describe(entry: ModelEntry, size: int | None = None) -> dict[str, Any]:
    about = {
        "name": entry.name,
        "params": f"{entry.parameters_million:.0f} M",
        "px": entry.image_size,
        "top-1": "" if entry.imagenet_top1 is None else f"{entry.imagenet_top1:.1f}%",
        "needs": " ".join(entry.needs),
        "licence": entry.license,
    }
    return about if size is None else {**about, "on disk": f"{size / 1e6:,.0f} MB"}


def _support(entries: Sequence[ModelEntry]) -> list[dict[str, Any]]:
    """Return how many checkpoints of each family the core loads, and how many each extra."""
    kinds = sorted({entry.needs for entry in entries})
    rows = []
    for family in [*sorted({entry.family for entry in entries}), "all"]:
        needs = Counter(entry.needs for entry in entries if family in (entry.family, "all"))
        rows.append({"family": family, **{" ".join(kind) or "core": needs[kind] for kind in kinds}})
        rows[-1]["total"] = needs.total()
    return rows
