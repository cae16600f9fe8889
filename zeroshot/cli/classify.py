"""``zeroshot classify`` and ``zeroshot embed``: images, or whole collections of them, into labels or embeddings."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zeroshot
from zeroshot.cli.options import (
    add_batches,
    add_json,
    add_labels,
    add_model,
    add_prompts,
    image_among,
    model_options,
    positive,
    read_labels,
)
from zeroshot.cli.output import (
    FAILED,
    STDOUT,
    fail,
    inform,
    paint,
    paint_bars,
    print_json,
    save_json,
    say,
    write_csv,
)
from zeroshot.cli.parser import near_file
from zeroshot.errors import ImageError, OptionError, ZeroShotError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands
    from zeroshot.cli.parser import Parser
    from zeroshot.image import Item
    from zeroshot.jobs import Summary
    from zeroshot.prediction import Outcome

_SOURCES = (
    "folders, patterns (photos/*.jpg, shard-{0000..0009}.tar), tar archives, parquet tables (table.parquet:column) "
    "and lists (@names.txt, @- for standard input); a killed run with --out is taken up with --resume."
)


def add_parser(commands: Commands) -> None:
    """Add the commands ``classify`` and ``embed``."""
    classify = commands.add_parser(
        "classify",
        help="say which of the named classes each image shows",
        usage="zeroshot classify IMAGE … --labels LABEL … [options]",
        description=f"Say which of the named classes each image shows. Images may also be {_SOURCES}",
        examples=(
            "zeroshot classify examples/images/cat.jpg --labels cat dog car --model mini",
            "zeroshot classify examples/images/*.jpg --prompts cifar10 --model mini --json",
            "zeroshot classify examples/photos --labels cat clock --model mini --out a.csv",
        ),
        failure="an image could not be read (the others are classified), or nothing could be done",
    )
    group = classify.add_argument_group("images")
    images = group.add_argument(
        "images", nargs="+", default=[], metavar="IMAGE", help="path or URL of an image or folder; - for standard input"
    )
    images.required = False  # --embeddings may stand in its place; nargs="*" would take nothing before an option
    group.add_argument(
        "--embeddings", type=Path, metavar="FILE", help="score what 'zeroshot embed' wrote, in place of images"
    )
    group = classify.add_argument_group("classes")
    add_labels(group, "names of the classes (after the images)")
    add_prompts(group)
    group.add_argument("--head", type=Path, metavar="FILE", help="a saved head or probe, in place of labels")
    group.add_argument("--background", nargs="+", default=(), metavar="LABEL", help="names of what is none of these")
    group.add_argument("--multi-label", action="store_true", help="score each label by itself (SigLIP)")
    add_model(classify)
    group = classify.add_argument_group("what is shown")
    group.add_argument("--top-k", type=positive, default=5, metavar="K", help="classes to show (default: 5)")
    group.add_argument(
        "--threshold", type=float, default=0.0, metavar="P", help="no label below this probability (default: 0)"
    )
    group.add_argument(
        "--format",
        choices=("table", "json", "jsonl", "csv"),
        metavar="FORMAT",
        help="table, json (one document), jsonl (a line as soon as an image is done) or csv (default: table)",
    )
    add_json(group)
    _add_job_options(
        classify,
        "large jobs, into files",
        "write a row for each image there (.csv, .jsonl, .parquet): source, label, score, index, the K best, "
        "error, message",
    )
    classify.add_help_option()
    classify.set_defaults(run=_classify, usage_error=classify.error)

    embed = commands.add_parser(
        "embed",
        help="embed images once, to classify them by any labels later",
        usage="zeroshot embed SOURCE … --out FILE [options]",
        description=f"Write the embeddings of images to a file, for 'zeroshot classify --embeddings'. "
        f"Sources are images, {_SOURCES}",
        examples=(
            "zeroshot embed examples/photos --out photos.safetensors --model mini",
            "zeroshot classify --embeddings photos.safetensors --labels cat clock --json",
        ),
        failure="an image could not be read (the others are embedded), or nothing could be done",
    )
    group = embed.add_argument_group("images")
    group.add_argument("sources", nargs="+", metavar="SOURCE", help="where the images are, as said above")
    add_model(embed)
    _add_job_options(embed, "output", "where to: .safetensors or .parquet", required=True)
    embed.add_help_option()
    embed.set_defaults(run=_embed, usage_error=embed.error)


def _add_job_options(parser: Parser, title: str, out: str, *, required: bool = False) -> None:
    group = parser.add_argument_group(title)
    group.add_argument("--out", type=Path, metavar="FILE", required=required, help=out)
    if required:
        group.add_argument(
            "--stored-dtype",
            choices=("float32", "float16"),
            default="float32",
            metavar="DTYPE",
            help="of the numbers there: float32, or float16 in half the room (default: float32)",
        )
        add_json(group)
    group.add_argument("--resume", action="store_true", help="take up a run that was killed")
    group.add_argument("--overwrite", action="store_true", help="begin anew where there is something already")
    add_batches(group)
    group.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="share the work of --out among them: cuda:0 cuda:1 …"
    )
    group.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="refuse larger images: a small file can promise more than memory holds (default: 89478485, Pillow's)",
    )


def _classify(arguments: argparse.Namespace) -> int:
    if taken := image_among(arguments.labels):
        arguments.usage_error(f"{taken!r} was read as a label; put images before --labels")
    if bool(arguments.images) == bool(arguments.embeddings):
        arguments.usage_error("one of IMAGE and --embeddings is required")
    if arguments.out is None and (arguments.resume or arguments.overwrite or arguments.devices):
        arguments.usage_error("--resume, --overwrite and --devices go with --out")
    if arguments.out and arguments.format:
        arguments.usage_error("--format is for what is printed; the ending of --out says how it is written")
    if arguments.format and arguments.json:
        arguments.usage_error("--format and --json both say what is printed; expected one of them")
    labels, options = read_labels(arguments), _prepare(arguments)
    if arguments.head and (labels or arguments.prompts or arguments.background):
        arguments.usage_error("--head has its own classes; it goes without labels, prompts and background")
    embeddings, absent = None, _absent(arguments.images, arguments)
    if arguments.embeddings:
        from zeroshot.embeddings import Embeddings

        embeddings = Embeddings.load(arguments.embeddings)
        if not arguments.head:
            options.setdefault("model", embeddings.model)
    if arguments.out:  # before a checkpoint is fetched or loaded
        from zeroshot.jobs import RESULT_ENDINGS, classify_files

        _check_out(arguments, RESULT_ENDINGS)
    elif absent:
        return _print(absent, arguments)
    if arguments.head:
        classifier = zeroshot.Classifier.from_head(arguments.head, multi_label=arguments.multi_label, **options)
    else:
        classifier = zeroshot.Classifier(
            labels,
            prompts=arguments.prompts,
            background=arguments.background,
            multi_label=arguments.multi_label,
            **options,
        )
    shown = {"top_k": arguments.top_k, "threshold": arguments.threshold}
    if arguments.out:
        sources = arguments.images if embeddings is None else embeddings
        options = {**shown, **_job_options(arguments)}
        return _finish(lambda: classify_files(classifier, sources, arguments.out, **options), arguments)
    if embeddings is None:
        batches = {"batch_size": arguments.batch_size, "workers": arguments.workers}
        outcomes = classifier.stream(_items(arguments.images), **shown, **batches)
    else:
        from zeroshot.jobs import score_embeddings

        outcomes = score_embeddings(classifier, embeddings, **shown)
    with contextlib.closing(outcomes):
        return _print(outcomes, arguments, is_one=embeddings is not None and embeddings.count == 1)


def _items(images: Sequence[str]) -> Iterator[Item]:
    """Yield the images of all sources; ``-`` is the one on standard input."""
    from zeroshot.image import Item
    from zeroshot.sources import Sources

    for item in Sources(images).items():
        yield Item("-", sys.stdin.buffer) if item.source == "-" else item


def _absent(images: Sequence[str], arguments: argparse.Namespace) -> list[Outcome]:
    """Return an error for each image if none of them is there, so that no checkpoint is fetched for them.

    A job is not begun then: the first error is raised.
    """
    from zeroshot.image import open_image
    from zeroshot.prediction import Outcome
    from zeroshot.sources import absent_names

    outcomes = []
    for index, name in enumerate(absent_names(images)):
        try:
            open_image(name)
        except ImageError as error:
            if arguments.out and not arguments.resume:
                raise
            outcomes.append(Outcome(index, name, None, error))
    return outcomes


def _print(outcomes: Iterable[Outcome], arguments: argparse.Namespace, *, is_one: bool = False) -> int:
    """Print predictions in the form that was asked for, tables and JSON lines as they come; return the exit code."""
    form = arguments.format or ("json" if arguments.json == STDOUT else "table")
    failed = 0
    results: list[dict[str, Any]] = []
    for outcome in outcomes:
        name, prediction = outcome.source, outcome.prediction
        result: dict[str, Any] = {"image": name}
        if prediction is None:
            failed += 1
            fail(f"{outcome.error}{near_file(str(outcome.error), [name])}")
            result |= {"error": str(outcome.error)}
        else:
            result |= {"label": prediction.label, "score": prediction.score, "index": prediction.index}
            result["top"] = [match._asdict() for match in prediction.top()]
            if form == "table":
                text = paint_bars(str(prediction))
                say(text if is_one or arguments.images == [name] else f"{paint(name, 'dim')}\n{text}\n")
        if form == "jsonl":
            print_json(result, indent=None)
        else:
            results.append(result)
    if form == "json":
        print_json(results)
    elif form == "csv":
        rows = ([r["image"], rank, *match.values()] for r in results for rank, match in enumerate(r.get("top", []), 1))
        write_csv(["image", "rank", "label", "score", "index"], rows)
    code = FAILED if failed else 0
    return code if arguments.json in (None, STDOUT) else save_json(Path(arguments.json), results) or code


def _embed(arguments: argparse.Namespace) -> int:
    from zeroshot.embeddings import EMBEDDING_ENDINGS
    from zeroshot.jobs import embed_files

    _check_out(arguments, EMBEDDING_ENDINGS)
    _absent(arguments.sources, arguments)
    encoder = zeroshot.load(**_prepare(arguments))
    options = {"dtype": arguments.stored_dtype, **_job_options(arguments)}
    return _finish(lambda: embed_files(encoder, arguments.sources, arguments.out, **options), arguments)


def _prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Set the limit of pixels, which is Pillow's, and return the options with which the model is loaded."""
    if arguments.devices and arguments.device:
        raise OptionError("both --device and --devices were given; expected one of them")
    if arguments.max_pixels:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = arguments.max_pixels
    options = model_options(arguments)
    return options | {"device": arguments.devices[0]} if arguments.devices else options


def _check_out(arguments: argparse.Namespace, endings: Sequence[str]) -> None:
    from zeroshot.results import check_target

    if arguments.resume and arguments.overwrite:
        raise OptionError("both --resume and --overwrite were given; expected one of them")
    try:
        check_target(arguments.out, endings, resume=arguments.resume, overwrite=arguments.overwrite)
    except OptionError as error:
        raise OptionError(_as_typed(str(error))) from error


def _as_typed(message: str) -> str:
    """Put dashes before options of jobs in what a message advises, which is behind its last semicolon."""
    problem, mark, advice = message.rpartition("; ")
    return problem + mark + re.sub(r"\b(resume|overwrite)\b", r"--\1", advice) if mark else message


def _job_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("batch_size", "workers", "devices", "resume", "overwrite")}


def _finish(job: Callable[[], Summary], arguments: argparse.Namespace) -> int:
    try:
        summary = job()
    except OptionError as error:
        raise OptionError(_as_typed(str(error))) from error
    except OSError as error:
        if isinstance(error, ZeroShotError):
            raise
        return fail(_as_typed(error.strerror or str(error)))
    inform(str(summary))
    code = FAILED if summary.failed else 0
    if arguments.json is None:
        return code
    if arguments.json == STDOUT:
        print_json(asdict(summary))
        return code
    return save_json(Path(arguments.json), asdict(summary)) or code
