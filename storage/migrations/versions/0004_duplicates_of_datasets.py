"""A dataset that was uploaded twice leads to the first: `datasets.duplicate_of`."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    # Nullable: the release before this one goes on adding datasets meanwhile.
    op.add_column("datasets", sa.Column("duplicate_of", NAME, nullable=True))
    op.create_index("ix_datasets_duplicate_of", "datasets", ["duplicate_of"], unique=False)
