"""The Python client of Fovea: classify images, and teach new classes from yours.

from fovea_client import Fovea

with Fovea() as fovea:
    print(fovea.classify("photo.jpg", model="imagenet").label)
"""

from fovea_client.client import AsyncFovea, Fovea
from fovea_client.errors import (
    ApiError,
    Conflict,
    DatasetRefused,
    DeadlineExceeded,
    Forbidden,
    FoveaError,
    ImageFailed,
    InUse,
    InvalidImage,
    InvalidRequest,
    JobFailed,
    NotFound,
    NotReady,
    OutOfSpace,
    QuotaReached,
    ServerError,
    StillRunning,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from fovea_client.explanation import Explanation
from fovea_client.jobs import Event, Job
from fovea_client.operation import Async, Sync
from fovea_client.prediction import Prediction, ScoredClass
from fovea_client.progress import UploadProgress
from fovea_client.records import (
    Alias,
    Architecture,
    AuditEntry,
    ComparedPair,
    Dataset,
    Delivery,
    EvaluatedImage,
    Evaluation,
    MeasuredVersion,
    Model,
    Readiness,
    Report,
    Variants,
    Version,
    Webhook,
    WebhookTest,
    Worker,
)

__all__ = [
    "Alias",
    "ApiError",
    "Architecture",
    "Async",
    "AsyncFovea",
    "AuditEntry",
    "ComparedPair",
    "Conflict",
    "Dataset",
    "DatasetRefused",
    "DeadlineExceeded",
    "Delivery",
    "EvaluatedImage",
    "Evaluation",
    "Event",
    "Explanation",
    "Forbidden",
    "Fovea",
    "FoveaError",
    "ImageFailed",
    "InUse",
    "InvalidImage",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "MeasuredVersion",
    "Model",
    "NotFound",
    "NotReady",
    "OutOfSpace",
    "Prediction",
    "QuotaReached",
    "Readiness",
    "Report",
    "ScoredClass",
    "ServerError",
    "StillRunning",
    "Sync",
    "TooLarge",
    "TooMany",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "UploadProgress",
    "Variants",
    "Version",
    "Webhook",
    "WebhookTest",
    "Worker",
]
