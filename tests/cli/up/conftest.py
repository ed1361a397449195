"""Stand-in children: small real processes that behave as badly as a test needs."""

import asyncio
import io
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.up.child import ChildSpec, Stage
from cli.up.journal import Journal


class Book:
    """A journal and what was written into it."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.journal = Journal(file=self.file)

    @property
    def text(self) -> str:
        return self.file.getvalue()

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"what was waited for did not come; the journal says:\n{self.text}")
            await asyncio.sleep(0.02)

    async def says(self, words: str) -> None:
        await self.until(lambda: words in self.text)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def child(tmp_path: Path) -> Callable[..., ChildSpec]:
    """Makes a child that runs the given Python code."""

    def make(name: str, code: str, stage: Stage = Stage.WORKER, **options: Any) -> ChildSpec:
        file = tmp_path / f"{name}.py"
        file.write_text(textwrap.dedent(code))
        return ChildSpec(name, (sys.executable, str(file)), stage, {"PYTHONUNBUFFERED": "1"}, **options)

    return make
