"""Misspelt query parameters are refused by every call of the real gateway."""

import re

import httpx
import pytest
from support.colours import picture
from support.stack import Stack

from service.routes import architectures, classify, datasets, finetunes, health, jobs, models

ROUTERS = (architectures, classify, datasets, finetunes, health, jobs, models)
CALLS = sorted(
    (method, re.sub(r"\{(\w+)(:path)?\}", "1", route.path))
    for routes in ROUTERS
    for route in routes.router.routes
    for method in route.methods
)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_call_refuses_a_parameter_that_it_does_not_know(stack: Stack, method: str, path: str) -> None:
    answer = httpx.request(method, f"{stack.url}{path}?no_such_parameter=1", timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["field"] == "query.no_such_parameter"


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/v1/models/colours/classify?topk=1", "query.topk: no such parameter; did you mean top_k?"),
        ("GET", "/v1/models?Limit=1", "query.Limit: no such parameter; did you mean limit?"),
        ("GET", "/v1/models?limit=1&serch=x", "query.serch: no such parameter; did you mean search?"),
        ("POST", "/v1/datasets?name=x&onfault=skip", "query.onfault: no such parameter; did you mean on_fault?"),
        ("GET", "/v1/models/colours/versions/1/card?from=md", "query.from: no such parameter; did you mean"),
        ("GET", "/v1/jobs?xyz=1", "query.xyz: no such parameter; this call has cursor, kind, limit, state"),
        ("GET", "/livez?x", "query.x: no such parameter; this call has none"),
        ("GET", "/v1/models?a=1&b=2&a=3", "query.a: "),
    ],
)  # fmt: skip
def test_the_nearest_known_one_is_offered(stack: Stack, method: str, path: str, said: str) -> None:
    answer = httpx.request(method, stack.url + path, content=b"x" if method == "POST" else None, timeout=10)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_each_unknown_one_is_named_once(stack: Stack) -> None:
    errors = httpx.get(f"{stack.url}/v1/models?a=1&b=2&a=3&limit=1").json()["errors"]
    assert [error["field"] for error in errors] == ["query.a", "query.b"]


def test_known_ones_and_the_documentation_are_left_alone(stack: Stack) -> None:
    headers = {"content-type": "image/png"}
    url = f"{stack.url}/v1/models/colours/classify?top_k=2"
    assert httpx.post(url, content=picture("red"), headers=headers).status_code == 200
    for path in ("/docs?theme=dark", "/openapi.json?x=1", "/v1/models?limit=1&search=colours"):
        assert httpx.get(stack.url + path).status_code == 200
