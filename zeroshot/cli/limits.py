"""``zeroshot limits``: show what a model is known not to do, before production does."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot.cli.options import add_model, model_options, positive
from zeroshot.errors import OptionError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command ``limits``."""
    parser = commands.add_parser(
        "limits",
        help="measure what models are known not to do: counting, digits, distance, negation, left and right, …",
        description="Draw small sets that leave no doubt, and say where the model does better than chance.",
        epilog="Example: zeroshot limits --model ViT-B-32/datacomp_xl_s13b_b90k --html limits.html",
    )
    parser.add_argument("--sets", nargs="+", metavar="SET", help="only these, such as counting left_right")
    parser.add_argument(
        "--photographs",
        nargs="+",
        metavar="NAME=FILE",
        help="sets of these too, such as 'a cat=cat.jpg' 'a rocket=r.jpg'",
    )
    parser.add_argument("--per-class", type=positive, metavar="N", help="pictures of each class (default: 20)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed draws other pictures (default: 0)"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the pictures there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", action="store_true", help="print Markdown in place of a table for the terminal")
    add_model(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from zeroshot.cache import write_atomically
    from zeroshot.limits import PER_CLASS, find_limits

    found = find_limits(
        **model_options(arguments),
        sets=arguments.sets,
        photographs=_read_photographs(arguments.photographs),
        per_class=arguments.per_class or PER_CLASS,
        seed=arguments.seed,
    )
    print(found.markdown() if arguments.markdown else found)
    if arguments.html:
        found.save_html(arguments.html)
    if arguments.json:
        text = json.dumps(found.to_dict(), indent=2) + "\n"
        write_atomically(arguments.json, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return 0


def _read_photographs(given: list[str] | None) -> dict[str, str] | None:
    if given is None:
        return None
    pairs = [text.partition("=") for text in given]
    wrong = [text for text, (name, _, file) in zip(given, pairs, strict=True) if not (name and file)]
    if wrong:
        raise OptionError(f"{wrong[0]!r} is no photograph with a name; expected such as 'a cat=cat.jpg'")
    return {name: file for name, _, file in pairs}
