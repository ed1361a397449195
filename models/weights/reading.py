"""A file of tensors into memory, without ever running code that it may hold. Knows no architecture."""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from models.errors import WeightsCorrupt, WeightsNotFound, without_folder
from models.weights.keras import read_keras

PICKLED = (".pth", ".pt", ".bin")
# Training scripts wrap the tensors in one of these.
WRAPPERS = ("state_dict", "model")
PARALLEL = "module."
_PICKLED_OBJECT = re.compile(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)")


def read_state(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file, by name, on the CPU.

    Reads `.safetensors`, `.pth`, `.pt` and `.bin` (only tensors, never other pickled objects) and Keras' `.h5`.
    Raises WeightsNotFound, and WeightsCorrupt for a damaged file, another format, or anything but tensors.
    """
    if not path.is_file():
        raise WeightsNotFound(f"there is no file {path.name}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED:
        return _read_pickled(path)
    if path.suffix == ".h5":
        return read_keras(path)
    raise WeightsCorrupt(
        f"{path.name} is of no format that holds weights here: expected .safetensors, {', '.join(PICKLED)} or .h5"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as exc:
        raise WeightsCorrupt(f"{path.name} is not a whole safetensors file: {without_folder(exc, path)}") from exc


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # torch warns of a pickle that is not its own before it refuses it; the refusal says enough.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
    ) as exc:
        raise WeightsCorrupt(_refusal(path, str(exc))) from exc
    return _tensors_of(path, content)


def _refusal(path: Path, said: str) -> str:
    """Why the file cannot be read. What torch `said` of it is long, coloured and meant for programmers."""
    if pickled := _PICKLED_OBJECT.search(said):
        reason = f"holds a pickled {pickled[1].replace('__main__.', '')}, which could run code when read"
    elif "TorchScript" in said:
        reason = "is a TorchScript program, not a state dict"
    else:
        return f"{path.name} is damaged, cut short, or no file that torch.save has written"
    return (
        f"{path.name} {reason}; only tensors by name (a state dict) are taken. Save them where the network can be "
        "loaded: torch.save(network.state_dict(), 'weights.pth'), or better "
        "safetensors.torch.save_file(network.state_dict(), 'weights.safetensors')."
    )


def _tensors_of(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for wrapper in WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise WeightsCorrupt(
            f"{path.name} holds a {type(content).__name__}, expected tensors by name (a state dict)"
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsCorrupt(f"{path.name} holds values that are no tensors: {', '.join(others[:5])}")
    odd = [str(name) for name, value in content.items() if not _is_dense(value)]
    if odd:
        raise WeightsCorrupt(
            f"{path.name} holds tensors that are sparse, quantized, complex or without values: "
            f"{', '.join(odd[:5])}"
        )
    names = [str(name) for name in content]
    prefix = PARALLEL if all(name.startswith(PARALLEL) for name in names) else ""
    state = {str(name).removeprefix(prefix): value for name, value in content.items()}
    return _with_metadata(state, content, prefix)


def _is_dense(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_quantized or value.is_complex() or value.is_meta)


def _with_metadata(state: dict[str, Tensor], content: Any, prefix: str) -> dict[str, Tensor]:
    """Keeps the layers' version numbers, by which PyTorch translates files of older releases."""
    metadata = getattr(content, "_metadata", None)
    if metadata is None:
        return state
    kept = _State(state)
    kept._metadata = {str(name).removeprefix(prefix): value for name, value in metadata.items()}
    return kept


class _State(dict[str, Tensor]):
    _metadata: dict[str, Any]
