"""Idempotency keys: which job a client's key made, for 24 hours."""

import hashlib
import json

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage.clock import from_now, now
from storage.database import Database
from storage.errors import Conflict
from storage.job import Idempotency, Job
from storage.tables import IdempotencyRow, JobRow

REMEMBERED_S = 24 * 3600


def claim(database: Database, session: Session, idempotency: Idempotency, job_id: str) -> Job | None:
    """Win the key for a job about to be written (None), or find the job that another call won it for.

    A call that comes while the winner has not committed yet waits for it. Raises Conflict when the winner
    made another request.
    """
    digest = hashlib.sha256(json.dumps([idempotency.scope, idempotency.key]).encode()).hexdigest()
    ours = {"fingerprint": idempotency.fingerprint, "job_id": job_id, "created_at": now()}
    won = session.scalar(
        database.insert(IdempotencyRow)
        .values(digest=digest, **ours)
        .on_conflict_do_update(
            index_elements=["digest"], set_=ours, where=IdempotencyRow.created_at < from_now(-REMEMBERED_S)
        )
        .returning(IdempotencyRow.job_id)
    )
    if won is not None:
        return None
    fingerprint, row = session.execute(
        select(IdempotencyRow.fingerprint, JobRow)
        .join(JobRow, JobRow.id == IdempotencyRow.job_id)
        .where(IdempotencyRow.digest == digest)
    ).one()
    if fingerprint != idempotency.fingerprint:
        raise Conflict(
            f"The idempotency key {idempotency.key[:100]!r} was used for another request within 24 hours. "
            "Use a new key for a new request, or send the first request again unchanged."
        )
    return Job.from_row(row)


def forget(session: Session) -> None:
    """Delete the keys that are no longer remembered."""
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < from_now(-REMEMBERED_S)))
