"""``zeroshot limits``: show what a model is known not to do, before production does."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot.cli.options import add_json, add_model, encoder_options, positive
from zeroshot.cli.output import save, show
from zeroshot.errors import OptionError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command ``limits``."""
    parser = commands.add_parser(
        "limits",
        help="what models are known not to do: counting, negation, …",
        usage="zeroshot limits [options]",
        description="Draw small sets that leave no doubt, and say where the model does better than chance.",
        examples=(
            "zeroshot limits --model mini --sets counting left_right --per-class 5",
            "zeroshot limits --model mini --sets left_right --photographs \\\n"
            "      'a cat=examples/images/cat.jpg' 'a rocket=examples/images/rocket.jpg'",
        ),
    )
    group = parser.add_argument_group("sets")
    group.add_argument(
        "--sets", nargs="+", metavar="SET", help="only these, such as counting left_right (default: all)"
    )
    group.add_argument(
        "--photographs",
        nargs="+",
        metavar="NAME=FILE",
        help="sets of these too, such as 'a cat=cat.jpg' 'a rocket=r.jpg'",
    )
    group.add_argument("--per-class", type=positive, metavar="N", help="pictures of each class (default: 20)")
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed draws other pictures (default: 0)"
    )
    add_model(parser)
    group = parser.add_argument_group("results")
    group.add_argument("--html", type=Path, metavar="FILE", help="write a page with the pictures there")
    add_json(group)
    group.add_argument("--markdown", action="store_true", help="print Markdown in place of a table for the terminal")
    parser.add_help_option()
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from zeroshot.limits import PER_CLASS, find_limits

    found = find_limits(
        **encoder_options(arguments),
        sets=arguments.sets,
        photographs=_read_photographs(arguments.photographs),
        per_class=arguments.per_class or PER_CLASS,
        seed=arguments.seed,
    )
    code = show(arguments, found.markdown() if arguments.markdown else found, found.to_dict())
    return code or (save(arguments.html, found.save_html) if arguments.html else 0)


def _read_photographs(given: list[str] | None) -> dict[str, str] | None:
    if given is None:
        return None
    pairs = [text.partition("=") for text in given]
    wrong = [text for text, (name, _, file) in zip(given, pairs, strict=True) if not (name and file)]
    if wrong:
        raise OptionError(f"{wrong[0]!r} is no photograph with a name; expected such as 'a cat=cat.jpg'")
    return {name: file for name, _, file in pairs}
