"""``zeroshot head``: build the classifier that names make, once, into a file; and look at such a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zeroshot
from zeroshot.cli.options import add_general, add_labels, add_model, add_prompts, model_options, read_labels
from zeroshot.cli.output import save, show
from zeroshot.prompts import as_prompt_set, choose_labels

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands

_SHOWN = 20  # labels and templates in the text; --json has all


def add_parser(commands: Commands) -> None:
    """Add the command ``head`` and what it does."""
    parser = commands.add_parser(
        "head",
        help="build a classifier of names into a file, or look at one",
        usage="zeroshot head {build,show} … [options]",
        description="A head is the classifier that the text tower makes of the names of classes, or that a probe fits.",
    )
    actions = parser.add_subparsers(metavar="ACTION", prog="zeroshot head", title="actions")
    parser.add_help_option()
    parser.set_defaults(run=parser.run_help)
    build = actions.add_parser(
        "build",
        help="let the text tower read names, and keep what it makes of them in a file",
        usage="zeroshot head build --labels LABEL … --out FILE [options]",
        description="Let the text tower read the names of classes, and write what it makes of them to a file, for "
        "'zeroshot classify --head', which loads no text tower.",
        examples=(
            "zeroshot head build --labels cat dog --model mini --out pets.head",
            "zeroshot head build --prompts oxford_pets --model mini --out breeds.head",
            "zeroshot classify examples/images/cat.jpg --head pets.head",
        ),
    )
    group = build.add_argument_group("classes")
    add_labels(group, "names of the classes (default: those of the prompt set)")
    add_prompts(group)
    group.add_argument("--background", nargs="+", default=(), metavar="LABEL", help="names of what is none of these")
    group.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write the head")
    add_model(build)
    add_general(build)
    build.set_defaults(run=_build)
    look = actions.add_parser(
        "show",
        help="say what a saved head is: classes, templates, model",
        usage="zeroshot head show FILE [options]",
        description="Say what a saved head is: its classes, templates and model, and how it scales what it reads.",
        examples=("zeroshot head show pets.head", "zeroshot head show pets.head --json"),
        failure="the file cannot be read, or is no head",
    )
    look.add_argument_group("head").add_argument("head", type=Path, metavar="FILE", help="what 'head build' wrote")
    add_general(look)
    look.set_defaults(run=_look)


def _build(arguments: argparse.Namespace) -> int:
    from zeroshot.head import check_head_target

    prompts = as_prompt_set(arguments.prompts)  # mistakes are told before a checkpoint is fetched
    labels = choose_labels(read_labels(arguments), prompts)
    check_head_target(arguments.out)
    encoder = zeroshot.load(**model_options(arguments))
    head = zeroshot.build_head(encoder, labels, prompts=prompts, background=arguments.background)
    code = save(arguments.out, head.save)
    text = f"{arguments.out}: {len(head.labels):,} classes, {head.weight.shape[1]}-d, for {head.model}"
    return code or show(arguments, text, {"path": arguments.out, **_about(head)})


def _look(arguments: argparse.Namespace) -> int:
    head = zeroshot.Head.load(arguments.head)
    about = {"path": arguments.head, **_about(head)}
    settings = {name: value for name, value in about.items() if name not in ("labels", "templates")}
    lines = [f"{name}: {value}" for name, value in settings.items() if value not in (None, "")]
    for name in ("labels", "templates"):
        values = about[name]
        lines += ["", f"{len(values):,} {name}", *(f"  {value}" for value in values[:_SHOWN])]
        if len(values) > _SHOWN:
            lines.append(f"  … and {len(values) - _SHOWN:,} more")
    return show(arguments, "\n".join(lines), about)


def _about(head: zeroshot.Head) -> dict[str, Any]:
    """Return all of a head but its numbers, as JSON has it."""
    return {
        "model": head.model,
        "fingerprint": head.fingerprint,
        "dim": head.weight.shape[1],
        "space": head.space,
        "origin": head.origin,
        "logit_scale": head.logit_scale,
        "logit_bias": head.logit_bias,
        "temperature": head.temperature,
        "background": head.background,
        "has_bias": head.bias is not None,
        "contents": head.contents,
        "labels": head.labels,
        "templates": head.templates,
    }
