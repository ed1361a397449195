"""`python -m benchmarks.soak`: a real `fovea up` under mixed load for half an hour: what grows, and what is left?

Judged are, after a warm-up, the memory of every process, its descriptors and threads, and at the end the files
that no row of the database owns. It ends with 0 where all stays as it was and every answer was as expected.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.artifacts import Artifacts, ExportProcessFailed, make_artifacts
from benchmarks.leftovers import leftovers
from benchmarks.machine import this_machine
from benchmarks.mixed_load import LITTLE_TO_LEARN, MixedLoad, Tally
from benchmarks.photographs import large_photographs
from benchmarks.report import PIPED_WIDTH
from benchmarks.rest import ServiceFailed, publish
from benchmarks.run import make_sets
from benchmarks.sampling import ROLES, Sampler
from benchmarks.soak_report import judge, show
from cli.connection import connect
from cli.errors import CliError
from cli.up.readiness import await_ready
from cli.up.temporary_fovea import temporary_fovea
from fovea_client import Fovea, FoveaError
from models.predictor import Predictor
from storage.database import migrate

MODEL = "mobilenet_v2"
START_S = 120.0
# Caches and pools have filled by then, every thread has been started, every model was loaded once.
WARM_UP = 0.25
LONGEST_WARM_UP_S = 300.0
# Files of ended jobs go with the clean-up; twice its interval after the last job nothing may be left.
CLEANUP_S = 10.0


@dataclass(frozen=True)
class Options:
    minutes: float
    interval_s: float
    cores: int
    seed: int
    json: Path | None

    @property
    def warm_up_s(self) -> float:
        return min(LONGEST_WARM_UP_S, WARM_UP * self.minutes * 60)


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    options = parse(arguments)
    # What was started has to be stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return soak(options, console)
    except (ExportProcessFailed, ServiceFailed, CliError, FoveaError, ValueError) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="under load (%(default)s)")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between samples (%(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="that everything runs on (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is chosen by chance (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE as well")
    given = parser.parse_args(arguments)
    if min(given.minutes, given.interval, given.cores) <= 0:
        parser.error("--minutes, --interval and --cores must be more than 0")
    if given.minutes * 60 * (1 - WARM_UP) < 8 * given.interval:
        parser.error(f"--minutes {given.minutes:g} leaves fewer than eight samples after the warm-up")
    return Options(given.minutes, given.interval, given.cores, given.seed, given.json)


def soak(options: Options, console: Console) -> int:
    """Everything from start to verdict; the exit code."""
    machine = this_machine()
    _keep_to(options.cores)
    with tempfile.TemporaryDirectory(prefix="fovea-soak-", dir="/tmp") as name:
        folder = Path(name)
        small = make_sets(["small"], folder, console)[0]
        large = large_photographs(folder / "large", small, count=4)
        console.print(f"Exporting {MODEL} ...", highlight=False)
        artifacts = make_artifacts(MODEL, folder / MODEL, small.paths[0].parent)
        _publish(artifacts, folder / "data")
        os.environ |= _environment(artifacts)
        with temporary_fovea(folder) as (url, require_alive):
            pid = _supervisor()
            with connect(url) as client:
                await_ready(client, require_alive)
                for _ in range(2):
                    _learn_digits(client)
            console.print(
                f"{options.minutes:g} minutes of mixed load on {options.cores} cores ...", highlight=False
            )
            with (
                Sampler(pid, options.interval_s) as sampler,
                MixedLoad(url, small.paths, large.paths, options.seed) as load,
            ):
                _hold(options.minutes * 60, require_alive, sampler, load.tally, console)
            _await_rest(url)
            left = leftovers(folder / "data", folder / "tmp")
    verdict = judge(sampler.processes, options.warm_up_s, left, load.tally.faults, set(ROLES.values()))
    show(console, verdict, load.tally)
    if options.json:
        document = {
            "machine": machine.to_dict(),
            "minutes": options.minutes,
            "warm_up_s": options.warm_up_s,
            **verdict.to_dict(),
            "done": load.tally.done,
            "busy": load.tally.busy,
            "processes": [process.to_dict() for process in sampler.processes],
        }
        options.json.write_text(json.dumps(document) + "\n")
    return 0 if verdict.holds else 1


def _keep_to(cores: int) -> None:
    """Also what is started from here on, the client among it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def _environment(artifacts: Artifacts) -> dict[str, str]:
    """Room for one of the two large models, so that asking for both by turns loads and unloads them."""
    with_one = Predictor(artifacts.fovea, device="cpu").memory_bytes
    return {
        "FOVEA_MODEL_MEMORY_BYTES": str(2 * with_one),
        "FOVEA_CLEANUP_INTERVAL_S": str(CLEANUP_S),
        "FOVEA_DEVICE": "cpu",
        "FOVEA_TRAINING_DEVICE": "cpu",
    }


def _publish(artifacts: Artifacts, data: Path) -> None:
    data.mkdir()
    database_url = f"sqlite:///{data / 'fovea.db'}"
    migrate(database_url)
    for number in (1, 2):
        publish(artifacts.fovea, "photos", f"models/photos/{number}/", database_url, (data / "blobs").as_uri())


def _supervisor() -> int:
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "cli.main" in " ".join(child.cmdline()):
                return int(child.pid)
    raise ServiceFailed("`fovea up` is not among this process's children")


def _learn_digits(client: Fovea) -> None:
    started = client.finetune(**LITTLE_TO_LEARN)
    for job in started.follow():
        if job.state in ("failed", "cancelled"):
            raise ServiceFailed(f"the digits were not learned: {job.error}")


def _hold(seconds: float, require_alive: Any, sampler: Sampler, tally: Tally, console: Console) -> None:
    began = told = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        require_alive()
        if now - told >= 60:
            told = now
            memory = ", ".join(
                f"{process.role} {process.samples[-1].rss / 2**20:.0f} MB"
                for process in sampler.processes
                if process.role not in ("supervisor",)
            )
            done = sum(tally.done.values())
            console.print(
                f"{(now - began) / 60:.0f} min, {done} calls, {len(tally.faults)} faults: {memory}",
                highlight=False,
            )
        time.sleep(1)


def _await_rest(url: str) -> None:
    """Until no job runs, and two clean-ups after it."""
    with connect(url) as client:
        deadline = time.monotonic() + START_S
        while any(True for state in ("queued", "running") for _ in client.jobs.list(state=state)):
            if time.monotonic() > deadline:
                raise ServiceFailed(f"jobs still wait or run {START_S:.0f} s after the load")
            time.sleep(0.5)
    time.sleep(2 * CLEANUP_S)


if __name__ == "__main__":
    sys.exit(main())
