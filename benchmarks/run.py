"""`python -m benchmarks.run`: Fovea against this machine's limit and against its peers, in one run."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks.artifacts import Artifacts, ExportProcessFailed, make_artifacts
from benchmarks.case import FOVEA_LOOP, LIMIT, Case
from benchmarks.figure import Figure
from benchmarks.load import LoadFailed, Target, WrkMissing, measure_load, require_wrk
from benchmarks.loop import ChildEnded, Loops
from benchmarks.machine import Machine, this_machine
from benchmarks.peers import Peer, PeerFailed, find_peers
from benchmarks.photographs import Photographs, large_photographs, small_photographs
from benchmarks.report import print_case, print_memory, print_notes, write_json
from benchmarks.rest import Service, ServiceFailed, mean_stages

MODELS = ("mobilenet_v2", "mobilenet_v1_025")
SETS = ("small", "large")
LOOPS = (LIMIT, "limit-1-thread", FOVEA_LOOP)
RAMP_S = 1.0
# Between steps: replies to requests that were cut off, and threads that spin, come to rest.
PAUSE_S = 0.4
# Where the output goes to a file there is no terminal to ask.
PIPED_WIDTH = 150
# Photographs that are classified one by one before anything is measured, to see that the answers are right.
CHECKED = 10


@dataclass(frozen=True)
class Options:
    models: tuple[str, ...]
    sets: tuple[str, ...]
    concurrency: tuple[int, ...]
    rounds: int
    seconds: float
    with_peers: bool
    json: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    errors = Console(stderr=True)
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_wrk()
        return bench(options, console)
    except WrkMissing as error:
        errors.print(str(error), style="red", highlight=False)
        return 2
    except (ExportProcessFailed, ServiceFailed, PeerFailed, LoadFailed, ChildEnded) as error:
        errors.print(str(error), style="red", highlight=False, markup=False)
        return 1
    except KeyboardInterrupt:
        errors.print("Interrupted; nothing was written.")
        return 130


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--models", type=_words, default=MODELS, help="of the zoo (%(default)s)")
    parser.add_argument("--sets", type=_words, default=SETS, help="small, large or both (%(default)s)")
    parser.add_argument("--concurrency", type=_numbers, default=(1, 8, 32), help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each step (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="two rounds of two seconds: does it work at all")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as well")
    given = parser.parse_args(arguments)
    if unknown := set(given.sets) - set(SETS):
        parser.error(f"--sets knows {' and '.join(SETS)}, not {', '.join(sorted(unknown))}")
    if given.rounds < 1 or given.seconds <= 0:
        parser.error(f"--rounds {given.rounds} and --seconds {given.seconds} must be more than 0")
    rounds, seconds = (2, 2.0) if given.quick else (given.rounds, given.seconds)
    return Options(
        tuple(given.models), tuple(given.sets), given.concurrency, rounds, seconds, not given.no_peers, given.json
    )


def bench(options: Options, console: Console) -> int:
    machine = this_machine()
    peers = find_peers() if options.with_peers else []
    console.print(f"{machine.processor}, {machine.cores} cores, load {machine.load:.1f}", highlight=False)
    cases: list[Case] = []
    with tempfile.TemporaryDirectory(prefix="fovea-bench-") as name:
        folder = Path(name)
        sets = make_sets(options.sets, folder, console)
        for model in options.models:
            console.print(f"Exporting {model} twice ...", highlight=False)
            artifacts = make_artifacts(model, folder / model, sets[0].paths[0].parent)
            for photographs in sets:
                cases.append(measure_case(artifacts, photographs, options, machine, peers, console))
    for case in cases:
        console.print()
        print_case(console, case)
    console.print()
    print_memory(console, cases)
    print_notes(console, cases, peers)
    if options.json:
        write_json(options.json, machine, {**vars(options), "json": str(options.json)}, cases, peers)
    return 1 if any(case.faults for case in cases) else 0


def make_sets(names: Sequence[str], folder: Path, console: Console) -> list[Photographs]:
    data = os.environ.get("FOVEA_TEST_DATA")
    small = small_photographs(folder / "small", Path(data) / "imagenet" / "samples" if data else None)
    sets = []
    for name in names:
        if name == "large":
            console.print("Enlarging photographs to 12 million pixels ...", highlight=False)
        sets.append(small if name == "small" else large_photographs(folder / "large", small))
    return sets


def measure_case(
    artifacts: Artifacts,
    photographs: Photographs,
    options: Options,
    machine: Machine,
    peers: Sequence[Peer],
    console: Console,
) -> Case:
    """All rounds of a model on a set. Everything is started before the first, and one thing at a time works."""
    case = Case(artifacts.model, artifacts.weights, photographs.describe())
    title = f"{artifacts.model}, {photographs.name}"
    with ExitStack() as stack:
        service = stack.enter_context(Service(artifacts))
        service.check(photographs.paths[:CHECKED])
        others = {
            peer.name: stack.enter_context(peer.start(artifacts, machine.cores)) for peer in peers if peer.start
        }
        loops = [
            stack.enter_context(Loops(kind, artifacts.folder, photographs.paths, machine.cores)) for kind in LOOPS
        ]
        for number in range(options.rounds):
            figures: dict[str, Figure] = {}
            case.rounds.append(figures)

            def keep(figure: Figure, number: int = number, figures: dict[str, Figure] = figures) -> None:
                figures[figure.step] = figure
                ratio = figure.rate / figures[LIMIT].rate
                fault = f", {figure.faults} FAILED: {figure.fault}" if figure.faults else ""
                console.print(
                    f"{title}, round {number + 1}/{options.rounds}, {figure.step}: {figure.rate:.1f}/s, "
                    f"{ratio:.2f} of the limit{fault}",
                    highlight=False,
                    markup=False,
                )
                time.sleep(PAUSE_S)

            for loop in loops:
                keep(loop.measure(options.seconds))
            for concurrency in options.concurrency:
                step = f"rest@{concurrency}"
                before = service.stages()
                figure = _load(step, service.target, photographs, concurrency, options)
                keep(replace(figure, stages=mean_stages(before, service.stages())))
            for name, target in others.items():
                concurrency = max(options.concurrency)
                keep(_load(f"{name}@{concurrency}", target, photographs, concurrency, options))
    return case


def _load(step: str, target: Target, photographs: Photographs, concurrency: int, options: Options) -> Figure:
    return measure_load(
        step, target, photographs.paths, concurrency=concurrency, seconds=options.seconds, ramp_s=RAMP_S
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(word) for word in _words(text))
    if not numbers or min(numbers) < 1:
        raise ValueError(f"{text!r} is no list of numbers above 0")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
