"""A job's progress on a terminal: a moving bar for a person, a line now and then for a log file."""

import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from rich.console import Console

from cli.errors import Detached
from cli.output import print_json_line
from cli.progress_bar import WordedProgress
from fovea_client import Job
from fovea_client.words import describe, fraction_done, words_of

_LINE_INTERVAL_S = 10.0


class JobProgress:
    """Shows one job until the context ends.

    `say` receives the lines where there is no terminal; on one, the bar moves below what others print.
    """

    def __init__(self, title: str, console: Console | None, say: Callable[[str], None] | None = None) -> None:
        self._title = title
        self._say = say
        self._bar: WordedProgress | None = None
        if console and console.is_terminal:
            self._bar = WordedProgress(console, lambda task: task.fields["words"])
            self._task = self._bar.add_task(title, total=None, words=["waiting"])
        self._last: tuple[Any, Any] = (None, None)
        self._said_at = 0.0

    def __enter__(self) -> "JobProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, job: Job) -> None:
        """The job as it is now."""
        if self._bar:
            done = fraction_done(job)
            total = None if done is None else 1.0
            self._bar.update(self._task, total=total, completed=done or 0.0, words=words_of(job))
        elif self._say:
            self._show_line(job, self._say)

    def follow(self, jobs: Iterable[Job]) -> None:
        """Show each state of the job. Raises JobFailed when it did not succeed."""
        last = None
        for job in jobs:
            self.show(job)
            last = job
        if last:
            last.require_success()

    def _show_line(self, job: Job, say: Callable[[str], None]) -> None:
        moment = (job.state, job.progress.get("phase"))
        now = time.monotonic()
        if moment != self._last or job.is_over or now - self._said_at >= _LINE_INTERVAL_S:
            say(f"{self._title}: {describe(job)}")
            self._last, self._said_at = moment, now


def watch_job(job: Job, title: str, *, as_json: bool = False) -> Job:
    """Show a job until it ends: a JSON line at each change, else progress on stderr.

    Raises JobFailed, and Detached at Ctrl-C, which leaves the job alone.
    """
    return show_until_over(job, title, _print_line if as_json else None).require_success()


def show_until_over(job: Job, title: str, show: Callable[[Job], object] | None = None) -> Job:
    """The job as it ended, well or not; `show` is called at each change, if given, in place of the progress.

    Raises Detached.
    """
    last = job
    try:
        with JobProgress(title, Console(stderr=True), lambda line: print(line, file=sys.stderr)) as progress:
            for last in job.follow():
                (show or progress.show)(last)
    except KeyboardInterrupt:
        ways = f"watch it: fovea jobs watch {job.id}; end it: fovea jobs cancel {job.id}"
        raise Detached(f"no longer watching; the job goes on. {ways[0].upper()}{ways[1:]}") from None
    return last


def _print_line(job: Job) -> None:
    print_json_line(job.to_dict())
