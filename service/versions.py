"""Model references to versions, remembered for a moment so that the hot path seldom asks the database.

It takes milliseconds, and when a version is forgotten many requests want it at once. So one of them asks for all,
and while a version is asked for regularly it is read again before it is forgotten, which nobody waits for.
"""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial

from cachetools import TTLCache

from storage.registry import ModelRegistry, Version

MOST_CACHED = 1024
# Of the time for which a version is remembered: what is used after it is read anew.
STILL_FRESH = 0.8


@dataclass(frozen=True)
class Reading:
    """A version that is read, or was; `began` is in seconds of `time.monotonic`."""

    began: float
    version: "asyncio.Task[Version]"


@dataclass
class VersionCache:
    """Resolves references through `registry`; another process's change is seen after at most `ttl_s`."""

    registry: ModelRegistry
    ttl_s: float
    _read: TTLCache[str, Reading] = field(init=False)
    _pending: dict[str, Reading] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._read = TTLCache(MOST_CACHED, self.ttl_s)

    async def resolve(self, reference: str) -> Version:
        """Raises storage's NotFound or InvalidReference, and DatabaseUnavailable."""
        known = self._read.get(reference)
        age = time.monotonic() - known.began if known else self.ttl_s
        if known is None or age >= self.ttl_s:
            # Who is cancelled leaves the reading to the others.
            return await asyncio.shield(self._reading(reference).version)
        if age > STILL_FRESH * self.ttl_s:
            self._reading(reference)
        return known.version.result()

    def forget(self) -> None:
        """After an alias moved or a version was deleted. What is being read was read before it, perhaps."""
        self._read.clear()
        self._pending.clear()

    def _reading(self, reference: str) -> Reading:
        """One that is under way and will be good for `ttl_s` from its beginning, or a new one."""
        now = time.monotonic()
        pending = self._pending.get(reference)
        if pending and now - pending.began < self.ttl_s:
            return pending
        task = asyncio.create_task(asyncio.to_thread(self.registry.resolve, reference))
        reading = self._pending[reference] = Reading(now, task)

        task.add_done_callback(partial(self._remember, reference, reading))
        return reading

    def _remember(self, reference: str, reading: Reading, task: "asyncio.Task[Version]") -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._pending.get(reference) is reading:
            del self._pending[reference]
            if not failed:
                self._read[reference] = reading
