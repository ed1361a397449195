"""`python -m benchmarks.isolation`: how much slower an image is answered while bulk work runs beside it.

Photographs are sent at a fixed, modest rate, by turns with nothing else and with an ingest, asynchronous classify
jobs, a bulk classification or a fine-tune on the same machine. What counts is the ratio of the 99th percentiles
within the run.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.artifacts import ExportProcessFailed, make_artifacts
from benchmarks.bulk import (
    BulkFailed,
    Goes,
    classifying,
    classifying_many,
    fill_images,
    finetuning,
    ingesting,
    write_archive,
)
from benchmarks.machine import this_machine
from benchmarks.photographs import Photographs
from benchmarks.report import PIPED_WIDTH
from benchmarks.rest import Service, ServiceFailed
from benchmarks.run import make_sets
from benchmarks.steady import Latencies, steady_load

KINDS = ("ingest", "classify", "classify_many", "finetune")
MODEL = "mobilenet_v2"
# What the 99th percentile may be with bulk work, as a multiple of that without.
MOST = 1.5
# Until what a block has left behind (files to remove, threads that spin) has come to rest.
PAUSE_S = 2.0


@dataclass(frozen=True)
class Options:
    kinds: tuple[str, ...]
    rounds: int
    rate: float
    seconds: float
    images: int
    json: Path | None


@dataclass(frozen=True)
class Pair:
    """One kind of bulk work: the answers without and with it."""

    kind: str
    alone: Latencies
    beside: Latencies

    @property
    def ratio(self) -> float:
        return self.beside.p99 / self.alone.p99

    @property
    def holds(self) -> bool:
        return self.ratio <= MOST and not self.alone.faults and not self.beside.faults

    def to_dict(self) -> dict[str, Any]:
        def figures(latencies: Latencies) -> dict[str, Any]:
            return {
                "requests": len(latencies.ms),
                "p50_ms": round(latencies.p50, 2),
                "p99_ms": round(latencies.p99, 2),
                "faults": latencies.faults,
                "fault": latencies.fault,
            }

        return {
            "kind": self.kind,
            "alone": figures(self.alone),
            "beside": figures(self.beside),
            "p99_ratio": round(self.ratio, 3),
            "holds": self.holds,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    options = parse(arguments)
    # What was started has to be stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return isolate(options, console)
    except (ExportProcessFailed, ServiceFailed, BulkFailed, httpx.TransportError) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.isolation", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="(all)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="at most, for each block (%(default)s)")
    parser.add_argument("--images", type=int, default=10_000, help="in the archive and the folder (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as well")
    given = parser.parse_args(arguments)
    if min(given.rounds, given.rate, given.seconds, given.images) <= 0:
        parser.error("--rounds, --rate, --seconds and --images must be more than 0")
    return Options(tuple(given.kinds), given.rounds, given.rate, given.seconds, given.images, given.json)


def isolate(options: Options, console: Console) -> int:
    """Measure, show and judge: 0 where every ratio is at most `MOST` and every request was answered."""
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="fovea-isolation-") as name:
        folder = Path(name)
        photographs = make_sets(["small"], folder, console)[0]
        console.print(
            f"Exporting {MODEL}, writing an archive of {options.images} photographs ...", highlight=False
        )
        artifacts = make_artifacts(MODEL, folder / MODEL, photographs.paths[0].parent)
        archive = write_archive(folder / "bulk.zip", photographs.paths, options.images)
        with Service(artifacts, training=True) as service:
            pairs = measure(service, photographs, archive, options, console)
    show(console, pairs, options)
    if options.json:
        document = {"machine": machine.to_dict(), "pairs": [pair.to_dict() for pair in pairs]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(pair.holds for pair in pairs) else 1


def measure(
    service: Service, photographs: Photographs, archive: Path, options: Options, console: Console
) -> list[Pair]:
    """Every round has, for each kind, a block without and one with it, so that a slower minute meets both."""
    alone = {kind: Latencies() for kind in options.kinds}
    beside = {kind: Latencies() for kind in options.kinds}

    def load(goes_on: Goes = lambda: True) -> Latencies:
        url = service.target.url
        return steady_load(url, photographs.paths, rate=options.rate, seconds=options.seconds, goes_on=goes_on)

    fill_images(service.images / "bulk", photographs.paths, options.images)
    with httpx.Client(base_url=service.base_url, timeout=60, trust_env=False) as client:
        works: dict[str, Any] = {
            "ingest": lambda: ingesting(client, archive),
            "classify": lambda: classifying(client, "bench", photographs.paths),
            "classify_many": lambda: classifying_many(client, "bench", "bulk"),
            "finetune": lambda: finetuning(client),
        }
        # What is slow only once (loading, the first connections) is in no block.
        steady_load(service.target.url, photographs.paths, rate=options.rate, seconds=3.0)
        for number in range(options.rounds):
            for kind in options.kinds:
                time.sleep(PAUSE_S)
                quiet = load()
                work: AbstractContextManager[Goes] = works[kind]()
                with work as goes_on:
                    loaded = load(goes_on)
                alone[kind], beside[kind] = alone[kind] + quiet, beside[kind] + loaded
                console.print(
                    f"round {number + 1}/{options.rounds}, {kind}: p99 {quiet.p99:.1f} ms alone, "
                    f"{loaded.p99:.1f} beside it ({len(loaded.ms)} requests)",
                    highlight=False,
                )
    return [Pair(kind, alone[kind], beside[kind]) for kind in options.kinds]


def show(console: Console, pairs: Sequence[Pair], options: Options) -> None:
    table = Table(
        title=f"{MODEL}, {options.rate:g} small photographs a second, with and without bulk work beside them",
        caption=f"Milliseconds from due to answered. The ratio of the 99th percentiles may be {MOST:g}.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("beside")
    for heading in ("requests", "p50 alone", "p50 beside", "p99 alone", "p99 beside", "ratio", "faults", ""):
        table.add_column(heading, justify="right")
    for pair in pairs:
        table.add_row(
            pair.kind,
            f"{len(pair.alone.ms)} + {len(pair.beside.ms)}",
            f"{pair.alone.p50:.1f}",
            f"{pair.beside.p50:.1f}",
            f"{pair.alone.p99:.1f}",
            f"{pair.beside.p99:.1f}",
            f"{pair.ratio:.2f}",
            str(pair.alone.faults + pair.beside.faults),
            "" if pair.holds else "TOO MUCH",
        )
    console.print(table)
    for pair in pairs:
        if fault := pair.alone.fault or pair.beside.fault:
            console.print(f"{pair.kind}: the first failed request: {fault}", style="red", markup=False)


if __name__ == "__main__":
    sys.exit(main())
