"""What the bench needs of a server, be it Fovea or a peer."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.load import Target

Settings = Mapping[str, Any]


class ServerFailed(Exception):
    """A server did not start or ended; the text is its log's end."""


@dataclass(frozen=True)
class Running:
    """`cold_start_s` lasted from the start of its processes to the first right answer.

    `stages` gives running sums of what the server says of itself, where it says anything.
    """

    target: Target
    cold_start_s: float
    stages: Callable[[], Mapping[str, float]] | None = None


class Server(Protocol):
    """Has answered some photographs rightly when its block begins; nothing of it runs after the block."""

    @property
    def name(self) -> str: ...

    def start(self) -> AbstractContextManager[Running]:
        """Raises ServerFailed, NoAnswer and AnswerWrong."""
        ...
