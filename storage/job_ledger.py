"""The job ledger: the database decides who runs a job, never the broker.

An attempt takes a job under a lease and is fenced by a token that changes with every take: one that was overtaken
writes nothing any more. Every change is one conditional UPDATE; nothing is read first and written later.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, case, delete, func, insert, not_, null, or_, select, update
from sqlalchemy.orm import Session

from storage.audit import record
from storage.clock import from_now, now
from storage.database import Database, Transaction
from storage.errors import LeaseLost, NotFound
from storage.events import record_event, record_progress
from storage.idempotency import claim, forget
from storage.ids import new_id
from storage.job import Attempt, Event, Idempotency, Job, JobCount, JobState
from storage.job_rows import (
    ACTIVE,
    EXPIRED,
    QUEUED,
    TAKEABLE,
    end_abandoned,
    exhausted,
    has_id,
    held_by,
    lock_dataset,
    lock_held,
    require_job,
    skipping_locked,
    state_changed,
    update_job,
)
from storage.owner import Owner, check_waiting
from storage.page import HIGHEST, Page, bounded, decode_cursor, encode_cursor
from storage.tables import EventRow, JobRow
from storage.text import contains, equals, is_text
from storage.waiting import OVER, release, tell_that_it_waits

__all__ = ["Attempt", "Event", "Idempotency", "Job", "JobLedger", "JobState"]

_Jobs = list[Job]  # inside the class, `list` is its method
_Events = list[Event]


class JobLedger:
    """The jobs; every call is one transaction. Raises DatabaseUnavailable besides what each call names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Clients make jobs, look at them and cancel them.

    def create(
        self,
        kind: str,
        request: Mapping[str, Any],
        *,
        idempotency: Idempotency | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
        max_attempts: int = 3,
        job_id: str | None = None,
        owner: Owner | None = None,
        within: Transaction | None = None,
    ) -> Job:
        """A new queued job; with an idempotency key seen in the last 24 hours, the job it made then.

        A request that names an uploaded dataset (`ds_...`) which another job is checking waits for that check, and
        is then of the dataset that it turned out to be.

        `job_id` is for a caller who names something after the job: `new_id("job")`. Raises Conflict when that key
        came with another request, NotFound when the dataset is gone, and TooManyJobs where its owner has as many
        jobs waiting as it may.
        """
        if max_attempts < 1:
            raise ValueError(f"max_attempts is {max_attempts}; a job needs at least one attempt")
        job_id = job_id or new_id("job")
        with self._database.session(within=within) as session:
            if idempotency is not None:
                earlier = claim(self._database, session, idempotency, job_id)
                if earlier is not None:
                    return earlier
            if owner:
                check_waiting(session, owner)
            dataset, model = _text(request.get("dataset")), _text(request.get("model"))
            waits_for = _unchecked(session, dataset, job_id)
            row = session.scalars(
                insert(JobRow)
                .values(
                    id=job_id,
                    kind=kind,
                    state=JobState.QUEUED,
                    request=dict(request),
                    model=model,
                    dataset=dataset,
                    progress={},
                    attempt=0,
                    max_attempts=max_attempts,
                    cancel_requested=False,
                    request_id=request_id,
                    traceparent=traceparent,
                    events=1,
                    created_at=now(),
                    queued_at=now(),
                    owner=owner and owner.key,
                    waits_for=waits_for,
                )
                .returning(JobRow)
            ).one()
            state_changed(session, row)
            if waits_for:
                tell_that_it_waits(session, row)
            named = {"model": model, "dataset": dataset}
            record(session, "job.create", "job", row.id, {"kind": kind, **{k: v for k, v in named.items() if v}})
            return Job.from_row(row)

    def follow_up(self, attempt: Attempt, kind: str, request: Mapping[str, Any], *, within: Transaction) -> Job:
        """A new queued job that the attempt's job leaves behind, for the same owner and in the same trace.

        It counts for its owner, and is made however many jobs of his wait. Raises what `create` raises.
        """
        before = attempt.job
        with self._database.session(within=within) as session:
            owner = require_job(session, before.id).owner
            return self.create(
                kind,
                request,
                request_id=before.request_id,
                traceparent=before.traceparent,
                owner=Owner(owner) if owner else None,
                within=session,
            )

    def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        with self._database.session(read_only=True) as session:
            return Job.from_row(require_job(session, job_id))

    def list(
        self,
        limit: int,
        cursor: str | None = None,
        state: JobState | None = None,
        kind: str | None = None,
        search: str | None = None,
    ) -> Page[Job]:
        """Newest first. `search` is a part of the id, the kind, the model or the dataset. Raises InvalidCursor."""
        limit = bounded(limit)
        query = select(JobRow).order_by(JobRow.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(JobRow.id < decode_cursor(cursor, str))
        if state is not None:
            query = query.where(JobRow.state == state)
        if kind is not None:
            query = query.where(equals(JobRow.kind, kind))
        if search:
            query = query.where(contains(search, JobRow.id, JobRow.kind, JobRow.model, JobRow.dataset))
        with self._database.session(read_only=True) as session:
            jobs = tuple(Job.from_row(row) for row in session.scalars(query))
        return Page(jobs[:limit], encode_cursor(jobs[limit - 1].id) if len(jobs) > limit else None)

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> _Events:
        """The job's events numbered above `after`, oldest first; none for an unknown job."""
        query = (
            select(EventRow)
            .where(equals(EventRow.job_id, job_id), EventRow.number > max(0, min(after, HIGHEST)))
            .order_by(EventRow.number)
            .limit(bounded(limit))
        )
        with self._database.session(read_only=True) as session:
            return [Event.from_row(row) for row in session.scalars(query)]

    def count(self) -> tuple[JobCount, ...]:
        """How many jobs of each kind are in each state. It looks at every row: not for every request."""
        # What waits for a dataset waits for no worker.
        queued_at = case((JobRow.waits_for.is_(None), JobRow.queued_at))
        query = select(JobRow.kind, JobRow.state, func.count(), func.min(queued_at), now())
        with self._database.session(read_only=True) as session:
            rows = session.execute(query.group_by(JobRow.kind, JobRow.state)).all()
        return tuple(
            JobCount(kind, JobState(state), jobs, max(0.0, (at - (first or at)).total_seconds()))
            for kind, state, jobs, first, at in rows
        )

    def has_waiting(self, kinds: Collection[str], longer_than_s: float) -> bool:
        """Whether a job of such a kind has waited longer than that: nobody idle is about to take it."""
        waiting = select(JobRow.id).where(
            QUEUED, JobRow.kind.in_(kinds), JobRow.queued_at < from_now(-longer_than_s)
        )
        with self._database.session(read_only=True) as session:
            return session.scalar(waiting.limit(1)) is not None

    def request_cancel(self, job_id: str, on_cancel: str | None = None) -> Job:
        """Cancel a queued job at once, ask the holder of a running one to stop, leave one that has ended as it is.

        `on_cancel` tells the holder what to do with what it has so far; without it, what an earlier request said
        stands, and `discard` where there was none. Raises NotFound.
        """
        queued = JobRow.state == JobState.QUEUED
        is_new = not_(JobRow.cancel_requested)
        if on_cancel is not None:
            is_new = or_(is_new, JobRow.on_cancel != on_cancel)
        with self._database.session() as session:
            row = update_job(
                session,
                and_(has_id(job_id), ACTIVE, is_new),
                cancel_requested=True,
                on_cancel=on_cancel or "discard",
                state=case((queued, JobState.CANCELLED), else_=JobRow.state),
                error=case((queued, null()), else_=JobRow.error),
                finished_at=case((queued, now()), else_=null()),
            )
            if row is None:
                return Job.from_row(require_job(session, job_id))
            if row.state == JobState.CANCELLED:
                state_changed(session, row)
            else:
                record_event(session, row, "cancel_requested", {"on_cancel": row.on_cancel})
            record(session, "job.cancel", "job", row.id, {"on_cancel": row.on_cancel})
            return Job.from_row(row)

    # A worker takes a job, and writes only while it holds it.

    def take(self, job_id: str, worker: str, lease_s: float) -> Attempt | None:
        """Begin the next attempt, or None when there is none to begin.

        There is none when the job has ended, another worker holds it, its cancellation was asked for (it is
        cancelled now) or its attempts are used up (it is failed now). Raises NotFound.
        """
        token = secrets.token_hex(16)
        with self._database.session() as session:
            row = update_job(
                session,
                and_(
                    has_id(job_id), TAKEABLE, not_(JobRow.cancel_requested), JobRow.attempt < JobRow.max_attempts
                ),
                state=JobState.RUNNING,
                attempt=JobRow.attempt + 1,
                token=token,
                worker=worker,
                lease_until=from_now(lease_s),
                started_at=func.coalesce(JobRow.started_at, now()),
            )
            if row is None:
                require_job(session, job_id)
                end_abandoned(session, has_id(job_id))
                return None
            state_changed(session, row)
            return Attempt(Job.from_row(row), token)

    def renew(self, attempt: Attempt, lease_s: float) -> bool:
        """Keep the job for so long from now; returns whether its cancellation was asked for. Raises LeaseLost."""
        renewal = update(JobRow).where(held_by(attempt)).values(lease_until=from_now(lease_s))
        with self._database.session() as session:
            cancel_requested = session.scalar(renewal.returning(JobRow.cancel_requested))
        if cancel_requested is None:
            raise LeaseLost(attempt.job.id)
        return bool(cancel_requested)

    def report_progress(self, attempt: Attempt, data: Mapping[str, Any]) -> None:
        """Replace the job's progress and tell it as an event. Raises LeaseLost."""
        with self._database.session() as session:
            row = update_job(session, held_by(attempt), progress=dict(data))
            if row is None:
                raise LeaseLost(attempt.job.id)
            record_progress(session, row)

    @contextmanager
    def transaction(self, attempt: Attempt) -> Iterator[Transaction]:
        """One transaction in which the attempt holds its job: whatever else it writes `within` it is fenced.

        Raises LeaseLost, now or by a call inside the block; then nothing of the block is written.
        """
        with self._database.session() as session:
            lock_held(session, attempt)
            yield session

    def succeed(self, attempt: Attempt, result: Mapping[str, Any], *, within: Transaction | None = None) -> None:
        """End the job. Raises LeaseLost; the same attempt ending it the same way twice does nothing."""
        self._end(attempt, JobState.SUCCEEDED, within, result=dict(result), error=None)

    def fail(
        self, attempt: Attempt, code: str, detail: str, *, retry: bool = False, within: Transaction | None = None
    ) -> None:
        """End the job; or, with `retry`, queue it again while it has attempts left. Raises LeaseLost."""
        error = {"code": code, "detail": detail}
        job = attempt.job
        if retry and job.attempt < job.max_attempts:
            self._requeue(attempt, within, error=error)
        elif retry:
            error = exhausted(job.attempt, f"The last one failed: {detail}")
            self._end(attempt, JobState.FAILED, within, error=error)
        else:
            self._end(attempt, JobState.FAILED, within, error=error)

    def release(self, attempt: Attempt) -> None:
        """Give the job back unfinished, as if it had not been taken. Raises LeaseLost."""
        self._requeue(attempt, None, attempt=JobRow.attempt - 1)

    def end_cancelled(
        self, attempt: Attempt, result: Mapping[str, Any] | None = None, *, within: Transaction | None = None
    ) -> None:
        """End the job because its cancellation was asked for. Raises LeaseLost."""
        kept = None if result is None else dict(result)
        self._end(attempt, JobState.CANCELLED, within, result=kept, error=None)

    # The reconciler finds what was lost, and the clean-up what is old.

    def mark_dispatched(self, job_id: str) -> None:
        """A message for the job was sent now. Raises NotFound."""
        sent = update(JobRow).where(has_id(job_id)).values(dispatched_at=now()).returning(JobRow.id)
        with self._database.session() as session:
            if session.scalar(sent) is None:
                raise NotFound("job", job_id)

    def to_requeue(self, older_than_s: float, kinds: Collection[str] | None = None) -> _Jobs:
        """The jobs to send a message for, marked as dispatched, so that each goes to one reconciler only.

        They are those whose holder has gone silent, and those that have waited so long since they were queued or
        last sent; of those `kinds` only where any are given, for whoever can have no other done must not take them
        from a reconciler who can. Silent ones without an attempt left, or to be cancelled, are ended here, of any
        kind: no worker is needed.
        """
        long_ago = from_now(-older_than_s)
        waiting = and_(QUEUED, func.coalesce(JobRow.dispatched_at, JobRow.queued_at) < long_ago)
        # A message sent before the lease ended was for the attempt that is lost; one sent since is on its way.
        sent_since = and_(JobRow.dispatched_at >= JobRow.lease_until, JobRow.dispatched_at >= long_ago)
        silent = and_(EXPIRED, func.coalesce(not_(sent_since), True))
        wanted = or_(waiting, silent) if kinds is None else and_(JobRow.kind.in_(kinds), or_(waiting, silent))
        with self._database.session() as session:
            end_abandoned(session, JobRow.id.in_(skipping_locked(EXPIRED)))
            rows = session.scalars(
                update(JobRow)
                .where(JobRow.id.in_(skipping_locked(wanted)))
                .values(dispatched_at=now())
                .returning(JobRow)
            ).all()
            return sorted((Job.from_row(row) for row in rows), key=lambda job: job.id)

    def release_waiting(self) -> _Jobs:
        """The jobs whose dataset's check is over, to be sent now; those that cannot use it have failed."""
        with self._database.session(read_only=True) as session:
            if session.scalar(select(JobRow.id).where(OVER).limit(1)) is None:
                return []
        with self._database.session() as session:
            return release(session)

    def prune(self, older_than: timedelta) -> int:
        """Delete the jobs that ended longer ago than that, with their events; returns how many it was.

        What lies under their names among the blobs is then nobody's, and the gateway's clean-up deletes it.
        """
        ended = and_(not_(ACTIVE), JobRow.finished_at < from_now(-older_than.total_seconds()))
        with self._database.session() as session:
            forget(session)
            return len(session.scalars(delete(JobRow).where(ended).returning(JobRow.id)).all())

    def _end(self, attempt: Attempt, state: JobState, within: Transaction | None, /, **values: Any) -> None:
        with self._database.session(within=within) as session:
            row = update_job(session, held_by(attempt), state=state, finished_at=now(), lease_until=None, **values)
            if row is not None:
                state_changed(session, row)
                return
            # The commit of an earlier try may have arrived although its answer did not.
            same = select(JobRow.id).where(has_id(attempt.job.id), JobRow.token == attempt.token)
            if session.scalar(same.where(JobRow.state == state)) is None:
                raise LeaseLost(attempt.job.id)

    def _requeue(self, attempt: Attempt, within: Transaction | None, /, **values: Any) -> None:
        """Back to the queue; or to its end, when the cancellation was asked for."""
        with self._database.session(within=within) as session:
            row = update_job(
                session,
                held_by(attempt),
                state=case((JobRow.cancel_requested, JobState.CANCELLED), else_=JobState.QUEUED),
                finished_at=case((JobRow.cancel_requested, now()), else_=null()),
                queued_at=now(),
                dispatched_at=None,
                lease_until=None,
                token=None,
                worker=None,
                **values,
            )
            if row is None:
                raise LeaseLost(attempt.job.id)
            if row.state == JobState.CANCELLED:
                row.error = None
                session.flush()
            state_changed(session, row)


def _unchecked(session: Session, dataset: str | None, job_id: str) -> str | None:
    """The dataset that a job names, if it is being checked by another job. Raises NotFound."""
    if dataset is None or not dataset.startswith("ds_"):
        return None
    row = lock_dataset(session, dataset)
    if row is None:
        raise NotFound("dataset", dataset)
    # The first release did not write which job checks a dataset.
    is_checked = row.state == "checking" and row.job_id not in (None, job_id)
    return dataset if is_checked else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and is_text(value) else None
