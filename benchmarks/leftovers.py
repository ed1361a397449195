"""The files of a Fovea at rest that nothing in its database owns."""

from collections.abc import Iterator
from pathlib import Path

from service.cleanup import KEEPS_RESULTS
from storage.blobs import BlobStore, is_image
from storage.database import Database, open_database
from storage.datasets import DatasetRegistry
from storage.errors import NotFound
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry

# What passes through these folders is gone when nothing runs.
PASSING = ("uploads", "cache/ingest", "work")
PAGE = 200


def leftovers(data: Path, temporary: Path) -> list[str]:
    """Paths relative to `data`, and those left in the folder of temporary files. Nothing may run meanwhile."""
    database = open_database(f"sqlite:///{data / 'fovea.db'}")
    try:
        unowned = list(_unowned_blobs(database, BlobStore((data / "blobs").as_uri())))
    finally:
        database.close()
    passing = [
        str(path.relative_to(data)) for folder in PASSING for path in (data / folder).rglob("*") if path.is_file()
    ]
    return sorted(unowned + passing + [f"tmp/{path.name}" for path in temporary.iterdir()])


def _unowned_blobs(database: Database, blobs: BlobStore) -> Iterator[str]:
    owned = {prefix.rstrip("/") + "/" for prefix in (*_artifacts(database), *_datasets(database))}
    for key in blobs.list():
        if key.startswith("jobs/"):
            if not _keeps_files(database, key.split("/")[1]):
                yield f"blobs/{key}"
        elif is_image(key):
            continue
        elif not any(key.startswith(prefix) for prefix in owned):
            yield f"blobs/{key}"


def _artifacts(database: Database) -> Iterator[str]:
    registry = ModelRegistry(database)
    models = registry.list_models(PAGE)
    while True:
        for model in models.items:
            versions = registry.list_versions(model.name, PAGE)
            yield from (version.artifact for version in versions.items)
            while versions.next_cursor:
                versions = registry.list_versions(model.name, PAGE, versions.next_cursor)
                yield from (version.artifact for version in versions.items)
        if not models.next_cursor:
            return
        models = registry.list_models(PAGE, models.next_cursor)


def _datasets(database: Database) -> Iterator[str]:
    registry = DatasetRegistry(database)
    yield from (kept.prefix for kept in registry.kept.list())
    found = registry.list(PAGE)
    while True:
        yield from (dataset.prefix for dataset in found.items if dataset.prefix)
        if not found.next_cursor:
            return
        found = registry.list(PAGE, found.next_cursor)


def _keeps_files(database: Database, job_id: str) -> bool:
    """A job that runs; and one whose results lie there as long as its record."""
    try:
        job = JobLedger(database).get(job_id)
    except NotFound:
        return False
    return job.kind in KEEPS_RESULTS or not job.state.is_terminal
