"""Bytes on their way, on a terminal: a bar with speed and time left; without one, a line now and then."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cli.output import percent, size

_LINE_INTERVAL_S = 10.0


class Transfer:
    """Shows one transfer until the context ends. `total` is in bytes; None where nobody knows."""

    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total = title, total
        self._done = 0
        self._started = self._said_at = time.monotonic()
        self._bar: Progress | None = None
        console = Console(stderr=True)
        if console.is_terminal:
            words = TextColumn("{task.description}", markup=False)
            columns = (words, BarColumn(24), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> "Transfer":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if kind is None:
            speed = self._done / max(time.monotonic() - self._started, 1e-9)
            print(f"{self._title}: {size(self._done)}, {size(speed)}/s", file=sys.stderr)

    def advance(self, count: int) -> None:
        """So many bytes more are there."""
        self.reach(self._done + count)

    def reach(self, done: int, total: int | None = None) -> None:
        """So many bytes are there by now."""
        self._done, self._total = done, total or self._total
        if self._bar:
            self._bar.update(self._task, completed=done, total=self._total)
        elif time.monotonic() - self._said_at >= _LINE_INTERVAL_S:
            self._said_at = time.monotonic()
            share = f" of {size(self._total)}, {percent(done / self._total)}" if self._total else ""
            print(f"{self._title}: {size(done)}{share}", file=sys.stderr)
