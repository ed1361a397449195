"""A peer with some settings, started, proven and stopped."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.answers import Expected, NoAnswer, await_answer, check_answers
from benchmarks.load import Target
from benchmarks.peers.peer import ARTIFACTS, Launch, Peer, Place
from benchmarks.ports import free_port
from benchmarks.server import Running, ServerFailed, Settings

ROOT = Path(__file__).parents[2]
START_S = 90.0
STOP_S = 15.0
GONE_S = 5.0
TOLD = 2000


@dataclass(frozen=True)
class PeerServer:
    """`expected` is what the plain classifier answers."""

    peer: Peer
    python: Path
    artifacts: Path
    expected: Expected
    settings: Settings

    @property
    def name(self) -> str:
        return self.peer.name

    @contextmanager
    def start(self) -> Iterator[Running]:
        # Short, because some of them put sockets of the file system there.
        with tempfile.TemporaryDirectory(prefix="fovea-peer-", ignore_cleanup_errors=True) as name:
            place = Place(self.python, Path(name), free_port())
            launch = self.peer.launch(place, self.settings)
            log = Path(name) / "server.log"
            began = time.monotonic()
            process = _spawn(launch, place, self.artifacts, log)
            try:
                url = f"http://127.0.0.1:{place.port}{launch.path}"
                target = Target(url, {self.name: process.pid}, launch.headers)
                yield self._proven(target, process, log, began)
            finally:
                _stop(process)

    def _proven(self, target: Target, process: subprocess.Popen[bytes], log: Path, began: float) -> Running:
        def alive() -> None:
            if process.poll() is not None:
                raise ServerFailed(f"{self.name} ended with code {process.returncode}:\n{_end_of(log)}")

        try:
            await_answer(target, self.peer.read, self.expected, within_s=START_S, alive=alive)
            cold_start_s = time.monotonic() - began
            check_answers(target, self.peer.read, self.expected)
        except NoAnswer as error:
            raise ServerFailed(f"{self.name}: {error}\n{_end_of(log)}") from error
        return Running(target, cold_start_s)


def _spawn(launch: Launch, place: Place, artifacts: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{place.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        ARTIFACTS: str(artifacts),
        **launch.environment,
    }
    with log.open("wb") as stream:
        return subprocess.Popen(
            launch.command,
            env=environment,
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    tree: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    # What it has started and left behind is in its session.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Whatever is measured next shall have the machine for itself.
    psutil.wait_procs(tree, timeout=GONE_S)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-TOLD:]
