"""What is read of a start, and the verdict on starts and memory."""

import dataclasses
import http.server
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from benchmarks.footprint import Held, RequestRefused, forget_peaks, held, keep_busy
from benchmarks.start import COMPILED, UNCOMPILED, Start, faults, parse, read_marks, show_memory, show_starts

MB = 2**20


def start(ready_s: float = 1.5, situation: str = COMPILED) -> Start:
    return Start(situation, ready_s, {"gateway works": 1.2}, {"gateway": 0.7}, 0.1, first_s=0.06, later_s=0.01)


def memory(gateway_mb: int = 110, worker_mb: int = 180) -> dict[str, dict[str, Held]]:
    def phase(more_mb: int) -> dict[str, Held]:
        return {
            role: Held(mb * MB, (mb + more_mb) * MB, mb * MB // 2)
            for role, mb in (("gateway", gateway_mb), ("inference worker", worker_mb))
        }

    return {"at rest": phase(0), "32 large": phase(5)}


def test_the_bars_are_for_the_median_start_and_for_the_most_that_is_held() -> None:
    quick = [start(1.5), start(1.6), start(9.0), *[start(12.0, UNCOMPILED)] * 3]
    assert faults(quick, memory(), model_mb=2) == []
    assert faults([start(1.5), start(3.1), start(9.0)], memory(), 2) == [
        "ready after 3.1 s in the median, more than 3"
    ]
    assert faults(quick, memory(gateway_mb=116), 2) == ["the gateway holds 121 MB at most, more than 120"]
    assert "the inference worker holds 255 MB" in faults(quick, memory(worker_mb=250), 2)[0]


def test_both_situations_and_every_process_are_shown() -> None:
    said = StringIO()
    console = Console(file=said, width=200)
    show_starts([start(1.5), start(2.5), start(12.0, UNCOMPILED)], console)
    show_memory(memory(), console)
    for words in ("2.00 (1.50 to 2.50)", "12.00", "gateway works", "0.050", "32 large", "115", "145"):
        assert words in said.getvalue()


def test_marks_are_read_from_the_log() -> None:
    began = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC).timestamp()
    log = """\
fovea     | data in /somewhere
inference | 2026-11-26T12:00:01.500000Z [info     ] worker.starting                provider=CPU role=inference
inference | 2026-11-26T12:00:02.000000Z [info     ] inference@vm:5697:027681 ready. role=inference
gateway   | 2026-11-26T12:00:02.250000Z [info     ] Started server process [5695]  role=gateway
gateway   | 2026-11-26T12:00:03.000000Z [info     ] Application startup complete.  role=gateway
inference | 2026-11-26T12:00:09.000000Z [info     ] inference@vm:5697:027681 ready. role=inference
"""
    assert read_marks(log, began) == {
        "inference imported": 1.5, "inference works": 2.0, "gateway imported": 2.25, "gateway works": 3.0,
    }  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the most that was held")
def test_a_peak_is_seen_after_it_is_over_and_forgotten_when_told_to() -> None:
    this = {"this": psutil.Process(os.getpid())}
    forget_peaks(this)
    before = held(this)["this"]
    assert len(b"x" * (64 * MB)) == 64 * MB
    after = held(this)["this"]
    assert after.peak > before.peak + 50 * MB
    forget_peaks(this)
    assert held(this)["this"].peak < after.peak - 50 * MB


class Answering(http.server.BaseHTTPRequestHandler):
    """200 for what begins with the right byte."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if body.startswith(b"r") else 422)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"no")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/classify"
        server.shutdown()


def test_answers_are_counted_and_one_that_is_not_200_ends_the_load(url: str, tmp_path: Path) -> None:
    right, wrong = tmp_path / "a.jpg", tmp_path / "b.jpg"
    right.write_bytes(b"right")
    wrong.write_bytes(b"wrong")
    assert keep_busy(url, [right], concurrency=2, seconds=0.1) > 2
    with pytest.raises(RequestRefused, match="/classify answered 422: no"):
        keep_busy(url, [right, wrong], concurrency=2, seconds=5)


def test_it_says_what_it_cannot_do() -> None:
    assert parse(["--rounds", "2"]).rounds == 2
    with pytest.raises(SystemExit):
        parse(["--rounds", "0"])


def test_loading_is_what_the_first_image_waited_longer() -> None:
    assert dataclasses.replace(start(), first_s=0.5, later_s=0.1).loading_s == pytest.approx(0.4)
