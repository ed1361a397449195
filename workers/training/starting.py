"""What a fine-tune starts from: fresh weights, published ones, or a model's version to learn on from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from models.artifact import Manifest, checksums, verify
from models.errors import UnknownWeights, WeightsNotFound
from models.spec import Preprocessing
from models.training.transfer import learn_on
from models.weights.loading import build_with_weights
from models.weights.published import NONE
from storage.errors import InvalidReference, NotFound
from storage.registry import Version
from workers.training.context import Context
from workers.training.request import FinetuneRequest, InvalidRequest

STATE = "weights.safetensors"


@dataclass(frozen=True)
class Start:
    """A network for the dataset's labels. `kept` are the labels that the head knows already."""

    network: nn.Module
    preprocessing: Preprocessing
    provenance: dict[str, Any]
    architecture_params: dict[str, Any]
    pretrained: bool
    kept: tuple[str, ...] = ()


def starting_point(context: Context, request: FinetuneRequest, labels: tuple[str, ...]) -> Start:
    """`weights` is `none`, the name of published weights, or a model reference; names of weights come first.

    Raises the errors of `models.weights`, NotFound, and InvalidRequest when the model is of another architecture.
    """
    params = request.architecture_params
    try:
        network, loaded = build_with_weights(
            request.architecture, request.weights, context.weights, len(labels), **params
        )
    except UnknownWeights as unknown:
        version = _version(context, request.weights, unknown)
        return _from_version(context, request, version, labels)
    return Start(network, loaded.preprocessing, loaded.provenance, params, request.weights != NONE)


def _version(context: Context, reference: str, unknown: UnknownWeights) -> Version:
    try:
        return context.registry.resolve(reference)
    except (NotFound, InvalidReference) as error:
        raise UnknownWeights(f"{unknown}. Nor is it a model to learn on from: {error}") from unknown


def _from_version(context: Context, request: FinetuneRequest, version: Version, labels: tuple[str, ...]) -> Start:
    name = f"{version.model}:{version.number}"
    if version.architecture != request.architecture:
        raise InvalidRequest(
            "architecture",
            f"got {request.architecture!r}, but {name}, to learn on from, is {version.architecture!r}",
        )
    folder = context.folders.keep(version.artifact, checksums)
    manifest = verify(folder)
    params = manifest.architecture_params
    state = _state(context, folder, manifest)
    transferred = learn_on(version.architecture, params, state, manifest.labels, labels)
    provenance = {
        "origin": "model",
        "model": version.model,
        "version": version.number,
        "sha256": manifest.files["model.onnx"]["sha256"],
        "labels_kept": list(transferred.kept),
        "weights": manifest.weights,
    }
    return Start(transferred.network, manifest.preprocessing, provenance, params, True, transferred.kept)


def _state(context: Context, folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    if STATE in manifest.files:
        return load_file(folder / STATE)
    name = manifest.weights.get("name")
    if not name:
        raise WeightsNotFound(f"the model {manifest.model} was published without weights to learn on from")
    # Published weights are not stored twice: they are taken from where the version took them.
    network, _ = build_with_weights(
        manifest.architecture, name, context.weights, len(manifest.labels),
        **manifest.architecture_params,
    )  # fmt: skip
    return dict(network.state_dict())
