"""``zeroshot evaluate`` and ``zeroshot reproduce``: how good classifiers are on labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.cli.options import (
    add_batches,
    add_device,
    add_json,
    add_labels,
    add_model,
    add_prompts,
    model_options,
    positive,
    read_labels,
    read_lines,
)
from zeroshot.cli.output import FAILED, fail, inform, save, save_text, show
from zeroshot.errors import LabelError, ZeroShotError
from zeroshot.prompts import METRICS

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the commands ``evaluate`` and ``reproduce``."""
    evaluate = commands.add_parser(
        "evaluate",
        help="accuracy, its interval, confusions, a page with pictures",
        usage="zeroshot evaluate DATA [options]",
        description="Measure a classifier on labelled images: a folder with one subfolder a class, a list (.csv, .tsv, "
        ".jsonl, .parquet) with a column of paths and one of labels, webdataset archives (.tar), or a Hugging Face "
        "data set (datasets:owner/name, or a saved folder). What is wrong with single images is told, and the rest is "
        "measured.",
        examples=(
            "zeroshot evaluate examples/photos --model mini",
            "zeroshot evaluate examples/photos --prompts imagenet --labels-from-data \\\n"
            "      --model mini --html page.html --json result.json",
        ),
        failure="an image could not be read (the others are measured), or nothing could be done",
    )
    group = evaluate.add_argument_group("images")
    group.add_argument("data", metavar="DATA", help="the labelled images, as said above")
    group.add_argument("--image-column", metavar="NAME", help="of a list or a data set")
    group.add_argument("--label-column", metavar="NAME", help="of a list or a data set")
    group.add_argument("--separator", metavar="TEXT", help="between the labels of an image that shows several classes")
    group.add_argument("--split", metavar="NAME", help="of a Hugging Face data set")
    group.add_argument("--classes-file", type=Path, metavar="FILE", help="the data's classes, one a line, by position")
    group.add_argument("--embeddings", type=Path, metavar="FILE", help="what 'zeroshot embed' wrote of these images")
    group = evaluate.add_argument_group("classes")
    add_prompts(group)
    add_labels(group, "names of the classes (default: the prompt set's, or the data's)")
    group.add_argument(
        "--labels-from-data", action="store_true", help="take the names that the data has, also where the set has names"
    )
    group.add_argument("--head", type=Path, metavar="FILE", help="a saved head, in place of prompts and labels")
    group.add_argument(
        "--match",
        choices=("auto", "name", "position"),
        default="auto",
        metavar="HOW",
        help="how labels and classes of the data belong together: auto, name or position (default: auto)",
    )
    add_model(evaluate)
    group = evaluate.add_argument_group("results")
    names = [name for name in METRICS if name != "expected_calibration_error"]
    group.add_argument(
        "--metric",
        choices=names,
        metavar="METRIC",
        help=f"which one counts: {', '.join(names)} (default: that of the prompt set, or top_1)",
    )
    group.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures of hits and misses there")
    add_json(group)
    group.add_argument(
        "--resamples", type=positive, default=1000, metavar="N", help="for the intervals (default: 1000)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals (default: 0)")
    add_batches(group)
    evaluate.add_help_option()
    evaluate.set_defaults(run=_evaluate)

    reproduce = commands.add_parser(
        "reproduce",
        help="fill the published table of models with what is on this disk",
        usage="zeroshot reproduce --data DIR [options]",
        description="Measure the paper's models on the paper's data sets, as far as images and checkpoints are on this "
        "disk: a folder, list or archive for each data set, with the name of its prompt set. Results are kept, so that "
        "a second run fills the gaps only.",
        examples=(
            "zeroshot reproduce --data sets --plan",
            "zeroshot reproduce --data sets --model mini --prompts cifar10 --json",
        ),
        failure="a measurement failed (the others are in the table), or nothing could be done",
    )
    group = reproduce.add_argument_group("what is measured")
    group.add_argument("--data", type=Path, required=True, metavar="DIR", help="where the data sets are: DIR/food101")
    group.add_argument("--model", nargs="+", metavar="MODEL", help="default: the nine of the paper")
    group.add_argument("--prompts", nargs="+", metavar="PROMPTS", help="prompt sets (default: the 27 of the paper)")
    group.add_argument("--plan", action="store_true", help="only say what is needed, and what was published")
    group.add_argument("--again", action="store_true", help="measure also what was measured before")
    add_device(group)
    add_batches(group)
    group.add_argument(
        "--resamples", type=positive, default=1000, metavar="N", help="for the intervals (default: 1000)"
    )
    group = reproduce.add_argument_group("results")
    group.add_argument("--results", type=Path, metavar="FILE", help="where results are kept (default: in DIR)")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there: sets by models")
    add_json(group)
    reproduce.add_help_option()
    reproduce.set_defaults(run=_reproduce)


def _evaluate(arguments: argparse.Namespace) -> int:
    from zeroshot.evaluation import DATA, evaluate

    labels: Any = read_labels(arguments)
    if arguments.labels_from_data:
        if labels is not None:
            raise LabelError("both labels and --labels-from-data were given; expected one of them")
        labels = DATA
    keys = ["embeddings", "match", "metric", "image_column", "label_column", "separator", "split"]
    keys += ["resamples", "seed", "batch_size", "workers"]
    found = evaluate(
        arguments.data,
        arguments.head,
        labels=labels,
        prompts=arguments.prompts,
        classes=_lines(arguments.classes_file),
        progress=True,
        **model_options(arguments),
        **{key: getattr(arguments, key) for key in keys},
    )
    code = show(arguments, found, found.to_dict())
    if arguments.html:
        code = save(arguments.html, found.save_html) or code
    return FAILED if found.failed else code


def _reproduce(arguments: argparse.Namespace) -> int:
    from zeroshot.reproduce import Cell, reproduce

    def each(cell: Cell) -> None:
        if cell.status != "not run":
            inform(f"{cell.model} on {cell.prompts}: {cell.status}")

    keys = ("results", "again", "device", "resamples", "batch_size", "workers", "prompts")
    options = {key: getattr(arguments, key) for key in keys}
    try:
        found = reproduce(arguments.data, models=arguments.model, run=not arguments.plan, each=each, **options)
    except OSError as error:
        if isinstance(error, ZeroShotError):
            raise
        return fail(f"the results cannot be kept: {error}; give another file: --results")
    code = show(arguments, found, found.to_dict())
    if arguments.markdown:
        code = save_text(arguments.markdown, found.to_markdown()) or code
    return FAILED if any(cell.status == "failed" for cell in found.cells) else code


def _lines(path: Path | None) -> list[str] | None:
    return None if path is None else read_lines(path)
