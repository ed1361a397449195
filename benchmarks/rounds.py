"""All rounds of one case: everything that is measured, one after another, in another order each round."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.answers import expect
from benchmarks.artifacts import Artifacts
from benchmarks.case import FOVEA_LOOP, LIMIT, Case, Entrant
from benchmarks.figure import Figure
from benchmarks.limit import FoveaClassifier
from benchmarks.load import Target, measure_load
from benchmarks.loop import Loops
from benchmarks.peers.peer import Peer
from benchmarks.peers.running import PeerServer
from benchmarks.peers.sweep import FAULTS, best_of, shown, try_all
from benchmarks.photographs import Photographs
from benchmarks.plain import PlainClassifier, softmax
from benchmarks.processes import come_to_rest
from benchmarks.rest import FoveaServer, mean_stages
from benchmarks.server import Running, Server, Settings
from models.artifact import FLOAT32, Precision

LOOPS = (LIMIT, FOVEA_LOOP)
RAMP_S = 1.0
# A server's first seconds are in no figure: processes that have just been started compile, allocate, connect.
WARM_UP_S = 2.0
TRIAL_S = 2.0
# Between loops, and at most between the steps of a server, which finishes what the client has cut off.
PAUSE_S = 0.4
MOST_PAUSE_S = 5.0
# Photographs that every server has to answer as the model alone does, each time it is started.
CHECKED = 10

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Installed:
    """A peer with its environment."""

    peer: Peer
    python: Path
    version: str


@dataclass(frozen=True)
class Plan:
    """How often, how long and at how many requests under way everything is measured, Fovea in each precision."""

    rounds: int
    seconds: float
    concurrency: Sequence[int]
    cores: int
    precisions: Sequence[Precision] = (FLOAT32,)


def measure_case(
    artifacts: Artifacts, photographs: Photographs, plan: Plan, peers: Sequence[Installed], say: Say
) -> Case:
    """Raises ServerFailed, NoAnswer, AnswerWrong and LoadFailed for Fovea; a peer's are in `Case.left_out`."""
    case = Case(artifacts.model, artifacts.weights, photographs.describe())
    servers = _choose(case, artifacts, photographs, plan, peers, say)
    with ExitStack() as stack:
        loops = [
            stack.enter_context(Loops(kind, artifacts.folder, photographs.paths, plan.cores)) for kind in LOOPS
        ]
        for number in range(plan.rounds):
            figures: dict[str, Figure] = {}
            for turn in order(number, [*loops, *servers]):
                if isinstance(turn, Loops):
                    figures[turn.kind] = turn.measure(plan.seconds)
                    time.sleep(PAUSE_S)
                elif turn.name not in case.left_out:
                    figures |= _measure(turn, photographs, plan, number, case)
            case.rounds.append(figures)
            _tell(case, number, plan, say)
    return case


def order(number: int, turns: Sequence[T]) -> list[T]:
    """The turns of that round, shuffled, so that none follows the same one in all rounds."""
    return random.Random(number).sample(turns, len(turns))


def _choose(
    case: Case,
    artifacts: Artifacts,
    photographs: Photographs,
    plan: Plan,
    peers: Sequence[Installed],
    say: Say,
) -> list[Server]:
    """Fovea as it is, and each peer with the best of its settings."""
    checked = photographs.paths[:CHECKED]
    servers: list[Server] = []
    for precision in plan.precisions:
        fovea = FoveaClassifier(artifacts.folder, precision)

        def alone(data: bytes, fovea: FoveaClassifier = fovea) -> NDArray[np.float32]:
            answer: NDArray[np.float32] = fovea.infer(fovea.prepare(data))[0]
            return answer

        servers.append(FoveaServer(artifacts, expect(checked, alone), precision))
    plain = PlainClassifier(artifacts.folder)
    expected = expect(checked, lambda data: softmax(plain.infer(plain.prepare(data)))[0])

    def load(target: Target, concurrency: int) -> Figure:
        return _load("trial", target, photographs, concurrency, min(TRIAL_S, plan.seconds))

    for installed in peers:
        peer = installed.peer

        def server_with(settings: Settings, installed: Installed = installed) -> PeerServer:
            return PeerServer(installed.peer, installed.python, artifacts.folder, expected, settings)

        trials = try_all(server_with, peer.sweep(plan.cores), load)
        best = best_of(trials)
        for trial in trials:
            rates = ", ".join(f"{rate:.1f}/s at {concurrency}" for concurrency, rate in trial.rates.items())
            verdict = "chosen" if trial is best else trial.fault
            say(f"{peer.name}, {shown(trial.settings)}: {rates} {verdict}")
        if best is None:
            case.left_out[peer.name] = trials[0].fault
            continue
        case.entrants[peer.name] = Entrant(installed.version, best.settings, trials)
        servers.append(server_with(best.settings))
    return servers


def _measure(server: Server, photographs: Photographs, plan: Plan, number: int, case: Case) -> dict[str, Figure]:
    """A server's turn: started, warmed up, measured and stopped, so that nothing idle is beside the others."""
    figures: dict[str, Figure] = {}
    try:
        with server.start() as running:
            _load("warm-up", running.target, photographs, max(plan.concurrency), WARM_UP_S)
            for concurrency in order(number, plan.concurrency):
                step = f"{server.name}@{concurrency}"
                come_to_rest(running.target.pids, MOST_PAUSE_S)
                figures[step] = _step(step, running, photographs, concurrency, plan.seconds)
    except FAULTS as error:
        if isinstance(server, FoveaServer):
            raise
        case.left_out[server.name] = f"in round {number + 1}: {error}"
    return figures


def _step(step: str, running: Running, photographs: Photographs, concurrency: int, seconds: float) -> Figure:
    before = running.stages() if running.stages else {}
    figure = _load(step, running.target, photographs, concurrency, seconds)
    stages = mean_stages(before, running.stages()) if running.stages else {}
    return replace(figure, stages=stages, cold_start_s=running.cold_start_s)


def _load(step: str, target: Target, photographs: Photographs, concurrency: int, seconds: float) -> Figure:
    return measure_load(step, target, photographs.paths, concurrency=concurrency, seconds=seconds, ramp_s=RAMP_S)


def _tell(case: Case, number: int, plan: Plan, say: Say) -> None:
    figures = case.rounds[number]
    for step in case.steps:
        if figure := figures.get(step):
            fault = f", {figure.faults} FAILED: {figure.fault}" if figure.faults else ""
            say(
                f"{case.model}, {case.photographs['name']}, round {number + 1}/{plan.rounds}, {step}: "
                f"{figure.rate:.1f}/s, {figure.rate / figures[LIMIT].rate:.2f} of the limit{fault}"
            )
