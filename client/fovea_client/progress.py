"""How far something is, shown while somebody waits: on a terminal, in a notebook, or by a function of theirs."""

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from fovea_client.html import job_bar
from fovea_client.words import describe, fraction_done, percent

if TYPE_CHECKING:
    from fovea_client.jobs import Job

# True shows a bar where there is a terminal or a notebook, a function is called with each change.
JobProgress = bool | Callable[["Job[Any]"], object]

BAR_CHARACTERS = 24
INTERVAL_S = 0.1


@dataclass(frozen=True)
class UploadProgress:
    """`phase` is `packing` or `sending`, with `done` and `total` in bytes, or `checking`, with files.

    `total` is None while nobody knows.
    """

    phase: str
    done: int
    total: int | None


class Line:
    """One line of a terminal, written over and over. On what is no terminal nothing is said."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_seen = self._stream.isatty()
        self._length = 0
        self._said_at = 0.0

    def say(self, title: str, fraction: float | None, words: str, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not self._is_seen or (not at_once and now - self._said_at < INTERVAL_S):
            return
        self._said_at = now
        full = round(BAR_CHARACTERS * (fraction or 0.0))
        text = f"{title} [{'#' * full}{'.' * (BAR_CHARACTERS - full)}] {words}"
        self._stream.write(f"\r{text.ljust(self._length)}")
        self._stream.flush()
        self._length = len(text)

    def end(self) -> None:
        if self._length:
            self._stream.write("\n")
            self._stream.flush()


class ShownJob:
    """A job that somebody waits for; use as a context."""

    def __init__(self, progress: JobProgress) -> None:
        self._tell = progress if callable(progress) else None
        self._notebook: Any = _notebook() if progress is True else None
        self._line = Line() if progress is True and not self._notebook else None
        self._handle: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._line:
            self._line.end()

    def show(self, job: "Job[Any]") -> None:
        if self._tell:
            self._tell(job)
        elif self._line:
            self._line.say(job.id, fraction_done(job), describe(job), at_once=job.is_over)
        elif self._notebook:
            self._show_in_notebook(job)

    def _show_in_notebook(self, job: "Job[Any]") -> None:
        shown = {"text/html": job_bar(job), "text/plain": f"{job.id}: {describe(job)}"}
        if self._handle:
            self._handle.update(shown, raw=True)
        else:
            self._handle = self._notebook(shown, raw=True, display_id=True)


class ShownUpload:
    """An archive that is packed and sent; use as a context."""

    def __init__(self, title: str, progress: "bool | Callable[[UploadProgress], object]") -> None:
        self._title = title
        self._tell = progress if callable(progress) else None
        self._line = Line() if progress is True else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._line:
            self._line.end()

    def show(self, phase: str, done: int, total: int) -> None:
        if self._tell:
            self._tell(UploadProgress(phase, done, total))
        elif self._line:
            share = done / total if total else 1.0
            self._line.say(f"{phase} {self._title}", share, percent(share), at_once=done >= total)


def _notebook() -> Any:
    """IPython's `display` where a notebook shows what it is given; a terminal's IPython has a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return importlib.import_module("IPython.display").display
