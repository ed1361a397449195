"""The cases as tables for people and as JSON for programs. Measures nothing."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.case import FOVEA_LOOP, LIMIT, Case, Spread
from benchmarks.machine import Machine
from benchmarks.peers.sweep import shown

# Above this share of the processor used by others, a figure says more about them than about Fovea.
DISTURBED = 0.05
MEGABYTE = 2**20
# Where the output goes to a file there is no terminal to ask.
PIPED_WIDTH = 165

HEADINGS = (
    "images/s", "of the limit", "p50 ms", "p99 ms", "CPU ms", "outside ORT", "others", "MB", "start s", "batch"
)  # fmt: skip

MEANING = {
    LIMIT: "Pillow decodes all, numpy, one ONNX Runtime thread; one process per core, no HTTP",
    FOVEA_LOOP: "Fovea's preprocessing and session settings; one process per core",
}


def print_case(console: Console, case: Case) -> None:
    photographs = case.photographs
    table = Table(
        title=f"{case.model}, {photographs['name']} photographs: {photographs['width']}x{photographs['height']}, "
        f"{photographs['mean_bytes'] / 1000:.0f} kB, {photographs['count']} of them ({photographs['origin']})",
        caption=f"Medians of {len(case.rounds)} rounds (least to most). Weights: {case.weights}.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("step")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for step in case.steps:
        table.add_row(step, *_row(case, step))
    console.print(table)
    for step in case.steps:
        faulty = next((figure for figure in case.figures(step) if figure.faults), None)
        if faulty:
            console.print(f"[red]{step} is void: {faulty.faults} failed requests, the first: {faulty.fault}[/]")


def print_memory(console: Console, cases: Sequence[Case]) -> None:
    table = Table(title="Memory: the most resident megabytes of each process", title_justify="left")
    for heading in ("model", "photographs", "step", "process"):
        table.add_column(heading)
    table.add_column("MB", justify="right")
    for case in cases:
        for step, process, size in _memory(case):
            table.add_row(case.model, case.photographs["name"], step, process, f"{size / MEGABYTE:.0f}")
    console.print(table)


def print_peers(console: Console, case: Case) -> None:
    """The settings that the peers were measured with, and the peers that were not."""
    for name, entrant in case.entrants.items():
        console.print(f"{name}: {entrant.version}; {shown(entrant.settings)}", highlight=False)
    for name, reason in case.left_out.items():
        console.print(f"{name} was left out: {reason}", style="red", highlight=False, markup=False)


def print_notes(console: Console, cases: Sequence[Case]) -> None:
    for step, meaning in MEANING.items():
        console.print(f"{step}: {meaning}", highlight=False)
    console.print(
        "outside ORT: processor time per image that is not inference; others: share of the machine's processor "
        "time that somebody else used; MB: of all processes, shared pages counted once (PSS); start: from the "
        "start of the processes to the first right answer",
        highlight=False,
    )
    disturbed = [
        figure.others for case in cases for figures in case.rounds for figure in figures.values()
        if figure.others > DISTURBED
    ]  # fmt: skip
    if disturbed:
        console.print(
            f"[yellow]The machine was not quiet: in {len(disturbed)} steps others used up to {max(disturbed):.0%} "
            "of it. Only the ratios within a round mean something; repeat for figures to keep.[/]"
        )


def write_json(
    path: Path, machine: Machine, command: str, settings: dict[str, Any], cases: Sequence[Case]
) -> None:
    """`command` repeats the run."""
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "machine": machine.to_dict(),
        "settings": settings,
        "cases": [case.to_dict() for case in cases],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _row(case: Case, step: str) -> list[str]:
    figures = case.figures(step)
    if any(figure.faults for figure in figures):
        return ["void"] * (len(HEADINGS) - 1) + [""]
    batch = case.spread(step, lambda figure: figure.stages.get("batch", 0.0)).median
    return [
        _shown(case.spread(step, lambda figure: figure.rate), 1),
        _shown(case.ratio(step), 2),
        f"{case.spread(step, lambda figure: figure.p50_ms).median:.1f}",
        f"{case.spread(step, lambda figure: figure.p99_ms).median:.1f}",
        f"{case.spread(step, lambda figure: figure.cpu_ms).median:.2f}",
        _shown(case.outside(step), 2),
        f"{case.spread(step, lambda figure: figure.others).median:.0%}",
        f"{case.spread(step, lambda figure: figure.pss).median / MEGABYTE:.0f}",
        f"{case.spread(step, lambda figure: figure.cold_start_s or 0.0).median:.1f}" if "@" in step else "",
        f"{batch:.1f}" if batch else "",
    ]


def _shown(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f} to {spread.high:.{digits}f})"


def _memory(case: Case) -> list[tuple[str, str, int]]:
    """Step, process and most bytes in all rounds; of a server, the most at any concurrency."""
    most: dict[tuple[str, str], int] = {}
    for figures in case.rounds:
        for step, figure in figures.items():
            for process, size in figure.memory_of.items():
                key = (step.partition("@")[0], process)
                most[key] = max(size, most.get(key, 0))
    return [(step, process, size) for (step, process), size in most.items()]
