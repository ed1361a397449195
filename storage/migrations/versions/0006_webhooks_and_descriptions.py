"""Webhooks and their outbox; what people write to a model; jobs that wait for a dataset's check."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Nullable: the release before this one goes on adding models meanwhile.
    op.add_column("models", sa.Column("description", sa.Text(), nullable=True))
    # Tags go with their model, which the release before this one deletes without knowing of them.
    op.create_table(
        "model_tags",
        sa.Column("model", NAME, nullable=False),
        sa.Column("tag", NAME, nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_model_tags_model", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("model", "tag", name="pk_model_tags"),
    )
    op.create_index("ix_model_tags_tag", "model_tags", ["tag"], unique=False)
    # A job of an older release waits for none.
    op.add_column("jobs", sa.Column("waits_for", sa.String(), nullable=True))
    waiting = sa.text("waits_for IS NOT NULL")
    op.create_index("ix_jobs_waits_for", "jobs", ["waits_for"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_table(
        "webhooks",
        sa.Column("id", NAME, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("disabled_at", TIME, nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", NAME, nullable=False),
        sa.Column("webhook_id", NAME, nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", TIME, nullable=True),
        sa.Column("token", sa.String(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name="fk_webhook_deliveries_webhook_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    op.create_index("ix_webhook_deliveries_webhook_id", "webhook_deliveries", ["webhook_id"], unique=False)
    op.create_index("ix_webhook_deliveries_state", "webhook_deliveries", ["state", "next_at"], unique=False)
    op.create_index("ix_webhook_deliveries_ended_at", "webhook_deliveries", ["ended_at"], unique=False)
