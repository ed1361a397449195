"""A user's checkpoint into the network that its architecture names; what does not fit is told with what would."""

import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import InvalidArchitecture, UnknownArchitecture, WeightsCorrupt, WeightsMismatch
from models.spec import Preprocessing
from models.weights.importer import network_for
from models.weights.loading import LoadReport, default_preprocessing, fit
from models.weights.published import sources
from models.weights.reading import read_state
from models.zoo import registry
from models.zoo.catalogue import list_architectures

# Of the zoo those are looked at whose size is nearest: to build one takes a fraction of a second.
MOST_TRIED = 24
NEARLY = 0.9
NOT_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked")


def read_checkpoint(path: Path, architecture: str, params: dict[str, Any]) -> tuple[nn.Module, LoadReport]:
    """The network with the file's classes and weights.

    Raises WeightsCorrupt, UnknownArchitecture, InvalidArchitecture, and WeightsMismatch with the tensors that do
    not fit and the architecture that they fit best.
    """
    check_archive(path)
    state = read_state(path)
    try:
        network = network_for(architecture, state, params)
        report = fit(network, state, path.name)
    except WeightsMismatch as error:
        near = nearest_architecture(state)
        hint = ""
        if near and near != architecture:
            hint = f". Its tensors are those of {near}: give that as the architecture"
        raise WeightsMismatch(f"{error}{hint}") from error
    if report.new_head:
        raise WeightsMismatch(f"{path.name} has no {', '.join(report.new_head)}, so it cannot tell classes apart")
    return network, report


def checkpoint_preprocessing(architecture: str, params: dict[str, Any]) -> Preprocessing:
    """That of the architecture's own published weights, else the usual for its size."""
    published = next((source for source in sources(architecture) if source.default), None)
    if published is not None and not params:
        return published.preprocessing
    return default_preprocessing(registry.get(architecture), params)


def check_archive(path: Path) -> None:
    """torch.save compresses nothing. Raises WeightsCorrupt for an archive that would grow when it is read."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as exc:
        raise WeightsCorrupt(f"{path.name} is damaged, or no file that torch.save has written") from exc
    packed = next((member for member in members if member.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None or sum(member.file_size for member in members) > path.stat().st_size:
        raise WeightsCorrupt(
            f"{path.name} is a compressed archive, which torch.save does not write; send the file that it wrote, "
            "or "
            "better one of safetensors.torch.save_file(network.state_dict(), 'model.safetensors')"
        )


def nearest_architecture(state: dict[str, Tensor]) -> str | None:
    """The architecture that has nearly all of the state's tensors in their sizes, but for the last layer's."""
    sizes = {name: tuple(value.shape) for name, value in state.items() if not name.endswith(NOT_PARAMETERS)}
    count = sum(value.numel() for name, value in state.items() if name in sizes)
    # The catalogue counts with 1000 classes.
    last = next((shape for shape in reversed(sizes.values()) if len(shape) > 1), (1000,))
    count += (1000 - last[0]) * (math.prod(last[1:]) + 1)
    entries = sorted(list_architectures(), key=lambda entry: abs(entry["totals"]["parameters"] - count))
    best, found = NEARLY, None
    for entry in entries[:MOST_TRIED]:
        tensors = _sizes_of(entry["name"])
        shared = sum(sizes.get(name) == shape for name, shape in tensors.items())
        score = shared / max(len(sizes), len(tensors), 1)
        if score > best:
            best, found = score, entry["name"]
    return found


def _sizes_of(architecture: str) -> dict[str, tuple[int, ...]]:
    try:
        with torch.device("meta"):
            network = registry.build(architecture)
    except (UnknownArchitecture, InvalidArchitecture, NotImplementedError, RuntimeError, ValueError):
        return {}
    return {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if not name.endswith(NOT_PARAMETERS)
    }
