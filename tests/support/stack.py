"""The real service in real processes: Redis, gateway and inference worker, on a free port, in its own folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from support.colours import LABELS, NONE, make_colour_artifact
from support.redis import RedisServer

from fovea_client import Fovea
from models.artifact import read_manifest
from storage.blobs import BlobStore
from storage.database import migrate, open_database
from storage.keys import KeyRing
from storage.registry import ModelRegistry, Version


@dataclass
class Stack:
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    redis: RedisServer = field(default_factory=RedisServer)
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    listening: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.folder / 'fovea.db'}"

    def start(self, *roles: str) -> "Stack":
        self.redis.start()
        self.prepare()
        for role in roles or ("gateway", "inference"):
            self.start_process(role)
        self.wait_until(self.alive, "the gateway to answer")
        return self

    def prepare(self) -> None:
        migrate(self.database_url)
        self.port = free_port()

    def start_process(self, name: str) -> None:
        """By its role, after which a number may stand where there are several: `gateway-2`."""
        role = name.partition("-")[0]
        module = {"gateway": "service.main"}.get(role, f"workers.{role}.main")
        shared = [self.listening.fileno()] if self.listening and role == "gateway" else []
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**self.process_environment(), "FOVEA_LISTEN_FDS": ",".join(map(str, shared))},
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=shared,
            )

    def hold_port(self) -> None:
        """Listen for the gateways, which share the socket and may come and go."""
        self.listening = socket.create_server(("127.0.0.1", self.port), backlog=2048)

    def process_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FOVEA_DATA": str(self.folder),
            "FOVEA_BROKER_URL": self.redis.url,
            "FOVEA_PORT": str(self.port),
            "FOVEA_LOG_FORMAT": "json",
            "PYTHONWARNINGS": "default",
            **self.environment,
        }

    def stop_process(self, role: str, how: signal.Signals = signal.SIGTERM) -> int:
        process = self.processes.pop(role)
        process.send_signal(how)
        return process.wait(20)

    def stop(self) -> None:
        late = []
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)
                late.append(f"{name} had not ended 20 s after SIGTERM:\n{self.log(name)[-3000:]}")
        self.processes.clear()
        if self.listening:
            self.listening.close()
        self.redis.remove()
        assert not late, "\n".join(late)

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text(errors="replace")

    def alive(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def workers(self) -> int:
        workers: list[object] = httpx.get(f"{self.url}/readyz", timeout=5).json()["workers"]
        return len(workers)

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float = 60) -> float:
        """Seconds it took."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            if holds():
                return time.monotonic() - started
            for role, process in self.processes.items():
                assert process.poll() is None, f"{role} ended with {process.returncode}:\n{self.log(role)[-3000:]}"
            time.sleep(0.05)
        raise TimeoutError(f"waited {timeout_s} s for {what}")

    def publish(
        self,
        artifact: str = "models/colours/1/",
        model: str = "colours",
        labels: tuple[str, ...] = LABELS,
        variants: Mapping[str, bool] = NONE,
        findings: Mapping[str, dict[str, Any]] = NONE,
    ) -> Version:
        """Register an artifact made by `make_colour_artifact` as the model's next version."""
        blobs = BlobStore((self.folder / "blobs").as_uri())
        folder = self.folder / "made" / artifact
        if not folder.exists():
            make_colour_artifact(folder, labels=labels, variants=variants, findings=findings)
        blobs.put_folder(artifact, folder)
        with self.registry() as registry:
            return registry.add_version(
                model, artifact=artifact, manifest=read_manifest(folder).to_dict(), size_bytes=1
            )

    def client(self) -> Fovea:
        """It repeats nothing: what a test asks for it asks for once."""
        return Fovea(self.url, patience_s=0)

    @contextmanager
    def registry(self) -> Iterator[ModelRegistry]:
        """The registry of the running service, past the gateway."""
        database = open_database(self.database_url)
        try:
            yield ModelRegistry(database)
        finally:
            database.close()

    def make_key(self, *scopes: str) -> str:
        database = open_database(self.database_url)
        try:
            _, token = KeyRing(database).create("test", scopes)
            return token
        finally:
            database.close()


@contextmanager
def running_stack(folder: Path, environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[Stack]:
    """Gateway and inference worker with the model `colours`, stopped at the block's end."""
    service = Stack(folder, dict(environment))
    try:
        service.start()
        service.publish()
        service.wait_until(lambda: service.workers() == 1, "a worker")
        yield service
    finally:
        service.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
