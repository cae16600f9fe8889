"""Write the rows of `zeroshot/data/published.csv` that come from open_clip; those of CLIP's paper stand there by hand.

    python tests/golden/make_published.py OPEN_CLIP

OPEN_CLIP is a checkout of mlfoundations/open_clip; its docs/openclip_results.csv is read.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

TARGET = Path(__file__).parents[2] / "zeroshot" / "data" / "published.csv"
# Our prompt sets -> open_clip's names of the data sets, for which it uses the same prompts and classes, and top-1.
COLUMNS = {
    "imagenet": "ImageNet 1k",
    "imagenet_v2": "ImageNet v2",
    "imagenet_sketch": "ImageNet Sketch",
    "imagenet_a": "ImageNet-A",
    "imagenet_r": "ImageNet-R",
    "objectnet": "ObjectNet",
}


def main(checkout: str) -> None:
    """Replace the rows of open_clip."""
    rows = list(csv.DictReader(TARGET.read_text(encoding="utf-8").splitlines()))
    columns = list(rows[0])
    rows = [row for row in rows if row["source"] != "open_clip"]
    results = (Path(checkout) / "docs" / "openclip_results.csv").read_text(encoding="utf-8").splitlines()
    for result in sorted(csv.DictReader(results), key=lambda row: (row["name"], row["pretrained"])):
        row = {"source": "open_clip", "model": f"{result['name']}/{result['pretrained']}"}
        # Zeros are evaluations that were not made.
        row |= {ours: f"{100 * float(result[theirs]):.2f}" for ours, theirs in COLUMNS.items() if float(result[theirs])}
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    TARGET.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
