"""Other servers of images on this machine: which are installed, and those that the bench can drive.

A peer is driven when it has a `start` here; the others that are found are named in the report, so that nobody
takes their absence from the figures for a result.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata

import httpx

from benchmarks.artifacts import Artifacts
from benchmarks.bare_fastapi import ARTIFACTS, LOOP
from benchmarks.load import Target
from benchmarks.rest import free_port

START_S = 60.0


@dataclass(frozen=True)
class Peer:
    """`start` runs it with a model on so many cores; without it the peer is found, but not measured."""

    name: str
    version: str | None
    start: Callable[[Artifacts, int], AbstractContextManager[Target]] | None = None


class PeerFailed(Exception):
    """A peer did not start."""


def find_peers() -> list[Peer]:
    """The peers that are installed; the bare FastAPI always is."""
    peers = [
        Peer(
            "bare-fastapi", metadata.version("fastapi"), lambda artifacts, cores: _bare("limit", artifacts, cores)
        ),
        Peer(
            "bare-fastapi-1-thread",
            metadata.version("fastapi"),
            lambda artifacts, cores: _bare("limit-1-thread", artifacts, cores),
        ),
    ]
    for name, module in (
        ("torchserve", "ts"),
        ("bentoml", "bentoml"),
        ("litserve", "litserve"),
        ("ray", "ray.serve"),
    ):
        if _has_module(module):
            peers.append(Peer(name, _version(name)))
    if shutil.which("tritonserver"):
        peers.append(Peer("tritonserver", None))
    return peers


@contextmanager
def _bare(loop: str, artifacts: Artifacts, cores: int) -> Iterator[Target]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_fastapi:create_app", "--factory"]
    options = ["--port", str(port), "--workers", str(cores), "--no-access-log", "--log-level", "warning"]
    environment = {**os.environ, ARTIFACTS: str(artifacts.folder), LOOP: loop}
    process = subprocess.Popen([*command, *options], env=environment, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/openapi.json")
        yield Target(f"http://127.0.0.1:{port}/classify", {"server": process.pid})
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PeerFailed(f"the peer ended with code {process.returncode}; its reason is above")
        try:
            httpx.get(url, timeout=5).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise PeerFailed(f"the peer did not answer at {url} within {START_S:.0f} s")


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
