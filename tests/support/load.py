"""Many requests at once from one cheap client, so that it is the service that is busy."""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


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
    per_second: float = math.inf,
) -> list[Reply]:
    """Send `requests` POSTs, `at_once` at a time, each with the next of `bodies`; replies in no order.

    The load is steady where `per_second` is given, and as fast as the answers come otherwise.
    """

    async def start() -> list[Reply]:
        numbers = iter(range(requests))
        replies: list[Reply] = []
        began = time.monotonic()

        async def due(number: int) -> None:
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))

        clients = (_client(port, path, bodies, numbers, replies, content_type, due) for _ in range(at_once))
        await asyncio.gather(*clients)
        return replies

    return asyncio.run(start())


def post(path: str, body: bytes, content_type: str) -> bytes:
    """A request as it goes over the wire."""
    headers = ["Host: fovea", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode() + body


async def _client(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    numbers: Iterator[int],
    replies: list[Reply],
    content_type: str,
    due: Callable[[int], Awaitable[None]],
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        await due(number)
        body = bodies[number % len(bodies)]
        writer.write(post(path, body, content_type))
        answer = await reader.readuntil(b"\r\n\r\n")
        status_line, *fields = answer.decode().split("\r\n")
        length = next(int(h.partition(":")[2]) for h in fields if h.lower().startswith("content-length"))
        replies.append(Reply(number, int(status_line.split()[1]), json.loads(await reader.readexactly(length))))
    writer.close()
    await writer.wait_closed()
