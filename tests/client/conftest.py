"""The two clients, on which one suite runs."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from support.stack import Stack
from support.waited import Connect, connected


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients, closed with the test; the asynchronous one is called like the other."""
    with ExitStack() as opened:
        yield lambda *args, **kwargs: opened.enter_context(connected(request.param, *args, **kwargs))


@pytest.fixture
def fovea(stack: Stack, connect: Connect) -> Any:
    """Of a real gateway with a real inference worker and the model `colours`."""
    return connect(stack.url)


@pytest.fixture
def connect_to(connect: Connect, stack: Stack) -> Connect:
    return partial(connect, stack.url)
