"""A file of tensors into memory, without ever running code that it may hold. Knows no architecture."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from models.errors import WeightsCorrupt, WeightsNotFound
from models.weights.keras import read_keras

PICKLED = (".pth", ".pt", ".bin")
# Training scripts wrap the tensors in one of these.
WRAPPERS = ("state_dict", "model")
PARALLEL = "module."


def read_state(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file, by name, on the CPU.

    Reads `.safetensors`, `.pth`, `.pt` and `.bin` (only tensors, never other pickled objects) and Keras' `.h5`.
    Raises WeightsNotFound, and WeightsCorrupt for a damaged file, another format, or anything but tensors.
    """
    if not path.is_file():
        raise WeightsNotFound(f"there is no file {path}")
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
        raise WeightsCorrupt(f"{path.name} is not a whole safetensors file: {exc}") from exc


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # torch warns of a pickle that is not its own before it refuses it; the refusal says enough.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        if _is_damaged(path):
            raise WeightsCorrupt(f"{path.name} is damaged or cut short: {_first_line(exc)}") from exc
        raise WeightsCorrupt(
            f"{path.name} holds pickled objects beside tensors, which could run code when read, so it is refused: "
            f"{_first_line(exc)}. Save the state dict alone, best as .safetensors."
        ) from exc
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as exc:
        raise WeightsCorrupt(f"{path.name} is damaged or cut short: {_first_line(exc)}") from exc
    return _tensors_of(path, content)


def _is_damaged(path: Path) -> bool:
    """Whether the archive that PyTorch writes is not whole; the older format without an archive is let through."""
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    return is_archive and not zipfile.is_zipfile(path)


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
    names = [str(name) for name in content]
    prefix = PARALLEL if all(name.startswith(PARALLEL) for name in names) else ""
    state = {str(name).removeprefix(prefix): value for name, value in content.items()}
    return _with_metadata(state, content, prefix)


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


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().split("\n")[0][:300]
