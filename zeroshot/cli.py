"""The command line: composition only. Whatever it prints can be had in Python by the function of the same name."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import zeroshot
from zeroshot.errors import ImageError, LabelError, ZeroShotError

if TYPE_CHECKING:
    from zeroshot.classifier import Prediction
    from zeroshot.embeddings import Embeddings
    from zeroshot.jobs import Summary
    from zeroshot.registry import ModelEntry

# Exit codes: 0 done, 1 something could not be done, 2 the command line is wrong, 130 interrupted.
FAILED, USAGE, INTERRUPTED = 1, 2, 130
_BATCH = 32
_SOURCES = (
    "folders, patterns (photos/*.jpg, shard-{0000..0009}.tar), tar archives, parquet tables (table.parquet:column) "
    "and lists (@names.txt, @- for standard input); a killed run is taken up with --resume."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"zeroshot: {message}. Try '{self.prog} --help'.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on standard error."""
    warnings.showwarning = _print_warning
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except ZeroShotError as error:
        return _fail(str(error))
    except BrokenPipeError:  # `zeroshot … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="zeroshot", description="Classify images by naming the classes.")
    parser.add_argument("--version", action="version", version=f"zeroshot {zeroshot.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

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
    classify.add_argument("--labels-file", type=Path, metavar="FILE", help="names of the classes, one a line")
    classify.add_argument("--model", metavar="MODEL", help="'mini', architecture/tag, hf-hub:owner/name or a path")
    classify.add_argument("--prompts", metavar="PROMPTS", help="name of a prompt set, a file, or a template with {}")
    classify.add_argument("--top-k", type=_positive, default=5, metavar="K", help="classes to show (default 5)")
    classify.add_argument("--threshold", type=float, default=0.0, metavar="P", help="no label below this probability")
    classify.add_argument("--background", nargs="+", default=(), metavar="NAME", help="names of what is none of these")
    classify.add_argument("--multi-label", action="store_true", help="score each label by itself (SigLIP)")
    classify.add_argument("--format", choices=("table", "json", "csv"), help="of what is printed (default: table)")
    classify.add_argument(
        "--device", metavar="DEVICE", help="'cpu', 'cuda', 'cuda:1', … (default: CUDA if there is one)"
    )
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
    embed.add_argument("--model", metavar="MODEL", help="'mini', architecture/tag, hf-hub:owner/name or a path")
    embed.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of the numbers there (default float32)"
    )
    embed.add_argument("--device", metavar="DEVICE", help="'cpu', 'cuda', 'cuda:1', … (default: CUDA if there is one)")
    _add_job_options(embed, "where to: .safetensors or .parquet", required=True)
    embed.set_defaults(run=_embed)

    models = commands.add_parser(
        "models",
        help="list the checkpoints that can be loaded by name",
        description="List the checkpoints that can be loaded by name; JSON and CSV tell all that is known of them.",
        epilog="Example: zeroshot models siglip2 '*-256/*' --sort accuracy",
    )
    models.add_argument("pattern", nargs="*", metavar="PATTERN", help="part of the name, or a pattern: 'RN50*/*'")
    models.add_argument("--sort", choices=("name", "size", "accuracy"), default="name", help="default: name")
    models.add_argument("--summary", action="store_true", help="count them, by family and by the extras that they need")
    models.add_argument("--format", choices=("table", "json", "csv"), default="table", help="default: table")
    models.set_defaults(run=_models)

    prompts = commands.add_parser("prompts", help="list, show and check prompt sets")
    prompts.set_defaults(run=_list_prompts)
    actions = prompts.add_subparsers(metavar="ACTION")
    listing = actions.add_parser("list", help="list the shipped sets (the default)")
    listing.set_defaults(run=_list_prompts)
    show = actions.add_parser("show", help="show a set, or the prompts that it makes of labels")
    show.add_argument("name", metavar="PROMPTS", help="name of a shipped set, or a file")
    show.add_argument("--labels", nargs="+", metavar="NAME", help="show the prompts of these labels")
    show.set_defaults(run=_show_prompts)
    check = actions.add_parser("lint", help="find what hurts in a set: repeated or ambiguous names, long prompts, …")
    check.add_argument("name", metavar="PROMPTS", help="name of a shipped set, or a file")
    check.set_defaults(run=_lint_prompts)
    comparing = actions.add_parser(
        "compare",
        help="say which sets are better on your labelled images, and whether there are enough to tell",
        description="Score prompt sets on a folder with one subfolder a class, named after it.",
        epilog="Example: zeroshot prompts compare photos --prompts 'a photo of a {}.' imagenet --svg comparison.svg",
    )
    comparing.add_argument("folder", metavar="FOLDER", help="one subfolder with images for each class")
    comparing.add_argument(
        "--prompts", nargs="+", required=True, metavar="PROMPTS", help="names of sets, files, or templates with {}"
    )
    comparing.add_argument("--model", metavar="MODEL", help="'mini', architecture/tag, hf-hub:owner/name or a path")
    comparing.add_argument(
        "--labels-file", type=Path, metavar="FILE", help="names of the classes, one a line, by sorted subfolder"
    )
    comparing.add_argument("--svg", type=Path, metavar="FILE", help="write a picture of the result there")
    comparing.add_argument("--device", metavar="DEVICE", help="'cpu', 'cuda', 'cuda:1', … (default: CUDA if any)")
    comparing.set_defaults(run=_compare_prompts, labels=None)
    page = actions.add_parser("gallery", help="print a page of all shipped sets, in Markdown")
    page.set_defaults(run=_print_gallery)
    return parser


def _add_job_options(parser: argparse.ArgumentParser, out: str, *, required: bool = False) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", required=required, help=out)
    parser.add_argument("--resume", action="store_true", help="take up a run that was killed")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where there is something already")
    parser.add_argument(
        "--batch-size", type=_positive, default=_BATCH, metavar="N", help=f"images at once (default {_BATCH})"
    )
    parser.add_argument("--workers", type=_positive, metavar="N", help="threads that decode (default: by processors)")


def _classify(arguments: argparse.Namespace) -> int:
    if bool(arguments.images) == bool(arguments.embeddings):
        arguments.usage_error("one of IMAGE and --embeddings is required")
    if arguments.out is None and (arguments.resume or arguments.overwrite):
        arguments.usage_error("--resume and --overwrite go with --out")
    if arguments.out and arguments.format:
        arguments.usage_error("--format is for what is printed; the ending of --out says how it is written")
    labels = _labels(arguments)
    options = {"model": arguments.model} if arguments.model else {}
    embeddings = None
    if arguments.embeddings:
        from zeroshot.embeddings import Embeddings

        embeddings = Embeddings.load(arguments.embeddings)
        options.setdefault("model", embeddings.model)
    if arguments.out:  # before a checkpoint is fetched or loaded
        from zeroshot.jobs import RESULT_ENDINGS, classify_files
        from zeroshot.results import check_target

        check_target(arguments.out, RESULT_ENDINGS, resume=arguments.resume, overwrite=arguments.overwrite)
    classifier = zeroshot.Classifier(
        labels,
        prompts=arguments.prompts,
        background=arguments.background,
        multi_label=arguments.multi_label,
        device=arguments.device,
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
            _fail(str(outcome))
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
        _write_csv(["image", "rank", "label", "score", "index"], rows)
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
    options = {"model": arguments.model} if arguments.model else {}
    encoder = zeroshot.load(device=arguments.device, **options)
    options = {"dtype": arguments.dtype, **_job_options(arguments)}
    return _finish(lambda: embed_files(encoder, arguments.sources, arguments.out, **options))


def _job_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("batch_size", "workers", "resume", "overwrite")}


def _finish(job: Callable[[], Summary]) -> int:
    try:
        summary = job()
    except OSError as error:
        if isinstance(error, ZeroShotError):
            raise
        return _fail(error.strerror or str(error))
    print(f"zeroshot: {summary}", file=sys.stderr)
    return FAILED if summary.failed else 0


def _labels(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.labels and arguments.labels_file:
        raise LabelError("both --labels and --labels-file were given; expected one of them")
    if arguments.labels_file is None:
        names: list[str] | None = arguments.labels
        return names
    path: Path = arguments.labels_file
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path} cannot be read: {error}; expected a text file with one name a line") from error
    return [line.strip() for line in lines if line.strip()]


def _models(arguments: argparse.Namespace) -> int:
    pattern = " ".join(arguments.pattern)
    entries = zeroshot.available_models(pattern, sort=arguments.sort)
    if not entries:
        return _fail(f"no model's name fits {pattern!r}; 'zeroshot models' lists all")
    if arguments.summary:
        rows = _support(entries)
    elif arguments.format == "table":
        rows = [_describe(entry) for entry in entries]
    else:
        rows = [{"name": entry.name, **asdict(entry)} for entry in entries]
    if arguments.format == "json":
        print(json.dumps(rows, indent=2))
    elif arguments.format == "csv":
        values = ([" ".join(map(str, v)) if isinstance(v, tuple) else v for v in row.values()] for row in rows)
        _write_csv(list(rows[0]), values)
    else:
        _print_table(rows)
    return 0


def _describe(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "params": f"{entry.parameters_million:.0f} M",
        "px": entry.image_size,
        "top-1": "" if entry.imagenet_top1 is None else f"{entry.imagenet_top1:.1f}%",
        "needs": " ".join(entry.needs),
        "licence": entry.license,
    }


def _support(entries: Sequence[ModelEntry]) -> list[dict[str, Any]]:
    """Return how many checkpoints of each family the core loads, and how many each extra."""
    kinds = sorted({entry.needs for entry in entries})
    rows = []
    for family in [*sorted({entry.family for entry in entries}), "all"]:
        needs = Counter(entry.needs for entry in entries if family in (entry.family, "all"))
        rows.append({"family": family, **{" ".join(kind) or "core": needs[kind] for kind in kinds}})
        rows[-1]["total"] = needs.total()
    return rows


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows under their heads: columns of numbers to the right, the others to the left."""
    columns = []
    for head in rows[0]:
        cells = [str(row[head]) for row in rows]
        width = max(map(len, [head, *cells]))
        numbers = all(cell[:1].isdigit() for cell in cells if cell)
        columns.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in [head, *cells]])
    for line in zip(*columns, strict=True):
        print("  ".join(line).rstrip())


def _list_prompts(arguments: argparse.Namespace) -> int:
    for name in zeroshot.available_prompts():
        prompts = zeroshot.load_prompts(name)
        print(f"{name:<24} {len(prompts.templates):>3} templates  {len(prompts.classes):>5} classes  {prompts.title}")
    return 0


def _show_prompts(arguments: argparse.Namespace) -> int:
    prompts = zeroshot.load_prompts(arguments.name)
    if arguments.labels:
        for expanded in prompts.expand(arguments.labels):
            print("\n".join(expanded))
        return 0
    for key in ("title", "source", "license", "order"):
        if getattr(prompts, key):
            print(f"{key}: {getattr(prompts, key)}")
    print(f"\n{len(prompts.templates)} templates", *prompts.templates, sep="\n  ")
    if prompts.classes:
        names = (", ".join(words) for words in prompts.labels.synonyms)
        print(f"\n{len(prompts.classes)} classes", *names, sep="\n  ")
    return 0


def _compare_prompts(arguments: argparse.Namespace) -> int:
    from zeroshot.compare import compare_folder

    options = {"model": arguments.model} if arguments.model else {}
    labels = _labels(arguments)
    found = compare_folder(arguments.folder, arguments.prompts, labels=labels, device=arguments.device, **options)
    print(found)
    if arguments.svg:
        try:
            found.save_svg(arguments.svg)
        except OSError as error:
            return _fail(f"{arguments.svg} cannot be written: {error}; choose a folder that can be")
    return 0


def _print_gallery(arguments: argparse.Namespace) -> int:
    from zeroshot.gallery import gallery

    print(gallery(), end="")
    return 0


def _lint_prompts(arguments: argparse.Namespace) -> int:
    from zeroshot.lint import lint_file

    findings = lint_file(arguments.name)
    for finding in findings:
        print(f"{arguments.name}: {finding.rule}: {finding.message}")
    return FAILED if findings else 0


def _write_csv(header: Sequence[str], rows: Any) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _fail(message: str) -> int:
    print(f"zeroshot: {' '.join(message.split())}", file=sys.stderr)
    return FAILED


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"zeroshot: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
