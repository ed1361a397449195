"""The audit log, limits and last use of keys, and which key a job or a dataset belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", NAME, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=True),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("client", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_index("ix_audit_subject", "audit", ["subject", "id"], unique=False)
    # Nullable: the release before this one goes on adding keys, jobs and datasets meanwhile.
    op.add_column("keys", sa.Column("last_used_at", TIME, nullable=True))
    op.add_column("keys", sa.Column("limits", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("owner", sa.String(), nullable=True))
    op.add_column("datasets", sa.Column("owner", sa.String(), nullable=True))
    op.create_index("ix_jobs_owner", "jobs", ["owner", "state"], unique=False)
    op.create_index("ix_datasets_owner", "datasets", ["owner"], unique=False)
