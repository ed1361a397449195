"""Which children make a Fovea on one machine, with which environment. Knows nothing of how they are kept alive."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.up.child import ChildSpec, Stage
from cli.up.data_folder import DataFolder
from cli.up.redis_server import broker_arguments, find_redis, redis_url, transit_arguments

# Fewer heaps of the allocator: 4 MB less under load. The gateway's image sets it too.
GATEWAY_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}


@dataclass(frozen=True)
class UpOptions:
    """What `fovea up` was asked for. `redis_url` names a Redis that runs already, for queues and images alike."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "auto"
    redis_url: str | None = None
    starter: bool = True
    log_format: str = "text"
    grpc_port: int = 8001

    @property
    def training_device(self) -> str:
        """TensorRT infers only; what trains beside it is CUDA."""
        return "cuda" if self.device == "tensorrt" else self.device


@dataclass(frozen=True)
class Brokers:
    """The Redis URLs that the children are given, and the servers to start for them (socket by child)."""

    broker_url: str
    transit_url: str
    servers: tuple[ChildSpec, ...] = ()
    sockets: tuple[Path, ...] = ()


def plan_brokers(folder: DataFolder, given_url: str | None) -> Brokers:
    """Two private servers on unix sockets: a durable one for the queues, one in memory for image bytes.

    One for both would write every image to the append-only file. Raises RedisUnavailable when none is installed.
    """
    if given_url:
        return Brokers(given_url, given_url)
    binary = find_redis()
    broker, transit = folder.sockets / "broker.sock", folder.sockets / "transit.sock"
    servers = (
        # It inherits the folder's lock: should this process be killed, nobody else opens its append-only file
        # before it has written its last.
        _redis("broker", broker_arguments(binary, broker, folder.redis), pass_fds=(folder.lock,)),
        _redis("transit", transit_arguments(binary, transit)),
    )
    return Brokers(redis_url(broker), redis_url(transit), servers, (broker, transit))


def child_environment(options: UpOptions, folder: DataFolder, brokers: Brokers) -> Mapping[str, str]:
    """The settings that gateway and workers share."""
    return {
        "FOVEA_HOST": options.host,
        "FOVEA_PORT": str(options.port),
        "FOVEA_GRPC_PORT": str(options.grpc_port),
        "FOVEA_DATA": str(folder.path),
        "FOVEA_DATABASE_URL": folder.database_url,
        "FOVEA_BLOBS_URL": folder.blobs_url,
        "FOVEA_BROKER_URL": brokers.broker_url,
        "FOVEA_TRANSIT_URL": brokers.transit_url,
        "FOVEA_WEIGHTS_DIR": os.environ.get("FOVEA_WEIGHTS_DIR") or str(folder.weights),
        "FOVEA_DEVICE": options.device,
        "FOVEA_TRAINING_DEVICE": os.environ.get("FOVEA_TRAINING_DEVICE") or options.training_device,
        "FOVEA_LOG_FORMAT": options.log_format,
        "PYTHONUNBUFFERED": "1",
        # Their lines are read as UTF-8. Whatever this terminal shows, a name that it lacks must stop no worker.
        "PYTHONIOENCODING": "utf-8",
        # Otherwise a folder `service` or `models` in the user's current directory would be imported instead.
        "PYTHONSAFEPATH": "1",
    }


def children(environment: Mapping[str, str], listening: Sequence[int]) -> tuple[ChildSpec, ...]:
    """The gateway, which accepts from the sockets `listening`, one inference worker and one training worker."""
    return (
        _gateway({**environment, **GATEWAY_ENVIRONMENT}, tuple(listening)),
        _python("inference", "workers.inference.main", environment),
        _python("training", "workers.training.main", {**environment, **_training_environment()}),
    )


def _gateway(environment: Mapping[str, str], listening: tuple[int, ...]) -> ChildSpec:
    """One that dies leaves those who connect in the sockets' queue, where the next one finds them."""
    return ChildSpec(
        "gateway",
        (sys.executable, "-m", "service.main"),
        Stage.GATEWAY,
        {**environment, "FOVEA_LISTEN_FDS": ",".join(map(str, listening))},
        pass_fds=listening,
        # Where everything ends, nobody can be sent elsewhere meanwhile. SIGINT says so too, but a process that is
        # still starting would print a traceback.
        stop_signal=signal.SIGUSR1,
    )


def _training_environment() -> Mapping[str, str]:
    """torch's threads would wait for each other by spinning: 13 times as slow on cores that others use too."""
    return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}


def database_child(environment: Mapping[str, str], *, with_keys: bool) -> ChildSpec:
    """The child that brings the database up to date, prints API keys `with_keys`, and ends."""
    command = (sys.executable, "-m", "cli.up.database", *(["--keys"] if with_keys else []))
    return ChildSpec("database", command, Stage.WORKER, environment, quiet=True)


def samples_child(environment: Mapping[str, str], folder: DataFolder) -> ChildSpec:
    """The child that writes one image of each digit that the starter model has not seen, and ends."""
    command = (sys.executable, "-m", "cli.up.samples", str(folder.samples), "1", str(folder.digits))
    return ChildSpec("samples", command, Stage.WORKER, environment, quiet=True)


def _python(name: str, module: str, environment: Mapping[str, str]) -> ChildSpec:
    return ChildSpec(name, (sys.executable, "-m", module), Stage.WORKER, environment)


def _redis(name: str, command: list[str], pass_fds: tuple[int, ...] = ()) -> ChildSpec:
    return ChildSpec(name, command, Stage.REDIS, quiet=True, pass_fds=pass_fds)
