"""`python -m benchmarks.unknown`: what it costs an image that its answer says how foreign it is.

One service has the same network twice, with and without a detector. wrk asks both by turns, in short blocks, so
that a slower moment meets both; what counts is the ratio of the rates within each round.
"""

import argparse
import dataclasses
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.artifacts import ExportProcessFailed, make_artifacts
from benchmarks.load import LoadFailed, Target, WrkMissing, measure_load, require_wrk
from benchmarks.photographs import Photographs
from benchmarks.report import PIPED_WIDTH
from benchmarks.rest import Service, ServiceFailed, publish
from benchmarks.run import make_sets
from models.artifact import read_manifest, write_manifest
from models.spec import EMBEDDING
from models.unknown.detector import FILE, FINDING, write_score
from models.unknown.scores import Mahalanobis

PLAIN, KNOWING = "bench", "knowing"
# As many directions as a fit keeps at most, and two classes.
DIRECTIONS, CLASSES = 256, 2
RAMP_S = 0.3


@dataclass(frozen=True)
class Options:
    model: str
    rounds: int
    seconds: float
    concurrency: tuple[int, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    options = parse(arguments)
    # What was started has to be stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_wrk()
        return bench(options, console)
    except (ExportProcessFailed, ServiceFailed, LoadFailed, WrkMissing) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unknown", description=__doc__)
    parser.add_argument("--model", default="mobilenet_v1_025", help="of the zoo (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each block (%(default)s)")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 16], help="requests under way (%(default)s)"
    )
    given = parser.parse_args(arguments)
    if min(given.rounds, given.seconds, *given.concurrency) <= 0:
        parser.error("--rounds, --seconds and --concurrency must be more than 0")
    return Options(given.model, given.rounds, given.seconds, tuple(given.concurrency))


def bench(options: Options, console: Console) -> int:
    with tempfile.TemporaryDirectory(prefix="fovea-unknown-") as name:
        folder = Path(name)
        photographs = make_sets(["small"], folder, console)[0]
        artifacts = make_artifacts(options.model, folder / options.model, photographs.paths[0].parent)
        knowing = with_detector(artifacts.fovea, folder / KNOWING)
        with Service(artifacts) as service:
            blobs = service.images.parent
            database = f"sqlite:///{blobs.parent / 'fovea.db'}"
            publish(knowing, KNOWING, "models/knowing/1/", database, blobs.as_uri())
            for concurrency in options.concurrency:
                ratios = measure(service.target, photographs, options, concurrency)
                console.print(said(concurrency, ratios), highlight=False)
    return 0


def with_detector(artifact: Path, folder: Path) -> Path:
    """A copy of the artifact with a detector of full size, which was fitted to nothing."""
    shutil.copytree(artifact, folder)
    manifest = read_manifest(folder)
    (dimensions,) = manifest.outputs[EMBEDDING]
    draw = np.random.default_rng(0)
    score = Mahalanobis(
        1e4,
        draw.normal(size=(dimensions, min(DIRECTIONS, dimensions))).astype(np.float32),
        draw.normal(size=(dimensions, CLASSES)).astype(np.float32),
        np.zeros(CLASSES, np.float32),
    )
    write_score(score, folder / FILE)
    facts = {"method": score.method, "file": FILE, "threshold": 0.0}
    write_manifest(folder, dataclasses.replace(manifest, findings={FINDING: facts}))
    return folder


def measure(target: Target, photographs: Photographs, options: Options, concurrency: int) -> list[float]:
    """The rate with the detector over that without it, of each round; which of them begins takes turns."""
    ratios = []
    for number in range(options.rounds + 1):
        rates = {}
        for model in (PLAIN, KNOWING) if number % 2 else (KNOWING, PLAIN):
            one = dataclasses.replace(target, url=target.url.replace(f"/{PLAIN}/", f"/{model}/"))
            figure = measure_load(
                model, one, photographs.paths, concurrency=concurrency, seconds=options.seconds, ramp_s=RAMP_S
            )
            rates[model] = figure.rate
        # The first round loads and warms both.
        if number:
            ratios.append(rates[KNOWING] / rates[PLAIN])
    return ratios


def said(concurrency: int, ratios: Sequence[float]) -> str:
    ordered = sorted(ratios)
    quarter = len(ordered) // 4
    return (
        f"{concurrency} under way: with a detector {statistics.median(ordered):.3f} times the rate without, "
        f"middle half {ordered[quarter]:.3f} to {ordered[-1 - quarter]:.3f}, {len(ordered)} rounds"
    )


if __name__ == "__main__":
    sys.exit(main())
