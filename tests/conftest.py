"""Fixtures that several rooms share: the real test data, a real Redis, the real service."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateways import Gateways, running_gateways
from support.postgres import PostgresServer, running_postgres
from support.redis import RedisServer
from support.s3 import S3Server, running_s3
from support.stack import Stack, running_stack

from storage.audit import Actor, acting

# Tests start many workers, and few of them a training: those that want a trainer to wait say so.
os.environ.setdefault("FOVEA_SPARE_TRAINER", "false")
# Nor do they all fit on one port.
os.environ.setdefault("FOVEA_GRPC_PORT", "0")


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> None:
    """A shell's background job ignores SIGINT, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nobody_acts_any_more() -> Iterator[None]:
    """A command that a test runs in this process says who acts, until the process ends."""
    with acting(Actor("system")):
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real weights and photographs; see CONTRIBUTING.md."""
    folder = os.environ.get("FOVEA_TEST_DATA")
    if not folder:
        pytest.skip("FOVEA_TEST_DATA is not set: no real weights and photographs here")
    return Path(folder)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place on S3 that this process and its children can reach."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.make_bucket()


@pytest.fixture(scope="session")
def gateways() -> Iterator[Gateways]:
    """Two that need keys, without a worker; a test makes its own keys."""
    with running_gateways(2) as started:
        yield started


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gateway and inference worker with the model `colours`, shared by a file's tests."""
    with running_stack(tmp_path_factory.mktemp("stack")) as service:
        yield service
