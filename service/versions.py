"""Model references to versions, cached for a moment so that the hot path seldom asks the database."""

import asyncio

from cachetools import TTLCache

from storage.registry import ModelRegistry, Version

MOST_CACHED = 1024


class VersionCache:
    """Resolves references through `registry`; another process's change is seen after at most `ttl_s`."""

    def __init__(self, registry: ModelRegistry, ttl_s: float) -> None:
        self._registry = registry
        self._cache: TTLCache[str, Version] = TTLCache(MOST_CACHED, ttl_s)

    async def resolve(self, reference: str) -> Version:
        """Raises storage's NotFound or InvalidReference."""
        try:
            return self._cache[reference]
        except KeyError:
            version = self._cache[reference] = await asyncio.to_thread(self._registry.resolve, reference)
            return version

    def forget(self) -> None:
        """After an alias moved or a version was deleted."""
        self._cache.clear()
