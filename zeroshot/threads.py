"""How many threads a good neighbour starts: as many as its process may use, not as many as the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use, at least 1.

    The least of its affinity mask (``taskset``, batch systems) and the quotas of its control groups and of those above
    them (containers, systemd; versions 1 and 2), rounded down: more threads than that would be throttled.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.

    Examples
    --------
    >>> 1 <= usable_cpus() <= os.cpu_count()
    True
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([affinity, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas that hold for this process, in CPUs."""
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # not Linux, or hidden
        return
    for line in lines:  # number:controllers:group, without controllers in version 2
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = mounts / "cpu" if controllers else mounts
        # In a container the group is often named as the host sees it, but mounted as the root: so up to the root.
        path = PurePosixPath(group.lstrip("/"))
        for folder in (path, *path.parents):
            quota = _quota(mount / folder)
            if quota is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """Return the quota of one control group in CPUs, or None if it has none."""
    try:
        if (both := folder / "cpu.max").exists():  # version 2: "150000 100000" or "max 100000"
            quota, period = both.read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group or file, or "max"
        return None
    return share if share > 0 else None  # -1 is version 1's "no limit"
