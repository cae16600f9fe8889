"""What commands print, and the codes they exit with."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from typing import Any

# Exit codes: 0 done, 1 something could not be done, 2 the command line is wrong, 130 interrupted.
FAILED, USAGE, INTERRUPTED = 1, 2, 130


def fail(message: str) -> int:
    """Print a message as one line on standard error and return the exit code for what could not be done."""
    print(f"zeroshot: {' '.join(message.split())}", file=sys.stderr)
    return FAILED


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows under their heads: columns of numbers to the right, the others to the left."""
    columns = []
    for head in rows[0]:
        cells = [str(row[head]) for row in rows]
        width = max(map(len, [head, *cells]))
        numbers = all(cell[:1].isdigit() for cell in cells if cell)
        columns.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in [head, *cells]])
    for line in zip(*columns, strict=True):
        print("  ".join(line).rstrip())


def write_csv(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows as CSV."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
