"""Processes as on hosts of their own: each with an empty folder, sharing nothing but three URLs."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from support.stack import free_port

MODULES = {
    "gateway": "service.main",
    "inference": "workers.inference.main",
    "training": "workers.training.main",
}
KEPT = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


@dataclass
class Host:
    """One process and the only folder it may use."""

    role: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def kill(self) -> None:
        """As if the machine lost its power: none of its processes says a last word."""
        worker = psutil.Process(self.process.pid)
        # Stopped first, or it would tell the database how its child died.
        worker.suspend()
        for process in [*worker.children(recursive=True), worker]:
            process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)


@dataclass
class Fleet:
    """`shared` is the whole configuration that the hosts have in common."""

    folder: Path
    shared: Mapping[str, str]
    port: int = field(default_factory=free_port)
    hosts: list[Host] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, role: str, **environment: str) -> Host:
        folder = self.folder / f"host-{len(self.hosts)}-{role}"
        folder.mkdir()
        own = {name: os.environ[name] for name in KEPT if name in os.environ}
        own |= {
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "FOVEA_DATA": str(folder / "data"),
            "FOVEA_LOG_FORMAT": "json",
            "PYTHONSAFEPATH": "1",
        }
        if role == "gateway":
            own |= {"FOVEA_PORT": str(self.port), "FOVEA_GRPC_PORT": "0"}
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", MODULES[role]],
                cwd=folder,
                env={**own, **self.shared, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.hosts.append(Host(role, folder, process))
        return self.hosts[-1]

    def stop(self) -> None:
        for host in reversed(self.hosts):
            host.stop()

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {host.folder.name}\n{host.log[-2000:]}" for host in self.hosts)
                raise TimeoutError(f"waited {timeout_s} s for {what}\n{logs}")
            time.sleep(0.05)

    def workers(self) -> int:
        """How many the gateway sees; none while it does not answer."""
        try:
            return len(httpx.get(f"{self.url}/readyz", timeout=5).json()["workers"])
        except httpx.TransportError:
            return 0

    def post(self, path: str, **what: Any) -> dict[str, Any]:
        answer = httpx.post(self.url + path, timeout=30, **what)
        assert answer.status_code in (200, 202), answer.text
        body: dict[str, Any] = answer.json()
        return body

    def job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/v1/jobs/{job['id']}", timeout=10).json()
        return found

    def ended(self, job: Mapping[str, Any], timeout_s: float = 120) -> dict[str, Any]:
        """The job as it is in the end, which has to be success."""
        self.wait_until(
            lambda: self.job(job)["state"] not in ("queued", "running"), f"the {job['kind']} job", timeout_s
        )
        found = self.job(job)
        assert found["state"] == "succeeded", found
        return found


def archive_of(pictures: Mapping[str, bytes]) -> bytes:
    """A tar of files by their names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in pictures.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
