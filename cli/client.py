"""A client of Fovea's REST API. Knows the calls and their errors; nothing of terminals."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from cli.errors import ApiError, Unreachable
from cli.event_stream import EventStream
from models.formats import BEGIN_BYTES, media_type
from system.loopback import is_loopback

Json = dict[str, Any]

DEFAULT_URL = "http://127.0.0.1:8000"
TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})

_PASSING = frozenset({502, 503, 504})
_CHUNK = 2**20
_SETTLING_S = 600.0


class ApiClient:
    """Calls one Fovea. Every method raises ApiError for an error answer and Unreachable for none.

    Answers are the API's JSON objects. Thread-safe, as httpx's client is.
    """

    def __init__(self, url: str | None = None, key: str | None = None, timeout_s: float = 60.0) -> None:
        self.url = (url or os.environ.get("FOVEA_URL") or DEFAULT_URL).rstrip("/")
        secret = key or os.environ.get("FOVEA_KEY")
        try:
            address = httpx.URL(self.url)
        except httpx.InvalidURL as exc:
            raise Unreachable(f"{self.url} is not a URL: {exc}") from exc
        if address.scheme not in ("http", "https") or not address.host:
            raise Unreachable(f"{self.url} is not a URL of Fovea; one looks like {DEFAULT_URL}")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {secret}"} if secret else {},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            # A proxy of the environment cannot reach this machine's loopback.
            trust_env=not is_loopback(address.host),
        )

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def readiness(self) -> Json:
        """`GET /readyz`, whether ready (200) or not (503)."""
        response = self._send("GET", "/readyz")
        if response.status_code in (200, 503):
            answer = _json(response, self.url)
            if "status" in answer and not isinstance(answer["status"], int):
                return answer
        _raise_for_problem(response, self.url)
        raise Unreachable(f"what answers at {self.url} is not Fovea: its /readyz has no status")

    def classify(self, image: bytes, model: str, top_k: int = 5, precision: str = "auto") -> Json:
        """Classify one image; the answer's `predictions` has one element."""
        return self._call(
            "POST",
            f"/v1/models/{_path(model)}/classify",
            params={"top_k": top_k} | ({} if precision == "auto" else {"precision": precision}),
            content=image,
            headers={"Content-Type": media_type_of(image)},
        )

    def list_models(self) -> Iterator[Json]:
        return self._pages("/v1/models")

    def get_model(self, model: str) -> Json:
        return self._call("GET", f"/v1/models/{_path(model)}")

    def list_versions(self, model: str) -> Iterator[Json]:
        return self._pages(f"/v1/models/{_path(model)}/versions")

    def get_version(self, model: str, version: int) -> Json:
        return self._call("GET", _version(model, version))

    def publish(self, model: str, request: Json) -> Json:
        """Start a `publish` job: zoo weights to a served version; the answer is the job."""
        return self._create(f"/v1/models/{_path(model)}/versions", request)

    def get_variants(self, model: str, version: int) -> Json:
        """The precisions that the version is served in, and the report of each that was tried."""
        return self._call("GET", f"{_version(model, version)}/variants")

    def try_variants(self, model: str, version: int, request: Json) -> Json:
        """Start a `variants` job; the answer is the job."""
        return self._create(f"{_version(model, version)}/variants", request)

    def get_card(self, model: str, version: int, form: str = "md") -> str:
        """The version's card, as Markdown (`md`) or as a self-contained page (`html`)."""
        response = self._send("GET", f"{_version(model, version)}/card", params={"format": form})
        _raise_for_problem(response, self.url)
        return response.text

    def download_artifact(self, model: str, version: int, write: Callable[[bytes], object]) -> None:
        """The version's files as a zip, piece by piece to `write`; raises Unreachable where it is cut off."""
        with self._open("GET", f"{_version(model, version)}/artifact") as response:
            if not response.is_success:
                response.read()
            _raise_for_problem(response, self.url)
            for piece in response.iter_bytes(_CHUNK):
                write(piece)

    def delete_model(self, model: str, *, force: bool = False) -> None:
        """Delete all of a model; `force` with its aliases, with which it is refused otherwise."""
        self._delete(f"/v1/models/{_path(model)}", force=force)

    def delete_version(self, model: str, version: int, *, force: bool = False) -> None:
        """Delete a version; `force` with the aliases that point at it, with which it is refused otherwise."""
        self._delete(_version(model, version), force=force)

    def get_alias(self, model: str, alias: str) -> Json:
        """The version that an alias is at, the `previous` one that it would go back to, and its history."""
        return self._call("GET", _alias(model, alias))

    def set_alias(self, model: str, alias: str, version: int) -> Json:
        """Point an alias at a version; the answer is the model."""
        return self._call("PUT", _alias(model, alias), json={"version": version})

    def roll_back_alias(self, model: str, alias: str, present: int) -> Json:
        """Undo the last move of an alias that is at version `present`; the answer is the model."""
        return self._call("POST", f"{_alias(model, alias)}/rollback", json={"from": present})

    def delete_alias(self, model: str, alias: str) -> None:
        self._delete(_alias(model, alias))

    def finetune(self, request: Json, idempotency_key: str | None = None) -> Json:
        """Start a `finetune` job; the answer is the job."""
        return self._create("/v1/finetunes", request, idempotency_key)

    def create_dataset(
        self, archive: Iterable[bytes], size: int, name: str, on_fault: str = "skip", media_type: str = ""
    ) -> Json:
        """Send an archive of `size` bytes in pieces; the answer is the dataset with the `job` that checks it."""
        headers = {
            "Content-Type": media_type or "application/octet-stream",
            "Content-Length": str(size),
            "Idempotency-Key": str(uuid.uuid4()),
        }
        query = {"name": name, "on_fault": on_fault}
        # The answer comes when the archive is where blobs are kept, which may be far away.
        timeout = httpx.Timeout(_SETTLING_S, connect=5.0)
        return self._call("POST", "/v1/datasets", content=archive, headers=headers, params=query, timeout=timeout)

    def list_datasets(self, search: str | None = None) -> Iterator[Json]:
        """Datasets, the newest first."""
        return self._pages("/v1/datasets", {"search": search} if search else None)

    def get_dataset(self, dataset: str) -> Json:
        return self._call("GET", f"/v1/datasets/{_path(dataset)}")

    def get_report(self, dataset: str) -> Json:
        """What the check of the dataset found."""
        return self._call("GET", f"/v1/datasets/{_path(dataset)}/report")

    def delete_dataset(self, dataset: str) -> None:
        self._delete(f"/v1/datasets/{_path(dataset)}")

    def list_jobs(
        self, *, state: str | None = None, kind: str | None = None, page_size: int = 50
    ) -> Iterator[Json]:
        """Jobs, the newest first, fetched `page_size` at a time."""
        wanted = {"state": state, "kind": kind, "limit": str(page_size)}
        return self._pages("/v1/jobs", {name: value for name, value in wanted.items() if value})

    def get_job(self, job: str) -> Json:
        return self._call("GET", f"/v1/jobs/{_path(job)}")

    def cancel_job(self, job: str, on_cancel: str | None = None) -> Json:
        """Ask a job to end, and say what becomes of what it has learned so far: `keep_best` or `discard`.

        None leaves that to an earlier cancellation; without one it is discarded.
        """
        body = {"on_cancel": on_cancel} if on_cancel else None
        return self._call("POST", f"/v1/jobs/{_path(job)}/cancel", json=body)

    def follow_job(self, job: str, poll_s: float = 1.0, timeout_s: float = 60.0) -> Iterator[Json]:
        """The job, again whenever it has changed, until it has ended; the last one is in a terminal state.

        The server's events say when to look; where they cannot be had (a proxy that buffers), it is asked
        every `poll_s`. A Fovea that goes away meanwhile, for an update perhaps, may take `timeout_s` to return.
        """
        stream = EventStream(self._http, f"/v1/jobs/{_path(job)}/events")
        seen = self.get_job(job)
        yield seen
        heard_at = time.monotonic()
        while not is_over(seen):
            try:
                for _ in stream.wake_ups():
                    current, heard_at = self.get_job(job), time.monotonic()
                    if current != seen:
                        seen = current
                        yield current
                    if is_over(current):
                        return
            except (Unreachable, ApiError) as error:
                may_return = isinstance(error, Unreachable) or error.status in _PASSING
                if not may_return or time.monotonic() - heard_at > timeout_s:
                    raise
            time.sleep(poll_s)

    def _delete(self, path: str, *, force: bool = False) -> None:
        _raise_for_problem(self._send("DELETE", path, params={"force": "true"} if force else {}), self.url)

    def _create(self, path: str, request: Json, idempotency_key: str | None = None) -> Json:
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._call("POST", path, json=request, headers=headers)

    def list_audit(self, **filters: str | None) -> Iterator[Json]:
        """Who did what, the newest first. `filters` are `actor`, `action`, `subject` and `since`."""
        return self._pages("/v1/audit", {name: value for name, value in filters.items() if value})

    def _pages(self, path: str, params: Mapping[str, str] | None = None) -> Iterator[Json]:
        cursor: str | None = None
        while True:
            page = self._call("GET", path, params={**(params or {}), **({"cursor": cursor} if cursor else {})})
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def _call(self, method: str, path: str, **options: Any) -> Json:
        response = self._send(method, path, **options)
        _raise_for_problem(response, self.url)
        return _json(response, self.url)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._unreachable_raised(method, path):
            return self._http.request(method, path, **options)

    @contextlib.contextmanager
    def _open(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        with self._unreachable_raised(method, path), self._http.stream(method, path, **options) as response:
            yield response

    @contextlib.contextmanager
    def _unreachable_raised(self, method: str, path: str) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as exc:
            raise Unreachable(f"No Fovea answers at {self.url}; start one with `make run` or `fovea up`") from exc
        except httpx.TimeoutException as exc:
            raise Unreachable(f"Fovea at {self.url} did not answer {method} {path} in time") from exc
        except httpx.TransportError as exc:
            raise Unreachable(f"the connection to {self.url} broke: {exc or type(exc).__name__}") from exc


def is_over(job: Json) -> bool:
    """Whether the job's state is final."""
    return job.get("state") in TERMINAL_STATES


def media_type_of(image: bytes) -> str:
    """By the first bytes alone: a file called photo.json is no JSON request."""
    return media_type(image[:BEGIN_BYTES]) or "application/octet-stream"


def _path(part: str) -> str:
    return quote(part, safe="@:")


def _version(model: str, version: int) -> str:
    return f"/v1/models/{_path(model)}/versions/{version}"


def _alias(model: str, alias: str) -> str:
    return f"/v1/models/{_path(model)}/aliases/{_path(alias)}"


def _json(response: httpx.Response, url: str) -> Json:
    try:
        content = response.json()
    except ValueError as exc:
        raise Unreachable(f"what answers at {url} is not Fovea: {response.request.url.path} is not JSON") from exc
    if not isinstance(content, dict):
        raise Unreachable(f"what answers at {url} is not Fovea: {response.request.url.path} is not a JSON object")
    return content


def _raise_for_problem(response: httpx.Response, url: str) -> None:
    if response.is_success:
        return
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        call = f"{response.status_code} for {response.request.url.path}"
        raise Unreachable(f"what answers at {url} is not Fovea: {call}")
    problem = _json(response, url)
    detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        detail = _key_hint(url, has_key="authorization" in response.request.headers)
    raise ApiError(str(problem.get("code", "error")), detail, response.status_code, problem.get("request_id"))


def _key_hint(url: str, *, has_key: bool) -> str:
    """The server speaks of the header that this client sends; its user gives an option or a variable."""
    if has_key:
        return f"Fovea at {url} does not take this API key, which is unknown, expired or revoked: --key, FOVEA_KEY"
    return f"Fovea at {url} needs an API key: give it with --key, or in the variable FOVEA_KEY"
