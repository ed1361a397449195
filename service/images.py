"""Images as clients send them: a raw body, multipart files, or base64 in JSON. Nothing is decoded here."""

from collections.abc import AsyncIterator

from fastapi import Request

from models.formats import ACCEPTED_MEDIA_TYPES, HEIF_MEDIA_TYPES, MEDIA_TYPES
from service.errors import Problem
from service.forms import images_of_form
from service.intake import ImageLimits, Reception, SentImage
from service.json_images import images_of_json

# The form's type is what curl sends with `--data-binary` when it is told no other.
UNTYPED = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded", "image/*"})


async def read_images(request: Request, reception: Reception) -> list[SentImage]:
    """The images of a request by its content type.

    Raises:
        Problem: 400 for a malformed body or no image, 413 too many or too large, 415 another content type, 429
            when the bodies of all requests are too much at once.
        BrokerUnavailable: A large image cannot be passed on.
    """
    sent_type = request.headers.get("content-type", "")
    content_type = sent_type.partition(";")[0].strip().lower()
    body = _body(request, reception)
    if content_type in ACCEPTED_MEDIA_TYPES or content_type in UNTYPED:
        image = reception.image()
        async for piece in body:
            await image.write(piece)
        return [await image.finish()]
    if content_type == "multipart/form-data":
        images = await images_of_form(sent_type, body, reception)
        _check_count(len(images), reception.limits, 'files in the form (with curl: -F "file=@photo.jpg")')
        return images
    if content_type == "application/json":
        images = await images_of_json(body, reception)
        _check_count(len(images), reception.limits, 'strings in "images"')
        return images
    raise Problem(415, "unsupported_media_type", _not_taken(content_type))


async def _body(request: Request, reception: Reception) -> AsyncIterator[bytes]:
    """The body as it comes; a piece is what one or two reads of the socket brought."""
    async for piece in request.stream():
        if reception.digest:
            reception.digest.update(piece)
        yield piece


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


def _not_taken(content_type: str) -> str:
    if content_type in HEIF_MEDIA_TYPES:
        return f"The body is {content_type}, which is not read: convert the picture to JPEG."
    return (
        f"The body is {content_type}; send one image as {', '.join(MEDIA_TYPES)} (with curl: "
        "--data-binary @photo.jpg), files as multipart/form-data (-F file=@photo.jpg), or "
        'application/json {"images": ["<base64>", ...]}.'
    )
