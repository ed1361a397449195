"""The images of datasets by their list among the blobs: names, labels, splits. No picture is read."""

import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from cachetools import LRUCache

from models.dataset.places import SAMPLES
from models.dataset.sample import Sample
from storage.blobs import BlobStore
from storage.errors import InvalidCursor
from storage.page import Page, decode_cursor, encode_cursor

# An image takes some 300 bytes of a list. A longer list than that is read anew each time.
MOST_REMEMBERED = 64 * 2**20


def _lists() -> LRUCache[str, bytes]:
    return LRUCache(MOST_REMEMBERED, getsizeof=len)


@dataclass
class DatasetImages:
    """A dataset never changes, so that its list may be remembered. Raises NotFound and BlobsUnavailable."""

    blobs: BlobStore
    _remembered: LRUCache[str, bytes] = field(default_factory=_lists, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def names(self, prefix: str, sha256: Collection[str]) -> dict[str, str]:
        """The names of those images by their sha256, as far as the dataset with that `prefix` has them."""
        if not sha256:
            return {}
        listed = self._list(prefix)
        found = {}
        for wanted in sha256:
            # A quote in a name stands behind a backslash: this is the field's and nothing else.
            at = listed.find(b'"sha256": "' + wanted.encode() + b'"')
            if at >= 0:
                start, end = listed.rfind(b"\n", 0, at) + 1, listed.find(b"\n", at)
                found[wanted] = str(orjson.loads(listed[start:end])["name"])
        return found

    def page(
        self, prefix: str, limit: int, cursor: str | None, *, label: str | None = None, split: str | None = None
    ) -> Page[Sample]:
        """Images by split, label and sha256, only those with the label and of the split. Raises InvalidCursor."""
        listed = self._list(prefix)
        found: list[Sample] = []
        for start, values in _lines(listed, _start(listed, cursor)):
            if (label is None or values["label"] == label) and (split is None or values["split"] == split):
                if len(found) == limit:
                    return Page(tuple(found), encode_cursor(start))
                found.append(Sample.from_dict(values))
        return Page(tuple(found), None)

    def _list(self, prefix: str) -> bytes:
        with self._lock:
            listed = self._remembered.get(prefix)
        if listed is None:
            listed = self.blobs.get_bytes(f"{prefix}/{SAMPLES}")
            if len(listed) <= MOST_REMEMBERED:
                with self._lock:
                    self._remembered[prefix] = listed
        return listed


def _start(listed: bytes, cursor: str | None) -> int:
    """Where a line of the list begins. Raises InvalidCursor."""
    start = decode_cursor(cursor, int) if cursor else 0
    if start and (start >= len(listed) or listed[start - 1 : start] != b"\n"):
        raise InvalidCursor(
            f"{cursor!r} is not a cursor of this listing. Use `next_cursor` of the page before, unchanged."
        )
    return start


def _lines(listed: bytes, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line with the place where it begins."""
    while start < len(listed):
        end = listed.find(b"\n", start)
        yield start, orjson.loads(listed[start:end])
        start = end + 1
