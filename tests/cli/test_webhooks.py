"""`fovea webhooks` and the client's `webhooks` against a real gateway and a real receiver."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command, command_against
from support.receiver import Receiver, running_receiver
from support.stack import Stack

from storage.database import open_database
from storage.job_ledger import JobLedger


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    service = Stack(Path(tmp_path_factory.mktemp("hooks")), {"FOVEA_WEBHOOK_ALLOW": "127.0.0.1"})
    try:
        yield service.start("gateway")
    finally:
        service.stop()


@pytest.fixture
def fovea(gateway: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(gateway.url, capsys, monkeypatch)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def test_a_webhook_from_the_command_line(fovea: Command, gateway: Stack, receiver: Receiver) -> None:
    assert "fovea webhooks create URL" in fovea("webhooks", "list").out
    said = fovea("webhooks", "create", receiver.url, "--event", "cancelled", "--kind", "finetune")
    first, secret = said.out.splitlines()
    webhook = first.split()[0]
    assert first == f"{webhook} is told of cancelled of finetune; try it: fovea webhooks test {webhook}"
    assert fovea("webhooks", "test", webhook).out.startswith("taken: it answered 204 after ")
    receiver.messages[0].verified(secret.removeprefix("secret: "))

    database = open_database(gateway.database_url)
    job = JobLedger(database).request_cancel(JobLedger(database).create("finetune", {}).id)
    database.close()
    gateway.wait_until(lambda: "delivered" in fovea("webhooks", "deliveries", webhook).out, "the delivery")
    (told,) = json.loads(fovea("webhooks", "deliveries", webhook, "--json").out)
    assert (told["job_id"], told["state"], told["status"]) == (job.id, "delivered", 204)

    assert fovea("webhooks", "disable", webhook).out == f"{webhook} is disabled\n"
    assert json.loads(fovea("webhooks", "list", "--json").out)[0]["disabled_at"] is not None
    assert "disabled" in fovea("webhooks", "list").out
    assert fovea("webhooks", "enable", webhook).out == f"{webhook} is enabled\n"
    receiver.status = 500
    failed = fovea("webhooks", "test", webhook)
    assert (failed.code, failed.out) == (1, "not taken: it answered 500\n")
    assert fovea("webhooks", "delete", webhook, "--yes").out == f"{webhook} is gone\n"
    assert "404 unknown_webhook" in fovea("webhooks", "test", webhook).err


def test_an_address_that_may_not_be_reached_is_told(fovea: Command) -> None:
    said = fovea("webhooks", "create", "https://10.0.0.1/")
    assert said.code == 1
    assert "no public address" in said.err
