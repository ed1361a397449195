"""A listening socket before its end, on a real kernel."""

import socket
import sys

import pytest

from system.listening import take_nobody_new


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that filters")
def test_who_is_connected_is_still_accepted_and_nobody_else_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        address = listening.getsockname()
        with socket.create_connection(address, timeout=5) as early, socket.socket() as late:
            early.sendall(b"request")
            take_nobody_new(listening.fileno())
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.connect(address)
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.recv(10) == b"request"
                accepted.sendall(b"answer")
                assert early.recv(10) == b"answer"
