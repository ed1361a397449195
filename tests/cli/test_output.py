"""Numbers and times as people read them."""

from datetime import UTC, datetime

import pytest

from cli.output import bar, duration, local_time, percent, size


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("fraction", "drawn"), [(0, ""), (0.5, "████"), (0.53, "████▎"), (1, "████████"), (7, "████████"), (-1, "")]
)
def test_a_bar_is_as_long_as_its_fraction(fraction: float, drawn: str) -> None:
    assert bar(fraction, 8) == drawn


@pytest.mark.parametrize(("count", "text"), [(None, ""), (999, "999 B"), (1200, "1.2 kB"), (7.5e9, "7.5 GB")])
def test_bytes_are_told_in_their_unit(count: float | None, text: str) -> None:
    assert size(count) == text


def test_times_are_local_and_as_exact_as_asked_for() -> None:
    told = "2026-11-21T12:00:07.123456Z"
    for timespec, seconds in (("minutes", 0), ("seconds", 7)):
        shown = datetime.fromisoformat(local_time(told, timespec)).astimezone(UTC)
        assert shown == datetime(2026, 11, 21, 12, 0, seconds, tzinfo=UTC)
    assert local_time(None) == ""


def test_a_fraction_is_told_in_percent() -> None:
    assert percent(0.978) == "97.8 %"
