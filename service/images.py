"""Images as clients send them: a raw body, multipart files, or base64 in JSON. Nothing is decoded here."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from models.formats import ACCEPTED_MEDIA_TYPES, BEGIN_BYTES, HEIF_MEDIA_TYPES, MEDIA_TYPES, image_format, no_image
from service.errors import Problem

# The form's type is what curl sends with `--data-binary` when it is told no other.
UNTYPED = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded", "image/*"})


@dataclass(frozen=True)
class SentImage:
    """One image of a request: its bytes, or why they are not an image. `name` is the client's, if it gave one."""

    name: str | None
    data: bytes
    problem: Problem | None = None


@dataclass(frozen=True)
class ImageLimits:
    max_images: int
    max_image_bytes: int


async def read_images(request: Request, limits: ImageLimits) -> list[SentImage]:
    """The images of a request by its content type.

    Raises:
        Problem: 400 for a malformed body or no image, 413 too many or too large, 415 another content type.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in ACCEPTED_MEDIA_TYPES or content_type in UNTYPED:
        return [_checked(None, await request.body(), limits)]
    if content_type == "multipart/form-data":
        return await _from_form(request, limits)
    if content_type == "application/json":
        return _from_json(await request.body(), limits)
    raise Problem(415, "unsupported_media_type", _not_taken(content_type))


class InMemoryParser(MultiPartParser):
    """Bodies are bounded, and every image is needed in memory: a detour over the disk would only cost time."""

    spool_max_size = 2**62


async def _from_form(request: Request, limits: ImageLimits) -> list[SentImage]:
    if "idempotency-key" in request.headers:
        # Keeps the body for the key's fingerprint; otherwise its images would be in memory twice.
        await request.body()
    try:
        form = await InMemoryParser(
            request.headers, request.stream(), max_files=limits.max_images * 2, max_fields=16
        ).parse()
    except MultiPartException as error:
        raise Problem(400, "malformed_body", f"The multipart body: {error.message}") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        _check_count(len(files), limits, 'files in the form (with curl: -F "file=@photo.jpg")')
        return [_checked(file.filename, await file.read(), limits) for file in files]
    finally:
        await form.close()


def _from_json(body: bytes, limits: ImageLimits) -> list[SentImage]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "malformed_body", f"The body is not JSON: {error}.") from error
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise Problem(
            400, "malformed_body", 'The JSON body needs a list of base64 strings: {"images": ["/9j/4AAQ..."]}.'
        )
    _check_count(len(images), limits, 'strings in "images"')
    return [_from_base64(n, text, limits) for n, text in enumerate(images)]


def _from_base64(position: int, text: Any, limits: ImageLimits) -> SentImage:
    try:
        # A browser's data URL is base64 behind a comma.
        encoded = text.rpartition(",")[2] if text.startswith("data:") else text
        return _checked(None, base64.b64decode(encoded, validate=True), limits)
    except (binascii.Error, AttributeError, ValueError) as error:
        raise Problem(400, "malformed_body", f'"images"[{position}] is not base64: {error}.') from error


def _check_count(count: int, limits: ImageLimits, what: str) -> None:
    if count == 0:
        raise Problem(400, "no_image", f"The request holds no image; expected {what}.")
    if count > limits.max_images:
        raise Problem(
            413,
            "too_many_images",
            f"The request holds {count} images; at most {limits.max_images} are taken at once. "
            "Send several requests.",
        )


def _checked(name: str | None, data: bytes, limits: ImageLimits) -> SentImage:
    if len(data) > limits.max_image_bytes:
        detail = f"The image has {len(data)} bytes; at most {limits.max_image_bytes} are taken."
        return SentImage(name, b"", Problem(413, "too_large", detail))
    if image_format(data[:BEGIN_BYTES]) is None:
        reason = no_image(data[:BEGIN_BYTES])
        return SentImage(name, b"", Problem(400, "not_an_image", f"{reason[0].upper()}{reason[1:]}."))
    return SentImage(name, data)


def _not_taken(content_type: str) -> str:
    if content_type in HEIF_MEDIA_TYPES:
        return f"The body is {content_type}, which is not read: convert the picture to JPEG."
    return (
        f"The body is {content_type}; send one image as {', '.join(MEDIA_TYPES)} (with curl: "
        "--data-binary @photo.jpg), files as multipart/form-data (-F file=@photo.jpg), or "
        'application/json {"images": ["<base64>", ...]}.'
    )
