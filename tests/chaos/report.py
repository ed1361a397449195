"""The table of a chaos run: what each fault did, how often, and what it broke."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from chaos.ledger import CALM, Entry, Ledger, Window
from chaos.snapshot import Snapshot
from chaos.verify import DOUBLE, LOSS, MAKES_JOB, WRONG_ANSWER, Finding, job_of

COLUMNS = ("fault", "times", "losses", "doubles", "wrong", "other", "slowest", "failed jobs", "told")


@dataclass
class Row:
    """`failed_jobs` were accepted after that fault began and ended as failed; `told` counts errors by code."""

    times: int = 0
    losses: int = 0
    doubles: int = 0
    wrong_answers: int = 0
    other: int = 0
    slowest_recovery_s: float = 0.0
    failed_jobs: int = 0
    told: Counter[str] = field(default_factory=Counter)


@dataclass
class Run:
    """One seed on one form of Fovea."""

    seed: int
    site: str
    requests: int
    answers: Counter[str]
    jobs: Counter[str]
    findings: list[Finding]
    rows: dict[str, Row]
    minutes: float


def make_run(
    seed: int, site: str, minutes: float, ledger: Ledger, snapshot: Snapshot, findings: Sequence[Finding]
) -> Run:
    rows = {CALM: Row()}
    for window in ledger.windows:
        row = rows.setdefault(window.fault, Row())
        row.times += 1
        row.slowest_recovery_s = max(row.slowest_recovery_s, window.recovery_s)
    for finding in findings:
        row = rows.setdefault(finding.fault, Row())
        row.losses += finding.kind == LOSS
        row.doubles += finding.kind == DOUBLE
        row.wrong_answers += finding.kind == WRONG_ANSWER
        row.other += finding.kind not in (LOSS, DOUBLE, WRONG_ANSWER)
    accepted = {job_of(entry): entry for entry in ledger.of(*MAKES_JOB) if entry.is_accepted}
    for job, entry in accepted.items():
        if snapshot.jobs.get(job, {}).get("state") == "failed":
            rows[ledger.fault_at(entry.ended)].failed_jobs += 1
    for entry in ledger.entries:
        if not entry.is_accepted:
            rows[_fault_of(entry, ledger.windows)].told[entry.code] += 1
    return Run(
        seed,
        site,
        len(ledger.entries),
        Counter("accepted" if entry.is_accepted else entry.code for entry in ledger.entries),
        Counter(f"{job['kind']} {job['state']}" for job in snapshot.jobs.values()),
        list(findings),
        rows,
        minutes,
    )


def merged(runs: Sequence[Run]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for run in runs:
        for fault, row in run.rows.items():
            whole = rows.setdefault(fault, Row())
            for name in ("times", "losses", "doubles", "wrong_answers", "other", "failed_jobs"):
                setattr(whole, name, getattr(whole, name) + getattr(row, name))
            whole.slowest_recovery_s = max(whole.slowest_recovery_s, row.slowest_recovery_s)
            whole.told += row.told
    return rows


def table(rows: dict[str, Row]) -> str:
    names = sorted(rows, key=lambda name: (name == CALM, name))
    lines = [COLUMNS, *(_cells(name, rows[name]) for name in names)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(cells, widths) for cells in lines)


def _cells(fault: str, row: Row) -> tuple[str, ...]:
    told = ", ".join(f"{count} {code}" for code, count in row.told.most_common())
    numbers = (row.times, row.losses, row.doubles, row.wrong_answers, row.other)
    return (fault, *map(str, numbers), f"{row.slowest_recovery_s:.1f} s", str(row.failed_jobs), told)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *numbers, last = cells
    middle = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *middle, last]).rstrip()


def _plain(value: Any) -> Any:
    """Counters become dicts, which `asdict` does not know how to copy."""
    if isinstance(value, Counter | dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return _plain(vars(value)) if is_dataclass(value) else value


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    return {"runs": _plain(list(runs)), "faults": _plain(merged(runs))}


def _fault_of(entry: Entry, windows: Sequence[Window]) -> str:
    """The fault during which it was told; `calm` outside of every one."""
    met = [window.fault for window in windows if entry.began <= window.over and entry.ended >= window.began]
    return met[-1] if met else CALM
