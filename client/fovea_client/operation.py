"""A call of the client, written once: with `Fovea` it returns its result, with `AsyncFovea` something to await.

Which of the two is a matter of types (`Resource[Sync]`, `Resource[Async]`) and of the session that takes the
steps.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, overload

from fovea_client.plan import Feed, Plan

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from fovea_client.session import Session
else:
    from typing import TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Sync:
    """Marks what waits for its results."""


class Async:
    """Marks what is awaited."""


if TYPE_CHECKING:
    Mode = TypeVar("Mode", Sync, Async, default=Sync)
else:
    Mode = TypeVar("Mode")


class Resource(Generic[Mode]):
    """What has operations: a part of the API, or a job."""

    _session: "Session"


class operation(Generic[P, T]):
    """A method that is written as a plan and called as a method."""

    def __init__(self, plan: Callable[Concatenate[Any, P], Plan[T]]) -> None:
        self.plan = plan
        self._signature = _without_self(plan)
        self.__doc__ = plan.__doc__

    @overload
    def __get__(self, resource: None, owner: object) -> "operation[P, T]": ...
    @overload
    def __get__(self, resource: Resource[Sync], owner: object) -> Callable[P, T]: ...
    @overload
    def __get__(self, resource: Resource[Async], owner: object) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, resource: Any, owner: object) -> Any:
        if resource is None:
            return self

        @functools.wraps(self.plan)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return resource._session.run(self.plan(resource, *args, **kwargs))

        return _signed(call, self._signature)


class listing(Generic[P, T]):
    """A method that is written as a feed, and whose items are iterated over."""

    def __init__(self, feed: Callable[Concatenate[Any, P], Feed[T]]) -> None:
        self.feed = feed
        self._signature = _without_self(feed)
        self.__doc__ = feed.__doc__

    @overload
    def __get__(self, resource: None, owner: object) -> "listing[P, T]": ...
    @overload
    def __get__(self, resource: Resource[Sync], owner: object) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, resource: Resource[Async], owner: object) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, resource: Any, owner: object) -> Any:
        if resource is None:
            return self

        @functools.wraps(self.feed)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return resource._session.iterate(self.feed(resource, *args, **kwargs))

        return _signed(call, self._signature)


def _without_self(function: Callable[..., object]) -> inspect.Signature:
    """What `help` shows; what comes back is the result of the plan, which is told by types alone."""
    signature = inspect.signature(function)
    _, *parameters = signature.parameters.values()
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def _signed(call: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call
