"""``zeroshot robustness``: accuracy under natural shifts of ImageNet, or under corruptions made on purpose."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.cli.options import add_json, add_labels, add_model, add_prompts, encoder_options, read_labels
from zeroshot.cli.output import save, show
from zeroshot.errors import OptionError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands
    from zeroshot.cli.parser import Parser


def add_parser(commands: Commands) -> None:
    """Add the command ``robustness`` and its two kinds."""
    parser = commands.add_parser(
        "robustness",
        help="accuracy under distribution shift, or under corruptions",
        usage="zeroshot robustness {shifts,corruptions} … [options]",
        description="Measure how much of the accuracy is left on other images than those of the benchmark.",
    )
    actions = parser.add_subparsers(metavar="ACTION", prog="zeroshot robustness", title="actions")
    parser.add_help_option()
    parser.set_defaults(run=parser.run_help)
    shifts = actions.add_parser(
        "shifts",
        help="effective and relative robustness to ImageNet's natural shifts",
        usage="zeroshot robustness shifts SHIFT=… … [options]",
        description="Compare accuracies under ImageNet's natural shifts with what published models lead one to expect.",
        examples=(
            "zeroshot robustness shifts imagenet=0.633 imagenet_v2=0.558 \\\n      imagenet_r=0.881,0.693",
            "zeroshot robustness shifts imagenet_r=0.881,0.693 --base resnet101 --json",
        ),
    )
    group = shifts.add_argument_group("what is measured")
    group.add_argument(
        "measured",
        nargs="+",
        metavar="SHIFT=…",
        help="folders of class folders, imagenet=… among them; or accuracies: on ImageNet's images of the shift's "
        "classes, a comma, and under the shift",
    )
    group.add_argument("--base", metavar="NAME", help="model of the table to compare with too, such as resnet101")
    group.add_argument("--name", metavar="NAME", help="what the model is called, with accuracies (default: this model)")
    add_prompts(group, "templates, with folders (default: the paper's 80)")
    add_model(shifts)
    _add_outputs(shifts)
    shifts.set_defaults(run=_run_shifts)
    worse = actions.add_parser(
        "corruptions",
        help="accuracy by severity of corruptions made on purpose, after ImageNet-C",
        usage="zeroshot robustness corruptions DATA [options]",
        description="Corrupt labelled images in several kinds and severities, and measure accuracy on each.",
        examples=(
            "zeroshot robustness corruptions examples/photos --model mini --kinds fog \\\n      --severities 1 5",
        ),
    )
    group = worse.add_argument_group("what is measured")
    group.add_argument(
        "data", metavar="DATA", help="a folder with one subfolder a class, or a list, as evaluate takes it"
    )
    add_prompts(group)
    add_labels(group)
    group.add_argument("--kinds", nargs="+", metavar="KIND", help="default: the 15 of the mean corruption error")
    group.add_argument(
        "--severities", nargs="+", type=int, default=[1, 2, 3, 4, 5], metavar="N", help="of 1 to 5 (default: all)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the corruptions (default: 0)")
    add_model(worse)
    _add_outputs(worse)
    worse.set_defaults(run=_run_corruptions)


def _add_outputs(parser: Parser) -> None:
    group = parser.add_argument_group("results")
    group.add_argument("--figure", type=Path, metavar="FILE", help="draw it there (.png, .svg, .pdf; extra: plot)")
    add_json(group)
    parser.add_help_option()


def _run_shifts(arguments: argparse.Namespace) -> int:
    from zeroshot.robustness import evaluate_robustness

    given = dict(_read_measured(text) for text in arguments.measured)
    folders = {name: value for name, value in given.items() if isinstance(value, str)}
    if not folders:
        found = evaluate_robustness(given, name=arguments.name or "this model", base=arguments.base)
    elif len(folders) < len(given):
        raise OptionError(f"both folders ({', '.join(folders)}) and accuracies came; expected one or the other")
    else:
        from zeroshot.shifted import evaluate_shifts

        options = {"prompts": arguments.prompts} if arguments.prompts else {}
        found = evaluate_shifts(folders, **encoder_options(arguments), **options, base=arguments.base)
    return _show(found, arguments)


def _run_corruptions(arguments: argparse.Namespace) -> int:
    from zeroshot.shifted import evaluate_corruptions

    def tell(kind: str, severity: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{kind} {severity}\x1b[K", end="", file=sys.stderr)

    found = evaluate_corruptions(
        arguments.data,
        **encoder_options(arguments),
        prompts=arguments.prompts,
        labels=read_labels(arguments),
        kinds=arguments.kinds,
        severities=arguments.severities,
        seed=arguments.seed,
        progress=tell,
    )
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    return _show(found, arguments)


def _show(found: Any, arguments: argparse.Namespace) -> int:
    code = show(arguments, found, found.to_dict())
    return code or (save(arguments.figure, found.save_figure) if arguments.figure else 0)


def _read_measured(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not (name and mark and value):
        raise OptionError(f"{text!r} is no measurement; expected such as imagenet_r=FOLDER or imagenet_r=0.881,0.693")
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        return name, value  # a folder
    return name, numbers[0] if len(numbers) == 1 else tuple(numbers)
