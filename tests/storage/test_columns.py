from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import postgresql, sqlite

from storage.columns import Json, Utc

DIALECTS = [sqlite.dialect(), postgresql.dialect()]


def test_a_time_without_a_zone_is_refused() -> None:
    for dialect in DIALECTS:
        with pytest.raises(ValueError, match="time zone"):
            Utc().process_bind_param(datetime(2026, 1, 1), dialect)


def test_a_time_of_another_zone_comes_back_in_utc() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    for dialect in DIALECTS:
        back = Utc().process_result_value(Utc().process_bind_param(noon, dialect), dialect)
        assert back == noon
        assert back is not None
        assert back.tzinfo is UTC


def test_json_is_ascii_text_without_the_numbers_that_json_lacks() -> None:
    value = {"a": float("nan"), "b": [float("-inf"), 1.5, (2,)], "c": "é\x00\ud800", "d": None}
    for dialect in DIALECTS:
        text = Json().process_bind_param(value, dialect)
        assert text is not None
        assert text.isascii()
        assert "\x00" not in text
        back = {"a": None, "b": [None, 1.5, [2]], "c": "é\x00\ud800", "d": None}
        assert Json().process_result_value(text, dialect) == back
