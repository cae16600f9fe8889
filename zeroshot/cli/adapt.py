"""``zeroshot probe``, ``zeroshot fewshot`` and ``zeroshot calibrate``: heads that labelled images make, or mend."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zeroshot
from zeroshot.cli.options import (
    add_general,
    add_json,
    add_labels_file,
    add_model,
    add_prompts,
    model_options,
    positive,
    read_labels,
)
from zeroshot.cli.output import save, show
from zeroshot.cli.parser import suggest
from zeroshot.errors import LabelError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands
    from zeroshot.cli.parser import Parser

_DATA = "labelled images: a folder with a subfolder for each class, a list, webdataset archives, datasets:…"
_LABELS = "names of the classes for the prompts, one a line, in the order of the data's"


def add_parser(commands: Commands) -> None:
    """Add the commands ``probe``, ``fewshot`` and ``calibrate``."""
    probe = commands.add_parser(
        "probe",
        help="fit a linear classifier on labelled images",
        usage="zeroshot probe DATA --out FILE [options]",
        description="Fit a linear classifier on labelled images, as CLIP's paper does, and write it as a head, for "
        "'zeroshot classify --head'. With --from-zero-shot it begins with the names of the classes, and stays near "
        "them: the better way with few images.",
        examples=(
            "zeroshot probe examples/photos --out photos.head --model mini",
            "zeroshot probe examples/photos --from-zero-shot --out near.head --model mini",
            "zeroshot classify examples/images/cat.jpg --head near.head",
        ),
    )
    group = probe.add_argument_group("images and head")
    group.add_argument("data", metavar="DATA", help=_DATA)
    group.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write the head")
    group.add_argument("--validation", metavar="DATA", help="images to find the strength of the penalty on")
    group.add_argument("--l2", type=float, metavar="L2", help="strength of the penalty (default: searched)")
    group.add_argument("--standardize", action="store_true", help="bring each dimension to mean 0 and variance 1 first")
    group.add_argument(
        "--space",
        choices=("features", "embeddings"),
        metavar="SPACE",
        help="what it reads: features or embeddings (default: features; with --from-zero-shot embeddings)",
    )
    _add_zero_shot(probe, from_zero_shot=True)
    add_general(probe)
    probe.set_defaults(run=_probe, usage_error=probe.error)

    fewshot = commands.add_parser(
        "fewshot",
        help="what a few labelled images a class add to zero-shot",
        usage="zeroshot fewshot DATA [options]",
        description="Measure the accuracy with 1, 2, 4, … labelled images a class beside that of zero-shot.",
        examples=(
            "zeroshot fewshot examples/photos --shots 1 2 --seeds 2 --model mini",
            "zeroshot fewshot examples/photos --shots 1 --seeds 2 --model mini --json",
        ),
    )
    group = fewshot.add_argument_group("images")
    group.add_argument("data", metavar="DATA", help=_DATA)
    group.add_argument("--test", metavar="DATA", help="images to test on (default: half of those of each class)")
    group.add_argument("--shots", nargs="+", type=positive, metavar="K", help="images a class (default: 1 2 4 8 16)")
    group.add_argument("--seeds", type=positive, default=5, metavar="N", help="how many times to draw (default: 5)")
    _add_zero_shot(fewshot)
    _add_outputs(fewshot, "the curves")
    fewshot.set_defaults(run=_fewshot)

    calibrate = commands.add_parser(
        "calibrate",
        help="make probabilities come true as often as they say",
        usage="zeroshot calibrate DATA [options]",
        description="Fit the temperature of a head on labelled images that nothing was fitted on, and write the head.",
        examples=(
            "zeroshot calibrate examples/photos --model mini --out calibrated.head",
            "zeroshot calibrate examples/photos --prompts imagenet --model mini --json",
        ),
    )
    group = calibrate.add_argument_group("images and head")
    group.add_argument("data", metavar="DATA", help=_DATA)
    group.add_argument("--head", type=Path, metavar="FILE", help="a head to calibrate (default: that of the names)")
    group.add_argument("--out", type=Path, metavar="FILE", help="where to write the calibrated head")
    _add_zero_shot(calibrate)
    _add_outputs(calibrate, "the reliability diagrams")
    calibrate.set_defaults(run=_calibrate, usage_error=calibrate.error)


def _add_zero_shot(parser: Parser, *, from_zero_shot: bool = False) -> None:
    group = parser.add_argument_group("zero-shot head")
    if from_zero_shot:
        group.add_argument("--from-zero-shot", action="store_true", help="begin with the zero-shot head, stay near it")
    add_prompts(group)
    add_labels_file(group, _LABELS)
    add_model(parser)


def _add_outputs(parser: Parser, what: str) -> None:
    group = parser.add_argument_group("results")
    group.add_argument("--figure", type=Path, metavar="FILE", help=f"draw {what} there: .png, .svg or .pdf")
    add_json(group)
    parser.add_help_option()


def _probe(arguments: argparse.Namespace) -> int:
    from zeroshot.head import check_head_target

    if not arguments.from_zero_shot and (arguments.prompts or arguments.labels_file):
        arguments.usage_error("--prompts and --labels-file go with --from-zero-shot")
    check_head_target(arguments.out)
    images, targets, classes = _read(arguments.data)
    validation = _read_as(arguments.validation, classes) if arguments.validation else None
    encoder = zeroshot.load(**model_options(arguments))
    anchor = _zero_shot(encoder, classes, arguments) if arguments.from_zero_shot else None
    head = zeroshot.fit_probe(
        encoder,
        images,
        targets,
        classes=None if anchor else classes,
        anchor=anchor,
        space=arguments.space,
        l2=arguments.l2,
        validation=validation,
        standardize=arguments.standardize,
    )
    about = {"path": arguments.out, "origin": head.origin, "labels": head.labels, "space": head.space}
    about |= {"dim": head.weight.shape[1], "model": head.model}
    return save(arguments.out, head.save) or show(arguments, f"{arguments.out}: {head.origin}", about)


def _fewshot(arguments: argparse.Namespace) -> int:
    from zeroshot.fewshot import few_shot

    images, targets, classes = _read(arguments.data)
    test = _read_as(arguments.test, classes) if arguments.test else None
    encoder = zeroshot.load(**model_options(arguments))
    curve = few_shot(
        encoder,
        images,
        targets,
        classes=classes,
        head=_zero_shot(encoder, classes, arguments),
        test=test,
        shots=arguments.shots,
        seeds=arguments.seeds,
    )
    return _show(arguments, curve)


def _calibrate(arguments: argparse.Namespace) -> int:
    from zeroshot.calibration import calibrate
    from zeroshot.head import check_head_target

    if arguments.head and (arguments.prompts or arguments.labels_file):
        arguments.usage_error("--head stands in the place of --prompts and --labels-file")
    if arguments.out:
        check_head_target(arguments.out)
    if arguments.head:
        classifier = zeroshot.Classifier.from_head(arguments.head, **model_options(arguments))
        images, targets = _read_as(arguments.data, classifier.labels)
    else:
        images, targets, classes = _read(arguments.data)
        encoder = zeroshot.load(**model_options(arguments))
        classifier = zeroshot.Classifier.from_head(_zero_shot(encoder, classes, arguments), model=encoder)
    found = calibrate(classifier, images, targets)
    return _show(arguments, found) or (save(arguments.out, found.head.save) if arguments.out else 0)


def _read(data: str) -> tuple[list[Any], list[int], tuple[str, ...]]:
    """Return images, positions of their classes, and the names of these."""
    from zeroshot.labelled import load_labelled

    found = load_labelled(data)
    if not found.classes:
        raise LabelError(
            f"the labels of {data} are numbers, and nothing there says what they stand for; expected names"
        )
    items = list(found.items())
    targets: list[int] = []
    for item in items:
        if not isinstance(item.target, int):
            problem = item.problem or "it has several classes, or none; expected one"
            raise LabelError(f"the label of {item.source} cannot be used: {problem}")
        targets.append(item.target)
    return items, targets, found.classes


def _read_as(data: str, classes: tuple[str, ...]) -> tuple[list[Any], list[int]]:
    """Return images, and the positions of their classes among those of other data or of a head."""
    images, targets, names = _read(data)
    missing = [name for name in names if name not in classes]
    if missing:
        shown = ", ".join(map(repr, classes[:3])) + (", …" if len(classes) > 3 else "")
        raise LabelError(
            f"the class {missing[0]!r} of {data} is none of {shown}; expected classes of those names"
            f"{suggest(missing[0], classes)}"
        )
    return images, [classes.index(names[target]) for target in targets]


def _zero_shot(encoder: Any, classes: tuple[str, ...], arguments: argparse.Namespace) -> zeroshot.Head:
    labels = read_labels(arguments)
    if labels is not None and len(labels) != len(classes):
        raise LabelError(f"{len(labels)} labels came for {len(classes)} classes; expected one for each")
    return zeroshot.build_head(encoder, labels or classes, prompts=arguments.prompts)


def _show(arguments: argparse.Namespace, found: Any) -> int:
    code = show(arguments, found, found.to_dict())
    return code or (save(arguments.figure, found.save_figure) if arguments.figure else 0)
