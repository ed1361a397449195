"""What a client is told when something is wrong: one table from error to status and code, one form of answer.

Answers are RFC 9457 `application/problem+json` with a stable `code`. An error that no row names becomes a 500
whose text says nothing of our inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, create_model
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from models import errors as model_errors
from models.validation import InvalidFields, invalid_fields, shortened
from service.exchange import BrokerUnavailable
from storage import errors as storage_errors

PROBLEM_JSON = "application/problem+json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PHRASES = {status.value: status.phrase for status in HTTPStatus}
log = structlog.get_logger()


@dataclass
class Problem(Exception):
    """An answer other than success. `detail` says what was given, what was expected and how to fix it."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


# Looked up along the error's class and its bases, so that the narrowest row wins.
STATUS_AND_CODE: Mapping[type[Exception], tuple[int, str]] = {
    model_errors.ImageTooManyPixels: (422, "image_too_large"),
    model_errors.ImageError: (422, "image_unreadable"),
    model_errors.UnknownArchitecture: (404, "unknown_architecture"),
    model_errors.InvalidArchitecture: (422, "invalid_architecture"),
    model_errors.UnknownWeights: (404, "unknown_weights"),
    model_errors.CoverageUnavailable: (409, "coverage_unavailable"),
    storage_errors.InvalidName: (422, "invalid_name"),
    storage_errors.InvalidReference: (422, "invalid_reference"),
    storage_errors.InvalidCursor: (422, "invalid_cursor"),
    storage_errors.Conflict: (409, "conflict"),
    storage_errors.InUse: (409, "in_use"),
    storage_errors.NoEarlierVersion: (409, "no_earlier_version"),
    storage_errors.TooManyJobs: (429, "too_many_jobs"),
    storage_errors.StorageQuota: (429, "storage_quota"),
    storage_errors.DatabaseUnavailable: (503, "database_unavailable"),
    storage_errors.SchemaMismatch: (503, "schema_mismatch"),
    storage_errors.BlobsUnavailable: (503, "blobs_unavailable"),
    BrokerUnavailable: (503, "broker_unavailable"),
}

# What a worker reports for an image or a batch, by its code.
STATUS_OF_WORKER_CODE: Mapping[str, int] = {
    "not_an_image": 400,
    "image_unreadable": 422,
    "image_too_large": 422,
    "image_quarantined": 422,
    "unknown_image": 422,
    "image_lost": 503,
    "artifact_unusable": 503,
    "model_unusable": 503,
    "model_quarantined": 503,
    "precision_unavailable": 409,
    "coverage_unavailable": 409,
    "explanation_unavailable": 409,
    "device_unavailable": 503,
    "out_of_memory": 503,
    "database_unavailable": 503,
    "blobs_unavailable": 503,
    "broker_unavailable": 503,
    "disk_full": 503,
    "disk_failed": 503,
    "inference_failed": 500,
    "storage_failed": 500,
    "internal": 500,
}

# Of those what says nothing against the version that was to be loaded: it may be loaded in a moment.
PASSING = frozenset(
    {"database_unavailable", "blobs_unavailable", "broker_unavailable", "disk_full", "disk_failed"}
)

# The texts of these name hosts, folders and URLs: they are for the log.
WORDS: Mapping[type[Exception], str] = {
    storage_errors.DatabaseUnavailable: "The database cannot be reached; try again in a moment.",
    storage_errors.SchemaMismatch: "The database does not have the tables of this release: migrate it first, or "
    "update this Fovea if the database is of a newer one.",
    storage_errors.BlobsUnavailable: "The store of files cannot be reached; try again in a moment.",
    BrokerUnavailable: "The queue cannot be reached; try again in a moment.",
}

# In a request's scope: the code of the error that it was answered with, and headers for whatever it is answered.
CODE = "fovea.code"
ANSWER_HEADERS = "fovea.answer_headers"


def problem_of(error: Exception) -> Problem:
    """The problem a client is shown for an error, by the table above."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ClientDisconnect):
        return Problem(499, "client_closed_request", "The client closed the connection.")
    if isinstance(error, storage_errors.NotFound):
        return Problem(404, f"unknown_{error.kind}", str(error))
    for kind in type(error).__mro__:
        if kind in STATUS_AND_CODE:
            status, code = STATUS_AND_CODE[kind]
            detail = WORDS.get(kind) or str(error)
            return Problem(status, code, detail, _retry_after(kind, status))
    return Problem(500, "internal", "Something went wrong inside Fovea; the log has it under the request id.")


def _retry_after(kind: type[Exception], status: int) -> Mapping[str, str]:
    """None for what no time heals: bytes stay stored until somebody deletes them."""
    if kind is storage_errors.TooManyJobs:
        return {"Retry-After": "10"}
    return {"Retry-After": "1"} if status == 503 else {}


def invalid_request(invalid: InvalidFields) -> Problem:
    """The one answer to fields and parameters that are wrong, each of them named."""
    errors = [{"field": fault.field, "message": fault.message} for fault in invalid.faults]
    return Problem(422, "invalid_request", str(invalid), extra={"errors": errors})


def worker_problem(code: str, detail: str | None) -> Problem:
    """What the worker reports of an image, as the answer to a request that has only that one."""
    status = STATUS_OF_WORKER_CODE.get(code, 500)
    return Problem(status, code, detail or "", {"Retry-After": "1"} if status == 503 else {})


def body_too_large(scope: Scope) -> Problem:
    limit = scope.get(MAX_BODY_SIZE_SCOPE_KEY)
    taken = f"at most {limit} bytes" if limit else "less"
    return Problem(413, "too_large", f"The body is larger than this call takes; send {taken} at once.")


def problem_response(problem: Problem, scope: Scope) -> Response:
    """The answer to the request of that scope."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": PHRASES.get(problem.status, "Client Closed Request"),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": scope.get("fovea.request_id", ""),
        **problem.extra,
    }
    if str(scope.get("path", "")).startswith("/v2"):
        # The one field that clients of the Open Inference Protocol read.
        body["error"] = problem.detail
    return Response(orjson.dumps(body), problem.status, problem.headers, PROBLEM_JSON)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of the application in the one form."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem.status == 500:
            log.error("request.failed", request_id=request_id_of(request), exc_info=error)
        elif type(error) in WORDS:
            log.warning("request.failed", code=problem.code, reason=str(error))
        return _respond(problem, request)

    async def answer_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        if error.status_code == 413:
            return _respond(body_too_large(request.scope), request)
        code = PHRASES[error.status_code].lower().replace(" ", "_")
        detail = f"{request.method} {shortened(request.url.path)}: {error.detail}"
        headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == 405 else error.headers
        return _respond(Problem(error.status_code, code, detail, headers or {}), request)

    async def answer_validation(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        return _respond(invalid_request(invalid_fields(error.errors(), _body_model(request))), request)

    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_validation)
    for kind in (
        Problem, ClientDisconnect, BrokerUnavailable, model_errors.ModelError, storage_errors.StorageError,
    ):  # fmt: skip
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Exception, answer)


def _allowed(request: Request) -> list[str]:
    """The methods of the path: each may be a route of its own, and the framework names those of the first only."""
    routes = request.app.router.routes
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def _body_model(request: Request) -> type[BaseModel] | None:
    """What the called route's JSON body is validated by, under the name that FastAPI's paths begin with."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return None if field is None else create_model("Request", body=(field.field_info.annotation, ...))


def _respond(problem: Problem, request: Request) -> Response:
    """The problem as the answer; its code is left in the scope, where the request's metrics find it."""
    request.scope[CODE] = problem.code
    return problem_response(problem, request.scope)


def request_id_of(request: Request) -> str:
    request_id: str = request.scope.get("fovea.request_id", "")
    return request_id
