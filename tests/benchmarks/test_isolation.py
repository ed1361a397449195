"""The ratio of answers with and without bulk work, and the load that it is taken from."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from support.served import served

from benchmarks.bulk import write_archive
from benchmarks.isolation import MOST, Pair, parse
from benchmarks.photographs import small_photographs
from benchmarks.steady import Latencies, steady_load
from models.dataset.ingest import ingest


class Slow(BaseHTTPRequestHandler):
    """Answers every request after 0.3 s, the fifth with 500."""

    protocol_version = "HTTP/1.1"
    times: list[float] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.times.append(time.monotonic())
        is_fifth = len(self.times) == 5
        time.sleep(0.3)
        self.send_response(500 if is_fifth else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def slow() -> Iterator[str]:
    Slow.times.clear()
    with served(Slow) as url:
        yield f"{url}/"


def test_requests_are_sent_at_their_rate_however_slow_the_answers_are(slow: str, tmp_path: Path) -> None:
    photograph = tmp_path / "a.jpg"
    photograph.write_bytes(b"x")
    found = steady_load(slow, [photograph], rate=20, seconds=1.0)
    # One after another, three would have fitted into the second.
    assert len(Slow.times) == 20
    assert (len(found.ms), found.faults) == (19, 1)
    assert found.fault.startswith("500")
    assert found.p50 >= 300


def test_the_ratio_is_that_of_the_99th_percentiles_and_a_fault_voids_it() -> None:
    alone = Latencies([10.0] * 98 + [20.0] * 2)
    pair = Pair("ingest", alone, Latencies([10.0] * 98 + [29.0] * 2))
    assert pair.ratio == pytest.approx(1.45)
    assert pair.holds
    assert not Pair("ingest", alone, Latencies([10.0] * 98 + [31.0] * 2)).holds
    assert not Pair("ingest", alone, Latencies([10.0] * 100, faults=1)).holds
    assert MOST == 1.5


def test_every_photograph_of_the_archive_counts_as_one_of_its_own(tmp_path: Path) -> None:
    photographs = small_photographs(tmp_path / "small", None).paths[:3]
    report = ingest(write_archive(tmp_path / "bulk.zip", photographs, 20), tmp_path / "dataset")
    assert (report.images, report.labels) == (20, ("a", "b"))


def test_nonsense_is_refused_before_anything_starts() -> None:
    with pytest.raises(SystemExit):
        parse(["--rate", "0"])
