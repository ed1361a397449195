"""The durable jobs of an inference worker: taken one message at a time, each in a thread of its bulk process."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.job_ledger import JobLedger
from workers.jobs.attempt import JobFunction, give_back_unknown, run_attempt, take
from workers.traces import Tracer


@dataclass(frozen=True)
class InferenceJobs:
    """Runs jobs by their kind; after `stop` those that run are given back, and no other is begun."""

    ledger: JobLedger
    functions: Mapping[str, JobFunction]
    worker: str
    lease_s: float
    tracer: Tracer | None = None
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)

    def run(self, job_id: str) -> None:
        """Take the job and see it through; does nothing when it is another worker's, has ended or is cancelled."""
        if self._stopping.is_set():
            # The job stays queued, and the reconciler sends it to another worker.
            return
        attempt = take(self.ledger, job_id, self.worker, self.lease_s)
        if attempt is None:
            return
        function = self.functions.get(attempt.job.kind)
        if function is None:
            give_back_unknown(self.ledger, attempt)
            return
        run_attempt(self.ledger, attempt, function, lease_s=self.lease_s, stop=self._stopping, tracer=self.tracer)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Have the jobs that run stop at their next step; safe in a signal handler and from any thread."""
        self._stopping.set()
