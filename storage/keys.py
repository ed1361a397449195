"""API keys: `fov_PREFIX.SECRET`. The secret is shown once and kept as a digest. Knows no scope's meaning."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import and_, func, insert, or_, select, update

from storage.clock import now
from storage.database import Database
from storage.errors import Conflict, NotFound, StorageError
from storage.tables import KeyRow
from storage.text import check_title, equals

_TOKEN = re.compile(r"fov_([a-z0-9]{12})\.([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Key:
    """A key, without its secret."""

    prefix: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def is_usable(self, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


_Keys = list[Key]  # inside the class, `list` is its method


class KeyRing:
    """The keys; every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scopes: Iterable[str], expires_at: datetime | None = None) -> tuple[Key, str]:
        """A new key and its token. The token cannot be had again. Raises InvalidName."""
        check_title(name)
        prefix, secret = new_token().removeprefix("fov_").split(".")
        row = insert(KeyRow).values(
            prefix=prefix,
            # The secret has 256 random bits, so a plain digest cannot be searched, and verifying stays quick.
            digest=_digest(secret),
            name=name,
            scopes=list(dict.fromkeys(scopes)),
            created_at=now(),
            expires_at=expires_at,
        )
        with self._database.session() as session:
            made = session.scalars(row.returning(KeyRow)).one()
            return _key(made), f"fov_{prefix}.{secret}"

    def admit(self, token: str, name: str, scopes: Iterable[str]) -> Key:
        """The key of a token that was made elsewhere, recorded unless its prefix is known already.

        So a key that was revoked stays revoked. Raises StorageError for what is no token, Conflict when another
        key has its prefix, InvalidName.
        """
        check_title(name)
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise StorageError(
                f"What was given for the key {name!r} ({len(token)} characters) is no key: expected fov_, "
                "12 characters a-z 0-9, a dot, and 43 characters of base64url. `fovea init` makes one."
            )
        prefix, secret = match.groups()
        row = self._database.insert(KeyRow).values(
            prefix=prefix,
            digest=_digest(secret),
            name=name,
            scopes=list(dict.fromkeys(scopes)),
            created_at=now(),
            expires_at=None,
        )
        with self._database.session() as session:
            session.execute(row.on_conflict_do_nothing(index_elements=["prefix"]))
            known = session.scalars(select(KeyRow).where(KeyRow.prefix == prefix)).one()
        if not hmac.compare_digest(known.digest, _digest(secret)):
            raise Conflict(f"Another key has the prefix {prefix} of the one for {name!r}; make a new one.")
        return _key(known)

    def verify(self, token: str) -> Key | None:
        """The key of that token, or None when it is unknown, wrong, expired or revoked.

        Takes the same time for a wrong secret and for an unknown prefix.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        prefix, secret = match.groups()
        with self._database.session(read_only=True) as session:
            row = session.get(KeyRow, prefix)
        right = hmac.compare_digest(_digest(secret), _NOBODY if row is None else row.digest)
        if row is None or not right:
            return None
        key = _key(row)
        return key if key.is_usable(datetime.now(UTC)) else None

    def list(self) -> _Keys:
        """All keys, oldest first, with those that expired or were revoked."""
        with self._database.session(read_only=True) as session:
            rows = session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.prefix))
            return [_key(row) for row in rows]

    def revoke(self, prefix: str) -> Key:
        """From now on the key opens nothing. Raises NotFound."""
        revoked_at = func.coalesce(KeyRow.revoked_at, now())
        revoke = update(KeyRow).where(equals(KeyRow.prefix, prefix)).values(revoked_at=revoked_at)
        with self._database.session() as session:
            row = session.scalars(revoke.returning(KeyRow)).one_or_none()
            if row is None:
                raise NotFound("key", prefix)
            return _key(row)

    def any(self) -> bool:
        """Whether there is a key that can be used."""
        usable = and_(KeyRow.revoked_at.is_(None), or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > now()))
        with self._database.session(read_only=True) as session:
            return session.scalar(select(KeyRow.prefix).where(usable).limit(1)) is not None


def new_token() -> str:
    """A random token that no database knows yet."""
    return f"fov_{secrets.token_hex(6)}.{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: KeyRow) -> Key:
    return Key(row.prefix, row.name, tuple(row.scopes), row.created_at, row.expires_at, row.revoked_at)
