"""A route that reads the usual request itself and leaves every other one to FastAPI."""

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Scope

from service.direct_route import DirectRoute


class Usual(DirectRoute):
    def arguments(self, scope: Scope) -> Mapping[str, Any] | None:
        return {"name": scope["path_params"]["name"], "solved": False} if not scope["query_string"] else None


async def refuse_strangers(request: Request) -> None:
    if request.headers.get("x-name") == "stranger":
        raise HTTPException(403)


async def by_fastapi() -> bool:
    return True


@pytest.fixture
def client() -> TestClient:
    router = APIRouter(route_class=Usual, dependencies=[Depends(refuse_strangers)])

    @router.post("/greet/{name}")
    async def greet(
        name: str,
        request: Request,
        solved: Annotated[bool, Depends(by_fastapi)],
        times: Annotated[int, Query(ge=1)] = 1,
    ) -> Response:
        body = (await request.body()).decode()
        return Response(f"{body} {name} x{times}, {'by FastAPI' if solved else 'directly'}")

    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


def test_a_usual_request_reaches_its_endpoint_directly(client: TestClient) -> None:
    assert client.post("/greet/Ada", content="hello").text == "hello Ada x1, directly"


def test_any_other_request_is_read_and_judged_by_fastapi(client: TestClient) -> None:
    assert client.post("/greet/Ada?times=2", content="hello").text == "hello Ada x2, by FastAPI"
    assert client.post("/greet/Ada?times=0").status_code == 422
    assert client.get("/greet/Ada").status_code == 405


@pytest.mark.parametrize("query", ["", "?times=2"])
def test_what_the_route_depends_on_refuses_either_way(client: TestClient, query: str) -> None:
    assert client.post(f"/greet/Ada{query}", headers={"x-name": "stranger"}).status_code == 403


def test_it_is_described_as_any_other_route(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/greet/{name}"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["name", "times"]
