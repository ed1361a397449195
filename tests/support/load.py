"""Many requests at once from one cheap client, so that it is the service that is busy."""

import asyncio
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    request: int
    status: int
    body: dict[str, Any]


def send_all(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    *,
    requests: int,
    at_once: int,
    content_type: str = "image/png",
) -> list[Reply]:
    """Send `requests` POSTs, `at_once` at a time, each with the next of `bodies`; replies in no order."""
    load = Load(port, path, bodies, at_once=at_once, content_type=content_type)
    asyncio.run(load.send(iter(range(requests))))
    return load.replies


@dataclass
class Load:
    """POSTs from a thread for as long as it is entered, each with the next of `bodies`.

    Steady where `per_second` is given, and as fast as the answers come otherwise. `replies` grows meanwhile, in no
    order. The exit waits for the last answers, and raises where a connection broke.
    """

    port: int
    path: str
    bodies: Sequence[bytes]
    at_once: int
    content_type: str = "image/png"
    per_second: float = math.inf
    replies: list[Reply] = field(default_factory=list)
    sent: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failure and kind is None:
            raise self._failure

    def _run(self) -> None:
        def numbers() -> Iterator[int]:
            for number in count():
                if self._over.is_set():
                    return
                yield number

        try:
            asyncio.run(self.send(numbers()))
        except (OSError, EOFError) as failure:
            self._failure = failure

    async def send(self, numbers: Iterator[int]) -> None:
        began = time.monotonic()

        async def due(number: int) -> None:
            await asyncio.sleep(max(0.0, began + number / self.per_second - time.monotonic()))

        await asyncio.gather(*(self._client(numbers, due) for _ in range(self.at_once)))

    async def _client(self, numbers: Iterator[int], due: Callable[[int], Awaitable[None]]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for number in numbers:
            await due(number)
            self.sent += 1
            writer.write(post(self.path, self.bodies[number % len(self.bodies)], self.content_type))
            head = await reader.readuntil(b"\r\n\r\n")
            status_line, *fields = head.decode().split("\r\n")
            length = next(int(h.partition(":")[2]) for h in fields if h.lower().startswith("content-length"))
            body = json.loads(await reader.readexactly(length))
            self.replies.append(Reply(number, int(status_line.split()[1]), body))
        writer.close()
        await writer.wait_closed()


def post(path: str, body: bytes, content_type: str) -> bytes:
    """A request as it goes over the wire."""
    headers = ["Host: localhost", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode() + body
