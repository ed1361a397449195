"""The tables. What they mean is said by the class that owns each; nothing outside this package names them.

A change here needs a migration in `storage/migrations`; a test compares the two on both databases.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.columns import NAME, Json, Utc


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # the form SQLAlchemy asks for
        str: String(),
        datetime: Utc(),
        dict[str, Any]: Json(),
        list[str]: Json(),
        list[Any]: Json(),
    }


class ModelRow(Base):
    __tablename__ = "models"

    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    description: Mapped[str | None] = mapped_column(Text)


class ModelTagRow(Base):
    __tablename__ = "model_tags"

    model: Mapped[str] = mapped_column(NAME, ForeignKey("models.name", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(NAME, primary_key=True, index=True)


class VersionCounterRow(Base):
    """The highest number a model name ever had. It outlives the model, so that no number is given twice."""

    __tablename__ = "version_counters"

    model: Mapped[str] = mapped_column(NAME, primary_key=True)
    last: Mapped[int]


class VersionRow(Base):
    __tablename__ = "versions"

    model: Mapped[str] = mapped_column(NAME, ForeignKey("models.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    artifact: Mapped[str]
    architecture: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # Not a foreign key: a version outlives the job that made it.
    job_id: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[datetime]


class AliasRow(Base):
    """The foreign key is what keeps a version from being deleted while an alias points at it."""

    __tablename__ = "aliases"

    model: Mapped[str] = mapped_column(NAME, primary_key=True)
    alias: Mapped[str] = mapped_column(NAME, primary_key=True)
    number: Mapped[int]

    __table_args__ = (ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),)


class AliasHistoryRow(Base):
    """Each time an alias was set, numbered 1, 2, 3 ... for each alias; it goes with the alias."""

    __tablename__ = "alias_history"

    model: Mapped[str] = mapped_column(NAME, primary_key=True)
    alias: Mapped[str] = mapped_column(NAME, primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # Not a foreign key: a version that is deleted stays in the history.
    number: Mapped[int]
    at: Mapped[datetime | None]
    rolled_back_at: Mapped[datetime | None]

    # Deferred, because the history of a new alias is written before the alias.
    __table_args__ = (
        ForeignKeyConstraint(
            ["model", "alias"],
            ["aliases.model", "aliases.alias"],
            ondelete="CASCADE",
            deferrable=True,
            initially="DEFERRED",
        ),
    )


class JobRow(Base):
    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    request: Mapped[dict[str, Any]]
    # Copied from the request, to be searched.
    model: Mapped[str | None]
    dataset: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any]]
    attempt: Mapped[int]
    max_attempts: Mapped[int]
    # The fence: it changes with every attempt, and every write of an attempt names it.
    token: Mapped[str | None]
    worker: Mapped[str | None]
    cancel_requested: Mapped[bool]
    on_cancel: Mapped[str | None]
    request_id: Mapped[str | None]
    # Where the request that made the job stands in its trace, as W3C writes it.
    traceparent: Mapped[str | None]
    # How many events the job has had; the next one's number.
    events: Mapped[int]
    created_at: Mapped[datetime]
    queued_at: Mapped[datetime]
    dispatched_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # The prefix of the key that made it; not a foreign key, as keys and jobs are restored apart.
    owner: Mapped[str | None]
    # The dataset whose check it waits for, while it is queued.
    waits_for: Mapped[str | None]

    __table_args__ = (
        Index(None, "state", "id"),
        Index(None, "dataset"),
        Index(None, "owner", "state"),
        Index(
            None,
            "waits_for",
            sqlite_where=text("waits_for IS NOT NULL"),
            postgresql_where=text("waits_for IS NOT NULL"),
        ),
    )


class EventRow(Base):
    """Numbered 1, 2, 3 ... for each job under the lock of the job's row, so that readers see no number late."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(NAME, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]


class IdempotencyRow(Base):
    """Which job a client's key made. The digest is of scope and key, so that any text may be a key."""

    __tablename__ = "idempotency_keys"

    digest: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    # Deferred, because the key is won before the job is written.
    job_id: Mapped[str] = mapped_column(
        NAME, ForeignKey("jobs.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"), index=True
    )
    created_at: Mapped[datetime]


class DatasetRow(Base):
    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    content_hash: Mapped[str | None]
    state: Mapped[str]
    prefix: Mapped[str]
    labels: Mapped[list[str]]
    counts: Mapped[dict[str, Any]]
    report: Mapped[dict[str, Any]]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[str | None]
    # The ready dataset of the same content, which this id leads to.
    duplicate_of: Mapped[str | None] = mapped_column(NAME, index=True)
    created_at: Mapped[datetime]
    # As in `jobs`.
    owner: Mapped[str | None] = mapped_column(index=True)
    # Of a revision: what it was made of, the first of its family, and its number in the line. Not foreign keys:
    # a revision outlives both.
    parent: Mapped[str | None] = mapped_column(NAME, index=True)
    root: Mapped[str | None] = mapped_column(NAME, index=True)
    revision: Mapped[int | None]

    # The same images are kept once; a refused upload may be tried again.
    __table_args__ = (
        Index(
            "uq_datasets_content_hash",
            "content_hash",
            unique=True,
            sqlite_where=text("state = 'ready'"),
            postgresql_where=text("state = 'ready'"),
        ),
    )


class DatasetSourceRow(Base):
    """A prefix, not the dataset's own, under which files of its images lie."""

    __tablename__ = "dataset_sources"

    dataset: Mapped[str] = mapped_column(NAME, ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    prefix: Mapped[str] = mapped_column(primary_key=True, index=True)


class KeptFilesRow(Base):
    """The prefix of a dataset that was deleted while others had it as a source, until none has."""

    __tablename__ = "kept_files"

    prefix: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # When one who had it as a source was deleted last; null when what nobody needs has been deleted since.
    changed_at: Mapped[datetime | None]


class KeyRow(Base):
    __tablename__ = "keys"

    prefix: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    name: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    # Those that differ from the defaults.
    limits: Mapped[dict[str, Any] | None]


class AuditRow(Base):
    """Refers to nothing by a foreign key: it outlives what it tells of."""

    __tablename__ = "audit"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str]
    actor_name: Mapped[str | None] = mapped_column(Text)
    job_id: Mapped[str | None]
    action: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str] = mapped_column(NAME)
    detail: Mapped[dict[str, Any]]
    request_id: Mapped[str | None]
    client: Mapped[str | None]

    __table_args__ = (Index(None, "subject", "id"),)


class WebhookRow(Base):
    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    # As it is, not a digest: messages are signed with it.
    secret: Mapped[str]
    # Empty is all.
    events: Mapped[list[str]]
    kinds: Mapped[list[str]]
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(Text)


class DeliveryRow(Base):
    """A message to a webhook, from the end of a job until it was delivered or given up, and for a while after."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(NAME, ForeignKey("webhooks.id", ondelete="CASCADE"), index=True)
    # Not a foreign key: a message outlives its job's record.
    job_id: Mapped[str]
    event: Mapped[str]
    payload: Mapped[dict[str, Any]]
    state: Mapped[str]
    attempts: Mapped[int]
    # When it is due: while it is being sent, when whoever does that is given up.
    next_at: Mapped[datetime | None]
    # The fence, as a job's.
    token: Mapped[str | None]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(index=True)

    __table_args__ = (Index(None, "state", "next_at"),)


class SketchRow(Base):
    """What a version has answered within one hour, added up by all gateways."""

    __tablename__ = "sketches"

    model: Mapped[str] = mapped_column(NAME, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    sketch: Mapped[dict[str, Any]]

    __table_args__ = (
        ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"], ondelete="CASCADE"),
        Index(None, "hour"),
    )
