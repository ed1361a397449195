"""Every call that changes something leaves its entries in the audit log, and no other call leaves any."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from support.colours import picture
from support.gateways import Gateways

from service.app import create_app
from service.main import build_parts
from service.settings import GatewaySettings
from storage.audit import AuditEntry, AuditLog
from storage.datasets import DatasetRegistry, DatasetState
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry
from storage.webhooks import WebhookRegistry

MANIFEST = {"labels": ["red"], "outputs": {"embedding": [3]}}
PNG = {"content-type": "image/png"}


@dataclass
class House:
    """What the calls work on, made past the gateway."""

    gateways: Gateways
    client: httpx.Client
    registry: ModelRegistry = field(init=False)

    def __post_init__(self) -> None:
        self.registry = ModelRegistry(self.gateways.database)
        self.log = AuditLog(self.gateways.database)
        for model in ("audited", "doomed"):
            for _ in range(3):
                self.registry.add_version(model, artifact=f"models/{model}/x", manifest=MANIFEST, size_bytes=1)
        self.registry.set_alias("audited", "production", 1)
        self.registry.set_alias("audited", "production", 2)
        self.registry.set_alias("audited", "gone", 1)
        datasets = DatasetRegistry(self.gateways.database)
        self.dataset, self.unused = (
            datasets.add(
                name,
                prefix="datasets/x",
                content_hash=f"audited-{name}",
                state=DatasetState.READY,
                labels=("blue", "red"),
            ).id
            for name in ("used", "unused")
        )
        self.webhook = WebhookRegistry(self.gateways.database).create("https://93.184.216.34/")[0].id
        self.job = JobLedger(self.gateways.database).create("publish", {"model": "audited"}).id

    def entries(self) -> list[AuditEntry]:
        return [*self.log.list(1000).items]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("red/1.png", picture("red"))
    return file.getvalue()


Call = Callable[[House], tuple[str, Mapping[str, Any]]]
ALIAS = "/v1/models/{name}/aliases/{alias}"
FINETUNE = {"architecture": "resnet18", "weights": "none", "model": "learnt"}
# Of each call that changes something: how it is made, and what it does to what.
CHANGES: dict[tuple[str, str], tuple[Call, list[tuple[str, str]]]] = {
    ("POST", "/v1/datasets"): (
        lambda _: ("/v1/datasets?name=colours", {"content": zipped()}),
        [("dataset.create", "dataset"), ("job.create", "job")],
    ),
    ("POST", "/v1/datasets/{dataset_id}/revisions"): (
        lambda house: (f"/v1/datasets/{house.dataset}/revisions", {"json": {"remove": ["red/1.png"]}}),
        [("dataset.create", "dataset"), ("job.create", "job")],
    ),
    ("DELETE", "/v1/datasets/{dataset_id}"): (
        lambda house: (f"/v1/datasets/{house.unused}", {}),
        [("dataset.delete", "dataset")],
    ),
    ("POST", "/v1/datasets/{dataset_id}/diagnosis"): (
        lambda house: (f"/v1/datasets/{house.dataset}/diagnosis", {"json": {"model": "audited"}}),
        [("job.create", "job")],
    ),
    ("POST", "/v1/models/{reference}/classify"): (
        lambda _: (
            "/v1/models/audited/classify",
            {"content": picture("red"), "headers": {**PNG, "prefer": "respond-async"}},
        ),
        [("job.create", "job")],
    ),
    ("POST", "/v1/classifications"): (
        lambda house: ("/v1/classifications", {"json": {"model": "audited", "dataset": house.dataset}}),
        [("job.create", "job")],
    ),
    ("POST", "/v1/models/{name}/versions"): (
        lambda _: ("/v1/models/new/versions", {"json": {"architecture": "resnet18", "weights": "imagenet"}}),
        [("job.create", "job")],
    ),
    ("POST", "/v1/models/{name}/versions/{number}/variants"): (
        lambda _: ("/v1/models/audited/versions/1/variants", {"json": {"dataset": "builtin:digits"}}),
        [("job.create", "job")],
    ),
    ("POST", "/v1/finetunes"): (
        lambda house: ("/v1/finetunes", {"json": {**FINETUNE, "dataset": house.dataset}}),
        [("job.create", "job")],
    ),
    ("POST", "/v1/jobs/{job_id}/cancel"): (
        lambda house: (f"/v1/jobs/{house.job}/cancel", {}),
        [("job.cancel", "job")],
    ),
    ("PATCH", "/v1/models/{name}"): (
        lambda _: ("/v1/models/audited", {"json": {"tags": ["audited"]}}),
        [("model.describe", "model")],
    ),
    ("POST", "/v1/evaluations"): (
        lambda house: ("/v1/evaluations", {"json": {"models": ["colours"], "dataset": house.dataset}}),
        [("job.create", "job")],
    ),
    ("POST", "/v1/webhooks"): (
        lambda _: ("/v1/webhooks", {"json": {"url": "https://93.184.216.34/hook"}}),
        [("webhook.create", "webhook")],
    ),
    ("PATCH", "/v1/webhooks/{webhook_id}"): (
        lambda house: (f"/v1/webhooks/{house.webhook}", {"json": {"enabled": False}}),
        [("webhook.change", "webhook")],
    ),
    ("DELETE", "/v1/webhooks/{webhook_id}"): (
        lambda house: (f"/v1/webhooks/{house.webhook}", {}),
        [("webhook.delete", "webhook")],
    ),
    ("PUT", ALIAS): (
        lambda _: ("/v1/models/audited/aliases/canary", {"json": {"version": 2}}),
        [("alias.set", "model")],
    ),
    ("POST", f"{ALIAS}/rollback"): (
        lambda _: ("/v1/models/audited/aliases/production/rollback", {}),
        [("alias.rollback", "model")],
    ),
    ("DELETE", ALIAS): (lambda _: ("/v1/models/audited/aliases/gone", {}), [("alias.delete", "model")]),
    ("DELETE", "/v1/models/{name}/versions/{number}"): (
        lambda _: ("/v1/models/audited/versions/3", {}),
        [("version.delete", "model")],
    ),
    ("DELETE", "/v1/models/{name}"): (lambda _: ("/v1/models/doomed", {}), [("model.delete", "model")]),
}


# A question that is too long for a query, and a message that a webhook is sent for a try.
ASKS = {
    ("POST", "/v1/models/{reference}/embed"),
    ("POST", "/v1/models/{reference}/similar"),
    ("POST", "/v1/models/{reference}/explain"),
    ("POST", "/v1/webhooks/{webhook_id}/test"),
    ("POST", "/v2/models/{name}/infer"),
    ("POST", "/v2/models/{name}/versions/{number}/infer"),
    ("POST", "/v2/repository/index"),
}


def routes(folder: Path) -> set[tuple[str, str]]:
    parts = build_parts(GatewaySettings(data=folder))
    found = iter_route_contexts(create_app(parts).routes)
    calls = {(method, route.path or "") for route in found for method in route.methods or ()}
    parts.database.close()
    return calls


def test_every_call_that_may_change_something_is_tried_here(tmp_path: Path) -> None:
    """A new one fails this until it stands in the table, and then until it leaves its entry."""
    assert {call for call in routes(tmp_path) if call[0] not in ("GET", "HEAD")} == CHANGES.keys() | ASKS


def test_each_change_leaves_its_entries_with_who_made_it(gateways: Gateways) -> None:
    key, headers = gateways.key("admin", name="Anna's laptop")
    for stack in gateways.stacks:
        stack.publish()
    with httpx.Client(base_url=gateways.urls[0], headers=headers, timeout=60) as client:
        house = House(gateways, client)
        for n, ((method, path), (call, expected)) in enumerate(CHANGES.items()):
            before = {entry.id for entry in house.entries()}
            url, options = call(house)
            sent = {**options, "headers": {**options.get("headers", {}), "x-request-id": f"change-{n}"}}
            answer = client.request(method, url, **sent)
            assert answer.is_success, f"{method} {path}: {answer.text}"
            made = [entry for entry in reversed(house.entries()) if entry.id not in before]
            assert [(entry.action, entry.kind) for entry in made] == expected, f"{method} {path}"
            for entry in made:
                assert (entry.actor, entry.actor_name, entry.job_id) == (key.prefix, "Anna's laptop", None)
                assert (entry.request_id, entry.client) == (f"change-{n}", "127.0.0.1")

        # What is refused, and what only looks, leaves none.
        before = {entry.id for entry in house.entries()}
        refused = client.delete("/v1/models/audited")
        missing = client.put("/v1/models/audited/aliases/production", json={"version": 99})
        assert (refused.status_code, missing.status_code) == (409, 404)
        client.post("/v1/models/audited/classify", content=picture("red"), headers=PNG)
        for method, path in routes(gateways.stacks[0].folder / "described"):
            if method == "GET" and "{" not in path:
                client.get(path)
        assert {entry.id for entry in house.entries()} == before


def test_a_repeated_upload_leaves_no_entry_of_its_own(gateways: Gateways) -> None:
    key, headers = gateways.key("train")
    headers["idempotency-key"] = "once"
    body = zipped()
    for _ in range(2):
        answer = httpx.post(
            f"{gateways.urls[0]}/v1/datasets?name=twice", content=body, headers=headers, timeout=60
        )
        assert answer.status_code == 202
    entries = AuditLog(gateways.database).list(100, actor=key.prefix).items
    assert [entry.action for entry in entries] == ["job.create", "dataset.create"]


@pytest.fixture
def told(gateways: Gateways) -> tuple[str, dict[str, str]]:
    """A key's prefix with two entries of its own, and an admin's header."""
    key, headers = gateways.key("train", name="Bob")
    for name in ("first", "second"):
        httpx.post(
            f"{gateways.urls[0]}/v1/datasets?name={name}", content=zipped(), headers=headers, timeout=60
        ).raise_for_status()
    return key.prefix, gateways.key("admin")[1]


def test_an_admin_reads_the_log_in_pages_and_by_filters(
    gateways: Gateways, told: tuple[str, dict[str, str]]
) -> None:
    prefix, admin = told
    with httpx.Client(base_url=gateways.urls[1], headers=admin, timeout=60) as client:

        def read(**wanted: str | int) -> list[dict[str, Any]]:
            answer = client.get("/v1/audit", params=wanted)
            assert answer.status_code == 200, answer.text
            page: list[dict[str, Any]] = answer.json()["items"]
            return page

        entries = read(actor=prefix)
        assert [entry["action"] for entry in entries] == ["job.create", "dataset.create"] * 2
        assert entries[1]["detail"] == {"name": "second"}
        assert {entry["actor_name"] for entry in entries} == {"Bob"}
        assert read(actor=prefix, action="dataset") == [entries[1], entries[3]]
        assert read(subject=entries[2]["subject"]) == [entries[2]]
        assert read(actor=prefix, since="2999-01-01T00:00:00Z") == []
        assert read(actor=prefix, since=entries[2]["at"])[:3] == entries[:3]
        first = client.get("/v1/audit", params={"actor": prefix, "limit": 3}).json()
        rest = client.get("/v1/audit", params={"actor": prefix, "cursor": first["next_cursor"]}).json()
        assert [*first["items"], *rest["items"]] == entries
        for wrong in ({"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"cursor": "x"}, {"limit": 0}):
            assert client.get("/v1/audit", params=wrong).status_code == 422
        for since in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
            assert client.get("/v1/audit", params={"since": since}).status_code == 422


def test_the_command_shows_the_log(gateways: Gateways, told: tuple[str, dict[str, str]]) -> None:
    prefix, admin = told
    key = admin["authorization"].removeprefix("Bearer ")

    def audit(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", "audit", "--url", gateways.urls[0], "--key", key, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    table = audit("--actor", prefix, "--limit", "2", "--since", "2026-01-01").stdout.splitlines()
    assert table[0].split() == ["at", "who", "action", "on", "what", "from"]
    assert f"{prefix} (Bob)" in table[-1]
    assert "dataset.create" in table[-1]
    assert "name second" in table[-1]
    entries = json.loads(audit("--json", "--action", "job.create", "--actor", prefix).stdout)
    assert [entry["action"] for entry in entries] == ["job.create"] * 2
