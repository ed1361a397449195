"""One file over HTTP into a `.part` file beside its final name: resumed where it broke off, hashed as it streams.

Knows nothing of weights: the caller says what the sha256 must be.
"""

import contextlib
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, Protocol

Progress = Callable[[str, int, int | None], None]

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0
ATTEMPTS = 4
PAUSE_S = 0.2


class DownloadFailed(Exception):
    """The host could not be reached, refused, or broke off on every attempt."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class Downloaded:
    """A complete `.part` file. `stated` is the checksum header of the host, if it was asked for and came."""

    part: Path
    sha256: str
    size: int
    stated: str | None


def download(url: str, target: Path, *, header: str | None = None, progress: Progress | None = None) -> Downloaded:
    """Fetches `url` to `target` + `.part`, continuing a part that is there if the host still has the same file.

    Raises DownloadFailed; what has arrived stays in the part for the next try, unless the host has no such file.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadFailed("its address is not an http or https address")
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failure: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S * 2**attempt)
        try:
            return _transfer(url, target, part, header, progress)
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                discard(part)
            elif exc.code < 500 and exc.code not in (408, 429):
                raise DownloadFailed(f"the host answered {exc.code} {exc.reason}") from exc
            failure = exc
        except (OSError, http.client.HTTPException) as exc:
            failure = exc
    raise DownloadFailed(f"{ATTEMPTS} attempts failed, the last with: {failure}") from failure


def discard(part: Path) -> None:
    """Removes a part and the note of which file it is a part of."""
    part.unlink(missing_ok=True)
    _validator_of(part).unlink(missing_ok=True)


def _transfer(url: str, target: Path, part: Path, header: str | None, progress: Progress | None) -> Downloaded:
    digest = hashlib.sha256()
    have, validator = _resumable(part)
    headers = {"User-Agent": "fovea", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    opener = _Redirects(header)
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (download() refuses other schemes)
    with urllib.request.build_opener(opener).open(request, timeout=TIMEOUT_S) as response:
        stated = _stated(opener.stated or response.headers.get(header or ""))
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0
        total = _total(response.headers, have)
        if have:
            _hash_file(part, digest)
        else:
            _note_validator(part, response.headers)
        done = _write(response, part, digest, have, lambda n: progress and progress(target.name, n, total))
    if total is not None and done != total:
        raise http.client.IncompleteRead(b"", total - done)
    _validator_of(part).unlink(missing_ok=True)
    return Downloaded(part, digest.hexdigest(), done, stated)


def _write(response: Any, part: Path, digest: _Hash, done: int, report: Callable[[int], object]) -> int:
    report(done)
    with part.open("ab" if done else "wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            report(done)
    return done


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the checksum header of the first answer that has one: the last host lacks it."""

    def __init__(self, header: str | None) -> None:
        self.header = header
        self.stated: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if self.header and self.stated is None:
            self.stated = headers.get(self.header)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stated(value: str | None) -> str | None:
    """The sha256 in a header such as `"ab12..."`; a value of another form is no sha256."""
    if value is None:
        return None
    text = value.strip().removeprefix("W/").strip('"').lower()
    return text if len(text) == 64 and all(c in "0123456789abcdef" for c in text) else None


def _total(headers: Message, have: int) -> int | None:
    length = headers.get("Content-Length")
    return None if length is None else have + int(length)


def _validator_of(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _note_validator(part: Path, headers: Message) -> None:
    """Keeps the strong ETag, or else the date, so that only the same file is ever continued."""
    etag = headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    _validator_of(part).write_text(validator, "utf-8")


def _resumable(part: Path) -> tuple[int, str]:
    """Bytes that are there and the validator of their file; (0, "") where they cannot be continued."""
    with contextlib.suppress(FileNotFoundError):
        validator = _validator_of(part).read_text("utf-8")
        if validator:
            return part.stat().st_size, validator
    return 0, ""


def _hash_file(path: Path, digest: _Hash) -> None:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
