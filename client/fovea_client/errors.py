"""Everything that can go wrong, as a tree: catch as much of it as you like.

FoveaError
├── ApiError              Fovea answered with an error: `status`, `code`, `detail`, `request_id`, `errors`
│   ├── InvalidRequest    4xx: what was sent cannot be answered; `errors` names the wrong fields
│   │   ├── InvalidImage  400, 422: an image that is none, or cannot be decoded
│   │   ├── UnknownImage  422: it shows none of the classes, and on_unknown is refuse
│   │   └── TooLarge      413: beyond a limit of the server
│   ├── Unauthorized      401: no key, or one that is unknown, expired or revoked
│   ├── Forbidden         403: the key may not do that
│   ├── NotFound          404: no such model, version, dataset, job ...
│   ├── Conflict          409: not as things are now
│   │   ├── InUse         something still needs what was to be deleted
│   │   └── NotReady      a dataset that is still being checked
│   ├── TooMany           429: the queue is full, or the key's limit is reached
│   │   └── QuotaReached  the key's datasets are too many bytes: no time heals that
│   ├── ServerError       500: a fault of Fovea; its log has it under the request id
│   ├── Unavailable       503: a part of Fovea is away
│   ├── DeadlineExceeded  504: nobody answered in time
│   └── OutOfSpace        507: the server's disk is full
├── Unreachable           nothing, or something else than Fovea, answers at the URL
├── ImageFailed           one image of several could not be classified: `code`, `detail`
├── DatasetRefused        the check of a dataset refused it: `dataset`, `report`
├── JobFailed             a job that was waited for failed or was cancelled: `code`, `detail`, `job`
└── StillRunning          a job was not over after as long as somebody was ready to wait
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fovea_client.jobs import Job
    from fovea_client.records import Dataset, Report


class FoveaError(Exception):
    """Base of all of them; its text is a sentence for people."""


class ApiError(FoveaError):
    """An error answer of the API.

    `code` is stable and what programs look at; `errors` has the wrong fields of an `invalid_request`, each with
    `field` and `message`; `retry_after_s` is when to come again, if the server said so.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        status: int,
        request_id: str | None = None,
        errors: tuple[Mapping[str, str], ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        self.code = code
        self.detail = detail
        self.status = status
        self.request_id = request_id
        self.errors = errors
        self.retry_after_s = retry_after_s
        suffix = f" [request {request_id}]" if request_id else ""
        super().__init__(f"{detail} ({status} {code}){suffix}")

    def __reduce__(self) -> tuple[Any, ...]:
        told = (self.code, self.detail, self.status, self.request_id, self.errors, self.retry_after_s)
        return type(self), told


class InvalidRequest(ApiError):
    """What was sent cannot be answered as it is."""


class InvalidImage(InvalidRequest):
    """The image is none, or cannot be decoded."""


class UnknownImage(InvalidRequest):
    """The image shows none of the version's classes, and such images were to be refused."""


class TooLarge(InvalidRequest):
    """More bytes or images than the server takes."""


class Unauthorized(ApiError):
    """No key was sent, or one that the server does not know any more."""


class Forbidden(ApiError):
    """The key lacks the scope."""


class NotFound(ApiError):
    """There is no such thing."""


class Conflict(ApiError):
    """It cannot be done as things are now."""


class InUse(Conflict):
    """Something still needs it: a job a dataset, an alias a version or model."""


class NotReady(Conflict):
    """The dataset is still being checked."""


class TooMany(ApiError):
    """More than the server, or the key, takes at once."""


class QuotaReached(TooMany):
    """The datasets of the key would have more bytes than it may store: delete one."""


class ServerError(ApiError):
    """A fault of Fovea."""


class Unavailable(ApiError):
    """A part of Fovea is away."""


class DeadlineExceeded(ApiError):
    """Nobody answered in time."""


class OutOfSpace(ApiError):
    """The server's disk is full."""


class Unreachable(FoveaError):
    """No Fovea answers at the URL.

    `was_sent` is False where the request surely reached nobody; `may_pass` says whether it may be otherwise in a
    moment.
    """

    def __init__(self, detail: str, *, was_sent: bool = True, may_pass: bool = False) -> None:
        super().__init__(detail)
        self.was_sent = was_sent
        self.may_pass = may_pass


class ImageFailed(FoveaError):
    """An image could not be classified, while others of the same list were."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.detail} ({self.code})"


class DatasetRefused(FoveaError):
    """What was sent cannot be learned from; `report` lists every fault."""

    def __init__(self, dataset: "Dataset", report: "Report") -> None:
        super().__init__(dataset, report)
        self.dataset = dataset
        self.report = report

    def __str__(self) -> str:
        return f"dataset {self.dataset.id} is refused: {'; '.join(self.report.refusals) or 'see its report'}"


class JobFailed(FoveaError):
    """The job ended as failed or cancelled, `job` as it ended. A cancelled one has no code."""

    def __init__(self, job: "Job[Any]") -> None:
        super().__init__(job)
        self.job = job
        error = job.error or {}
        self.code: str | None = error.get("code")
        self.detail: str | None = error.get("detail")

    def __str__(self) -> str:
        reason = f": {self.detail} ({self.code})" if self.job.error else ""
        kept = self.job.result or {}
        if kept.get("version"):
            reason += f"; the best until then is kept: {kept.get('model')} version {kept['version']}"
        return f"job {self.job.id} {self.job.state}{reason}"


class StillRunning(FoveaError):
    """The job goes on; `job` as it was seen last."""

    def __init__(self, job: "Job[Any]", waited_s: float) -> None:
        super().__init__(job, waited_s)
        self.job = job
        self.waited_s = waited_s

    def __str__(self) -> str:
        return f"job {self.job.id} is still {self.job.state} after {self.waited_s:.0f} s"


# The narrower table: what a program does about these is not what it does about the status.
CLASS_OF_CODE: Mapping[str, type[ApiError]] = {
    "not_an_image": InvalidImage,
    "image_unreadable": InvalidImage,
    "image_too_large": InvalidImage,
    "image_quarantined": InvalidImage,
    "unknown_image": UnknownImage,
    "in_use": InUse,
    "not_checked_yet": NotReady,
    "storage_quota": QuotaReached,
}
CLASS_OF_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: InvalidRequest,
    406: InvalidRequest,
    408: InvalidRequest,
    409: Conflict,
    413: TooLarge,
    415: InvalidRequest,
    421: InvalidRequest,
    422: InvalidRequest,
    429: TooMany,
    431: InvalidRequest,
    499: InvalidRequest,
    500: ServerError,
    503: Unavailable,
    504: DeadlineExceeded,
    507: OutOfSpace,
}
# What is wrong with one image, or where it was worked on, and says nothing of a request with others.
OF_ONE_IMAGE = frozenset(
    {
        "not_an_image", "image_unreadable", "image_too_large", "image_quarantined", "image_lost", "too_large",
        "unknown_image", "artifact_unusable", "model_unusable", "model_quarantined", "precision_unavailable",
        "coverage_unavailable", "explanation_unavailable", "device_unavailable",
        "out_of_memory", "database_unavailable", "blobs_unavailable", "broker_unavailable", "disk_full",
        "disk_failed", "inference_failed", "storage_failed", "internal",
    }
)  # fmt: skip


def class_of(status: int, code: str) -> type[ApiError]:
    """The narrowest class there is; of what a newer server may send, the one of its hundred."""
    if code in CLASS_OF_CODE:
        return CLASS_OF_CODE[code]
    return CLASS_OF_STATUS.get(status) or (InvalidRequest if status < 500 else ServerError)
