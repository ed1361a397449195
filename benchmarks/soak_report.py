"""The verdict on a soak, as a table for people and as JSON for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.mixed_load import Tally
from benchmarks.sampling import Process
from benchmarks.trend import Trend, is_constant, is_flat, least, trend

MEGABYTE = 2**20
SHOWN_LEFT = 20
# Pools of connections and of threads keep what the highest peak needed, which may come late. One of SQLite's
# connections has two descriptors.
MORE_DESCRIPTORS = 4
MORE_THREADS = 2


@dataclass(frozen=True)
class Judged:
    """One process after the warm-up; `wrong` says in words what it does not hold."""

    role: str
    rss: Trend
    uss: Trend
    most_rss: int
    descriptors: tuple[float, float]
    threads: tuple[float, float]
    wrong: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "rss": self.rss.to_dict(), "uss": self.uss.to_dict()}


@dataclass(frozen=True)
class Verdict:
    judged: tuple[Judged, ...]
    wrong: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.wrong and not any(process.wrong for process in self.judged)

    def to_dict(self) -> dict[str, Any]:
        return {"holds": self.holds, "judged": [one.to_dict() for one in self.judged], "wrong": self.wrong}


def judge(
    processes: Sequence[Process], warm_up_s: float, left: Sequence[str], faults: Sequence[str], expected: set[str]
) -> Verdict:
    """Every role in `expected` must have lived as one process. Raises ValueError for too short a run."""
    wrong = [f"a file that nothing owns: {path}" for path in left[:SHOWN_LEFT]]
    if len(left) > SHOWN_LEFT:
        wrong.append(f"and {len(left) - SHOWN_LEFT} more files that nothing owns")
    wrong += [f"an answer that was not expected: {fault}" for fault in faults]
    for role in sorted(expected):
        lived = sum(process.role == role for process in processes)
        if lived != 1:
            wrong.append(f"{role}: {lived} processes were seen instead of one; it was started again, or never")
    once = [process for process in processes if sum(other.role == process.role for other in processes) == 1]
    return Verdict(tuple(_judge(process, warm_up_s) for process in once), tuple(wrong))


def _judge(process: Process, warm_up_s: float) -> Judged:
    samples = [sample for sample in process.samples if sample.at >= warm_up_s]
    seconds = [sample.at for sample in samples]
    rss, uss = (
        trend(seconds, [sample.rss for sample in samples]),
        trend(seconds, [sample.uss for sample in samples]),
    )
    descriptors, threads = [sample.descriptors for sample in samples], [sample.threads for sample in samples]
    wrong = []
    # What a process shares with others comes and goes with them.
    if not is_flat(rss) and not is_flat(uss):
        wrong.append(f"memory grows by {rss.per_hour / MEGABYTE:.0f} MB an hour")
    for name, values, more in (
        ("descriptors", descriptors, MORE_DESCRIPTORS),
        ("threads", threads, MORE_THREADS),
    ):
        if not is_constant(values, more):
            first, last = least(values)
            wrong.append(f"{name} grow from {first:.0f} to {last:.0f}")
    return Judged(
        process.role,
        rss,
        uss,
        max(sample.rss for sample in process.samples),
        least(descriptors),
        least(threads),
        tuple(wrong),
    )


def show(console: Console, verdict: Verdict, tally: Tally) -> None:
    table = Table(
        title="After the warm-up: medians of the first and the last third",
        caption="growth: by the slope of Theil and Sen over the whole time, or by the thirds where that is less",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("process")
    for heading in ("RSS MB", "USS MB", "most RSS", "growth", "MB an hour", "descriptors", "threads", ""):
        table.add_column(heading, justify="right")
    for one in verdict.judged:
        table.add_row(
            one.role,
            f"{one.rss.first / MEGABYTE:.1f} to {one.rss.last / MEGABYTE:.1f}",
            f"{one.uss.first / MEGABYTE:.1f} to {one.uss.last / MEGABYTE:.1f}",
            f"{one.most_rss / MEGABYTE:.1f}",
            f"{one.rss.share:+.1%}",
            f"{one.rss.per_hour / MEGABYTE:+.1f}",
            "{:.0f} to {:.0f}".format(*one.descriptors),
            "{:.0f} to {:.0f}".format(*one.threads),
            "; ".join(one.wrong) or "flat",
        )
    console.print(table)
    done = ", ".join(f"{count} {what}" for what, count in sorted(tally.done.items()))
    console.print(f"Done: {done}", highlight=False, markup=False)
    if tally.busy:
        console.print(f"Told to come again: {dict(tally.busy)}", highlight=False, markup=False)
    for line in verdict.wrong:
        console.print(line, style="red", highlight=False, markup=False)
