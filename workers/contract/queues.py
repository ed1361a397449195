"""Queues, tasks and kinds of jobs, and the keys in Redis that gateway and workers share."""

from collections.abc import Mapping
from enum import StrEnum

HEARTBEAT_PREFIX = "fovea:worker:"
# The set of the names that heartbeats are kept under: a search for them would pass every image in transit.
WORKERS_KEY = "fovea:workers"
REPLY_PREFIX = "fovea:reply:"
IMAGE_PREFIX = "fovea:image:"
# What is counted for each API key: requests by the library `limits`, and images on their way.
RATE_PREFIX = "fovea:rate"
IN_FLIGHT_PREFIX = "fovea:in_flight:"


class Queue(StrEnum):
    INTERACTIVE = "inference.interactive"
    BULK = "inference.bulk"
    TRAINING = "training"


class TaskName(StrEnum):
    CLASSIFY_BATCH = "inference.classify_batch"
    RUN_BULK_JOB = "inference.run_job"
    RUN_TRAINING_JOB = "training.run_job"


QUEUE_OF_TASK: Mapping[TaskName, Queue] = {
    TaskName.CLASSIFY_BATCH: Queue.INTERACTIVE,
    TaskName.RUN_BULK_JOB: Queue.BULK,
    TaskName.RUN_TRAINING_JOB: Queue.TRAINING,
}


class JobKind(StrEnum):
    CLASSIFY = "classify"
    INGEST = "ingest"
    FINETUNE = "finetune"
    PUBLISH = "publish"


TASK_OF_JOB: Mapping[JobKind, TaskName] = {
    JobKind.CLASSIFY: TaskName.RUN_BULK_JOB,
    JobKind.INGEST: TaskName.RUN_BULK_JOB,
    JobKind.FINETUNE: TaskName.RUN_TRAINING_JOB,
    JobKind.PUBLISH: TaskName.RUN_TRAINING_JOB,
}
