from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from storage.database import Database
from storage.errors import InvalidName, NotFound
from storage.keys import KeyRing


@pytest.fixture
def ring(database: Database) -> KeyRing:
    return KeyRing(database)


def test_a_key_opens_with_its_token(ring: KeyRing) -> None:
    key, token = ring.create("laptop", ["classify", "train", "classify"])

    assert token.startswith(f"fov_{key.prefix}.")
    assert (key.name, key.scopes, key.expires_at) == ("laptop", ("classify", "train"), None)
    assert ring.verify(token) == key
    assert ring.list() == [key]


def test_every_token_is_another_one(ring: KeyRing) -> None:
    assert len({ring.create("laptop", [])[1] for _ in range(20)}) == 20


def test_a_wrong_token_opens_nothing(ring: KeyRing) -> None:
    _, token = ring.create("laptop", ["admin"])
    _, other = ring.create("phone", ["admin"])
    prefix, secret = token.split(".")
    wrong = [
        "",
        "fov_.",
        prefix,
        secret,
        token[:-1],
        token + "A",
        token + "\n",
        " " + token,
        token.upper(),
        token.replace("fov_", "vof_"),
        f"{prefix}.{other.split('.')[1]}",
        f"fov_000000000000.{secret}",
        "fov_\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00." + secret,
    ]

    assert [ring.verify(each) for each in wrong] == [None] * len(wrong)


def test_the_secret_is_not_in_the_database(ring: KeyRing, database: Database) -> None:
    _, token = ring.create("laptop", ["admin"])
    with database.session() as session:
        stored = str(session.execute(text("SELECT * FROM keys")).all())

    assert token.split(".")[1] not in stored


def test_an_expired_key_opens_nothing(ring: KeyRing) -> None:
    present = datetime.now(UTC)
    _, over = ring.create("over", ["admin"], expires_at=present - timedelta(seconds=1))
    assert ring.any() is False
    key, valid = ring.create("valid", ["admin"], expires_at=present + timedelta(hours=1))

    assert ring.verify(over) is None
    assert ring.verify(valid) == key
    assert key.expires_at == present + timedelta(hours=1)
    assert ring.any() is True


def test_a_revoked_key_opens_nothing_and_stays_listed(ring: KeyRing) -> None:
    key, token = ring.create("laptop", ["admin"])
    revoked = ring.revoke(key.prefix)

    assert revoked.revoked_at is not None
    assert ring.verify(token) is None
    assert ring.any() is False
    assert ring.list() == [revoked]
    assert ring.revoke(key.prefix) == revoked


def test_a_key_nobody_made_cannot_be_revoked(ring: KeyRing) -> None:
    for prefix in ("", "000000000000", "\x00"):
        with pytest.raises(NotFound):
            ring.revoke(prefix)


def test_a_key_without_a_name_is_refused(ring: KeyRing) -> None:
    for name in ("", "  ", "a\x00", "a\nb", "\ud800", "a" * 201):
        with pytest.raises(InvalidName):
            ring.create(name, ["admin"])
