"""One child process of `fovea up`: how it is started, what it last said, why it ended. Knows no other child."""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

import psutil

from system.parent import dying_with_parent

_LAST_LINES = 20
_LONGEST_LINE = 1 << 20
# The child cannot run with these settings or arguments, so starting it again changes nothing.
EXIT_MISCONFIGURED = 2


class Stage(IntEnum):
    """In which order children are asked to end."""

    GATEWAY = 0
    WORKER = 1
    REDIS = 2


@dataclass(frozen=True)
class ChildSpec:
    """How a child is started. A `quiet` child's lines are kept for the day it dies, but not printed."""

    name: str
    command: Sequence[str]
    stage: Stage = Stage.WORKER
    environment: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False
    pass_fds: tuple[int, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM


class Child:
    """A started process in a group of its own. It ends when this process does, however that dies (Linux)."""

    def __init__(self, spec: ChildSpec, on_line: Callable[[str, str], None]) -> None:
        self.spec = spec
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None
        self._started = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._started

    async def run(self) -> int:
        """Start the process, pass its lines on until it ends, and return its exit code (negative: a signal)."""
        self.last_lines.clear()
        read_end, write_end = os.pipe()
        try:
            # Not asyncio's own pipe: with that, some Pythons report the exit only once every grandchild that
            # inherited the pipe has closed it as well.
            self._process = await asyncio.create_subprocess_exec(
                *dying_with_parent(self.spec.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env={**os.environ, **self.spec.environment},
                process_group=0,
                pass_fds=self.spec.pass_fds,
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self._started = time.monotonic()
        reading = asyncio.create_task(self._read_lines(read_end))
        code = await self._process.wait()
        # What it left behind in its group would hold its ports and files when it is started again.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(TimeoutError):
            await asyncio.wait_for(reading, timeout=0.5)
        return code

    def send(self, number: signal.Signals) -> None:
        """Signal the process itself; it decides what becomes of its own children."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """SIGKILL to everything in the process's group."""
        if self.is_running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def descendants(self) -> list[psutil.Process]:
        """The processes that it started, in whatever group or session they are."""
        try:
            return psutil.Process(self.pid).children(recursive=True) if self.is_running else []
        except psutil.Error:
            return []

    async def _read_lines(self, descriptor: int) -> None:
        reader = asyncio.StreamReader(limit=_LONGEST_LINE)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        try:
            while raw := await _next_line(reader):
                if not (line := raw.decode("utf-8", "replace").rstrip()):
                    continue
                self.last_lines.append(line)
                if not self.spec.quiet:
                    self._on_line(self.spec.name, line)
        finally:
            transport.close()


def describe_exit(code: int) -> str:
    """`exit code 3`, or `killed by SIGKILL` with what that often means."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (" (perhaps out of memory)" if name == "SIGKILL" else "")


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        # Longer than the buffer: readline has thrown away what it held; the line goes on with the next piece.
        return b"(a line that was too long)\n"
