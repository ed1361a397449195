"""Published weights as a served version: build, export, prove, register. Nothing is trained."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.artifact import MODEL, Manifest, software_versions
from models.card.published import write_published_card
from models.export import to_onnx
from models.parity import check_parity
from models.photographs import photographs
from models.training.seeds import seed_everything
from models.weights.loading import LoadedWeights, build_with_weights
from models.weights.published import NONE
from models.weights.store import WeightsStore
from models.zoo.registry import built
from storage.blobs import BlobStore
from storage.errors import NotFound
from storage.reference import PRODUCTION
from storage.registry import ModelRegistry, Version
from workers.contract.jobs import PublishRequest, PublishResult
from workers.jobs.attempt import RunningAttempt
from workers.jobs.failure import InvalidRequest
from workers.training.progress import ProgressReporter
from workers.training.registration import register_version


@dataclass(frozen=True)
class PublishJob:
    """What publishing needs of its worker; `export` writes the ONNX graph, as `models.export.to_onnx` does."""

    registry: ModelRegistry
    blobs: BlobStore
    weights: WeightsStore
    export: Callable[..., object] = to_onnx

    def __call__(self, attempt: RunningAttempt, reporter: ProgressReporter, work: Path) -> None:
        """Runs the job, in the folder `work`, to a registered version.

        Raises the errors of `models.weights` and `storage`, ExportMismatch and Interrupted.
        """
        request = attempt.request(PublishRequest)
        seed_everything(0, "network")
        network, loaded = build_with_weights(
            request.architecture, request.weights, self.weights, **request.architecture_params
        )
        labels = labels_of(request, loaded, built(network).num_classes)

        reporter.phase("exporting")
        folder = work / f"artifact-{attempt.name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.export(network.eval(), folder / MODEL, preprocessing=loaded.preprocessing, labels=labels)

        reporter.phase("verifying")
        images = photographs(loaded.preprocessing)
        parity = check_parity(network, folder / MODEL, images, preprocessing=loaded.preprocessing)

        reporter.phase("publishing")
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
            parity=parity.to_dict(),
        )
        write_published_card(folder, manifest, network)
        promote = is_to_be_promoted(request, self.registry)
        reporter.end_phase()

        def result_of(version: Version) -> PublishResult:
            return PublishResult(
                model=version.model,
                version=version.number,
                metrics=version.metrics,
                promoted=promote,
                seconds=reporter.seconds,
            )

        register_version(
            attempt,
            folder,
            manifest,
            blobs=self.blobs,
            registry=self.registry,
            promote=promote,
            result_of=result_of,
        )


def is_to_be_promoted(request: PublishRequest, registry: ModelRegistry) -> bool:
    """Without images to compare on, `if_better` means: if there is nothing in production yet."""
    if request.promote != "if_better":
        return request.promote == "always"
    try:
        return PRODUCTION not in registry.get_model(request.model).aliases
    except NotFound:
        return True


def labels_of(request: PublishRequest, loaded: LoadedWeights, classes: int) -> tuple[str, ...]:
    """The labels of the weights, else the class numbers. Raises InvalidRequest."""
    if request.weights == NONE:
        raise InvalidRequest("weights: got 'none', but an untrained network has nothing to serve")
    labels = loaded.labels or tuple(str(i) for i in range(classes))
    if len(labels) != classes:
        raise InvalidRequest(f"weights: they come with {len(labels)} labels, but tell {classes} classes apart")
    return labels
