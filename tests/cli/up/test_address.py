"""Where the gateway will listen is checked before anything starts."""

import socket

import pytest

from cli.errors import AddressUnusable
from cli.up.address import claim_port, local_url


def test_a_free_port_is_taken_as_asked() -> None:
    port = claim_port("127.0.0.1", 0)
    assert claim_port("127.0.0.1", port) == port


def test_a_taken_port_is_refused_with_a_free_one_as_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            AddressUnusable, match=rf"port {port} on 127\.0\.0\.1 is taken .*--port (\d+)"
        ) as refused:
            claim_port("127.0.0.1", port)
    suggested = int(str(refused.value).rsplit(" ", 1)[1])
    assert claim_port("127.0.0.1", suggested) == suggested


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7"])
def test_an_address_that_is_not_this_machines_is_refused(host: str) -> None:
    with pytest.raises(AddressUnusable, match="--host"):
        claim_port(host, 8000)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"),
        ("localhost", "http://localhost:81"),
        ("0.0.0.0", "http://127.0.0.1:81"),
        ("::", "http://[::1]:81"),
        ("192.168.1.5", "http://192.168.1.5:81"),
    ],
)
def test_the_url_reaches_the_gateway_from_this_machine(host: str, url: str) -> None:
    assert local_url(host, 81) == url
