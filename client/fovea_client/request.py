"""What is sent: one request of the API, before anybody has sent it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# A file of a form: field, name, bytes, media type.
FormFile = tuple[str, tuple[str, bytes, str]]


@dataclass(frozen=True)
class Body:
    """Bytes that are read while they are sent. `begin` begins at the first one, as often as it is called.

    `size` is in bytes.
    """

    size: int
    begin: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Request:
    """`timeout_s` is for each wait for the server, the session's own where it is None."""

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | Body | None = None
    files: Sequence[FormFile] = ()
    timeout_s: float | None = None

    def options(self) -> dict[str, Any]:
        """As httpx takes them, all but a `Body`."""
        options: dict[str, Any] = {"params": dict(self.params), "headers": dict(self.headers)}
        if self.json is not None:
            options["json"] = self.json
        if isinstance(self.content, bytes):
            options["content"] = self.content
        if self.files:
            options["files"] = list(self.files)
        return options
