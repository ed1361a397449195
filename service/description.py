"""What `/openapi.json` says: every answer that can come, with its content type, and the form of every name.

FastAPI knows what a route returns. What comes from around it (keys, limits, browsers, the store of files) is added
here by one table over the calls' properties, so that no route has to repeat it and none can forget it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from models.filters.files import PICTURE
from service.errors import PROBLEM_JSON
from service.protocol.schemas import SCHEMAS
from service.schemas.model_files import MODEL_FILE_SCHEMAS
from service.schemas.problem import ProblemBody
from service.schemas.revisions import REVISION_SCHEMAS
from storage.page import HIGHEST
from storage.reference import ALIAS, MODEL_NAME

Json = dict[str, Any]
ULID = "[0-9A-HJKMNP-TV-Z]{26}"
JOB_ID = rf"^job_{ULID}$"
READING = frozenset({"get", "head"})
METHODS = frozenset({"get", "head", "post", "put", "patch", "delete"})


@dataclass(frozen=True)
class Call:
    path: str
    method: str
    operation: Json

    @property
    def needs_key(self) -> bool:
        return (self.path.startswith(("/v1/", "/v2")) and "/health/" not in self.path) or self.path == "/metrics"

    @property
    def names_something(self) -> bool:
        return "{" in self.path or self.takes_body

    @property
    def takes_body(self) -> bool:
        return "requestBody" in self.operation

    @property
    def changes(self) -> bool:
        return self.method not in READING

    @property
    def makes_a_job(self) -> bool:
        return self.method == "post" and "202" in self.operation["responses"] and not self.path.endswith("/cancel")


PROBLEMS: tuple[tuple[Callable[[Call], bool], Mapping[int, str]], ...] = (
    (
        lambda _: True,
        {
            400: "What came is no HTTP/1.1, or its body or a header cannot be understood.",
            403: "A page of another origin asks, or the key lacks the scope.",
            408: "The header or the body came too slowly.",
            413: "The body is larger than this call takes.",
            421: "The gateway is not called by this host's name.",
            422: "A parameter or field is wrong or unknown; `errors` names each.",
            429: "Too much at once; `Retry-After` says when to come again.",
            431: "The header is larger than any call takes.",
            500: "Our fault; the log has it under the request id.",
            503: "Database, queue, files or a worker cannot be reached, or the gateway ends or is full; "
            "`Retry-After` says when to come again.",
        },
    ),
    (
        lambda call: call.needs_key,
        {
            401: "No key, or an unknown, expired or revoked one.",
        },
    ),
    (lambda call: call.names_something, {404: "There is no such thing."}),
    (lambda call: call.changes, {409: "It contradicts what is there; nothing was changed."}),
)
# What a header of an answer says, by the answer's status.
HEADERS: Mapping[str, Mapping[str, str]] = {
    "202": {"Location": "Where to look for it.", "Retry-After": "Seconds until that is worth while."},
    "401": {"WWW-Authenticate": "`Bearer`."},
    "429": {"Retry-After": "Seconds."},
    "503": {"Retry-After": "Seconds."},
}
# The form of what stands in a path or a query, by the path's begin. What has another form names nothing.
FORMS: Mapping[str, Mapping[str, Json]] = {
    "/v1/datasets": {
        "dataset_id": {"pattern": rf"^ds_{ULID}$"},
        "sha256": {"pattern": "^[0-9a-f]{64}$"},
        "cursor": {"pattern": "^[A-Za-z0-9_-]*$"},
    },
    "/v1/models": {
        "name": {"pattern": f"^{MODEL_NAME}$"},
        "alias": {"pattern": f"^{ALIAS}$"},
        "reference": {"pattern": f"^{MODEL_NAME}(@{ALIAS}|:[1-9][0-9]{{0,8}})?$"},
        "number": {"minimum": 1, "maximum": HIGHEST},
        "picture": {"pattern": rf"^{PICTURE.pattern}$"},
        "cursor": {"pattern": "^[A-Za-z0-9_-]*$"},
    },
    "/v2/models": {
        "name": {"pattern": f"^{MODEL_NAME}(@{ALIAS}|:[1-9][0-9]{{0,8}})?$"},
        "number": {"pattern": "^[1-9][0-9]{0,8}$"},
    },
    "/v1/webhooks": {
        "webhook_id": {"pattern": rf"^wh_{ULID}$"},
        "cursor": {"pattern": "^[A-Za-z0-9_-]*$"},
    },
    "/v1/audit": {"cursor": {"pattern": "^[A-Za-z0-9_-]*$"}},
    "/v1/jobs": {"job_id": {"pattern": JOB_ID}, "cursor": {"pattern": "^[A-Za-z0-9_-]*$"}},
    "/v1/evaluations": {"job_id": {"pattern": JOB_ID}},
    "/v1/architectures": {
        "name": {"pattern": "^[a-z0-9_]+(/[a-z0-9_]+)?$"},
        "cursor": {"pattern": "^[a-z0-9_/]+$"},
    },
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A request that is repeated with it within 24 hours returns the job that the first one made.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
KEY = {"type": "http", "scheme": "bearer", "description": "An API key, `fov_PREFIX.SECRET`."}


class DescribedApp(FastAPI):
    """`needs_keys`: whether this gateway asks for a key."""

    needs_keys = True

    def openapi(self) -> Json:
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi(), needs_keys=self.needs_keys)
        return self.openapi_schema


def completed(document: Json, *, needs_keys: bool) -> Json:
    """The document, whose calls now tell every answer, the form of their names, and whether they need a key."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["ProblemBody"] = ProblemBody.model_json_schema()
    schemas |= SCHEMAS | MODEL_FILE_SCHEMAS | REVISION_SCHEMAS
    components["securitySchemes"] = {"key": KEY}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for call in _calls(document):
        _add_problems(call)
        _add_headers(call)
        _add_forms(call)
        if call.makes_a_job:
            call.operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
        if call.needs_key:
            call.operation["security"] = [{"key": []}] if needs_keys else [{}, {"key": []}]
    return document


def _calls(document: Json) -> Iterator[Call]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in METHODS:
                yield Call(path, method, operation)


def _add_problems(call: Call) -> None:
    """Those of the table; what the route says of one itself stands, but all have the one form."""
    responses = call.operation["responses"]
    for applies, problems in PROBLEMS:
        if applies(call):
            for status, text in problems.items():
                responses.setdefault(str(status), {"description": text})
    # FastAPI's own words for a request that it refuses, which are never sent.
    responses["422"] = {"description": PROBLEMS[0][1][422]}
    for status, response in responses.items():
        if status >= "400" and "content" not in response:
            response["content"] = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    call.operation["responses"] = dict(sorted(responses.items()))


def _add_headers(call: Call) -> None:
    for status, response in call.operation["responses"].items():
        for name, text in HEADERS.get(status, {}).items():
            headers = response.setdefault("headers", {})
            headers.setdefault(name, {"description": text, "schema": {"type": "string"}})


def _add_forms(call: Call) -> None:
    forms = next((forms for begin, forms in FORMS.items() if call.path.startswith(begin)), {})
    for parameter in call.operation.get("parameters", ()):
        for schema in _alternatives(parameter["schema"]):
            if schema.get("type") in ("string", "integer"):
                schema.update(forms.get(parameter["name"], {}))


def _alternatives(schema: Json) -> list[Json]:
    """A parameter that may be left out is null or of its form."""
    alternatives: list[Json] = schema.get("anyOf", [schema])
    return alternatives
