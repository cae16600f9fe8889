"""``zeroshot robustness``: accuracy under natural shifts of ImageNet, or under corruptions made on purpose."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.cli.options import add_labels_file, add_model, model_options, read_labels
from zeroshot.errors import OptionError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command ``robustness`` and its two kinds."""
    parser = commands.add_parser("robustness", help="measure accuracy under distribution shift")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    shifts = actions.add_parser(
        "shifts",
        help="effective and relative robustness to ImageNet's natural shifts",
        description="Compare accuracies under ImageNet's natural shifts with what published models lead one to expect.",
        epilog="Examples: zeroshot robustness shifts imagenet=val imagenet_r=imagenet-r --model ViT-B-32/openai; "
        "zeroshot robustness shifts imagenet=0.633 imagenet_v2=0.558 imagenet_r=0.881,0.693",
    )
    shifts.add_argument(
        "measured",
        nargs="+",
        metavar="SHIFT=…",
        help="folders of class folders, imagenet=… among them; or accuracies: on ImageNet's images of the shift's "
        "classes, a comma, and under the shift",
    )
    shifts.add_argument("--base", metavar="MODEL", help="model of the table to compare with too, such as resnet101")
    shifts.add_argument(
        "--name", metavar="NAME", help="what the model is called, with accuracies (default: this model)"
    )
    shifts.add_argument("--prompts", metavar="PROMPTS", help="templates, with folders (default: the paper's 80)")
    _add_outputs(shifts)
    add_model(shifts)
    shifts.set_defaults(run=_run_shifts)
    worse = actions.add_parser(
        "corruptions",
        help="accuracy by severity of corruptions made on purpose, after ImageNet-C",
        description="Corrupt labelled images in several kinds and severities, and measure accuracy on each.",
        epilog="Example: zeroshot robustness corruptions photos --model mini --kinds fog pixelate --severities 1 3 5",
    )
    worse.add_argument(
        "data", metavar="DATA", help="a folder with one subfolder a class, or a list, as evaluate takes it"
    )
    worse.add_argument("--prompts", metavar="PROMPTS", help="a shipped set, a file, or a template with {}")
    worse.add_argument("--labels", nargs="+", metavar="NAME", help="names of the classes")
    add_labels_file(worse)
    worse.add_argument("--kinds", nargs="+", metavar="KIND", help="default: the 15 of the mean corruption error")
    worse.add_argument("--severities", nargs="+", type=int, default=[1, 2, 3, 4, 5], metavar="N", help="of 1 to 5")
    worse.add_argument("--seed", type=int, default=0, metavar="N")
    _add_outputs(worse)
    add_model(worse)
    worse.set_defaults(run=_run_corruptions)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw it there (.png, .svg, .pdf; extra: plot)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")


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
        found = evaluate_shifts(folders, **model_options(arguments), **options, base=arguments.base)
    return _show(found, arguments)


def _run_corruptions(arguments: argparse.Namespace) -> int:
    from zeroshot.shifted import evaluate_corruptions

    def tell(kind: str, severity: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{kind} {severity}\x1b[K", end="", file=sys.stderr)

    found = evaluate_corruptions(
        arguments.data,
        **model_options(arguments),
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
    from zeroshot.cache import write_atomically

    print(found)
    if arguments.json:
        text = json.dumps(found.to_dict(), indent=2) + "\n"
        write_atomically(arguments.json, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    if arguments.figure:
        found.save_figure(arguments.figure)
    return 0


def _read_measured(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not (name and mark and value):
        raise OptionError(f"{text!r} is no measurement; expected such as imagenet_r=FOLDER or imagenet_r=0.881,0.693")
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        return name, value  # a folder
    return name, numbers[0] if len(numbers) == 1 else tuple(numbers)
