"""``zeroshot evaluate`` and ``zeroshot reproduce``: how good classifiers are on labelled images."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.cache import write_atomically
from zeroshot.cli.options import add_labels_file, add_model, model_options, positive, read_labels
from zeroshot.cli.output import FAILED, fail
from zeroshot.errors import LabelError, ZeroShotError
from zeroshot.prompts import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the commands ``evaluate`` and ``reproduce``."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure on labelled images: accuracy and its interval, confusions, a page with hits and misses",
        description="Measure a classifier on labelled images: a folder with one subfolder a class, a list (.csv, .tsv, "
        ".jsonl, .parquet) with a column of paths and one of labels, webdataset archives (.tar), or a Hugging Face "
        "data set (datasets:owner/name, or a saved folder). What is wrong with single images is told, and the rest is "
        "measured.",
        epilog="Examples: zeroshot evaluate photos --model mini --html page.html; "
        "zeroshot evaluate pets/test --prompts oxford_pets --json result.json",
    )
    evaluate.add_argument("data", metavar="DATA", help="the labelled images, as said above")
    add_model(evaluate)
    evaluate.add_argument("--prompts", metavar="PROMPTS", help="name of a prompt set, a file, or a template with {}")
    evaluate.add_argument(
        "--labels", nargs="+", metavar="NAME", help="names of the classes (default: the prompt set's)"
    )
    add_labels_file(evaluate)
    evaluate.add_argument(
        "--labels-from-data", action="store_true", help="take the names that the data has, also where the set has names"
    )
    evaluate.add_argument("--head", type=Path, metavar="FILE", help="a saved head, in place of prompts and labels")
    evaluate.add_argument("--embeddings", type=Path, metavar="FILE", help="what 'zeroshot embed' wrote of these images")
    evaluate.add_argument(
        "--match",
        choices=("auto", "name", "position"),
        default="auto",
        help="how labels and classes of the data belong together (default: auto)",
    )
    names = [name for name in METRICS if name != "expected_calibration_error"]
    evaluate.add_argument(
        "--metric", choices=names, help="which one counts (default: that of the prompt set, or top_1)"
    )
    evaluate.add_argument(
        "--classes-file", type=Path, metavar="FILE", help="the data's classes, one a line, by position"
    )
    evaluate.add_argument("--image-column", metavar="NAME", help="of a list or a data set")
    evaluate.add_argument("--label-column", metavar="NAME", help="of a list or a data set")
    evaluate.add_argument(
        "--separator", metavar="TEXT", help="between the labels of an image that shows several classes"
    )
    evaluate.add_argument("--split", metavar="NAME", help="of a Hugging Face data set")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the results, and all to repeat them, there")
    evaluate.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with pictures of hits and misses there"
    )
    evaluate.add_argument(
        "--resamples", type=positive, default=1000, metavar="N", help="for the intervals (default 1000)"
    )
    evaluate.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals (default 0)")
    evaluate.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images at once (default 32)")
    evaluate.add_argument("--workers", type=positive, metavar="N", help="threads that decode (default: by processors)")
    evaluate.set_defaults(run=_evaluate)

    reproduce = commands.add_parser(
        "reproduce",
        help="fill the published table of models and data sets with what is on this disk",
        description="Measure the paper's models on the paper's data sets, as far as images and checkpoints are on this "
        "disk: a folder, list or archive for each data set, with the name of its prompt set. Results are kept, so that "
        "a second run fills the gaps only.",
        epilog="Examples: zeroshot reproduce --data sets --plan; "
        "zeroshot reproduce --data sets --model ViT-B-32/openai --prompts cifar10 food101 --markdown table.md",
    )
    reproduce.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="where the data sets are: DIR/food101"
    )
    reproduce.add_argument("--model", nargs="+", metavar="MODEL", help="default: the nine of the paper")
    reproduce.add_argument("--prompts", nargs="+", metavar="NAME", help="prompt sets (default: the 27 of the paper)")
    reproduce.add_argument("--results", type=Path, metavar="FILE", help="where results are kept (default: in DIR)")
    reproduce.add_argument("--plan", action="store_true", help="only say what is needed, and what was published")
    reproduce.add_argument("--again", action="store_true", help="measure also what was measured before")
    reproduce.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there: sets by models")
    reproduce.add_argument("--json", type=Path, metavar="FILE", help="write all of it there")
    reproduce.add_argument("--device", metavar="DEVICE", help="'cpu', 'cuda', … (default: CUDA if there is one)")
    reproduce.add_argument("--resamples", type=positive, default=1000, metavar="N", help="for the intervals")
    reproduce.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images at once (default 32)")
    reproduce.add_argument("--workers", type=positive, metavar="N", help="threads that decode (default: by processors)")
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
    print(found)
    for path, save in ((arguments.json, found.save_json), (arguments.html, found.save_html)):
        if path is not None and (code := _save(path, save)):
            return code
    return FAILED if found.failed else 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from zeroshot.reproduce import Cell, reproduce

    def each(cell: Cell) -> None:
        if cell.status != "not run":
            print(f"zeroshot: {cell.model} on {cell.prompts}: {cell.status}", file=sys.stderr, flush=True)

    keys = ("results", "again", "device", "resamples", "batch_size", "workers", "prompts")
    options = {key: getattr(arguments, key) for key in keys}
    try:
        found = reproduce(arguments.data, models=arguments.model, run=not arguments.plan, each=each, **options)
    except OSError as error:
        if isinstance(error, ZeroShotError):
            raise
        return fail(f"the results cannot be kept: {error}; give another file: --results")
    print(found)
    if arguments.markdown and (code := _save(arguments.markdown, lambda path: _write(path, found.to_markdown()))):
        return code
    text = json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n"
    if arguments.json and (code := _save(arguments.json, lambda path: _write(path, text))):
        return code
    return FAILED if any(cell.status == "failed" for cell in found.cells) else 0


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _lines(path: Path | None) -> list[str] | None:
    return None if path is None else read_labels(argparse.Namespace(labels_file=path))


def _save(path: Path, save: Callable[[Path], None]) -> int:
    try:
        save(path)
    except OSError as error:
        if isinstance(error, ZeroShotError):
            raise
        return fail(f"{path} cannot be written: {error.strerror or error}; choose a folder that can be")
    return 0
