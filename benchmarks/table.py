"""The tables of docs/benchmarks.md, from a run or several: `python -m benchmarks.table bench.json [--write]`.

Without `--write` they are printed. Nothing in them is typed by hand.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import FOVEA, FOVEA_INT8, LIMIT
from benchmarks.peers.sweep import shown

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN = "<!-- generated: bench -->"
END = "<!-- end -->"
MEGABYTE = 2**20

Steps = Mapping[str, Any]


def tables(document: Mapping[str, Any]) -> str:
    """Markdown. Raises KeyError for what is not the JSON of a run of this release."""
    machine, settings = document["machine"], document["settings"]
    lines = [
        f"{document['date']}, {machine['cores']} cores ({machine['processor']}), `{document['command']}`: medians "
        f"of {settings['rounds']} rounds of {settings['seconds']:g} s, with the least and the most.",
    ]
    for case in document["cases"]:
        lines += ["", *_case(case, settings["concurrency"])]
    return "\n".join(lines)


def put(page: str, text: str) -> str:
    """The page with `text` between its marks. Raises ValueError where they are not."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no {BEGIN} with {END} after it")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _case(case: Mapping[str, Any], concurrency: Sequence[int]) -> Iterator[str]:
    photographs, steps = case["photographs"], case["steps"]
    limit = steps[LIMIT]["rate"]
    size = f"{photographs['width']}x{photographs['height']}, {photographs['mean_bytes'] / 1000:.0f} kB"
    yield f"**{case['model']}, {photographs['name']} photographs** ({size})."
    yield f"The limit: {_spread(limit, 0)} images/s."
    yield ""
    heads = [f"at {count}: of the limit; p50, p99 ms" for count in concurrency]
    cpu = f"CPU ms at {' / '.join(map(str, concurrency))}"
    yield f"| | {' | '.join(heads)} | {cpu} | MB | cold start, s |"
    yield f"|{'---|' * (len(heads) + 4)}"
    for name in _servers(steps):
        yield _row(name, [steps.get(f"{name}@{count}") for count in concurrency])
    chosen = "; ".join(
        f"{name} ({entrant['version']}): {shown(entrant['settings'])}"
        for name, entrant in case["entrants"].items()
    )
    if chosen:
        yield ""
        yield f"Settings that the sweep chose: {chosen}."
    for name, reason in case["left_out"].items():
        yield ""
        yield f"{name} was left out: {' '.join(reason.split())[:200]}"


def _servers(steps: Steps) -> list[str]:
    """Fovea first, then in the order of the steps."""
    names = list(dict.fromkeys(step.partition("@")[0] for step in steps if "@" in step))
    return sorted(names, key=lambda name: (name != FOVEA, name != FOVEA_INT8))


def _row(name: str, steps: Sequence[Mapping[str, Any] | None]) -> str:
    measured = [step for step in steps if step and step["valid"]]
    cells = [_cell(step) for step in steps]
    cpu = " / ".join(f"{step['cpu_ms']['median']:.1f}" if step in measured else "-" for step in steps)
    most = max((step["pss"]["median"] for step in measured), default=0.0)
    start = measured[0]["cold_start_s"]["median"] if measured else 0.0
    return f"| {name} | {' | '.join(cells)} | {cpu} | {most / MEGABYTE:.0f} | {start:.1f} |"


def _cell(step: Mapping[str, Any] | None) -> str:
    if step is None:
        return ""
    if not step["valid"]:
        return f"void: {step['faults']} errors"
    return f"{_spread(step['ratio'], 2)}; {step['p50_ms']['median']:.0f}, {step['p99_ms']['median']:.0f}"


def _spread(spread: Mapping[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} ({spread['low']:.{digits}f} to {spread['high']:.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="run", help="what `python -m benchmarks.run --json FILE` wrote"
    )
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    given = parser.parse_args(arguments)
    found = []
    for run in given.runs:
        try:
            found.append(tables(json.loads(run.read_text("utf-8"))))
        except (OSError, ValueError, KeyError) as error:
            parser.error(f"{run} is not what a run of this release wrote: {error!r}")
    text = "\n\n".join(found)
    if given.write:
        PAGE.write_text(put(PAGE.read_text("utf-8"), text), "utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
