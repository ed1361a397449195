"""One message: connected to the address that was looked at, and nothing followed, kept or waited for."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.receiver import Receiver, running_receiver

from service.webhooks.address import AddressGuard, Allowed
from service.webhooks.client import Answer, WebhookClient

SECRETS = {"webhook-id": "msg_1"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def listening() -> socket.socket:
    """On which nobody waits for ever."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(20)
    return server


def client(allow: str = "127.0.0.1", timeout_s: float = 5) -> WebhookClient:
    return WebhookClient(AddressGuard(Allowed.parse(allow)), timeout_s)


def post(url: str, sender: WebhookClient | None = None) -> Answer:
    return asyncio.run((sender or client()).post(url, b"{}", SECRETS))


def test_a_message_arrives_with_its_headers(receiver: Receiver) -> None:
    assert post(f"{receiver.url}?token=1") == Answer(204)
    (message,) = receiver.messages
    assert (message.path, message.body) == ("/hook?token=1", b"{}")
    assert (
        message.headers.items()
        >= {
            "content-type": "application/json",
            "content-length": "2",
            "user-agent": "Fovea",
            "webhook-id": "msg_1",
            "host": f"127.0.0.1:{receiver.port}",
        }.items()
    )
    assert message.headers.keys() == {
        "content-type", "content-length", "user-agent", "webhook-id", "host",
    }  # fmt: skip


def test_no_redirection_is_followed(receiver: Receiver) -> None:
    with running_receiver() as other:
        receiver.status, receiver.headers = 307, {"location": other.url}
        answer = post(receiver.url)
        assert (answer.status, answer.is_taken, other.messages) == (307, False, [])
        assert "redirections are not followed" in (answer.detail or "")


def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(receiver.url).is_taken
        assert proxy.messages == []


def test_a_name_that_leads_elsewhere_meanwhile_leads_nobody_astray(receiver: Receiver) -> None:
    """DNS rebinding: it is public when the webhook is made, and loopback when a message is sent."""
    answers = [["93.184.216.34"], ["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"]]
    asked = iter(answers)
    guard = AddressGuard(Allowed(), lambda _host, _port: next(asked))
    url = f"https://rebound.example:{receiver.port}/hook"

    async def run() -> list[Answer]:
        await guard.check(url, 5)
        return [await WebhookClient(guard, 5).post(url, b"{}", SECRETS) for _ in answers[1:]]

    for answer in asyncio.run(run()):
        assert answer.status is None
        assert "which is no public address" in (answer.detail or "")
    assert receiver.messages == []


def test_the_name_is_resolved_once_and_connected_to_as_it_was_looked_at(receiver: Receiver) -> None:
    """Whoever resolves a second time may be told another address."""
    asked: list[str] = []

    def lookup(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    guard = AddressGuard(Allowed.parse("127.0.0.1"), lookup)
    answer = post(f"http://no-such-host.example:{receiver.port}/hook", WebhookClient(guard, 5))
    assert (answer, asked) == (Answer(204), ["no-such-host.example"])
    assert receiver.messages[0].headers["host"] == f"no-such-host.example:{receiver.port}"


def test_what_refuses_or_speaks_something_else_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "ConnectError" in (post(f"http://127.0.0.1:{port}/").detail or "")
    with listening() as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        answer = post(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
    assert (answer.status, "RemoteProtocolError" in (answer.detail or "")) == (None, True)


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nx: "])
def test_a_receiver_has_so_long_for_everything(drip: bytes) -> None:
    """One that sends a byte now and then keeps no message waiting either."""
    over = threading.Event()
    with listening() as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(drip)
                while drip and not over.wait(0.05):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return
                over.wait(10)

        thread = threading.Thread(target=speak)
        thread.start()
        began = time.monotonic()
        answer = post(f"http://127.0.0.1:{server.getsockname()[1]}/", client(timeout_s=0.5))
        took = time.monotonic() - began
        over.set()
        thread.join()
    assert answer == Answer(None, "no answer within 0.5 s")
    assert took < 3


def test_an_answer_without_end_is_not_read() -> None:
    sent = 0
    with listening() as server:

        def speak() -> None:
            nonlocal sent
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                        sent += 65536
                except OSError:
                    return

        thread = threading.Thread(target=speak)
        thread.start()
        answer = post(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join(10)
    assert answer.is_taken
    assert sent < 2**24


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120), ("999999", 21600), ("-5", 0), ("soon", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0)],
)
def test_a_receiver_may_ask_for_time(receiver: Receiver, header: str, seconds: float) -> None:
    receiver.status, receiver.headers = 503, {"Retry-After": header}
    assert post(receiver.url) == Answer(503, "it answered 503", seconds)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of localhost, signed by itself."""
    file = tmp_path / "both.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout",
            str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"), "-subj", "/CN=hooks.example",
            "-addext", "subjectAltName=DNS:hooks.example",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    file.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "cert.pem").read_bytes())
    return file


def test_the_certificate_is_of_the_name_whatever_the_address(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    received: list[bytes] = []
    with listening() as server:
        port = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(connection, server_side=True) as stream:
                        received.append(stream.recv(10_000))
                        stream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            guard = AddressGuard(Allowed.parse("127.0.0.1"), lambda _host, _port: ["127.0.0.1"])
            untrusted = post(f"https://hooks.example:{port}/", WebhookClient(guard, 5))
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("cert.pem")))
            trusted = post(f"https://hooks.example:{port}/", WebhookClient(guard, 5))
            other = post(f"https://other.example:{port}/", WebhookClient(guard, 5))
        finally:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join(10)
    assert trusted == Answer(204)
    for refused in (untrusted, other):
        assert (refused.status, "CERTIFICATE_VERIFY_FAILED" in (refused.detail or "")) == (None, True), refused
    assert len(received) == 1


def test_a_gateway_without_webhooks_imports_nothing_of_it() -> None:
    absent = ("httpcore", "standardwebhooks")
    program = f"import sys, service.main; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
