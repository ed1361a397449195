"""What a page of somebody else's can have a browser do with Fovea: nothing. curl can do what it could."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs
from support.colours import picture
from support.stack import Stack

from service.app import create_app
from service.browsers import KnownHosts
from service.main import build_parts
from service.settings import GatewaySettings
from storage.database import migrate
from storage.errors import InvalidSettings

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
LAB = "https://lab.example.org"


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


def outcome(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("code")


# Hosts


@pytest.mark.parametrize(
    "host",
    ["evil.com", "evil.com:8000", "127.0.0.1.evil.com", "localhost.evil.com", "10.0.0.1", "[::2]:80", "x@y"],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("GET", "/livez"), ("POST", "/v1/finetunes")])
def test_without_keys_nobody_gets_in_by_another_name_of_this_machine(
    client: httpx.Client, method: str, path: str, host: str
) -> None:
    answer = client.request(method, path, headers={"host": host})
    assert outcome(answer) == (421, "foreign_host")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "localhost.:80", "127.0.0.1", "127.8.9.1:9", "[::1]:8000"]
)
def test_names_of_loopback_are_known_with_any_port(client: httpx.Client, host: str) -> None:
    assert client.get("/livez", headers={"host": host}).status_code == 200


def test_a_probe_that_names_no_host_is_answered(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert b" 200 OK" in connection.makefile("rb").readline()


@pytest.mark.parametrize(
    ("settings", "known", "unknown"),
    [
        ({}, ["localhost", "127.0.0.1"], ["fovea.lan", "192.168.1.5"]),
        ({"host": "::1"}, ["[::1]:8000", "localhost"], ["fovea.lan"]),
        ({"allowed_hosts": "Fovea.lan, *.lab.example"},
         ["fovea.lan:8000", "a.lab.example", "localhost"], ["lab.example", "xlab.example", "10.0.0.1"]),
        # Where keys are needed a page under another name still has none, and proxies call it what they like.
        ({"host": "0.0.0.0"}, ["localhost", "anything.example.org"], []),
        ({"host": "0.0.0.0", "allowed_hosts": "fovea.lan"}, ["fovea.lan", "10.1.2.3", "[fd00::1]"], ["evil.com"]),
        ({"allowed_hosts": "*"}, ["evil.com"], []),
    ],
)  # fmt: skip
def test_hosts_are_known_by_the_settings(settings: dict[str, Any], known: list[str], unknown: list[str]) -> None:
    hosts = KnownHosts.of(GatewaySettings(**settings))
    assert [host for host in known if not hosts.knows(host)] == []
    assert [host for host in unknown if hosts.knows(host)] == []


# Origins

FOREIGN = [
    {"origin": "http://evil.com"},
    {"origin": "null"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://evil.com", "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
    {"origin": LAB},
]


@pytest.mark.parametrize("sent", FOREIGN, ids=str)
def test_a_foreign_page_changes_nothing(client: httpx.Client, stack: Stack, sent: dict[str, str]) -> None:
    """The recipes that were carried out once: no content type, a form, no body."""
    path = "/v1/models/colours/classify"
    simple = httpx.Request("POST", stack.url + path, content=picture("red"), headers=sent)
    assert "content-type" not in simple.headers
    assert outcome(client.send(simple)) == (403, "foreign_origin")
    form = {"file": ("red.png", picture("red"), "image/png")}
    assert outcome(client.post(path, files=form, headers=sent)) == (403, "foreign_origin")
    for method, where in [
        ("POST", "/v1/jobs/job_1/cancel"),
        ("PUT", "/v1/models/colours/aliases/x"),
        ("DELETE", "/v1/models/colours"),
        ("POST", "/v1/datasets?name=x"),
        ("OPTIONS", path),
    ]:
        assert outcome(client.request(method, where, headers=sent)) == (403, "foreign_origin"), where


def test_our_own_pages_and_programs_are_welcome(client: httpx.Client, stack: Stack) -> None:
    path = "/v1/models/colours/classify"
    for sent in (
        {},
        {"origin": stack.url},
        {"origin": f"https://localhost:{stack.port}", "host": f"localhost:{stack.port}"},
        {"origin": "null", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        answer = client.post(path, content=picture("red"), headers=sent)
        assert answer.status_code == 200, sent
    curl = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post(path, content=picture("red"), headers=curl).status_code == 200


def test_a_foreign_page_can_link_to_us_but_neither_embed_nor_read(client: httpx.Client) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/docs", headers=link).status_code == 200
    for kind in ({"sec-fetch-dest": "iframe"}, {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}):
        assert outcome(client.get("/v1/models", headers=link | kind)) == (403, "foreign_origin")
    assert outcome(client.post("/v1/finetunes", headers=link)) == (403, "foreign_origin")
    plain = client.get("/v1/models", headers={"origin": "http://evil.com"})
    assert "access-control-allow-origin" not in plain.headers


def test_an_origin_that_is_set_may_do_what_a_program_may(tmp_path: Path) -> None:
    settings = GatewaySettings(data=tmp_path, cors_origins=f"{LAB}, http://localhost:3000")
    migrate(settings.database)
    parts = build_parts(settings)
    sent = {"origin": LAB, "sec-fetch-site": "cross-site"}
    asked = {"access-control-request-method": "DELETE", "access-control-request-headers": "authorization,prefer"}
    client = TestClient(create_app(parts), "http://127.0.0.1:8000")
    allowed = client.options("/v1/models/x", headers=sent | asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == LAB
    assert "DELETE" in allowed.headers["access-control-allow-methods"]
    for answer in (client.delete("/v1/models/x", headers=sent), client.get("/v1/models/x", headers=sent)):
        assert answer.status_code == 404
        assert answer.headers["access-control-allow-origin"] == LAB
        assert "access-control-allow-credentials" not in answer.headers
    evil = {"origin": "https://evil.com", "sec-fetch-site": "cross-site"}
    assert outcome(client.options("/v1/models/x", headers=evil | asked)) == (403, "foreign_origin")
    assert outcome(client.delete("/v1/models/x", headers=evil)) == (403, "foreign_origin")
    parts.database.close()


@pytest.mark.parametrize("origins", ["*", "lab.example.org", "https://lab.example.org/app", "https://*.org"])
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(InvalidSettings, match="is no origin; expected SCHEME://HOST"):
        GatewaySettings(cors_origins=origins)


# What every answer carries


def test_every_answer_is_protected_whoever_gives_it(client: httpx.Client, stack: Stack) -> None:
    huge = b"x" * (2**20 + 1)
    answers = {
        200: client.get("/v1/models"),
        404: client.get("/nowhere"),
        405: client.put("/v1/models/colours"),
        413: client.post("/v1/finetunes", content=huge),
        415: client.post("/v1/models/colours/classify", content=b"x", headers={"content-type": "text/plain"}),
        421: client.get("/livez", headers={"host": "evil.com"}),
        422: client.get("/v1/models?limit=x"),
        503: client.get("/readyz"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert ALWAYS.items() <= dict(answer.headers).items(), status
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]


def test_our_own_fault_is_protected_too_and_has_its_id_in_answer_and_log(tmp_path: Path) -> None:
    parts = build_parts(GatewaySettings(data=tmp_path))
    app = create_app(parts)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError(f"in {tmp_path}")

    client = TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False)
    with capture_logs() as logged:
        answer = client.get("/broken", headers={"x-request-id": "find-me"})
    assert outcome(answer) == (500, "internal")
    assert ALWAYS.items() <= dict(answer.headers).items()
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "find-me"
    assert str(tmp_path) not in answer.text
    assert [line["request_id"] for line in logged if line["event"] == "request.failed"] == ["find-me"]
    parts.database.close()


def test_the_documentation_needs_no_other_host_and_no_script_of_its_own(client: httpx.Client) -> None:
    page = client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    assert "://" not in page.text
    assert not re.search(r"<script>|<style>|style=|\bon\w+=", page.text)
    for file in re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text):
        answer = client.get(f"/{file}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(("text/javascript", "text/css"))
    assert client.get("/redoc").status_code == 404


# What no answer tells, and no path breaks


def test_readyz_names_neither_host_nor_process(client: httpx.Client, stack: Stack) -> None:
    (worker,) = client.get("/readyz").json()["workers"]
    assert re.fullmatch(r"inference@[0-9a-f]{6}", worker["worker"])
    assert socket.gethostname() not in worker["worker"]
    assert str(stack.processes["inference"].pid) not in client.get("/readyz").text


@pytest.mark.parametrize("part", ["a%00b", "a%5Cb", "..", "%2e%2e", "x" * 5000, "%ff%fe", "%ed%a0%80", "a%0d%0ab"])
def test_no_path_is_our_fault(client: httpx.Client, part: str) -> None:
    dataset = client.post("/v1/datasets?name=x", content=b"PK\x03\x04").json()["id"]
    for path in (
        f"/v1/datasets/{dataset}/thumbnails/{part}",
        f"/v1/datasets/{part}",
        f"/v1/datasets/{part}/report",
        f"/v1/models/{part}/versions/1/card",
        f"/v1/models/colours/versions/{part}/artifact",
        f"/v1/models/colours/aliases/{part}",
        f"/v1/jobs/{part}/events",
        f"/v1/architectures/{part}",
        f"/v1/jobs?cursor={part}&kind={part}",
        f"/v1/models?search={part}",
    ):
        answer = client.get(path, follow_redirects=True)
        assert answer.status_code in (200, 404, 422), f"{answer.status_code} {path[:80]}"


def test_a_method_that_is_not_taken_is_told_all_that_are(client: httpx.Client) -> None:
    answer = client.patch("/v1/models/colours/aliases/x")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "PUT", "DELETE"}
