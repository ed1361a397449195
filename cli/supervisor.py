"""Keeps children running: restarts what dies, gives up on what never works, ends everything in order.

Knows nothing of what the children do.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from cli.child import EXIT_MISCONFIGURED, Child, ChildSpec, Stage, describe_exit
from cli.errors import StartFailed
from cli.journal import Journal


@dataclass(frozen=True)
class Patience:
    """How long the supervisor waits, in seconds.

    A restart is delayed by `first_delay_s`, doubled each time up to `longest_delay_s`, until the child has been up
    for `healthy_s`. When everything ends, the gateway has `gateway_s` to finish its requests before the workers
    are told; whatever is left of them is killed `kill_s` after the beginning, and Redis gets `redis_s` after that.
    """

    first_delay_s: float = 1.0
    longest_delay_s: float = 30.0
    healthy_s: float = 60.0
    attempts: int = 5
    gateway_s: float = 3.0
    kill_s: float = 8.0
    redis_s: float = 1.0


@dataclass(frozen=True)
class _End:
    code: int | None
    reason: str


class _Kept:
    def __init__(self, child: Child) -> None:
        self.child = child
        self.was_ready = False
        self.failures = 0


class Supervisor:
    """Children by name. All methods belong to one event loop in the main thread.

    (The kernel ends a child when the *thread* that started it ends.)
    """

    def __init__(self, journal: Journal, patience: Patience | None = None) -> None:
        self._journal = journal
        self._patience = patience or Patience()
        self._kept: dict[str, _Kept] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Never done, unless a child has to be given up: then it holds StartFailed."""

    def start(self, spec: ChildSpec) -> None:
        """Start a child and keep it running until `stop`."""
        kept = self._kept[spec.name] = _Kept(Child(spec, self._journal.line))
        self._tasks.append(asyncio.create_task(self._keep(kept)))

    async def run_once(self, spec: ChildSpec) -> tuple[str, ...]:
        """Run a child to its end; returns its last lines, or raises StartFailed with them when it failed."""
        kept = self._kept[spec.name] = _Kept(Child(spec, self._journal.line))
        end = await _run_to_end(kept.child)
        if end.code != 0:
            raise StartFailed(_report(kept.child, f"{spec.name} failed ({end.reason})"))
        del self._kept[spec.name]
        return tuple(kept.child.last_lines)

    def mark_ready(self, name: str) -> None:
        """The child has worked; from now on it is restarted however often it dies."""
        self._kept[name].was_ready = True

    async def stop(self) -> None:
        """End every child: the gateway first, then the workers, Redis last; what does not obey is killed."""
        self._stopping.set()
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience.kill_s
        descendants = self._descendants()
        self._terminate(Stage.GATEWAY)
        await self._ended(Stage.GATEWAY, self._patience.gateway_s)
        self._terminate(Stage.WORKER)
        await self._ended(Stage.WORKER, deadline - clock())
        self._kill(lambda stage: stage < Stage.REDIS)
        self._terminate(Stage.REDIS)
        await self._ended(Stage.REDIS, self._patience.redis_s)
        self._kill(lambda _: True)
        await asyncio.to_thread(_kill_processes, descendants)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill_all(self) -> None:
        """SIGKILL to every child and to all that they started."""
        self._stopping.set()
        descendants = self._descendants()
        self._kill(lambda _: True)
        _kill_processes(descendants)

    async def _keep(self, kept: _Kept) -> None:
        patience = self._patience
        while not self._stopping.is_set():
            end = await _run_to_end(kept.child)
            if self._stopping.is_set():
                return
            if kept.child.uptime_s >= patience.healthy_s:
                kept.failures = 0
            kept.failures += 1
            if self._is_hopeless(kept, end):
                self._give_up(kept, end.reason)
                return
            delay = min(patience.longest_delay_s, patience.first_delay_s * 2 ** (kept.failures - 1))
            self._report_death(kept.child, end.reason, delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    def _report_death(self, child: Child, reason: str, delay: float) -> None:
        if child.spec.quiet:
            for line in child.last_lines:
                self._journal.line(child.spec.name, line)
        self._journal.say(f"{child.spec.name} died: {reason}; starting it again in {delay:g} s")

    def _is_hopeless(self, kept: _Kept, end: "_End") -> bool:
        if kept.was_ready:
            return False
        return end.code == EXIT_MISCONFIGURED or kept.failures >= self._patience.attempts

    def _give_up(self, kept: _Kept, reason: str) -> None:
        times = f" {kept.failures} times" if kept.failures > 1 else ""
        summary = f"{kept.child.spec.name} failed to start{times} ({reason})"
        if not self.failed.done():
            self.failed.set_exception(StartFailed(_report(kept.child, summary)))

    def _descendants(self) -> list[psutil.Process]:
        return [process for kept in self._kept.values() for process in kept.child.descendants()]

    def _terminate(self, stage: Stage) -> None:
        for kept in self._kept.values():
            if kept.child.spec.stage == stage:
                kept.child.send(signal.SIGTERM)

    def _kill(self, chosen: Callable[[Stage], bool]) -> None:
        for kept in self._kept.values():
            if chosen(kept.child.spec.stage):
                if kept.child.is_running:
                    self._journal.say(f"{kept.child.spec.name} did not end by itself and was killed")
                kept.child.kill_group()

    async def _ended(self, stage: Stage, timeout_s: float) -> None:
        """Wait until no child of the stage, nor of an earlier one, runs; at most `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout_s)):
                while any(k.child.is_running for k in self._kept.values() if k.child.spec.stage <= stage):
                    await asyncio.sleep(0.02)


def _kill_processes(processes: list[psutil.Process]) -> None:
    """SIGKILL to those that still run; psutil knows a process from a later one that was given its number."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=0.5)


async def _run_to_end(child: Child) -> _End:
    try:
        code = await child.run()
    except OSError as exc:
        return _End(None, f"it could not be started: {exc}")
    return _End(code, describe_exit(code))


def _report(child: Child, summary: str) -> str:
    lines = "\n".join(f"  {child.spec.name} | {line}" for line in child.last_lines)
    return f"{summary}; its last lines:\n{lines}" if lines else f"{summary} without a word"
