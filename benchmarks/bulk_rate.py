"""`python -m benchmarks.bulk_rate`: images a second of a bulk classification, as a share of the interactive rate.

Each round has a block of interactive requests, 32 under way, and one of a bulk job over a folder of the same
photographs, with nothing else to do in either. What counts is the ratio within a round.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.artifacts import ExportProcessFailed, make_artifacts
from benchmarks.bulk import BulkFailed, bulk_rate, fill_images
from benchmarks.load import LoadFailed, WrkMissing, measure_load
from benchmarks.machine import this_machine
from benchmarks.photographs import Photographs
from benchmarks.processes import usage
from benchmarks.report import PIPED_WIDTH
from benchmarks.rest import Service, ServiceFailed
from benchmarks.run import make_sets

MODEL = "mobilenet_v2"
# What a bulk job's rate has to be at least, as a share of the interactive one.
LEAST = 0.9
CONCURRENCY = 32
RAMP_S = 2.0
WARM_UP_IMAGES = 200
PAUSE_S = 1.0


@dataclass(frozen=True)
class Options:
    model: str
    rounds: int
    seconds: float
    images: int
    json: Path | None


@dataclass(frozen=True)
class Rate:
    """`images_s` is images a second, `cpu_ms` what one costs all of Fovea's processes. `others` is the share of
    all cores that other programs used meanwhile: a bulk job stands back behind these, too."""

    images_s: float
    cpu_ms: float
    others: float


@dataclass(frozen=True)
class Round:
    interactive: Rate
    bulk: Rate

    @property
    def ratio(self) -> float:
        return self.bulk.images_s / self.interactive.images_s


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    options = parse(arguments)
    # What was started has to be stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return compare(options, console)
    except (
        ExportProcessFailed, ServiceFailed, BulkFailed, LoadFailed, WrkMissing, httpx.TransportError,
    ) as error:  # fmt: skip
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk_rate", description=__doc__)
    parser.add_argument("--model", default=MODEL, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of interactive requests (%(default)s)")
    parser.add_argument("--images", type=int, default=2000, help="of the bulk job (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as well")
    given = parser.parse_args(arguments)
    if min(given.rounds, given.seconds, given.images) <= 0:
        parser.error("--rounds, --seconds and --images must be more than 0")
    return Options(given.model, given.rounds, given.seconds, given.images, given.json)


def compare(options: Options, console: Console) -> int:
    """Measure, show and judge: 0 where the median of the ratios is at least `LEAST`."""
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="fovea-bulk-") as name:
        folder = Path(name)
        photographs = make_sets(["small"], folder, console)[0]
        console.print(f"Exporting {options.model} ...", highlight=False)
        artifacts = make_artifacts(options.model, folder / options.model, photographs.paths[0].parent)
        with Service(artifacts) as service:
            rounds = measure(service, photographs, options, console)
    ratio = statistics.median(one.ratio for one in rounds)
    show(console, rounds, ratio, options)
    if options.json:
        document = {"machine": machine.to_dict(), "model": options.model, "ratio": ratio, "rounds": _plain(rounds)}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if ratio >= LEAST else 1


def measure(service: Service, photographs: Photographs, options: Options, console: Console) -> list[Round]:
    """The two by turns; what is slow only once (loading the model, in either process) is in no round."""
    fill_images(service.images / "bench", photographs.paths, options.images)
    fill_images(service.images / "warm-up", photographs.paths, WARM_UP_IMAGES)

    def interactive(seconds: float) -> Rate:
        figure = measure_load(
            "interactive",
            service.target,
            photographs.paths,
            concurrency=CONCURRENCY,
            seconds=seconds,
            ramp_s=RAMP_S,
        )
        return Rate(figure.images / figure.seconds, figure.cpu_ms, figure.others)

    def bulk(client: httpx.Client) -> Rate:
        first = usage(service.target.pids)
        images_s = bulk_rate(client, "bench", "bench")
        last = usage(service.target.pids)
        cpu_s = sum(last.cpu_s.values()) - sum(first.cpu_s.values())
        all_cores_s = (last.at - first.at) * (psutil.cpu_count() or 1)
        others = max(0.0, last.busy_s - first.busy_s - cpu_s) / all_cores_s
        return Rate(images_s, cpu_s / options.images * 1e3, others)

    rounds = []
    with httpx.Client(base_url=service.base_url, timeout=60, trust_env=False) as client:
        interactive(RAMP_S)
        bulk_rate(client, "bench", "warm-up")
        for number in range(options.rounds):
            time.sleep(PAUSE_S)
            one = Round(interactive(options.seconds), bulk(client))
            rounds.append(one)
            console.print(
                f"round {number + 1}/{options.rounds}: {one.interactive.images_s:.1f} images/s interactive, "
                f"{one.bulk.images_s:.1f} in bulk",
                highlight=False,
            )
    return rounds


def show(console: Console, rounds: Sequence[Round], ratio: float, options: Options) -> None:
    table = Table(
        title=f"{options.model}, small photographs, {CONCURRENCY} requests under way or one bulk job",
        caption=f"The median of the ratios is {ratio:.2f}; it has to be {LEAST:g} at least.",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("images/s", "in bulk", "ratio", "CPU ms/image", "in bulk", "others", "in bulk"):
        table.add_column(heading, justify="right")
    for one in rounds:
        pair = (one.interactive, one.bulk)
        table.add_row(
            *(f"{rate.images_s:.1f}" for rate in pair),
            f"{one.ratio:.2f}",
            *(f"{rate.cpu_ms:.2f}" for rate in pair),
            *(f"{rate.others:.0%}" for rate in pair),
        )
    console.print(table)


def _plain(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    return [
        {
            "interactive": asdict(one.interactive),
            "bulk": asdict(one.bulk),
            "ratio": round(one.ratio, 3),
        }
        for one in rounds
    ]


if __name__ == "__main__":
    sys.exit(main())
