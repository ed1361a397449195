"""One training job in its own process: `python -m workers.training.runner`, the attempt as JSON on stdin.

Runs the job's phases and ends it: with a result, with a reason, or by giving it back. Exits 0 whenever the
job's row says what happened; anything else is for the worker that started this process to explain. With `--spare`
it is started before there is a job, and imports everything while it waits for one.
"""

import workers.lean  # noqa: F401 - first: what follows imports the libraries that it trims

# isort: split
import contextlib
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from models.dataset.builtin import BUILTIN
from models.weights.store import WeightsStore
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.database import Database, open_database
from storage.datasets import DatasetRegistry
from storage.errors import InvalidSettings, StorageError
from storage.job import Attempt, JobState
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry
from system.garbage import collect_new_garbage
from system.memory import first_when_memory_is_short
from system.priority import BULK_NICENESS, TRAINER_NICENESS, stand_back
from system.scratch import sweep_scratch
from system.stopping import stop_on_sigterm
from workers.contract.queues import GIVES_WAY, JobKind
from workers.jobs.attempt import RunningAttempt, run_attempt
from workers.logs import configure_logging, refuse
from workers.settings import WorkerSettings
from workers.traces import open_tracer
from workers.training.cleanup import CACHES, bound_cache, delete_old_work, work_folder
from workers.training.progress import ProgressReporter
from workers.training.spare import SPARE_OPTION

if TYPE_CHECKING:
    from workers.training.export import Exporter

# Less than the worker waits for it, so that a training that does not come to its end says where it is. One whose
# worker was killed has nobody else to end it, and would hold its job for good.
GRACE_S = 50.0

log = structlog.get_logger()


def main() -> int:
    # Before torch starts its threads, which inherit it.
    stand_back(TRAINER_NICENESS)
    try:
        settings = WorkerSettings()
    except InvalidSettings as error:
        return refuse("trainer", error)
    # torch makes this folder when its exporter is imported, and otherwise in the machine's for temporary files.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(settings.cache / "inductor"))
    # OpenMP reads this when torch loads it. Threads that spin while they wait for each other slow a training down
    # tenfold where other processes want the same cores (measured: LeNet-5, 2 cores, a busy gateway).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    configure_logging("trainer", form=settings.log_format, level=settings.log_level)
    for chatty in ("onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    said = _wait_for_job() if SPARE_OPTION in sys.argv[1:] else sys.stdin.read()
    if not said:
        # The worker has ended without a job for this process.
        return 0
    # Not before: until there is a job, there is nothing that the signal should not end at once.
    stop = stop_on_sigterm(GRACE_S)
    given = json.loads(said)
    if given.get("kind") in GIVES_WAY:
        stand_back(BULK_NICENESS)
    collect_new_garbage()
    run(given["job"], given["token"], settings, taken_at=given.get("taken_at"), stop=stop)
    return 0


def _wait_for_job() -> str:
    with first_when_memory_is_short():
        # Takes seconds, most of them to import torch.
        from workers.training.warm import warm_up

        warm_up()
        return sys.stdin.read()


def run(
    job_id: str,
    token: str,
    settings: WorkerSettings,
    *,
    taken_at: float | None = None,
    stop: threading.Event | None = None,
    exporter: "Exporter | None" = None,
) -> None:
    """See the attempt that `token` is of through. Once `stop` is set, it writes a checkpoint and is given back.

    `taken_at` is when the worker took it, in seconds since the epoch, for the account of where time went.
    """
    database = open_database(settings.database)
    tracer = open_tracer("trainer", settings)
    try:
        ledger = JobLedger(database)
        attempt = Attempt(ledger.get(job_id), token)
        work_dir = work_folder(settings.data) / job_id
        delete_old_work(work_dir.parent, ledger, keep=job_id)
        sweep_scratch(settings.cache / BUILTIN)
        bound_cache([settings.cache / name for name in CACHES], settings.training_cache_bytes)
        blobs = BlobStore(settings.blobs)
        with contextlib.closing(
            FolderCache(blobs, settings.cache / "blobs", settings.artifact_cache_bytes)
        ) as folders:

            def phases(running: RunningAttempt) -> None:
                reporter = ProgressReporter(running, time.time() - taken_at if taken_at else 0.0)
                try:
                    # Said before torch is imported, which takes seconds.
                    reporter.phase("preparing")
                    job = job_of(running.job.kind, settings, database, blobs, folders, reporter, exporter)
                    job(running, reporter, work_dir)
                finally:
                    reporter.end_phase()

            run_attempt(
                ledger,
                attempt,
                phases,
                lease_s=settings.lease_s,
                stop=stop,
                tracer=tracer,
                taken_at=taken_at,
            )
        clean_up(ledger, ModelRegistry(database), job_id, work_dir, blobs)
    finally:
        database.close()
        if tracer:
            tracer.close()


def job_of(
    kind: str,
    settings: WorkerSettings,
    database: Database,
    blobs: BlobStore,
    folders: FolderCache,
    reporter: ProgressReporter,
    exporter: "Exporter | None",
) -> Callable[[RunningAttempt, ProgressReporter, Path], None]:
    """The job of that kind with what it needs. Imports torch, only now that the job is known to be ours."""
    weights = WeightsStore(settings.weights, settings.weights_url or None, settings.offline, reporter.download)
    registry = ModelRegistry(database)
    instead: dict[str, Any] = {"exporter": exporter} if exporter else {}
    if kind == JobKind.PUBLISH:
        from workers.training.publish import PublishJob

        return PublishJob(registry, blobs, weights, **instead)
    if kind == JobKind.DIAGNOSE:
        from workers.training.diagnose import DiagnoseJob

        return DiagnoseJob(settings, registry, DatasetRegistry(database), blobs, folders)
    if kind == JobKind.VARIANTS:
        from workers.training.variants import VariantsJob

        return VariantsJob(settings, registry, DatasetRegistry(database), blobs, folders)
    from workers.training.finetune import FinetuneJob

    return FinetuneJob(settings, registry, DatasetRegistry(database), blobs, folders, weights, **instead)


def clean_up(ledger: JobLedger, registry: ModelRegistry, job_id: str, work_dir: Path, blobs: BlobStore) -> None:
    """Once the job has ended nobody resumes it: its checkpoints go, and the files of a version that never came."""
    with contextlib.suppress(StorageError):
        job = ledger.get(job_id)
        if not job.state.is_terminal:
            return
        shutil.rmtree(work_dir, ignore_errors=True)
        files = f"models/{job.request['model']}/{job_id}"
        # What one that succeeded wrote was a version's: once it is not any more, the gateway's clean-up finds it.
        if job.state is not JobState.SUCCEEDED and not registry.has_files_of(job_id, files):
            blobs.delete_prefix(files)
        blobs.delete_prefix(f"jobs/{job_id}")


if __name__ == "__main__":
    sys.exit(main())
