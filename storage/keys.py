"""API keys: `fov_PREFIX.SECRET`. The secret is shown once and kept as a digest. Knows no scope's meaning."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, insert, or_, select, update
from sqlalchemy.orm import Session

from storage.audit import record
from storage.clock import from_now, now
from storage.database import Database
from storage.errors import Conflict, NotFound, StorageError
from storage.tables import KeyRow
from storage.text import check_title, equals

_TOKEN = re.compile(r"fov_([a-z0-9]{12})\.([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"").hexdigest()
# A use is written down once in so long for each key.
USE_RECORDED_EVERY_S = 60.0


@dataclass(frozen=True)
class KeyLimits:
    """What may be done with one key: 0 is any number of them, None what the gateway's settings say.

    `bytes_stored` are those of the datasets that were uploaded with it.
    """

    requests_per_second: int | None = None
    images_in_flight: int | None = None
    jobs_waiting: int | None = None
    bytes_stored: int | None = None

    def given(self) -> dict[str, int]:
        """Those that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def or_else(self, defaults: "KeyLimits") -> "KeyLimits":
        """These, and of `defaults` those that are None here."""
        return KeyLimits(**{**defaults.given(), **self.given()})


_LIMITS = tuple(field.name for field in fields(KeyLimits))


@dataclass(frozen=True)
class Key:
    """A key, without its secret."""

    prefix: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = None
    limits: KeyLimits = KeyLimits()

    def is_usable(self, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


_Keys = list[Key]  # inside the class, `list` is its method


class KeyRing:
    """The keys; every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        scopes: Iterable[str],
        expires_at: datetime | None = None,
        limits: KeyLimits = KeyLimits(),  # frozen
    ) -> tuple[Key, str]:
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
            limits=limits.given() or None,
        )
        with self._database.session() as session:
            made = _key(session.scalars(row.returning(KeyRow)).one())
            _record_creation(session, made)
            return made, f"fov_{prefix}.{secret}"

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
            admitted = row.on_conflict_do_nothing(index_elements=["prefix"]).returning(KeyRow.prefix)
            is_new = session.scalar(admitted) is not None
            known = session.scalars(select(KeyRow).where(KeyRow.prefix == prefix)).one()
            if is_new:
                _record_creation(session, _key(known))
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

    def get(self, prefix: str) -> Key:
        """Raises NotFound."""
        with self._database.session(read_only=True) as session:
            return _key(_require_key(session, prefix))

    def revoke(self, prefix: str) -> Key:
        """From now on the key opens nothing. Raises NotFound."""
        standing = (equals(KeyRow.prefix, prefix), KeyRow.revoked_at.is_(None))
        with self._database.session() as session:
            revoke = update(KeyRow).where(*standing).values(revoked_at=now()).returning(KeyRow.prefix)
            if session.scalar(revoke) is not None:
                record(session, "key.revoke", "key", prefix)
            return _key(_require_key(session, prefix))

    def set_limits(self, prefix: str, limits: KeyLimits) -> Key:
        """Give the key these limits instead of those it had. Raises NotFound."""
        with self._database.session() as session:
            row = _require_key(session, prefix, lock=True)
            before, after = _key(row).limits.given(), limits.given()
            if before != after:
                row.limits = after or None
                session.flush()
                record(session, "key.limits", "key", prefix, {"from": before, "to": after})
            return _key(row)

    def record_use(self, prefixes: Iterable[str]) -> None:
        """The keys were used just now. Written where the last use on record is a minute old: gateways share it."""
        is_old = or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at < from_now(-USE_RECORDED_EVERY_S))
        used = update(KeyRow).where(KeyRow.prefix.in_(list(prefixes)), is_old).values(last_used_at=now())
        with self._database.session() as session:
            session.execute(used)

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


def _require_key(session: Session, prefix: str, *, lock: bool = False) -> KeyRow:
    found = select(KeyRow).where(equals(KeyRow.prefix, prefix))
    row = session.scalars(found.with_for_update() if lock else found).one_or_none()
    if row is None:
        raise NotFound("key", prefix)
    return row


def _record_creation(session: Session, key: Key) -> None:
    expires = {"expires_at": key.expires_at.isoformat()} if key.expires_at else {}
    limits = {"limits": key.limits.given()} if key.limits.given() else {}
    record(session, "key.create", "key", key.prefix, {"name": key.name, "scopes": key.scopes, **expires, **limits})


def _key(row: KeyRow) -> Key:
    return Key(
        prefix=row.prefix,
        name=row.name,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        limits=_limits(row.limits),
    )


def _limits(kept: dict[str, Any] | None) -> KeyLimits:
    """A later release may keep more of them, which this one does not know."""
    return KeyLimits(**{name: value for name, value in (kept or {}).items() if name in _LIMITS})
