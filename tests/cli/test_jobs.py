"""`fovea jobs cancel` of jobs that wait, run and have ended, against a real gateway."""

from collections.abc import Iterator

import pytest
from support.command import Command, command_against
from support.stack import Stack

from cli.up.starter import REQUEST
from fovea_client import Fovea
from storage.database import open_database
from storage.job_ledger import JobLedger


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


@pytest.fixture
def client(stack: Stack) -> Iterator[Fovea]:
    with stack.client() as client:
        yield client


@pytest.fixture
def ledger(stack: Stack) -> Iterator[JobLedger]:
    database = open_database(stack.database_url)
    yield JobLedger(database)
    database.close()


def running(client: Fovea, ledger: JobLedger) -> str:
    """A fine-tune that this test holds, as a worker would."""
    job = client.finetune(**REQUEST).id
    assert ledger.take(job, "a-test", lease_s=60) is not None
    return job


def test_a_job_that_waits_ends_at_once_and_one_that_ended_stays(fovea: Command, client: Fovea) -> None:
    job = client.finetune(**REQUEST).id
    assert fovea("jobs", "cancel", job).out == f"{job} is cancelled; it was waiting for a worker\n"
    for options in ((), ("--keep-best",), ("--discard",)):
        assert fovea("jobs", "cancel", job, *options).out == f"{job} has ended already: cancelled\n"


def test_what_is_to_be_kept_is_thrown_away_only_when_that_is_asked_for(
    fovea: Command, client: Fovea, ledger: JobLedger
) -> None:
    job = running(client, ledger)
    kept = f"{job} ends at its next step; a version is made of the best that it has learned so far\n"
    thrown_away = f"{job} ends at its next step; what it has done so far is thrown away\n"
    assert fovea("jobs", "cancel", job, "--keep-best").out == kept
    assert fovea("jobs", "cancel", job).out == kept
    assert "a version is made of the best" in fovea("jobs", "show", job).out
    assert fovea("jobs", "cancel", job, "--discard").out == thrown_away
    assert fovea("jobs", "cancel", job).out == thrown_away
    assert ledger.get(job).on_cancel == "discard"


def test_a_running_job_is_discarded_where_nothing_else_was_asked_for(
    fovea: Command, client: Fovea, ledger: JobLedger
) -> None:
    job = running(client, ledger)
    assert fovea("jobs", "cancel", job).out.endswith("what it has done so far is thrown away\n")
    assert ledger.get(job).on_cancel == "discard"


def test_to_keep_and_to_discard_exclude_each_other(fovea: Command, client: Fovea, ledger: JobLedger) -> None:
    job = running(client, ledger)
    said = fovea("jobs", "cancel", job, "--keep-best", "--discard")
    assert said.code == 2
    assert not ledger.get(job).cancel_requested
