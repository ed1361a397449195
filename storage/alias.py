"""What an alias is: where it points and where it pointed before. The rules are in `storage.registry`."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.orm import Session

from storage.clock import now
from storage.tables import AliasHistoryRow, AliasRow, VersionRow


@dataclass(frozen=True)
class AliasMove:
    """One time the alias was set. `at` is None where an earlier release did it, which recorded nothing."""

    version: int
    at: datetime | None
    rolled_back_at: datetime | None = None


@dataclass(frozen=True)
class Alias:
    """`previous` is the version that a rollback goes to, None where there is none; `history` is newest first."""

    model: str
    name: str
    version: int
    previous: int | None
    history: tuple[AliasMove, ...]


def read_alias(session: Session, model: str, name: str) -> Alias | None:
    """The alias with its history, in which a move that an earlier release made is the newest."""
    current = _current(session, model, name)
    if current is None:
        return None
    moves = [AliasMove(row.number, row.at, row.rolled_back_at) for row in _rows(session, model, name)]
    standing = [move.version for move in moves if move.rolled_back_at is None]
    if standing[-1:] != [current]:
        moves.append(AliasMove(current, None))
        standing.append(current)
    previous = _previous(session, model, standing)
    return Alias(model, name, current, previous, tuple(reversed(moves)))


def record_move(session: Session, model: str, name: str, number: int) -> int | None:
    """Note that the alias is about to point at the version; nothing where it does. Where it pointed so far.

    Whoever calls it holds the lock on the model's row, and changes the alias in the same transaction.
    """
    current = _current(session, model, name)
    if current is not None:
        _record_unrecorded(session, model, name, current)
    if number != current:
        _append(session, model, name, number, now())
    return current


def record_rollback(session: Session, model: str, name: str, number: int) -> None:
    """Note that the moves above the newest one to `number` that still stands are undone; the same lock is held."""
    current = _current(session, model, name)
    if current is not None:
        _record_unrecorded(session, model, name, current)
    undone = (
        AliasHistoryRow.model == model,
        AliasHistoryRow.alias == name,
        AliasHistoryRow.rolled_back_at.is_(None),
    )
    target = select(func.max(AliasHistoryRow.position)).where(*undone, AliasHistoryRow.number == number)
    position = session.scalar(target)
    session.execute(
        update(AliasHistoryRow).where(*undone, AliasHistoryRow.position > position).values(rolled_back_at=now())
    )


def _current(session: Session, model: str, name: str) -> int | None:
    return session.scalar(select(AliasRow.number).where(AliasRow.model == model, AliasRow.alias == name))


def _rows(session: Session, model: str, name: str) -> list[AliasHistoryRow]:
    """Oldest first."""
    of_alias = select(AliasHistoryRow).where(AliasHistoryRow.model == model, AliasHistoryRow.alias == name)
    return list(session.scalars(of_alias.order_by(AliasHistoryRow.position)))


def _previous(session: Session, model: str, standing: list[int]) -> int | None:
    """The newest version before the present one that is another and was not deleted."""
    kept = set(
        session.scalars(
            select(VersionRow.number).where(VersionRow.model == model, VersionRow.number.in_(set(standing)))
        )
    )
    return next((version for version in reversed(standing) if version != standing[-1] and version in kept), None)


def _record_unrecorded(session: Session, model: str, name: str, current: int) -> None:
    """A release before the history moves an alias without a word; that move is recorded before the next one."""
    newest = (
        select(AliasHistoryRow.number)
        .where(
            AliasHistoryRow.model == model,
            AliasHistoryRow.alias == name,
            AliasHistoryRow.rolled_back_at.is_(None),
        )
        .order_by(AliasHistoryRow.position.desc())
        .limit(1)
    )
    if session.scalar(newest) != current:
        _append(session, model, name, current, None)


def _append(session: Session, model: str, name: str, number: int, at: ColumnElement[datetime] | None) -> None:
    of_alias = (AliasHistoryRow.model == model, AliasHistoryRow.alias == name)
    last = session.scalar(select(func.max(AliasHistoryRow.position)).where(*of_alias)) or 0
    session.execute(
        insert(AliasHistoryRow).values(model=model, alias=name, position=last + 1, number=number, at=at)
    )
