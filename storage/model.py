"""What a model and a version of it are, and how they are read. The rules are in `storage.registry`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from storage.tables import AliasRow, ModelRow, ModelTagRow, VersionRow


@dataclass(frozen=True)
class Model:
    """`latest` is the highest number there is now; None when every version was deleted. `tags` are sorted."""

    name: str
    created_at: datetime
    updated_at: datetime
    aliases: dict[str, int]
    latest: int | None
    versions: int
    description: str | None
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Version:
    """What a model answers, for good. `artifact` is the prefix of its files among the blobs.

    Files there never change: with variants the version gets another artifact, with the same `model.onnx`.
    """

    model: str
    number: int
    artifact: str
    architecture: str
    created_at: datetime
    job_id: str | None
    labels: tuple[str, ...]
    metrics: dict[str, Any]
    manifest: dict[str, Any]
    size_bytes: int
    aliases: tuple[str, ...]


def read_models(session: Session, rows: Sequence[ModelRow]) -> tuple[Model, ...]:
    """The models of the rows, in their order."""
    names = [row.name for row in rows]
    aliases: dict[str, dict[str, int]] = {name: {} for name in names}
    pointing = select(AliasRow).where(AliasRow.model.in_(names)).order_by(AliasRow.alias)
    for alias in session.scalars(pointing):
        aliases[alias.model][alias.alias] = alias.number
    counting = (
        select(VersionRow.model, func.max(VersionRow.number), func.count())
        .where(VersionRow.model.in_(names))
        .group_by(VersionRow.model)
    )
    counts: dict[str, tuple[int | None, int]] = {
        name: (latest, count) for name, latest, count in session.execute(counting)
    }
    tags: dict[str, list[str]] = {name: [] for name in names}
    tagging = select(ModelTagRow).where(ModelTagRow.model.in_(names)).order_by(ModelTagRow.tag)
    for tagged in session.scalars(tagging):
        tags[tagged.model].append(tagged.tag)
    return tuple(
        Model(
            row.name,
            row.created_at,
            row.updated_at,
            aliases[row.name],
            *counts.get(row.name, (None, 0)),
            row.description,
            tuple(tags[row.name]),
        )
        for row in rows
    )


def read_versions(session: Session, *which: ColumnElement[bool]) -> tuple[Version, ...]:
    """Such versions with their aliases, newest first, in one query."""
    points_here = (AliasRow.model == VersionRow.model) & (AliasRow.number == VersionRow.number)
    rows = session.execute(
        select(VersionRow, AliasRow.alias)
        .outerjoin(AliasRow, points_here)
        .where(*which)
        .order_by(VersionRow.number.desc(), AliasRow.alias)
    )
    aliases: dict[VersionRow, list[str]] = {}
    for row, alias in rows:
        aliases.setdefault(row, []).extend([alias] if alias else [])
    return tuple(_version(row, tuple(names)) for row, names in aliases.items())


def read_version(session: Session, *which: ColumnElement[bool]) -> Version | None:
    """The one such version with its aliases, in one query."""
    versions = read_versions(session, *which)
    return versions[0] if versions else None


def _version(row: VersionRow, aliases: tuple[str, ...]) -> Version:
    return Version(
        model=row.model,
        number=row.number,
        artifact=row.artifact,
        architecture=row.architecture,
        created_at=row.created_at,
        job_id=row.job_id,
        labels=tuple(row.manifest.get("labels") or ()),
        metrics=dict(row.manifest.get("metrics") or {}),
        manifest=row.manifest,
        size_bytes=row.size_bytes,
        aliases=aliases,
    )
