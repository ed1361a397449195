"""What a revision is asked for: changes as JSON, or a form with changes and an archive of images, streamed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson
from fastapi import Request
from fastapi.concurrency import contextmanager_in_threadpool
from pydantic import ValidationError

from models.formats import BEGIN_BYTES, archive_kind, no_archive
from models.validation import InvalidField, InvalidFields, invalid_fields, shortened
from service.errors import Problem, invalid_request
from service.form_file import receive_form
from service.forms import Part
from service.uploads import Upload, check_space, gathered, too_large
from system.scratch import scratch_folder
from workers.contract.revisions import RevisionOptions

CHANGES, ARCHIVE = "changes", "archive"
# As many changes as are taken, with long paths.
MOST_CHANGES_BYTES = 64 * 2**20
MOST_PARTS = 2
HOW = "curl -F changes=@changes.json -F archive=@more.zip URL"


@dataclass(frozen=True)
class RevisionUpload:
    """The changes, and the archive where one was sent. `sha256` is that of both, however they were sent."""

    options: RevisionOptions
    archive: Upload | None

    @property
    def sha256(self) -> str:
        told = [self.archive and self.archive.sha256, self.options.model_dump(mode="json")]
        return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass
class _Form:
    """What has come so far; the archive itself is on the disk."""

    file: BinaryIO
    max_bytes: int
    changes: bytearray | None = None
    has_archive: bool = False
    size: int = 0
    begin: bytes = b""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _is_archive: bool = False

    def begins(self, part: Part) -> None:
        if part.field not in (CHANGES, ARCHIVE):
            raise _wrong(shortened(part.field), f"there is no such part; the parts are {CHANGES}, {ARCHIVE}")
        self._is_archive = part.field == ARCHIVE
        if self.has_archive if self._is_archive else self.changes is not None:
            raise _wrong(part.field, "it is there twice; expected one")
        if not self._is_archive:
            self.changes = bytearray()
            return
        if part.filename is None:
            raise _wrong(ARCHIVE, f"it is a text; expected a file: {HOW}")
        self.has_archive = True

    def brings(self, data: bytes) -> bytes:
        """What of it belongs to the archive."""
        if not self._is_archive:
            self.changes = (self.changes or bytearray()) + data
            _check_length(len(self.changes))
            return b""
        self.size += len(data)
        if self.size > self.max_bytes:
            raise too_large(self.max_bytes)
        if len(self.begin) < BEGIN_BYTES:
            self.begin += data[: BEGIN_BYTES - len(self.begin)]
            if len(self.begin) == BEGIN_BYTES:
                self.judge()
        return data

    def judge(self) -> None:
        """Told by its first bytes, before the rest has come."""
        if archive_kind(self.begin) is None:
            detail = f"The archive cannot be images to add: {no_archive(self.begin)}."
            raise Problem(415, "unsupported_media_type", detail)


@asynccontextmanager
async def received_revision(request: Request, folder: Path, max_bytes: int) -> AsyncIterator[RevisionUpload]:
    """What was sent; an archive lies in `folder`, and is gone when the block ends, whatever happened.

    Raises:
        Problem: 415 for another body or no archive, 400 for malformed JSON or a malformed form or an empty
            archive, 413 above `max_bytes`, 422 for changes that are wrong, 507 when the disk would fill up.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        declared = int(request.headers.get("content-length", 0))
        if declared > max_bytes + MOST_CHANGES_BYTES:
            raise too_large(max_bytes)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        check_space(folder, declared)
        async with contextmanager_in_threadpool(scratch_folder(folder)) as scratch:
            with (scratch / "archive").open("wb") as file:
                form = _Form(file, max_bytes)
                await receive_form(request, form, MOST_PARTS, folder)
            yield await asyncio.to_thread(_upload_of, form)
    elif kind in ("", "application/json") or kind.endswith("+json"):
        body = bytearray()
        async for piece in gathered(request.stream()):
            body += piece
            _check_length(len(body))
        yield RevisionUpload(await asyncio.to_thread(_options_of, bytes(body), "body"), None)
    else:
        detail = f"The body is {shortened(content_type)}; expected JSON, or a form ({HOW})."
        raise Problem(415, "unsupported_media_type", detail)


def _upload_of(form: _Form) -> RevisionUpload:
    options = _options_of(bytes(form.changes or b"{}"), CHANGES)
    if not form.has_archive:
        return RevisionUpload(options, None)
    if not form.size:
        raise Problem(400, "empty_body", f"The archive is empty; send its bytes: {HOW}.")
    form.judge()
    return RevisionUpload(options, Upload(Path(form.file.name), form.size, form.digest.hexdigest()))


def _options_of(text: bytes, where: str) -> RevisionOptions:
    """Raises Problem 400 for what is no JSON, and 422 that names each wrong field."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "malformed_body", f"The changes are not JSON: {error}") from error
    try:
        return RevisionOptions.model_validate(given)
    except ValidationError as error:
        raise invalid_request(invalid_fields(error.errors(), RevisionOptions, where)) from error


def _check_length(count: int) -> None:
    if count > MOST_CHANGES_BYTES:
        detail = f"The changes have more than the {MOST_CHANGES_BYTES} bytes that are taken: make two revisions."
        raise Problem(413, "too_large", detail)


def _wrong(part: str, message: str) -> Problem:
    return invalid_request(InvalidFields((InvalidField(part, message),)))
