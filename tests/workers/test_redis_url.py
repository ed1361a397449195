"""Every form of a Redis URL, against real servers: with a password, behind TLS, on a socket."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError
from redis import RedisError
from support.stack import free_port

from cli.up.redis_server import find_redis
from workers.celery_app import make_celery
from workers.contract.queues import Queue
from workers.redis_url import InvalidRedisUrl, check, connect, connect_async, kombu_broker, shown

PASSWORD = "p@ss/wo:rd?"
QUOTED = "p%40ss%2Fwo%3Ard%3F"


@contextmanager
def server(url: str, *options: str) -> Iterator[None]:
    command = [str(find_redis().path), "--save", "", *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 30
            while not answers(url):
                if process.poll() is not None:
                    log.seek(0)
                    said = log.read()
                    if "tls-port" in said and "Bad directive" in said:
                        pytest.skip("the Redis of this machine was built without TLS")
                    raise AssertionError(f"Redis ended with {process.returncode}: {said}")
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(10)


def answers(url: str) -> bool:
    try:
        with connect(url) as client:
            return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl is not on this machine")
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [openssl, *command.split(), "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(params=["tcp", "socket", "tls"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    options = ["--requirepass", PASSWORD]
    if request.param == "tcp":
        url = f"redis://:{QUOTED}@localhost:{port}/3"
        options += ["--port", str(port)]
    elif request.param == "socket":
        socket = Path("/tmp") / f"fovea-{port}.sock"
        url = f"unix://:{QUOTED}@{socket}?db=3"
        options += ["--port", "0", "--unixsocket", str(socket)]
    else:
        folder: Path = request.getfixturevalue("certificate")
        url = f"rediss://:{QUOTED}@localhost:{port}/3?ssl_ca_certs={folder}/cert.pem"
        options += ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
        options += ["--tls-cert-file", f"{folder}/cert.pem", "--tls-key-file", f"{folder}/key.pem"]
    with server(url, *options):
        yield url


def test_clients_and_queue_reach_the_same_server_and_database(url: str) -> None:
    with connect(url, socket_timeout=5) as client:
        client.set("here", "yes")
        assert client.connection_pool.connection_kwargs["db"] == 3
        assert asyncio.run(read(url, "here")) == b"yes"
        app = make_celery(url)
        app.send_task("jobs.run_bulk", ({},), queue=Queue.BULK.value)
        assert client.llen(f"fovea:queue:{Queue.BULK.value}") == 1
        app.close()


async def read(url: str, key: str) -> bytes | str | None:
    async with connect_async(url, socket_timeout=5) as client:
        value: bytes | str | None = await client.get(key)
        return value


def test_tls_is_verified(certificate: Path) -> None:
    port = free_port()
    tls = ["--tls-cert-file", f"{certificate}/cert.pem", "--tls-key-file", f"{certificate}/key.pem"]
    options = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", *tls]
    with server(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}/cert.pem", *options):
        with (
            connect(f"rediss://localhost:{port}/0") as client,
            pytest.raises(RedisError, match="CERTIFICATE_VERIFY"),
        ):
            client.ping()
        broker, _ = kombu_broker(f"rediss://localhost:{port}/0")
        app = make_celery(broker)
        with app.connection_for_write() as connection, pytest.raises(OperationalError, match="CERTIFICATE_VERIFY"):
            connection.default_channel.client.ping()
        app.close()


def test_sentinels_are_spelled_as_kombu_wants_them() -> None:
    url = f"sentinel://me:{QUOTED}@one:1,[::1]:2;three/4?master_name=main&sentinel_password=a%26b"
    broker, options = kombu_broker(url)
    each = f"sentinel://me:{QUOTED}@"
    assert broker == f"{each}one:1/4;{each}[::1]:2/4;{each}three:26379/4"
    assert options["master_name"] == "main"
    assert options["sentinel_kwargs"]["password"] == "a&b"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sentinel://:secret@one:1/0", "which master"),
        ("sentinel://:secret@one:1/0?master_name=m&timeout=3", "timeout"),
        ("sentinel://:secret@one:port/0?master_name=m", "port"),
        ("sentinel://:secret@/0?master_name=m", "no Sentinel"),
        ("sentinel://:secret@one/x?master_name=m", "cannot be read"),
        ("http://:secret@one", "http"),
        ("redis://:secret@one:port", "cannot be read"),
        ("redis://:12/secret@one:1/0", "%2F"),
        ("rediss://:secret/12@one:1/0", "%2F"),
    ],
)
def test_what_cannot_be_read_is_said_without_the_password(url: str, said: str) -> None:
    with pytest.raises(InvalidRedisUrl, match=said) as caught:
        check(url)
    assert "secret" not in str(caught.value)
    assert "Expected" in str(caught.value)


def test_no_password_is_shown() -> None:
    for url in (
        f"redis://me:{QUOTED}@host:1/0",
        "rediss://:a/b@c@host:1/0",
        "sentinel://:pw@one,two/0?sentinel_password=secret&master_name=m",
    ):
        assert not any(word in shown(url) for word in (QUOTED, "me:", "a/b", "pw", "secret"))
        assert "@" not in shown(url)
