"""How much of this machine a process may use: its cgroup's and its affinity's limits, not the host's numbers."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def core_quota(cgroup: Path = _CGROUP) -> float:
    """The processor cores this process may use at once; a quota of half a core is 0.5."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(cgroup / "cpu/cpu.cfs_quota_us"), _read(cgroup / "cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        return min(cores, int(quota) / int(period))
    return cores


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """How many threads that compute can run at once: the quota as a whole number, at least 1."""
    return max(1, round(core_quota(cgroup)))


def memory_limit_bytes(cgroup: Path = _CGROUP) -> int:
    """The memory this process may use, in bytes: the machine's, or its cgroup's when that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _read(cgroup / name)
        if limit.isdigit():
            return min(total, int(limit))
    return total


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
