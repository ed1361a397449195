"""Which device a network can really run on, and ONNX Runtime sessions that run there or not at all.

ONNX Runtime falls back to the CPU in silence when CUDA cannot be used; nothing here does. Knows no torch.
"""

import contextlib
import ctypes
import functools
import io
import logging
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

# Read when the library is loaded: switched off later, it would still keep a database open in the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.errors import ArtifactCorrupt, DeviceUnavailable, without_folder
from system.memory import trim_heap

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
# TensorRT builds an engine, for minutes, for the sizes that it is told beforehand.
MOST_AT_ONCE, USUALLY_AT_ONCE = 64, 8

# ONNX Runtime's exceptions have no base of their own.
MODEL_ERRORS: tuple[type[Exception], ...] = (
    ort_errors.InvalidGraph, ort_errors.InvalidProtobuf, ort_errors.NoModel, ort_errors.NoSuchFile,
)  # fmt: skip
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    *MODEL_ERRORS, ort_errors.EPFail, ort_errors.EngineError, ort_errors.Fail, ort_errors.InvalidArgument,
    ort_errors.NotImplemented, ort_errors.RuntimeException, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class OpenedSession:
    """A session, the execution provider that it really uses, and why that is not CUDA where CUDA was tried."""

    session: Any
    provider: str
    cuda_problem: str | None = None


def available_providers() -> tuple[str, ...]:
    """The execution providers that work on this machine, best first; CUDA only when a GPU answers."""
    return (CPU,) if cuda_problem() else (CUDA, CPU)


def resolve(device: Device) -> tuple[str, ...]:
    """The providers to ask for. Raises DeviceUnavailable when a GPU's are asked for and cannot be used."""
    if device not in get_args(Device):
        raise DeviceUnavailable(f"the device is {device!r}; it must be one of {', '.join(get_args(Device))}")
    if device == "cpu":
        return (CPU,)
    problem = cuda_problem() or (tensorrt_problem() if device == "tensorrt" else None)
    if problem is None:
        return (TENSORRT, CUDA, CPU) if device == "tensorrt" else (CUDA, CPU)
    if device != "auto":
        raise DeviceUnavailable(f"device {device} cannot be used: {problem}")
    return (CPU,)


@functools.cache
def cuda_problem() -> str | None:
    """Why CUDA cannot be used here, or None. Loads the driver: never call it before a fork."""
    if CUDA not in onnxruntime.get_available_providers():
        return "this ONNX Runtime is built without CUDA; install onnxruntime-gpu instead of onnxruntime"
    return _driver_problem() or _library_problem()


@functools.cache
def tensorrt_problem() -> str | None:
    """Why TensorRT cannot be used where CUDA can, or None."""
    if TENSORRT not in onnxruntime.get_available_providers():
        return "this ONNX Runtime is built without TensorRT; install onnxruntime-gpu"
    return _unloadable("libonnxruntime_providers_tensorrt.so", "a library of TensorRT", "NVIDIA's tensorrt")


def open_session(
    model: Path,
    *,
    device: Device = "auto",
    intra_threads: int = 1,
    gpu_mem_limit: int | None = None,
    tf32: bool = False,
    engines: Path | None = None,
) -> OpenedSession:
    """Load an ONNX file to run on `device` with `intra_threads` threads for each run.

    `gpu_mem_limit` is in bytes and bounds ONNX Runtime's own arena; cuDNN's workspace comes on top. `tf32`
    lets CUDA multiply float32 with 10 bits of its mantissa. `engines` is a folder in which TensorRT keeps what it
    has built.
    Raises DeviceUnavailable when `device` is a GPU and the session would not run there, and ArtifactCorrupt when
    the file is not a graph that this ONNX Runtime can load.
    """
    first = resolve(device)[0]
    if first == CPU:
        return OpenedSession(_load(model, [CPU], intra_threads), CPU, cuda_problem() if device == "auto" else None)
    problem = f"ONNX Runtime could not start {first}; its reason is on the standard error"
    providers: list[Any] = [(CUDA, _cuda_options(model, gpu_mem_limit, tf32=tf32)), CPU]
    if first == TENSORRT:
        providers.insert(0, (TENSORRT, _tensorrt_options(model, engines)))
    try:
        session = _load(model, providers, intra_threads)
        if session.get_providers()[0] == first:
            return OpenedSession(session, first)
    except DeviceUnavailable as exc:
        problem = str(exc)
    if device != "auto":
        raise DeviceUnavailable(f"device {device} cannot be used: {problem}")
    logger.warning("%s runs on the CPU: %s", model, problem)
    return OpenedSession(_load(model, [CPU], intra_threads), CPU, problem)


def quiet() -> None:
    """Have ONNX Runtime write nothing but what ends it."""
    onnxruntime.set_default_logger_severity(4)


def open_bytes(graph: bytes) -> Any:
    """A session of a small graph, on the CPU. Raises RUNTIME_ERRORS."""
    return onnxruntime.InferenceSession(graph, providers=[CPU])


def open_head(graph: bytes, intra_threads: int) -> Any:
    """A session of a part of a served graph, on the CPU, as `open_session` has it. Raises RUNTIME_ERRORS."""
    session = onnxruntime.InferenceSession(graph, _options(intra_threads), providers=[CPU])
    trim_heap()
    return session


def runtime_reason(error: Exception, model: Path) -> str:
    """What ONNX Runtime says, without the model's folder and, where CUDA fails, without the name of this host."""
    return re.sub(r"hostname=\S* ?;? ?", "", without_folder(error, model))


def _load(model: Path, providers: list[Any], intra_threads: int) -> Any:
    try:
        session = onnxruntime.InferenceSession(model, _options(intra_threads), providers=providers)
    except RUNTIME_ERRORS as exc:
        reason = runtime_reason(exc, model)
        if providers[0] != CPU and not isinstance(exc, MODEL_ERRORS):
            raise DeviceUnavailable(reason) from exc
        raise ArtifactCorrupt(f"{model.name} cannot be loaded by ONNX Runtime: {reason}") from exc
    # Without this a run that fails on the GPU is repeated on the CPU, and every later one stays there.
    session.disable_fallback()
    # Of the parsed file and the first copy of the weights the C library keeps twice the file's size.
    trim_heap()
    return session


def _options(intra_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A spinning thread is no faster here and takes the core from the threads that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _cuda_options(model: Path, gpu_mem_limit: int | None, *, tf32: bool) -> dict[str, str]:
    options = {
        # Timing the algorithms for each new batch size found none that were faster.
        "cudnn_conv_algo_search": "HEURISTIC",
        # By default on, with answers as far from float32's as a variant's, which has to pass a gate. Without it
        # cuDNN takes twice as long to plan a float16 graph, for plans that are slower.
        "use_tf32": str(int(tf32 or _is_float16(model))),
        # Tensor cores want channels that lie side by side, and cuDNN would turn each layer's images over.
        "prefer_nhwc": str(int(_is_float16(model))),
        # The default doubles its reservation at each step, which starves a trainer on the same GPU.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if gpu_mem_limit is not None:
        options["gpu_mem_limit"] = str(gpu_mem_limit)
    return options


def _is_float16(model: Path) -> bool:
    return "fp16" in model.suffixes[0]


def _tensorrt_options(model: Path, engines: Path | None) -> dict[str, str]:
    """TensorRT asks for the sizes of every input before it builds."""
    (image,) = _load(model, [CPU], 1).get_inputs()
    sizes = "x".join(map(str, image.shape[1:]))
    options = {
        # A float16 graph is one that has passed its gate; a float32 one is to compute in float32.
        "trt_fp16_enable": str(_is_float16(model)),
        "trt_profile_min_shapes": f"{image.name}:1x{sizes}",
        "trt_profile_opt_shapes": f"{image.name}:{USUALLY_AT_ONCE}x{sizes}",
        "trt_profile_max_shapes": f"{image.name}:{MOST_AT_ONCE}x{sizes}",
    }
    if engines is not None:
        engines.mkdir(parents=True, exist_ok=True)
        options |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(engines)}
        options |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": str(engines)}
    return options


def _driver_problem() -> str | None:
    library = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return f"there is no NVIDIA driver ({library} cannot be loaded); in a container, give it the GPU"
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0:
        return f"the NVIDIA driver answers with error {status}; nvidia-smi says more"
    return None if count.value else "the NVIDIA driver sees no GPU; look at CUDA_VISIBLE_DEVICES"


def _library_problem() -> str | None:
    """Load what the CUDA provider links against, from the nvidia wheels or the system."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()  # it prints its failures, and raises none
    for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
        if problem := _unloadable(name, "a CUDA library", "onnxruntime-gpu[cuda,cudnn]"):
            return problem
    return None


def _unloadable(name: str, what: str, remedy: str) -> str | None:
    """Why one of ONNX Runtime's libraries cannot be loaded, which depends on libraries of others; or None."""
    path = Path(onnxruntime.__file__).parent / "capi" / name
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as exc:
        return f"{what} is missing ({without_folder(exc, path)}); install {remedy}"
    return None
