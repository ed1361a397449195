"""A user's file into the weights folder, after it has proved to fit the architecture."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.errors import WeightsError, WeightsMismatch
from models.spec import Preprocessing
from models.weights.loading import LoadReport, default_preprocessing, fit
from models.weights.published import sources
from models.weights.reading import read_state
from models.weights.record import write_record
from models.weights.source import WeightsSource
from models.weights.store import WeightsStore
from models.weights.user_weights import imported_filename, source_of
from models.zoo import registry
from models.zoo.layout import classifiers, first_convolution
from system.files import sha256_of, written_whole
from system.hidden import hidden_character

# Five times as many as ImageNet-21k. A file of a few bytes can claim any number, and the network is made for it.
MOST_CLASSES = 100_000


def import_weights(
    path: Path,
    architecture: str,
    name: str,
    store: WeightsStore,
    *,
    labels: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
    licence: str | None = None,
    trained_on: str = "not stated",
    params: dict[str, Any] | None = None,
) -> tuple[WeightsSource, LoadReport]:
    """Copies `path` to the weights folder as `name` of `architecture`, with the file's own classes and channels.

    Raises WeightsCorrupt, WeightsMismatch (also when `labels` are not as many as the classes), and WeightsError
    where the name is taken or not allowed.
    """
    filename = imported_filename(architecture, name, path.suffix)
    if name in {source.name for source in sources(architecture, store)}:
        raise WeightsError(f"{architecture} has weights {name!r} already; give these another name")
    state = read_state(path)
    network = network_for(architecture, state, params or {})
    report = fit(network, state, path.name)
    made = registry.built(network)
    if labels and len(labels) != made.num_classes:
        raise WeightsMismatch(f"{len(labels)} labels for {made.num_classes} classes of {path.name}")
    for number, label in enumerate(labels, start=1):
        if not label.strip() or (hidden := hidden_character(label)):
            fault = f"a character that is not seen, {hidden}" if label.strip() else "only spaces"
            raise WeightsError(f"label {number}, {label[:80]!r}, holds {fault}: expected a name for each class")
    target = store.folder / filename
    _copy(path, target)
    record = {
        "architecture": architecture,
        "weights": name,
        "origin": "file",
        "sha256": sha256_of(target),
        "size_bytes": target.stat().st_size,
        "imported_from": path.name,
        "imported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": made.num_classes,
        "labels": list(labels),
        "licence": licence,
        "trained_on": trained_on,
        "params": params or {},
        "preprocessing": (preprocessing or default_preprocessing(made.architecture, made.params)).to_dict(),
    }
    write_record(target, record)
    return source_of(filename, record), report


def network_for(architecture: str, state: dict[str, Tensor], params: dict[str, Any]) -> nn.Module:
    """The network with as many classes and channels as the file's own tensors have."""
    probe = registry.build(architecture, **params)
    head = next(iter(classifiers(probe)))
    weight = state.get(f"{head}.weight")
    if weight is None:
        raise WeightsMismatch(
            f"the file has no {head}.weight, the head of {architecture}: it is for another network"
        )
    if weight.dim() < 2 or not 0 < weight.shape[0] <= MOST_CLASSES:
        raise WeightsMismatch(
            f"{head}.weight is {list(weight.shape)}, expected one row for each class, 1 to {MOST_CLASSES:,}"
        )
    stem = state.get(f"{first_convolution(probe)[0]}.weight")
    channels = int(stem.shape[1]) if stem is not None and stem.dim() == 4 else 3
    if channels not in (1, 3):
        raise WeightsMismatch(f"the first layer reads {channels} channels, expected 3 (RGB) or 1 (grey)")
    return registry.build(architecture, int(weight.shape[0]), channels, **params)


def _copy(path: Path, target: Path) -> None:
    with written_whole(target) as part:
        shutil.copyfile(path, part)
