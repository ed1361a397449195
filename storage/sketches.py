"""What versions have answered, hour by hour: each hour's sketches added up. Knows nothing of what is in one.

A sketch is JSON here; whoever adds one says how two become one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from storage.clock import from_now
from storage.database import Database
from storage.errors import NotFound
from storage.reference import PRODUCTION
from storage.tables import AliasRow, SketchRow, VersionRow

Json = dict[str, Any]


@dataclass(frozen=True)
class HourSketch:
    hour: datetime
    sketch: Json


class SketchBook:
    """Sketches of every version by the hour; every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, model: str, number: int, hour: datetime, sketch: Json, plus: Callable[[Json, Json], Json]
    ) -> None:
        """Add to the hour's, together with other gateways. Raises NotFound where the version was deleted."""
        row = self._database.insert(SketchRow).values(model=model, number=number, hour=hour, sketch={})
        this = (SketchRow.model == model, SketchRow.number == number, SketchRow.hour == hour)
        try:
            with self._database.session() as session:
                # An empty row first, so that there is one to lock: two gateways may begin an hour at once.
                session.execute(row.on_conflict_do_nothing())
                present = session.scalars(select(SketchRow.sketch).where(*this).with_for_update()).one()
                added = plus(present, sketch) if present else sketch
                session.execute(update(SketchRow).where(*this).values(sketch=added))
        except IntegrityError as error:
            raise NotFound("version", f"{model}:{number}") from error

    def read(self, model: str, number: int, since: datetime | None = None) -> tuple[HourSketch, ...]:
        """Of the hours that began then or later, oldest first; without `since` all that are kept."""
        query = select(SketchRow.hour, SketchRow.sketch).order_by(SketchRow.hour)
        query = query.where(SketchRow.model == model, SketchRow.number == number)
        if since is not None:
            query = query.where(SketchRow.hour >= since)
        with self._database.session(read_only=True) as session:
            return tuple(HourSketch(hour, sketch) for hour, sketch in session.execute(query))

    def served(self, since: datetime, most: int) -> tuple[tuple[str, int], ...]:
        """Of each model the version that its bare name means (`production`, else its latest), where that has a
        sketch since then; by name, `most` in all.
        """
        alias = select(AliasRow.number).where(AliasRow.model == SketchRow.model, AliasRow.alias == PRODUCTION)
        latest = select(func.max(VersionRow.number)).where(VersionRow.model == SketchRow.model)
        meant = func.coalesce(alias.scalar_subquery(), latest.scalar_subquery())
        query = (
            select(SketchRow.model, SketchRow.number)
            .where(SketchRow.hour >= since, SketchRow.number == meant)
            .distinct()
            .order_by(SketchRow.model)
            .limit(most)
        )
        with self._database.session(read_only=True) as session:
            return tuple((model, number) for model, number in session.execute(query))

    def prune(self, older_than: timedelta) -> int:
        """Delete those of hours that began so long ago; returns how many it was."""
        old = delete(SketchRow).where(SketchRow.hour < from_now(-older_than.total_seconds()))
        with self._database.session() as session:
            return len(session.scalars(old.returning(SketchRow.hour)).all())


def hour_of(moment: datetime) -> datetime:
    """When its hour began."""
    return moment.replace(minute=0, second=0, microsecond=0)
