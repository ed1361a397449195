"""Published weights as a served version: build, export, prove, publish. Nothing is trained."""

import shutil
from typing import Any

from models.artifact import MODEL, Manifest, software_versions
from models.card.published import write_published_card
from models.export import to_onnx
from models.parity import check_parity
from models.photographs import photographs
from models.training.seeds import seed_everything
from models.weights.loading import LoadedWeights, build_with_weights
from models.weights.published import NONE
from models.zoo.registry import built
from storage.reference import PRODUCTION
from storage.registry import Version
from workers.training.context import Context
from workers.training.publication import publish_version
from workers.training.request import InvalidRequest, PublishRequest, read_publish


def publish(context: Context) -> dict[str, Any]:
    """Runs the job to a published version; the answer is the job's result."""
    request = read_publish(context.request)
    seed_everything(0, "network")
    network, loaded = build_with_weights(
        request.architecture, request.weights, context.weights, **request.architecture_params
    )
    labels = labels_of(request, loaded, built(network).num_classes)
    context.reporter.phase("exporting")
    folder = context.artifact_folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    to_onnx(network.eval(), folder / MODEL, preprocessing=loaded.preprocessing, labels=labels)
    context.exported(folder)
    context.reporter.phase("verifying")
    report = check_parity(
        network, folder / MODEL, photographs(loaded.preprocessing), preprocessing=loaded.preprocessing
    )
    context.reporter.phase("publishing")
    manifest = Manifest(
        model=request.model,
        labels=labels,
        preprocessing=loaded.preprocessing,
        architecture=request.architecture,
        architecture_params={**loaded.provenance.get("params", {}), **request.architecture_params},
        weights=loaded.provenance,
        software=software_versions(),
        metrics={"published": loaded.provenance.get("metrics", {})},
        calibration={"temperature": 1.0},
        parity=report.to_dict(),
    )
    write_published_card(folder, manifest, network)
    version = publish_version(context, folder, manifest)
    promoted = _promote(context, request, version)
    context.reporter.end_phase()
    return {
        "model": version.model,
        "version": version.number,
        "metrics": version.metrics,
        "promoted": promoted,
        "seconds": context.reporter.seconds,
    }


def _promote(context: Context, request: PublishRequest, version: Version) -> bool:
    """Without images to compare on, `if_better` means: if there is nothing in production yet."""
    if request.promote == "never":
        return False
    aliases = context.registry.get_model(version.model).aliases
    if request.promote == "if_better" and aliases.get(PRODUCTION, version.number) != version.number:
        return False
    context.registry.set_alias(version.model, PRODUCTION, version.number)
    return True


def labels_of(request: PublishRequest, loaded: LoadedWeights, classes: int) -> tuple[str, ...]:
    """The labels that were asked for, else those of the weights, else the class numbers."""
    if request.weights == NONE:
        raise InvalidRequest("weights", "got 'none', but an untrained network has nothing to serve")
    labels = request.labels or loaded.labels or tuple(str(i) for i in range(classes))
    if len(labels) != classes:
        raise InvalidRequest("labels", f"got {len(labels)}, but the weights tell {classes} classes apart")
    return labels
