"""Keeps children running: restarts what dies, gives up on what never works, ends everything in order.

Knows nothing of what the children do.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from cli.errors import StartFailed
from cli.up.child import EXIT_MISCONFIGURED, Child, ChildSpec, Stage, describe_exit
from cli.up.journal import Journal


@dataclass(frozen=True)
class SupervisorSettings:
    """How often and how fast a child is restarted, and how long it may take to end; times in seconds.

    A restart is delayed by `first_delay_s`, doubled each time up to `longest_delay_s`, until the child has been up
    for `healthy_s`. One that was never ready is given up after so many `attempts`. When everything ends, the
    gateway has `gateway_s` to finish its requests before the workers are told; whatever is left of them is killed
    `kill_s` after the beginning, and Redis gets `redis_s` after that.
    """

    first_delay_s: float = 1.0
    longest_delay_s: float = 30.0
    healthy_s: float = 60.0
    attempts: int = 5
    gateway_s: float = 3.0
    kill_s: float = 8.0
    redis_s: float = 1.0


@dataclass(frozen=True)
class _Exit:
    """How a child ended; without a code it was never started."""

    code: int | None
    reason: str


class _Supervised:
    def __init__(self, child: Child) -> None:
        self.child = child
        self.was_ready = False
        self.failures = 0


class Supervisor:
    """Children by name. All methods belong to one event loop in the main thread.

    (The kernel ends a child when the *thread* that started it ends.)
    """

    def __init__(self, journal: Journal, settings: SupervisorSettings | None = None) -> None:
        self._journal = journal
        self._settings = settings or SupervisorSettings()
        self._supervised: dict[str, _Supervised] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Never done, unless a child has to be given up: then it holds StartFailed."""

    def start(self, spec: ChildSpec) -> None:
        """Start a child and keep it running until `stop`."""
        supervised = self._supervised[spec.name] = _Supervised(Child(spec, self._journal.line))
        self._tasks.append(asyncio.create_task(self._keep_running(supervised)))

    async def run_once(self, spec: ChildSpec) -> tuple[str, ...]:
        """Run a child to its end; returns its last lines, or raises StartFailed with them when it failed."""
        child = Child(spec, self._journal.line)
        self._supervised[spec.name] = _Supervised(child)
        ended = await _run_to_end(child)
        if ended.code != 0:
            raise StartFailed(_report(child, f"{spec.name} failed ({ended.reason})"))
        del self._supervised[spec.name]
        return tuple(child.last_lines)

    def mark_ready(self, name: str) -> None:
        """The child has worked; from now on it is restarted however often it dies."""
        self._supervised[name].was_ready = True

    async def stop(self) -> None:
        """End every child: the gateway first, then the workers, Redis last; what does not obey is killed."""
        self._stopping.set()
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.kill_s
        descendants = self._descendants()
        self._terminate(Stage.GATEWAY)
        await self._ended(Stage.GATEWAY, self._settings.gateway_s)
        self._terminate(Stage.WORKER)
        await self._ended(Stage.WORKER, deadline - clock())
        self._kill(lambda stage: stage < Stage.REDIS)
        self._terminate(Stage.REDIS)
        await self._ended(Stage.REDIS, self._settings.redis_s)
        self._kill(lambda _: True)
        await asyncio.to_thread(_kill_processes, descendants)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill_all(self) -> None:
        """SIGKILL to every child and to all that they started."""
        self._stopping.set()
        descendants = self._descendants()
        self._kill(lambda _: True)
        _kill_processes(descendants)

    async def _keep_running(self, supervised: _Supervised) -> None:
        settings = self._settings
        while not self._stopping.is_set():
            ended = await _run_to_end(supervised.child)
            if self._stopping.is_set():
                return
            if supervised.child.uptime_s >= settings.healthy_s:
                supervised.failures = 0
            supervised.failures += 1
            if self._is_hopeless(supervised, ended):
                self._give_up(supervised, ended.reason)
                return
            delay = min(settings.longest_delay_s, settings.first_delay_s * 2 ** (supervised.failures - 1))
            self._report_death(supervised.child, ended.reason, delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    def _report_death(self, child: Child, reason: str, delay: float) -> None:
        if child.spec.quiet:
            for line in child.last_lines:
                self._journal.line(child.spec.name, line)
        self._journal.say(f"{child.spec.name} died: {reason}; starting it again in {delay:g} s")

    def _is_hopeless(self, supervised: _Supervised, ended: _Exit) -> bool:
        if supervised.was_ready:
            return False
        return ended.code == EXIT_MISCONFIGURED or supervised.failures >= self._settings.attempts

    def _give_up(self, supervised: _Supervised, reason: str) -> None:
        times = f" {supervised.failures} times" if supervised.failures > 1 else ""
        summary = f"{supervised.child.spec.name} failed to start{times} ({reason})"
        if not self.failed.done():
            self.failed.set_exception(StartFailed(_report(supervised.child, summary)))

    def _children(self) -> list[Child]:
        return [supervised.child for supervised in self._supervised.values()]

    def _descendants(self) -> list[psutil.Process]:
        return [process for child in self._children() for process in child.descendants()]

    def _terminate(self, stage: Stage) -> None:
        for child in self._children():
            if child.spec.stage == stage:
                child.send(child.spec.stop_signal)

    def _kill(self, chosen: Callable[[Stage], bool]) -> None:
        for child in self._children():
            if chosen(child.spec.stage):
                if child.is_running:
                    self._journal.say(f"{child.spec.name} did not end by itself and was killed")
                child.kill_group()

    async def _ended(self, stage: Stage, timeout_s: float) -> None:
        """Wait until no child of the stage, nor of an earlier one, runs; at most `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout_s)):
                while any(child.is_running for child in self._children() if child.spec.stage <= stage):
                    await asyncio.sleep(0.02)


def _kill_processes(processes: list[psutil.Process]) -> None:
    """SIGKILL to those that still run; psutil knows a process from a later one that was given its number."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=0.5)


async def _run_to_end(child: Child) -> _Exit:
    try:
        code = await child.run()
    except OSError as exc:
        return _Exit(None, f"it could not be started: {exc}")
    return _Exit(code, describe_exit(code))


def _report(child: Child, summary: str) -> str:
    lines = "\n".join(f"  {child.spec.name} | {line}" for line in child.last_lines)
    return f"{summary}; its last lines:\n{lines}" if lines else f"{summary} without a word"
