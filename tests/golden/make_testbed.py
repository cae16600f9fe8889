"""Make `zeroshot/data/imagenet_testbed.csv` and the classes of `zeroshot/data/imagenet_shifts.toml`.

Both come from modestyachts/imagenet-testbed (MIT), the test bed of Taori et al., Measuring Robustness to Natural
Distribution Shifts in Image Classification, NeurIPS 2020. With a checkout of it (commit 0170eec)::

    python tests/golden/make_testbed.py path/to/imagenet-testbed

writes the table of accuracies, and prints the classes of the two sets of video frames in the form of the TOML file.
"""

from __future__ import annotations

import ast
import csv
import json
import re
import sys
from itertools import pairwise
from pathlib import Path

TARGET = Path(__file__).parents[2] / "zeroshot" / "data" / "imagenet_testbed.csv"

COLUMNS = {
    "imagenet": "val",
    "imagenet_v2": "imagenetv2-matched-frequency-format-val",
    "imagenet_sketch": "imagenet-sketch",
    "imagenet_r_classes": "val-on-imagenet-r-classes",
    "imagenet_r": "imagenet-r",
    "imagenet_a_classes": "val-on-imagenet-a-classes",
    "imagenet_a": "imagenet-a",
    "objectnet_classes": "val-on-objectnet-classes",
    "objectnet": "objectnet-1.0-beta",
    "imagenet_vid_classes": "val-on-vid-robust-classes",
    "imagenet_vid_pm0": "imagenet-vid-robust_pm0",
    "imagenet_vid_pm10": "imagenet-vid-robust_pm10",
    "youtube_bb_classes": "val-on-ytbb-robust-classes",
    "youtube_bb_pm0": "ytbb-robust_pm0",
    "youtube_bb_pm10": "ytbb-robust_pm10",
}
TRAINING = {
    "STANDARD": "standard",
    "LP_ADV": "robustness intervention",
    "ROBUST_INTV": "robustness intervention",
    "MORE_DATA": "more data",
}


def training_of_models(text: str) -> dict[str, str]:
    """Read the kinds of training from plotting/model_types.py, without running it."""
    found = re.findall(r"^(['\"].+['\"]): *ModelTypes\.(\w+)", text, flags=re.MULTILINE)
    return {ast.literal_eval(name): TRAINING[kind] for name, kind in found if kind in TRAINING}


def write_table(checkout: Path) -> None:
    """Write the models that were trained on all of ImageNet, or on more, with what was measured of them."""
    training = training_of_models((checkout / "plotting" / "model_types.py").read_text(encoding="utf-8"))
    rows = []
    with (checkout / "robustness_top1s.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["model"] in training and "subsample" not in row["model"]:
                cells = [row[source] and f"{float(row[source]):.4f}" for source in COLUMNS.values()]
                rows.append([row["model"], training[row["model"]], *cells])
    rows.sort(key=lambda row: row[0].lower())
    with TARGET.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "training", *COLUMNS])
        writer.writerows(rows)
    print(f"{len(rows)} models, {sum(row[1] == 'standard' for row in rows)} of standard training")


def ranges(indices: list[int]) -> str:
    """Write ``[1, 2, 3, 7]`` as ``1-3 7``."""
    starts = [0, *(n + 1 for n, (a, b) in enumerate(pairwise(indices)) if b != a + 1), len(indices)]
    runs = [indices[a:b] for a, b in pairwise(starts)]
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def print_classes(checkout: Path) -> None:
    """Print which of ImageNet's classes each class of the two sets of video frames takes together."""
    folder = checkout / "src" / "eval_settings"
    for name in ("imagenet-vid-robust", "ytbb-robust"):
        members = json.loads((folder / f"{name}_metadata" / "rev_class_idx_map.json").read_text(encoding="utf-8"))
        print(f"# {name}")
        for index, indices in members.items():
            print(f'{index} = "{ranges(sorted(indices))}"')


if __name__ == "__main__":
    write_table(Path(sys.argv[1]))
    print_classes(Path(sys.argv[1]))
