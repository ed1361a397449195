"""Bytes on their way, on a terminal: a bar with speed and time left; without one, a line now and then."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import Task

from cli.output import duration, percent, size
from cli.progress_bar import WordedProgress

_LINE_INTERVAL_S = 10.0


class Transfer:
    """Shows one transfer until the context ends. `total` is in bytes; None where nobody knows."""

    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total = title, total
        self._done = 0
        self._started = self._said_at = time.monotonic()
        self._bar: WordedProgress | None = None
        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = WordedProgress(console, _words)
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
        if kind is None and self._done:
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


def _words(task: Task) -> list[str]:
    words = [size(task.completed) + (f" of {size(task.total)}" if task.total else "")]
    if task.speed:
        words.append(f"{size(task.speed)}/s")
    if task.time_remaining is not None:
        words.append(f"{duration(task.time_remaining)} left")
    return words
