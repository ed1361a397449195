"""One case of the bench, a model on a set of photographs: its rounds, and what follows from them."""

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figure import Figure

LIMIT = "limit"
FOVEA_LOOP = "fovea-loop"
FOVEA, FOVEA_INT8 = "fovea", "fovea-int8"


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, the least and the most."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Trial:
    """A peer with some settings: images a second by number of requests under way, or why there are none."""

    settings: dict[str, Any]
    rates: dict[int, float] = field(default_factory=dict)
    fault: str = ""

    @property
    def score(self) -> float:
        """The geometric mean of the rates, so that a doubled rate counts the same anywhere; 0 after a fault."""
        return 0.0 if self.fault or not self.rates else statistics.geometric_mean(self.rates.values())


@dataclass(frozen=True)
class Entrant:
    """A peer as it was measured: the best of its `trials`. Fovea is measured as it is installed."""

    version: str
    settings: dict[str, Any]
    trials: list[Trial]


@dataclass
class Case:
    """`rounds` maps in each round the step to its figure. A ratio is always to the limit of the same round.

    `left_out` says of each peer that is not in the figures, or not in all rounds, why.
    """

    model: str
    weights: str
    photographs: dict[str, Any]
    rounds: list[dict[str, Figure]] = field(default_factory=list)
    entrants: dict[str, Entrant] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> list[str]:
        """The loops, Fovea, the peers by name; of each, fewer requests first. Rounds have orders of their own."""
        return sorted({step for figures in self.rounds for step in figures}, key=_place)

    @property
    def faults(self) -> int:
        return sum(figure.faults for figures in self.rounds for figure in figures.values())

    def figures(self, step: str) -> list[Figure]:
        return [figures[step] for figures in self._rounds_with(step)]

    def spread(self, step: str, value: Callable[[Figure], float]) -> Spread:
        return _spread([value(figure) for figure in self.figures(step)])

    def ratio(self, step: str) -> Spread:
        """Images a second to those of the plain limit."""
        return _spread([figures[step].rate / figures[LIMIT].rate for figures in self._rounds_with(step)])

    def outside(self, step: str) -> Spread:
        """Processor milliseconds for each image outside ONNX Runtime.

        Within a loop they are measured. For a server they are all its processor time less what Fovea's loop
        needed in the same round for one inference with one thread.
        """
        return _spread([_outside(figures, step) for figures in self._rounds_with(step)])

    def to_dict(self) -> dict[str, Any]:
        """Everything: the figures of every round, and the medians with their spread."""
        return {
            "model": self.model,
            "weights": self.weights,
            "photographs": self.photographs,
            "entrants": {name: dataclasses.asdict(entrant) for name, entrant in self.entrants.items()},
            "left_out": self.left_out,
            "steps": {step: self._summary(step) for step in self.steps},
            "rounds": [{step: figure.to_dict() for step, figure in figures.items()} for figures in self.rounds],
        }

    def _rounds_with(self, step: str) -> list[dict[str, Figure]]:
        return [figures for figures in self.rounds if step in figures]

    def _summary(self, step: str) -> dict[str, Any]:
        figures = self.figures(step)
        spreads = {
            "rate": self.spread(step, lambda figure: figure.rate),
            "ratio": self.ratio(step),
            "p50_ms": self.spread(step, lambda figure: figure.p50_ms),
            "p99_ms": self.spread(step, lambda figure: figure.p99_ms),
            "cpu_ms": self.spread(step, lambda figure: figure.cpu_ms),
            "outside_ms": self.outside(step),
            "others": self.spread(step, lambda figure: figure.others),
            "pss": self.spread(step, lambda figure: figure.pss),
        }
        if figures[0].cold_start_s is not None:
            spreads["cold_start_s"] = self.spread(step, lambda figure: figure.cold_start_s or 0.0)
        names = {name for figure in figures for name in figure.memory_of}
        memory = {name: max(figure.memory_of.get(name, 0) for figure in figures) for name in sorted(names)}
        faults = sum(figure.faults for figure in figures)
        return {
            **{
                name: {key: round(number, 4) for key, number in vars(spread).items()}
                for name, spread in spreads.items()
            },
            "resident_bytes": memory,
            "faults": faults,
            "valid": faults == 0,
        }


def _place(step: str) -> tuple[int, str, int]:
    name, _, concurrency = step.partition("@")
    first = (LIMIT, FOVEA_LOOP, FOVEA, FOVEA_INT8)
    return (first.index(name) if name in first else len(first), name, int(concurrency or 0))


def _outside(figures: dict[str, Figure], step: str) -> float:
    figure = figures[step]
    inference_ms = figure.inference_ms if figure.inference_ms is not None else figures[FOVEA_LOOP].inference_ms
    return figure.cpu_ms - (inference_ms or 0.0)


def _spread(values: list[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))
