"""How long, how many machines, how much money: from measured rates to a plan.

    python examples/large_jobs/sizing.py --decode 228 --encode 6 --write 9000 --cores 16 --price 0.70

Rates are images a second: `--decode` of one core, `--encode` of one GPU (or one core, without `--devices`), `--write`
of one machine. `tests/benchmarks/stream.py` measures them where you are.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

SIZES = (1_000_000, 100_000_000, 5_000_000_000)
# Of Parquet, with a path of 60 letters and five classes; the benchmark prints it.
BYTES_PER_ROW = 73


@dataclass(frozen=True)
class Machine:
    """One machine of a cluster.

    Attributes
    ----------
    decode : float
        Images that one core reads, decodes and resizes in a second.
    encode : float
        Images that one device encodes in a second; of one core, if there are no devices.
    write : float
        Rows that the machine writes in a second.
    cores, devices : int
        `devices` is 0 for a machine that encodes on its cores.
    price : float
        Of an hour, in whatever currency.
    """

    decode: float
    encode: float
    write: float
    cores: int
    devices: int
    price: float

    @property
    def stages(self) -> dict[str, float]:
        """Images a second of each stage that could be the slowest."""
        if self.devices:
            return {"decode": self.decode * self.cores, "encode": self.encode * self.devices, "write": self.write}
        # Decoding and encoding share the cores: the time of an image is the sum of both.
        return {"decode + encode": self.cores / (1 / self.decode + 1 / self.encode), "write": self.write}

    @property
    def rate(self) -> float:
        """Images a second when all stages overlap: those of the slowest."""
        return min(self.stages.values())

    @property
    def bottleneck(self) -> str:
        """Name of the slowest stage."""
        return min(self.stages, key=self.stages.__getitem__)


def plan(machine: Machine, images: int, hours: float) -> tuple[int, float, float]:
    """Return how many machines finish in that time, how long they take, and what they cost."""
    seconds = images / machine.rate
    machines = max(math.ceil(seconds / 3600 / hours), 1)
    return machines, seconds / machines / 3600, seconds / 3600 * machine.price


def table(machine: Machine, hours: float) -> str:
    """Return the plan for a million, a hundred million and five billion images, as Markdown."""
    lines = [
        f"{machine.rate:,.0f} images a second on one machine; the slowest stage is {machine.bottleneck}.",
        "",
        "| images | one machine | machines | time | cost | results on disk |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for images in SIZES:
        machines, needed, cost = plan(machine, images, hours)
        alone = images / machine.rate / 3600
        size = images * BYTES_PER_ROW / 1e9
        lines.append(
            f"| {images:,} | {_duration(alone)} | {machines:,} | {_duration(needed)} | {cost:,.0f} | {size:,.2f} GB |"
        )
    return "\n".join(lines)


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--decode", type=float, required=True, help="images a second and core")
    parser.add_argument("--encode", type=float, required=True, help="images a second and device (or core)")
    parser.add_argument("--write", type=float, default=9_000, help="rows a second and machine")
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--devices", type=int, default=0, help="GPUs in a machine; 0: it encodes on its cores")
    parser.add_argument("--price", type=float, default=0.0, help="of one machine for an hour")
    parser.add_argument("--hours", type=float, default=24, help="when the job should be done")
    arguments = parser.parse_args()
    options = {name: getattr(arguments, name) for name in Machine.__dataclass_fields__}
    print(table(Machine(**options), arguments.hours))


if __name__ == "__main__":
    main()
