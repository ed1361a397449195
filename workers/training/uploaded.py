"""A user's model file as an artifact's folder: an ONNX graph as it is, a checkpoint by way of its architecture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from models.artifact import MODEL, Manifest, software_versions
from models.card.published import write_published_card
from models.card.uploaded import write_uploaded_card
from models.errors import ModelFileRefused
from models.filters.record import kept, kernel_facts_alone
from models.photographs import photographs
from models.training.seeding import seed_everything
from models.unknown.detector import FINDING, UNFITTED
from models.uploaded.checkpoint import checkpoint_preprocessing, read_checkpoint
from models.uploaded.facts import FromMetadata, InputSize, Said, labels_of, preprocessing_of
from models.uploaded.jail import JailLimits, prepare
from models.uploaded.kind import ONNX, ONNX_ARCHITECTURE
from models.zoo.registry import built
from storage.blobs import BlobStore
from system.files import sha256_of
from workers.contract.jobs.model_file import UploadedFile
from workers.contract.jobs.publish import PublishRequest
from workers.training.artifact import write_weights
from workers.training.export import Exporter, export_network
from workers.training.progress import ProgressReporter

ORIGIN = "upload"


@dataclass(frozen=True)
class UploadedModel:
    """Puts an uploaded file's artifact into a folder; `exporter` writes the graph of a checkpoint's network."""

    blobs: BlobStore
    exporter: Exporter
    limits: JailLimits | None = None

    def write(
        self, request: PublishRequest, upload: UploadedFile, folder: Path, reporter: ProgressReporter
    ) -> Manifest:
        """All of the artifact but its manifest, which is returned. `folder` is new and empty.

        Raises the errors of `models.uploaded` and `models.weights`, ExportMismatch, ExportFailed, and NotFound
        where the file is gone.
        """
        path = folder.with_name(f"model.{upload.kind}")
        try:
            self.blobs.get_files([(upload.key, path)])
            if sha256_of(path) != upload.sha256:
                raise ModelFileRefused(f"{upload.name} is not what was sent any more; send it again")
            if upload.kind == ONNX:
                return self._graph(request, upload, path, folder, reporter)
            return self._checkpoint(request, upload, path, folder, reporter)
        finally:
            path.unlink(missing_ok=True)

    def _graph(
        self, request: PublishRequest, upload: UploadedFile, path: Path, folder: Path, reporter: ProgressReporter
    ) -> Manifest:
        reporter.phase("verifying")
        made = prepare(path, folder / MODEL, said_of(upload), limits=self.limits, check=reporter.check)
        reporter.phase("publishing")
        seen = kept(folder, *made.filters)
        manifest = Manifest(
            model=request.model,
            labels=made.labels,
            preprocessing=made.preprocessing,
            architecture=ONNX_ARCHITECTURE,
            weights={**_provenance(upload), "graph": made.facts},
            software=software_versions(),
            calibration={"temperature": made.temperature},
            parity=made.parity,
            outputs=made.outputs,
            findings={FINDING: dict(UNFITTED), seen.name: seen.facts},
        )
        write_uploaded_card(folder, manifest, [seen])
        return manifest

    def _checkpoint(
        self, request: PublishRequest, upload: UploadedFile, path: Path, folder: Path, reporter: ProgressReporter
    ) -> Manifest:
        seed_everything(0, "network")
        network, report = read_checkpoint(path, request.architecture, request.architecture_params)
        made = built(network)
        said = said_of(upload)
        labels, _ = labels_of(said, FromMetadata(), made.num_classes, upload.name)
        own = checkpoint_preprocessing(request.architecture, request.architecture_params)
        preprocessing, source = preprocessing_of(said, FromMetadata(), InputSize(default=own))
        exported = export_network(
            self.exporter,
            network,
            folder,
            images=photographs(preprocessing),
            preprocessing=preprocessing,
            labels=labels,
            channels=made.channels,
            reporter=reporter,
        )
        reporter.phase("publishing")
        # With them it can be learnt on from, as from a fine-tune.
        write_weights(folder, network.state_dict())
        seen = kept(folder, *kernel_facts_alone(onnx.load(folder / MODEL)))
        manifest = Manifest(
            model=request.model,
            labels=labels,
            preprocessing=preprocessing,
            architecture=request.architecture,
            architecture_params=request.architecture_params,
            weights={
                **_provenance(upload),
                "preprocessing_from": source,
                "loaded": {"tensors": report.tensors, "adapted": list(report.adapted)},
            },
            software=software_versions(),
            calibration={"temperature": 1.0},
            parity=exported.parity.to_dict(),
            outputs=exported.outputs,
            findings={FINDING: dict(UNFITTED), seen.name: seen.facts},
        )
        write_published_card(folder, manifest, network, [seen])
        return manifest


def said_of(upload: UploadedFile) -> Said:
    facts = upload.model_dump(mode="json", exclude_none=True)
    return Said(**{name: facts.get(name) for name in ("labels", "preprocessing", "output", "values")})


def _provenance(upload: UploadedFile) -> dict[str, Any]:
    return {
        "origin": ORIGIN,
        "kind": upload.kind,
        "filename": upload.name,
        "sha256": upload.sha256,
        "size_bytes": upload.size_bytes,
        "verified_by": "the sha256 of what was received",
        "licence": upload.licence,
        "trained_on": upload.trained_on,
    }
