"""What a Fovea holds when everything has come to rest, read past it: rows, blobs, files, queues."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.site import Site, connected
from sqlalchemy import select

from storage.blobs import BlobStore
from storage.database import open_database
from storage.errors import NotFound
from storage.job import JobState
from storage.tables import AliasHistoryRow, AliasRow, DatasetRow, EventRow, JobRow, VersionRow

Json = dict[str, Any]

# What a process that was killed may have left half-done, by the folder of FOVEA_DATA in which it does it.
SCRATCH = (
    "uploads/*",
    "cache/*/scratch-*",
    "work/*",
    "blobs/.staging/*",
)
OVER = {state.value for state in JobState if state.is_terminal}


@dataclass(frozen=True)
class VersionState:
    """`faults` are its files that are missing or have another sha256 than its manifest says."""

    model: str
    number: int
    artifact: str
    job: str | None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetState:
    id: str
    state: str
    prefix: str
    job: str | None
    duplicate_of: str | None


@dataclass
class Snapshot:
    """`endings` counts the events by which each job ended; `aliases` has each one's moves, oldest first, and
    whether it was rolled back; `strays` are temporary files; `messages` what waits in the queues, by key."""

    jobs: dict[str, Json] = field(default_factory=dict)
    endings: dict[str, int] = field(default_factory=dict)
    versions: list[VersionState] = field(default_factory=list)
    aliases: dict[tuple[str, str], tuple[tuple[int, bool], ...]] = field(default_factory=dict)
    points_at: dict[tuple[str, str], int] = field(default_factory=dict)
    datasets: dict[str, DatasetState] = field(default_factory=dict)
    blobs: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    messages: Mapping[str, int] = field(default_factory=dict)


def take_snapshot(site: Site) -> Snapshot:
    snapshot = Snapshot()
    blobs = site.store.blobs
    with closing(open_database(site.database_url)) as database, database.session(read_only=True) as session:
        for job in session.scalars(select(JobRow)):
            names = ("id", "kind", "state", "request", "result", "error", "attempt")
            snapshot.jobs[job.id] = {name: getattr(job, name) for name in names}
        for event in session.scalars(select(EventRow).where(EventRow.kind == "state")):
            if event.data["state"] in OVER:
                snapshot.endings[event.job_id] = snapshot.endings.get(event.job_id, 0) + 1
        for row in session.scalars(select(VersionRow)):
            faults = tuple(_faults(blobs, row.artifact, row.manifest))
            snapshot.versions.append(VersionState(row.model, row.number, row.artifact, row.job_id, faults))
        moves = select(AliasHistoryRow).order_by(AliasHistoryRow.position)
        for move in session.scalars(moves):
            told = snapshot.aliases.get((move.model, move.alias), ())
            snapshot.aliases[move.model, move.alias] = (*told, (move.number, move.rolled_back_at is not None))
        for alias in session.scalars(select(AliasRow)):
            snapshot.points_at[alias.model, alias.alias] = alias.number
        for found in session.scalars(select(DatasetRow)):
            snapshot.datasets[found.id] = DatasetState(
                found.id, found.state, found.prefix, found.job_id, found.duplicate_of
            )
    snapshot.blobs = tuple(blobs.list())
    snapshot.strays = tuple(_strays(site))
    snapshot.messages = _messages(site.redis["broker"])
    return snapshot


def _faults(blobs: BlobStore, artifact: str, manifest: Mapping[str, Any]) -> Iterator[str]:
    for name, entry in manifest["files"].items():
        try:
            content = blobs.get_bytes(f"{artifact.rstrip('/')}/{name}")
        except NotFound:
            yield f"{name} is missing"
        else:
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                yield f"{name} has another sha256"


def _strays(site: Site) -> Iterator[str]:
    for folder in site.data_folders:
        for path in [found for pattern in SCRATCH for found in folder.glob(pattern)]:
            yield _told(site, path)
        for path in folder.rglob("*.part"):
            yield _told(site, path)


def _told(site: Site, path: Path) -> str:
    age = time.time() - path.stat().st_mtime
    return f"{path.relative_to(site.folder)} ({age:.0f} s old)"


def _messages(socket: Path) -> Mapping[str, int]:
    """Of each queue, and those that a worker has not acknowledged."""
    with closing(connected(socket)) as server:
        found: dict[str, int] = {}
        for key in server.scan_iter(match="fovea:queue:*"):
            kind = server.type(key)
            if kind == "list":
                found[key] = int(server.llen(key))  # type: ignore[arg-type]
            elif kind == "hash":
                found[key] = int(server.hlen(key))  # type: ignore[arg-type]
        return found
