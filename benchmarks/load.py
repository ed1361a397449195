"""Load on one HTTP address from wrk, a compiled client that costs little of the processor it shares.

The window that counts begins when the load already runs and ends before it stops, so that neither the first
requests, which find everything idle, nor the last, which are cut off, are in the figure.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figure import Figure
from benchmarks.processes import Usage, memory, usage

SCRIPT = Path(__file__).with_name("wrk.lua")
MARK = "FOVEA "
TAIL_S = 0.3
REPLY_TIMEOUT_S = 60
CLIENT = "wrk"


class WrkMissing(Exception):
    """The load generator is not installed; the text says how to get it."""


class LoadFailed(Exception):
    """wrk ended without a result; the text is what it said."""


@dataclass(frozen=True)
class Target:
    """An address that takes one image per POST, the processes behind it by name, and headers that it wants."""

    url: str
    pids: Mapping[str, int]
    headers: Mapping[str, str] = field(default_factory=dict)


def require_wrk() -> str:
    """The path of wrk. Raises WrkMissing."""
    found = shutil.which("wrk")
    if found:
        return found
    raise WrkMissing(
        "wrk, the load generator, is not installed: apt-get install wrk, dnf install wrk, brew install wrk, "
        "or build it from https://github.com/wg/wrk"
    )


def measure_load(
    step: str, target: Target, photographs: Sequence[Path], *, concurrency: int, seconds: float, ramp_s: float
) -> Figure:
    """Keep `concurrency` requests under way for `ramp_s + seconds` and measure the last `seconds`.

    Raises LoadFailed, and psutil.NoSuchProcess when a process of the target ends.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listing:
        listing.write("".join(f"{path}\n" for path in photographs))
        listing.flush()
        client = _start(target, Path(listing.name), concurrency, ramp_s + seconds + TAIL_S)
        try:
            pids = {**target.pids, CLIENT: client.pid}
            time.sleep(ramp_s)
            first = usage(pids)
            time.sleep(seconds)
            last = usage(pids)
            # Costs more than a look at the times, so it is taken when they are.
            held = memory(target.pids)
            said, _ = client.communicate(timeout=REPLY_TIMEOUT_S)
        finally:
            client.kill()
    return replace(_figure(step, _result(said), first, last), memory_of=held.resident, pss=held.proportional)


def _start(target: Target, listing: Path, concurrency: int, duration_s: float) -> subprocess.Popen[str]:
    # wrk takes whole seconds; what is left over runs after the window.
    duration = f"{int(duration_s) + 1}s"
    options = ["-t", "1", "-c", str(concurrency), "-d", duration, "--timeout", f"{REPLY_TIMEOUT_S}s"]
    headers = [text for pair in {"Content-Type": "image/jpeg", **target.headers}.items() for text in pair]
    command = [require_wrk(), *options, "-s", str(SCRIPT), target.url, "--", str(listing), *headers]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _result(said: str) -> dict[str, Any]:
    for line in said.splitlines():
        if line.startswith(MARK):
            result: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return result
    raise LoadFailed(f"wrk gave no result: {said.strip()[-500:]}")


def _figure(step: str, result: Mapping[str, Any], first: Usage, last: Usage) -> Figure:
    seconds = last.at - first.at
    images = sum(first.at <= at < last.at for at in result["arrivals"])
    if not images:
        raise LoadFailed(
            f"no answer came within {seconds:.1f} s; {result['faults']} others: {result['fault'][:300]}"
        )
    cpu_s = {name: last.cpu_s[name] - first.cpu_s[name] for name in last.cpu_s}
    client_s = cpu_s.pop(CLIENT)
    busy = last.busy_s - first.busy_s
    return Figure(
        step=step,
        images=images,
        seconds=seconds,
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        cpu_ms=sum(cpu_s.values()) / images * 1e3,
        client_ms=client_s / images * 1e3,
        others=max(0.0, busy - sum(cpu_s.values()) - client_s) / (seconds * (psutil.cpu_count() or 1)),
        cpu_of={name: value / images * 1e3 for name, value in cpu_s.items()},
        faults=result["faults"] + result["lost"],
        fault=result["fault"][:300],
    )
