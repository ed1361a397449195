"""What commands print: tables for people, JSON for machines, both on standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console

from cli.encoding import is_unicode
from cli.table import Cell, TextTable

_BAR_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_json(content: Any) -> None:
    """One JSON document, indented."""
    print(_json(content, indent=2))


def print_json_line(content: Any) -> None:
    """One JSON document on one line, at once."""
    print(_json(content), flush=True)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    optional: Sequence[str] = (),
    right: Sequence[str] = (),
) -> None:
    """A table; see `cli.table`. In a file, no line is wrapped.

    On a terminal where a row would take more than a line, columns that are `optional` are left out, the first
    first, and standard error says which. Those in `right` are numbers.
    """
    table = TextTable(columns, list(rows), right)
    width = terminal_width()
    if width is None:
        for line in table.lines(None):
            print(line.plain)
        return
    left_out: list[str] = []
    while len(left_out) < len(optional) and not table.without(left_out).fits(width):
        left_out.append(optional[len(left_out)])
    console = Console(highlight=False, soft_wrap=True)
    for line in table.without(left_out).lines(width):
        console.print(line)
    if left_out:
        names = ", ".join(left_out)
        print(f"left out for want of room: {names}; all of it: --json, or a wider terminal", file=sys.stderr)


def terminal_width() -> int | None:
    """The width of the terminal that standard output is, in characters; None where it is none."""
    return Console().width if sys.stdout.isatty() else None


def bar(fraction: float, width: int = _BAR_WIDTH) -> str:
    """A bar of at most `width` characters for a number from 0 to 1."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def percent(fraction: float) -> str:
    """A number from 0 to 1 as `97.8 %`."""
    return f"{100 * fraction:.1f} %"


def local_time(moment: datetime | str | None, timespec: str = "minutes") -> str:
    """A time, also as RFC 3339 has it, as local time: `2026-11-21 12:00`; empty for none.

    `timespec` is that of `datetime.isoformat`.
    """
    if not moment:
        return ""
    moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return moment.astimezone().replace(tzinfo=None).isoformat(" ", timespec)


def duration(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float | None) -> str:
    """Bytes as people read them: `1.2 MB`."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, ensure_ascii=not is_unicode(sys.stdout.encoding))
