"""Bringing the tables up to this release with Alembic. `storage.database.migrate` is the way in."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from storage.errors import SchemaMismatch

_SCRIPTS = Path(__file__).with_name("migrations")


def upgrade(connection: Connection, target: str = "head") -> None:
    """Run the migrations up to `target` that are missing, in the connection's transaction.

    Raises SchemaMismatch for a database, or a target, of a newer release.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    for revision in (current or "base", target):
        try:
            scripts.get_revision(revision)
        except CommandError as error:
            raise SchemaMismatch(
                f"The revision {revision!r} was made by a newer Fovea; this one knows up to "
                f"{scripts.get_current_head()!r}. Start that release, or restore a backup made before it."
            ) from error
    command.upgrade(config, target)
