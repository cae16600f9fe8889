"""``zeroshot explain``: a heat map of what in a picture speaks for a label."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import zeroshot
from zeroshot.cli.options import (
    add_json,
    add_labels,
    add_model,
    add_prompts,
    image_among,
    model_options,
    positive,
    read_labels,
)
from zeroshot.cli.output import save, show
from zeroshot.errors import OptionError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command ``explain``."""
    parser = commands.add_parser(
        "explain",
        help="draw what in a picture speaks for a label",
        usage="zeroshot explain IMAGE --labels LABEL … --out FILE [options]",
        description="Draw a heat map over a picture: what speaks for one of the labels and against the others. The "
        "method is printed, and where it was published.",
        examples=(
            "zeroshot explain examples/images/cat.jpg --labels cat dog car --model mini \\\n      --out heat.png",
            "zeroshot explain examples/images/coffee.jpg --labels cup spoon --label spoon \\\n"
            "      --model mini --json",
        ),
        failure="the image could not be read, or the model has no such maps",
    )
    group = parser.add_argument_group("image")
    group.add_argument("image", nargs="?", metavar="IMAGE", help="path or URL of an image; - for standard input")
    group = parser.add_argument_group("classes")
    add_labels(group, "names of the classes (after the image)")
    add_prompts(group)
    group.add_argument("--head", type=Path, metavar="FILE", help="a saved head or probe, in place of labels")
    group = parser.add_argument_group("what is explained")
    group.add_argument("--label", metavar="LABEL", help="the one to explain (default: the most probable)")
    group.add_argument(
        "--of",
        choices=("probability", "similarity"),
        default="probability",
        metavar="WHAT",
        help="probability: what speaks for it against the others; similarity: what is like it (default: probability)",
    )
    group.add_argument(
        "--layers",
        type=positive,
        default=1,
        metavar="N",
        help="layers of attention that count, from the last; of transformers (default: 1)",
    )
    add_model(parser)
    group = parser.add_argument_group("results")
    group.add_argument("--out", type=Path, metavar="FILE", help="write the picture there: .png, .jpg or .webp")
    add_json(group)
    parser.add_help_option()
    parser.set_defaults(run=_run, usage_error=parser.error)


def _run(arguments: argparse.Namespace) -> int:
    from PIL import Image

    from zeroshot.cache import write_atomically
    from zeroshot.explain import find_label
    from zeroshot.image import open_image

    if taken := image_among(arguments.labels):
        arguments.usage_error(f"{taken!r} was read as a label; put the image before --labels")
    if arguments.image is None:
        arguments.usage_error("the following arguments are required: IMAGE")
    if not (arguments.out or arguments.json):
        arguments.usage_error("one of --out and --json is required")
    labels = read_labels(arguments)
    if arguments.head and (labels or arguments.prompts):
        arguments.usage_error("--head has its own classes; it goes without labels and prompts")
    if labels and len(labels) == 1 and arguments.of == "probability":
        arguments.usage_error(
            f"{labels[0]!r} is the only label, so that nothing speaks against it; give others too, or --of similarity"
        )
    # What is wrong with these is told before a checkpoint is fetched or loaded.
    Image.init()
    form = Image.EXTENSION.get(arguments.out.suffix.lower()) if arguments.out else None
    if arguments.out and form not in Image.SAVE:
        raise OptionError(f"--out is {str(arguments.out)!r}; expected a name that ends in .png, .jpg or .webp")
    for option in ("out", "json"):
        if (written := getattr(arguments, option)) and _is_same_file(written, arguments.image):
            arguments.usage_error(f"--{option} is {str(written)!r}, the picture itself; expected another name")
    if labels and arguments.label is not None:
        find_label(labels, arguments.label)
    image = open_image(sys.stdin.buffer if arguments.image == "-" else arguments.image)
    if arguments.head:
        classifier = zeroshot.Classifier.from_head(arguments.head, **model_options(arguments))
    else:
        classifier = zeroshot.Classifier(labels, prompts=arguments.prompts, **model_options(arguments))
    found = classifier.explain(image, arguments.label, of=arguments.of, layers=arguments.layers)
    if arguments.out:
        overlay = found.overlay()
        code = save(arguments.out, lambda path: write_atomically(path, lambda temporary: overlay.save(temporary, form)))
        if code:
            return code
    text = f"{found.label}  {found.score:.1%}  {found.method} ({found.citation})"
    if arguments.out:
        text += f"\n{arguments.out}: the picture, with what speaks for {found.label!r} from dark to light"
    return show(arguments, text, found.to_dict())


def _is_same_file(written: str | Path, image: str) -> bool:
    try:
        return Path(written).samefile(image)
    except OSError:  # one of them is not there, or no file
        return False
