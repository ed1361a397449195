"""What commands print: tables for people, JSON for machines, both on standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_BAR_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_json(content: Any) -> None:
    """One JSON document, indented."""
    print(json.dumps(content, indent=2, ensure_ascii=False))


def print_json_line(content: Any) -> None:
    """One JSON document on one line, at once."""
    print(json.dumps(content, ensure_ascii=False), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """A table as wide as its content; when it goes into a file, no line is folded."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    console = Console(highlight=False, width=10_000)
    with console.capture() as lines:
        console.print(table)
    for line in lines.get().splitlines():
        print(line.rstrip())


def bar(fraction: float, width: int = _BAR_WIDTH) -> str:
    """A bar of `width` characters for a number from 0 to 1."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def moment(text: str | None) -> str:
    """An RFC 3339 time as local time to the second; empty for none."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: float | None) -> str:
    """Bytes as people read them: `1.2 MB`."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
