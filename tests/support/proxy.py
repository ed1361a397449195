"""A TCP proxy on loopback that makes the way to a server slow, dead, torn or closed. Knows no protocol."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

_PIECE = 65536
# On close the peer gets RST instead of FIN.
_LINGER = struct.pack("ii", 1, 0)

Target = Path | tuple[str, int]
Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Proxy:
    """Passes each connection on to `target`, a unix socket or a host and port. Its own thread, until `stop`.

    The faults last until `heal`: `delay` every piece on its way, `go_dead` (connections stay open and nothing
    passes, and those that were caught never come back: half-open), `refuse` new connections. `reset` tears what
    is open at that moment.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxy")
        self._pairs: set[Pair] = set()
        self._dead: set[Pair] = set()
        self._delay_s = 0.0
        self._is_dead = False
        self._server: asyncio.Server | None = None
        self.port = 0

    def start(self) -> "Proxy":
        self._thread.start()
        self._call(self._listen)
        return self

    def stop(self) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def delay(self, seconds: float) -> None:
        self._delay_s = seconds

    def go_dead(self) -> None:
        async def go() -> None:
            self._is_dead = True
            self._dead |= self._pairs

        self._call(go)

    def refuse(self) -> None:
        self._call(self._close)

    def reset(self) -> None:
        async def tear() -> None:
            for pair in list(self._pairs):
                _abort(pair)

        self._call(tear)

    def heal(self) -> None:
        self._delay_s = 0.0
        self._is_dead = False
        self._call(self._listen)

    def _call(self, work: "Callable[[], object]") -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        """No connection is taken any more, and those that are there are torn."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for pair in list(self._pairs):
            _abort(pair)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._target, Path):
                far_reader, far_writer = await asyncio.open_unix_connection(self._target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        if self._is_dead:
            self._dead.add(pair)
        try:
            await asyncio.gather(self._pass(pair, reader, far_writer), self._pass(pair, far_reader, writer))
        finally:
            self._pairs.discard(pair)
            self._dead.discard(pair)
            for end in pair:
                end.transport.abort()

    async def _pass(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if pair in self._dead:
                    continue
                writer.write(piece)
                await writer.drain()
            if writer.can_write_eof() and pair not in self._dead:
                writer.write_eof()


def _abort(pair: Pair) -> None:
    for end in pair:
        raw = end.get_extra_info("socket")
        # One end may have been closed already, while the other still waits for its last bytes to leave.
        if raw is not None and raw.fileno() >= 0 and raw.family == socket.AF_INET:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        end.transport.abort()
