from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from support.past import let_pass

from storage.database import Database
from storage.errors import Conflict, InvalidName, NotFound, StorageError
from storage.keys import KeyLimits, KeyRing, new_token
from storage.tables import KeyRow


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


def test_a_token_made_elsewhere_opens_once_it_is_admitted_however_often(ring: KeyRing) -> None:
    token = new_token()
    assert ring.verify(token) is None

    key = ring.admit(token, "first", ["admin"])

    assert ring.admit(token, "first", ["admin"]) == key
    assert ring.verify(token) == key
    assert ring.list() == [key]


def test_an_admitted_key_that_was_revoked_stays_revoked(ring: KeyRing) -> None:
    token = new_token()
    ring.revoke(ring.admit(token, "first", ["admin"]).prefix)

    assert ring.admit(token, "first", ["admin"]).revoked_at is not None
    assert ring.verify(token) is None


def test_what_is_no_token_is_not_admitted_and_not_repeated(ring: KeyRing) -> None:
    with pytest.raises(StorageError, match=r"'first' .9 characters. is no key: expected fov_") as raised:
        ring.admit("my-secret", "first", ["admin"])

    assert "my-secret" not in str(raised.value)
    assert ring.list() == []


def test_another_secret_under_a_known_prefix_is_not_admitted(ring: KeyRing) -> None:
    key, token = ring.create("laptop", ["classify"])
    other = f"fov_{key.prefix}.{new_token().split('.')[1]}"

    with pytest.raises(Conflict, match=key.prefix):
        ring.admit(other, "first", ["admin"])

    assert ring.verify(other) is None
    assert ring.verify(token) == key


def test_limits_are_kept_with_the_key_and_stand_before_the_defaults(ring: KeyRing) -> None:
    key, token = ring.create("laptop", [], limits=KeyLimits(requests_per_second=5, jobs_waiting=0))
    defaults = KeyLimits(1, 2, 3, 4)

    assert ring.verify(token) == key
    assert key.limits.or_else(defaults) == KeyLimits(5, 2, 0, 4)
    assert ring.set_limits(key.prefix, KeyLimits(bytes_stored=9)).limits == KeyLimits(bytes_stored=9)
    assert ring.get(key.prefix).limits.or_else(defaults) == KeyLimits(1, 2, 3, 9)
    assert ring.set_limits(key.prefix, KeyLimits()).limits.given() == {}
    with pytest.raises(NotFound):
        ring.set_limits("000000000000", defaults)


def test_a_limit_that_a_later_release_knows_is_passed_over(ring: KeyRing, database: Database) -> None:
    key, token = ring.create("laptop", [])
    with database.session() as session:
        session.execute(text("""UPDATE keys SET limits = '{"jobs_waiting": 3, "gpus": 1}'"""))

    found = ring.verify(token)
    assert found is not None
    assert (found.prefix, found.limits) == (key.prefix, KeyLimits(jobs_waiting=3))


def test_a_use_is_written_once_a_minute(ring: KeyRing, database: Database) -> None:
    used, unused = (ring.create(name, [])[0] for name in ("used", "unused"))
    ring.record_use([used.prefix, "000000000000"])
    first = ring.get(used.prefix).last_used_at
    assert first is not None
    ring.record_use([used.prefix])
    assert ring.get(used.prefix).last_used_at == first
    assert ring.get(unused.prefix).last_used_at is None

    let_pass(database, 120, KeyRow)
    ring.record_use([used.prefix])
    last = ring.get(used.prefix).last_used_at
    assert last is not None
    assert timedelta() <= last - first < timedelta(minutes=1)
