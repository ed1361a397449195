"""Where a webhook may lead: public addresses over TLS, and what the operator has named; nowhere else, ever."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from service.settings import GatewaySettings
from service.webhooks.address import AddressGuard, Allowed, ReceiverRefused, is_public, parse_receiver
from storage.errors import InvalidSettings

PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"]
INTERNAL = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.100.100.200", "169.254.169.254", "169.254.1.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::127.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
    "100::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_refused_however_they_are_written(address: str) -> None:
    assert not is_public(ip_address(address.partition("%")[0]))
    with pytest.raises(ReceiverRefused, match="no public address"):
        check("https://name.example/", [address])
    # One such among public ones is enough.
    with pytest.raises(ReceiverRefused, match="no public address"):
        check("https://name.example/", [PUBLIC[0], address])


def check(url: str, addresses: Sequence[str] | None = None, allow: str = "") -> None:
    guard = AddressGuard(Allowed.parse(allow))
    if addresses is not None:
        guard.lookup = lambda _host, _port: addresses
    asyncio.run(guard.check(url, 5))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "localhost"]
)
def test_loopback_is_refused_by_the_systems_own_resolver(host: str) -> None:
    with pytest.raises(ReceiverRefused, match="no public address"):
        check(f"https://{host}/")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://name.example/", "expected https"),
        ("file:///etc/passwd", "expected https"),
        ("https:///x", "expected https"),
        ("https://user:word@name.example/", "signed instead"),
        ("https://user@name.example/", "signed instead"),
        ("https://name.example/#part", "behind #"),
        ("https://name.example:0/", "port 0"),
        ("https://name.example:99999/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
    ],
)
def test_what_is_no_receivers_url_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(ReceiverRefused, match=said):
        parse_receiver(url)


def test_a_public_receiver_passes_over_tls_only() -> None:
    check("https://name.example:8443/hook?x=1", PUBLIC)
    with pytest.raises(ReceiverRefused, match="expected https://; http://"):
        check("http://name.example/", PUBLIC)


def test_what_the_operator_names_passes_without_tls_too() -> None:
    allow = "hooks.internal, 10.0.0.0/8, 127.0.0.1, fd00::/8"
    check("http://hooks.internal/", ["192.168.1.1", PUBLIC[0]], allow)
    check("http://HOOKS.internal./", ["192.168.1.1"], allow)
    check("http://other.internal/", ["10.1.2.3", "fd00::7", "::ffff:10.9.9.9"], allow)
    check("http://127.0.0.1:9000/", None, allow)
    for url, addresses in (
        ("https://other.internal/", ["192.168.1.1"]),
        ("https://other.internal/", ["10.1.2.3", "192.168.1.1"]),
        ("https://sub.hooks.internal/", ["192.168.1.1"]),
        ("http://other.internal/", ["10.1.2.3", PUBLIC[0]]),
        ("https://x/", ["127.0.0.2"]),
    ):
        with pytest.raises(ReceiverRefused):
            check(url, addresses, allow)


def test_a_name_without_an_address_is_said_to_have_none() -> None:
    for found in ([], OSError("Name or service not known")):

        def lookup(_host: str, _port: int, found: Sequence[str] | OSError = found) -> Sequence[str]:
            if isinstance(found, OSError):
                raise found
            return found

        with pytest.raises(ReceiverRefused, match="cannot be resolved"):
            asyncio.run(AddressGuard(Allowed(), lookup).check("https://name.example/", 5))


@pytest.mark.parametrize("wrong", ["10.0.0.0/33", "10.1.2.3/8", "1.2.3.4.5", "a b", "http://hooks.internal"])
def test_a_setting_that_names_no_receiver_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidSettings, match=r"FOVEA_WEBHOOK_ALLOW: .* is none of"):
        GatewaySettings(webhook_allow=wrong)
