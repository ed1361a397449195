"""`python -m benchmarks.unknown`: what it costs an image that its answer says how foreign it is.

One service has the same network twice, with and without a detector. Both are asked by turns, one request after the
other, so that a slower moment meets both.
"""

import argparse
import dataclasses
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console

from benchmarks.artifacts import ExportProcessFailed, make_artifacts
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
DIRECTIONS, CLASSES = 128, 2
WARM_UP = 50


@dataclass(frozen=True)
class Options:
    model: str
    requests: int


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    options = parse(arguments)
    # What was started has to be stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return bench(options, console)
    except (ExportProcessFailed, ServiceFailed, httpx.HTTPError) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unknown", description=__doc__)
    parser.add_argument("--model", default="mobilenet_v1_025", help="of the zoo (%(default)s)")
    parser.add_argument("--requests", type=int, default=2000, help="to each of the two (%(default)s)")
    given = parser.parse_args(arguments)
    if given.requests <= 0:
        parser.error("--requests must be more than 0")
    return Options(given.model, given.requests)


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
            console.print(said(measure(service, photographs, options.requests)), highlight=False)
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


def measure(service: Service, photographs: Photographs, requests: int) -> dict[str, list[float]]:
    """Milliseconds of each request by model, in order; which of the two is asked first takes turns."""
    images = [path.read_bytes() for path in photographs.paths]
    found: dict[str, list[float]] = {PLAIN: [], KNOWING: []}
    with httpx.Client(base_url=service.base_url, timeout=30, trust_env=False) as client:
        for number in range(requests + WARM_UP):
            for model in (PLAIN, KNOWING) if number % 2 else (KNOWING, PLAIN):
                began = time.perf_counter()
                answer = client.post(
                    f"/v1/models/{model}/classify",
                    content=images[number % len(images)],
                    headers={"content-type": "image/jpeg"},
                )
                if number >= WARM_UP:
                    found[model].append((time.perf_counter() - began) * 1e3)
                answer.raise_for_status()
    return found


def said(found: dict[str, list[float]]) -> str:
    plain, knowing = (np.array(found[model]) for model in (PLAIN, KNOWING))
    tenth, median = (np.quantile(knowing, q) / np.quantile(plain, q) for q in (0.1, 0.5))
    return (
        f"{len(plain)} requests each, one at a time: {np.median(plain):.2f} ms without a detector; with it "
        f"{median:.3f} times the median, {tenth:.3f} times the fastest tenth, "
        f"{np.median(knowing - plain):+.3f} ms in the median of the pairs"
    )


if __name__ == "__main__":
    sys.exit(main())
