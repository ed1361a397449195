"""Model references to versions, cached for a moment so that the hot path seldom asks the database."""

import asyncio
from contextlib import suppress

from cachetools import TTLCache

from storage.registry import ModelRegistry, Version

MOST_CACHED = 1024


class VersionCache:
    """Resolves references through `registry`; another process's change is seen after at most `ttl_s`."""

    def __init__(self, registry: ModelRegistry, ttl_s: float) -> None:
        self._registry = registry
        self._cache: TTLCache[str, Version] = TTLCache(MOST_CACHED, ttl_s)
        self._forgotten = 0

    async def resolve(self, reference: str) -> Version:
        """Raises storage's NotFound or InvalidReference."""
        with suppress(KeyError):
            return self._cache[reference]
        forgotten = self._forgotten
        version = await asyncio.to_thread(self._registry.resolve, reference)
        # Read before an alias moved, perhaps: good for this request, no longer.
        if forgotten == self._forgotten:
            self._cache[reference] = version
        return version

    def forget(self) -> None:
        """After an alias moved or a version was deleted."""
        self._forgotten += 1
        self._cache.clear()
