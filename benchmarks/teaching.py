"""`python -m benchmarks.teaching`: how long ants and bees take to be taught, through the REST API.

In each round a Fovea is started and taught as soon as it is ready, with nothing kept (*at once*); then, each time
when a trainer has had time to warm up, again with nothing kept (*first*), with the backbone's graph kept but
neither prepared images nor features (*warm*), and with everything kept (*again*). A plain script does the same in
a process of its own: the ratios are to it.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.artifacts import weights_folder
from benchmarks.machine import this_machine
from benchmarks.report import PIPED_WIDTH
from benchmarks.rest import ServiceFailed
from cli.connection import connect
from cli.dataset_upload import ready_dataset
from cli.errors import CliError
from cli.up.readiness import await_ready
from cli.up.temporary_fovea import temporary_fovea
from fovea_client import Fovea, FoveaError
from workers.training.cleanup import CACHES, FEATURES, PIXELS

ARCHITECTURE = "mobilenet_v1_025"
ARCHIVE = "hymenoptera.zip"
# Longer than a trainer takes to have everything imported.
WARM_UP_S = 20.0
BARS = {"first": 15.0, "warm": 8.0}
# What is thrown away before each fine-tune.
SITUATIONS = {
    "at once": CACHES,
    "first": CACHES,
    "warm": (PIXELS, FEATURES),
    "again": (),
}


@dataclass(frozen=True)
class Options:
    archive: Path
    rounds: int
    seed: int
    json: Path | None


@dataclass(frozen=True)
class FineTune:
    """One fine-tune: `seconds` from request to the end as a client sees it, `phases` as its job tells them."""

    situation: str
    seconds: float
    phases: dict[str, float]
    accuracy: float
    images: int
    weights: str
    plain_s: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.plain_s


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    options = parse(arguments)
    # What was started has to be stopped, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return teach(options, console)
    except (ServiceFailed, CliError, FoveaError) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    folder = weights_folder()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.teaching", description=__doc__)
    parser.add_argument(
        "--archive",
        type=Path,
        default=folder.parent / ARCHIVE if folder else None,
        help="of photographs in train/CLASS and val/CLASS (%(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of every fine-tune (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as well")
    given = parser.parse_args(arguments)
    if given.archive is None or not given.archive.is_file():
        parser.error(f"--archive {given.archive} is no file; FOVEA_TEST_DATA names the folder that has {ARCHIVE}")
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return Options(given.archive, given.rounds, given.seed, given.json)


def teach(options: Options, console: Console) -> int:
    """Measure, show and judge: 0 where the bars hold in the median and every fine-tune gave the same weights."""
    machine = this_machine()
    if weights := weights_folder():
        os.environ["FOVEA_WEIGHTS_DIR"] = str(weights)
    finetunes: list[FineTune] = []
    with tempfile.TemporaryDirectory(prefix="fovea-teaching-", dir="/tmp") as name:
        folder = Path(name)
        with zipfile.ZipFile(options.archive) as members:
            members.extractall(folder / "photographs")
        plain_folder = next((folder / "photographs").rglob("train")).parent
        dataset = _upload(folder, options.archive)
        for number in range(options.rounds):
            plain_s = _plain(plain_folder, folder / "plain.onnx")
            found = _round(folder, dataset, options.seed, plain_s)
            finetunes += found
            told = ", ".join(f"{finetune.situation} {finetune.seconds:.1f} s" for finetune in found)
            console.print(f"round {number + 1}: plain script {plain_s:.1f} s, {told}", highlight=False)
    show(finetunes, console)
    if options.json:
        document = {"machine": machine.to_dict(), "finetunes": [asdict(finetune) for finetune in finetunes]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if holds(finetunes) else 1


def holds(finetunes: Sequence[FineTune]) -> bool:
    """Whether the bars hold and all that was taught is the same to the bit."""
    return len({finetune.weights for finetune in finetunes}) == 1 and all(
        statistics.median(finetune.seconds for finetune in finetunes if finetune.situation == situation) <= most
        for situation, most in BARS.items()
    )


def show(finetunes: Sequence[FineTune], console: Console) -> None:
    """Medians by situation."""
    phases = list(dict.fromkeys(phase for finetune in finetunes for phase in finetune.phases))
    table = Table("medians", "seconds", "of the plain script", *phases, "accuracy", box=None)
    for situation in SITUATIONS:
        chosen = [finetune for finetune in finetunes if finetune.situation == situation]
        ratios = [finetune.ratio for finetune in chosen]
        table.add_row(
            situation,
            f"{statistics.median(finetune.seconds for finetune in chosen):.1f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            *(
                f"{statistics.median(finetune.phases.get(phase, 0) for finetune in chosen):.2f}"
                for phase in phases
            ),
            f"{statistics.median(finetune.accuracy for finetune in chosen):.3f} of {chosen[0].images}",
        )
    console.print(table)
    count = len({finetune.weights for finetune in finetunes})
    console.print("every fine-tune gave the same bits" if count == 1 else f"{count} different sets of weights")


def _upload(folder: Path, archive: Path) -> str:
    with temporary_fovea(folder) as (url, require_alive), connect(url) as client:
        await_ready(client, require_alive)
        return ready_dataset(client, archive)


def _round(folder: Path, dataset: str, seed: int, plain_s: float) -> list[FineTune]:
    cache = folder / "data" / "cache"
    shutil.rmtree(folder / "tmp")
    with temporary_fovea(folder) as (url, require_alive), connect(url) as client:
        await_ready(client, require_alive)
        found = []
        for situation, thrown_away in SITUATIONS.items():
            if found:
                time.sleep(WARM_UP_S)
            for name in thrown_away:
                shutil.rmtree(cache / name, ignore_errors=True)
            found.append(_finetune(client, situation, dataset, seed, plain_s))
    return found


def _finetune(client: Fovea, situation: str, dataset: str, seed: int, plain_s: float) -> FineTune:
    began = time.monotonic()
    accepted = client.finetune(
        model="ants-bees",
        dataset=dataset,
        architecture=ARCHITECTURE,
        seed=seed,
        # The next fine-tune follows at once, and would begin with variants that give way to it.
        variants="none",
    )
    *_, job = accepted.follow()
    ended = time.monotonic()
    if job.state != "succeeded" or not job.result:
        raise ServiceFailed(f"the fine-tune {job.state}: {job.error}")
    result = job.result
    manifest = client.models.version(result["model"], result["version"]).manifest
    return FineTune(
        situation,
        ended - began,
        result["seconds"],
        result["metrics"]["accuracy"],
        result["metrics"]["images"],
        manifest["weights"]["trained_sha256"],
        plain_s,
    )


def _plain(photographs: Path, model: Path) -> float:
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.plain_teaching", ARCHITECTURE, str(photographs), str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceFailed("\n".join(["the plain script failed:", *done.stderr.strip().splitlines()[-12:]]))
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
