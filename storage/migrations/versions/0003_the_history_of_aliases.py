"""The history of aliases: `alias_history`."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # A table of its own, which goes with the alias: the release before this one goes on moving and deleting
    # aliases meanwhile and knows nothing of it.
    op.create_table(
        "alias_history",
        sa.Column("model", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=True),
        sa.Column("rolled_back_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["model", "alias"],
            ["aliases.model", "aliases.alias"],
            name="fk_alias_history_model",
            ondelete="CASCADE",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("model", "alias", "position", name="pk_alias_history"),
    )
    op.execute(
        "INSERT INTO alias_history (model, alias, position, number) SELECT model, alias, 1, number FROM aliases"
    )
