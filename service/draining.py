"""How a gateway ends: it looks away first, then finishes what it was asked, and only then stops.

SIGTERM begins the draining. `/readyz` says so at once, event streams end (their clients resume elsewhere by
`Last-Event-ID`), and every answer closes its connection. For `drain_s` the gateway goes on answering, so that who
sends it requests has time to send them elsewhere; then it listens no more, and requests in flight have `grace_s`
to end. SIGINT and SIGUSR1 do without `drain_s`, and a second signal of any kind without the grace.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import CODE, Problem, problem_response
from system.listening import take_nobody_new

log = structlog.get_logger()
# From a keyboard, and from a supervisor: a process that does not handle the second one yet ends without a word.
QUICK_SIGNALS = (signal.SIGINT, signal.SIGUSR1)
TICK_S = 0.05
# For a connection that has sent nothing yet: its request is on the way, or a browser opened it in advance.
SILENT_S = 1.0
# In which those who are connected are accepted before the socket is closed, which would reset them.
QUEUE_S = 0.1
# What is cancelled tidies up behind itself, such as the file of an upload.
TIDYING_S = 2.0
# Who ends a gateway from a keyboard waits for it.
QUICK_GRACE_S = 5.0
STOPPING = Problem(
    503,
    "stopping",
    "This gateway was stopped before the request could end; it can be repeated.",
    {"Retry-After": "1", "Connection": "close"},
)


@dataclass
class Draining:
    """Whether this gateway is about to end; what waits without an end of its own looks here.

    `grace_s` is how long what is under way may take when it ends.
    """

    grace_s: float = 0.0
    _begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        self._begun.set()

    async def sleep(self, seconds: float) -> None:
        """For so long, or until the draining begins."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._begun.wait()


class DrainingServer(uvicorn.Server):
    """uvicorn's server with an end in order; times in seconds.

    With `shared` sockets, which others hold open too, it stops to accept at once: who connects is taken by another
    process that listens on them, or waits in their queue for the next one.
    """

    def __init__(
        self, config: uvicorn.Config, draining: Draining, *, drain_s: float, grace_s: float, shared: bool = False
    ) -> None:
        super().__init__(config)
        self._draining = draining
        self._drain_s, self._grace_s, self._shared = drain_s, grace_s, shared
        draining.grace_s = grace_s
        self._signals = 0
        self._is_quick = False

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn handles SIGINT and SIGTERM.
        signal.signal(signal.SIGUSR1, self.handle_exit)
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        # Not kept, as uvicorn does, to be raised again: the process's exit code says how it ended.
        self._signals += 1
        if self._signals > 1:
            self._draining.grace_s = 0.0
        if sig in QUICK_SIGNALS:
            self.stop_quickly()
        else:
            self.should_exit = True

    def stop_quickly(self) -> None:
        """As by one of the quick signals."""
        self._is_quick = True
        self._drain_s, self._grace_s = 0.0, min(self._grace_s, QUICK_GRACE_S)
        self._draining.grace_s = self._grace_s
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("gateway.draining", drain_s=self._drain_s, grace_s=self._grace_s)
        self._draining.begin()
        self._close_after_answers()
        if self._shared:
            self._stop_accepting(sockets)
        await self._until(self._nobody_can_come, self._drain_s)
        if not self._shared:
            self._take_nobody_new()
            await asyncio.sleep(QUEUE_S)
        self._stop_accepting(sockets)
        if not self._is_quick:
            await self._until(self._nobody_is_silent, SILENT_S)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not await self._until(self._all_answered, self._grace_s):
            log.warning("gateway.cut_off", requests=len(self.server_state.tasks))
            for task in list(self.server_state.tasks):
                task.cancel()
            self._signals = 1
            await self._until(self._all_answered, TIDYING_S)
        await self.lifespan.shutdown()

    def _close_after_answers(self) -> None:
        """Of the requests to come as of those in flight; never without having said so in the answer's head.

        A client that was told nothing sends its next request on the connection, and would lose it.
        """
        self.config.encoded_headers = [*self.config.encoded_headers, (b"connection", b"close")]
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        for connection in list(self.server_state.connections):
            if _is_to_answer(connection):
                # Has the head say so.
                connection.shutdown()

    def _take_nobody_new(self) -> None:
        for server in self.servers:
            for listening in server.sockets:
                take_nobody_new(listening.fileno())

    def _stop_accepting(self, sockets: Sequence[socket.socket] | None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()

    async def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Whether it came to hold in time; a further signal ends the time."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        ticks = 0
        while not holds():
            if clock() >= deadline or self._signals > 1:
                return False
            await asyncio.sleep(TICK_S)
            ticks += 1
            # The date of the answers.
            await self.on_tick(ticks)
        return True

    def _nobody_can_come(self) -> bool:
        return self._shared and not self.server_state.connections

    def _nobody_is_silent(self) -> bool:
        return all(getattr(connection, "cycle", None) for connection in self.server_state.connections)

    def _all_answered(self) -> bool:
        return not self.server_state.connections and not self.server_state.tasks


def answered_when_cut_off(app: ASGIApp) -> ASGIApp:
    """The application, which tells the client of a request that is cancelled why it has no answer."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            scope[CODE] = STOPPING.code
            answer: Callable[[Scope, Receive, Send], Awaitable[None]] = problem_response(STOPPING, scope)
            # Where an answer has begun, it breaks off.
            with suppress(RuntimeError):
                await answer(scope, receive, send)

    return answered


def _is_to_answer(connection: object) -> bool:
    cycle = getattr(connection, "cycle", None)
    return cycle is not None and not cycle.response_started
