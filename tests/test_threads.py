"""How many threads are right: what the process may use, in every way in which it may be limited."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zeroshot.threads import usable_cpus

MACHINE = 64


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of many CPUs, all of them allowed."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MACHINE)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def test_this_machine() -> None:
    assert 1 <= usable_cpus() <= MACHINE


def test_the_affinity_mask_counts_not_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8})
    monkeypatch.setattr(os, "cpu_count", lambda: MACHINE)
    assert usable_cpus(tmp_path) == 3


@pytest.mark.parametrize(("count", "expected"), [(6, 6), (None, 1)])
def test_systems_without_affinity(
    count: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cpus(tmp_path) == expected


def test_without_control_groups(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == MACHINE


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", MACHINE),
        ("200000 100000", 2),
        ("250000 100000", 2),  # a third thread would be throttled half of the time
        ("50000 100000", 1),
        ("99900000 100000", MACHINE),
        ("", MACHINE),
        ("many", MACHINE),
        ("100000 0", MACHINE),
    ],
)
def test_quota_of_version_2(quota: str, expected: int, tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota})
    assert usable_cpus(root) == expected


@pytest.mark.parametrize(("inner", "outer", "expected"), [("800000", "300000", 3), ("300000", "800000", 3)])
def test_the_groups_above_count_too(inner: str, outer: str, expected: int, tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/user.slice/job.scope",
        "sys/fs/cgroup/user.slice/job.scope/cpu.max": f"{inner} 100000",
        "sys/fs/cgroup/user.slice/cpu.max": f"{outer} 100000",
    }
    assert usable_cpus(write(tmp_path, files)) == expected


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
@pytest.mark.parametrize(("quota", "expected"), [("-1", MACHINE), ("400000", 4)])
def test_quota_of_version_1(controllers: str, quota: str, expected: int, tmp_path: Path) -> None:
    group = "sys/fs/cgroup/cpu/batch/job"
    files = {
        "proc/self/cgroup": f"12:cpuset:/\n3:{controllers}:/batch/job\n1:name=systemd:/\n0::/",
        f"{group}/cpu.cfs_quota_us": quota,
        f"{group}/cpu.cfs_period_us": "100000",
    }
    assert usable_cpus(write(tmp_path, files)) == expected


def test_a_container_that_sees_the_name_of_its_group_on_the_host(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "3:cpu,cpuacct:/docker/0123456789ab",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    }
    assert usable_cpus(write(tmp_path, files)) == 2


def test_other_controllers_do_not_count(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpuset:/job",
        "sys/fs/cgroup/cpuset/job/cpu.cfs_quota_us": "100000",
        "sys/fs/cgroup/cpuset/job/cpu.cfs_period_us": "100000",
    }
    assert usable_cpus(write(tmp_path, files)) == MACHINE
