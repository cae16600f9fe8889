"""``zeroshot probe``, ``zeroshot fewshot`` and ``zeroshot calibrate``: heads that labelled images make, or mend."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zeroshot
from zeroshot.cache import write_atomically
from zeroshot.cli.options import add_labels_file, add_model, model_options, positive, read_labels
from zeroshot.cli.output import fail
from zeroshot.errors import LabelError, ZeroShotError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands

_DATA = "labelled images: a folder with a subfolder for each class, a list, webdataset archives, datasets:…"
_PROMPTS = "of the zero-shot head: name of a prompt set, a file, or a template with {}"
_LABELS = "names of the classes for the prompts, one a line, in the order of the data's"


def add_parser(commands: Commands) -> None:
    """Add the commands ``probe``, ``fewshot`` and ``calibrate``."""
    probe = commands.add_parser(
        "probe",
        help="fit a linear classifier on labelled images",
        description="Fit a linear classifier on labelled images, as CLIP's paper does, and write it as a head, for "
        "'zeroshot classify --head'. With --from-zero-shot it begins with the names of the classes, and stays near "
        "them: the better way with few images.",
        epilog="Example: zeroshot probe photos --out photos.safetensors --model mini",
    )
    probe.add_argument("data", metavar="DATA", help=_DATA)
    probe.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write the head")
    probe.add_argument("--validation", metavar="DATA", help="images to find the strength of the penalty on")
    probe.add_argument("--l2", type=float, metavar="L2", help="strength of the penalty (default: searched)")
    probe.add_argument("--standardize", action="store_true", help="bring each dimension to mean 0 and variance 1 first")
    probe.add_argument("--space", choices=("features", "embeddings"), help="what it reads (default: features)")
    probe.add_argument("--from-zero-shot", action="store_true", help="begin with the zero-shot head and stay near it")
    _add_zero_shot(probe)
    probe.set_defaults(run=_probe, usage_error=probe.error)

    fewshot = commands.add_parser(
        "fewshot",
        help="measure what a few labelled images a class add to zero-shot",
        description="Measure the accuracy with 1, 2, 4, … labelled images a class beside that of zero-shot.",
        epilog="Example: zeroshot fewshot photos --prompts imagenet --model mini --figure curve.png",
    )
    fewshot.add_argument("data", metavar="DATA", help=_DATA)
    fewshot.add_argument("--test", metavar="DATA", help="images to test on (default: half of those of each class)")
    fewshot.add_argument("--shots", nargs="+", type=positive, metavar="K", help="images a class (default 1 2 4 8 16)")
    fewshot.add_argument("--seeds", type=positive, default=5, metavar="N", help="how many times to draw (default 5)")
    _add_zero_shot(fewshot)
    _add_outputs(fewshot, "the curves")
    fewshot.set_defaults(run=_fewshot)

    calibrate = commands.add_parser(
        "calibrate",
        help="make probabilities come true as often as they say",
        description="Fit the temperature of a head on labelled images that nothing was fitted on, and write the head.",
        epilog="Example: zeroshot calibrate held-out --prompts imagenet --model mini --out calibrated.safetensors",
    )
    calibrate.add_argument("data", metavar="DATA", help=_DATA)
    calibrate.add_argument("--head", type=Path, metavar="FILE", help="a head to calibrate (default: that of the names)")
    calibrate.add_argument("--out", type=Path, metavar="FILE", help="where to write the calibrated head")
    _add_zero_shot(calibrate)
    _add_outputs(calibrate, "the reliability diagrams")
    calibrate.set_defaults(run=_calibrate, usage_error=calibrate.error)


def _add_zero_shot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", metavar="PROMPTS", help=_PROMPTS)
    add_labels_file(parser, _LABELS)
    add_model(parser)


def _add_outputs(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--figure", type=Path, metavar="FILE", help=f"draw {what} there: .png, .svg or .pdf")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")


def _probe(arguments: argparse.Namespace) -> int:
    if not arguments.from_zero_shot and (arguments.prompts or arguments.labels_file):
        arguments.usage_error("--prompts and --labels-file go with --from-zero-shot")
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
    return _write(lambda: head.save(arguments.out)) or _say(f"{arguments.out}: {head.origin}")


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
    print(curve)
    return _outputs(arguments, curve)


def _calibrate(arguments: argparse.Namespace) -> int:
    from zeroshot.calibration import calibrate

    if arguments.head and (arguments.prompts or arguments.labels_file):
        arguments.usage_error("--head stands in the place of --prompts and --labels-file")
    if arguments.head:
        classifier = zeroshot.Classifier.from_head(arguments.head, **model_options(arguments))
        images, targets = _read_as(arguments.data, classifier.labels)
    else:
        images, targets, classes = _read(arguments.data)
        encoder = zeroshot.load(**model_options(arguments))
        classifier = zeroshot.Classifier.from_head(_zero_shot(encoder, classes, arguments), model=encoder)
    found = calibrate(classifier, images, targets)
    print(found)
    failed = _write(lambda: found.head.save(arguments.out)) if arguments.out else 0
    return failed or _outputs(arguments, found)


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
        raise LabelError(f"the class {missing[0]!r} of {data} is none of {shown}; expected classes of those names")
    return images, [classes.index(names[target]) for target in targets]


def _zero_shot(encoder: Any, classes: tuple[str, ...], arguments: argparse.Namespace) -> zeroshot.Head:
    labels = read_labels(arguments)
    if labels is not None and len(labels) != len(classes):
        raise LabelError(f"{len(labels)} labels came for {len(classes)} classes; expected one for each")
    return zeroshot.build_head(encoder, labels or classes, prompts=arguments.prompts)


def _outputs(arguments: argparse.Namespace, found: Any) -> int:
    failed = 0
    if arguments.json:
        text = json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n"
        failed = _write(lambda: write_atomically(arguments.json, lambda file: file.write_text(text, encoding="utf-8")))
    if arguments.figure and not failed:
        failed = _write(lambda: found.save_figure(arguments.figure))
    return failed


def _write(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        if isinstance(error, ZeroShotError):
            raise
        return fail(f"{error.filename or 'the file'} cannot be written: {error.strerror or error}")
    return 0


def _say(text: str) -> int:
    print(text)
    return 0
