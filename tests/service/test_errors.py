"""What a client is told of its mistakes, however many they are, and of ours, without a word of our inside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from structlog.testing import capture_logs
from support.provoked import PROVOKED, Provoke, folders_in

from models.validation import MOST_FAULTS
from service.errors import PASSING, STATUS_AND_CODE, STATUS_OF_WORKER_CODE, install_error_handlers, problem_of
from service.exchange import BrokerUnavailable
from service.query import refuse_unknown_parameters
from storage.errors import BlobsUnavailable, DatabaseUnavailable, SchemaMismatch
from workers.contract.jobs.finetune import FinetuneRequest
from workers.jobs.failure import TABLE

GOOD: dict[str, Any] = {"model": "m", "dataset": "builtin:digits", "architecture": "lenet5"}


@pytest.mark.parametrize(
    ("kind", "provoke"), [(kind, provoke) for kind, calls in PROVOKED.items() for provoke in calls]
)
def test_no_client_is_told_where_something_lies(
    kind: type[BaseException], provoke: Provoke, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        provoke(tmp_path)
    assert isinstance(caught.value, Exception)
    detail = problem_of(caught.value).detail
    assert str(tmp_path) not in detail
    assert folders_in(detail) == []


def test_what_passes_is_what_another_attempt_of_a_job_is_made_for() -> None:
    assert {row.code for row in TABLE if row.retry} & STATUS_OF_WORKER_CODE.keys() == PASSING


def test_every_error_with_a_status_is_provoked() -> None:
    """The one that is not needs a Redis; tests/service/test_outages.py stops one."""
    assert set(STATUS_AND_CODE) - set(PROVOKED) == {BrokerUnavailable}


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnavailable("The database 'postgresql://fovea@db.internal/fovea' cannot be used"),
        SchemaMismatch("The database 'postgresql://fovea@db.internal/fovea' does not have the tables"),
        BlobsUnavailable("'k' in 's3://db.internal' cannot be read"),
        BrokerUnavailable("Error 111 connecting to db.internal:6379. Connection refused."),
    ],
)
def test_what_names_an_address_is_told_in_fixed_words_and_logged(client: TestClient, error: Exception) -> None:
    app = client.app
    assert isinstance(app, FastAPI)

    @app.get("/broken")
    async def broken() -> None:
        raise error

    with capture_logs() as logged:
        answer = client.get("/broken")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "db.internal" not in answer.text
    assert [(line["log_level"], line["reason"]) for line in logged] == [("warning", str(error))]


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI(dependencies=[Depends(refuse_unknown_parameters)])
    install_error_handlers(app)

    @app.post("/v1/finetunes")
    async def start(body: FinetuneRequest) -> str:
        return body.model

    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("place", ["", "recipe", "recipe.augmentation", "validation"])
def test_of_a_body_full_of_faults_the_first_are_named_and_the_others_counted(
    client: TestClient, place: str
) -> None:
    """As many as a body may hold; an answer that names each would repeat them several times over."""
    body: Any = {f"f{n:05d}": 0 for n in range(4000)}
    for name in reversed(place.split(".")) if place else ():
        body = {name: body}
    answer = client.post("/v1/finetunes", json={**GOOD, **body})
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("; and 3,980 more")
    field = ".".join(["body", *([place] if place else []), "f00000"])
    assert answer.json()["errors"][0]["field"] == field
    assert len(answer.json()["errors"]) == MOST_FAULTS
    assert len(answer.content) < 20_000


def test_of_parameters_that_there_are_not_the_first_are_named_and_the_others_counted(client: TestClient) -> None:
    answer = client.post(f"/v1/finetunes?{'&'.join(f'f{n:05d}=' for n in range(8000))}", json=GOOD)
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("; and 7,980 more")
    assert len(answer.json()["errors"]) == MOST_FAULTS


@pytest.mark.parametrize("change", [{"x" * 900_000: 0}, {"seed": "x" * 900_000}, {"model": "x" * 900_000}])
def test_an_answer_does_not_repeat_what_is_long(client: TestClient, change: dict[str, Any]) -> None:
    answer = client.post("/v1/finetunes", json={**GOOD, **change})
    assert answer.status_code == 422
    assert len(answer.content) < 5000
