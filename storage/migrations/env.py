"""Alembic's entry. `storage.database.migrate` hands in a connection that is inside the one transaction already.

Migrations go forward only: the way back is a backup made before.
"""

from alembic import context

from storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
)
context.run_migrations()
