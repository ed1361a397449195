"""Which form of an answer a client wants most, by its `Accept` header (RFC 9110, section 12.5.1)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class MediaRange(NamedTuple):
    """`application/jsonl`, `text/*` or `*/*`, with its weight from 0 to 1."""

    kind: str
    subtype: str
    quality: float

    @property
    def precedence(self) -> int:
        """The more it says, the more it counts."""
        return (self.kind != "*") + (self.subtype != "*")

    def takes(self, media_type: str) -> bool:
        kind, _, subtype = media_type.partition("/")
        return self.kind in ("*", kind) and self.subtype in ("*", subtype)


def wanted(accept: str, offered: Sequence[str]) -> str | None:
    """The media type of `offered` that the header gives the highest weight; None where it takes none of them.

    Of equal weight the one comes first that the header names more precisely, then the one offered first. What
    cannot be understood is ignored; a header without a single media range takes everything.
    """
    ranges = list(_ranges(accept))
    if not ranges:
        return offered[0]
    best, chosen = (0.0, -1), None
    for media_type in offered:
        fitting = [(given.precedence, given.quality) for given in ranges if given.takes(media_type)]
        if not fitting:
            continue
        precedence, quality = max(fitting)
        if quality > 0 and (quality, precedence) > best:
            best, chosen = (quality, precedence), media_type
    return chosen


def _ranges(accept: str) -> Iterator[MediaRange]:
    for part in accept.split(","):
        media_range, *parameters = (piece.strip() for piece in part.lower().split(";"))
        kind, slash, subtype = media_range.partition("/")
        if kind and slash and subtype:
            yield MediaRange(kind, subtype, _quality(parameters))


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0
