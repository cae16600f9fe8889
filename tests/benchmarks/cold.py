"""From nothing to a first prediction: whole processes with a checkpoint of 600 MB on disk, whose head is made already.

Each library does what its users would write in a script: load the model, load the head, classify one photograph. The
files are in the page cache, and what Python compiles is compiled, as after an earlier run. `import torch` alone is
the least that anything of this kind can take. The deviation is that of the probabilities.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import zeroshot

from . import models
from .measure import Comparison, MissingError, duration, table

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPH = ROOT / "examples/images/cat.jpg"
LABELS = ["cat", "dog", "car", "cup of coffee", "rocket"]
SCRIPTS = {
    "import torch": """
import torch
""",
    "zeroshot": """
import zeroshot
classify = zeroshot.Classifier({labels!r}, model={checkpoint!r}, device="cpu")
probabilities = classify({photograph!r}).probabilities.tolist()
""",
    "zeroshot, saved head": """
import zeroshot
classify = zeroshot.Classifier.from_head({head!r}, device="cpu")
probabilities = classify({photograph!r}).probabilities.tolist()
""",
    "open_clip": """
import numpy, open_clip, torch
from PIL import Image
model, _, preprocess = open_clip.create_model_and_transforms({architecture!r}, pretrained={weights!r}, device="cpu")
model.eval()
head = torch.from_numpy(numpy.load({rows!r}))
with torch.inference_mode():
    image = model.encode_image(preprocess(Image.open({photograph!r})).unsqueeze(0), normalize=True)
    probabilities = (model.logit_scale.exp() * image @ head.T).softmax(dim=-1)[0].tolist()
""",
    "transformers": """
import numpy, torch
from PIL import Image
from transformers import CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
model = CLIPModel.from_pretrained({transformers!r}).eval()
preprocess = CLIPImageProcessorPil.from_pretrained({transformers!r})
head = torch.from_numpy(numpy.load({rows!r}))
with torch.inference_mode():
    features = model.get_image_features(**preprocess(Image.open({photograph!r}), return_tensors="pt"))
    features = torch.nn.functional.normalize(getattr(features, "pooler_output", features), dim=-1)
    probabilities = (model.logit_scale.exp() * features @ head.T).softmax(dim=-1)[0].tolist()
""",
}
LAST = "\nimport json\nprint(json.dumps(globals().get('probabilities')))\n"


def comparisons(folder: Path, *, threads: int, quick_gelu: bool, compiled: bool) -> list[Comparison]:
    """Return none: processes are measured otherwise."""
    return []


def reports(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """Yield the table."""
    if options.rows and "cold" not in options.rows:
        return
    checkpoint = models.checkpoint("ViT-B-32" if options.gelu else "ViT-B-32-quickgelu", folder)
    with tempfile.TemporaryDirectory() as cache:
        yield _report(checkpoint, options, Path(cache))


def _report(checkpoint: Path, options: argparse.Namespace, cache: Path) -> str:
    notes = []
    try:
        other = str(models.transformers_folder(checkpoint))
    except MissingError as reason:
        notes.append(f"transformers: {reason}")
        other = ""
    os.environ["ZEROSHOT_CACHE"] = str(cache / "cache")
    head = zeroshot.Classifier(LABELS, model=checkpoint, device="cpu").head
    head.save(cache / "head.safetensors")
    np.save(cache / "head.npy", head.weight.numpy())
    places = {
        **{"labels": LABELS, "checkpoint": str(checkpoint), "photograph": str(PHOTOGRAPH), "transformers": other},
        **{"head": str(cache / "head.safetensors"), "rows": str(cache / "head.npy")},
        **{"architecture": checkpoint.name, "weights": str(models.weights(checkpoint))},
    }
    names = [name for name in SCRIPTS if not options.only or name.startswith(tuple(options.only))]
    found: dict[str, list[Any]] = {name: [] for name in names}
    for turn in range(1 + options.rounds):
        for name in list(found):
            try:
                measured = run(SCRIPTS[name].format(**places) + LAST, options.threads)
            except MissingError as reason:
                notes.append(f"{name}: {reason}")
                del found[name]
                continue
            if turn:  # the first is for the page cache
                found[name].append(measured)
    return render(found, notes)


def render(found: dict[str, list[Any]], notes: list[str]) -> str:
    """Return the table of processes: each (seconds, seconds of processors, bytes, probabilities)."""
    medians = {name: [statistics.median(one[i] for one in runs) for i in range(3)] for name, runs in found.items()}
    base = medians.get("open_clip") or next(iter(medians.values()))
    expected = found["open_clip" if "open_clip" in found else next(iter(found))][0][3]
    rows = []
    for name, (seconds, processor, peak) in medians.items():
        probabilities = found[name][0][3]
        difference = "" if probabilities is None or expected is None else f"{_difference(probabilities, expected):.1e}"
        rows.append(
            [name, duration(seconds), f"{base[0] / seconds:.2f}", duration(processor), f"{peak / 1e6:.0f}",
             f"{peak / base[2]:.0%}", difference]
        )  # fmt: skip
    header = ["", "time", "× open_clip", "processors", "peak MB", "of open_clip's", "deviation"]
    if "open_clip" not in medians:
        header = [title.replace("open_clip", next(iter(medians))) for title in header]
    title = "**A cold process to its first prediction, ViT-B/32 of 600 MB, its head made before**"
    return f"{title}\n\n{table(header, rows)}\n" + "".join(f"\n- {note}" for note in notes) + ("\n" if notes else "")


def _difference(ours: list[float], theirs: list[float]) -> float:
    return float(np.abs(np.subtract(ours, theirs)).max())


def run(script: str, threads: int) -> tuple[float, float, int, Any]:
    """Run a script; return seconds, seconds of processors, the peak of memory in bytes, and what it found."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed packages have it
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", script], stdout=out, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise MissingError(last[0] if last else f"ended with {process.returncode}")
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, json.loads(out.read().splitlines()[-1])
