"""What processes have used so far: processor time and memory, by name. Knows not what they are for."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from benchmarks.machine import busy_seconds


@dataclass(frozen=True)
class Usage:
    """Until one moment: processor seconds and resident bytes of each process, and the machine's busy seconds."""

    at: float
    cpu_s: dict[str, float]
    memory: dict[str, int]
    busy_s: float


def usage(pids: Mapping[str, int]) -> Usage:
    """Of processes and all their descendants. Raises psutil.NoSuchProcess when one of them has ended."""
    trees = {name: _tree(pid) for name, pid in pids.items()}
    return Usage(
        at=time.time(),
        cpu_s={name: sum(_cpu(process) for process in tree) for name, tree in trees.items()},
        memory={name: sum(process.memory_info().rss for process in tree) for name, tree in trees.items()},
        busy_s=busy_seconds(),
    )


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
