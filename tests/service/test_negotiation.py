"""What `Accept` takes, and which of it is the best (RFC 9110, section 12.5.1)."""

import pytest

from service.negotiation import wanted

OFFERED = ("application/jsonl", "application/x-ndjson", "text/csv")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "application/jsonl"),
        ("*/*", "application/jsonl"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("text/*", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/jsonl;q=0.5, text/csv;q=0.9", "text/csv"),
        ("text/csv;q=0.5, */*;q=0.5", "text/csv"),
        ("text/csv, */*", "text/csv"),
        ("*/*, text/csv;q=0.1", "application/jsonl"),
        ("*/*, application/*;q=0", "text/csv"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/jsonl"),
        ("application/jsonl; q=0, text/csv", "text/csv"),
        ("nonsense, text/csv", "text/csv"),
        ("nonsense", "application/jsonl"),
    ],
)
def test_the_best_that_is_taken_is_sent(accept: str, expected: str) -> None:
    assert wanted(accept, OFFERED) == expected


@pytest.mark.parametrize(
    "accept", ["application/json", "text/csv;q=0", "*/*;q=0", "text/csv;q=high", "text/csv;q=2", "image/*"]
)
def test_what_is_not_taken_is_not_sent(accept: str) -> None:
    assert wanted(accept, OFFERED) is None
