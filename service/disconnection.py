"""A client that goes away before its answer takes its waiting images with it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

Answer = TypeVar("Answer")


async def unless_disconnected(request: Request, answering: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer. Raises ClientDisconnect where the client leaves first; `answering` is cancelled then.

    The request's body must have been read.
    """
    task = asyncio.create_task(answering)
    leaving = asyncio.create_task(_disconnected(request))
    either: set[asyncio.Task[Any]] = {task, leaving}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            # Nobody reads the answer, but the log and the metrics must tell a client's leave from our failure.
            raise ClientDisconnect
        return task.result()
    finally:
        leaving.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
