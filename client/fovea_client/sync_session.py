"""Takes the steps of plans one after another, in the thread that asks."""

import time
import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx

from fovea_client.plan import Close, Compute, Emit, Feed, Gather, Open, Opened, Plan, Read, Send, Sleep, Step
from fovea_client.request import Body, Request
from fovea_client.session import Session


class SyncSession(Session):
    """Thread-safe, as httpx's client is."""

    def __init__(
        self, url: str | None, key: str | None, timeout_s: float, patience_s: float, verify: Any = True
    ) -> None:
        super().__init__(url, key, timeout_s, patience_s)
        self._http = httpx.Client(**self._http_options(verify))
        # For who closes nothing: once neither the client nor a part of it, nor a job, is left, and at the exit.
        weakref.finalize(self, self._http.close)

    def close(self) -> None:
        self._http.close()

    def run(self, plan: Plan[Any]) -> Any:
        walk = self._walk(plan)
        try:
            while True:
                next(walk)
        except StopIteration as end:
            return end.value

    def iterate(self, feed: Feed[Any]) -> Iterator[Any]:
        yield from self._walk(feed)

    def _walk(self, plan: Plan[Any]) -> Generator[Any, None, Any]:
        reply: Any = None
        error: Exception | None = None
        with ExitStack() as to_close:
            to_close.callback(plan.close)
            while True:
                try:
                    step = plan.throw(error) if error else plan.send(reply)
                except StopIteration as end:
                    return end.value
                reply = error = None
                if isinstance(step, Emit):
                    yield step.item
                    continue
                try:
                    reply = self._take(step, to_close)
                except Exception as raised:  # noqa: BLE001 - it is the plan's to handle
                    error = raised

    def _take(self, step: Step, to_close: ExitStack) -> Any:
        match step:
            case Send(request):
                with self.errors_told(request):
                    return self._http.send(self._build(request))
            case Open(request):
                with self.errors_told(request):
                    response = self._http.send(self._build(request), stream=True)
                    to_close.callback(response.close)
                    if not response.is_success:
                        response.read()
                return Opened(response, response.iter_bytes() if response.is_success else iter(()))
            case Read(answer):
                with self.errors_told(request_of(answer)):
                    return next(answer.pieces, b"")
            case Close(answer):
                answer.response.close()
            case Sleep(seconds):
                time.sleep(seconds)
            case Compute(work):
                return work()
            case Gather(plans, at_once):
                return self._gather(plans, at_once)
        return None

    def _gather(self, plans: Any, at_once: int) -> list[Any]:
        if len(plans) < 2 or at_once < 2:
            return [self.run(plan) for plan in plans]
        pool = ThreadPoolExecutor(at_once, "fovea-client")
        try:
            return list(pool.map(self.run, plans))
        finally:
            # After an error, or Ctrl-C, nobody waits for what is still under way.
            pool.shutdown(wait=False, cancel_futures=True)

    def _build(self, request: Request) -> httpx.Request:
        options = request.options()
        if isinstance(request.content, Body):
            options["content"] = request.content.begin()
            options["headers"]["Content-Length"] = str(request.content.size)
        if request.timeout_s is not None:
            options["timeout"] = self._timeout(request.timeout_s)
        return self._http.build_request(request.method, request.path, **options)


def request_of(answer: Opened) -> Request:
    """What was asked for, as far as an error's text names it."""
    asked = answer.response.request
    return Request(asked.method, asked.url.path)
