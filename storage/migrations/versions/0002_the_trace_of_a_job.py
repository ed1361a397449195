"""The trace of a job: `jobs.traceparent`."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    # Nullable and read by name: the release before this one goes on writing and reading jobs meanwhile.
    op.add_column("jobs", sa.Column("traceparent", sa.String(), nullable=True))
