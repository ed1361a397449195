"""The settings of a peer that are the fastest here: each is tried for some seconds before the rounds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from benchmarks.answers import AnswerWrong, NoAnswer
from benchmarks.case import Trial
from benchmarks.figure import Figure
from benchmarks.load import LoadFailed, Target
from benchmarks.processes import come_to_rest
from benchmarks.server import Server, ServerFailed, Settings

CONCURRENCY = (8, 32)
MOST_PAUSE_S = 5.0

# What ends a server's part in a run, and not the run.
FAULTS = (ServerFailed, AnswerWrong, NoAnswer, LoadFailed, psutil.NoSuchProcess)

Load = Callable[[Target, int], Figure]


def try_all(server_with: Callable[[Settings], Server], sweep: Sequence[Settings], load: Load) -> list[Trial]:
    """Each of the settings, in their order, at 8 and at 32 requests under way."""
    return [_try(server_with(settings), settings, load) for settings in sweep]


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The highest geometric mean of the rates; the first of equals; None when every one had a fault."""
    best = max(trials, key=lambda trial: trial.score)
    return None if best.fault else best


def shown(settings: Mapping[str, Any]) -> str:
    """As `workers 2, batch 8`."""
    return ", ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in settings.items())


def _word(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _try(server: Server, settings: Settings, load: Load) -> Trial:
    rates: dict[int, float] = {}
    try:
        with server.start() as running:
            for concurrency in CONCURRENCY:
                come_to_rest(running.target.pids, MOST_PAUSE_S)
                figure = load(running.target, concurrency)
                if figure.faults:
                    return Trial(dict(settings), rates, f"{figure.faults} failed requests: {figure.fault}")
                rates[concurrency] = figure.rate
    except FAULTS as error:
        return Trial(dict(settings), rates, str(error))
    return Trial(dict(settings), rates)
