"""Which workers live, as the gateway sees it, and which transit servers every one of them reaches.

A worker gives its sign of life on each transit server and lives as long as it is heard on any. New images go to
the servers on which the most workers are heard: one that is away, or that not all workers have been told of yet,
is avoided.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.lookout import MOST_KNOWN, Lookout
from workers.contract.messages import Heartbeat
from workers.contract.queues import Queue

# Who asks for a refresh of all servers does not wait longer for one that does not answer.
REFRESH_S = 1.0


@dataclass
class Workforce:
    """The live workers at the last refresh, over all transit servers, which `lookouts` watch by their names.

    `on_start` is called with each worker that was not there before, from the second refresh on.
    """

    lookouts: Mapping[str, Lookout]
    poll_s: float
    on_start: Callable[[Heartbeat], None] | None = None
    workers: tuple[Heartbeat, ...] = field(default=(), init=False)
    usable: tuple[str, ...] = field(default=(), init=False)
    _known: dict[str, None] | None = field(default=None, init=False)
    _refreshing: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.usable = tuple(self.lookouts)

    @property
    def reachable(self) -> bool:
        """Whether any server answers."""
        return any(lookout.reachable for lookout in self.lookouts.values())

    @property
    def answering(self) -> dict[int, bool]:
        """Which servers answer, by their numbers."""
        return {lookout.number: lookout.reachable for lookout in self.lookouts.values()}

    def on(self, queue: Queue) -> tuple[Heartbeat, ...]:
        """Those that take messages of that queue."""
        return tuple(worker for worker in self.workers if worker.slots and queue.value in worker.queues)

    def is_finished(self, queue: Queue) -> bool:
        """Whether nobody takes messages of that queue, nor works on one before he ends."""
        return not any(queue.value in worker.queues for worker in self.workers)

    def slots(self, queue: Queue) -> int:
        """How many messages of that queue can be worked on at once."""
        return sum(worker.slots for worker in self.on(queue))

    async def refresh(self) -> None:
        """Read every heartbeat once. A Redis that cannot be reached is noted and not waited for long."""
        lookouts = list(self.lookouts.values())
        if len(lookouts) == 1:
            await self._refresh(lookouts[0])
            return
        refreshing = {asyncio.create_task(self._refresh(lookout)) for lookout in lookouts}
        self._refreshing |= refreshing
        for task in refreshing:
            task.add_done_callback(self._refreshing.discard)
        done, _ = await asyncio.wait(refreshing, timeout=REFRESH_S)
        for task in done:
            task.result()

    async def poll(self, server: str) -> None:
        """Refresh what that server tells again and again until cancelled; each has its own pace."""
        while True:
            await self._refresh(self.lookouts[server])
            await asyncio.sleep(self.poll_s)

    async def aclose(self) -> None:
        for task in self._refreshing:
            task.cancel()
        for lookout in self.lookouts.values():
            await lookout.transit.aclose()

    async def _refresh(self, lookout: Lookout) -> None:
        await lookout.refresh()
        self.workers = self._heard()
        self.usable = self._best()
        if lookout.reachable:
            self._report_starts()

    def _heard(self) -> tuple[Heartbeat, ...]:
        """Each worker once. One that is leaving says so on one server a moment earlier than on another."""
        heard: dict[str, Heartbeat] = {}
        for lookout in self.lookouts.values():
            for worker in lookout.workers:
                known = heard.get(worker.worker)
                if known is None or worker.slots < known.slots:
                    heard[worker.worker] = worker
        return tuple(heard[name] for name in sorted(heard))

    def _best(self) -> tuple[str, ...]:
        """Where the most of those are heard that classify; without any worker, what answers; else all."""
        wanted = {worker.worker for worker in self.on(Queue.INTERACTIVE)}
        heard = {
            name: len(wanted & lookout.present) for name, lookout in self.lookouts.items() if lookout.reachable
        }
        most = max(heard.values(), default=0)
        return tuple(name for name, count in heard.items() if count == most) or tuple(self.lookouts)

    def _report_starts(self) -> None:
        """A worker has its name for one process only, so that a new name is a start."""
        is_first = self._known is None
        known = self._known = self._known or {}
        for worker in self.workers:
            if worker.worker not in known and not is_first and self.on_start:
                self.on_start(worker)
            # Kept beyond its silence, in the order of the last sign: a paused worker that returns did not start.
            known.pop(worker.worker, None)
            known[worker.worker] = None
        while len(known) > MOST_KNOWN:
            del known[next(iter(known))]
