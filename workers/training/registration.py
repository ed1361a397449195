"""From a finished folder to a served version: its files among the blobs, then version, alias and the job's end."""

from collections.abc import Callable
from pathlib import Path

import structlog

from models.artifact import Manifest, write_manifest
from storage.blobs import BlobStore
from storage.errors import LeaseLost
from storage.reference import PRODUCTION
from storage.registry import ModelRegistry, Version
from workers.contract.jobs import JobResult
from workers.jobs.attempt import RunningAttempt

log = structlog.get_logger()


def register_version(
    attempt: RunningAttempt,
    folder: Path,
    manifest: Manifest,
    *,
    blobs: BlobStore,
    registry: ModelRegistry,
    promote: bool,
    result_of: Callable[[Version], JobResult],
) -> Version:
    """Makes the folder the model's next version and, with `promote`, its `production`, and ends the job.

    All three are one transaction: a kill leaves none of them or all. Raises LeaseLost when another attempt holds
    the job; then nothing is registered, and nothing of this attempt stays behind. After any other error the files
    stay until the job has ended, for nobody can say whether the database's last word was a commit.
    """
    complete = write_manifest(folder, manifest)
    family = f"models/{manifest.model}/{attempt.job.id}"
    prefix = f"{family}/{attempt.name}"
    attempt.check()
    blobs.put_folder(prefix, folder)
    try:
        with attempt.transaction() as transaction:
            version = registry.add_version(
                manifest.model,
                artifact=prefix,
                manifest=complete.to_dict(),
                size_bytes=sum(entry["bytes"] for entry in complete.files.values()),
                job_id=attempt.job.id,
                within=transaction,
            )
            if promote:
                registry.set_alias(version.model, PRODUCTION, version.number, within=transaction)
            attempt.succeed(result_of(version), within=transaction)
    except LeaseLost:
        blobs.delete_prefix(prefix)
        raise
    log.info("version.registered", model=version.model, version=version.number, artifact=version.artifact)
    _delete_other_attempts(blobs, family, kept=version.artifact.rstrip("/").rpartition("/")[2])
    return version


def _delete_other_attempts(blobs: BlobStore, family: str, kept: str) -> None:
    """What attempts left that died between their files and their version."""
    for attempt in set(blobs.folders(family)) - {kept}:
        blobs.delete_prefix(f"{family}/{attempt}")
