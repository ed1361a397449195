"""Takes the steps of plans with asyncio: while one waits, others go on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx

from fovea_client.plan import Close, Compute, Emit, Feed, Gather, Open, Opened, Plan, Read, Send, Sleep, Step
from fovea_client.request import Body, Request
from fovea_client.session import Session
from fovea_client.sync_session import request_of


class AsyncSession(Session):
    """Belongs to the event loop that first uses it, as httpx's client does."""

    def __init__(
        self, url: str | None, key: str | None, timeout_s: float, patience_s: float, verify: Any = True
    ) -> None:
        super().__init__(url, key, timeout_s, patience_s)
        self._http = httpx.AsyncClient(**self._http_options(verify))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def run(self, plan: Plan[Any]) -> Any:
        result: list[Any] = []
        async for _ in self._walk(plan, result):
            pass
        return result[0]

    async def iterate(self, feed: Feed[Any]) -> AsyncIterator[Any]:
        walk = self._walk(feed, [])
        try:
            async for item in walk:
                yield item
        finally:
            await walk.aclose()

    async def _walk(self, plan: Plan[Any], result: list[Any]) -> AsyncGenerator[Any, None]:
        """Gives what the plan emits; an asynchronous generator returns nothing, so its end is left in `result`."""
        reply: Any = None
        error: Exception | None = None
        async with AsyncExitStack() as to_close:
            to_close.callback(plan.close)
            while True:
                try:
                    step = plan.throw(error) if error else plan.send(reply)
                except StopIteration as end:
                    result.append(end.value)
                    return
                reply = error = None
                if isinstance(step, Emit):
                    yield step.item
                    continue
                try:
                    reply = await self._take(step, to_close)
                except Exception as raised:  # noqa: BLE001 - it is the plan's to handle
                    error = raised

    async def _take(self, step: Step, to_close: AsyncExitStack) -> Any:
        match step:
            case Send(request):
                with self.errors_told(request):
                    return await self._http.send(self._build(request))
            case Open(request):
                with self.errors_told(request):
                    response = await self._http.send(self._build(request), stream=True)
                    to_close.push_async_callback(response.aclose)
                    if not response.is_success:
                        await response.aread()
                return Opened(response, response.aiter_bytes() if response.is_success else _nothing())
            case Read(answer):
                with self.errors_told(request_of(answer)):
                    return await anext(answer.pieces, b"")
            case Close(answer):
                await answer.response.aclose()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Compute(work):
                return await asyncio.to_thread(work)
            case Gather(plans, at_once):
                return await self._gather(plans, at_once)
        return None

    async def _gather(self, plans: Any, at_once: int) -> list[Any]:
        room = asyncio.Semaphore(at_once)

        async def run(plan: Plan[Any]) -> Any:
            async with room:
                return await self.run(plan)

        tasks = [asyncio.create_task(run(plan)) for plan in plans]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _build(self, request: Request) -> httpx.Request:
        options = request.options()
        if isinstance(request.content, Body):
            options["content"] = _read_aside(request.content.begin())
            options["headers"]["Content-Length"] = str(request.content.size)
        if request.timeout_s is not None:
            options["timeout"] = self._timeout(request.timeout_s)
        return self._http.build_request(request.method, request.path, **options)


async def _read_aside(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """A disk is waited for in a thread."""
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


async def _nothing() -> AsyncIterator[bytes]:
    for piece in tuple[bytes]():
        yield piece
