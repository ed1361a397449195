"""Requests that were right, damaged in one to three places: many more of them than Schemathesis makes in the time.

What it does not vary is here too: bytes that are no text, numbers of 400 digits, depth, pieces of archives.
"""

import contextlib
import http.client
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import psutil
import pytest
from fuzz.conftest import EXAMPLES, Target
from fuzz.inside import TRACE
from support.colours import picture
from support.world import colours_archive

from service.browsers import PROTECTION

REQUESTS = EXAMPLES * 300
CLIENTS = 4
LONGEST_ANSWER_S = 10
# What is told of paths that became other ones.
ELSEWHERE = {307, 404, 405}
# What is no HTTP is refused by the server, before it is anybody's request and has an id.
NO_HTTP = {400, 408, 431}
TEXTS = [
    "", " ", "\0", "a\0b", "a\\b", "..", "../../etc/passwd", "/", "//x", "%00", "%2e%2e", "é", "\u202e", "\ufffd",
    "🦊", "-1", "0", "1", "1e400", "NaN", "9" * 30, "null", "true", "[]", "{}", "'; DROP TABLE jobs; --", "%s%n",
    "<script>", "${jndi:x}", "x" * 300, "é" * 2000, "colours", "colours@production", "builtin:digits", "lenet5",
]  # fmt: skip
RAW = [
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\xc0\x80",
    b"%zz",
    b"%ed%a0%80",
    b"%ff",
    b"+",
    b"&&",
    b"=",
    b"?",
    b";",
    b"#",
]
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, -0.0, "", "x", "\0", "\ud800", "\u202e",
    "x" * 5000, "1", [], {}, [None], {"": ""}, {"\ud800": 1}, [[]], ["x"] * 2000, {str(n): n for n in range(200)},
]  # fmt: skip
HEADERS = {
    "content-type": ["application/json", "image/png", "text/plain", "multipart/form-data", "x", "", "é/é", ";;;"],
    "prefer": ["respond-async", "wait=1", "wait=0", "wait=nan", "wait=1e400", "wait=", ",;=", "wait=-1"],
    "idempotency-key": ["a", "", "x" * 300, "é", '"q"'],
    "last-event-id": ["0", "1", "-1", "x", "9" * 40, ""],
    "x-request-id": ["ok", "bad id", "x" * 200],
    "accept": ["text/html", "*/*", "nonsense"],
    "authorization": ["Bearer", "Bearer x", "Basic x", "Bearer fov_x.y", "é"],
    "traceparent": ["00-x", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
    "origin": ["null", "http://evil.com"],
    "sec-fetch-site": ["cross-site", "none"],
    "host": ["evil.com", "x" * 300, "[::1", ""],
}
FINETUNE = {
    "model": "made-up", "dataset": "builtin:digits", "architecture": "lenet5", "weights": "none",
    "promote": "always", "recipe": {"epochs": 1}, "validation": {"fraction": 0.2}, "seed": 1,
}  # fmt: skip
BODIES: dict[str, list[Any]] = {
    "/v1/finetunes": [FINETUNE],
    "/v1/models/{name}/versions": [{"architecture": "resnet18", "weights": "imagenet"}],
    "/v1/models/{name}/versions/{number}/variants": [{"dataset": "builtin:digits", "precisions": ["int8"]}],
    "/v1/models/{name}/aliases/{alias}": [{"version": 1}],
    "/v1/models/{name}/aliases/{alias}/rollback": [{"from": 2}, {}],
    "/v1/jobs/{job_id}/cancel": [{"on_cancel": "discard"}, {}],
}


@dataclass
class Request:
    method: str
    path: bytes
    query: list[tuple[bytes, bytes]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self) -> bytes:
        query = b"&".join(name + b"=" + value for name, value in self.query)
        target = self.path + (b"?" + query if query else b"")
        headers = {"host": "localhost", "content-length": str(len(self.body)), **self.headers}
        lines = [f"{name}: {value}".encode() for name, value in headers.items()]
        return b"\r\n".join([b" ".join([self.method.encode(), target, b"HTTP/1.1"]), *lines, b"", self.body])


@dataclass
class Call:
    """One of the description, with how its answers are checked."""

    path: str
    method: str
    operation: dict[str, Any]
    schemas: dict[str, Any]

    def __post_init__(self) -> None:
        self.validators: dict[str, Any] = {}

    def request(self, chance: random.Random, target: Target) -> Request:
        """A right one. What it deletes never exists, for all the others live on what does."""
        path = self.path
        for name, known in target.known.items():
            value = "nobody" if self.method == "delete" else chance.choice(known)
            path = path.replace("{" + name + "}", str(value))
        request = Request(self.method.upper(), path.encode(), headers={"authorization": target.key})
        if self.path == "/v1/datasets" and self.method == "post":
            request.query.append((b"name", b"colours"))
            request.body = ARCHIVE
        elif self.path.endswith("/classify"):
            request.headers["content-type"], request.body = chance.choice(IMAGES)
        elif bodies := BODIES.get(self.path) if self.method in ("post", "put") else None:
            request.headers["content-type"] = "application/json"
            request.body = json.dumps(chance.choice(bodies)).encode()
        return request

    def complaint(self, status: int, content_type: str, body: bytes) -> str | None:
        """Why the answer is not one of those described."""
        described = self.operation["responses"].get(str(status))
        if described is None:
            return None if status in ELSEWHERE else "the status is not described"
        if "content" not in described:
            return None if not body else "no content is described"
        found = content_type.partition(";")[0]
        if found not in described["content"]:
            return f"the content type {content_type} is not described"
        if found.endswith("json"):
            try:
                self._validator(str(status), described["content"][found]).validate(json.loads(body))
            except (ValueError, jsonschema_rs.ValidationError) as error:
                return f"the content is not as described: {error}"
        return None

    def _validator(self, status: str, content: dict[str, Any]) -> Any:
        if status not in self.validators:
            schema = {**content.get("schema", {}), "components": {"schemas": self.schemas}}
            self.validators[status] = jsonschema_rs.validator_for(schema)
        return self.validators[status]


ARCHIVE = colours_archive(per_class=1)
PNG = picture("red")
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    + PNG
    + b"\r\n--b--\r\n"
)
IMAGES = [
    ("image/png", PNG),
    ("application/octet-stream", PNG),
    ("multipart/form-data; boundary=b", FORM),
    ("application/json", b'{"images": ["iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo="]}'),
]


def damage_path(chance: random.Random, request: Request) -> None:
    parts = request.path.split(b"/")
    parts[chance.randrange(1, len(parts))] = made_up(chance)
    request.path = b"/".join(parts)


def damage_query(chance: random.Random, request: Request) -> None:
    names = [
        b"limit",
        b"cursor",
        b"search",
        b"state",
        b"kind",
        b"top_k",
        b"name",
        b"on_fault",
        b"force",
        b"format",
    ]
    request.query.append((chance.choice([*names, made_up(chance)]), made_up(chance)))


def damage_header(chance: random.Random, request: Request) -> None:
    name = chance.choice(list(HEADERS))
    request.headers[name] = chance.choice(HEADERS[name])


def damage_body(chance: random.Random, request: Request) -> None:
    if request.body[:1] in (b"{", b"["):
        try:
            document = json.loads(request.body)
        except (ValueError, RecursionError):
            return damage_bytes(chance, request)
        request.body = json.dumps(changed(chance, document), allow_nan=True).encode()
        return None
    return damage_bytes(chance, request)


def damage_bytes(chance: random.Random, request: Request) -> None:
    body = bytearray(request.body or chance.randbytes(chance.randrange(50)))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(4):
            case 0:
                del body[at:]
            case 1:
                body[at:at] = chance.randbytes(chance.randint(1, 30))
            case 2:
                body[at : at + 1] = chance.choice([b"\0", b"\xff", b'"', b"[" * 3000, b"}", b"\r\n"])
            case _:
                del body[at : at + chance.randint(1, 50)]
    request.body = bytes(body)


def made_up(chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return chance.choice(RAW)
    return quote(chance.choice(TEXTS), safe=chance.choice(["", "/"])).encode()


def changed(chance: random.Random, document: Any) -> Any:
    """With one place of it another value, gone, or with company."""
    if isinstance(document, dict) and document and chance.random() < 0.8:
        name = chance.choice(list(document))
        match chance.randrange(4):
            case 0:
                return {key: value for key, value in document.items() if key != name}
            case 1:
                return document | {chance.choice(TEXTS): chance.choice(VALUES)}
            case _:
                return document | {name: changed(chance, document[name])}
    if isinstance(document, list) and document and chance.random() < 0.8:
        at = chance.randrange(len(document))
        return [*document[:at], changed(chance, document[at]), *document[at + 1 :]]
    return chance.choice(VALUES)


DAMAGES: list[Callable[[random.Random, Request], None]] = [damage_path, damage_query, damage_header, damage_body]


@dataclass
class Client:
    """A connection that is opened anew whenever the gateway closed it."""

    port: int
    connection: socket.socket | None = None

    def send(self, request: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self.connection is None:
            self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=3 * LONGEST_ANSWER_S)
        # It may be answered while its body is still on its way.
        with contextlib.suppress(OSError):
            self.connection.sendall(request)
        answer = http.client.HTTPResponse(self.connection, method=request.split(b" ", 1)[0].decode())
        answer.begin()
        body = answer.read()
        if answer.will_close:
            self.connection.close()
            self.connection = None
        return answer.status, answer.headers, body

    def close(self) -> None:
        if self.connection:
            self.connection.close()


@dataclass
class Run:
    target: Target
    calls: list[Call]
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def work(self, seed: str, count: int) -> None:
        chance, client = random.Random(seed), Client(self.target.stack.port)
        try:
            for _ in range(count):
                call = chance.choice(self.calls)
                request = call.request(chance, self.target)
                for damage in chance.choices(DAMAGES, k=chance.randint(1, 3)):
                    damage(chance, request)
                self.try_one(call, request.encode(), client)
                if len(self.faults) > 20:
                    return
        except (OSError, http.client.HTTPException) as error:
            self.faults.append(f"{error!r} to {request.encode()[:2000]!r}")
        finally:
            client.close()

    def try_one(self, call: Call, sent: bytes, client: Client) -> None:
        begun = time.monotonic()
        status, headers, body = client.send(sent)
        took = time.monotonic() - begun
        self.statuses[status] += 1
        content_type = headers.get("content-type", "")
        told = (
            f"{headers}{body.decode(errors='replace')}"
            if "json" in content_type or status >= 400
            else str(headers)
        )
        complaint = call.complaint(status, content_type, body)
        if status in NO_HTTP and "x-request-id" not in headers:
            complaint = None
        elif any(name.decode() not in headers for name, _ in PROTECTION):
            complaint = "it is not protected"
        if status >= 500 and call.path != "/readyz":
            complaint = "it is our fault"
        if any(secret in told for secret in self.target.secrets) or TRACE.search(told):
            complaint = "it tells of the inside"
        if took > LONGEST_ANSWER_S:
            complaint = f"it took {took:.1f} s"
        if complaint:
            self.faults.append(f"{complaint}: {status} {body[:500]!r} to {sent[:2000]!r}")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_what_was_right_and_is_damaged_gets_an_answer_that_is_described(target: Target, seed: str) -> None:
    run = Run(target, calls_of(target))
    gateway = psutil.Process(target.stack.processes["gateway"].pid)
    begun = time.monotonic()
    memory = []
    for part in range(4):
        with ThreadPoolExecutor(CLIENTS) as pool:
            seeds = [f"{seed}-{part}-{client}" for client in range(CLIENTS)]
            list(pool.map(run.work, seeds, [REQUESTS // CLIENTS // 4] * CLIENTS))
        memory.append(gateway.memory_info().rss // 2**20)
    print(
        f"{run.statuses.total()} requests in {time.monotonic() - begun:.0f} s: {dict(run.statuses)}, {memory} MiB"
    )
    print(*run.faults, sep="\n")
    assert run.faults == []
    assert run.statuses.total() >= REQUESTS - 4 * CLIENTS
    # Of requests that are only half wrong, many must be right still, or nothing deep was reached.
    assert run.statuses[200] + run.statuses[202] > REQUESTS / 20
    target.check_health()


def calls_of(target: Target) -> list[Call]:
    """All but streams of events, which last as long as jobs that nobody works on."""
    client = Client(target.stack.port)
    _, _, body = client.send(Request("GET", b"/openapi.json").encode())
    client.close()
    document = json.loads(body)
    return [
        Call(path, method, operation, document["components"]["schemas"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not path.endswith("/events")
    ]
