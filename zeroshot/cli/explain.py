"""``zeroshot explain``: a heat map of what in a picture speaks for a label."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import zeroshot
from zeroshot.cli.options import add_labels_file, add_model, model_options, positive, read_labels
from zeroshot.errors import OptionError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command ``explain``."""
    parser = commands.add_parser(
        "explain",
        help="draw what in a picture speaks for a label",
        description="Draw a heat map over a picture: what speaks for one of the labels and against the others. The "
        "method is printed, and where it was published.",
        epilog="Example: zeroshot explain cat.jpg --labels cat dog car --out heat.png --model mini",
    )
    parser.add_argument("image", metavar="IMAGE", help="path or URL of an image; - for standard input")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="names of the classes (after the image)")
    add_labels_file(parser)
    parser.add_argument("--head", type=Path, metavar="FILE", help="a saved head or probe, in place of labels")
    parser.add_argument("--label", metavar="NAME", help="the one to explain (default: the most probable)")
    parser.add_argument(
        "--of",
        choices=("probability", "similarity"),
        default="probability",
        help="what speaks for it against the others, or what is like it (default: probability)",
    )
    parser.add_argument(
        "--layers",
        type=positive,
        default=1,
        metavar="N",
        help="layers of attention that count, from the last (default 1)",
    )
    add_model(parser)
    parser.add_argument("--prompts", metavar="PROMPTS", help="name of a prompt set, a file, or a template with {}")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the picture there: .png, .jpg, .webp")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    parser.set_defaults(run=_run, usage_error=parser.error)


def _run(arguments: argparse.Namespace) -> int:
    from PIL import Image

    from zeroshot.cache import write_atomically

    if not (arguments.out or arguments.json):
        arguments.usage_error("one of --out and --json is required")
    labels = read_labels(arguments)
    if arguments.head and (labels or arguments.prompts):
        arguments.usage_error("--head has its own classes; it goes without labels and prompts")
    Image.init()
    image_format = Image.EXTENSION.get(arguments.out.suffix.lower()) if arguments.out else None
    if arguments.out and image_format not in Image.SAVE:
        raise OptionError(f"--out is {str(arguments.out)!r}; expected a name that ends in .png, .jpg or .webp")
    if arguments.head:
        classifier = zeroshot.Classifier.from_head(arguments.head, **model_options(arguments))
    else:
        classifier = zeroshot.Classifier(labels, prompts=arguments.prompts, **model_options(arguments))
    image = sys.stdin.buffer if arguments.image == "-" else arguments.image
    found = classifier.explain(image, arguments.label, of=arguments.of, layers=arguments.layers)
    if arguments.out:
        overlay = found.overlay()
        write_atomically(arguments.out, lambda temporary: overlay.save(temporary, image_format))
    if arguments.json:
        text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomically(arguments.json, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print(f"{found.label}  {found.score:.1%}  {found.method} ({found.citation})")
    return 0
