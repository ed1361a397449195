"""`fovea doctor`: what this machine has, what it lacks, and what to do about it. Needs nothing that runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import AsJson, Data

if TYPE_CHECKING:
    from cli.checks import CheckResult


def doctor(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Say what this machine has and lacks. Exit code 1 when something would keep Fovea from working."""
    import dataclasses

    from cli.checks import Level, run_checks
    from cli.output import print_json

    weights = Path(os.environ.get("FOVEA_WEIGHTS_DIR") or data / "weights")
    findings = run_checks(data, weights)
    ok = all(finding.level != Level.PROBLEM for finding in findings)
    if as_json:
        print_json({"ok": ok, "checks": [dataclasses.asdict(finding) for finding in findings]})
    else:
        _show(findings, ok)
    if not ok:
        raise typer.Exit(1)


def _show(findings: "list[CheckResult]", ok: bool) -> None:
    from rich.text import Text

    from cli.checks import Level
    from cli.output import print_table

    marks = {
        Level.OK: Text("ok", style="green"),
        Level.WARNING: Text("warning", style="yellow"),
        Level.PROBLEM: Text("PROBLEM", style="bold red"),
    }
    print_table(
        ("", "", ""),
        (
            (marks[finding.level], finding.name, finding.detail + (f"\n-> {finding.fix}" if finding.fix else ""))
            for finding in findings
        ),
    )
    print("\nNothing here keeps Fovea from working." if ok else "\nSomething here keeps Fovea from working.")
