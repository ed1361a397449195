"""An inference request's body while it arrives: JSON alone, JSON and a tensor behind it, or a bare image.

Neither the body nor its images are ever whole in memory; the JSON's skeleton is (see `service/json_images.py`).
"""

from collections.abc import AsyncIterator, Iterator
from math import prod
from typing import Any

import orjson
from fastapi import Request

from models.spec import INPUT
from models.validation import shortened
from service.errors import Problem
from service.intake import Reception, SentImage
from service.json_images import JsonText
from service.protocol.model import BYTES, pixels_shape
from service.protocol.request import InferBody, InferRequest, InputTensor, infer_request, parsed
from service.protocol.tensors import Elements, ImageReader, Pixels, malformed
from storage.registry import Version

HEADER_LENGTH = "inference-header-content-length"
MOST_HEADER_BYTES = 64 * 2**10
# Pixels as numbers: some six images of 224 x 224, of which each number takes Python's parser eight bytes.
MOST_JSON_BYTES = 4 * 2**20
EXPECTED = "send pixels behind the JSON (`binary_data_size`), or the images encoded, as base64."
BARE = InferBody(inputs=[InputTensor(name=INPUT, datatype=BYTES, shape=[1])])


async def read_infer(
    request: Request, version: Version, reception: Reception
) -> tuple[InferRequest, list[SentImage]]:
    """What was asked and its images, as many as its tensor's shape says.

    Raises:
        Problem: 400 for a malformed body, 409 for a precision that there is not, 413 too many or too large, 415
            for a compressed body, 422 for fields that are wrong, 429 when the bodies of all requests are too much.
        BrokerUnavailable: A large image cannot be passed on.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Problem(415, "unsupported_media_type", f"The body is {shortened(encoding)}; send it uncompressed.")
    length = _header_length(request.headers.get(HEADER_LENGTH))
    pieces = aiter(request.stream())
    if length is None:
        return await _from_json(pieces, version, reception)
    if length == 0:
        asked = infer_request(BARE, version, reception.limits.max_images)
        image = reception.image()
        async for piece in pieces:
            await image.write(piece)
        return asked, [await image.finish()]
    return await _behind_header(pieces, length, version, reception)


def reader_of(asked: InferRequest, version: Version, reception: Reception) -> ImageReader:
    """What makes images of the tensor's bytes."""
    if asked.prepared:
        return Pixels(reception, asked.images, prod(pixels_shape(version)))
    return Elements(reception, asked.images)


def pixels_of(numbers: Any) -> bytes:
    """From numbers, flat or nested. Raises Problem 400 where one is not from 0 to 255."""
    try:
        return bytes(_flat(numbers))
    except (TypeError, ValueError) as error:
        raise malformed(
            f"the tensor's data has something else than whole numbers from 0 to 255 ({error})"
        ) from None


async def _from_json(
    pieces: AsyncIterator[bytes], version: Version, reception: Reception
) -> tuple[InferRequest, list[SentImage]]:
    text = JsonText(reception, MOST_JSON_BYTES, EXPECTED)
    async for piece in pieces:
        await text.feed(piece)
    try:
        document = text.document()
    except Problem as problem:
        hint = "an image alone needs the header Inference-Header-Content-Length: 0"
        raise Problem(problem.status, problem.code, f"{problem.detail} Expected JSON; {hint}.") from problem
    body = parsed(document)
    asked = infer_request(body, version, reception.limits.max_images)
    _require_no_binary(asked)
    if text.cut_out.keys() & {body.id, *(output.name for output in body.outputs or ())}:
        raise malformed("a text that is no image has more than 256 bytes")
    return asked, await _images_in(body.inputs[0].data, asked, version, text, reception)


async def _behind_header(
    pieces: AsyncIterator[bytes], length: int, version: Version, reception: Reception
) -> tuple[InferRequest, list[SentImage]]:
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= length:
            break
    if len(head) < length:
        raise malformed(
            f"it has {len(head)} bytes; its JSON alone has {length}, by Inference-Header-Content-Length"
        )
    head, rest = head[:length], head[length:]
    asked = infer_request(parsed(_json(head)), version, reception.limits.max_images)
    if asked.binary_bytes is None:
        raise malformed(f"`binary_data_size` is missing among the parameters of the input {INPUT!r}")
    reader = reader_of(asked, version, reception)
    size = len(rest)
    await reader.feed(rest)
    async for piece in pieces:
        size += len(piece)
        await reader.feed(piece)
    if size != asked.binary_bytes:
        raise malformed(f"{size} bytes follow the JSON; its `binary_data_size` says {asked.binary_bytes}")
    return asked, await reader.finish()


async def _images_in(
    data: Any, asked: InferRequest, version: Version, text: JsonText, reception: Reception
) -> list[SentImage]:
    if data is None:
        raise malformed(f"the input {INPUT!r} has no `data`")
    if asked.prepared:
        reader = reader_of(asked, version, reception)
        await reader.feed(pixels_of(data))
        return await reader.finish()
    items = list(_flat(data))
    if len(items) != asked.images:
        raise malformed(f"the tensor's data has {len(items)} elements; its shape says {asked.images}")
    return [await text.image(item, f"element {number} of the data") for number, item in enumerate(items)]


def _flat(data: Any) -> Iterator[Any]:
    """What nested lists hold, in its order."""
    if isinstance(data, list):
        for item in data:
            if isinstance(item, list):
                yield from _flat(item)
            else:
                yield item
    else:
        yield data


def _header_length(sent: str | None) -> int | None:
    if sent is None:
        return None
    if not sent.isdecimal() or not sent.isascii() or len(sent) > 9 or int(sent) > MOST_HEADER_BYTES:
        raise malformed(
            f"Inference-Header-Content-Length is {sent[:20]!r}; expected the bytes of its JSON, "
            f"{MOST_HEADER_BYTES} at most, or 0 for an image without any"
        )
    return int(sent)


def _json(head: bytes) -> Any:
    try:
        return orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise malformed(f"its first {len(head)} bytes are not JSON: {error}") from error


def _require_no_binary(asked: InferRequest) -> None:
    if asked.binary_bytes is not None:
        raise malformed("it has a `binary_data_size`, but the header Inference-Header-Content-Length is missing")
