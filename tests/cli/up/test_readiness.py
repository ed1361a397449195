"""Waiting for a Fovea that starts."""

import pytest

from cli.connection import connect
from cli.errors import StartFailed
from cli.up.address import claim_port, local_url
from cli.up.readiness import await_ready


def test_the_wait_for_a_fovea_that_ended_ends_with_its_reason() -> None:
    def require_alive() -> None:
        raise StartFailed("the Fovea started for this ended")

    with (
        connect(local_url("127.0.0.1", claim_port("127.0.0.1", 0))) as client,
        pytest.raises(StartFailed, match="started for this ended"),
    ):
        await_ready(client, require_alive)


def test_the_wait_has_an_end_that_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.up.readiness.START_S", 0.0)
    with (
        connect(local_url("127.0.0.1", claim_port("127.0.0.1", 0))) as client,
        pytest.raises(StartFailed, match="not ready after 0 s: gateway"),
    ):
        await_ready(client, lambda: None)
