"""Which addresses a webhook may reach: public ones over TLS, and what the operator has named.

A URL comes from a client, and the gateway stands where that client does not: beside the database, the store and
the cloud's own services. So a name is resolved here, every address that it has is looked at, and the connection is
made to one of those very addresses (`service.webhooks.client`): a name that leads elsewhere a moment later leads
nobody astray.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[[str, int], Sequence[str]]

DEFAULT_PORTS = {"https": 443, "http": 80}
# Not the internet's, by IANA's registries of special addresses; earlier releases of Python lack some of them. The
# last one is public by its number, and Azure's own service for the machine that asks.
_SPECIAL = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "100::/64", "2001::/23", "3fff::/20", "5f00::/16",
            "168.63.129.16",
        ),
    )
)  # fmt: skip
# Of a network without IPv4: the last 32 bits are an address of that.
_NAT64 = ip_network("64:ff9b::/96")


class ReceiverRefused(Exception):
    """The URL cannot be a webhook's; the text says why and what could."""


@dataclass(frozen=True)
class Allowed:
    """What the operator has named: hosts by name, whatever their addresses are, and addresses."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        """Names, addresses and networks with commas between. Raises ValueError."""
        hosts, networks = set(), []
        for part in filter(None, (part.strip().lower() for part in text.split(","))):
            try:
                networks.append(ip_network(part.strip("[]")))
            except ValueError:
                if "/" in part or ":" in part or part.replace(".", "").isdigit() or " " in part:
                    raise ValueError(
                        f"{part!r} is none of: an address, a network such as 10.0.0.0/8, a host's name"
                    ) from None
                hosts.add(part.rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def host(self, name: str) -> bool:
        return name.rstrip(".") in self.hosts

    def address(self, address: Address) -> bool:
        return any(meaning in network for network in self.networks for meaning in _meanings(address))


@dataclass(frozen=True)
class Receiver:
    """A URL, taken apart. The host is in small letters."""

    scheme: str
    host: str
    port: int


@dataclass
class AddressGuard:
    """Resolves names, and refuses what may not be reached; `lookup` asks the system unless a test does.

    A resolver that does not answer holds a thread of the guard's own.
    """

    allowed: Allowed
    lookup: Lookup = field(default_factory=lambda: system_lookup)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(4, thread_name_prefix="webhooks.resolve"), init=False
    )

    async def check(self, url: str, timeout_s: float) -> None:
        """Raises ReceiverRefused for what may not be a webhook's URL, or whose host has no address now."""
        receiver = parse_receiver(url)
        try:
            async with asyncio.timeout(timeout_s):
                await self.addresses(receiver)
        except (OSError, TimeoutError) as error:
            said = str(error) or "no answer"
            raise ReceiverRefused(f"the host {receiver.host} cannot be resolved: {said}") from error

    async def addresses(self, receiver: Receiver) -> list[str]:
        """Where to connect to, each of them looked at. Raises ReceiverRefused, and OSError for an unknown name."""
        lookup = asyncio.get_running_loop().run_in_executor
        found = await lookup(self._threads, self.lookup, receiver.host, receiver.port)
        if not found:
            raise OSError(f"{receiver.host} has no address")
        if not self.allowed.host(receiver.host):
            for address in map(_parsed, found):
                self._check(receiver, address)
        return list(found)

    def _check(self, receiver: Receiver, address: Address) -> None:
        if self.allowed.address(address):
            return
        if not is_public(address):
            raise ReceiverRefused(
                f"{receiver.host} is {address}, which is no public address; whoever runs this Fovea can name it, "
                "or the host, in FOVEA_WEBHOOK_ALLOW"
            )
        if receiver.scheme != "https":
            raise ReceiverRefused(
                "expected https://; http:// is for receivers that the operator has named in FOVEA_WEBHOOK_ALLOW"
            )


def parse_receiver(url: str) -> Receiver:
    """Raises ReceiverRefused for what is no URL of a receiver's."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ReceiverRefused(f"it cannot be read as a URL: {error}") from error
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ReceiverRefused("expected https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise ReceiverRefused("it has a name or password before the host; messages are signed instead")
    if parts.fragment:
        raise ReceiverRefused("it has a part behind #, which is never sent")
    if port == 0:
        raise ReceiverRefused("there is no port 0")
    return Receiver(parts.scheme, parts.hostname.lower(), port or DEFAULT_PORTS[parts.scheme])


def system_lookup(host: str, port: int) -> list[str]:
    """Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host[:100]!r} is no name of a host") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: Address) -> bool:
    """Whether it is a machine's on the internet, whichever way it is written."""
    return all(
        meaning.is_global
        and not (meaning.is_multicast or meaning.is_reserved or meaning.is_unspecified)
        and not (isinstance(meaning, IPv6Address) and meaning.is_site_local)
        and not any(meaning in network for network in _SPECIAL)
        for meaning in _meanings(address)
    )


def _meanings(address: Address) -> tuple[Address, ...]:
    """The address, and the one of IPv4 that it stands for; a mapped or translated one is nothing but that."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address.sixtofour:
        return address, address.sixtofour
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return (address,)


def _parsed(text: str) -> Address:
    """An address of the link has its interface behind it."""
    return ip_address(text.partition("%")[0])
