"""Queues, tasks and kinds of jobs, and the keys in Redis that gateway and workers share."""

from collections.abc import Mapping
from enum import StrEnum

HEARTBEAT_PREFIX = "fovea:worker:"
# The set of the names that heartbeats are kept under: a search for them would pass every image in transit.
WORKERS_KEY = "fovea:workers"
# The same under a longer time to live, for a worker whose machine is too busy to let it speak; it counts as long
# as the worker holds its subscription to a channel of its own, which ends with its process.
LATE_PREFIX = "fovea:late:"
ALIVE_PREFIX = "fovea:alive:"
# What a worker has in hand: a hash from batches to `InHand`.
HAND_PREFIX = "fovea:hand:"
# What ends its worker: see docs/decisions/0013. Subjects are `image:SHA256` and `model:ARTIFACT`.
SUSPECTS_KEY = "fovea:suspects"
SUSPECT_PREFIX = "fovea:suspect:"
DEATHS_PREFIX = "fovea:deaths:"
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
    CLASSIFY_MANY = "classify_many"
    INGEST = "ingest"
    REVISE = "revise"
    FINETUNE = "finetune"
    PUBLISH = "publish"
    VARIANTS = "variants"
    EVALUATE = "evaluate"
    DIAGNOSE = "diagnose"


TASK_OF_JOB: Mapping[JobKind, TaskName] = {
    JobKind.CLASSIFY: TaskName.RUN_BULK_JOB,
    JobKind.CLASSIFY_MANY: TaskName.RUN_BULK_JOB,
    JobKind.INGEST: TaskName.RUN_BULK_JOB,
    JobKind.REVISE: TaskName.RUN_BULK_JOB,
    JobKind.FINETUNE: TaskName.RUN_TRAINING_JOB,
    JobKind.PUBLISH: TaskName.RUN_TRAINING_JOB,
    JobKind.VARIANTS: TaskName.RUN_TRAINING_JOB,
    JobKind.EVALUATE: TaskName.RUN_BULK_JOB,
    JobKind.DIAGNOSE: TaskName.RUN_TRAINING_JOB,
}
# Nobody waits for these: one that runs is given back for one of those that waits.
GIVES_WAY = frozenset({JobKind.VARIANTS})
TAKES_PRECEDENCE = frozenset({JobKind.FINETUNE, JobKind.PUBLISH, JobKind.DIAGNOSE})
