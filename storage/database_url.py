"""Which URLs name a database that Fovea can use. Knows no SQLAlchemy, for who only checks one needs none."""

import re

from storage.errors import StorageError
from storage.secret_url import redacted

EXPECTED = "expected sqlite:////folder/fovea.db or postgresql://user:password@host/name"
# As SQLAlchemy takes a URL apart: a password may hold any character but `@`.
_FORM = re.compile(
    r"""(?P<kind>\w+)(?:\+\w+)?://
        (?:[^:/]*(?::[^@]*)?@)?
        (?:\[[^/?]+\]|[^/:?]+)?(?::(?P<port>[^/?]*))?
        (?:/(?P<database>[^?]*))?""",
    re.VERBOSE,
)


def require_usable(url: str) -> None:
    """Raises StorageError for a URL that cannot be read, that names another database, or SQLite without a file."""
    found = _FORM.match(url)
    if not found or not (found["port"] or "0").isdecimal():
        raise StorageError(f"The database URL cannot be read; {EXPECTED}")
    kind = found["kind"]
    if kind not in ("sqlite", "postgresql", "postgres"):
        raise StorageError(f"{redacted(url)} is a database that Fovea cannot use; {EXPECTED}")
    if kind == "sqlite" and found["database"] in (None, "", ":memory:"):
        raise StorageError(f"SQLite in memory is lost to every other process; give it a file: {EXPECTED}")
