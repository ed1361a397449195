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

    async def resolve(self, reference: str) -> Version:
        """Raises storage's NotFound or InvalidReference."""
        seen = self._seen.get(reference)
        if seen and time.monotonic() - seen[0] < self.ttl_s:
            return seen[1]
        version = await asyncio.to_thread(self.registry.resolve, reference)
        if len(self._seen) >= MOST_REMEMBERED:
            self._seen.clear()
        self._seen[reference] = (time.monotonic(), version)
        return version

    def forget(self) -> None:
        """After an alias moved or a version was deleted."""
        self._seen.clear()
