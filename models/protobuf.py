"""Protocol buffers read where they lie, and written field by field, without a schema and without a library.

A message is where it begins and ends in the data; of a large file only what is asked for is read.
"""

import mmap
from collections.abc import Iterator

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
Span = tuple[int, int]
Data = bytes | mmap.mmap


def fields(data: Data, message: Span) -> Iterator[tuple[int, int, Span]]:
    """Number, wire type and place of each field. Raises ValueError where it is no message."""
    at, end = message
    while at < end:
        key, at = _varint(data, at, end)
        kind, begin = key & 7, at
        if kind == VARINT:
            _, at = _varint(data, at, end)
        elif kind == LENGTH:
            length, begin = _varint(data, at, end)
            at = begin + length
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of the kind {kind} at byte {begin}")
        if at > end:
            raise ValueError(f"the field at byte {begin} goes past its end")
        yield key >> 3, kind, (begin, at)


def messages(data: Data, message: Span) -> Iterator[tuple[int, Span]]:
    """Number and place of each field that has a length: messages, texts and packed numbers."""
    return ((number, span) for number, kind, span in fields(data, message) if kind == LENGTH)


def number_at(data: Data, span: Span) -> int:
    """The value of a field of the kind VARINT."""
    return _varint(data, *span)[0]


def field(number: int, content: bytes | str | int) -> bytes:
    """A field as it is written: text and messages with their length, a number as VARINT."""
    if isinstance(content, int):
        return _written(number << 3 | VARINT) + _written(content)
    encoded = content.encode() if isinstance(content, str) else content
    return _written(number << 3 | LENGTH) + _written(len(encoded)) + encoded


def _written(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _varint(data: Data, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number without end at byte {at}")
