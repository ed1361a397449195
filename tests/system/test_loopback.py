import pytest

from system.loopback import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_is_reached_from_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "fovea.example", "localhost.example"])
def test_anything_else_may_be_reached_by_others(host: str) -> None:
    assert not is_loopback(host)
