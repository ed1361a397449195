"""One transit server, watched: whether it answers, and which workers live as it tells by their heartbeats."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from redis import ResponseError
from redis.asyncio import Redis

from workers.contract.messages import Heartbeat, InvalidMessage, decode
from workers.contract.queues import (
    ALIVE_PREFIX,
    HAND_PREFIX,
    HEARTBEAT_PREFIX,
    LATE_PREFIX,
    WORKERS_KEY,
)
from workers.redis_url import UNREACHABLE

log = structlog.get_logger()
MOST_KNOWN = 4096
# Refreshes between two searches through all keys, which cost with every image in transit: ten seconds.
SEARCH_EVERY = 40


@dataclass
class Lookout:
    """The live workers at the last refresh. Redis forgets a worker that has been silent for its time to live.

    `on_malformed` is called when something else than a heartbeat lies under a worker's name, which is left out
    then; `on_lost` with the name of each worker that was there and is not any more, and with the names of the
    batches of this server that it had in hand; `on_unreachable` with the reason, at each refresh that the server
    does not answer. `number` is the server's place among several.
    """

    transit: Redis
    number: int = 1
    on_malformed: Callable[[], None] | None = None
    on_lost: Callable[[str, frozenset[str]], None] | None = None
    on_unreachable: Callable[[str], None] | None = None
    workers: tuple[Heartbeat, ...] = ()
    reachable: bool = False
    # Of the last refresh that succeeded; a worker whose hand could not be looked into is still among them.
    present: frozenset[str] = field(default=frozenset(), init=False)
    _refreshes: int = field(default=0, init=False)
    _found: set[bytes] = field(default_factory=set, init=False)
    _seen_at: float = field(default=0.0, init=False)
    _malformed: dict[bytes, bytes | str] = field(default_factory=dict, init=False)

    async def refresh(self) -> None:
        """Read every heartbeat once. A Redis that cannot be reached is noted in `reachable`, not raised."""
        try:
            names = await self._names()
            beats = await self.transit.mget([HEARTBEAT_PREFIX.encode() + name for name in names]) if names else []
            said = {name: beat for name, beat in zip(names, beats, strict=True) if beat is not None}
            if silent := [name for name in names if name not in said]:
                late = await self._late(silent)
                if gone := [name for name in silent if name not in late]:
                    self._found.difference_update(gone)
                    await self.transit.srem(WORKERS_KEY, *gone)
                said |= late
            workers = tuple(sorted(self._decoded(said), key=lambda beat: beat.worker))
            present = frozenset(worker.worker for worker in workers)
            lost = {name: await self._in_hand(name) for name in sorted(self.present - present)}
        except UNREACHABLE as error:
            if self.reachable:
                log.warning("transit.unreachable", server=self.number, reason=str(error))
            self.reachable = False
            # After a moment nobody can know whether the workers still live.
            if time.monotonic() - self._seen_at > 2.0:
                self.workers = ()
            if self.on_unreachable:
                self.on_unreachable(str(error))
            return
        self.reachable = True
        self._seen_at = time.monotonic()
        self.workers, self.present = workers, present
        for name, in_hand in lost.items():
            if self.on_lost:
                self.on_lost(name, in_hand)

    async def _names(self) -> list[bytes]:
        """Of all workers that may live; those of the release before are in no set and searched for at times."""
        if self._refreshes % SEARCH_EVERY == 0:
            prefix = HEARTBEAT_PREFIX.encode()
            self._found = set()
            async for key in self.transit.scan_iter(match=prefix + b"*", count=500):
                self._found.add(key.removeprefix(prefix))
                if len(self._found) >= MOST_KNOWN:
                    break
        self._refreshes += 1
        return sorted(self._found | await self._named())

    async def _named(self) -> set[bytes]:
        try:
            if await self.transit.scard(WORKERS_KEY) <= MOST_KNOWN:
                return {name for name in await self.transit.smembers(WORKERS_KEY) if isinstance(name, bytes)}
            reason = f"more than {MOST_KNOWN} names"
        except ResponseError as error:
            reason = str(error)
        # Every worker writes its name again with its next beat.
        log.error("transit.foreign_value", key=WORKERS_KEY, reason=reason)
        await self.transit.unlink(WORKERS_KEY)
        return set()

    async def _late(self, names: Sequence[bytes]) -> dict[bytes, bytes | str]:
        """What those of them said last who are late with the next word, and whose process lives."""
        beats = await self.transit.mget([LATE_PREFIX.encode() + name for name in names])
        late = {name: beat for name, beat in zip(names, beats, strict=True) if beat is not None}
        if not late:
            return {}
        listening = await self.transit.pubsub_numsub(*(ALIVE_PREFIX.encode() + name for name in late))
        alive = {channel for channel, listeners in listening if listeners}
        return {name: beat for name, beat in late.items() if ALIVE_PREFIX.encode() + name in alive}

    async def _in_hand(self, worker: str) -> frozenset[str]:
        """The batches that it was working on; none where something else lies there."""
        try:
            names = await self.transit.hkeys(HAND_PREFIX + worker)
        except ResponseError as error:
            log.error("transit.foreign_value", key=HAND_PREFIX + worker, reason=str(error))
            return frozenset()
        return frozenset(name if isinstance(name, str) else name.decode(errors="replace") for name in names)

    def _decoded(self, beats: Mapping[bytes, bytes | str]) -> list[Heartbeat]:
        found: list[Heartbeat] = []
        malformed: dict[bytes, bytes | str] = {}
        for name, beat in beats.items():
            try:
                found.append(decode(Heartbeat, beat))
            except InvalidMessage as error:
                malformed[name] = beat
                # It is read again four times a second for as long as it lies there.
                if self._malformed.get(name) != beat:
                    log.error("heartbeat.malformed", worker=name.decode(errors="replace"), reason=str(error))
                    if self.on_malformed:
                        self.on_malformed()
        self._malformed = malformed
        return found
