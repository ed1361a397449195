"""Who may call what: API keys with scopes, checked against the database and remembered for moments."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from fastapi import Request

from service.errors import Problem
from storage.keys import Key, KeyRing

Scope = Literal["classify", "train", "admin"]
REMEMBERED_S = 10.0
MOST_REMEMBERED = 1024


@dataclass
class Gatekeeper:
    """Lets a request pass when keys are not required or its key has the scope; `admin` has every scope."""

    keys: KeyRing
    required: bool
    metrics_open: bool = False
    _seen: dict[str, tuple[float, Key | None]] = field(default_factory=dict, init=False)

    async def admit(self, authorization: str | None, scope: Scope | None) -> None:
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
        seen = self._seen.get(token)
        if seen and time.monotonic() - seen[0] < REMEMBERED_S:
            return seen[1]
        key = await asyncio.to_thread(self.keys.verify, token)
        if len(self._seen) >= MOST_REMEMBERED:
            self._seen.clear()
        self._seen[token] = (time.monotonic(), key)
        return key


def requires(scope: Scope) -> Callable[[Request], Awaitable[None]]:
    """A dependency that admits only keys with `scope`."""

    async def check(request: Request) -> None:
        gatekeeper: Gatekeeper = request.app.state.parts.gatekeeper
        await gatekeeper.admit(request.headers.get("authorization"), scope)

    return check


async def scrape(request: Request) -> None:
    """A dependency of `/metrics`: any key, or none where the setting opens it."""
    gatekeeper: Gatekeeper = request.app.state.parts.gatekeeper
    if not gatekeeper.metrics_open:
        await gatekeeper.admit(request.headers.get("authorization"), None)


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})
