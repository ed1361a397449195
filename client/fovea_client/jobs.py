"""Jobs: durable work of a Fovea, watched from here, and `Fovea.jobs`."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from fovea_client import calls
from fovea_client.answer import PASSING, Json, NotFoveasAnswer, not_fovea
from fovea_client.call import Call, as_json, as_page
from fovea_client.errors import ApiError, JobFailed, StillRunning, Unreachable
from fovea_client.file import saved
from fovea_client.operation import Mode, Resource, listing, operation
from fovea_client.plan import Close, Emit, Feed, Opened, Plan, Sleep, each, read
from fovea_client.prediction import Prediction, prediction_of_line
from fovea_client.progress import JobProgress, ShownJob
from fovea_client.record import MOMENT, TUPLE, Record
from fovea_client.records import EvaluatedImage, Evaluation
from fovea_client.session import Session
from fovea_client.sse import EventParser, ServerEvent

Line = TypeVar("Line")

EVALUATE = "evaluate"
TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})
EVENT_STREAM = "text/event-stream"
JSON_LINES, CSV = "application/jsonl", "text/csv"
# Progress may come faster than anyone reads.
QUIET_S = 0.2
OnCancel = Literal["keep_best", "discard"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `id` counts from 1 within the job.

    `kind` is `state` (`data` has the new one), `progress` (`data` is what was reported) or `cancel_requested`.
    """

    id: int
    kind: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Job(Record, Resource[Mode]):
    """Durable work, as it was when it was read: `refresh` reads it again, `wait` until it has ended.

    `state` is `queued`, `running`, `succeeded`, `failed` or `cancelled`. `request` is what was asked, `result`
    what came of it, `error` has `code` and `detail` where it failed. `warnings` are of a job that was just made. A
    notebook shows it as a bar.
    """

    id: str
    kind: str
    state: str
    request: Mapping[str, Any] = field(default_factory=dict, repr=False)
    progress: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = field(default=None, repr=False)
    error: Mapping[str, Any] | None = None
    attempt: int = field(default=0, repr=False)
    max_attempts: int = field(default=0, repr=False)
    cancel_requested: bool = field(default=False, repr=False)
    on_cancel: str | None = field(default=None, repr=False)
    worker: str | None = field(default=None, repr=False)
    request_id: str | None = field(default=None, repr=False)
    created_at: datetime | None = field(default=None, repr=False, metadata=MOMENT)
    started_at: datetime | None = field(default=None, repr=False, metadata=MOMENT)
    finished_at: datetime | None = field(default=None, repr=False, metadata=MOMENT)
    warnings: tuple[str, ...] = field(default=(), repr=False, metadata=TUPLE)
    _session: Session = field(kw_only=True, repr=False, compare=False)

    @property
    def is_over(self) -> bool:
        """Whether the state is final."""
        return self.state in TERMINAL_STATES

    @property
    def reference(self) -> str | None:
        """What `classify` calls the version by that came of it; None where none did."""
        found = self.result or {}
        return f"{found['model']}:{found['version']}" if found.get("version") and found.get("model") else None

    def require_success(self) -> "Job[Mode]":
        """The job itself. Raises JobFailed unless it succeeded."""
        if self.state != "succeeded":
            raise JobFailed(self)
        return self

    @operation
    def refresh(self) -> "Plan[Job[Mode]]":
        """The job as it is now."""
        return (yield from job_by(self._session, calls.get_job(self.id)))

    @operation
    def cancel(self, on_cancel: OnCancel | None = None) -> "Plan[Job[Mode]]":
        """Ask it to end; `on_cancel` says what becomes of what a fine-tune has learned so far.

        None leaves that to an earlier cancellation; without one it is discarded.
        """
        return (yield from job_by(self._session, calls.cancel_job(self.id, on_cancel)))

    @operation
    def wait(self, progress: JobProgress = False, *, timeout_s: float | None = None) -> "Plan[Job[Mode]]":
        """The job as it ended well.

        `progress`: True shows a bar on a terminal or in a notebook; a function is called with the job at each
        change. Raises JobFailed, StillRunning after `timeout_s`, ApiError, Unreachable.
        """
        last = self
        with ShownJob(progress) as shown:

            def show(job: Job[Mode]) -> None:
                nonlocal last
                last = job
                shown.show(job)

            yield from each(_followed(self, timeout_s=timeout_s), show)
        return last.require_success()

    @listing
    def follow(
        self, *, poll_s: float = 1.0, away_s: float = 60.0, timeout_s: float | None = None
    ) -> "Feed[Job[Mode]]":
        """The job, again whenever it has changed, until it has ended, well or not.

        The server's events say when to look; where they cannot be had (a proxy that holds them back), it is asked
        every `poll_s`. A Fovea that goes away meanwhile, for an update perhaps, may take `away_s` to return.
        """
        return (yield from _followed(self, poll_s, away_s, timeout_s))

    @listing
    def events(self, after: int = 0) -> Feed[Event]:
        """What happens to it, each event once, from the one after `after` to its end.

        A stream that breaks is taken up again after the last event that was seen.
        """
        listener = _Listener(self._session, self.id, str(after) if after else "")
        while True:
            seen = listener.last_id
            try:
                while found := (yield from listener.next()):
                    event = _event_of(found)
                    yield Emit(event)
                    if event.kind == "state" and event.data.get("state") in TERMINAL_STATES:
                        yield from listener.close()
                        return None
            except Unreachable as error:
                if not error.may_pass:
                    raise
            # Of a job that had ended before `after` there is nothing to come.
            if listener.last_id == seen and (yield from job_by(self._session, calls.get_job(self.id))).is_over:
                return None
            yield Sleep(listener.retry_s)

    @listing
    def results(self, *, partial: bool = False) -> Feed[Prediction]:
        """What was seen in each image that the job classified, while it is read; `name` is the image's path.

        `partial`: also of a job that has not ended well, those that are there. Raises NotFound for a job that
        classified nothing, Conflict, Unreachable.
        """
        if self.kind == EVALUATE:
            raise TypeError(f"{self.id} is an evaluation, whose lines have an answer of each version: answers()")
        call = calls.get_results(self.id, JSON_LINES, partial=partial)
        return (yield from _lines_of(self._session, call, prediction_of_line))

    @listing
    def answers(self, *, differing: bool = False, partial: bool = False) -> Feed[EvaluatedImage]:
        """Of an evaluation what each version answered on each image, in the order of its `models`.

        `differing`: only images on which not all give the same answer. `partial`, and what it raises, as
        `results`.
        """
        call = calls.get_results(self.id, JSON_LINES, partial=partial, differing=differing)
        return (yield from _lines_of(self._session, call, EvaluatedImage.read))

    @operation
    def evaluation(self) -> Plan[Evaluation]:
        """All figures of an evaluation. Raises NotFound for another kind of job, Conflict before its end."""
        return (yield from self._session.answer(calls.get_evaluation(self.id)))

    @operation
    def card(self, *, form: Literal["md", "html"] = "md") -> Plan[str]:
        """An evaluation as Markdown or as a self-contained page. Raises what `evaluation` raises."""
        return (yield from self._session.answer(calls.get_evaluation_card(self.id, form)))

    @operation
    def save_results(
        self,
        to: str | os.PathLike[str],
        *,
        form: Literal["csv", "jsonl"] | None = None,
        partial: bool = False,
        differing: bool = False,
    ) -> Plan[Path]:
        """As a file, whole or not at all; its path. By default as CSV where its name ends in `.csv`.

        `differing` as `answers` has it. Raises OSError, and what `results` raises.
        """
        target = Path(to)
        is_csv = target.suffix.lower() == ".csv" if form is None else form == "csv"
        media_type = CSV if is_csv else JSON_LINES
        call = calls.get_results(self.id, media_type, partial=partial, differing=differing)
        return (yield from saved(self._session, call, target))

    def _repr_html_(self) -> str:
        from fovea_client.html import job_bar

        return job_bar(self)


class Jobs(Resource[Mode]):
    """`Fovea.jobs`: what waits, runs and has ended."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @listing
    def list(self, *, state: str | None = None, kind: str | None = None, page_size: int = 50) -> Feed[Job[Mode]]:
        """The newest first, fetched `page_size` at a time."""
        pages = calls.list_jobs(state, kind, page_size)
        return (yield from self._session.items(pages.parsed_by(as_page(_reader(self._session)))))

    @operation
    def get(self, job: str) -> Plan[Job[Mode]]:
        """One job. Raises NotFound."""
        return (yield from job_by(self._session, calls.get_job(job)))


def job_by(session: Session, call: Call[Json]) -> Plan[Job[Any]]:
    """The job that a call answers with."""
    return (yield from session.answer(call.parsed_by(as_json(_reader(session)))))


def _reader(session: Session) -> Callable[[Json], Job[Any]]:
    return lambda found: Job.read(found, _session=session)


def _followed(
    job: Job[Mode], poll_s: float = 1.0, away_s: float = 60.0, timeout_s: float | None = None
) -> Feed[Job[Mode]]:
    session = job._session
    began = heard_at = time.monotonic()
    listener = _Listener(session, job.id, gives_up_at=frozenset({"too_many_event_streams"}))
    seen: Job[Mode] = yield from job_by(session, calls.get_job(job.id))
    yield Emit(seen)
    while not seen.is_over:
        if not (yield from listener.change(_left(began, timeout_s))):
            yield Sleep(poll_s)
        if timeout_s is not None and (waited := time.monotonic() - began) > timeout_s:
            raise StillRunning(seen, waited)
        try:
            current = yield from job_by(session, calls.get_job(job.id))
        except (Unreachable, ApiError) as error:
            may_return = isinstance(error, Unreachable) or error.status in PASSING
            if not may_return or time.monotonic() - heard_at > away_s:
                raise
            continue
        heard_at = time.monotonic()
        if current != seen:
            seen = current
            yield Emit(current)
    return None


def _left(began: float, timeout_s: float | None) -> float:
    left = calls.SILENCE_S if timeout_s is None else began + timeout_s - time.monotonic()
    return max(0.1, min(calls.SILENCE_S, left))


class _Listener:
    """A job's events over as many connections as it takes."""

    def __init__(
        self, session: Session, job: str, last_id: str = "", gives_up_at: frozenset[str] = frozenset()
    ) -> None:
        self.last_id = last_id
        self._gives_up_at = gives_up_at
        self.retry_s = 1.0
        self._session = session
        self._job = job
        self._opened: Opened | None = None
        self._parser = EventParser()
        self._events: list[ServerEvent] = []

    def next(self, silence_s: float = calls.SILENCE_S) -> Plan[ServerEvent | None]:
        """The next event; None where the stream has ended. Raises ApiError, Unreachable."""
        try:
            if self._opened is None:
                yield from self._open(silence_s)
            while not self._events and self._opened:
                piece = yield from read(self._opened)
                self._events += self._parser.feed(piece)
                self.retry_s = self._parser.retry_s or self.retry_s
                if not piece:
                    yield from self.close()
        except Unreachable:
            yield from self.close()
            raise
        if not self._events:
            return None
        event = self._events.pop(0)
        self.last_id = event.id or self.last_id
        return event

    def change(self, silence_s: float) -> Plan[bool]:
        """Wait for an event, for mere progress `QUIET_S` at least; False where there are none to be had."""
        began = time.monotonic()
        try:
            while found := (yield from self.next(silence_s)):
                if found.event != "progress" or time.monotonic() - began > QUIET_S:
                    return True
        except (Unreachable, ApiError):
            return False
        return False

    def close(self) -> Plan[None]:
        if self._opened:
            yield Close(self._opened)
        self._opened = None

    def _open(self, silence_s: float) -> Plan[None]:
        """What is no stream has no events."""
        self._parser, self._events = EventParser(), []
        call = calls.get_events(self._job, self.last_id, silence_s)
        answer = yield from self._session.opened(dataclasses.replace(call, gives_up_at=self._gives_up_at))
        self._opened = answer
        if not answer.response.headers.get("content-type", "").startswith(EVENT_STREAM):
            yield from self.close()


def _lines_of(session: Session, call: Call[None], reader: Callable[[Json], Line]) -> Feed[Line]:
    """Each line of results, while they come."""
    rest = b""
    answer = yield from session.opened(call)
    while piece := (yield from read(answer)):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield Emit(_read_line(line, session.url, reader))
    return None


def _read_line(line: bytes, url: str, reader: Callable[[Json], Line]) -> Line:
    """Raises Unreachable for what is no line of Fovea's."""
    try:
        return reader(json.loads(line))
    except (ValueError, NotFoveasAnswer) as error:
        raise Unreachable(not_fovea(url, f"a line of results is {line[:200]!r}")) from error


def _event_of(found: ServerEvent) -> Event:
    """Raises Unreachable for what is none of Fovea's events."""
    try:
        data = json.loads(found.data)
        return Event(int(found.id), found.event, datetime.fromisoformat(data.pop("at")), data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(f"an event is not Fovea's: {found.data[:200]!r}") from error
