"""From a finished folder to a served version: its files among the blobs, then version, alias and the job's end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from models.artifact import Manifest, write_manifest
from storage.blobs import BlobStore
from storage.database import Transaction
from storage.errors import LeaseLost
from storage.reference import PRODUCTION
from storage.registry import ModelRegistry, Version
from workers.contract.jobs.base import JobResult
from workers.jobs.attempt import RunningAttempt

log = structlog.get_logger()


def register_version(
    attempt: RunningAttempt,
    folder: Path,
    manifest: Manifest,
    *,
    blobs: BlobStore,
    registry: ModelRegistry,
    promote: Callable[[int | None], bool],
    result_of: Callable[[Version, bool, Transaction], JobResult],
) -> Version:
    """Makes the folder the model's next version and, where it is to be, its `production`, and ends the job.

    `promote` is asked with the version that is in production at that moment, None where there is none, and
    `result_of` is told the answer. All three are one transaction, which `result_of` may write into: a kill leaves
    none of them or all. Raises what `_publishing` raises.
    """
    with (
        _publishing(attempt, folder, manifest, blobs) as (artifact, complete),
        attempt.transaction() as transaction,
    ):
        version = registry.add_version(
            manifest.model,
            artifact=artifact,
            manifest=complete.to_dict(),
            size_bytes=_size(complete),
            job_id=attempt.job.id,
            within=transaction,
        )
        # The new version has locked its model, so that nobody else moves an alias before this is committed.
        production = registry.get_model(version.model, within=transaction).aliases.get(PRODUCTION)
        promoted = promote(production)
        if promoted:
            registry.set_alias(version.model, PRODUCTION, version.number, within=transaction)
        attempt.succeed(result_of(version, promoted, transaction), within=transaction)
    log.info("version.registered", model=version.model, version=version.number, artifact=version.artifact)
    # Of attempts that died between their files and their version.
    blobs.delete_other_folders(version.artifact)
    return version


def replace_artifact(
    attempt: RunningAttempt,
    folder: Path,
    manifest: Manifest,
    before: Version,
    *,
    blobs: BlobStore,
    registry: ModelRegistry,
    result: Callable[[], JobResult],
) -> Version:
    """Makes the folder the artifact of the version as it was `before`, and ends the job, in one transaction.

    The folder that it had until now is left to the gateway's clean-up: batches and downloads that are under way
    find it there. Raises what `_publishing` raises, NotFound where the version was deleted meanwhile, and Conflict
    where its artifact was replaced by somebody else.
    """
    with (
        _publishing(attempt, folder, manifest, blobs) as (artifact, complete),
        attempt.transaction() as transaction,
    ):
        version = registry.replace_artifact(
            before.model,
            before.number,
            expected=before.artifact,
            artifact=artifact,
            manifest=complete.to_dict(),
            size_bytes=_size(complete),
            within=transaction,
        )
        attempt.succeed(result(), within=transaction)
    log.info("version.files_replaced", model=version.model, version=version.number, artifact=version.artifact)
    blobs.delete_other_folders(version.artifact)
    return version


@contextmanager
def _publishing(
    attempt: RunningAttempt, folder: Path, manifest: Manifest, blobs: BlobStore
) -> Iterator[tuple[str, Manifest]]:
    """The folder among the blobs, under a prefix that no other attempt has; within the block it is registered.

    Raises LeaseLost when another attempt holds the job; then nothing of this attempt stays behind. After any other
    error the files stay until the job has ended, for nobody can say whether the database's last word was a commit.
    """
    complete = write_manifest(folder, manifest)
    prefix = f"models/{manifest.model}/{attempt.job.id}/{attempt.short_id}"
    attempt.check()
    # Whoever cleans up after a killed attempt finds the job's files among the blobs by this one.
    blobs.put_bytes(f"jobs/{attempt.job.id}/registering", prefix.encode())
    blobs.put_folder(prefix, folder)
    try:
        yield prefix, complete
    except LeaseLost:
        blobs.delete_prefix(prefix)
        raise


def _size(manifest: Manifest) -> int:
    return sum(entry["bytes"] for entry in manifest.files.values())
