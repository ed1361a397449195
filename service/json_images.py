"""Images as base64 in JSON, `{"images": ["<base64>", ...]}` or another document, decoded while it arrives.

Long strings are cut out of the text and decoded piece by piece. What is left, the skeleton, is small whatever was
sent, and only that is parsed as JSON: neither the body nor what a parser would make of it is ever in memory.
"""

import binascii
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

import orjson

from service.errors import Problem
from service.intake import IncomingImage, Reception, SentImage

# Strings up to this stay in the skeleton.
SHORT_BYTES = 256
SKELETON_BYTES = 64 * 2**10
EXPECTED = 'expected {"images": ["<base64>", ...]} and nothing else of that size.'
# A quote ends the string; possessive, so that hostile text cannot make it try again.
SHORT = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
INSIDE = re.compile(rb'[^"\\]*+(?:\\(?:u[0-9a-fA-F]{4}|[^u])[^"\\]*+)*+')
# Base64 as some JSON encoders write it.
ESCAPES = ((b"\\/", b"/"), (b"\\u002b", b"+"), (b"\\u002f", b"/"), (b"\\u003d", b"="))
LONGEST_ESCAPE = 6


async def images_of_json(body: AsyncIterator[bytes], reception: Reception) -> list[SentImage]:
    """The images in the order of the list.

    Raises:
        Problem: 400 for what is not this JSON, 413 for too much of it.
    """
    text = JsonText(reception, SKELETON_BYTES, EXPECTED)
    async for piece in body:
        await text.feed(piece)
    listed = _images_in(text.document())
    if len(listed) > reception.limits.max_images:
        raise too_many(len(listed), reception)
    return [await text.image(item, f'"images"[{number}]') for number, item in enumerate(listed)]


def _images_in(document: Any) -> list[Any]:
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise Problem(
            400, "malformed_body", 'The JSON body needs a list of base64 strings: {"images": ["/9j/4AAQ..."]}.'
        )
    return images


class JsonText:
    """A document of which the skeleton has at most `skeleton_bytes`; `expected` says so to who sent more.

    `cut_out` has the long strings by what stands for them in the skeleton.
    """

    def __init__(self, reception: Reception, skeleton_bytes: int, expected: str) -> None:
        self.cut_out: dict[str, _Base64] = {}
        self._reception = reception
        self._skeleton_bytes, self._expected = skeleton_bytes, expected
        # Nobody can know it beforehand, so no string of a client's can stand for another.
        self._mark = secrets.token_hex(8)
        self._skeleton = bytearray()
        self._rest = b""
        self._string: _Base64 | None = None

    async def feed(self, piece: bytes) -> None:
        text, at = self._rest + piece, 0
        self._rest = b""
        while at < len(text):
            if self._string:
                at = await self._inside(self._string, text, at)
            else:
                at = self._outside(text, at)
            if self._rest:
                return

    def document(self) -> Any:
        """The skeleton, parsed. Raises Problem 400 where it is no JSON."""
        try:
            return orjson.loads(bytes(self._skeleton + self._rest))
        except orjson.JSONDecodeError as error:
            raise _not_json(str(error)) from error

    async def image(self, item: Any, where: str) -> SentImage:
        """The image that is at that place of the document. Raises Problem 400 where it is not base64."""
        try:
            if not isinstance(item, str):
                raise TypeError(f"expected a string, not {type(item).__name__}")
            string = self.cut_out.get(item)
            if string is None:
                string = _Base64(self._reception)
                await string.feed(item.encode(errors="replace"))
            return await string.finish()
        except (binascii.Error, TypeError) as error:
            raise Problem(400, "malformed_body", f"{where} is not base64: {error}.") from error

    def _outside(self, text: bytes, at: int) -> int:
        quote = text.find(b'"', at)
        self._keep(text[at : quote if quote >= 0 else len(text)])
        if quote < 0:
            return len(text)
        if short := SHORT.match(text, quote, quote + SHORT_BYTES):
            self._keep(short.group())
            return short.end()
        if len(text) - quote < SHORT_BYTES:
            self._rest = text[quote:]
            return len(text)
        if len(self.cut_out) >= self._reception.limits.max_images:
            raise too_many(len(self.cut_out) + 1, self._reception)
        name = f"{self._mark}{len(self.cut_out)}"
        self._string = self.cut_out[name] = _Base64(self._reception)
        self._keep(f'"{name}"'.encode())
        return quote + 1

    async def _inside(self, string: "_Base64", text: bytes, at: int) -> int:
        quote = text.find(b'"', at)
        end = len(text) if quote < 0 else quote
        if text.find(b"\\", at, end) >= 0:
            found = INSIDE.match(text, at)
            end = found.end() if found else at
        await string.feed(text[at:end])
        if text[end : end + 1] == b'"':
            self._string = None
            return end + 1
        if len(text) - end >= LONGEST_ESCAPE:
            raise _not_json(f"{text[end : end + LONGEST_ESCAPE]!r} in a string is no escape")
        # Of an escape only the beginning has come.
        self._rest = text[end:]
        return len(text)

    def _keep(self, part: bytes) -> None:
        self._skeleton += part
        if len(self._skeleton) > self._skeleton_bytes:
            detail = (
                f"Without its images the JSON body has more than {self._skeleton_bytes} bytes; {self._expected}"
            )
            raise Problem(413, "too_large", detail)


class _Base64:
    """One image as base64, or as a browser's data URL, which is base64 behind a comma."""

    def __init__(self, reception: Reception) -> None:
        self._image: IncomingImage = reception.image()
        self._error: binascii.Error | None = None
        self._is_begun = self._is_padded = False
        self._rest = b""

    async def feed(self, text: bytes) -> None:
        """The next of the string's text, with its escapes; what is wrong is told by `finish`."""
        if self._error or not text:
            return
        try:
            data = self._decoded(text)
        except binascii.Error as error:
            # The string may be somebody else's: it counts only if it is among the images.
            self._error = error
            return
        await self._image.write(data)

    async def finish(self) -> SentImage:
        """Raises binascii.Error."""
        if self._error:
            raise self._error
        if self._rest:
            raise binascii.Error("Incorrect padding")
        return await self._image.finish()

    def _decoded(self, text: bytes) -> bytes:
        if b"\\" in text:
            text = _unescaped(text)
        if not self._is_begun:
            self._is_begun = True
            if text.startswith(b"data:"):
                _, comma, text = text.partition(b",")
                if not comma:
                    raise binascii.Error("a data URL without a comma")
        if self._is_padded and text:
            raise binascii.Error("Excess data after padding")
        text = self._rest + text
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        data = binascii.a2b_base64(text[:whole], strict_mode=True)
        self._is_padded = text[:whole].endswith(b"=")
        return data


def _unescaped(text: bytes) -> bytes:
    for escape, character in ESCAPES:
        text = text.replace(escape, character).replace(escape.upper().replace(b"\\U", b"\\u"), character)
    if b"\\" in text:
        raise binascii.Error("Only base64 data is allowed")
    return text


def _not_json(why: str) -> Problem:
    return Problem(400, "malformed_body", f"The body is not JSON: {why}.")


def too_many(count: int, reception: Reception) -> Problem:
    most = reception.limits.max_images
    return Problem(
        413,
        "too_many_images",
        f"The request holds {count} images or more; at most {most} are taken at once. Send several requests.",
    )
