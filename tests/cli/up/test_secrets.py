"""A whole Fovea whose every URL has a password: nothing that it prints, answers or shows to `ps` has it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis, RedisError
from support.stack import free_port

from cli.up.redis_server import find_redis

MARK = "s3cr3tpw"


@contextmanager
def locked_redis(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [str(find_redis().path), "--save", "", "--port", str(port), "--requirepass", MARK]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(400):
            try:
                with Redis(port=port, password=MARK) as client:
                    client.ping()
                break
            except RedisError:
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_password_is_printed_answered_or_seen_among_the_processes(tmp_path: Path) -> None:
    redis_port, port = free_port(), free_port()
    environment = {
        **os.environ,
        "FOVEA_REDIS_URL": f"redis://:{MARK}@127.0.0.1:{redis_port}/0",
        # Nobody answers there, so that a fine-tune fails on the way to its weights.
        "FOVEA_WEIGHTS_URL": f"http://me:{MARK}@127.0.0.1:{free_port()}",
        "FOVEA_TRACES_URL": f"http://me:{MARK}@127.0.0.1:{free_port()}",
        "FOVEA_LOG_LEVEL": "debug",
        # The form that shows most of an exception; the other one is tests/workers/test_logs.py's.
        "FOVEA_LOG_FORMAT": "text",
    }
    log = tmp_path / "log"
    with locked_redis(redis_port) as redis, log.open("wb") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", "--no-starter", "--port", str(port)],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=out,
        )
        try:
            _until(lambda: "is ready at" in log.read_text(errors="replace"), up, log)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                asked = {
                    "model": "m",
                    "dataset": "builtin:digits",
                    "architecture": "resnet18",
                    "weights": "imagenet",
                }
                job = client.post("/v1/finetunes", json=asked).json()
                place = f"/v1/jobs/{job['id']}"
                _until(lambda: client.get(place).json()["state"] == "failed", up, log)
                said = [client.get(path).text for path in (place, f"{place}/events", "/readyz", "/metrics")]
                redis.kill()
                _until(lambda: client.get("/readyz").status_code == 503, up, log)
                said.append(client.get("/readyz").text)
            command_lines = list(_command_lines(psutil.Process(up.pid)))
            said += command_lines
        finally:
            up.terminate()
            up.wait(60)
    for command in ("doctor", "migrate"):
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", command],
            cwd=tmp_path,
            env={**environment, "FOVEA_DATABASE_URL": f"postgresql://me:{MARK}@127.0.0.1:{free_port()}/name"},
            capture_output=True,
            text=True,
            check=False,
        )
        said += [done.stdout, done.stderr]
    said.append(log.read_text(errors="replace"))
    assert "weights_not_found" in said[-1]
    assert len(command_lines) >= 4
    assert not [re.sub(rf".*(.{{200}}{MARK}.{{80}}).*", r"\1", text, flags=re.S) for text in said if MARK in text]


def _command_lines(process: psutil.Process) -> Iterator[str]:
    """Its own and its descendants', without those that end meanwhile."""
    for member in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            yield " ".join(member.cmdline())


def _until(holds: Callable[[], bool], up: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert up.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)
