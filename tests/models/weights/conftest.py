"""A file server as the publishers' hosts are: ranges, validators, redirects, and the faults of a bad line."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest
from support.served import served


@dataclass
class FileServer:
    """Serves `files` by path. `cut_after` breaks the connection once after so many bytes of each listed path."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def ranges(self, path: str) -> list[str | None]:
        """The Range headers of the requests for a path, in order."""
        return [wanted for seen, wanted in self.requests if seen == path]


@pytest.fixture
def server() -> Iterator[FileServer]:
    shelf = FileServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            shelf.requests.append((self.path, self.headers.get("Range")))
            if self.path in shelf.redirects:
                self._answer(302, {"Location": shelf.redirects[self.path], **shelf.headers.get(self.path, {})})
            elif shelf.failures.get(self.path, 0) > 0:
                shelf.failures[self.path] -= 1
                self._answer(503, {})
            elif self.path in shelf.files:
                self._send_file(shelf.files[self.path])
            else:
                self._answer(404, {})

        def _send_file(self, content: bytes) -> None:
            etag = f'"{hashlib.md5(content).hexdigest()}"'
            wanted, start = self.headers.get("Range"), 0
            if wanted and self.headers.get("If-Range") in (None, etag):
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            body, status = content[start:], 206 if start else 200
            headers = {"ETag": etag, "Content-Length": str(len(body)), **shelf.headers.get(self.path, {})}
            self._begin(status, headers)
            cut = shelf.cut_after.pop(self.path, None)
            self.wfile.write(body if cut is None else body[:cut])
            if cut is not None:
                self.close_connection = True

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self._begin(status, {"Content-Length": "0", **headers})

        def _begin(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with served(Handler) as shelf.url:
        yield shelf
