import pytest

from storage.errors import InvalidCursor
from storage.page import bounded, decode_cursor, encode_cursor


@pytest.mark.parametrize("key", ["", "a", "job_01J", "é", 0, 1, 2**31 - 1])
def test_a_cursor_gives_its_key_back(key: str | int) -> None:
    assert decode_cursor(encode_cursor(key), type(key)) == key


def test_a_cursor_can_stand_in_a_url_as_it_is() -> None:
    assert encode_cursor("????>>>>~~~~").replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("cursor", ["!", "é", "=", "a", "e30", "W10", "bnVsbA", "dHJ1ZQ", "MS41", "LTE", "NaN"])
def test_what_no_listing_made_is_refused(cursor: str) -> None:
    for kind in (str, int):
        with pytest.raises(InvalidCursor, match="next_cursor"):
            decode_cursor(cursor, kind)


def test_a_cursor_of_another_kind_of_listing_is_refused() -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(1), str)
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor("a"), int)
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor(2**31), int)
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor("\x00"), str)


def test_a_limit_is_brought_into_its_bounds() -> None:
    assert [bounded(limit) for limit in (-1, 0, 1, 50, 1000, 10**9)] == [1, 1, 1, 50, 1000, 1000]
