"""Models, their numbered versions and the aliases that move between them. Knows no artifact's content."""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.alias import Alias, read_alias, record_move, record_rollback
from storage.audit import record
from storage.clock import now
from storage.database import Database, Transaction
from storage.errors import Conflict, InUse, NoEarlierVersion, NotFound
from storage.model import Model, Version, read_models, read_version, read_versions
from storage.page import HIGHEST, Page, bounded, decode_cursor, encode_cursor
from storage.reference import (
    LATEST,
    PRODUCTION,
    Reference,
    check_alias,
    check_model_name,
    check_tags,
    is_model_name,
)
from storage.tables import AliasRow, ModelRow, ModelTagRow, VersionCounterRow, VersionRow
from storage.text import check_description, contains, equals

__all__ = ["LATEST", "PRODUCTION", "Alias", "Model", "ModelRegistry", "Reference", "Version"]


class Unchanged(Enum):
    """What a caller leaves as it is, where None means that it goes."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


class ModelRegistry:
    """The models and their versions; every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_version(
        self,
        model: str,
        *,
        artifact: str,
        manifest: Mapping[str, Any],
        size_bytes: int,
        job_id: str | None = None,
        number: int | None = None,
        within: Transaction | None = None,
    ) -> Version:
        """Publish an artifact as the model's next version; makes the model when it is new.

        Numbers are 1, 2, 3 ... and never given twice, not even after a deletion. A `number` of the caller's must
        be above all that were given. A job publishes once: its second call returns the version of its first.
        `labels`, `architecture` and `metrics` are read from the manifest. Raises InvalidName and Conflict.
        """
        check_model_name(model)
        try:
            with self._database.session(within=within) as session:
                published = _published_by(session, job_id)
                if published is None:
                    given = self._next_number(session, model, number)
                    self._make_model(session, model)
                    session.execute(
                        insert(VersionRow).values(
                            model=model,
                            number=given,
                            artifact=artifact,
                            architecture=str(manifest.get("architecture") or ""),
                            manifest=dict(manifest),
                            size_bytes=size_bytes,
                            job_id=job_id,
                            created_at=now(),
                        )
                    )
                    published = read_version(session, VersionRow.model == model, VersionRow.number == given)
                    record(session, "version.register", "model", model, {"version": given})
        except IntegrityError:
            # Two calls of one job met: the other one won, and its version is the answer. That cannot be in a
            # transaction in which the caller holds the job.
            if within is not None:
                raise
            with self._database.session(read_only=True) as session:
                published = _published_by(session, job_id)
        if published is None:
            raise Conflict(f"Model {model!r} was changed by another process at the same moment; try again.")
        return published

    def resolve(self, reference: str) -> Version:
        """The version a reference means: `name` is its `production`, else its latest. One query.

        Raises InvalidReference, or NotFound saying whether the model, the alias or the version is missing.
        """
        wanted = Reference.parse(reference)
        with self._database.session(read_only=True) as session:
            version = read_version(session, VersionRow.model == wanted.model, VersionRow.number == _number(wanted))
            if version is None:
                raise _missing(session, wanted)
            return version

    def list_models(
        self, limit: int, cursor: str | None = None, search: str | None = None, tags: Collection[str] = ()
    ) -> Page[Model]:
        """By name. `search` is a part of the name or the description, and the model has all of `tags`.

        Raises InvalidCursor.
        """
        limit = bounded(limit)
        query = select(ModelRow).order_by(ModelRow.name).limit(limit + 1)
        if search:
            query = query.where(contains(search, ModelRow.name, ModelRow.description))
        for tag in tags:
            query = query.where(ModelRow.name.in_(select(ModelTagRow.model).where(equals(ModelTagRow.tag, tag))))
        if cursor:
            query = query.where(ModelRow.name > decode_cursor(cursor, str))
        with self._database.session(read_only=True) as session:
            rows = session.scalars(query).all()
            models = read_models(session, rows[:limit])
        return Page(models, encode_cursor(models[-1].name) if len(rows) > limit else None)

    def get_model(self, model: str, *, within: Transaction | None = None) -> Model:
        """Raises NotFound."""
        with self._database.session(read_only=within is None, within=within) as session:
            return _model(session, model)

    def describe_model(
        self,
        model: str,
        *,
        description: str | Unchanged | None = UNCHANGED,
        tags: Collection[str] | Unchanged = UNCHANGED,
    ) -> Model:
        """Set what people wrote to the model: None removes its description. What is not given stays as it is.

        Raises InvalidName and NotFound.
        """
        if isinstance(description, str):
            check_description(description)
        if not isinstance(tags, Unchanged):
            tags = check_tags(tags)
        with self._database.session() as session:
            # Locked, so that what the audit log says it was is what it was.
            row = session.scalars(
                select(ModelRow).where(equals(ModelRow.name, model)).with_for_update()
            ).one_or_none()
            if row is None:
                raise NotFound("model", model)
            before = read_models(session, [row])[0]
            changed: dict[str, Any] = {}
            if not isinstance(description, Unchanged) and (description or None) != before.description:
                changed["description"] = {"from": before.description, "to": description or None}
                session.execute(
                    update(ModelRow).where(ModelRow.name == model).values(description=description or None)
                )
            if not isinstance(tags, Unchanged) and tags != before.tags:
                changed["tags"] = {"from": before.tags, "to": tags}
                session.execute(delete(ModelTagRow).where(ModelTagRow.model == model))
                if tags:
                    session.execute(insert(ModelTagRow), [{"model": model, "tag": tag} for tag in tags])
            if changed:
                _touch(session, model)
                record(session, "model.describe", "model", model, changed)
            session.expire_all()
            return _model(session, model)

    def version_of_job(self, job_id: str) -> Version | None:
        """The version that the job registered, if it is still there."""
        with self._database.session(read_only=True) as session:
            return _published_by(session, job_id)

    def artifacts(self) -> frozenset[str]:
        """Where the files of all versions lie among the blobs."""
        with self._database.session(read_only=True) as session:
            return frozenset(session.scalars(select(VersionRow.artifact)))

    def has_files_of(self, job_id: str, prefix: str) -> bool:
        """Whether the job registered a version that is there, or one has its files under the job's `prefix`."""
        below = VersionRow.artifact.startswith(f"{prefix.rstrip('/')}/", autoescape=True)
        with self._database.session(read_only=True) as session:
            found = select(VersionRow.number).where(or_(VersionRow.job_id == job_id, below)).limit(1)
            return session.scalar(found) is not None

    def list_versions(self, model: str, limit: int, cursor: str | None = None) -> Page[Version]:
        """Newest first. Raises NotFound for an unknown model, and InvalidCursor."""
        limit = bounded(limit)
        numbers = (
            select(VersionRow.number)
            .where(VersionRow.model == model)
            .order_by(VersionRow.number.desc())
            .limit(limit + 1)
        )
        if cursor:
            numbers = numbers.where(VersionRow.number < decode_cursor(cursor, int))
        with self._database.session(read_only=True) as session:
            _require_model(session, model)
            found = session.scalars(numbers).all()
            versions = read_versions(session, VersionRow.model == model, VersionRow.number.in_(found[:limit]))
        return Page(versions, encode_cursor(versions[-1].number) if len(found) > limit else None)

    def numbers(self, model: str) -> tuple[int, ...]:
        """Of all versions of the model, oldest first."""
        query = select(VersionRow.number).where(VersionRow.model == model).order_by(VersionRow.number)
        with self._database.session(read_only=True) as session:
            return tuple(session.scalars(query))

    def all_numbers(self) -> tuple[tuple[str, int], ...]:
        """Every model's name with each of its versions' numbers, in order."""
        query = select(VersionRow.model, VersionRow.number).order_by(VersionRow.model, VersionRow.number)
        with self._database.session(read_only=True) as session:
            return tuple((model, number) for model, number in session.execute(query))

    def get_version(self, model: str, number: int) -> Version:
        """Raises NotFound."""
        with self._database.session(read_only=True) as session:
            _require_model(session, model)
            return _require_version(session, model, number)

    def replace_artifact(
        self,
        model: str,
        number: int,
        *,
        expected: str,
        artifact: str,
        manifest: Mapping[str, Any],
        size_bytes: int,
        within: Transaction | None = None,
    ) -> Version:
        """Have the version's files lie elsewhere from now on: the same ones, and variants beside them.

        `expected` is the artifact that the new one was made from; nobody deletes it here. Raises NotFound where
        the version was deleted, Conflict where its artifact was replaced meanwhile.
        """
        with self._database.session(within=within) as session:
            _touch(session, model)
            present = _require_version(session, model, number)
            if present.artifact != expected:
                raise Conflict(
                    f"The files of version {number} of model {model!r} were replaced meanwhile; start again from "
                    "those that it has now."
                )
            session.execute(
                update(VersionRow)
                .where(VersionRow.model == model, VersionRow.number == number)
                .values(artifact=artifact, manifest=dict(manifest), size_bytes=size_bytes)
            )
            record(session, "version.replace_files", "model", model, {"version": number})
            return _require_version(session, model, number)

    def delete_version(self, model: str, number: int, *, force: bool = False) -> Version:
        """Delete the version and return what it was: its artifact is the caller's to delete.

        Raises InUse while an alias points at it, unless `force`, which deletes such aliases too; and NotFound.
        """
        with self._database.session() as session:
            _touch(session, model)
            version = _require_version(session, model, number)
            if version.aliases and not force:
                raise InUse(
                    f"Version {number} of model {model!r} is its {', '.join(version.aliases)}. Point such an "
                    "alias at another version or delete it first, or delete both with `force`."
                )
            session.execute(delete(AliasRow).where(AliasRow.model == model, AliasRow.number == number))
            session.execute(delete(VersionRow).where(VersionRow.model == model, VersionRow.number == number))
            record(session, "version.delete", "model", model, {"version": number, "aliases": version.aliases})
        return version

    def delete_model(self, model: str, *, force: bool = False) -> tuple[Version, ...]:
        """Delete the model and return the versions it had: their artifacts are the caller's to delete.

        Raises InUse while it has an alias, unless `force`, which deletes its aliases too; and NotFound.
        """
        with self._database.session() as session:
            _touch(session, model)
            aliases = _model(session, model).aliases
            if aliases and not force:
                pointed = ", ".join(f"{alias} (version {number})" for alias, number in aliases.items())
                raise InUse(
                    f"Model {model!r} has {pointed}. Delete such an alias first, or delete everything of "
                    "the model with `force`."
                )
            versions = read_versions(session, VersionRow.model == model)
            session.execute(delete(AliasRow).where(AliasRow.model == model))
            session.execute(delete(VersionRow).where(VersionRow.model == model))
            session.execute(delete(ModelRow).where(ModelRow.name == model))
            record(session, "model.delete", "model", model, {"versions": len(versions), "aliases": aliases})
        return versions

    def set_alias(self, model: str, alias: str, number: int, *, within: Transaction | None = None) -> Model:
        """Point the alias at the version, at once for everybody. Raises InvalidName and NotFound."""
        check_alias(alias)
        move = self._database.insert(AliasRow).values(model=model, alias=alias, number=number)
        with self._database.session(within=within) as session:
            _touch(session, model)
            _require_version(session, model, number)
            present = record_move(session, model, alias, number)
            session.execute(move.on_conflict_do_update(index_elements=["model", "alias"], set_={"number": number}))
            if present != number:
                record(session, "alias.set", "model", model, {"alias": alias, "from": present, "to": number})
            return _model(session, model)

    def get_alias(self, model: str, alias: str) -> Alias:
        """Where the alias points and pointed before. Raises NotFound; `latest` has no history: InvalidName."""
        check_alias(alias)
        with self._database.session(read_only=True) as session:
            _require_model(session, model)
            return _require_alias(session, model, alias)

    def rollback(self, model: str, alias: str, *, present: int, to: int) -> Model:
        """Point the alias at the version it was at before, by its history; that move is undone, as on a stack.

        `present` and `to` are what `get_alias` said, so that a rollback prepared for does not become another one.
        Raises NoEarlierVersion, NotFound, InvalidName, and Conflict where the alias was moved meanwhile.
        """
        check_alias(alias)
        with self._database.session() as session:
            _touch(session, model)
            found = _require_alias(session, model, alias)
            if found.previous is None:
                raise NoEarlierVersion(model, alias, found.version)
            if (found.version, found.previous) != (present, to):
                raise Conflict(
                    f"{model}@{alias} was to go from version {present} back to {to}, but meanwhile it is at "
                    f"{found.version} and would go back to {found.previous}. Look at it again."
                )
            record_rollback(session, model, alias, to)
            session.execute(
                update(AliasRow).where(AliasRow.model == model, AliasRow.alias == alias).values(number=to)
            )
            record(session, "alias.rollback", "model", model, {"alias": alias, "from": present, "to": to})
            return _model(session, model)

    def delete_alias(self, model: str, alias: str) -> Model:
        """With its history. Raises NotFound; `latest` cannot be deleted and raises InvalidName."""
        check_alias(alias)
        with self._database.session() as session:
            _touch(session, model)
            gone = delete(AliasRow).where(AliasRow.model == model, AliasRow.alias == alias)
            number = session.scalar(gone.returning(AliasRow.number))
            if number is None:
                raise NotFound("alias", f"{model}@{alias}")
            record(session, "alias.delete", "model", model, {"alias": alias, "from": number})
            return _model(session, model)

    def _next_number(self, session: Session, model: str, number: int | None) -> int:
        """Take the next number; the counter's row stays locked until the version is committed, so none is lost."""
        counter = self._database.insert(VersionCounterRow).values(model=model, last=number or 1)
        given = session.scalar(
            counter.on_conflict_do_update(
                index_elements=["model"],
                set_={"last": VersionCounterRow.last + 1 if number is None else number},
                where=None if number is None else VersionCounterRow.last < number,
            ).returning(VersionCounterRow.last)
        )
        if given is None:
            raise Conflict(
                f"Version {number} of model {model!r} cannot be published: numbers are never given twice, and a "
                "higher one was given already."
            )
        return int(given)

    def _make_model(self, session: Session, model: str) -> None:
        row = self._database.insert(ModelRow).values(name=model, created_at=now(), updated_at=now())
        session.execute(row.on_conflict_do_update(index_elements=["name"], set_={"updated_at": now()}))


def _published_by(session: Session, job_id: str | None) -> Version | None:
    return None if job_id is None else read_version(session, VersionRow.job_id == job_id)


def _number(wanted: Reference) -> ColumnElement[int]:
    """The wanted version's number, as part of a query."""
    if wanted.number is not None:
        return literal(wanted.number)
    latest = select(func.max(VersionRow.number)).where(VersionRow.model == wanted.model).scalar_subquery()
    if wanted.alias == LATEST:
        return latest
    alias = wanted.alias or PRODUCTION
    pointed = (
        select(AliasRow.number).where(AliasRow.model == wanted.model, AliasRow.alias == alias).scalar_subquery()
    )
    return pointed if wanted.alias else func.coalesce(pointed, latest)


def _missing(session: Session, wanted: Reference) -> NotFound:
    """What exactly is missing. Asked only when there is nothing to serve, so it may cost another query."""
    if session.get(ModelRow, wanted.model) is None:
        return NotFound("model", wanted.model)
    if wanted.alias not in (None, LATEST):
        return NotFound("alias", str(wanted))
    return NotFound("version", str(wanted))


def _model(session: Session, name: str) -> Model:
    row = _require_model(session, name)
    return read_models(session, [row])[0]


def _require_model(session: Session, name: str) -> ModelRow:
    row = session.get(ModelRow, name) if is_model_name(name) else None
    if row is None:
        raise NotFound("model", name)
    return row


def _require_version(session: Session, model: str, number: int) -> Version:
    wanted = (VersionRow.model == model, VersionRow.number == number)
    version = read_version(session, *wanted) if 0 < number <= HIGHEST else None
    if version is None:
        raise NotFound("version", f"{model}:{number}")
    return version


def _require_alias(session: Session, model: str, alias: str) -> Alias:
    found = read_alias(session, model, alias)
    if found is None:
        raise NotFound("alias", f"{model}@{alias}")
    return found


def _touch(session: Session, model: str) -> None:
    """Note that the model changes. It locks the model's row, so whoever changes a model does this first."""
    touched = update(ModelRow).where(equals(ModelRow.name, model)).values(updated_at=now())
    if session.scalar(touched.returning(ModelRow.name)) is None:
        raise NotFound("model", model)
