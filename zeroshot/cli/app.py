"""``zeroshot app``: a page in the browser, on this machine."""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import TYPE_CHECKING

from zeroshot.cli.options import add_device, positive
from zeroshot.cli.output import inform, tell

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command ``app``."""
    parser = commands.add_parser(
        "app",
        help="a page in the browser: drop pictures, type labels",
        usage="zeroshot app [options]",
        description="Open a page in the browser, served by this machine to itself: drop or paste pictures, type "
        "labels, edit templates and watch the scores, see what in a picture speaks for a label, take the table or the "
        "Python that does the same. It ends with Ctrl+C. Needs Gradio: pip install 'zeroshot-clip[app]'.",
        examples=("zeroshot app", "zeroshot app --labels cat dog car --prompts imagenet --no-open"),
    )
    group = parser.add_argument_group("what stands there at the beginning")
    group.add_argument("--model", metavar="MODEL", help="a name, hf-hub:owner/name or a path (default: mini)")
    group.add_argument("--prompts", metavar="PROMPTS", help="a prompt set")
    group.add_argument("--labels", nargs="+", metavar="NAME", help="labels")
    group = parser.add_argument_group("where it runs")
    add_device(group)
    group.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: this machine alone)"
    )
    group.add_argument("--port", type=positive, metavar="N", help="port (default: the first free one from 7860 on)")
    group.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show the page in the browser (default: yes)",
    )
    group = parser.add_argument_group("limits")
    group.add_argument("--max-pictures", type=positive, metavar="N", help="pictures at once (default: 64)")
    group.add_argument("--max-megabytes", type=positive, metavar="N", help="megabytes of one file (default: 32)")
    group.add_argument("--max-pixels", type=positive, metavar="N", help="pixels of one picture (default: 50000000)")
    parser.add_help_option()
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from PIL import Image

    from zeroshot.app import build_app, is_loopback, launch_app
    from zeroshot.workbench import Limits

    given = {name: getattr(arguments, f"max_{name}") for name in ("pictures", "megabytes", "pixels")}
    limits = Limits(**{name: value for name, value in given.items() if value})
    Image.MAX_IMAGE_PIXELS = limits.pixels  # Pillow's own would be smaller than one that was asked for
    chosen = {"model": arguments.model, "prompts": arguments.prompts, "labels": "\n".join(arguments.labels or ())}
    with tempfile.TemporaryDirectory(prefix="zeroshot-app-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads  # read when Gradio is imported; what was uploaded goes with the server
        page = build_app(
            device=arguments.device, limits=limits, **{name: value for name, value in chosen.items() if value}
        )
        if not is_loopback(arguments.host):
            tell(
                f"{arguments.host} is not of this machine alone: whoever reaches the port sees and "
                "uses the page, without a password. Leave --host out to keep it to yourself",
                kind="warning",
            )
        address = launch_app(
            page, host=arguments.host, port=arguments.port, limits=limits, open_browser=arguments.open, block=False
        )
        inform(f"the page is at {address} until Ctrl+C")
        page.block_thread()
        return 0
