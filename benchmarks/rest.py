"""The real service for the bench: two private Redis servers, the gateway and one inference worker.

They are the processes and settings of `fovea up`, in a temporary folder, without the supervisor and, unless it is
asked for, the training worker, which are idle while images are classified.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import redis

from benchmarks.answers import Expected, await_answer, check_answers
from benchmarks.artifacts import Artifacts
from benchmarks.case import FOVEA, FOVEA_INT8
from benchmarks.load import Target
from benchmarks.plain import Classes
from benchmarks.ports import free_port
from benchmarks.server import Running, ServerFailed
from cli.up.launch import GATEWAY_ENVIRONMENT
from cli.up.redis_server import broker_arguments, find_redis, redis_url, transit_arguments
from models.artifact import FLOAT32, Precision, read_manifest
from storage.blobs import IMAGE_FOLDER, BlobStore
from storage.database import migrate, open_database
from storage.registry import ModelRegistry
from workers.contract.queues import Queue

MODULES = {"gateway": "service.main", "worker": "workers.inference.main"}
TRAINING = {"training": "workers.training.main"}
START_S = 60.0
STOP_S = 15.0


class ServiceFailed(ServerFailed):
    """The service did not start or ended; the text says which, with its log's end."""


class Service:
    """A running service with one published model. At the end of its block everything is stopped and removed.

    Its block begins when it is ready or, with `wait=False`, when its processes have been started.
    """

    def __init__(
        self, artifacts: Artifacts, *, precision: Precision = FLOAT32, training: bool = False, wait: bool = True
    ) -> None:
        self.artifacts = artifacts
        self._precision = precision
        self.began = 0.0
        self._waits = wait
        self._modules = {**MODULES, **(TRAINING if training else {})}
        self.port, self.grpc_port = free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def target(self) -> Target:
        pids = {name: process.pid for name, process in self._processes.items()}
        return Target(f"{self.base_url}/v1/models/bench/classify", pids)

    @property
    def images(self) -> Path:
        """The operator's folder of images."""
        return self._folder / "blobs" / IMAGE_FOLDER

    @property
    def _trains(self) -> bool:
        return TRAINING.keys() <= self._modules.keys()

    def __enter__(self) -> "Service":
        with ExitStack() as stack:
            # A unix socket's path may have 107 characters at most, so not under some long TMPDIR.
            short = "/tmp" if Path("/tmp").is_dir() else None
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fovea-bench-", dir=short)))
            stack.callback(self._stop)
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def stages(self) -> Mapping[str, float]:
        """The gateway's running sums: images, batches and seconds of each stage, from its metrics."""
        text = httpx.get(f"{self.base_url}/metrics", timeout=10).text
        sums: dict[str, float] = {}
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name.startswith("fovea_") and name.endswith(
                ("_seconds_sum", "_seconds_count", "size_sum", "size_count")
            ):
                sums[name.removeprefix("fovea_")] = float(value)
        return sums

    def require_alive(self) -> None:
        """Raises ServiceFailed when one of its processes has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ServiceFailed(f"{name} ended with code {process.returncode}:\n{self._log(name)}")

    def _start(self) -> None:
        sockets = {name: self._folder / f"{name}.sock" for name in ("broker", "transit")}
        environment = {
            "FOVEA_HOST": "127.0.0.1",
            "FOVEA_PORT": str(self.port),
            "FOVEA_GRPC_PORT": str(self.grpc_port),
            "FOVEA_DATA": str(self._folder),
            "FOVEA_DATABASE_URL": f"sqlite:///{self._folder / 'fovea.db'}",
            "FOVEA_BLOBS_URL": (self._folder / "blobs").as_uri(),
            "FOVEA_BROKER_URL": redis_url(sockets["broker"]),
            "FOVEA_TRANSIT_URL": redis_url(sockets["transit"]),
            # The limit it is compared with runs on the processor.
            "FOVEA_DEVICE": "cpu",
            "FOVEA_PRECISION": self._precision,
            "PYTHONSAFEPATH": "1",
        }
        migrate(environment["FOVEA_DATABASE_URL"])
        publish(
            self.artifacts.fovea,
            "bench",
            "models/bench/1/",
            environment["FOVEA_DATABASE_URL"],
            environment["FOVEA_BLOBS_URL"],
        )
        # From here on it is what whoever starts Fovea on a folder that is there waits for.
        self.began = time.monotonic()
        binary = find_redis()
        self._spawn("redis broker", broker_arguments(binary, sockets["broker"], self._folder))
        self._spawn("redis transit", transit_arguments(binary, sockets["transit"]))
        for path in sockets.values():
            self._wait(partial(_answers, redis_url(path)), "Redis")
        for name, module in self._modules.items():
            own = GATEWAY_ENVIRONMENT if name == "gateway" else {}
            self._spawn(name, [sys.executable, "-m", module], {**environment, **own})
        if self._waits:
            self._wait(self._ready, "the gateway and its workers")

    def _spawn(self, name: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def _ready(self) -> bool:
        """Its status would be 503 for want of a training worker."""
        with suppress(httpx.TransportError):
            workers = httpx.get(f"{self.base_url}/readyz", timeout=5).json()["workers"]
            served = {queue for worker in workers for queue in worker["queues"]}
            return served >= {Queue.INTERACTIVE.value, *((Queue.TRAINING.value,) if self._trains else ())}
        return False

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_S
        while not holds():
            self.require_alive()
            if time.monotonic() > deadline:
                logs = "\n".join(self._log(name) for name in self._modules)
                raise ServiceFailed(f"waited {START_S:.0f} s for {what}:\n{logs}")
            time.sleep(0.05)

    def _log(self, name: str) -> str:
        path = self._folder / f"{name}.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def _stop(self) -> None:
        """Gateway and worker before the servers that they talk to."""
        for process in reversed(list(self._processes.values())):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True)
class FoveaServer:
    """Fovea in one precision, as a server of the bench. `expected` is what the predictor alone answers in it."""

    artifacts: Artifacts
    expected: Expected
    precision: Precision = FLOAT32

    @property
    def name(self) -> str:
        return FOVEA if self.precision == FLOAT32 else FOVEA_INT8

    @contextmanager
    def start(self) -> Iterator[Running]:
        with Service(self.artifacts, precision=self.precision, wait=False) as service:
            target = service.target
            await_answer(target, read, self.expected, within_s=START_S, alive=service.require_alive)
            cold_start_s = time.monotonic() - service.began
            check_answers(target, read, self.expected)
            yield Running(target, cold_start_s, service.stages)


def read(body: bytes) -> Classes:
    """The classes of an answer of Fovea's."""
    classes: Classes = json.loads(body)["predictions"][0]["classes"]
    return classes


def publish(artifact: Path, model: str, prefix: str, database_url: str, blobs_url: str) -> None:
    """Register the artifact in that folder as the model's next version, its files under `prefix`."""
    BlobStore(blobs_url).put_folder(prefix, artifact)
    database = open_database(database_url)
    try:
        size = sum(path.stat().st_size for path in artifact.iterdir())
        manifest = read_manifest(artifact).to_dict()
        ModelRegistry(database).add_version(model, artifact=prefix, manifest=manifest, size_bytes=size)
    finally:
        database.close()


def mean_stages(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any]:
    """Mean batch size, and the mean milliseconds of each stage, between two looks at the metrics."""
    change = {name: value - before.get(name, 0.0) for name, value in after.items()}
    means = {"batch": change["batch_size_sum"] / max(1.0, change["batch_size_count"])}
    for stage in ("wait", "queue", "fetch", "decode", "inference"):
        total, count = change.get(f"{stage}_seconds_sum", 0.0), change.get(f"{stage}_seconds_count", 0.0)
        means[f"{stage}_ms"] = total / max(1.0, count) * 1e3
    return means


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
