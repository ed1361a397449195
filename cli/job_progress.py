"""A job's progress on a terminal: a moving bar for a person, a line now and then for a log file."""

import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from rich.console import Console

from cli.client import ApiClient, Json, is_over
from cli.errors import Detached, JobFailed
from cli.output import duration, percent, print_json_line
from cli.progress_bar import WordedProgress

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

    def show(self, job: Json) -> None:
        """The job as it is now."""
        if self._bar:
            done = fraction_done(job)
            total = None if done is None else 1.0
            self._bar.update(self._task, total=total, completed=done or 0.0, words=_words(job))
        elif self._say:
            self._show_line(job, self._say)

    def follow(self, jobs: Iterable[Json]) -> Json:
        """Show each state of the job; returns the last. Raises JobFailed when it did not succeed."""
        job: Json = {}
        for job in jobs:
            self.show(job)
        return require_success(job)

    def _show_line(self, job: Json, say: Callable[[str], None]) -> None:
        progress = job.get("progress") or {}
        moment = (job.get("state"), progress.get("phase"))
        now = time.monotonic()
        if moment != self._last or is_over(job) or now - self._said_at >= _LINE_INTERVAL_S:
            say(f"{self._title}: {describe(job)}")
            self._last, self._said_at = moment, now


def watch_job(client: ApiClient, job: str, title: str, *, as_json: bool = False) -> Json:
    """Show a job until it ends: a JSON line at each change, else progress on stderr.

    Raises JobFailed, and Detached at Ctrl-C, which leaves the job alone.
    """
    return require_success(show_until_over(client, job, title, print_json_line if as_json else None))


def show_until_over(client: ApiClient, job: str, title: str, show: Callable[[Json], object] | None = None) -> Json:
    """The job as it ended, well or not; `show` is called at each change, if given, in place of the progress.

    Raises Detached.
    """
    found: Json = {}
    try:
        with JobProgress(title, Console(stderr=True), lambda line: print(line, file=sys.stderr)) as progress:
            for found in client.follow_job(job):
                (show or progress.show)(found)
    except KeyboardInterrupt:
        ways = f"watch it: fovea jobs watch {job}; end it: fovea jobs cancel {job}"
        raise Detached(f"no longer watching; the job goes on. {ways[0].upper()}{ways[1:]}") from None
    return found


def require_success(job: Json) -> Json:
    """The job; raises JobFailed with the reason when it ended otherwise."""
    if job.get("state") == "succeeded":
        return job
    error, kept = job.get("error") or {}, job.get("result") or {}
    reason = f": {error.get('detail')} ({error.get('code')})" if error else ""
    if kept.get("version"):
        reason += f"; the best until then is kept: {kept.get('model')} version {kept['version']}"
    raise JobFailed(f"job {job.get('id')} {job.get('state')}{reason}")


def describe(job: Json, *, brief: bool = False) -> str:
    """A job's state in a few words: `training, epoch 3 of 20, accuracy 97.8 %, 1:05 left`.

    In `brief` without what changes with every step.
    """
    return ", ".join(_words(job, brief=brief))


def fraction_done(job: Json) -> float | None:
    """How much of the present phase is done, 0 to 1; None when nobody can say."""
    progress = job.get("progress") or {}
    if is_over(job):
        return 1.0
    if progress.get("fraction") is not None:
        return float(progress["fraction"])
    if progress.get("epochs"):
        epoch = float(progress.get("epoch", 0))
        if progress.get("steps"):
            epoch += float(progress.get("step", 0)) / float(progress["steps"]) - 1
        return epoch / float(progress["epochs"])
    for done, total in (("done", "total"), ("done_bytes", "total_bytes")):
        if progress.get(done) is not None and progress.get(total):
            return float(progress[done]) / float(progress[total])
    return None


def _words(job: Json, *, brief: bool = False) -> list[str]:
    state = str(job.get("state", ""))
    if state != "running":
        return [state]
    progress = job.get("progress") or {}
    words = [str(progress.get("phase") or state)]
    if words == ["trying"] and progress.get("precision"):
        words = [f"trying {progress['precision']}"]
    if progress.get("done") is not None:
        of_all = f" of {progress['total']}" if progress.get("total") else ""
        words.append(f"{progress['done']}{of_all}")
    if progress.get("epochs"):
        words.append(f"epoch {progress.get('epoch', 0)} of {progress['epochs']}")
    return words if brief else [*words, *_measured(progress)]


def _measured(progress: Json) -> list[str]:
    words = []
    if progress.get("downloading"):
        words.append(f"downloading {progress['downloading']}")
    if progress.get("loss") is not None:
        words.append(f"loss {progress['loss']:.3f}")
    if progress.get("accuracy") is not None:
        words.append(f"accuracy {percent(progress['accuracy'])}")
    if progress.get("validation_accuracy") is not None:
        words.append(f"validation {percent(progress['validation_accuracy'])}")
    if progress.get("images_per_second") is not None:
        words.append(f"{progress['images_per_second']:.0f} images/s")
    if progress.get("eta_s") is not None:
        words.append(f"{duration(progress['eta_s'])} left")
    return words
