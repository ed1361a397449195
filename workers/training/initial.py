"""What a fine-tune starts from: fresh weights, published ones, or those of a model's version."""

from dataclasses import dataclass
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from models.artifact import Manifest, checksums, verify
from models.errors import UnknownWeights, WeightsNotFound
from models.spec import Preprocessing
from models.training.transfer import transfer_weights
from models.uploaded.kind import ONNX_ARCHITECTURE, no_weights_of_a_graph
from models.weights.loading import build_with_weights
from models.weights.published import NONE
from models.weights.store import WeightsStore
from storage.cache import FolderCache
from storage.errors import InvalidReference, NotFound
from storage.registry import ModelRegistry, Version
from workers.contract.jobs.finetune import FinetuneRequest
from workers.jobs.failure import InvalidRequest
from workers.training.artifact import WEIGHTS


@dataclass(frozen=True)
class InitialModel:
    """A network with an output for each of the dataset's labels, before it is trained on them.

    `provenance` says where its weights come from, `pretrained` whether there are any, and `kept_labels` are those
    that its head knows already.
    """

    network: nn.Module
    preprocessing: Preprocessing
    provenance: dict[str, Any]
    architecture_params: dict[str, Any]
    pretrained: bool
    kept_labels: tuple[str, ...] = ()


def initial_model(
    request: FinetuneRequest,
    labels: tuple[str, ...],
    store: WeightsStore,
    registry: ModelRegistry,
    folder_cache: FolderCache,
) -> InitialModel:
    """`weights` is `none`, the name of published weights, or a model reference; names of weights come first.

    Raises the errors of `models.weights`, NotFound, and InvalidRequest when the model is of another architecture.
    """
    params = request.architecture_params
    try:
        network, loaded = build_with_weights(request.architecture, request.weights, store, len(labels), **params)
    except UnknownWeights as unknown:
        version = _version(registry, request.weights, unknown)
        return _from_version(version, request, labels, store, folder_cache)
    # Weights may be of an architecture in another size than its own, such as ViT's for 384 pixels.
    complete = {**loaded.provenance.get("params", {}), **params}
    return InitialModel(network, loaded.preprocessing, loaded.provenance, complete, request.weights != NONE)


def _version(registry: ModelRegistry, reference: str, unknown: UnknownWeights) -> Version:
    try:
        return registry.resolve(reference)
    except (NotFound, InvalidReference) as error:
        raise UnknownWeights(f"{unknown}. Nor is it a model to start from: {error}") from unknown


def _from_version(
    version: Version,
    request: FinetuneRequest,
    labels: tuple[str, ...],
    store: WeightsStore,
    folder_cache: FolderCache,
) -> InitialModel:
    name = f"{version.model}:{version.number}"
    if version.architecture == ONNX_ARCHITECTURE:
        raise InvalidRequest(f"weights: {no_weights_of_a_graph(name)}")
    if version.architecture != request.architecture:
        raise InvalidRequest(
            f"architecture: got {request.architecture!r}, but {name}, to start from, is {version.architecture!r}"
        )
    folder = folder_cache.keep(version.artifact, checksums)
    manifest = verify(folder)
    params = manifest.architecture_params
    for param, value in request.architecture_params.items():
        if params.get(param) != value:
            has = repr(params[param]) if param in params else "the architecture's own"
            raise InvalidRequest(
                f"architecture_params.{param}: got {value!r}, but {name}, to start from, has {has}"
            )
    weights = load_file(folder / WEIGHTS) if WEIGHTS in manifest.files else _published_weights(manifest, store)
    transferred = transfer_weights(version.architecture, params, weights, manifest.labels, labels)
    provenance = {
        "origin": "model",
        "model": version.model,
        "version": version.number,
        "sha256": manifest.files["model.onnx"]["sha256"],
        "labels_kept": list(transferred.kept),
        "weights": manifest.weights,
    }
    return InitialModel(transferred.network, manifest.preprocessing, provenance, params, True, transferred.kept)


def _published_weights(manifest: Manifest, store: WeightsStore) -> dict[str, Tensor]:
    """Those that the version was published from: they are not stored twice, but taken from where it took them."""
    name = manifest.weights.get("name")
    if not name:
        raise WeightsNotFound(f"the model {manifest.model} was published without weights to start from")
    network, _ = build_with_weights(
        manifest.architecture, name, store, len(manifest.labels), **manifest.architecture_params
    )
    return dict(network.state_dict())
