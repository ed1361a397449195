"""Server-Sent Events, read from bytes as they come: the part of the format that a stream of Fovea's has.

By https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerEvent:
    """One event; `id` is the last that was given by then, empty where none was."""

    event: str
    data: str
    id: str


class EventParser:
    """Pieces in, events out, wherever a piece ends."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_s: float | None = None
        self._rest = b""
        self._is_begun = False
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that are whole by now."""
        text = self._rest + piece
        if not self._is_begun:
            if b"\xef\xbb\xbf".startswith(text):
                self._rest = text
                return
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._is_begun = True
        # A line may end with CR LF, whose second half comes with the next piece.
        whole = text[:-1] if text.endswith(b"\r") else text
        lines = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + text[len(whole) :]
        for line in lines:
            if found := self._line(line.decode("utf-8", "replace")):
                yield found

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._end()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value) / 1000
        return None

    def _end(self) -> ServerEvent | None:
        """An empty line: the event is whole, if it has data."""
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        return ServerEvent(event, "\n".join(data), self.last_id) if data else None
