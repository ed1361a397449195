"""A whole Fovea of real processes that anything may be done to: what dies is started again, as by an init."""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis
from chaos.store import Disk, Store
from support.proxy import Proxy
from support.stack import free_port

from cli.up.readiness import parts_not_ready, read_readiness
from fovea_client import Fovea
from workers.contract.queues import HEARTBEAT_PREFIX

# Seconds become moments, so that a run of minutes sees many of them; the ratios are those of the defaults.
QUICK = {
    "FOVEA_LEASE_S": "4",
    "FOVEA_RECONCILE_INTERVAL_S": "1",
    "FOVEA_REQUEUE_AFTER_S": "6",
    "FOVEA_CLEANUP_INTERVAL_S": "3",
    "FOVEA_CLASSIFY_TIMEOUT_S": "8",
    # A machine that has other work lets a worker's word wait.
    "FOVEA_HEARTBEAT_TTL_S": "4",
    "FOVEA_OFFLINE": "true",
    "FOVEA_DEVICE": "cpu",
    "FOVEA_TRAINING_DEVICE": "cpu",
    "FOVEA_TRAINING_THREADS": "1",
    # What a version answers is held against what it answered before there were variants of it.
    "FOVEA_PRECISION": "float32",
    "FOVEA_LOG_FORMAT": "json",
}
LEASE_S = float(QUICK["FOVEA_LEASE_S"])
CLEANUP_S = float(QUICK["FOVEA_CLEANUP_INTERVAL_S"])
# What a service manager waits before it starts a process again.
RESTART_S = 1.0
# How each process is known by its command line.
MARKS = {
    "supervisor": "cli.main up",
    "gateway": "service.main",
    "inference": "workers.inference.main",
    "training": "workers.training.main",
    "trainer": "workers.training.runner",
    "broker": "broker.sock",
    "transit": "transit.sock",
}


@dataclass
class Site:
    """What both forms have in common. `folder` is the test's own; all of Fovea's lies below it.

    `redis` are the servers' own sockets by name, past every proxy; `data_folders` are those that processes were
    given as FOVEA_DATA; `proxies` are on the way to each Redis, where there are any.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    proxies: dict[str, Proxy] = field(default_factory=dict)
    disk: Disk | None = None
    store: Store = field(init=False)
    _starts: dict[str, Callable[[], subprocess.Popen[bytes]]] = field(default_factory=dict)
    _kept: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def database_url(self) -> str:
        raise NotImplementedError

    @property
    def redis(self) -> Mapping[str, Path]:
        raise NotImplementedError

    @property
    def data_folders(self) -> list[Path]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Nothing of whoever runs the tests but what a process cannot be without."""
        kept = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
        own = {name: os.environ[name] for name in kept if name in os.environ}
        return {
            **own,
            **QUICK,
            "FOVEA_WEIGHTS_DIR": str(self.weights),
            "CHAOS_RUN": self.run_id,
            "FOVEA_GRPC_PORT": "0",
            "PYTHONSAFEPATH": "1",
        }

    def client(self, timeout_s: float = 10.0) -> Fovea:
        return Fovea(self.url, timeout_s=timeout_s, patience_s=0)

    def is_ready(self) -> bool:
        """As `/readyz` says: both workers, database, queues."""
        with self.client(3.0) as client:
            return not parts_not_ready(read_readiness(client))

    def process(self, role: str) -> psutil.Process | None:
        """The process in that role, if one runs."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if MARKS[role] in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def hears(self, worker_pid: int) -> bool:
        """Whether that worker says that it lives."""
        try:
            with closing(
                redis.Redis(unix_socket_path=str(self.redis["transit"]), decode_responses=True)
            ) as server:
                return any(f":{worker_pid}:" in key for key in server.scan_iter(match=f"{HEARTBEAT_PREFIX}*"))
        except redis.RedisError:
            return False

    def survivors(self) -> list[psutil.Process]:
        """The processes of this Fovea that still run, whoever their parent is."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("CHAOS_RUN") == self.run_id and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float) -> float:
        """Seconds it took. Raises TimeoutError."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > timeout_s:
                raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
            time.sleep(0.1)
        return time.monotonic() - began

    def keep(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        """Start it, and again whenever it ends."""
        self._starts[name] = start
        self._kept[name] = start()
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep_running, daemon=True, name="keeper")
            self._keeper.start()

    def spawn(self, name: str, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        self.logs.mkdir(exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=dict(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end_kept(self, order: list[str], wait_s: float = 25.0) -> None:
        """By SIGTERM, in that order; nothing is started again."""
        self._over.set()
        if self._keeper is not None:
            self._keeper.join()
        for name in order:
            process = self._kept.pop(name, None)
            if process is None:
                continue
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _keep_running(self) -> None:
        died: dict[str, float] = {}
        while not self._over.wait(0.1):
            for name, process in list(self._kept.items()):
                if process.poll() is None:
                    continue
                if time.monotonic() - died.setdefault(name, time.monotonic()) >= RESTART_S:
                    del died[name]
                    self._kept[name] = self._starts[name]()


def connected(socket: Path) -> "redis.Redis":
    """To the server itself, past every proxy; texts are `str`."""
    return redis.Redis(unix_socket_path=str(socket), decode_responses=True, socket_timeout=5)
