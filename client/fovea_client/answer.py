"""What came back: an error as its exception, JSON as JSON, another program's answer as none of Fovea's."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from fovea_client.errors import ApiError, Unauthorized, Unreachable, class_of

Json = dict[str, Any]

PROBLEM_JSON = "application/problem+json"
# What a proxy says in the place of a Fovea that is being restarted.
PASSING = frozenset({502, 503, 504})


class NotFoveasAnswer(Exception):
    """The answer is none that Fovea gives; the text says in which way."""


def json_object(response: httpx.Response) -> Json:
    """Raises NotFoveasAnswer."""
    try:
        content = response.json()
    except ValueError as error:
        raise NotFoveasAnswer(f"{response.request.url.path} is not JSON") from error
    if not isinstance(content, dict):
        raise NotFoveasAnswer(f"{response.request.url.path} is not a JSON object")
    return content


def problem_of(
    response: httpx.Response, url: str, answers: frozenset[int] = frozenset()
) -> ApiError | Unreachable | None:
    """None for a success, and for a status of `answers`. Raises NotFoveasAnswer for a problem that is none."""
    if response.is_success:
        return None
    if not response.headers.get("content-type", "").startswith(PROBLEM_JSON):
        if response.status_code in answers:
            return None
        call = f"{response.status_code} for {response.request.url.path}"
        return Unreachable(not_fovea(url, call), may_pass=response.status_code in PASSING)
    problem = json_object(response)
    code = str(problem.get("code", "error"))
    kind = class_of(response.status_code, code)
    detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    if kind is Unauthorized:
        detail = _key_hint(url, has_key="authorization" in response.request.headers)
    return kind(
        code,
        detail,
        response.status_code,
        problem.get("request_id"),
        tuple(problem.get("errors") or ()),
        retry_after_s(response),
    )


def not_fovea(url: str, what: str) -> str:
    return f"what answers at {url} is not Fovea: {what}"


def retry_after_s(response: httpx.Response) -> float | None:
    """The seconds that `Retry-After` says, which may give them or a date."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _key_hint(url: str, *, has_key: bool) -> str:
    """The server speaks of the header that this client sends; its user gives an argument or a variable."""
    if has_key:
        return f"Fovea at {url} does not take this API key, which is unknown, expired or revoked: key=, FOVEA_KEY"
    return f"Fovea at {url} needs an API key: give it with key=, or in the variable FOVEA_KEY"
