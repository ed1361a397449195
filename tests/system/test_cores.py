"""Limits of the container count, not the host's numbers."""

import os
from pathlib import Path

import pytest

from system.cores import core_quota, memory_limit_bytes, usable_cores


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    return tmp_path


def test_memory_is_the_cgroups_where_that_is_less(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("536870912\n")
    assert memory_limit_bytes(cgroup) == 536870912


@pytest.mark.parametrize("limit", ["max", str(1 << 62)])
def test_memory_is_the_machines_without_a_limit(cgroup: Path, limit: str) -> None:
    (cgroup / "memory.max").write_text(limit)
    assert memory_limit_bytes(cgroup) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_first_version_of_cgroups_is_read_too(cgroup: Path) -> None:
    (cgroup / "memory").mkdir()
    (cgroup / "memory/memory.limit_in_bytes").write_text("1073741824\n")
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (cgroup / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert memory_limit_bytes(cgroup) == 1073741824
    assert core_quota(cgroup) == 0.5


def test_cores_are_the_quota_where_that_is_less(cgroup: Path) -> None:
    (cgroup / "cpu.max").write_text("25000 100000\n")
    assert core_quota(cgroup) == 0.25


def test_cores_are_the_affinitys_without_a_quota(cgroup: Path) -> None:
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert usable_cores(cgroup) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "cores"), [("25000", 1), ("100000", 1), ("160000", 2)])
def test_threads_are_a_whole_number_and_never_none(cgroup: Path, quota: str, cores: int) -> None:
    (cgroup / "cpu.max").write_text(f"{quota} 100000\n")
    assert usable_cores(cgroup) == min(cores, len(os.sched_getaffinity(0)))
