"""Whether an address can be reached from this machine alone."""

from contextlib import suppress
from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """True for `localhost` and for an address of loopback, IPv4 or IPv6; any other name may lead anywhere."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def is_ip_address(host: str) -> bool:
    """True for an address itself, IPv4 or IPv6; a name, and what is neither, is none."""
    with suppress(ValueError):
        ip_address(host)
        return True
    return False
