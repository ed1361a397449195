"""Which of a peer's settings it is measured with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from benchmarks.case import Trial
from benchmarks.figure import Figure
from benchmarks.load import LoadFailed, Target
from benchmarks.peers.sweep import best_of, shown, try_all
from benchmarks.server import Running, ServerFailed, Settings


@dataclass(frozen=True)
class Tried:
    """A server whose address is its setting; `broken` ones do not start."""

    settings: Settings
    name: str = "tried"

    @contextmanager
    def start(self) -> Iterator[Running]:
        if self.settings["workers"] == "broken":
            raise ServerFailed("it ended with code 1")
        yield Running(Target(str(self.settings["workers"]), {}), cold_start_s=1.0)


def figure(rate: float, faults: int = 0) -> Figure:
    return Figure(
        step="trial", images=int(rate), seconds=1.0, p50_ms=1.0, p99_ms=1.0, cpu_ms=1.0, others=0.0,
        faults=faults, fault="503 full" if faults else "",
    )  # fmt: skip


def tried(*settings: object, rates: dict[str, dict[int, float]]) -> list[Trial]:
    def load(target: Target, concurrency: int) -> Figure:
        if target.url == "silent":
            raise LoadFailed("no answer came")
        return figure(rates[target.url][concurrency], faults=2 if target.url == "full" else 0)

    return try_all(Tried, [{"workers": word} for word in settings], load)


def test_the_best_is_that_with_the_highest_rates_at_8_and_at_32_together() -> None:
    rates = {"1": {8: 100.0, 32: 90.0}, "2": {8: 95.0, 32: 190.0}, "3": {8: 40.0, 32: 200.0}}

    best = best_of(tried("1", "2", "3", rates=rates))

    assert best is not None
    assert best.settings == {"workers": "2"}
    assert best.rates == {8: 95.0, 32: 190.0}


def test_settings_with_a_fault_are_not_chosen_however_fast() -> None:
    rates = {"full": {8: 900.0, 32: 900.0}, "2": {8: 10.0, 32: 10.0}}

    trials = tried("full", "broken", "silent", "2", rates=rates)
    best = best_of(trials)

    assert [trial.fault for trial in trials] == [
        "2 failed requests: 503 full", "it ended with code 1", "no answer came", ""
    ]  # fmt: skip
    assert best is trials[3]


def test_of_equals_the_first_is_chosen_and_of_failures_none() -> None:
    rates = {"1": {8: 5.0, 32: 5.0}, "2": {8: 5.0, 32: 5.0}}

    trials = tried("1", "2", rates=rates)

    assert best_of(trials) is trials[0]
    assert best_of(tried("broken", "silent", rates={})) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 2, "wait_ms": 5}, "workers 2, wait ms 5"),
        ({"fast_queue": True, "batch": 1}, "fast queue on, batch 1"),
    ],
)
def test_settings_are_told_in_words(settings: dict[str, object], words: str) -> None:
    assert shown(settings) == words
