"""What each version has done in this gateway since it started, as the protocol's statistics tell it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache

from service.batcher import VersionKey
from service.lane import Answer
from workers.contract.messages import BatchTimings

# Users name models: of so many versions the one that was asked for least recently is forgotten.
MOST_VERSIONS = 1024


@dataclass
class Duration:
    """How many there were and how long they took together, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, milliseconds: float) -> None:
        self.count += 1
        self.ns += round(milliseconds * 1e6)

    def to_dict(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass
class BatchStatistics:
    """The batches of one size. What a batch takes between inference and reply is too little to be told."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass
class VersionStatistics:
    """`success`, `fail` and what follows count requests, whose images travel in batches with those of others.

    `queue` is the wait in the gateway and in the queue, `compute_input` fetching and decoding of the
    request's batch, `compute_infer` its inference, each the work of all threads that shared it; `compute_output`
    what is left until the answer.
    """

    inference_count: int = 0
    execution_count: int = 0
    last_inference: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, BatchStatistics] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As the protocol writes it, which wants every field; there is no cache of answers."""
        durations = {
            name: getattr(self, name).to_dict()
            for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        }
        return {
            "last_inference": self.last_inference,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {
                **durations,
                "cache_hit": Duration().to_dict(),
                "cache_miss": Duration().to_dict(),
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": batch.compute_input.to_dict(),
                    "compute_infer": batch.compute_infer.to_dict(),
                    "compute_output": batch.compute_output.to_dict(),
                }
                for size, batch in sorted(self.batches.items())
            ],
        }


class Statistics:
    """Of every version, by its model's name and its number."""

    def __init__(self) -> None:
        self._versions: LRUCache[tuple[str, int], VersionStatistics] = LRUCache(MOST_VERSIONS)

    def of(self, model: str, version: int) -> VersionStatistics:
        found = self._versions.get((model, version))
        if found is None:
            found = self._versions[model, version] = VersionStatistics()
        return found

    def all(self) -> list[tuple[tuple[str, int], VersionStatistics]]:
        """By name and number."""
        return sorted(self._versions.items(), key=lambda item: item[0])

    def record_batch(self, version: VersionKey, images: int, timings: BatchTimings) -> None:
        """A batch that a worker has answered."""
        found = self.of(version.model, version.version)
        found.execution_count += 1
        batch = found.batches.setdefault(images, BatchStatistics())
        batch.compute_input.add(timings.fetch_ms + timings.decode_ms)
        batch.compute_infer.add(timings.inference_ms)
        batch.compute_output.add(0.0)

    def record_answers(self, version: VersionKey, answers: Sequence[Answer], seconds: float) -> None:
        """A request whose images were answered, which is a failure where one of them could not be classified."""
        found = self.of(version.model, version.version)
        classified = sum(answer.outcome.error is None for answer in answers)
        found.inference_count += classified
        if not answers or classified < len(answers):
            found.fail.add(seconds * 1e3)
            return
        found.last_inference = round(time.time() * 1e3)
        queue = max(answer.waited_ms + answer.timings.queue_ms for answer in answers)
        taken_in = max(answer.timings.fetch_ms + answer.timings.decode_ms for answer in answers)
        inferred = max(answer.timings.inference_ms for answer in answers)
        found.success.add(seconds * 1e3)
        found.queue.add(queue)
        found.compute_input.add(taken_in)
        found.compute_infer.add(inferred)
        found.compute_output.add(max(0.0, seconds * 1e3 - queue - taken_in - inferred))

    def record_failure(self, version: VersionKey, seconds: float) -> None:
        """A request that was not answered in time."""
        self.of(version.model, version.version).fail.add(seconds * 1e3)
