"""What the check of a dataset found, as tables for people."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from cli.output import print_table
from fovea_client import Report

_MOST_LISTED = 20
_UNSPLIT = "all"
_SPLITS = ("train", "val", "test", _UNSPLIT)


def print_report(report: Report, dataset: str, *, every_fault: bool = False) -> None:
    """Counts by class and split, faults, and in red why it was refused."""
    if report.revision:
        _print_changes(report.revision)
    if report.counts:
        _print_counts(report)
    faults = report.faults
    if faults:
        _print_faults(report, dataset, faults if every_fault else faults[:_MOST_LISTED])
    for refusal in report.refusals:
        _print_red(f"refused: {refusal}")


def counts_by_split(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """All classes together."""
    found = {split for by_split in counts.values() for split in by_split}
    return {split: sum(c.get(split, 0) for c in counts.values()) for split in _SPLITS if split in found}


def in_words(totals: dict[str, int]) -> str:
    """`12 train, 4 val`, or only the number where there are no splits."""
    return ", ".join(str(n) if split == _UNSPLIT else f"{n} {split}" for split, n in totals.items())


def _print_changes(revision: Mapping[str, Any]) -> None:
    rows = [("relabelled", f"{c['from']} to {c['to']}", str(c["images"])) for c in revision["relabelled"]]
    rows += [("moved", f"{c['from']} to {c['to']}", str(c["images"])) for c in revision["moved"]]
    rows += [(what, label, str(n)) for what in ("removed", "added") for label, n in revision[what].items()]
    if rows:
        print_table(("change", "class", "images"), rows, right=("images",))
        print()


def _print_counts(report: Report) -> None:
    counts = report.counts
    totals = counts_by_split(counts)
    names = ["images" if split == _UNSPLIT else split for split in totals]
    rows = [(label, *(str(by_split.get(split, 0)) for split in totals)) for label, by_split in counts.items()]
    if len(rows) > 1:
        rows.append(("together", *(str(n) for n in totals.values())))
    print_table(("class", *names), rows)
    sent = f"{report.images} images" if report.revision else f"{report.images} images of {report.files} files"
    litter = f", {report.litter} files of litter" if report.litter else ""
    print(f"\n{sent}{litter}; {_sizes(report)}")


def _sizes(report: Report) -> str:
    words = [", ".join(f"{n} {name}" for name, n in report.formats.items())]
    for side, spread in (("width", report.width), ("height", report.height)):
        if spread:
            words.append(f"{side} {spread['min']} to {spread['max']} pixels")
    return ", ".join(word for word in words if word)


def _print_faults(report: Report, dataset: str, listed: Sequence[Mapping[str, Any]]) -> None:
    print()
    print_table(("fault", "file", "reason"), _fault_rows(listed))
    by_code = report.faults_by_code
    total = sum(by_code.values()) or len(listed)
    if total > len(listed):
        in_short = ", ".join(f"{n} {code}" for code, n in by_code.items())
        print(f"\n{len(listed)} of {total} faults ({in_short}); all: fovea datasets report {dataset} --all")


def _fault_rows(faults: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str | Text, ...]]:
    for fault in faults:
        colour = "red" if fault.get("severity") == "error" else "yellow"
        related = f" ({fault['related']})" if fault.get("related") else ""
        where = fault.get("file") or fault.get("label") or ""
        yield Text(str(fault["code"]), colour), where, fault["reason"] + related


def _print_red(line: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if sys.stdout.isatty():
        console.print(Text(line, "bold red"))
    else:
        print(line)
