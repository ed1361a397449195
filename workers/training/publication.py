"""From a finished folder to a served version: manifest, blobs, registry. Each step can be repeated."""

from pathlib import Path

import structlog

from models.artifact import Manifest, write_manifest
from storage.errors import LeaseLost
from storage.registry import Version
from workers.training.context import Context

log = structlog.get_logger()


def publish_version(context: Context, folder: Path, manifest: Manifest) -> Version:
    """Makes the folder the model's next version; a job that was repeated gets the version it made before.

    Raises LeaseLost when another attempt holds the job: then nothing is published and nothing stays behind.
    """
    complete = write_manifest(folder, manifest)
    context.lease.check()
    prefix = context.artifact_prefix
    context.blobs.put_folder(prefix, folder)
    try:
        context.lease.check()
        version = context.registry.add_version(
            manifest.model,
            artifact=prefix,
            manifest=complete.to_dict(),
            size_bytes=sum(entry["bytes"] for entry in complete.files.values()),
            job_id=context.job_id,
            token=context.attempt.token,
        )
    except LeaseLost:
        context.blobs.delete_prefix(prefix)
        raise
    _drop_other_attempts(context, version)
    log.info("training.published", model=version.model, version=version.number, artifact=version.artifact)
    return version


def _drop_other_attempts(context: Context, version: Version) -> None:
    """An earlier attempt may have died between its files and its version, or published before it died."""
    family = context.artifact_prefix.rpartition("/")[0]
    stale = {key[len(family) + 1 :].split("/")[0] for key in context.blobs.list(family)}
    for attempt in stale - {version.artifact.rstrip("/").rpartition("/")[2]}:
        context.blobs.delete_prefix(f"{family}/{attempt}")
