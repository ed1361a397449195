"""Who may call what, on every gateway: each route of the application with each kind of key."""

import re
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from support.gateways import Gateways, bearer

from service.app import create_app
from service.auth import BELIEVED_S, SCOPES, Scope, declared_scopes
from service.main import build_parts
from service.settings import GatewaySettings
from storage.keys import new_token

# What needs no key, each for its reason: probes of an orchestrator, and the description of the API.
OPEN = {
    "/livez",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
    "/openapi.json",
    "/docs",
    "/docs/start.js",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
}
ANY_KEY = {"/metrics"}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], set[Scope | None]]:
    """Method and path of every call of the application, and the scopes that it declares."""
    parts = build_parts(GatewaySettings(data=tmp_path_factory.mktemp("data")))
    found = {}
    for route in iter_route_contexts(create_app(parts).routes):
        dependant = getattr(route, "dependant", None)
        assert route.path
        for method in (route.methods or set()) - {"HEAD"}:
            found[method, route.path] = declared_scopes(dependant) if dependant else set()
    parts.database.close()
    return found


def widest(scopes: set[Scope | None]) -> Scope | None:
    return max(filter(None, scopes), key=SCOPES.index, default=None)


def test_every_call_declares_a_scope_or_is_known_to_need_none(
    calls: dict[tuple[str, str], set[Scope | None]],
) -> None:
    assert {path for (_, path), scopes in calls.items() if not scopes} == OPEN
    assert {path for (_, path), scopes in calls.items() if scopes and widest(scopes) is None} == ANY_KEY
    assert len(calls) > 25


def test_each_call_lets_in_whom_it_declares_and_nobody_else(
    gateways: Gateways, calls: dict[tuple[str, str], set[Scope | None]]
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    revoked, revoked_header = gateways.key("admin")
    gateways.ring.revoke(revoked.prefix)
    nobody = {
        "no key": {},
        "a wrong key": bearer(new_token()),
        "no token": {"authorization": "Bearer not-a-key"},
        "another scheme": {"authorization": "Basic YWRtaW46YWRtaW4="},
        "an expired key": gateways.key("admin", expires_at=yesterday)[1],
        "a revoked key": revoked_header,
    }
    # A key holds its widest scope alone: each may do what those before it may.
    holders = {scope: gateways.key(scope)[1] for scope in SCOPES}
    without, unknown = gateways.key()[1], gateways.key("operate")[1]
    wrong = []
    with httpx.Client(base_url=gateways.urls[0], timeout=60) as client:
        for (method, path), scopes in calls.items():
            url = re.sub(r"\{[\w:]+\}", "nobody", path)

            def asked(headers: dict[str, str], method: str = method, url: str = url) -> int:
                return client.request(method, url, headers=headers).status_code

            needed = widest(scopes)
            for who, headers in nobody.items():
                if (asked(headers) == 401) is not bool(scopes):
                    wrong.append(f"{method} {path} with {who}")
            for held, headers in holders.items():
                refused = needed is not None and SCOPES.index(held) < SCOPES.index(needed)
                if (asked(headers) == 403) is not refused or asked(headers) in (401, 500):
                    wrong.append(f"{method} {path} with a key for {held}")
            for headers in (without, unknown):
                if (asked(headers) == 403) is not (needed is not None):
                    wrong.append(f"{method} {path} with a key for nothing known")
    assert wrong == []


def test_a_revoked_key_is_refused_within_a_second_on_every_gateway(gateways: Gateways) -> None:
    """Whatever the machine is busy with: a request that is sent later than that is never let in."""
    key, headers = gateways.key("classify")
    revoked = threading.Event()
    answers: list[tuple[float, int]] = []

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            status = 200
            while status == 200 or not revoked.is_set():
                sent = time.monotonic()
                status = client.get("/v1/models").status_code
                answers.append((sent, status))

    asking = [threading.Thread(target=ask, args=(url,)) for url in gateways.urls]
    for thread in asking:
        thread.start()
    while len(answers) < 50:
        time.sleep(0.01)
    gateways.ring.revoke(key.prefix)
    revoked_at = time.monotonic()
    revoked.set()
    for thread in asking:
        thread.join(60)
    assert {status for _, status in answers} == {200, 401}
    assert BELIEVED_S <= 1
    assert [status for sent, status in answers if sent > revoked_at + BELIEVED_S and status == 200] == []


def test_the_last_use_of_a_key_is_on_record(gateways: Gateways) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    key, headers = gateways.key("classify")
    for url in gateways.urls:
        assert httpx.get(f"{url}/v1/models", headers=headers, timeout=60).status_code == 200

    def used() -> datetime | None:
        return gateways.ring.get(key.prefix).last_used_at

    gateways.stacks[0].wait_until(lambda: used() is not None, "the use to be written down")
    last = used()
    assert last is not None
    assert began < last
