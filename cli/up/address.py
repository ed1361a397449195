"""Where the gateway will listen: sockets that are open before it is, and stay open while it is replaced."""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from cli.errors import AddressUnusable

_BACKLOG = 2048
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound


def claim_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on `port` of every address of the host, or on a free port when it is 0.

    Whoever connects before a gateway takes them, or between two gateways, waits in their queue.

    Raises AddressUnusable when the port is taken, may not be used, or the host is not an address of this machine.
    """
    try:
        return _listen(host, port)
    except OSError as exc:
        raise AddressUnusable(_explain(exc, host, port)) from exc


def claim_port(host: str, port: int) -> int:
    """As `claim_sockets`, but only the port, which nobody holds afterwards."""
    return _close(claim_sockets(host, port))


def require_free_for_grpc(host: str, port: int) -> None:
    """Raises AddressUnusable where the gateway could not listen there; it listens itself."""
    try:
        _close(_listen(host, port))
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise AddressUnusable(_explain(exc, host, port)) from exc
        raise AddressUnusable(
            f"port {port} on {host}, which is for gRPC, is taken by another program; stop that, or choose another "
            f"one: --grpc-port {_free(host)}, or 0 for none"
        ) from exc


def port_of(sockets: Sequence[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])


def local_url(host: str, port: int) -> str:
    """The URL by which this machine reaches a gateway bound to `host`."""
    reachable = _ANY_ADDRESS.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _listen(host: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, kind, protocol, _, address in found:
            listening = opened.enter_context(socket.socket(family, kind, protocol))
            # A port whose last connections are in TIME_WAIT is free.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Its IPv4 half is a socket of its own.
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((address[0], port_of(sockets) if sockets else port, *address[2:]))
            listening.listen(_BACKLOG)
            sockets.append(listening)
        opened.pop_all()
        return sockets


def _explain(error: OSError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {host}: it is no address of this machine; try --host 127.0.0.1"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program; stop that, or choose one: --port {_free(host)}"
    if error.errno == errno.EACCES:
        return f"port {port} may not be used by this user; choose one above 1023, such as --port 8000"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"


def _free(host: str) -> int:
    for candidate in range(8001, 8100):
        with suppress(OSError):
            return _close(_listen(host, candidate))
    return _close(_listen(host, 0))


def _close(sockets: Sequence[socket.socket]) -> int:
    port = port_of(sockets)
    for listening in sockets:
        listening.close()
    return port
