"""``zeroshot prompts``: list, show, check and compare prompt sets."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zeroshot
from zeroshot.cli.options import (
    add_general,
    add_json,
    add_labels_file,
    add_model,
    encoder_options,
    read_labels,
)
from zeroshot.cli.output import FAILED, save, say, show, tell
from zeroshot.cli.parser import suggest

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands
    from zeroshot.compare import Comparison


def add_parser(commands: Commands) -> None:
    """Add the command ``prompts`` and what it does."""
    prompts = commands.add_parser(
        "prompts",
        help="list, show, check and compare prompt sets",
        usage="zeroshot prompts [{list,show,lint,compare,gallery} …] [options]",
        description="Prompt sets: templates such as 'a photo of a {}.', and the names of classes. Without an action "
        "the shipped ones are listed.",
        examples=("zeroshot prompts", "zeroshot prompts show food101 --labels pizza", "zeroshot prompts lint food101"),
    )
    actions = prompts.add_subparsers(metavar="ACTION", prog="zeroshot prompts", title="actions", help="one of")
    add_general(prompts)
    prompts.set_defaults(run=_list_prompts)
    listing = actions.add_parser(
        "list",
        help="list the shipped sets (the default)",
        usage="zeroshot prompts list [options]",
        description="List the shipped prompt sets: how many templates and classes each has.",
        examples=("zeroshot prompts list", "zeroshot prompts list --json"),
    )
    add_general(listing, default=argparse.SUPPRESS)  # that of 'zeroshot prompts'
    listing.set_defaults(run=_list_prompts)
    look = actions.add_parser(
        "show",
        help="show a set, or the prompts that it makes of labels",
        usage="zeroshot prompts show PROMPTS [options]",
        description="Show a prompt set, or the prompts that it makes of labels: what the text tower will read.",
        examples=(
            "zeroshot prompts show oxford_pets",
            "zeroshot prompts show food101 --labels pizza 'spring rolls'",
            "zeroshot prompts show imagenet --json",
        ),
        failure="there is no such set, or the file is none",
    )
    group = look.add_argument_group("prompt set")
    group.add_argument("name", metavar="PROMPTS", help="name of a shipped set, or a file")
    group.add_argument("--labels", nargs="+", metavar="LABEL", help="show the prompts of these labels")
    add_general(look, default=argparse.SUPPRESS)  # that of 'zeroshot prompts'
    look.set_defaults(run=_show_prompts)
    check = actions.add_parser(
        "lint",
        help="find what hurts in a set: repeated or ambiguous names, long prompts, …",
        usage="zeroshot prompts lint PROMPTS [options]",
        description="Find what hurts in a prompt set: repeated, ambiguous or internal names, long prompts.",
        examples=("zeroshot prompts lint food101", "zeroshot prompts lint cifar10 --json"),
        failure="something was found, or there is no such set",
    )
    group = check.add_argument_group("prompt set")
    group.add_argument("name", metavar="PROMPTS", help="name of a shipped set, or a file")
    add_general(check, default=argparse.SUPPRESS)  # that of 'zeroshot prompts'
    check.set_defaults(run=_lint_prompts)
    comparing = actions.add_parser(
        "compare",
        help="say which sets are better on your labelled images, and whether there are enough to tell",
        usage="zeroshot prompts compare FOLDER --prompts PROMPTS … [options]",
        description="Score prompt sets on a folder with one subfolder a class, named after it.",
        examples=(
            "zeroshot prompts compare examples/photos --prompts photo plain --model mini",
            "zeroshot prompts compare examples/photos --model mini \\\n"
            "      --prompts 'a photo of a {}.' 'a sketch of a {}.' --svg comparison.svg",
        ),
    )
    group = comparing.add_argument_group("what is compared")
    group.add_argument("folder", metavar="FOLDER", help="one subfolder with images for each class")
    group.add_argument(
        "--prompts", nargs="+", required=True, metavar="PROMPTS", help="names of sets, files, or templates with {}"
    )
    add_labels_file(group, "names of the classes, one a line, by sorted subfolder")
    add_model(comparing)
    group = comparing.add_argument_group("results")
    group.add_argument("--svg", type=Path, metavar="FILE", help="write a picture of the result there")
    add_json(group, default=argparse.SUPPRESS)
    comparing.add_help_option()
    comparing.set_defaults(run=_compare_prompts)
    page = actions.add_parser(
        "gallery",
        help="print a page of all shipped sets, in Markdown",
        usage="zeroshot prompts gallery",
        description="Print a page of all shipped prompt sets, in Markdown.",
        examples=("zeroshot prompts gallery > gallery.md",),
    )
    add_general(page, json=False)
    page.set_defaults(run=_print_gallery)


def _list_prompts(arguments: argparse.Namespace) -> int:
    sets = [zeroshot.load_prompts(name) for name in zeroshot.available_prompts()]
    lines = [
        f"{one.name:<24} {len(one.templates):>3} templates  {len(one.classes):>5} classes  {one.title}" for one in sets
    ]
    about = [
        {"name": one.name, "title": one.title, "templates": len(one.templates), "classes": len(one.classes)}
        for one in sets
    ]
    return show(arguments, "\n".join(lines), about)


def _show_prompts(arguments: argparse.Namespace) -> int:
    prompts = zeroshot.load_prompts(arguments.name)
    if arguments.labels:
        for label in arguments.labels:
            if label not in prompts.classes and (near := suggest(label, prompts.classes)):
                tell(f"{label!r} is no class of {prompts.name}{near}", kind="note")
        expanded = prompts.expand(arguments.labels)
        rows = [{"label": label, "prompts": each} for label, each in zip(arguments.labels, expanded, strict=True)]
        return show(arguments, "\n".join(prompt for each in expanded for prompt in each), rows)
    about = {key: getattr(prompts, key) for key in ("title", "source", "license", "order", "data", "metric")}
    lines = [f"{key}: {value}" for key, value in about.items() if value]
    lines += [f"\n{len(prompts.templates)} templates", *(f"  {template}" for template in prompts.templates)]
    if prompts.classes:
        names = (", ".join(words) for words in prompts.labels.synonyms)
        lines += [f"\n{len(prompts.classes)} classes", *(f"  {name}" for name in names)]
    about = {"name": prompts.name, **about, "digest": prompts.digest, "templates": prompts.templates}
    about |= {"classes": prompts.classes, "synonyms": prompts.synonyms, "written": dict(prompts.written)}
    return show(arguments, "\n".join(lines), about)


def _lint_prompts(arguments: argparse.Namespace) -> int:
    from zeroshot.lint import lint_file

    findings = lint_file(arguments.name)
    lines = [f"{arguments.name}: {finding.rule}: {finding.message}" for finding in findings]
    if lines or arguments.json:
        code = show(arguments, "\n".join(lines), [asdict(finding) for finding in findings])
        return FAILED if findings else code
    return 0


def _compare_prompts(arguments: argparse.Namespace) -> int:
    from zeroshot.compare import compare_folder

    found = compare_folder(
        arguments.folder, arguments.prompts, labels=read_labels(arguments), **encoder_options(arguments)
    )
    code = show(arguments, found, _comparison(found))
    return code or (save(arguments.svg, found.save_svg) if arguments.svg else 0)


def _comparison(found: Comparison) -> dict[str, Any]:
    keys = ("name", "templates", "accuracy", "interval", "difference", "difference_interval", "verdict")
    rows = [{key: getattr(result, key) for key in keys} for result in found.results]
    return {"model": found.model, "images": found.n_images, "classes": found.n_classes, "results": rows}


def _print_gallery(arguments: argparse.Namespace) -> int:
    from zeroshot.gallery import gallery

    say(gallery().removesuffix("\n"))
    return 0
