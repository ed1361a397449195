"""Where the gateway will listen, checked before anything is started. Knows no gateway."""

import errno
import socket

from cli.errors import AddressUnusable

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound


def claim_port(host: str, port: int) -> int:
    """The port to listen on: `port`, or a free one when it is 0.

    Raises AddressUnusable when the port is taken, may not be used, or the host is not an address of this machine.
    """
    try:
        return _bind(host, port)
    except OSError as exc:
        raise AddressUnusable(_explain(exc, host, port)) from exc


def local_url(host: str, port: int) -> str:
    """The URL by which this machine reaches a gateway bound to `host`."""
    reachable = _ANY_ADDRESS.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _bind(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # A port whose last connections are in TIME_WAIT is free: the gateway binds it in the same way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
        return int(probe.getsockname()[1])


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
        try:
            return _bind(host, candidate)
        except OSError:
            continue
    return _bind(host, 0)
