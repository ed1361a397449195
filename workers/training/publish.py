"""Published weights, or a user's model file, as a served version: export, prove, register. Nothing is trained."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import onnx

from models.artifact import MODEL, Manifest, software_versions
from models.card.published import write_published_card
from models.export import to_onnx
from models.filters.record import kept, kernel_facts_alone
from models.photographs import photographs
from models.training.seeding import seed_everything
from models.unknown.detector import FINDING, UNFITTED
from models.weights.loading import LoadedWeights, build_with_weights
from models.weights.published import NONE
from models.weights.store import WeightsStore
from models.zoo.registry import built
from storage.blobs import BlobStore
from storage.database import Transaction
from storage.registry import ModelRegistry, Version
from workers.contract.jobs.publish import PublishRequest, PublishResult
from workers.jobs.attempt import RunningAttempt
from workers.jobs.failure import InvalidRequest
from workers.training.export import Exporter, export_network
from workers.training.progress import ProgressReporter
from workers.training.registration import register_version
from workers.training.uploaded import UploadedModel


@dataclass(frozen=True)
class PublishJob:
    """What publishing needs of its worker; `exporter` writes the ONNX graph."""

    registry: ModelRegistry
    blobs: BlobStore
    weights: WeightsStore
    exporter: Exporter = to_onnx

    def __call__(self, attempt: RunningAttempt, reporter: ProgressReporter, work_dir: Path) -> None:
        """Runs the job, in the folder `work_dir`, to a registered version.

        Raises the errors of `models.weights`, `models.uploaded` and `storage`, ExportMismatch and Interrupted.
        """
        request = attempt.request(PublishRequest)
        folder = work_dir / f"artifact-{attempt.short_id}"
        if request.upload is None:
            manifest = self._of_weights(request, folder, reporter)
        else:
            shutil.rmtree(work_dir, ignore_errors=True)
            folder.mkdir(parents=True)
            uploaded = UploadedModel(self.blobs, self.exporter)
            manifest = uploaded.write(request, request.upload, folder, reporter)
        reporter.end_phase()
        self._register(attempt, request, folder, manifest, reporter)

    def _of_weights(self, request: PublishRequest, folder: Path, reporter: ProgressReporter) -> Manifest:
        seed_everything(0, "network")
        network, loaded = build_with_weights(
            request.architecture, request.weights, self.weights, **request.architecture_params
        )
        labels = labels_of(request, loaded, built(network).num_classes)

        exported = export_network(
            self.exporter,
            network,
            folder,
            images=photographs(loaded.preprocessing),
            preprocessing=loaded.preprocessing,
            labels=labels,
            reporter=reporter,
        )

        reporter.phase("publishing")
        seen = kept(folder, *kernel_facts_alone(onnx.load(folder / MODEL)))
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
            parity=exported.parity.to_dict(),
            outputs=exported.outputs,
            findings={FINDING: dict(UNFITTED), seen.name: seen.facts},
        )
        write_published_card(folder, manifest, network, [seen])
        return manifest

    def _register(
        self,
        attempt: RunningAttempt,
        request: PublishRequest,
        folder: Path,
        manifest: Manifest,
        reporter: ProgressReporter,
    ) -> None:
        def promote(production: int | None) -> bool:
            """Without images to compare on, `if_better` means: if there is nothing in production yet."""
            return request.promote == "always" or (request.promote == "if_better" and production is None)

        def result_of(version: Version, promoted: bool, _within: Transaction) -> PublishResult:
            return PublishResult(
                model=version.model,
                version=version.number,
                metrics=version.metrics,
                promoted=promoted,
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


def labels_of(request: PublishRequest, loaded: LoadedWeights, classes: int) -> tuple[str, ...]:
    """The labels of the weights, else the class numbers. Raises InvalidRequest."""
    if request.weights == NONE:
        raise InvalidRequest("weights: got 'none', but an untrained network has nothing to serve")
    labels = loaded.labels or tuple(str(i) for i in range(classes))
    if len(labels) != classes:
        raise InvalidRequest(f"weights: they come with {len(labels)} labels, but tell {classes} classes apart")
    return labels
