"""``zeroshot prompts``: list, show, check and compare prompt sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import zeroshot
from zeroshot.cli.options import add_labels_file, add_model, model_options, read_labels
from zeroshot.cli.output import FAILED, fail

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command ``prompts`` and what it does."""
    prompts = commands.add_parser("prompts", help="list, show and check prompt sets")
    prompts.set_defaults(run=_list_prompts)
    actions = prompts.add_subparsers(metavar="ACTION")
    listing = actions.add_parser("list", help="list the shipped sets (the default)")
    listing.set_defaults(run=_list_prompts)
    show = actions.add_parser("show", help="show a set, or the prompts that it makes of labels")
    show.add_argument("name", metavar="PROMPTS", help="name of a shipped set, or a file")
    show.add_argument("--labels", nargs="+", metavar="NAME", help="show the prompts of these labels")
    show.set_defaults(run=_show_prompts)
    check = actions.add_parser("lint", help="find what hurts in a set: repeated or ambiguous names, long prompts, …")
    check.add_argument("name", metavar="PROMPTS", help="name of a shipped set, or a file")
    check.set_defaults(run=_lint_prompts)
    comparing = actions.add_parser(
        "compare",
        help="say which sets are better on your labelled images, and whether there are enough to tell",
        description="Score prompt sets on a folder with one subfolder a class, named after it.",
        epilog="Example: zeroshot prompts compare photos --prompts 'a photo of a {}.' imagenet --svg comparison.svg",
    )
    comparing.add_argument("folder", metavar="FOLDER", help="one subfolder with images for each class")
    comparing.add_argument(
        "--prompts", nargs="+", required=True, metavar="PROMPTS", help="names of sets, files, or templates with {}"
    )
    add_labels_file(comparing, "names of the classes, one a line, by sorted subfolder")
    comparing.add_argument("--svg", type=Path, metavar="FILE", help="write a picture of the result there")
    add_model(comparing)
    comparing.set_defaults(run=_compare_prompts)
    page = actions.add_parser("gallery", help="print a page of all shipped sets, in Markdown")
    page.set_defaults(run=_print_gallery)


def _list_prompts(arguments: argparse.Namespace) -> int:
    for name in zeroshot.available_prompts():
        prompts = zeroshot.load_prompts(name)
        print(f"{name:<24} {len(prompts.templates):>3} templates  {len(prompts.classes):>5} classes  {prompts.title}")
    return 0


def _show_prompts(arguments: argparse.Namespace) -> int:
    prompts = zeroshot.load_prompts(arguments.name)
    if arguments.labels:
        for expanded in prompts.expand(arguments.labels):
            print("\n".join(expanded))
        return 0
    for key in ("title", "source", "license", "order", "data", "metric"):
        if getattr(prompts, key):
            print(f"{key}: {getattr(prompts, key)}")
    print(f"\n{len(prompts.templates)} templates", *prompts.templates, sep="\n  ")
    if prompts.classes:
        names = (", ".join(words) for words in prompts.labels.synonyms)
        print(f"\n{len(prompts.classes)} classes", *names, sep="\n  ")
    return 0


def _lint_prompts(arguments: argparse.Namespace) -> int:
    from zeroshot.lint import lint_file

    findings = lint_file(arguments.name)
    for finding in findings:
        print(f"{arguments.name}: {finding.rule}: {finding.message}")
    return FAILED if findings else 0


def _compare_prompts(arguments: argparse.Namespace) -> int:
    from zeroshot.compare import compare_folder

    labels, options = read_labels(arguments), model_options(arguments)
    found = compare_folder(arguments.folder, arguments.prompts, labels=labels, **options)
    print(found)
    if arguments.svg:
        try:
            found.save_svg(arguments.svg)
        except OSError as error:
            return fail(f"{arguments.svg} cannot be written: {error}; choose a folder that can be")
    return 0


def _print_gallery(arguments: argparse.Namespace) -> int:
    from zeroshot.gallery import gallery

    print(gallery(), end="")
    return 0
