"""Triton as a peer: the server inside the pytriton wheel, with its Python backend, the only one in there."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Launch, Peer, Place
from benchmarks.plain import Classes
from benchmarks.server import Settings

CONFIG = """
name: "bench"
backend: "python"
max_batch_size: {batch}
input [{{ name: "IMAGE" data_type: TYPE_STRING dims: [1] }}]
output [{{ name: "CLASSES" data_type: TYPE_STRING dims: [1] }}]
instance_group [{{ count: {instances} kind: KIND_CPU }}]
"""
# Without a delay: whatever waits when an instance is free is one batch.
BATCHES = "dynamic_batching {}\n"


def launch(place: Place, settings: Settings) -> Launch:
    wheel = place.packages / "pytriton" / "tritonserver"
    backends, models = place.folder / "backends", place.folder / "models"
    _write_model(models / "bench", settings)
    shutil.copytree(wheel / "backends", backends)
    # The backend's own program, one for each version of Python.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(wheel / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
    options = {
        "model-repository": models,
        "backend-directory": backends,
        "http-address": "127.0.0.1",
        "http-port": place.port,
        "allow-grpc": "false",
        "allow-metrics": "false",
        "log-info": "false",
    }
    command = [str(wheel / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]
    libraries = [str(place.packages / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH", "")]
    return Launch(
        command,
        "/v2/models/bench/infer",
        environment={"LD_LIBRARY_PATH": ":".join(filter(None, libraries))},
        # No JSON before the tensor: the body is the one element of the one input.
        headers={"Inference-Header-Content-Length": "0"},
    )


def read(body: bytes) -> Classes:
    """Out of `{"outputs": ...}`, four bytes of length, and the element, which is JSON as well."""
    described, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    size = int(described["outputs"][0]["parameters"]["binary_data_size"])
    classes: Classes = json.loads(body[end : end + size][4:])
    return classes


def sweep(cores: int) -> Sequence[Settings]:
    return [
        {"instances": cores, "batch": 1},
        {"instances": cores, "batch": 8},
        {"instances": 2 * cores, "batch": 1},
    ]


def _write_model(folder: Path, settings: Settings) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("model.py"), version)
    config = CONFIG.format(**settings) + (BATCHES if settings["batch"] > 1 else "")
    (folder / "config.pbtxt").write_text(config)


PEER = Peer("triton", "nvidia-pytriton", launch, sweep, read)
