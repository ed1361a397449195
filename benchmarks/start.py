"""`python -m benchmarks.start`: how long `fovea up` takes until it is ready, and what its processes hold.

In each round it is started on a folder with a model, once with the packages compiled and once as after an
installation that compiles none, and sent a photograph as soon as it is ready. The last one is then kept busy
with small and with large photographs.

It ends with 0 where a start takes at most 3 s and neither gateway nor worker holds more memory than it may.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.artifacts import Artifacts, ExportProcessFailed, make_artifacts
from benchmarks.footprint import Client, Held, forget_peaks, held, keep_busy, processes
from benchmarks.machine import busy_seconds, this_machine
from benchmarks.photographs import Photographs
from benchmarks.report import MEGABYTE, PIPED_WIDTH
from benchmarks.rest import ServiceFailed, publish
from benchmarks.run import make_sets
from benchmarks.server import ServerFailed
from cli.connection import connect
from cli.errors import CliError
from cli.up.readiness import await_ready
from cli.up.temporary_fovea import temporary_fovea
from fovea_client import FoveaError
from models.predictor import Predictor
from storage.database import migrate

COMPILED, UNCOMPILED = "compiled", "uncompiled"
# In the bar, seconds; megabytes at 32 requests under way, for the worker without its model.
READY_S = 3.0
GATEWAY_MB, WORKER_MB = 120.0, 250.0
REQUESTS = 32
# Of the same photograph once its model is loaded.
REPEATS = 5
# A spare trainer has imported what it needs by then.
REST_S = 20.0
POLL_S = 0.02
LINE = re.compile(r"(?P<role>\w+) +\| (?P<at>\S+Z) \[\w+ *\] (?P<event>.*)")
# What a process says when it has imported everything, and when it works.
MARKS = {
    "imported": re.compile(r"worker\.starting|bulk\.starting|Started server process"),
    "works": re.compile(r"\S+ ready\.|Application startup complete"),
}


@dataclass(frozen=True)
class Options:
    model: str
    rounds: int
    seconds: float
    json: Path | None


@dataclass(frozen=True)
class Start:
    """One start. Seconds after it: `ready_s`, and `marks` by process and what it said.

    Until ready: `cpu_s` of each process, and the share of the machine that `others` used.
    """

    situation: str
    ready_s: float
    marks: dict[str, float]
    cpu_s: dict[str, float]
    others: float
    first_s: float
    later_s: float

    @property
    def loading_s(self) -> float:
        """What the first image waits for its model."""
        return self.first_s - self.later_s


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    options = parse(arguments)
    # What was started has to be stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return bench(options, console)
    except (ExportProcessFailed, ServerFailed, CliError, FoveaError, OSError) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--model", default="mobilenet_v1_025", help="the architecture served (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="under load, by kind of photograph (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as well")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.seconds <= 0:
        parser.error("--rounds must be at least 1, --seconds more than 0")
    return Options(given.model, given.rounds, given.seconds, given.json)


def bench(options: Options, console: Console) -> int:
    """Measure, show and judge."""
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="fovea-start-", dir="/tmp") as name:
        folder = Path(name)
        small, large = make_sets(("small", "large"), folder, console)
        console.print(f"Exporting {options.model} ...", highlight=False)
        artifacts = make_artifacts(options.model, folder / options.model, small.paths[0].parent)
        _publish(artifacts, folder / "data")
        starts: list[Start] = []
        memory: dict[str, dict[str, Held]] = {}
        for number in range(options.rounds):
            for situation in (UNCOMPILED, COMPILED):
                with _compiled(situation, folder / "bytecode"), _started(folder, situation, small) as (url, start):
                    starts.append(start)
                    _tell(console, number, start)
                    if (number, situation) == (options.rounds - 1, COMPILED):
                        memory = _memory(url, small, large, options.seconds)
        model_mb = Predictor(artifacts.fovea, device="cpu").memory_bytes / MEGABYTE
    show_starts(starts, console)
    show_memory(memory, console)
    if options.json:
        document = {
            "machine": machine.to_dict(),
            "model": options.model,
            "model_mb": model_mb,
            "starts": [asdict(start) for start in starts],
            "memory": {
                phase: {role: asdict(one) for role, one in roles.items()} for phase, roles in memory.items()
            },
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    broken = faults(starts, memory, model_mb)
    for fault in broken:
        console.print(fault, style="red", highlight=False)
    return 1 if broken else 0


def faults(starts: Sequence[Start], memory: Mapping[str, Mapping[str, Held]], model_mb: float) -> list[str]:
    """What does not hold, in words."""
    found = []
    ready_s = statistics.median(start.ready_s for start in starts if start.situation == COMPILED)
    if ready_s > READY_S:
        found.append(f"ready after {ready_s:.1f} s in the median, more than {READY_S:g}")
    for role, most_mb in (("gateway", GATEWAY_MB), ("inference worker", WORKER_MB + model_mb)):
        peak_mb = max(roles[role].peak for roles in memory.values()) / MEGABYTE
        if peak_mb > most_mb:
            found.append(f"the {role} holds {peak_mb:.0f} MB at most, more than {most_mb:.0f}")
    return found


def show_starts(starts: Sequence[Start], console: Console) -> None:
    """Medians, with the least and the most of `ready`."""
    table = Table("medians of seconds", COMPILED, UNCOMPILED, box=None)
    by_situation = {
        name: [start for start in starts if start.situation == name] for name in (COMPILED, UNCOMPILED)
    }

    def row(
        heading: str, value: Callable[[Start], float | None], form: str = "{:.2f}", spread: bool = False
    ) -> None:
        cells = []
        for chosen in by_situation.values():
            values = [found for start in chosen if (found := value(start)) is not None]
            cell = form.format(statistics.median(values)) if values else ""
            cells.append(f"{cell} ({min(values):.2f} to {max(values):.2f})" if spread and values else cell)
        table.add_row(heading, *cells)

    marks = sorted({mark for start in starts for mark in start.marks})
    row("ready", lambda start: start.ready_s, spread=True)
    for mark in marks:
        row(mark, lambda start, mark=mark: start.marks.get(mark))  # type: ignore[misc]
    roles = sorted({role for start in starts for role in start.cpu_s})
    row("processor time until ready", lambda start: sum(start.cpu_s.values()))
    for role in roles:
        row(f"- {role}", lambda start, role=role: start.cpu_s.get(role))  # type: ignore[misc]
    row("first image after that", lambda start: start.first_s, "{:.3f}")
    row("of which its model is loaded", lambda start: start.loading_s, "{:.3f}")
    row("used by others, of the machine", lambda start: start.others)
    console.print(table)


def show_memory(memory: Mapping[str, Mapping[str, Held]], console: Console) -> None:
    """Megabytes by process: resident and proportional at rest, the most resident under each load."""
    phases = list(memory)
    table = Table("MB", *(f"{phase}: resident at most" for phase in phases), "proportional at the end", box=None)
    roles = [role for role in memory[phases[0]] if all(role in memory[phase] for phase in phases)]
    for role in roles:
        peaks = [f"{memory[phase][role].peak / MEGABYTE:.0f}" for phase in phases]
        table.add_row(role, *peaks, f"{memory[phases[-1]][role].proportional / MEGABYTE:.0f}")
    total = sum(memory[phases[-1]][role].proportional for role in roles)
    table.add_row("together", *("" for _ in phases), f"{total / MEGABYTE:.0f}")
    console.print(table)


@contextmanager
def _compiled(situation: str, folder: Path) -> Iterator[None]:
    """Bytecode is found, and written, where it belongs, or in a folder in which there is none yet."""
    before = {name: os.environ.pop(name, None) for name in ("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")}
    if situation == UNCOMPILED:
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("PYTHONPYCACHEPREFIX", None)
        os.environ |= {name: value for name, value in before.items() if value is not None}


@contextmanager
def _started(folder: Path, situation: str, photographs: Photographs) -> Iterator[tuple[str, Start]]:
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    busy_s, began = busy_seconds(), time.time()
    with temporary_fovea(folder) as (url, require_alive), connect(url) as client:
        await_ready(client, require_alive, poll_s=POLL_S)
        ready_s = time.time() - began
        busy_s = busy_seconds() - busy_s
        cpu_s = {role: _cpu(process) for role, process in processes(_supervisor()).items()}
        address = f"{url}/v1/models/start/classify"
        images = Client(address)
        photograph = photographs.paths[0].read_bytes()
        first_s = images.classify(photograph)
        later_s = statistics.median(images.classify(photograph) for _ in range(REPEATS))
        images.close()
        others = max(0.0, busy_s - sum(cpu_s.values())) / (ready_s * (psutil.cpu_count() or 1))
        marks = read_marks((folder / "up.log").read_text(errors="replace"), began)
        yield address, Start(situation, ready_s, marks, cpu_s, others, first_s, later_s)


def read_marks(log: str, began: float) -> dict[str, float]:
    """When each process said what `MARKS` looks for, in seconds after `began`."""
    marks: dict[str, float] = {}
    for line in filter(None, map(LINE.match, log.splitlines())):
        for mark, event in MARKS.items():
            if event.match(line["event"]):
                marks.setdefault(f"{line['role']} {mark}", datetime.fromisoformat(line["at"]).timestamp() - began)
    return marks


def _memory(url: str, small: Photographs, large: Photographs, seconds: float) -> dict[str, dict[str, Held]]:
    """At rest, then under each load."""
    time.sleep(REST_S)
    found = processes(_supervisor())
    memory = {"at rest": held(found)}
    for photographs in (small, large):
        forget_peaks(found)
        keep_busy(url, photographs.paths, concurrency=REQUESTS, seconds=seconds)
        memory[f"{REQUESTS} {photographs.name}"] = held(found)
    return memory


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _publish(artifacts: Artifacts, data: Path) -> None:
    data.mkdir()
    database_url = f"sqlite:///{data / 'fovea.db'}"
    migrate(database_url)
    publish(artifacts.fovea, "start", "models/start/1/", database_url, (data / "blobs").as_uri())


def _supervisor() -> int:
    for child in psutil.Process().children():
        if "cli.main" in " ".join(child.cmdline()):
            return int(child.pid)
    raise ServiceFailed("`fovea up` is not among this process's children")


def _tell(console: Console, number: int, start: Start) -> None:
    console.print(
        f"round {number + 1}, {start.situation}: ready after {start.ready_s:.2f} s, processor "
        f"{sum(start.cpu_s.values()):.2f} s, others {start.others:.0%}, first image {start.first_s:.3f} s",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
