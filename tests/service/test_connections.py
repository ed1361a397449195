"""What a client's bytes can do before any route: a real server with small limits, and sockets that misbehave."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from support.stack import free_port

from service.connection import HEAD_BYTES, PIPELINED, BoundedConnection
from service.connections import ConnectionLimits, Connections

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SOON_S = 20
LARGE = 32 * 2**20


class Application:
    """Answers with how many bytes came; `/hold` waits, `/early` answers at once, `/large` answers with much."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.gone: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        size, more = 0, scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.append(scope["path"])
                return
            size += len(message["body"])
            more = message["more_body"]
        while scope["path"] == "/hold" and not self.let_go.is_set():
            await asyncio.sleep(0.01)
        body = bytes(LARGE) if scope["path"] == "/large" else str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Server:
    def __init__(self, limits: ConnectionLimits) -> None:
        self.application = Application()
        self.refused: list[str] = []
        self.connections = Connections(limits, self.refused.append, look_every_s=0.02)
        self.port = free_port()
        config = uvicorn.Config(
            self.application,
            port=self.port,
            http=partial(BoundedConnection, self.connections),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run)

    @contextmanager
    def client(self, sent: bytes = b"") -> Iterator["Client"]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=SOON_S) as connection:
            client = Client(connection)
            with client.file:
                connection.sendall(sent)
                yield client

    def until(self, holds: Callable[["Server"], bool]) -> None:
        deadline = time.monotonic() + SOON_S
        while not holds(self):
            assert time.monotonic() < deadline, vars(self.connections)
            time.sleep(0.01)


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.file = connection.makefile("rb")

    def send_until_refused(self, piece: bytes, *, at_most: int = 2000, every_s: float = 0.0) -> None:
        for _ in range(at_most):
            try:
                self.connection.sendall(piece)
            except OSError:
                return
            time.sleep(every_s)
            if every_s and self.is_answered():
                return

    def is_answered(self) -> bool:
        self.connection.settimeout(0)
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(SOON_S)
        return True

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers = dict(line.decode().strip().split(": ", 1) for line in iter(self.file.readline, b"\r\n"))
        return status, headers, self.file.read(int(headers["content-length"]))

    def problem(self) -> tuple[int, str, dict[str, Any]]:
        status, headers, body = self.answer()
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["request_id"] == headers["x-request-id"]
        return status, problem["code"], headers

    def is_closed(self) -> bool:
        """Waits for the end; a reset is one too."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True


@contextmanager
def serving(**limits: Any) -> Iterator[Server]:
    server = Server(ConnectionLimits(**limits))
    server.thread.start()
    try:
        while not server.uvicorn.started:
            time.sleep(0.01)
        yield server
    finally:
        server.application.let_go.set()
        server.uvicorn.should_exit = True
        server.thread.join(SOON_S)
        assert not server.thread.is_alive()


@pytest.fixture(scope="module")
def patient() -> Iterator[Server]:
    """With timeouts that do not pass in a test."""
    with serving(header_s=300, body_s=300, idle_s=300) as server:
        yield server


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    with serving(header_s=0.5, body_s=0.5, body_bytes_s=1000, idle_s=0.5) as server:
        yield server


@pytest.mark.parametrize(
    ("begin", "block"),
    [
        (GET + b"X: ", b"a" * 1000),
        (GET, b"X: a\r\n" * 100),
        (GET, b"X: a\r\n" * 130 + b"\r\n"),
        (GET, b"X: " + b"a" * HEAD_BYTES + b"\r\n\r\n"),
        (b"GET /?", b"a" * 1000),
        (CHUNKED + b"1;", b"a" * 1000),
        (CHUNKED + b"1\r\na\r\n0\r\nX: ", b"a" * 1000),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"X: a\r\n" * 100),
    ],
    ids=[
        "endless field",
        "endless fields",
        "many fields",
        "large field",
        "url",
        "chunk extension",
        "trailer",
        "trailers",
    ],
)
def test_a_head_without_an_end_is_a_431(patient: Server, begin: bytes, block: bytes) -> None:
    with patient.client(begin) as client:
        client.send_until_refused(block, at_most=2 * HEAD_BYTES // len(block) + 2)
        assert client.problem()[:2] == (431, "header_too_large")
        assert client.is_closed()


def test_a_head_of_almost_the_limit_is_taken(patient: Server) -> None:
    with patient.client(GET + b"X: " + b"a" * (HEAD_BYTES - 200) + b"\r\n\r\n") as client:
        assert client.answer()[0] == 200


def test_what_is_no_http_is_a_problem_too(patient: Server) -> None:
    with patient.client(b"\x16\x03\x01\x02\x00\x01\r\n\r\n") as client:
        assert client.problem()[:2] == (400, "bad_request")


def test_a_request_for_another_protocol_is_answered_in_this_one(patient: Server) -> None:
    asked = GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    with patient.client(asked) as client:
        assert client.answer()[0] == 200


def test_two_hundred_slow_headers_harm_nobody_and_are_a_408(hasty: Server) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(hasty.client(GET + b"X: ")) for _ in range(200)]
        with hasty.client(GET + b"\r\n") as other:
            assert other.answer()[0] == 200
        for client in clients:
            assert client.problem()[:2] == (408, "request_timeout")
            assert client.is_closed()


def test_a_header_that_trickles_is_a_408(hasty: Server) -> None:
    with hasty.client(GET) as client:
        client.send_until_refused(b"X: a\r\n", at_most=120, every_s=0.05)
        assert client.problem()[:2] == (408, "request_timeout")


@pytest.mark.parametrize("length", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_trickles_is_a_408_and_its_application_is_told(hasty: Server, length: bytes) -> None:
    gone = len(hasty.application.gone)
    with hasty.client(POST + length + b"\r\n\r\n") as client:
        client.send_until_refused(b"1\r\na\r\n", at_most=200, every_s=0.05)
        assert client.problem()[:2] == (408, "request_timeout")
        assert client.is_closed()
    deadline = time.monotonic() + 10
    while len(hasty.application.gone) == gone and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(hasty.application.gone) == gone + 1


def test_a_slow_body_above_the_least_rate_is_taken(hasty: Server) -> None:
    with hasty.client(POST + b"Content-Length: 28000\r\n\r\n") as client:
        for _ in range(14):
            client.connection.sendall(bytes(2000))
            time.sleep(0.05)
        assert client.answer()[2] == b"28000"


def test_a_body_may_wait_for_the_application(hasty: Server) -> None:
    """`/hold` has read its body and answers long after every timeout."""
    with hasty.client(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        time.sleep(0.7)
        hasty.application.let_go.set()
        assert client.answer()[0] == 200


def test_a_body_that_was_answered_early_does_not_keep_the_connection(hasty: Server) -> None:
    with hasty.client(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n") as client:
        assert client.answer()[0] == 200
        client.send_until_refused(bytes(1000), every_s=0.01)
        assert client.is_closed()


@pytest.mark.parametrize("begin", [b"", GET + b"\r\n"], ids=["new", "after an answer"])
@pytest.mark.parametrize("trickle", [b"", b"\r\n"], ids=["silent", "empty lines"])
def test_a_connection_without_a_request_is_closed(hasty: Server, begin: bytes, trickle: bytes) -> None:
    with hasty.client(begin) as client:
        if begin:
            assert client.answer()[0] == 200
        client.send_until_refused(trickle, at_most=100, every_s=0.05)
        client.file.read()
        assert client.is_closed()


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(hasty: Server) -> None:
    with hasty.client(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        hasty.until(lambda server: "answer_not_taken" in server.refused)
        assert len(client.file.read()) < LARGE


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(hasty: Server) -> None:
    with hasty.client(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        taken = 0
        while taken < LARGE:
            taken += len(client.connection.recv(2**20))
            time.sleep(0.02)


def test_when_all_are_taken_the_longest_idle_makes_room_and_none_that_is_answered() -> None:
    hold = b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(connections=4) as server, ExitStack() as stack:
        held = [stack.enter_context(server.client(hold)) for _ in range(2)]
        idle = stack.enter_context(server.client(GET + b"\r\n"))
        assert idle.answer()[0] == 200
        slow = stack.enter_context(server.client(GET))
        server.until(lambda server: len(server.connections.everyone) == 4)
        newer = [stack.enter_context(server.client()) for _ in range(2)]
        assert idle.is_closed()
        assert slow.is_closed()
        for client in newer:
            client.connection.sendall(hold)
        server.until(lambda server: not server.connections.unoccupied)
        with server.client(GET + b"\r\n") as refused:
            status, code, headers = refused.problem()
            assert (status, code, headers["retry-after"]) == (503, "too_many_connections", "2")
        server.application.let_go.set()
        assert [client.answer()[0] for client in held + newer] == [200] * 4


def test_an_address_has_no_more_connections_than_its_own() -> None:
    with serving(per_address=2) as server, server.client(GET + b"\r\n") as first:
        assert first.answer()[0] == 200
        with server.client(), server.client() as third:
            assert third.problem()[:2] == (503, "too_many_connections")
        server.until(lambda server: len(server.connections.everyone) == 1)
        with server.client(GET + b"\r\n") as another:
            assert another.answer()[0] == 200


def test_requests_sent_ahead_are_answered_in_order_up_to_a_number(patient: Server) -> None:
    def requests(count: int) -> bytes:
        return b"".join(POST + b"Content-Length: %d\r\n\r\n" % n + b"x" * n for n in range(count))

    with patient.client(requests(PIPELINED)) as client:
        assert [client.answer()[2] for _ in range(PIPELINED)] == [str(n).encode() for n in range(PIPELINED)]
    with patient.client(requests(100)):
        patient.until(lambda server: "too_many_requests" in server.refused)
