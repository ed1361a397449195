"""Server-Sent Events from bytes, wherever the network cut them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovea_client.sse import EventParser, ServerEvent

STREAM = (
    '\ufeffretry: 1500\nid: 1\nevent: state\ndata: {"état": 1}\n\n'
    ": a comment\nid: 2\ndata: one\ndata:  two\n\n"
    "event: nothing\n\n"
    "id\ndata\n\nid: 3\r\nevent: progress\r\ndata:x\r\n\r\nid: 4\rdata: y\r\rid: 5\ndata: cut off\n"
).encode()
EVENTS = [
    ServerEvent("state", '{"état": 1}', "1"),
    ServerEvent("message", "one\n two", "2"),
    ServerEvent("message", "", ""),
    ServerEvent("progress", "x", "3"),
    ServerEvent("message", "y", "4"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_same_events_come_from_every_cut(cuts: list[int]) -> None:
    parser = EventParser()
    places = [0, *sorted(cuts), len(STREAM)]
    found = [event for a, b in pairwise(places) for event in parser.feed(STREAM[a:b])]
    assert found == EVENTS
    assert parser.retry_s == 1.5


def test_byte_by_byte_too() -> None:
    parser = EventParser()
    assert [event for byte in STREAM for event in parser.feed(bytes([byte]))] == EVENTS


@pytest.mark.parametrize("line", ["id: 1\0", "retry: soon", "unknown: field", "retry: ½"])
def test_what_means_nothing_is_passed_over(line: str) -> None:
    (event,) = EventParser().feed(f"{line}\ndata: x\n\n".encode())
    assert event == ServerEvent("message", "x", "")


@given(st.binary(max_size=300))
def test_no_bytes_are_an_error(garbage: bytes) -> None:
    parser = EventParser()
    list(parser.feed(garbage))
    assert [event.data for event in parser.feed(b"\n\ndata: x\n\n")][-1] == "x"
