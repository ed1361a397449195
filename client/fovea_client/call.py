"""A call: what to send, how to read the answer, and whether it may be sent twice."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from fovea_client.answer import Json, json_object
from fovea_client.request import Request

T = TypeVar("T")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a listing; `next_cursor` is None on the last."""

    items: Sequence[T]
    next_cursor: str | None


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of the API.

    `is_repeatable`: doing it twice is doing it once. `is_deletion`: where it may have been done, a 404 says that
    it was. `gives_up_at`: codes for which waiting is not the way out. `answers`: statuses that tell no error here.
    """

    request: Request
    parse: Callable[[httpx.Response], T]
    is_repeatable: bool = True
    is_deletion: bool = False
    gives_up_at: frozenset[str] = frozenset()
    answers: frozenset[int] = frozenset()

    def with_params(self, **params: str | int) -> "Call[T]":
        request = dataclasses.replace(self.request, params={**self.request.params, **params})
        return dataclasses.replace(self, request=request)

    def parsed_by(self, parse: Callable[[httpx.Response], Other]) -> "Call[Other]":
        """The same call with another reading of its answer."""
        return Call(self.request, parse, self.is_repeatable, self.is_deletion, self.gives_up_at, self.answers)


def as_json(read: Callable[[Json], T]) -> Callable[[httpx.Response], T]:
    """For an answer that is a JSON object."""
    return lambda response: read(json_object(response))


def as_page(read: Callable[[Json], T]) -> Callable[[httpx.Response], Page[T]]:
    """For a page of a listing."""

    def page(found: Json) -> Page[T]:
        return Page([read(item) for item in found.get("items", ())], found.get("next_cursor"))

    return as_json(page)


def as_it_is(found: Json) -> Json:
    return found


def as_text(response: httpx.Response) -> str:
    return response.text


def as_bytes(response: httpx.Response) -> bytes:
    return response.content


def nothing(_: Any) -> None:
    """For an answer without a body."""
