"""Model references to versions, remembered for a moment so that the hot path seldom asks the database."""

import asyncio
import time
from dataclasses import dataclass, field

from storage.registry import ModelRegistry, Version

MOST_REMEMBERED = 1024


@dataclass
class VersionCache:
    """Resolves references through `registry`; another process's change is seen after at most `ttl_s`."""

    registry: ModelRegistry
    ttl_s: float
    _seen: dict[str, tuple[float, Version]] = field(default_factory=dict, init=False)
    _forgotten: int = field(default=0, init=False)

    async def resolve(self, reference: str) -> Version:
        """Raises storage's NotFound or InvalidReference."""
        seen = self._seen.get(reference)
        if seen and time.monotonic() - seen[0] < self.ttl_s:
            return seen[1]
        forgotten = self._forgotten
        version = await asyncio.to_thread(self.registry.resolve, reference)
        if forgotten != self._forgotten:  # read before an alias moved, perhaps: good for this request, no longer
            return version
        if len(self._seen) >= MOST_REMEMBERED:
            self._seen.clear()
        self._seen[reference] = (time.monotonic(), version)
        return version

    def forget(self) -> None:
        """After an alias moved or a version was deleted."""
        self._forgotten += 1
        self._seen.clear()
