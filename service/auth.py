"""Who may call what: API keys with scopes, checked against the database and remembered for moments."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

from cachetools import TTLCache
from fastapi import Request

from service.errors import Problem
from storage.keys import Key, KeyRing

Scope = Literal["classify", "train", "admin"]
CACHE_S = 10.0
MOST_CACHED = 1024


class Authenticator:
    """Checks the `Authorization` header where keys are required; a key with the scope `admin` may do everything.

    What the database said of a key is believed for `CACHE_S`, and so long a revoked key is still good.
    """

    def __init__(self, keys: KeyRing, *, required: bool, metrics_open: bool = False) -> None:
        self.keys = keys
        self.required = required
        self.metrics_open = metrics_open
        # Unknown keys are kept as well, or every wrong request would ask the database.
        self._cache: TTLCache[str, Key | None] = TTLCache(MOST_CACHED, CACHE_S)

    async def authorize(self, authorization: str | None, scope: Scope | None) -> None:
        """Raises Problem 401 or 403. Without a scope any key will do."""
        if not self.required:
            return
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise _unauthorized("This address needs an API key: send 'Authorization: Bearer fov_PREFIX.SECRET'.")
        key = await self._key(token.strip())
        if key is None or (key.expires_at and key.expires_at < datetime.now(UTC)):
            raise _unauthorized("The API key is unknown, expired or revoked.")
        if scope and scope not in key.scopes and "admin" not in key.scopes:
            detail = f"The key has the scopes {', '.join(key.scopes)}; this call needs {scope}."
            raise Problem(403, "forbidden", detail)

    async def _key(self, token: str) -> Key | None:
        try:
            return self._cache[token]
        except KeyError:
            key = self._cache[token] = await asyncio.to_thread(self.keys.verify, token)
            return key


def requires(scope: Scope) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets only keys with `scope` pass."""

    async def check(request: Request) -> None:
        auth: Authenticator = request.app.state.parts.auth
        await auth.authorize(request.headers.get("authorization"), scope)

    return check


async def may_read_metrics(request: Request) -> None:
    """A dependency of `/metrics`: any key will do, and none is needed where the setting opens it."""
    auth: Authenticator = request.app.state.parts.auth
    if not auth.metrics_open:
        await auth.authorize(request.headers.get("authorization"), None)


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})
