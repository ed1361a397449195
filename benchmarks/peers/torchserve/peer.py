"""TorchServe as a peer. Its workers import torch, also for a handler that has no use for it."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Launch, Peer, Place
from benchmarks.ports import free_port
from benchmarks.server import Settings

MANIFEST = {
    "createdOn": "01/01/2026 00:00:00",
    "runtime": "python",
    "model": {"modelName": "bench", "modelVersion": "1.0", "handler": "handler.py"},
    "archiverVersion": "0.12.0",
}
# By default it writes a line for each request and each of its measurements.
QUIET = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders><Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%p %c %m%n"/></Console></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def launch(place: Place, settings: Settings) -> Launch:
    store = place.folder / "store"
    _write_model(store / "bench")
    (place.folder / "log4j2.xml").write_text(QUIET)
    model = {
        "marName": "bench",
        "defaultVersion": True,
        "minWorkers": settings["workers"],
        "maxWorkers": settings["workers"],
        "batchSize": settings["batch"],
        "maxBatchDelay": settings["wait_ms"],
        "responseTimeout": 60,
    }
    config = {
        "inference_address": f"http://127.0.0.1:{place.port}",
        "management_address": f"http://127.0.0.1:{free_port()}",
        "metrics_address": f"http://127.0.0.1:{free_port()}",
        "grpc_inference_port": free_port(),
        "grpc_management_port": free_port(),
        "load_models": "bench",
        "models": json.dumps({"bench": {"1.0": model}}),
        "disable_token_authorization": "true",
        "metrics_mode": "prometheus",
    }
    path = place.folder / "config.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in config.items()))
    command = [place.program("torchserve"), "--start", "--foreground", "--model-store", str(store)]
    options = ["--ts-config", str(path), "--log-config", str(place.folder / "log4j2.xml"), "--disable-token-auth"]
    return Launch([*command, *options], "/predictions/bench")


def sweep(cores: int) -> Sequence[Settings]:
    plain = {"workers": cores, "batch": 1, "wait_ms": 0}
    return [plain, {**plain, "batch": 4, "wait_ms": 5}, {**plain, "workers": cores + 1}]


def _write_model(folder: Path) -> None:
    """What `torch-model-archiver --archive-format no-archive` writes."""
    (folder / "MAR-INF").mkdir(parents=True)
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(MANIFEST))
    shutil.copy(Path(__file__).with_name("handler.py"), folder)


PEER = Peer("torchserve", "torchserve", launch, sweep, programs=("java",))
