"""This machine in words and numbers, and how much of it others are using. Knows no service."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from system.cores import usable_cores

SHOWN = ("onnxruntime", "onnxruntime-gpu", "pillow", "numpy", "celery", "fastapi", "uvicorn", "redis")


@dataclass(frozen=True)
class Machine:
    cores: int
    processor: str
    memory_bytes: int
    load: float
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "system": platform.platform(), "python": platform.python_version()}


def this_machine() -> Machine:
    """`load` is the mean number of processes that wanted a core during the last minute."""
    versions = {}
    for name in SHOWN:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Machine(usable_cores(), _processor(), psutil.virtual_memory().total, os.getloadavg()[0], versions)


def busy_seconds() -> float:
    """Processor time that all processes of the machine together have used since it started."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # The guests' time is within user and nice already.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
