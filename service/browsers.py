"""Browsers: which requests of theirs are refused, and the headers that every answer carries for them.

A browser sends requests in the name of whoever sits before it, and any page may have it do so. Where no key is
needed, that page must not be able to use Fovea: neither from an origin of its own (`Origin`, `Sec-Fetch-Site`),
nor under a name of its own that leads to this machine (`Host`; DNS rebinding). curl and programs send neither of
the first two and are let through. See docs/decisions/0010-what-a-browser-may-do.md.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from models.validation import shortened
from service.errors import CODE, Problem, problem_response
from service.settings import GatewaySettings
from system.loopback import is_ip_address, is_loopback

log = structlog.get_logger()
Headers = Iterable[tuple[bytes, bytes]]
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Whatever an answer is, no page may show, embed or sniff it, and it runs and loads nothing.
PROTECTION: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", NOTHING.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cache-control", b"no-store"),
)
READING = frozenset({"GET", "HEAD"})
SENT_BY_PAGES = ("Authorization", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-Request-ID", "Traceparent")
READ_BY_PAGES = ("Allow", "Content-Disposition", "Location", "Preference-Applied", "Retry-After", "X-Request-ID")


def protected(headers: Headers) -> list[tuple[bytes, bytes]]:
    """An answer's headers with those of `PROTECTION` that it does not set itself."""
    given = list(headers)
    names = {name for name, _ in given}
    return given + [header for header in PROTECTION if header[0] not in names]


@dataclass(frozen=True)
class KnownHosts:
    """The names under which this gateway is called. Ports may be mapped on the way, and are not looked at."""

    names: frozenset[str]
    everything: bool = False
    every_address: bool = False

    @classmethod
    def of(cls, settings: GatewaySettings) -> "KnownHosts":
        """Where keys are needed and no host is set, any: a page that has a name for us still has no key."""
        names = frozenset(map(_name_of, settings.host_names))
        return cls(
            names | {_name_of(settings.host)},
            everything="*" in names or (settings.requires_key and not names),
            every_address=settings.requires_key,
        )

    def knows(self, host: str) -> bool:
        """Whether the value of a `Host` header names us. Nobody can rebind an address, only a name."""
        if self.everything:
            return True
        name = _name_of(host)
        if name in self.names or is_loopback(name) or (self.every_address and is_ip_address(name)):
            return True
        return any(known.startswith("*.") and name.endswith(known[1:]) for known in self.names)


@dataclass
class BrowserGuard:
    """Refuses what a page of somebody else's has a browser send. Plain ASGI, for it runs on the hot path."""

    app: ASGIApp
    hosts: KnownHosts
    origins: Collection[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        self._knows = lru_cache(maxsize=256)(self.hosts.knows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._refusal(scope)):
            scope[CODE] = problem.code
            log.warning("request.refused", code=problem.code, reason=problem.detail)
            await problem_response(problem, scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        # Every browser names the host; a probe that speaks HTTP/1.0 need not.
        if host and not self._knows(host):
            return _foreign_host(host)
        if self._is_foreign(scope["method"], headers, host):
            return _foreign_origin(headers)
        return None

    def _is_foreign(self, method: str, headers: Mapping[bytes, bytes], host: str) -> bool:
        """Whether another site's page is behind the request, in the order in which browsers can be believed."""
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin in self.origins:
            return False
        if site := headers.get(b"sec-fetch-site"):
            return site not in (b"same-origin", b"none") and not _is_link(method, headers)
        # Without a header for the site the answer to a read is still out of reach for that page.
        return origin != "" and method not in READING and origin.partition("://")[2] != host.lower()


def install_cors(app: FastAPI, origins: Collection[str]) -> None:
    """Let pages of these origins read answers and send what the API takes; with none, nobody's."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=SENT_BY_PAGES,
            expose_headers=READ_BY_PAGES,
        )


def _is_link(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Somebody followed a link to us, and sees the answer as a page of its own."""
    is_page = headers.get(b"sec-fetch-dest", b"document") == b"document"
    return method in READING and headers.get(b"sec-fetch-mode") == b"navigate" and is_page


def _name_of(host: str) -> str:
    """The name in the value of a `Host` header or a URL's authority, without port, brackets and a root's dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    # An address of IPv6 without brackets, as one listens on, has many colons and no port.
    name = host if host.count(":") > 1 else host.partition(":")[0]
    return name.lower().removesuffix(".")


def _foreign_host(host: str) -> Problem:
    return Problem(
        421,
        "foreign_host",
        f"This Fovea is not called {shortened(host)!r}. Call it by an address or name of its machine, or have its "
        "administrator add the name to FOVEA_ALLOWED_HOSTS.",
    )


def _foreign_origin(headers: Mapping[bytes, bytes]) -> Problem:
    sent = (headers.get(b"origin") or b"another site").decode("latin-1")
    return Problem(
        403,
        "foreign_origin",
        f"A browser sent this for a page of {shortened(sent)!r}, which is not this Fovea's. Its administrator can "
        "allow pages of another origin: FOVEA_CORS_ORIGINS.",
    )
