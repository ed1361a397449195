"""What versions have answered, hour by hour, in sketches."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    # They go with their version, which the release before this one deletes without knowing of them.
    op.create_table(
        "sketches",
        sa.Column("model", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sketch", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "number"],
            ["versions.model", "versions.number"],
            name="fk_sketches_model",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model", "number", "hour", name="pk_sketches"),
    )
    op.create_index("ix_sketches_hour", "sketches", ["hour"], unique=False)
