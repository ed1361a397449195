"""How a process ended, in words, and whether the kernel ended it for want of memory."""

import signal
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MINE = Path("/proc/self/cgroup")
OUT_OF_MEMORY = "out of memory"


def ending(exit_code: int, *, oom_kills_before: int | None = None) -> str:
    """`SIGSEGV`, `out of memory` or `exit code 3`.

    A SIGKILL is told as what it was for where the kernel has counted one more of its own since `oom_kills_before`.
    """
    if exit_code >= 0:
        return f"exit code {exit_code}"
    if exit_code == -signal.SIGKILL and oom_kills_before is not None and (oom_kills() or 0) > oom_kills_before:
        return OUT_OF_MEMORY
    with suppress(ValueError):
        return signal.Signals(-exit_code).name
    return f"signal {-exit_code}"


def oom_kills() -> int | None:
    """How many processes of this one's cgroup the kernel has killed for want of memory; None: unknown."""
    try:
        group = next(line[3:] for line in _MINE.read_text().splitlines() if line.startswith("0::"))
        events = (_CGROUPS / group.strip("/") / "memory.events").read_text()
    except (OSError, StopIteration):
        return None
    counts = dict(line.split() for line in events.splitlines())
    return int(counts.get("oom_kill", 0))
