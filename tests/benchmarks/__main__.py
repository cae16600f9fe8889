r"""Ours against open_clip, transformers, OpenAI's package and onnxruntime: tables in Markdown.

    python tests/benchmarks                      # everything but `stream` and `kill`
    python tests/benchmarks images --rows vit-1 vit-32 --rounds 7
    python tests/benchmarks heads --rows 10x1 10x80
    python tests/benchmarks images --rows vit-1 --count      # instructions in place of time
    python tests/benchmarks --device cuda --compiled         # on a GPU: towers and heads, eager and compiled
    python tests/benchmarks stream --images 64               # further options: python tests/benchmarks stream --help

All do the same work on the same random weights and the same images, with the same number of threads, in turn. Whoever
is not installed is missing, and a line says so. The environment with all of them:

    python -m venv oracle
    oracle/bin/pip install torch torchvision open_clip_torch transformers openai-clip onnxruntime onnx onnxscript \
        ftfy regex "setuptools<81"
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

# As a folder is run, it is first on the path; its parent is what is needed, and the checkout that it lies in.
HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)
sys.path.insert(0, str(HERE.parents[1]))

PARTS = ("images", "heads", "pixels", "cold", "scoring")
ON_DEVICES = ("gpu",)
OTHERS = ("stream", "kill")


def main() -> None:
    """Run what the command line asks for, and print it as it comes."""
    if len(sys.argv) > 1 and sys.argv[1] in OTHERS:
        from importlib import import_module

        name = sys.argv.pop(1)
        sys.argv[0] = f"{sys.argv[0]} {name}"
        import_module(f"benchmarks.{name}").main()
        return
    parser = argparse.ArgumentParser(
        prog="python tests/benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all of them)")
    parser.add_argument("--device", metavar="DEVICE", help="the part gpu, on 'cuda', 'cuda:1', …; others are for CPUs")
    parser.add_argument("--rows", nargs="+", default=[], metavar="KEY", help="these comparisons alone, by their keys")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="those whose names begin so, alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="what is read; default wall")
    parser.add_argument(
        "--gelu", action="store_true", help="ViT-B/32 with GELU, as DataComp's; default OpenAI's QuickGELU"
    )
    parser.add_argument("--compiled", action="store_true", help="also compiled networks, which take a minute each")
    parser.add_argument("--count", action="store_true", help="count instructions, on one thread, in place of time")
    parser.add_argument("--child", type=int, metavar="RUNS", help=argparse.SUPPRESS)  # of --count: one contestant
    parser.add_argument("--list", action="store_true", help="print the keys of the comparisons")
    parser.add_argument("--folder", type=Path, help="where checkpoints and exports are kept for the next run")
    options = parser.parse_args()
    parts = ON_DEVICES if options.device else PARTS
    if unknown := set(options.parts) - set(parts):
        expected = parts if options.device else PARTS + OTHERS
        parser.error(f"no part is called {', '.join(sorted(unknown))}; expected {', '.join(expected)}")
    if options.device and options.count:
        parser.error("--count counts the instructions of a processor; expected it without --device")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(1 if options.count or options.child is not None else options.threads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="zeroshot-benchmarks-") as temporary:
        os.environ["ZEROSHOT_CACHE"] = str(Path(temporary, "cache"))
        from benchmarks.run import run

        run(options, options.parts or parts, options.folder or Path(temporary))


if __name__ == "__main__":
    main()
