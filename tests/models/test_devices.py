import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from support.gpu import needs_gpu

from models.devices import (
    CPU,
    CUDA,
    TENSORRT,
    available_providers,
    cuda_problem,
    open_session,
    resolve,
    runtime_reason,
    tensorrt_problem,
)
from models.errors import ArtifactCorrupt, DeviceUnavailable

needs_no_gpu = pytest.mark.skipif(cuda_problem() is None, reason="this machine has a GPU that works")


def test_the_cpu_is_always_there() -> None:
    assert resolve("cpu") == (CPU,)
    assert available_providers()[-1] == CPU


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DeviceUnavailable, match="'tpu'; it must be one of auto, cpu, cuda, tensorrt"):
        resolve("tpu")  # type: ignore[arg-type]


@needs_no_gpu
def test_auto_settles_for_the_cpu_and_says_why(artifact: Path) -> None:
    assert resolve("auto") == available_providers() == (CPU,)
    opened = open_session(artifact / "model.onnx", device="auto")
    assert opened.provider == CPU
    assert opened.cuda_problem == cuda_problem()


@needs_no_gpu
def test_cuda_without_cuda_is_refused_without_a_word_from_the_runtime(
    artifact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceUnavailable, match="device cuda cannot be used: "):
        open_session(artifact / "model.onnx", device="cuda")
    assert capfd.readouterr() == ("", "")


@needs_no_gpu
def test_tensorrt_without_a_gpu_is_refused_for_the_gpu(artifact: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="device tensorrt cannot be used: "):
        open_session(artifact / "model.onnx", device="tensorrt")


@needs_gpu
@pytest.mark.skipif(tensorrt_problem() is not None, reason=f"no TensorRT: {tensorrt_problem()}")
def test_tensorrt_runs_on_the_gpu_and_keeps_its_engines(artifact: Path, tmp_path: Path) -> None:
    opened = open_session(artifact / "model.onnx", device="tensorrt", engines=tmp_path / "engines")
    assert opened.provider == TENSORRT
    opened.session.run(None, {"image": np.zeros((1, 32, 40, 3), np.uint8)})
    assert list((tmp_path / "engines").glob("*.engine"))


@needs_gpu
def test_cuda_runs_on_the_gpu(artifact: Path) -> None:
    assert resolve("auto") == (CUDA, CPU)
    assert open_session(artifact / "model.onnx", device="cuda", gpu_mem_limit=1 << 30).provider == CUDA


def test_a_session_has_the_threads_asked_for_and_they_do_not_spin(artifact: Path) -> None:
    options = open_session(artifact / "model.onnx", device="cpu", intra_threads=3).session.get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 1
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_a_file_that_is_no_graph_is_corrupt(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx cannot be loaded"):
        open_session(tmp_path / "model.onnx", device="cpu")


@pytest.mark.parametrize("folder", ["version", "a folder: with spaces"])
def test_an_error_of_the_runtime_names_the_file_and_not_where_it_lies(tmp_path: Path, folder: str) -> None:
    (tmp_path / "really").mkdir()
    (tmp_path / folder).symlink_to(tmp_path / "really")
    (tmp_path / folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ArtifactCorrupt) as caught:
        open_session(tmp_path / folder / "model.onnx", device="cpu")
    assert "Load model from model.onnx failed" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_an_error_of_cuda_does_not_name_this_host() -> None:
    said = "CUDA failure 2: out of memory ; GPU=0 ; hostname=gpu-7.internal ; file=cuda_call.cc ; line=124"
    assert runtime_reason(RuntimeError(said), Path("model.onnx")) == (
        "CUDA failure 2: out of memory ; GPU=0 ; file=cuda_call.cc ; line=124"
    )


def test_onnx_runtime_keeps_nothing_in_the_home_folder(artifact: Path, tmp_path: Path) -> None:
    """Its telemetry, even switched off, would open a database there and leave it behind."""
    program = (
        "import psutil, sys; from pathlib import Path; from models.devices import open_session\n"
        "open_session(Path(sys.argv[1]) / 'model.onnx', device='cpu')\n"
        "print(psutil.Process().open_files())"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(artifact)],
        env={**environment, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert list(home.rglob("*")) == []
