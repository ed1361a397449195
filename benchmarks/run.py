"""`python -m benchmarks.run`: Fovea against this machine's limit and against its peers, in one run."""

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.answers import AnswerWrong, NoAnswer
from benchmarks.artifacts import ExportProcessFailed, make_artifacts
from benchmarks.case import Case
from benchmarks.load import LoadFailed, WrkMissing, require_wrk
from benchmarks.loop import ChildEnded
from benchmarks.machine import this_machine
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environment import PeerUnavailable, default_cache, install, version
from benchmarks.photographs import Photographs, large_photographs, small_photographs
from benchmarks.report import PIPED_WIDTH, print_case, print_memory, print_notes, print_peers, write_json
from benchmarks.rounds import Installed, Plan, measure_case
from benchmarks.server import ServerFailed
from models.artifact import Precision

MODELS = ("mobilenet_v2", "mobilenet_v1_025")
SETS = ("small", "large")
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
# The peer that needs nothing which Fovea does not bring.
ALWAYS = ("bare-fastapi",)


@dataclass(frozen=True)
class Options:
    models: tuple[str, ...]
    sets: tuple[str, ...]
    concurrency: tuple[int, ...]
    rounds: int
    seconds: float
    precisions: tuple[Precision, ...]
    peers: tuple[str, ...]
    cache: Path
    json: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    errors = Console(stderr=True)
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_wrk()
        return bench(options, console, command(sys.argv[1:] if arguments is None else arguments))
    except WrkMissing as error:
        errors.print(str(error), style="red", highlight=False)
        return 2
    except (ExportProcessFailed, ServerFailed, AnswerWrong, NoAnswer, LoadFailed, ChildEnded) as error:
        errors.print(str(error), style="red", highlight=False, markup=False)
        return 1
    except KeyboardInterrupt:
        errors.print("Interrupted; of the case that was being measured nothing was written.")
        return 130


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--models", type=_words, default=MODELS, help="of the zoo (%(default)s)")
    parser.add_argument("--sets", type=_words, default=SETS, help="small, large or both (%(default)s)")
    parser.add_argument("--concurrency", type=_numbers, default=(1, 8, 32), help="(%(default)s)")
    parser.add_argument("--precisions", type=_words, default=PRECISIONS, help="Fovea's, of %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each step (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="two rounds of two seconds: does it work at all")
    parser.add_argument(
        "--peers",
        type=_words,
        default=ALWAYS,
        help=f"'all', 'none', or of {', '.join(PEERS)}; what is not installed yet will be (%(default)s)",
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="for the peers (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as well")
    given = parser.parse_args(arguments)
    if unknown := set(given.sets) - set(SETS):
        parser.error(f"--sets knows {' and '.join(SETS)}, not {', '.join(sorted(unknown))}")
    if given.rounds < 1 or given.seconds <= 0:
        parser.error(f"--rounds {given.rounds} and --seconds {given.seconds} must be more than 0")
    if unknown := set(given.precisions) - set(PRECISIONS):
        parser.error(f"--precisions knows {' and '.join(PRECISIONS)}, not {', '.join(sorted(unknown))}")
    peers = {("all",): tuple(PEERS), ("none",): ()}.get(given.peers, given.peers)
    if unknown := set(peers) - set(PEERS):
        parser.error(f"--peers knows all, none, {', '.join(PEERS)}, not {', '.join(sorted(unknown))}")
    rounds, seconds = (2, 2.0) if given.quick else (given.rounds, given.seconds)
    return Options(
        tuple(given.models),
        tuple(given.sets),
        given.concurrency,
        rounds,
        seconds,
        given.precisions,
        peers,
        given.cache.expanduser().absolute(),
        given.json,
    )


def command(arguments: Sequence[str]) -> str:
    """What repeats the run, without where this machine keeps its files."""
    kept: list[str] = []
    paths = ("--json", "--cache")
    for number, word in enumerate(arguments):
        if word.partition("=")[0] not in paths and (not number or arguments[number - 1] not in paths):
            kept.append(word)
    return shlex.join(["python", "-m", "benchmarks.run", *kept])


def bench(options: Options, console: Console, repeated_by: str) -> int:
    """Measure, show and write; 0 where everything that was asked for was measured and every answer was 200."""
    machine = this_machine()
    console.print(f"{machine.processor}, {machine.cores} cores, load {machine.load:.1f}", highlight=False)
    peers, unavailable = install_peers(options, console)
    plan = Plan(options.rounds, options.seconds, options.concurrency, machine.cores, options.precisions)
    cases: list[Case] = []
    with tempfile.TemporaryDirectory(prefix="fovea-bench-") as name:
        folder = Path(name)
        sets = make_sets(options.sets, folder, console)
        for model in options.models:
            console.print(f"Exporting {model} twice ...", highlight=False)
            artifacts = make_artifacts(model, folder / model, sets[0].paths[0].parent)
            for photographs in sets:
                case = measure_case(
                    artifacts,
                    photographs,
                    plan,
                    peers,
                    lambda line: console.print(line, highlight=False, markup=False),
                )
                case.left_out |= unavailable
                cases.append(case)
                if options.json:
                    # After each case: an hour of measuring outlives what breaks in the next.
                    write_json(options.json, machine, repeated_by, vars(plan), cases)
    for case in cases:
        console.print()
        print_case(console, case)
        print_peers(console, case)
    console.print()
    print_memory(console, cases)
    print_notes(console, cases)
    return 1 if any(case.faults or case.left_out for case in cases) else 0


def install_peers(options: Options, console: Console) -> tuple[list[Installed], dict[str, str]]:
    """Those that can be had, and why the others cannot."""
    installed: list[Installed] = []
    unavailable: dict[str, str] = {}
    for name in options.peers:
        peer = PEERS[name]
        if peer.requirements:
            console.print(f"Installing {name} into {options.cache} where it is not yet ...", highlight=False)
        try:
            python = install(peer, options.cache)
        except PeerUnavailable as error:
            console.print(str(error), style="red", highlight=False, markup=False)
            unavailable[name] = str(error)
            continue
        installed.append(Installed(peer, python, version(peer, python)))
    return installed, unavailable


def make_sets(names: Sequence[str], folder: Path, console: Console) -> list[Photographs]:
    data = os.environ.get("FOVEA_TEST_DATA")
    small = small_photographs(folder / "small", Path(data) / "imagenet" / "samples" if data else None)
    sets = []
    for name in names:
        if name == "large":
            console.print("Enlarging photographs to 12 million pixels ...", highlight=False)
        sets.append(small if name == "small" else large_photographs(folder / "large", small))
    return sets


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(word) for word in _words(text))
    if not numbers or min(numbers) < 1:
        raise ValueError(f"{text!r} is no list of numbers above 0")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
