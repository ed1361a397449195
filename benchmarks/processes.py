"""What processes have used so far: processor time and memory, by name. Knows not what they are for."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from benchmarks.machine import busy_seconds

# At rest is what uses less than this share of a core between two looks.
RESTING = 0.1
LOOK_S = 0.2


@dataclass(frozen=True)
class Usage:
    """Until one moment: processor seconds of each process, and the machine's busy seconds."""

    at: float
    cpu_s: dict[str, float]
    busy_s: float


@dataclass(frozen=True)
class Memory:
    """Bytes. `resident` of each process counts in full what it shares; `proportional` is of all of them together
    and divides each page by the number of processes that share it (where the system does not tell: what is shared
    is left out).
    """

    resident: dict[str, int]
    proportional: int


def usage(pids: Mapping[str, int]) -> Usage:
    """Of processes and all their descendants. Raises psutil.NoSuchProcess when one of them has ended."""
    trees = {name: _tree(pid) for name, pid in pids.items()}
    return Usage(
        at=time.time(),
        cpu_s={name: sum(_cpu(process) for process in tree) for name, tree in trees.items()},
        busy_s=busy_seconds(),
    )


def memory(pids: Mapping[str, int]) -> Memory:
    """Of processes and all their descendants. Raises psutil.NoSuchProcess when one of them has ended."""
    held = {name: [_memory(process) for process in _tree(pid)] for name, pid in pids.items()}
    return Memory(
        resident={name: sum(resident for resident, _ in tree) for name, tree in held.items()},
        proportional=sum(proportional for tree in held.values() for _, proportional in tree),
    )


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Resident and proportional. One that has ended and was not waited for yet holds none."""
    try:
        held = process.memory_full_info()
    except psutil.ZombieProcess:
        return 0, 0
    return held.rss, getattr(held, "pss", held.uss)


def come_to_rest(pids: Mapping[str, int], at_most_s: float) -> None:
    """Wait until processes and their descendants use next to nothing, or for `at_most_s`: some never rest."""
    deadline = time.monotonic() + at_most_s
    last = sum(usage(pids).cpu_s.values())
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
        now = sum(usage(pids).cpu_s.values())
        if now - last <= RESTING * LOOK_S:
            return
        last = now


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
