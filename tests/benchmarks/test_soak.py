"""The verdict on a soak: leaks are found, noise is not one; and what is left on the disk is seen."""

import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.leftovers import leftovers
from benchmarks.sampling import Process, Sample, Sampler, role_of
from benchmarks.soak import parse
from benchmarks.soak_report import Verdict, judge
from benchmarks.trend import trend
from storage.blobs import BlobStore
from storage.database import migrate, open_database
from storage.job_ledger import JobLedger

MB = 2**20
WARM_UP_S = 300.0


def process(
    rss: Callable[[float], float],
    *,
    descriptors: Callable[[float], int] = lambda _: 30,
    threads: Callable[[float], int] = lambda _: 12,
    minutes: float = 30,
    role: str = "gateway",
) -> Process:
    """As it is sampled every five seconds; `rss` in MB by minutes."""
    samples = []
    for number in range(int(minutes * 12)):
        at = number * 5.0
        held = int(rss(at / 60) * MB)
        samples.append(Sample(at, held, held, held, descriptors(at / 60), threads(at / 60)))
    return Process(role, 1, samples)


def verdict(*processes: Process, **changed: Any) -> Verdict:
    given: dict[str, Any] = {"left": [], "faults": [], "expected": {one.role for one in processes}, **changed}
    return judge(processes, WARM_UP_S, given["left"], given["faults"], given["expected"])


def noise(seed: int, spread: float) -> float:
    return random.Random(seed).gauss(0, spread)


def test_a_leak_of_a_megabyte_a_minute_is_found_under_noise() -> None:
    found = verdict(process(lambda minute: 120 + minute + noise(int(minute * 12), 4)))
    assert not found.holds
    (judged,) = found.judged
    assert judged.rss.per_hour / MB == pytest.approx(60, rel=0.2)
    assert "memory grows by" in judged.wrong[0]


@pytest.mark.parametrize(
    "rss",
    [
        lambda minute: 120 + noise(int(minute * 12), 10),
        # What requests hold while they are under way, and what a trim gives back.
        lambda minute: 120 + 40 * (int(minute * 12) % 7 == 0),
        lambda minute: 120 + 15 * math.sin(minute * 4),
        # Filled before the warm-up was over.
        lambda minute: 120 + 60 * min(1.0, minute / 4),
        # Becoming less is no leak.
        lambda minute: 160 - minute,
        # A page here and there in a small process.
        lambda minute: 8 + minute * 0.02,
    ],
)
def test_what_is_noisy_or_shrinks_or_was_filled_in_the_warm_up_is_flat(rss: Callable[[float], float]) -> None:
    assert verdict(process(rss)).holds


def test_a_step_that_stays_is_growth() -> None:
    assert not verdict(process(lambda minute: 120 if minute < 17 else 135)).holds


def test_descriptors_that_come_and_go_are_constant_and_those_that_stay_are_not() -> None:
    busy = process(lambda _: 100, descriptors=lambda minute: 30 + int(minute * 12) % 9)
    assert verdict(busy).holds
    late_peak = process(lambda _: 100, descriptors=lambda minute: 40 + 3 * (minute > 18) + int(minute * 12) % 9)
    assert verdict(late_peak).holds
    leaking = verdict(process(lambda _: 100, descriptors=lambda minute: 30 + int(minute) + int(minute * 12) % 9))
    assert "descriptors grow from" in leaking.judged[0].wrong[0]
    threads = verdict(process(lambda _: 100, threads=lambda minute: 12 + int(minute / 5)))
    assert "threads grow" in threads.judged[0].wrong[0]


def test_a_process_that_was_started_again_or_never_does_not_pass() -> None:
    again = verdict(process(lambda _: 100), process(lambda _: 100))
    assert "2 processes" in again.wrong[0]
    assert "0 processes" in verdict(process(lambda _: 100), expected={"gateway", "supervisor"}).wrong[0]


def test_a_file_that_is_left_and_an_unexpected_answer_do_not_pass() -> None:
    assert not verdict(process(lambda _: 100), left=["work/job_1"]).holds
    assert not verdict(process(lambda _: 100), faults=["500"]).holds


def test_too_short_a_run_has_no_trend() -> None:
    with pytest.raises(ValueError, match="too few"):
        trend([0, 1, 2], [1, 1, 1])
    with pytest.raises(SystemExit):
        parse(["--minutes", "0.5"])


def test_a_process_is_known_by_its_command_and_is_measured() -> None:
    assert role_of(["python", "-m", "workers.inference.main"]) == "inference worker"
    assert role_of(["/usr/bin/redis-server", "unixsocket:/tmp/x/broker.sock"]) == "broker Redis"
    assert role_of(["python", "-m", "workers.training.runner"]) is None
    assert role_of(["python", "-I", "-S", "-c", "...", "1", "python", "-m", "service.main"]) is None


def test_a_process_without_a_role_is_not_sampled() -> None:
    # Not this one: services that other tests use may be children of it.
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        sampler = Sampler(other.pid, 60)
        sampler.sample()
        assert sampler.processes == []
    finally:
        other.communicate(b"\n")


def test_files_that_no_row_owns_are_found(tmp_path: Path) -> None:
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    data.mkdir()
    temporary.mkdir()
    url = f"sqlite:///{data / 'fovea.db'}"
    migrate(url)
    database = open_database(url)
    waiting = JobLedger(database).create("finetune", {"model": "m"})
    database.close()
    blobs = BlobStore((data / "blobs").as_uri())
    blobs.put_bytes(f"jobs/{waiting.id}/upload", b"x")
    assert leftovers(data, temporary) == []
    blobs.put_bytes("models/m/job_1/model.onnx", b"x")
    blobs.put_bytes("jobs/job_2/upload", b"x")
    (data / "work" / "job_3").mkdir(parents=True)
    (data / "work" / "job_3" / "checkpoint").write_bytes(b"x")
    (temporary / "torch").mkdir()
    assert leftovers(data, temporary) == [
        "blobs/jobs/job_2/upload",
        "blobs/models/m/job_1/model.onnx",
        "tmp/torch",
        "work/job_3/checkpoint",
    ]
