"""The files of a multipart body, passed on while they arrive: they need neither a disk nor memory for all."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import Problem
from service.intake import IncomingImage, Reception, SentImage

# Fields that are no files are dropped, but not any number of them.
MOST_FIELDS = 16
HEADER = b"content-disposition"


class Part(NamedTuple):
    """One part of a form where it begins; `filename` is None for a field that is no file."""

    field: str
    filename: str | None


# A part where it begins, its bytes, None where it ends.
Event = Part | bytes | None


async def images_of_form(content_type: str, body: AsyncIterator[bytes], reception: Reception) -> list[SentImage]:
    """The files in their order.

    Raises:
        Problem: 400 for a malformed body, 413 for more than twice as many files as are taken.
    """
    files = FormReader(content_type, most=2 * reception.limits.max_images)
    images: list[SentImage] = []
    image: IncomingImage | None = None
    async for piece in body:
        for event in files.feed(piece):
            if isinstance(event, Part):
                image = reception.image(event.filename)
            elif image is None:
                continue
            elif event is not None:
                await image.write(event)
            else:
                images.append(await image.finish())
                image = None
    files.close()
    return images


class FormReader:
    """The parser's callbacks, which cannot wait, as events that can be waited for.

    Fields that are no files are dropped, but `with_fields`. Raises Problem 400 for a malformed body, 413 for more
    than `most` files.
    """

    def __init__(self, content_type: str, most: int, *, with_fields: bool = False) -> None:
        self._most = most
        self._with_fields = with_fields
        self._count = self._fields = 0
        self._events: list[Event] = []
        self._is_passed_on = False
        self._header, self._value, self._disposition = b"", b"", b""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise _malformed("its content type names no boundary.")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                },
            )
        except FormParserError as error:
            raise _malformed(f"{error}.") from error

    def feed(self, piece: bytes) -> list[Event]:
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(f"{error}.") from error
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise _malformed(f"{error}.") from error

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == HEADER:
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _malformed("a part has no Content-Disposition with a name.")
        is_file = b"filename" in options
        self._is_passed_on = is_file or self._with_fields
        if self._is_passed_on:
            self._events.append(Part(_text(options[b"name"]), _text(options[b"filename"]) if is_file else None))
        if is_file:
            self._count += 1
            if self._count > self._most:
                detail = f"The request holds more than {self._most} files; send several requests."
                raise Problem(413, "too_many_images", detail)
            return
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise _malformed(f"it has more than the {MOST_FIELDS} fields that are taken beside files.")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_passed_on:
            self._events.append(data[start:end])

    def _on_part_end(self) -> None:
        if self._is_passed_on:
            self._events.append(None)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _malformed(why: str) -> Problem:
    return Problem(400, "malformed_body", f"The multipart body: {why}")
