"""Weights into a network: everything must fit, but for the head of another class count, which is reported.

The way in for training and publishing: `build_with_weights`.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import WeightsCorrupt, WeightsMismatch
from models.spec import Preprocessing
from models.weights.published import NONE, resolve
from models.weights.reading import read_state
from models.weights.source import WeightsSource
from models.weights.store import WeightsStore
from models.zoo import registry
from models.zoo.architecture import Architecture
from models.zoo.layout import classifiers, first_convolution
from system.files import sha256_of

# Older files lack the counters of batch normalisation, which matter to nothing once trained.
COUNTER = "num_batches_tracked"
# torchvision renamed DenseNet's layers after its files were published: `norm.1.weight` is `norm1.weight` today.
DENSENET_OLD_NAME = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var|num_batches_tracked))$"
)
LISTED = 8


@dataclass(frozen=True)
class LoadReport:
    """What happened to the tensors. Both lists are empty when the file was taken as it is."""

    tensors: int
    new_head: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()

    def describe(self) -> str:
        parts = [f"{self.tensors} tensors loaded"]
        if self.new_head:
            parts.append(f"new, untrained head: {', '.join(self.new_head)}")
        parts.extend(self.adapted)
        return "; ".join(parts)


@dataclass(frozen=True)
class LoadedWeights:
    """Provenance as plain JSON types, preprocessing and, where the head was kept, the labels of its outputs."""

    provenance: dict[str, Any]
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    report: LoadReport = field(default_factory=lambda: LoadReport(0))


Weights = str | Path | WeightsSource


def build_with_weights(
    architecture: str,
    weights: Weights,
    store: WeightsStore,
    num_classes: int | None = None,
    channels: int = 3,
    **params: Any,
) -> tuple[nn.Module, LoadedWeights]:
    """A network with weights in it; without `num_classes`, with the weights' own classes.

    `weights` is a name (`imagenet`, `none`, one of `sources(architecture)`), a file, or a source.
    Raises UnknownArchitecture, InvalidArchitecture and the errors of `load_weights`.
    """
    if isinstance(weights, str) and weights != NONE:
        weights = resolve(architecture, weights, store)
    if isinstance(weights, WeightsSource):
        params = {**weights.params, **params}
        num_classes = num_classes or weights.num_classes or None
    network = registry.build(architecture, 1000 if num_classes is None else num_classes, channels, **params)
    return network, load_weights(network, architecture, weights, store)


def load_weights(
    network: nn.Module,
    architecture: str,
    weights: Weights,
    store: WeightsStore,
    num_classes: int | None = None,
) -> LoadedWeights:
    """Puts weights into a network that `registry.build` made for `architecture`, in place.

    `none` loads nothing. Raises UnknownWeights, WeightsNotFound, WeightsCorrupt, and WeightsMismatch with every
    name and both shapes; after a WeightsMismatch the network's values are undefined.
    """
    made = registry.built(network)
    if made.architecture.name != architecture or num_classes not in (None, made.num_classes):
        raise WeightsMismatch(
            f"the network is {made.architecture.name} for {made.num_classes} classes, "
            f"the weights are wanted for {architecture} and {num_classes}"
        )
    if weights == NONE:
        untrained: dict[str, Any] = {"origin": NONE, "architecture": architecture}
        return LoadedWeights(untrained, default_preprocessing(made.architecture, made.params))
    if isinstance(weights, Path):
        state = read_state(weights)
        report = fit(network, state, weights.name)
        provenance: dict[str, Any] = {"origin": "file", "filename": weights.name, "sha256": sha256_of(weights)}
        provenance |= {"architecture": architecture, "loaded": asdict(report)}
        return LoadedWeights(provenance, default_preprocessing(made.architecture, made.params), (), report)
    source = weights if isinstance(weights, WeightsSource) else resolve(architecture, weights, store)
    file = store.fetch(source)
    state = read_state(file.path)
    if source.origin == "timm":
        from models.weights.timm_hub import translate

        state = translate(architecture, source, state)
    report = fit(network, state, source.filename, headless=source.num_classes == 0)
    published = {key: value for key, value in source.to_dict().items() if key not in ("checksum", "default")}
    provenance = {
        **published,
        "sha256": file.sha256,
        "size_bytes": file.size_bytes,
        "verified_by": file.verified_by,
        "loaded": asdict(report),
    }
    return LoadedWeights(provenance, source.preprocessing, () if report.new_head else source.labels, report)


def default_preprocessing(architecture: Architecture, params: Mapping[str, Any] | None = None) -> Preprocessing:
    """For a network without weights: its own input size, a margin around it, ImageNet's mean and deviation.

    Small inputs (digits, icons) are used whole, because the margin would cut into what they show.
    """
    size = architecture.input.under(params or {}).size
    return Preprocessing(height=size, width=size, resize=size if size < 64 else round(size * 8 / 7))


def fit(network: nn.Module, state: Mapping[str, Tensor], what: str, headless: bool = False) -> LoadReport:
    """Loads `state` into the network, in place. `headless` allows the classifier to be absent from the state.

    Raises WeightsMismatch with the names of what is missing, unexpected or of another shape, and both shapes, and
    WeightsCorrupt for values that are no numbers.
    """
    tensors = {_today(network, name): value for name, value in state.items()}
    wanted = network.state_dict()
    new_head = _drop_foreign_head(network, tensors, wanted, headless)
    adapted = _adapt_channels(network, tensors, wanted)
    faults = [
        f"{name} is {list(value.shape)}, expected {list(wanted[name].shape)}"
        for name, value in tensors.items()
        if name in wanted and value.shape != wanted[name].shape
    ]
    if not faults:
        _check_finite(tensors, what)
        missing, unexpected = _load(network, tensors, state, what)
        missing = [name for name in missing if name not in new_head and not name.endswith(COUNTER)]
        faults += [f"missing: {_listed(missing)}"] if missing else []
        faults += [f"unexpected: {_listed(unexpected)}"] if unexpected else []
    if faults:
        made = registry.built(network)
        raise WeightsMismatch(
            f"{what} does not fit {made.architecture.name} "
            f"(classes {made.num_classes}, channels {made.channels}): {_listed(faults, '; ')}"
        )
    return LoadReport(len(tensors), tuple(new_head), tuple(adapted))


def _check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """A network with one such value answers nothing but NaN, and trains to nothing else."""
    bad = {name: int(value.numel() - value.isfinite().sum()) for name, value in tensors.items()}
    listed = [f"{name} ({count:,} of {tensors[name].numel():,})" for name, count in bad.items() if count]
    if listed:
        raise WeightsCorrupt(
            f"{what} holds values that are infinite or no numbers (NaN): {_listed(listed)}. It was saved after "
            "its training had diverged; take an earlier checkpoint."
        )


def _load(
    network: nn.Module, tensors: dict[str, Tensor], state: Mapping[str, Tensor], what: str
) -> tuple[list[str], list[str]]:
    """Lets every layer translate its own old names, so missing and unexpected are known only afterwards."""
    prepared = _Versioned(tensors)
    prepared._metadata = getattr(state, "_metadata", None) or getattr(network.state_dict(), "_metadata", {})
    try:
        result = network.load_state_dict(prepared, strict=False)
    except (RuntimeError, ValueError) as exc:
        raise WeightsMismatch(f"{what} does not fit {type(network).__name__}: {exc}") from exc
    return list(result.missing_keys), list(result.unexpected_keys)


class _Versioned(dict[str, Tensor]):
    _metadata: Any


def _drop_foreign_head(
    network: nn.Module, tensors: dict[str, Tensor], wanted: Mapping[str, Tensor], headless: bool
) -> list[str]:
    """Removes classifiers of another class count from `tensors`; returns the names that stay untrained."""
    fresh: list[str] = []
    for path in classifiers(network):
        weight = tensors.get(f"{path}.weight")
        own = [name for name in (f"{path}.weight", f"{path}.bias") if name in wanted]
        if weight is None:
            fresh += own if headless else []
            continue
        expected = wanted[f"{path}.weight"].shape
        if weight.shape[0] != expected[0] and weight.shape[1:] == expected[1:]:
            fresh += own
            for name in own:
                tensors.pop(name, None)
    return fresh


def _adapt_channels(network: nn.Module, tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Sums the filters over red, green and blue where the network reads grey: what they answer to a grey image."""
    if registry.built(network).channels != 1:
        return []
    name = f"{first_convolution(network)[0]}.weight"
    weight = tensors.get(name)
    if weight is None or name not in wanted or weight.dim() != 4:
        return []
    grey = wanted[name].shape
    if weight.shape[1] != 3 or grey[1] != 1 or (weight.shape[0], *weight.shape[2:]) != (grey[0], *grey[2:]):
        return []
    with torch.no_grad():
        tensors[name] = weight.sum(dim=1, keepdim=True)
    return [f"{name}: RGB filters summed for grey input"]


def _today(network: nn.Module, name: str) -> str:
    if registry.built(network).architecture.family == "DenseNet" and (old := DENSENET_OLD_NAME.match(name)):
        return old.group(1) + old.group(2)
    return name


def _listed(items: list[str], between: str = ", ") -> str:
    more = f"{between}and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return between.join(items[:LISTED]) + more
