"""A server on a real socket that says what a test has written down, for faults that no gateway makes on demand."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from support.served import served


@dataclass(frozen=True)
class Reply:
    """One answer: JSON, or bytes as they are; `breaks_off` ends the connection in the midst of it."""

    status: int = 200
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    breaks_off: bool = False


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Faulty:
    """Answers with `replies`, one after the other, the last of them for ever; what was asked for is in `asked`."""

    url: str
    replies: list[Reply | Callable[[Asked], Reply]]
    asked: list[Asked]


def problem(status: int, code: str, **headers: str) -> Reply:
    """As Fovea has it; a header's name with `_` for `-`."""
    body = {"status": status, "code": code, "detail": f"{code}, in words.", "request_id": "r1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"Content-Type": "application/problem+json", **named})


@contextmanager
def faulty(*replies: Reply | Callable[[Asked], Reply]) -> Iterator[Faulty]:
    left, asked = list(replies), list[Asked]()
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            now = Asked(self.command, self.path, dict(self.headers.items()), body)
            with turn:
                asked.append(now)
                reply = left.pop(0) if len(left) > 1 else left[0]
            reply = reply(now) if callable(reply) else reply
            content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            more = 100 if reply.breaks_off else 0
            self.send_header("Content-Length", str(len(content) + more))
            self.end_headers()
            self.wfile.write(content)
            if reply.breaks_off:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            return

    with served(Handler) as url:
        yield Faulty(url, left, asked)
