"""What a job of each kind is asked, and what comes of it.

A job's row keeps both as JSON and outlives the release that wrote it, so a reader ignores fields that it does not
know, and every field added after the first release has a default. A snapshot test holds the JSON of each. What
clients ask for by JSON is validated by the same models.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from workers.contract.jobs.base import JobRequest, JobResult
from workers.contract.jobs.classify import ClassifyRequest, ClassifyResult
from workers.contract.jobs.classify_many import ClassifyManyRequest, ClassifyManyResult
from workers.contract.jobs.datasets import IngestRequest, IngestResult, ReviseRequest, ReviseResult
from workers.contract.jobs.diagnose import DiagnoseRequest, DiagnoseResult
from workers.contract.jobs.evaluate import EvaluateRequest, EvaluateResult
from workers.contract.jobs.finetune import FinetuneRequest, FinetuneResult
from workers.contract.jobs.publish import PublishRequest, PublishResult
from workers.contract.jobs.variants import VariantsRequest, VariantsResult
from workers.contract.queues import JobKind

REQUEST_OF_JOB: Mapping[JobKind, type[JobRequest]] = {
    JobKind.CLASSIFY: ClassifyRequest,
    JobKind.CLASSIFY_MANY: ClassifyManyRequest,
    JobKind.INGEST: IngestRequest,
    JobKind.REVISE: ReviseRequest,
    JobKind.FINETUNE: FinetuneRequest,
    JobKind.PUBLISH: PublishRequest,
    JobKind.VARIANTS: VariantsRequest,
    JobKind.EVALUATE: EvaluateRequest,
    JobKind.DIAGNOSE: DiagnoseRequest,
}
RESULT_OF_JOB: Mapping[JobKind, type[JobResult]] = {
    JobKind.CLASSIFY: ClassifyResult,
    JobKind.CLASSIFY_MANY: ClassifyManyResult,
    JobKind.INGEST: IngestResult,
    JobKind.REVISE: ReviseResult,
    JobKind.FINETUNE: FinetuneResult,
    JobKind.PUBLISH: PublishResult,
    JobKind.VARIANTS: VariantsResult,
    JobKind.EVALUATE: EvaluateResult,
    JobKind.DIAGNOSE: DiagnoseResult,
}
Request = TypeVar("Request", bound=JobRequest)


def read_request(kind: type[Request], row: Mapping[str, Any]) -> Request:
    """A job's request from its row. Raises pydantic's ValidationError.

    What a newer release added is ignored, and numbers are taken in forms that clients may not send any more.
    """
    return kind.model_validate(row, extra="ignore", strict=False)
