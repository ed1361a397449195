"""The asynchronous client with a synchronous face, so that one suite runs on both; jobs without a Fovea."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fovea_client import AsyncFovea, Fovea, Job
from fovea_client.operation import Resource

# Makes a client of a kind: its arguments are those of `Fovea`.
Connect = Callable[..., Any]


class Waited:
    """What is awaited in the end is waited for here; what comes from it is, too."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self.inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return self._waited(getattr(self.inner, name))

    def __repr__(self) -> str:
        return repr(self.inner)

    def __eq__(self, other: object) -> bool:
        return bool(self.inner == getattr(other, "inner", other))

    def __hash__(self) -> int:
        return id(self.inner)

    def _waited(self, found: Any) -> Any:
        if inspect.iscoroutine(found):
            return self._waited(self._runner.run(found))
        if isinstance(found, AsyncIterator):
            return self._items(found)
        if isinstance(found, Resource):
            return Waited(found, self._runner)
        if inspect.isroutine(found):
            return lambda *args, **kwargs: self._waited(found(*args, **kwargs))
        return found

    def _items(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(items, None)

        try:
            while (item := self._runner.run(following())) is not None:
                yield self._waited(item)
        finally:
            self._runner.run(items.aclose())  # type: ignore[attr-defined]


@contextmanager
def connected(kind: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """A client, `sync` or `async`, to be called as if it were the former."""
    if kind == "sync":
        with Fovea(*args, **kwargs) as fovea:
            yield fovea
        return
    with asyncio.Runner() as runner:
        awaited = AsyncFovea(*args, **kwargs)
        try:
            yield Waited(awaited, runner)
        finally:
            runner.run(awaited.aclose())


def job(found: dict[str, Any]) -> Job:
    """As an answer of the API, read without a Fovea behind it."""
    return Job.read({"id": "job_1", "kind": "finetune", **found}, _session=None)
