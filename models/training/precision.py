"""The device that trains and the number format it is fast in. Knows no network."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from models.errors import DeviceUnavailable
from models.spec import Preprocessing

SMALL = 64 * 64


def training_device(asked: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device. Raises DeviceUnavailable where CUDA was required and is absent."""
    if asked == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if asked == "cuda":
        raise DeviceUnavailable(
            "the training device is set to cuda, but torch finds no usable CUDA device; set it to auto or cpu, or "
            "check the driver with nvidia-smi"
        )
    return torch.device("cpu")


def compute_in_float32() -> None:
    """Keeps cuDNN from rounding float32 to TF32, its default: what is evaluated is what is served."""
    torch.backends.cudnn.allow_tf32 = False


def use_threads(cores: int, preprocessing: Preprocessing) -> None:
    """Spread each operation over the cores, unless it is so small that handing it out costs more than it saves."""
    small = preprocessing.height * preprocessing.width <= SMALL
    torch.set_num_threads(1 if small else cores)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch's operations to the thread that calls them: for many small ones, or beside threads of others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_format(device: torch.device, network: nn.Module) -> torch.memory_format:
    """How images lie in memory while a network learns from them.

    Tensor cores compute on channels that lie side by side, and cuDNN would turn the images over for each layer.
    On a CPU they are for networks with depthwise convolutions, which learn 1.2 to 1.5 times as fast with them.
    """
    depthwise = any(isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in network.modules())
    return torch.channels_last if device.type == "cuda" or depthwise else torch.contiguous_format


class Precision:
    """Autocast and, for float16, the gradient's scaler.

    bfloat16 where the GPU computes with it, else float16; on a CPU bfloat16 only with AMX, because without it the
    conversion costs more than it saves (measured: 4 times slower on AVX-512).
    """

    def __init__(self, device: torch.device, mode: str) -> None:
        self.device = device
        self.dtype = _dtype(device) if mode == "auto" else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> AbstractContextManager[object]:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def describe(self) -> str:
        return "float32" if self.dtype is None else f"mixed {str(self.dtype).removeprefix('torch.')}"


def _dtype(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else None


def out_of_memory(error: BaseException) -> bool:
    """Torch has a class for CUDA's shortage only; the CPU allocator's is a RuntimeError known by its text."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
