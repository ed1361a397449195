"""The load generator against a real HTTP server whose pace is known."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.served import served

from benchmarks.load import LoadFailed, Target, measure_load

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
PAUSE_S = 0.02


class Sleepy(BaseHTTPRequestHandler):
    """Answers after 20 ms, the path /odd with 503 every second time; remembers what it was sent."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    bodies: list[bytes]
    asked_with: set[tuple[str | None, str | None]]
    asked = 0
    counting = threading.Lock()

    def do_POST(self) -> None:
        with self.counting:  # two connections ask at once, and every second request must be the odd one
            type(self).asked += 1
            odd = self.asked % 2 == 1
        type(self).bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked_with.add((self.headers["Content-Type"], self.headers["Inference-Header-Content-Length"]))
        time.sleep(PAUSE_S)
        status = 503 if self.path == "/broken" or (self.path == "/odd" and odd) else 200
        answer = b'a "quoted"\nreason'
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    Sleepy.bodies = []
    Sleepy.asked_with = set()
    with served(Sleepy) as url:
        yield url


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (number + 1) * 1000)
    return paths


def load(url: str, photographs: list[Path]) -> Target:
    return Target(url, {"server": os.getpid()})


def test_requests_in_the_window_are_counted_and_photographs_sent_in_turn(
    server: str, photographs: list[Path]
) -> None:
    figure = measure_load("step", load(server, photographs), photographs, concurrency=2, seconds=1.0, ramp_s=0.3)

    # Two connections at 20 ms each; the lower bound leaves room for a busy machine.
    assert 20 < figure.rate <= 2 / PAUSE_S
    assert PAUSE_S * 1e3 <= figure.p50_ms <= figure.p99_ms
    assert figure.faults == 0
    assert set(Sleepy.bodies) == {path.read_bytes() for path in photographs}
    assert set(figure.cpu_of) == {"server"}


def test_a_request_has_the_headers_that_its_server_wants(server: str, photographs: list[Path]) -> None:
    target = Target(server, {"server": os.getpid()}, {"Inference-Header-Content-Length": "0"})

    measure_load("step", target, photographs, concurrency=1, seconds=0.5, ramp_s=0.1)

    assert Sleepy.asked_with == {("image/jpeg", "0")}


def test_an_answer_other_than_200_is_a_fault_with_its_reason(server: str, photographs: list[Path]) -> None:
    figure = measure_load(
        "step", load(f"{server}/odd", photographs), photographs, concurrency=2, seconds=1.0, ramp_s=0.3
    )

    assert figure.faults > 5
    assert figure.fault == '503 a "quoted"\nreason'


def test_a_server_that_never_answers_well_is_a_failure(server: str, photographs: list[Path]) -> None:
    with pytest.raises(LoadFailed, match="503"):
        measure_load(
            "step", load(f"{server}/broken", photographs), photographs, concurrency=2, seconds=0.5, ramp_s=0.1
        )
