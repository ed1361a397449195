"""Time that passes for what is on record, without anybody waiting for it."""

from datetime import timedelta

from sqlalchemy import select

from storage.columns import Utc
from storage.database import Database
from storage.tables import Base, JobRow


def let_pass(database: Database, seconds: float, of: type[Base] = JobRow) -> None:
    """Every job becomes so much older: as if nothing had happened to it for that long. Leases run out with it."""
    moments = [column.name for column in of.__table__.columns if isinstance(column.type, Utc)]
    with database.session() as session:
        for row in session.scalars(select(of)):
            for moment in moments:
                if (noted := getattr(row, moment)) is not None:
                    setattr(row, moment, noted - timedelta(seconds=seconds))
