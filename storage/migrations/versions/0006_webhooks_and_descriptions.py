"""What people write to a model: `models.description`, `model_tags`. Jobs that wait for a dataset's check."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


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
