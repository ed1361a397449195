"""A model file as a form's part, streamed to the disk under a running limit, with what its sender says of it."""

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

from models.uploaded.kind import BEGIN_BYTES, EXPECTED, FileKind, kind_of, no_model
from models.validation import InvalidField, InvalidFields, invalid_fields, shortened
from service.errors import Problem, invalid_request
from service.form_file import receive_form
from service.forms import Part
from service.uploads import check_space, too_large
from system.hidden import hidden_character
from system.scratch import scratch_folder
from workers.contract.jobs.model_file import UploadOptions

FILE, OPTIONS, LABELS = "file", "options", "labels"
# A hundred thousand labels are two of them.
MOST_TEXT_BYTES = 4 * 2**20
# The form's own lines beside its parts.
FORM_BYTES = 2 * MOST_TEXT_BYTES + 2**16
MOST_PARTS = 64
LONGEST_NAME = 100
HOW = 'curl -F file=@model.onnx -F labels=@labels.txt -F \'options={"preprocessing": "imagenet"}\' URL'


@dataclass(frozen=True)
class ModelUpload:
    """`name` is the file's, as its sender has it, in characters that can be read."""

    path: Path
    name: str
    kind: FileKind
    size: int
    sha256: str
    options: UploadOptions


@dataclass
class _Form:
    """What has come so far; the file itself is on the disk."""

    file: BinaryIO
    max_bytes: int
    name: str | None = None
    kind: FileKind | None = None
    size: int = 0
    begin: bytes = b""
    texts: dict[str, bytearray] = field(default_factory=dict)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _part: str | None = None

    def begins(self, part: Part) -> None:
        if part.field not in (FILE, OPTIONS, LABELS):
            raise _wrong(
                shortened(part.field), f"there is no such part; the parts are {FILE}, {LABELS}, {OPTIONS}"
            )
        if part.field in self.texts or (part.field == FILE and self.name is not None):
            raise _wrong(part.field, "it is there twice; expected one")
        if part.field == FILE:
            if part.filename is None:
                raise _wrong(FILE, f"it is a text; expected a file: {HOW}")
            self.name = part.filename
        else:
            self.texts[part.field] = bytearray()
        self._part = part.field

    def brings(self, data: bytes) -> bytes:
        """What of it belongs to the file."""
        if self._part == FILE:
            self.size += len(data)
            if self.size > self.max_bytes:
                raise too_large(self.max_bytes)
            if len(self.begin) < BEGIN_BYTES:
                self.begin += data[: BEGIN_BYTES - len(self.begin)]
                if len(self.begin) == BEGIN_BYTES:
                    self.judge()
            return data
        text = self.texts[str(self._part)]
        text += data
        if len(text) > MOST_TEXT_BYTES:
            raise Problem(
                413, "too_large", f"{self._part} has more than the {MOST_TEXT_BYTES} bytes that are taken."
            )
        return b""

    def judge(self) -> FileKind:
        """Told by its first bytes, before the rest has come."""
        self.kind = kind = kind_of(self.begin)
        if kind is None:
            raise Problem(415, "unsupported_media_type", f"The file is no model: {no_model(self.begin)}.")
        return kind


@asynccontextmanager
async def received_model(request: Request, folder: Path, max_bytes: int) -> AsyncIterator[ModelUpload]:
    """The form's file in `folder`, which is gone when the block ends, whatever happened.

    Raises:
        Problem: 415 for another body or another file, 400 for a malformed form or an empty file, 413 above
            `max_bytes`, 422 for options that are wrong, 507 when the disk would fill up.
    """
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        detail = (
            f"The body is {shortened(content_type)}; expected a form with a model file ({HOW}), or, for weights "
            "of the "
            "zoo, JSON with the header Content-Type: application/json."
        )
        raise Problem(415, "unsupported_media_type", detail)
    declared = int(request.headers.get("content-length", 0))
    if declared > max_bytes + FORM_BYTES:
        raise too_large(max_bytes)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    check_space(folder, declared)
    async with contextmanager_in_threadpool(scratch_folder(folder)) as scratch:
        with (scratch / "model").open("wb") as file:
            form = _Form(file, max_bytes)
            await receive_form(request, form, MOST_PARTS, folder)
        yield ModelUpload(
            Path(file.name),
            *await asyncio.to_thread(_judged, form),
            form.size,
            form.digest.hexdigest(),
            await asyncio.to_thread(_options_of, form),
        )


def _judged(form: _Form) -> tuple[str, FileKind]:
    if form.name is None:
        raise _wrong(FILE, f"it is missing; expected {EXPECTED}: {HOW}")
    if not form.size:
        raise Problem(400, "empty_body", "The file is empty; send the model's bytes (with curl: -F file=@FILE).")
    kind = form.kind or form.judge()
    return _readable(form.name, kind), kind


def _readable(name: str, kind: FileKind) -> str:
    """The file's own name, for cards and messages; never a path, and nothing that is not seen."""
    own = name.replace("\\", "/").rpartition("/")[2][-LONGEST_NAME:]
    return own if own.strip() and not hidden_character(own) else f"model.{kind}"


def _options_of(form: _Form) -> UploadOptions:
    """Raises Problem 422 that names each wrong field."""
    given: object = {}
    if text := form.texts.get(OPTIONS):
        try:
            given = orjson.loads(bytes(text))
        except orjson.JSONDecodeError as error:
            raise _wrong(OPTIONS, f"it is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise _wrong(OPTIONS, f"got {shortened(repr(given)[:100])}, expected an object of fields")
    if (lines := form.texts.get(LABELS)) is not None:
        if "labels" in given:
            raise _wrong(LABELS, "they are in the options as well; give them once")
        given["labels"] = _lines_of(bytes(lines))
    try:
        return UploadOptions.model_validate(given)
    except ValidationError as error:
        raise invalid_request(invalid_fields(error.errors(), UploadOptions, OPTIONS)) from error


def _lines_of(text: bytes) -> list[str]:
    """A label a line; the end of the last one makes none."""
    try:
        lines = text.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise _wrong(LABELS, f"it is not UTF-8 text: {error.reason} at byte {error.start}") from error
    return lines[:-1] if lines and not lines[-1] else lines


def _wrong(part: str, message: str) -> Problem:
    return invalid_request(InvalidFields((InvalidField(part, message),)))
