"""Revisions of datasets, which share files: what they were made of, where these lie, and what is kept for them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Nullable: the release before this one goes on adding datasets meanwhile.
    op.add_column("datasets", sa.Column("parent", NAME, nullable=True))
    op.add_column("datasets", sa.Column("root", NAME, nullable=True))
    op.add_column("datasets", sa.Column("revision", sa.Integer(), nullable=True))
    op.create_index("ix_datasets_parent", "datasets", ["parent"], unique=False)
    op.create_index("ix_datasets_root", "datasets", ["root"], unique=False)
    # They go with their dataset, which the release before this one deletes without knowing of them.
    op.create_table(
        "dataset_sources",
        sa.Column("dataset", NAME, nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["datasets.id"], name="fk_dataset_sources_dataset", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset", "prefix", name="pk_dataset_sources"),
    )
    op.create_index("ix_dataset_sources_prefix", "dataset_sources", ["prefix"], unique=False)
    op.create_table(
        "kept_files",
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("prefix", name="pk_kept_files"),
    )
