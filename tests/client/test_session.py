"""What is repeated, what is not, and for how long, against servers that fail on purpose."""

import time
from typing import Any

import pytest
from support.faulty import Faulty, Reply, faulty, problem
from support.stack import free_port
from support.waited import Connect

from fovea_client import ApiError, Conflict, NotFound, TooMany, Unauthorized, Unavailable, Unreachable
from fovea_client.session import FIRST_CONTACT_S, is_loopback

MODEL = {
    "name": "digits", "versions": 1, "latest": 1, "aliases": {}, "created_at": "2026-11-26T00:00:00Z",
    "updated_at": "2026-11-26T00:00:00Z",
}  # fmt: skip
JOB = {"id": "job_1", "kind": "finetune", "state": "queued"}
BUSY = problem(503, "no_worker", Retry_After="1")
DIGITS = {"model": "digits", "dataset": "builtin:digits", "architecture": "lenet5"}


def keys(server: Faulty) -> set[str]:
    return {asked.headers["Idempotency-Key"] for asked in server.asked}


def test_it_comes_again_when_the_server_says(connect: Connect) -> None:
    with faulty(BUSY, Reply(content=MODEL)) as server:
        began = time.monotonic()
        assert connect(server.url).models.get("digits").name == "digits"
        assert time.monotonic() - began >= 1
        assert len(server.asked) == 2


def test_a_full_queue_is_waited_for_and_the_date_of_a_proxy_understood(connect: Connect) -> None:
    replies = (problem(429, "too_many_waiting", Retry_After="0"), BUSY, Reply(content=MODEL))
    past = problem(503, "stopping", Retry_After="Thu, 26 Nov 2020 12:00:00 GMT")
    with faulty(past, *replies) as server:
        assert connect(server.url).models.get("digits").name == "digits"
        assert len(server.asked) == 4


def test_patience_has_an_end_and_is_not_begun_where_it_would_not_last(connect: Connect) -> None:
    with faulty(BUSY) as server, pytest.raises(Unavailable) as failure:
        connect(server.url, patience_s=1.5).models.get("digits")
    assert len(server.asked) == 2
    assert failure.value.retry_after_s == 1
    with faulty(problem(503, "no_worker", Retry_After="3600")) as server, pytest.raises(Unavailable):
        connect(server.url).models.get("digits")
    assert len(server.asked) == 1


def test_without_patience_nothing_is_repeated(connect: Connect) -> None:
    with faulty(BUSY) as server, pytest.raises(Unavailable):
        connect(server.url, patience_s=0).models.get("digits")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (problem(404, "unknown_model"), NotFound),
        (problem(429, "storage_quota"), TooMany),
        (problem(500, "internal"), ApiError),
        (problem(504, "deadline_exceeded"), ApiError),
        (problem(401, "unauthorized"), Unauthorized),
    ],
)
def test_what_no_time_heals_is_told_at_once(connect: Connect, reply: Reply, kind: type[Exception]) -> None:
    with faulty(reply) as server, pytest.raises(kind):
        connect(server.url).models.get("digits")
    assert len(server.asked) == 1


@pytest.mark.parametrize("first", [BUSY, Reply(content=JOB, breaks_off=True), Reply(502, b"<html>proxy</html>")])
def test_what_makes_something_is_repeated_under_one_key(connect: Connect, first: Reply) -> None:
    with faulty(first, Reply(202, JOB)) as server:
        client = connect(server.url)
        assert client.finetune(**DIGITS).id == "job_1"
        assert len(server.asked) == 2
        assert len(keys(server)) == 1
        client.finetune(**DIGITS)
        assert len(keys(server)) == 2


def test_an_upload_is_sent_again_from_its_beginning(connect: Connect, tmp_path: Any) -> None:
    archive = tmp_path / "photos.zip"
    archive.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 9000)
    dataset: dict[str, Any] = {
        "id": "ds_1", "name": "photos", "state": "checking", "labels": [], "content_hash": None, "size_bytes": 1,
        "created_at": "2026-11-26T00:00:00Z", "job": JOB,
    }  # fmt: skip
    with faulty(BUSY, Reply(202, dataset)) as server:
        sent = connect(server.url).datasets.create(archive, wait=False)
    assert (sent.id, sent.job_id) == ("ds_1", "job_1")
    assert [asked.body for asked in server.asked] == 2 * [archive.read_bytes()]
    assert server.asked[0].headers["Content-Type"] == "application/zip"
    assert len(keys(server)) == 1


def test_a_rollback_whose_answer_was_lost_is_not_repeated(connect: Connect) -> None:
    """It would be told that the alias is somewhere else, and not that it was moved."""
    with faulty(Reply(content=MODEL, breaks_off=True)) as server, pytest.raises(Unreachable, match="broke"):
        connect(server.url).models.rollback("digits", present=2)
    assert len(server.asked) == 1
    with faulty(problem(429, "rate_limited", Retry_After="0"), Reply(content=MODEL)) as server:
        connect(server.url).models.rollback("digits", present=2)
    assert len(server.asked) == 2


def test_a_deletion_whose_answer_was_lost_is_done_where_nothing_is_left(connect: Connect) -> None:
    gone = problem(404, "unknown_model")
    with faulty(Reply(breaks_off=True), gone) as server:
        connect(server.url).models.delete("digits")
    assert len(server.asked) == 2
    for refusal in (problem(429, "rate_limited", Retry_After="0"), gone):
        with faulty(refusal, gone) as server, pytest.raises(NotFound):
            connect(server.url).models.delete("digits")


def test_a_server_that_is_away_for_a_moment_is_waited_for(connect: Connect) -> None:
    """Longer than one that never answered: it is most likely being restarted."""
    with faulty(Reply(content=MODEL, headers={"Connection": "close"})) as server:
        client = connect(server.url, patience_s=FIRST_CONTACT_S + 4)
        client.models.get("digits")
    began = time.monotonic()
    with pytest.raises(Unreachable):
        client.models.get("digits")
    assert time.monotonic() - began > FIRST_CONTACT_S


def test_where_nothing_ever_answered_it_is_told_soon(connect: Connect) -> None:
    began = time.monotonic()
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=f"No Fovea answers at {url}; start one with"):
        connect(url, patience_s=100).models.get("digits")
    assert 1 < time.monotonic() - began < 10


def test_a_conflict_carries_what_the_server_said(connect: Connect) -> None:
    with faulty(problem(409, "conflict")) as server, pytest.raises(Conflict) as failure:
        connect(server.url).models.set_alias("digits", "production", 2)
    error = failure.value
    assert (error.status, error.code, error.detail, error.request_id) == (
        409,
        "conflict",
        "conflict, in words.",
        "r1",
    )
    assert str(error) == "conflict, in words. (409 conflict) [request r1]"


@pytest.mark.parametrize(
    "reply", [Reply(content=[]), Reply(content=b"<html>"), Reply(404, b"none"), Reply(content={"name": "digits"})]
)
def test_another_program_at_the_url_is_recognised(connect: Connect, reply: Reply) -> None:
    with faulty(reply) as server, pytest.raises(Unreachable, match=f"what answers at {server.url} is not Fovea"):
        connect(server.url).models.get("digits")
    with faulty(reply) as server, pytest.raises(Unreachable, match="is not Fovea"):
        connect(server.url).readiness()


@pytest.mark.parametrize("url", ["fovea.example", "ftp://fovea.example", "http://", "http://[::1"])
def test_what_is_no_url_is_said_to_be_none(connect: Connect, url: str) -> None:
    with pytest.raises(Unreachable, match="is not a URL"):
        connect(url)


def test_address_and_key_come_from_the_environment_and_the_key_is_not_shown(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(Reply(content=MODEL)) as server:
        monkeypatch.setenv("FOVEA_URL", server.url + "/")
        monkeypatch.setenv("FOVEA_KEY", "fov_abc.secret")
        client = connect()
        client.models.get("digits")
        assert client.url == server.url
        assert "secret" not in repr(client)
        assert server.asked[0].headers["Authorization"] == "Bearer fov_abc.secret"


def test_a_password_in_the_url_is_used_and_not_shown(connect: Connect) -> None:
    with faulty(Reply(content=MODEL), Reply(content=[])) as server:
        client = connect(server.url.replace("//", "//anna:secret@"))
        client.models.get("digits")
        assert server.asked[0].headers["Authorization"].startswith("Basic ")
        with pytest.raises(Unreachable) as failure:
            client.models.get("digits")
    assert "secret" not in str(failure.value) + client.url + repr(client)


def test_no_proxy_of_the_environment_comes_between(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with faulty(Reply(content=MODEL)) as server:
        assert connect(server.url).models.get("digits").name == "digits"


def test_what_a_newer_server_adds_is_kept_and_disturbs_nobody(connect: Connect) -> None:
    with faulty(Reply(content={**MODEL, "tags": ["new"]})) as server:
        model = connect(server.url).models.get("digits")
    assert model.raw["tags"] == ["new"]
    assert model.to_dict() == {**MODEL, "tags": ["new"]}


def test_what_is_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [is_loopback(host) for host in ("10.0.0.1", "fovea.example", "")] == [False] * 3
