"""What a client is told of its mistakes, however many they are."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from models.validation import MOST_FAULTS
from service.errors import install_error_handlers
from service.query import refuse_unknown_parameters
from workers.contract.jobs import FinetuneRequest

GOOD: dict[str, Any] = {"model": "m", "dataset": "builtin:digits", "architecture": "lenet5"}


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
    """A megabyte of them, which an answer that names each would repeat several times over."""
    body: Any = {f"f{n:05d}": 0 for n in range(80_000)}
    for name in reversed(place.split(".")) if place else ():
        body = {name: body}
    answer = client.post("/v1/finetunes", json={**GOOD, **body})
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("; and 79,980 more")
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
