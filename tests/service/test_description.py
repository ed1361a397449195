"""What `/openapi.json` promises; that the gateway keeps it is for tests/fuzz."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.app import create_app
from service.main import build_parts
from service.settings import GatewaySettings

OTHER_TYPES = {
    "GET /v1/datasets/{dataset_id}/diagnosis": {"application/json", "text/html"},
    "GET /metrics": {"text/plain"},
    "POST /v2/models/{name}/infer": {"application/json", "application/octet-stream"},
    "POST /v2/models/{name}/versions/{number}/infer": {"application/json", "application/octet-stream"},
    "POST /v1/models/{reference}/explain": {"application/json", "image/png"},
    "GET /v1/datasets/{dataset_id}/thumbnails/{sha256}": {"image/webp"},
    "GET /v1/evaluations/{job_id}/card": {"text/html", "text/markdown"},
    "GET /v1/jobs/{job_id}/events": {"text/event-stream"},
    "GET /v1/jobs/{job_id}/results": {"application/jsonl", "application/x-ndjson", "text/csv"},
    "GET /v1/models/{name}/versions/{number}/artifact": {"application/zip"},
    "GET /v1/models/{name}/versions/{number}/card": {"text/html", "text/markdown"},
    "GET /v1/models/{name}/versions/{number}/filters/{picture}": {"image/png", "image/webp"},
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return described(GatewaySettings(data=tmp_path_factory.mktemp("data")))


def described(settings: GatewaySettings) -> dict[str, Any]:
    parts = build_parts(settings)
    parts.database.close()
    return create_app(parts).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_problem_has_the_one_form(document: dict[str, Any]) -> None:
    for call, operation in operations(document):
        assert {"403", "413", "421", "422", "500"} <= set(operation["responses"]), call
        for status, response in operation["responses"].items():
            if status >= "400" and (call, status) != ("GET /readyz", "503"):
                problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
                assert response["content"] == problem, f"{call} {status}"
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_answer_is_of_the_type_that_is_named(document: dict[str, Any]) -> None:
    for call, operation in operations(document):
        for status, response in operation["responses"].items():
            if status < "300" and status != "204":
                assert set(response["content"]) == OTHER_TYPES.get(call, {"application/json"}), call


def test_every_name_in_a_path_has_a_form(document: dict[str, Any]) -> None:
    """A parameter that is called otherwise one day must not lose its own in silence."""
    for call, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path" or parameter["name"] == "cursor":
                schemas = parameter["schema"].get("anyOf", [parameter["schema"]])
                assert "pattern" in schemas[0] or "minimum" in schemas[0], f"{call} {parameter['name']}"


def test_keys_are_asked_for_where_they_are_required(document: dict[str, Any]) -> None:
    assert document["paths"]["/v1/models"]["get"]["security"] == [{}, {"key": []}]
    public = described(GatewaySettings(host="0.0.0.0"))
    for call, operation in operations(public):
        needs_key = "/v1/" in call or call == "GET /metrics" or ("/v2" in call and "/health/" not in call)
        assert operation.get("security") == ([{"key": []}] if needs_key else None), call
