"""What a synchronous and an asynchronous client have in common: address, patience, the answer to a call."""

import contextlib
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, TypeVar

import httpx

from fovea_client.answer import NotFoveasAnswer, not_fovea, problem_of
from fovea_client.call import Call, Page
from fovea_client.errors import ApiError, FoveaError, NotFound, Unreachable
from fovea_client.plan import Emit, Feed, Opened, Plan, Sleep, opened, send
from fovea_client.request import Request

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 5.0
# Where nothing has ever answered there is most likely nothing: a wrong address is told soon.
FIRST_CONTACT_S = 3.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE = 429, 503


class Session(ABC):
    """`patience_s` is how long a call may take in all with its repetitions; 0: nothing is repeated."""

    def __init__(self, url: str | None, key: str | None, timeout_s: float, patience_s: float) -> None:
        self.url = (url or os.environ.get("FOVEA_URL") or DEFAULT_URL).rstrip("/")
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._key = key or os.environ.get("FOVEA_KEY")
        self._has_answered = False
        try:
            self._address = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise Unreachable(f"{self.url} is not a URL: {error}") from error
        if self._address.scheme not in ("http", "https") or not self._address.host:
            raise Unreachable(f"{self.url} is not a URL of Fovea; one looks like {DEFAULT_URL}")
        if self._address.password:
            # From here on the URL is only shown: in errors, which end up in logs.
            self.url = str(self._address.copy_with(password="...")).rstrip("/")  # noqa: S106

    @abstractmethod
    def run(self, plan: Plan[Any]) -> Any:
        """The plan's result, or something to await it by."""

    @abstractmethod
    def iterate(self, feed: Feed[Any]) -> Any:
        """The feed's items, as an iterator or an asynchronous one."""

    def answer(self, call: Call[T]) -> Plan[T]:
        """Sent, and again while that is safe and may help. Raises ApiError, Unreachable."""
        response = yield from self._patiently(call, send)
        with self._its_answer():
            return call.parse(response)

    def opened(self, call: Call[Any]) -> Plan[Opened]:
        """As `answer`, with the body still to be read."""
        answer: Opened = yield from self._patiently(call, opened)
        return answer

    def items(self, pages: Call[Page[T]]) -> Feed[T]:
        """All items of a listing, page after page."""
        page = yield from self.answer(pages)
        while True:
            for item in page.items:
                yield Emit(item)
            if not page.next_cursor:
                return None
            page = yield from self.answer(pages.with_params(cursor=page.next_cursor))

    @contextlib.contextmanager
    def errors_told(self, request: Request) -> Iterator[None]:
        """The one place that knows httpx's errors."""
        try:
            yield
        except httpx.ConnectError as error:
            text = f"No Fovea answers at {self.url}; start one with `make run` or `fovea up`"
            raise Unreachable(text, was_sent=False, may_pass=True) from error
        except httpx.TimeoutException as error:
            text = f"Fovea at {self.url} did not answer {request.method} {request.path} in time"
            was_sent = not isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout))
            raise Unreachable(text, was_sent=was_sent, may_pass=True) from error
        except httpx.TransportError as error:
            text = f"the connection to {self.url} broke: {error or type(error).__name__}"
            raise Unreachable(text, may_pass=True) from error

    def _http_options(self, verify: Any) -> dict[str, Any]:
        return {
            "base_url": self._address,
            "headers": {"Authorization": f"Bearer {self._key}"} if self._key else {},
            "timeout": self._timeout(self.timeout_s),
            "verify": verify,
            # A proxy of the environment cannot reach this machine's loopback.
            "trust_env": not is_loopback(self._address.host),
        }

    @staticmethod
    def _timeout(timeout_s: float) -> httpx.Timeout:
        return httpx.Timeout(timeout_s, connect=CONNECT_S)

    def _patiently(self, call: Call[Any], sending: Any) -> Plan[Any]:
        began, repetition, may_be_done = time.monotonic(), 0, False
        while True:
            try:
                answer = yield from sending(call.request)
                response = answer.response if isinstance(answer, Opened) else answer
                with self._its_answer():
                    problem: FoveaError | None = problem_of(response, self.url, call.answers)
            except Unreachable as error:
                problem = error
            self._has_answered |= not isinstance(problem, Unreachable)
            if problem is None or (may_be_done and call.is_deletion and isinstance(problem, NotFound)):
                return answer
            pause = pause_before_repeating(problem, call, repetition)
            if pause is None or time.monotonic() + pause > began + self._patience():
                raise problem
            may_be_done |= _may_be_done(problem)
            repetition += 1
            yield Sleep(pause)

    def _patience(self) -> float:
        return self.patience_s if self._has_answered else min(self.patience_s, FIRST_CONTACT_S)

    @contextlib.contextmanager
    def _its_answer(self) -> Iterator[None]:
        try:
            yield
        except NotFoveasAnswer as error:
            raise Unreachable(not_fovea(self.url, str(error))) from error


def pause_before_repeating(problem: FoveaError, call: Call[Any], repetition: int) -> float | None:
    """In seconds; None where the call must not be repeated, or where that would change nothing.

    What was surely not done may be repeated in any case: a refusal for want of room, a connection that never was.
    Anything else only where doing it twice is doing it once.
    """
    backoff: float = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2**repetition) * random.uniform(0.75, 1.25)
    if isinstance(problem, Unreachable):
        return backoff if problem.may_pass and (call.is_repeatable or not problem.was_sent) else None
    if not isinstance(problem, ApiError) or problem.code in call.gives_up_at:
        return None
    if problem.status == TOO_MANY_REQUESTS and problem.retry_after_s is not None:
        return _after(problem.retry_after_s, backoff)
    if problem.status == SERVICE_UNAVAILABLE and call.is_repeatable:
        return _after(problem.retry_after_s or 0.0, backoff)
    return None


def _after(told_s: float, backoff: float) -> float:
    """Somewhat later than told, and not all at once: others were told the same."""
    return told_s * random.uniform(1.0, 1.2) if told_s else backoff


def _may_be_done(problem: FoveaError) -> bool:
    """Whether the server may have done what was asked, although it did not say so."""
    if isinstance(problem, Unreachable):
        return problem.was_sent
    return isinstance(problem, ApiError) and problem.status == SERVICE_UNAVAILABLE


def is_loopback(host: str) -> bool:
    """True for `localhost` and for an address of loopback, IPv4 or IPv6; any other name may lead anywhere."""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"
