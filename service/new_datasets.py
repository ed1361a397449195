"""A dataset and the job that makes it, written in one transaction once what the job needs lies among the blobs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import Request

from service.auth import key_of
from service.errors import request_id_of
from service.parts import parts_of, traceparent_of
from storage.datasets import Dataset
from storage.errors import DatabaseUnavailable
from storage.ids import new_id
from storage.job import Idempotency, Job
from workers.contract.jobs.base import JobRequest
from workers.contract.queues import JobKind


@dataclass(frozen=True)
class NewDataset:
    """What its row will have. `parent` is what it is a revision of, `size_bytes` what is sent for it."""

    name: str
    kind: JobKind
    size_bytes: int
    parent: Dataset | None = None
    id: str = field(default_factory=lambda: new_id("ds"))
    job_id: str = field(default_factory=lambda: new_id("job"))


class _RepeatedRequest(Exception):
    """The `Idempotency-Key` made a job before; what was about to be written is not."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


async def make(
    request: Request, new: NewDataset, asked: JobRequest, idempotency: Idempotency | None, blobs: Sequence[str]
) -> tuple[Dataset, Job]:
    """The dataset and its job, which is sent; or those that an earlier request with the key made.

    `blobs` are the keys that the job needs: they are deleted again where there is no job. Raises what
    `DatasetRegistry.add`, `JobLedger.create` and `DatasetRegistry.check_quota` raise.
    """
    parts = parts_of(request)
    owner = parts.limiter.owner(key_of(request))

    def write() -> tuple[Dataset, Job]:
        """Raises _RepeatedRequest where another request with the key was the first; then nothing is written."""
        with parts.database.session() as transaction:
            dataset = parts.datasets.add(
                new.name,
                dataset_id=new.id,
                prefix=f"datasets/{new.id}",
                size_bytes=new.size_bytes,
                job_id=new.job_id,
                owner=owner,
                parent=new.parent,
                within=transaction,
            )
            job = parts.ledger.create(
                new.kind.value,
                asked.model_dump(),
                idempotency=idempotency,
                request_id=request_id_of(request),
                traceparent=traceparent_of(request),
                job_id=new.job_id,
                owner=owner,
                within=transaction,
            )
            if job.id != new.job_id:
                raise _RepeatedRequest(job)
            if owner:
                parts.datasets.check_quota(owner, within=transaction)
        return dataset, job

    def forget() -> None:
        parts.blobs.delete_files(blobs)

    try:
        dataset, job = await asyncio.to_thread(write)
    except _RepeatedRequest as repeated:
        await asyncio.to_thread(forget)
        dataset = await asyncio.to_thread(parts.datasets.get, repeated.job.request["dataset"])
        return dataset, repeated.job
    except DatabaseUnavailable:
        # The commit may have arrived although its answer did not: then the job needs the blobs, and if it did not,
        # the clean-up deletes them.
        raise
    except Exception:
        await asyncio.to_thread(forget)
        raise
    await parts.dispatcher.dispatch(job)
    return dataset, job
