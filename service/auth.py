"""Who may call what: API keys with scopes, checked against the database and remembered for moments."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import structlog
from cachetools import TTLCache
from fastapi import Request
from fastapi.dependencies.models import Dependant

from service.errors import ANSWER_HEADERS, Problem, request_id_of
from storage.audit import Actor, act_as
from storage.errors import StorageError
from storage.keys import USE_RECORDED_EVERY_S, Key, KeyRing

# Each may do what those before it may.
Scope = Literal["classify", "train", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# A revoked key is good for so long on a gateway that has just used it.
BELIEVED_S = 1.0
MOST_BELIEVED = 1024
KEY = "fovea.key"
log = structlog.get_logger()


@dataclass
class Authenticator:
    """Checks the `Authorization` header where keys are required.

    What the database said of a key is believed for `BELIEVED_S`: one indexed read a second for each key in use.
    """

    keys: KeyRing
    required: bool
    metrics_open: bool = False
    # Unknown keys are kept as well, or every wrong request would ask the database. They are tasks, so that of many
    # requests that come at once one asks.
    _checks: TTLCache[str, asyncio.Task[Key | None]] = field(
        default_factory=lambda: TTLCache(MOST_BELIEVED, BELIEVED_S), init=False
    )
    _used: set[str] = field(default_factory=set, init=False)
    _use_recorded: dict[str, float] = field(default_factory=dict, init=False)

    async def authenticate(self, authorization: str | None) -> Key | None:
        """The caller's key; None where none is required. Raises Problem 401."""
        if not self.required:
            return None
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise _unauthorized("This address needs an API key: send 'Authorization: Bearer fov_PREFIX.SECRET'.")
        key = await self._verified(token.strip())
        if key is None or not key.is_usable(datetime.now(UTC)):
            raise _unauthorized("The API key is unknown, expired or revoked.")
        self._used.add(key.prefix)
        return key

    async def record_uses(self, interval_s: float = 1.0) -> None:
        """Again and again until cancelled: write down which keys were used, beside the requests that used them."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.record_uses_once()
            except StorageError as error:
                log.warning("keys.use_not_recorded", reason=str(error))

    async def record_uses_once(self) -> None:
        """Those that this gateway has not written down for a while. Raises StorageError."""
        long_ago = time.monotonic() - USE_RECORDED_EVERY_S
        self._use_recorded = {key: at for key, at in self._use_recorded.items() if at > long_ago}
        due = self._used - self._use_recorded.keys()
        self._used.clear()
        if due:
            await asyncio.to_thread(self.keys.record_use, sorted(due))
            self._use_recorded |= dict.fromkeys(due, time.monotonic())

    async def _verified(self, token: str) -> Key | None:
        check = self._checks.get(token)
        if check is None:
            check = self._checks[token] = asyncio.create_task(asyncio.to_thread(self.keys.verify, token))
            check.add_done_callback(lambda done: self._forget_failed(token, done))
        return check.result() if check.done() else await asyncio.shield(check)

    def _forget_failed(self, token: str, check: asyncio.Task[Key | None]) -> None:
        """An error of the database is nothing to believe in."""
        if (check.cancelled() or check.exception()) and self._checks.get(token) is check:
            del self._checks[token]


@dataclass(frozen=True)
class Requires:
    """A dependency that lets only keys with the scope, or a wider one, pass; without a scope any key."""

    scope: Scope | None

    async def __call__(self, request: Request) -> None:
        if KEY not in request.scope:
            await _identify(request)
        key = key_of(request)
        if key is not None and self.scope is not None:
            require_scope(key, self.scope)


def require_scope(key: Key, scope: Scope) -> None:
    """Raises Problem 403 where the key has neither the scope nor a wider one."""
    if not any(scope in SCOPES[: SCOPES.index(held) + 1] for held in SCOPES if held in key.scopes):
        detail = f"The key has the scopes {', '.join(key.scopes) or 'none'}; this call needs {scope}."
        raise Problem(403, "forbidden", detail)


def requires(scope: Scope) -> Requires:
    return Requires(scope)


async def may_read_metrics(request: Request) -> None:
    """A dependency of `/metrics`: any key will do, and none is needed where the setting opens it."""
    auth: Authenticator = request.app.state.parts.auth
    if not auth.metrics_open:
        await Requires(None)(request)


def key_of(request: Request) -> Key | None:
    """The key that the request came with, once a `Requires` has let it pass; None where none is required."""
    key: Key | None = request.scope.get(KEY)
    return key


def declared_scopes(dependant: Dependant) -> set[Scope | None]:
    """The scopes that a route declares by its dependencies: None is any key. Empty where it needs no key."""
    found: set[Scope | None] = set()
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Requires):
            found.add(dependency.call.scope)
        elif dependency.call is may_read_metrics:
            found.add(None)
        found |= declared_scopes(dependency)
    return found


async def _identify(request: Request) -> None:
    """Once for each request: whose it is, whether it is one too many, and who acts from now on."""
    parts: Any = request.app.state.parts
    key = await parts.auth.authenticate(request.headers.get("authorization"))
    client = request.client.host if request.client else None
    actor = {"request_id": request_id_of(request), "client": client}
    act_as(Actor("loopback", **actor) if key is None else Actor(key.prefix, key.name, **actor))
    if key is not None:
        request.scope[ANSWER_HEADERS] = await parts.limiter.admit(key)
    request.scope[KEY] = key


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})
