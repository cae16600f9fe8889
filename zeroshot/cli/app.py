"""``zeroshot app``: a page in the browser, on this machine."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from typing import TYPE_CHECKING

from zeroshot.cli.options import positive

if TYPE_CHECKING:
    from zeroshot.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command ``app``."""
    parser = commands.add_parser(
        "app",
        help="open a page in the browser: drop pictures, type labels, edit templates, watch the scores",
        description="Open a page in the browser, served by this machine to itself: drop or paste pictures, type "
        "labels, edit templates and watch the scores, take the table or the Python that does the same.",
        epilog="Needs Gradio: pip install 'zeroshot-clip[app]'. Examples: zeroshot app; "
        "zeroshot app --model ViT-B-32/datacomp_xl_s13b_b90k --prompts imagenet",
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="chosen at the beginning: a name, hf-hub:owner/name or a path (default: mini)"
    )
    parser.add_argument("--prompts", metavar="PROMPTS", help="prompt set that is chosen at the beginning")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="labels that stand there at the beginning")
    parser.add_argument("--device", metavar="DEVICE", help="'cpu', 'cuda', 'cuda:1', … (default: CUDA if there is one)")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=positive, metavar="N", help="port (default: the first free one from 7860 on)")
    parser.add_argument(
        "--open", action=argparse.BooleanOptionalAction, default=True, help="show the page in the browser (default)"
    )
    parser.add_argument("--max-pictures", type=positive, metavar="N", help="pictures at once (default 64)")
    parser.add_argument("--max-megabytes", type=positive, metavar="N", help="of one file (default 32)")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="of one picture (default 50000000)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # Gradio's own, of event loops that it leaves open and of options of pandas that it still sets.
    warnings.filterwarnings("ignore", "unclosed (event loop|<socket)", ResourceWarning)
    warnings.filterwarnings("ignore", "('future.no_silent_downcasting'|The copy keyword) is deprecated")
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
            print(
                f"zeroshot: warning: {arguments.host} is not of this machine alone: whoever reaches the port sees and "
                "uses the page, without a password. Leave --host out to keep it to yourself",
                file=sys.stderr,
            )
        address = launch_app(
            page, host=arguments.host, port=arguments.port, limits=limits, open_browser=arguments.open, block=False
        )
        print(f"zeroshot: the page is at {address} until Ctrl+C", file=sys.stderr, flush=True)
        page.block_thread()
        return 0
