"""``zeroshot classify`` and ``zeroshot embed``: images, or whole collections of them, into labels or embeddings."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zeroshot
from zeroshot.cli.options import add_labels_file, add_model, model_options, positive, read_labels
from zeroshot.cli.output import FAILED, fail, write_csv
from zeroshot.errors import ImageError, OptionError, ZeroShotError

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands
    from zeroshot.embeddings import Embeddings
    from zeroshot.jobs import Summary
    from zeroshot.prediction import Prediction

_BATCH = 32
_SOURCES = (
    "folders, patterns (photos/*.jpg, shard-{0000..0009}.tar), tar archives, parquet tables (table.parquet:column) "
    "and lists (@names.txt, @- for standard input); a killed run is taken up with --resume."
)


def add_parser(commands: Commands) -> None:
    """Add the commands ``classify`` and ``embed``."""
    classify = commands.add_parser(
        "classify",
        help="say which of the named classes each image shows",
        description=f"Say which of the named classes each image shows. With --out they may also be {_SOURCES}",
        epilog="Examples: zeroshot classify cat.jpg dog.jpg --labels cat dog car --model mini; "
        "zeroshot classify photos --labels cat dog --out results.csv",
    )
    images = classify.add_argument(
        "images", nargs="+", default=[], metavar="IMAGE", help="path or URL of an image; - for standard input"
    )
    images.required = False  # --embeddings may stand in its place; nargs="*" would take nothing before an option
    classify.add_argument(
        "--embeddings", type=Path, metavar="FILE", help="score what 'zeroshot embed' wrote, in place of images"
    )
    classify.add_argument("--labels", nargs="+", metavar="NAME", help="names of the classes (after the images)")
    add_labels_file(classify)
    classify.add_argument("--head", type=Path, metavar="FILE", help="a saved head or probe, in place of labels")
    add_model(classify)
    classify.add_argument("--prompts", metavar="PROMPTS", help="name of a prompt set, a file, or a template with {}")
    classify.add_argument("--top-k", type=positive, default=5, metavar="K", help="classes to show (default 5)")
    classify.add_argument("--threshold", type=float, default=0.0, metavar="P", help="no label below this probability")
    classify.add_argument("--background", nargs="+", default=(), metavar="NAME", help="names of what is none of these")
    classify.add_argument("--multi-label", action="store_true", help="score each label by itself (SigLIP)")
    classify.add_argument("--format", choices=("table", "json", "csv"), help="of what is printed (default: table)")
    _add_job_options(
        classify,
        "write a row for each image there: source, label, score, index, the K best (in .csv as label_1, score_1, "
        "index_1, …, in .jsonl and .parquet as a list), error, message",
    )
    classify.set_defaults(run=_classify, usage_error=classify.error)

    embed = commands.add_parser(
        "embed",
        help="embed images once, to classify them by any labels later",
        description=f"Write the embeddings of images to a file, for 'zeroshot classify --embeddings'. "
        f"Sources are images, {_SOURCES}",
        epilog="Example: zeroshot embed photos --out photos.safetensors --model mini",
    )
    embed.add_argument("sources", nargs="+", metavar="SOURCE", help="where the images are, as said above")
    add_model(embed)
    embed.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of the numbers there (default float32)"
    )
    _add_job_options(embed, "where to: .safetensors or .parquet", required=True)
    embed.set_defaults(run=_embed)


def _add_job_options(parser: argparse.ArgumentParser, out: str, *, required: bool = False) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", required=required, help=out)
    parser.add_argument("--resume", action="store_true", help="take up a run that was killed")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where there is something already")
    parser.add_argument(
        "--batch-size", type=positive, default=_BATCH, metavar="N", help=f"images at once (default {_BATCH})"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that decode (default: by processors)")
    parser.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="share the work of --out among them: cuda:0 cuda:1 …"
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="refuse larger images: a small file can promise more than memory holds (default 89478485, Pillow's)",
    )


def _classify(arguments: argparse.Namespace) -> int:
    if bool(arguments.images) == bool(arguments.embeddings):
        arguments.usage_error("one of IMAGE and --embeddings is required")
    if arguments.out is None and (arguments.resume or arguments.overwrite or arguments.devices):
        arguments.usage_error("--resume, --overwrite and --devices go with --out")
    if arguments.out and arguments.format:
        arguments.usage_error("--format is for what is printed; the ending of --out says how it is written")
    labels, options = read_labels(arguments), _prepare(arguments)
    if arguments.head and (labels or arguments.prompts or arguments.background):
        arguments.usage_error("--head has its own classes; it goes without labels, prompts and background")
    embeddings = None
    if arguments.embeddings:
        from zeroshot.embeddings import Embeddings

        embeddings = Embeddings.load(arguments.embeddings)
        if not arguments.head:
            options.setdefault("model", embeddings.model)
    if arguments.out:  # before a checkpoint is fetched or loaded
        from zeroshot.jobs import RESULT_ENDINGS, classify_files
        from zeroshot.results import check_target

        check_target(arguments.out, RESULT_ENDINGS, resume=arguments.resume, overwrite=arguments.overwrite)
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
        return _finish(lambda: classify_files(classifier, sources, arguments.out, **shown, **_job_options(arguments)))
    failed = 0
    results: list[dict[str, Any]] = []
    if embeddings is None:
        predictions, count = _predictions(classifier, arguments.images, shown), len(arguments.images)
    else:
        predictions, count = _kept_predictions(classifier, embeddings, shown), embeddings.count
    for name, outcome in predictions:
        if isinstance(outcome, ZeroShotError):
            failed += 1
            fail(str(outcome))
            results.append({"image": name, "error": str(outcome)})
            continue
        results.append({"image": name, "label": outcome.label, "score": outcome.score, "index": outcome.index})
        results[-1]["top"] = [match._asdict() for match in outcome.top()]
        if arguments.format in (None, "table"):
            print(f"{name}\n{outcome}\n" if count > 1 else outcome, flush=True)
    if arguments.format == "json":
        print(json.dumps(results, indent=2, ensure_ascii=False))
    elif arguments.format == "csv":
        rows = ([r["image"], rank, *match.values()] for r in results for rank, match in enumerate(r.get("top", []), 1))
        write_csv(["image", "rank", "label", "score", "index"], rows)
    return FAILED if failed else 0


def _predictions(
    classifier: zeroshot.Classifier, images: Sequence[str], shown: dict[str, Any]
) -> Iterator[tuple[str, Prediction | ZeroShotError]]:
    """Yield a prediction or an error for each image, in order: one that is broken takes nothing from the others."""
    from zeroshot.image import open_image

    for start in range(0, len(images), _BATCH):
        opened: list[Any] = []
        for image in images[start : start + _BATCH]:
            try:
                opened.append(open_image(sys.stdin.buffer if image == "-" else image))
            except ImageError as error:
                opened.append(error)
        predictions = iter(classifier([image for image in opened if not isinstance(image, ImageError)], **shown))
        for name, image in zip(images[start : start + _BATCH], opened, strict=True):
            yield name, image if isinstance(image, ImageError) else next(predictions)


def _kept_predictions(
    classifier: zeroshot.Classifier, embeddings: Embeddings, shown: dict[str, Any]
) -> Iterator[tuple[str, Prediction | ZeroShotError]]:
    """Yield a prediction or an error for each image that was embedded, in order."""
    from zeroshot.jobs import score_embeddings

    for outcome in score_embeddings(classifier, embeddings, **shown):
        result = outcome.error or outcome.prediction
        if result is not None:  # one of them always is there
            yield outcome.source, result


def _embed(arguments: argparse.Namespace) -> int:
    from zeroshot.embeddings import EMBEDDING_ENDINGS
    from zeroshot.jobs import embed_files
    from zeroshot.results import check_target

    check_target(arguments.out, EMBEDDING_ENDINGS, resume=arguments.resume, overwrite=arguments.overwrite)
    encoder = zeroshot.load(**_prepare(arguments))
    options = {"dtype": arguments.dtype, **_job_options(arguments)}
    return _finish(lambda: embed_files(encoder, arguments.sources, arguments.out, **options))


def _prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Set the limit of pixels, which is Pillow's, and return the options with which the model is loaded."""
    if arguments.devices and arguments.device:
        raise OptionError("both --device and --devices were given; expected one of them")
    if arguments.max_pixels:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = arguments.max_pixels
    options = model_options(arguments)
    return options | {"device": arguments.devices[0]} if arguments.devices else options


def _job_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("batch_size", "workers", "devices", "resume", "overwrite")}


def _finish(job: Callable[[], Summary]) -> int:
    try:
        summary = job()
    except OSError as error:
        if isinstance(error, ZeroShotError):
            raise
        return fail(error.strerror or str(error))
    print(f"zeroshot: {summary}", file=sys.stderr)
    return FAILED if summary.failed else 0
