"""A diagnosis of a dataset: every image embedded by a version, then looked at one by one and beside each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.artifact import FLOAT32, Manifest, checksums, model_file, verify
from models.card.diagnosed import DiagnosedDataset, diagnosis_page
from models.card.render import to_html
from models.dataset.folder import DatasetFolder
from models.diagnosis.diagnose import NotHeldOut, diagnose, not_enough_classes
from models.diagnosis.held_out import HeldOut, classes_with_enough, is_affordable, leave_each_out
from models.diagnosis.images import DiagnosedImages
from models.diagnosis.report import Diagnosis
from models.spec import EMBEDDING
from models.training.graph_run import run_graph
from models.training.pixels import Pixels, decode
from models.training.precision import training_device, use_threads
from models.training.split import ImageList
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.datasets import Dataset, DatasetRegistry
from storage.registry import ModelRegistry, Version
from system.cores import usable_cores
from workers.contract.diagnoses import PAGE, REPORT, diagnosis_key
from workers.contract.jobs.diagnose import DiagnoseRequest, DiagnoseResult
from workers.jobs.attempt import RunningAttempt
from workers.jobs.failure import InvalidRequest
from workers.settings import WorkerSettings
from workers.training.cleanup import PIXELS
from workers.training.dataset import open_dataset
from workers.training.findings import get_ready_to_find
from workers.training.progress import ProgressReporter

# Of one look at all images by a head, and of comparing them: minutes on two cores.
MOST_OF_A_HEAD, MOST_OF_COMPARING = 1e10, 1e13
MOST_EMBEDDING_BYTES = 4 * 2**30


@dataclass(frozen=True)
class DiagnoseJob:
    """What a diagnosis needs of its worker. It writes what an earlier attempt may have written, the same again."""

    settings: WorkerSettings
    registry: ModelRegistry
    datasets: DatasetRegistry
    blobs: BlobStore
    folder_cache: FolderCache

    def __call__(self, attempt: RunningAttempt, reporter: ProgressReporter, _work_dir: Path) -> None:
        """Raises the errors of `models` and `storage`, InvalidRequest for a version that gives no embedding or
        for too many images, and Interrupted."""
        request = attempt.request(DiagnoseRequest)
        get_ready_to_find()
        version = self.registry.get_version(request.model, request.version)
        model = model_file(FLOAT32)
        artifact = self.folder_cache.keep(version.artifact, checksums)
        manifest = verify(artifact, [model])
        dataset = self.datasets.get(request.dataset)
        folder = open_dataset(request.dataset, self.datasets, self.folder_cache, self.settings.cache)
        listed, images = list_images(folder)
        check_embedding(manifest, version, len(images))
        use_threads(self.settings.training_threads or usable_cores(), manifest.preprocessing)

        pixels = decode(
            listed,
            manifest.preprocessing,
            self.settings.cache / PIXELS,
            threads=usable_cores(),
            max_pixels=self.settings.max_pixels,
            on_progress=reporter.progress,
        )
        reporter.phase("embedding")
        embedding = self._embed(artifact / model, pixels, reporter)
        reporter.phase("judging labels")
        held_out = leave_out(images, embedding, reporter)
        reporter.phase("comparing")
        diagnosis = diagnose(
            images,
            embedding,
            held_out,
            pixels.__getitem__,
            most_multiply_adds=MOST_OF_COMPARING,
            warnings=warnings_of(manifest, folder, version),
            on_progress=reporter.progress,
        )
        reporter.phase("publishing")
        self._write(diagnosis, dataset, version, pixels)
        reporter.end_phase()
        attempt.succeed(
            DiagnoseResult(
                dataset=dataset.id,
                model=version.model,
                version=version.number,
                images=diagnosis.images,
                **diagnosis.counts,
                warnings=tuple(diagnosis.warnings),
                seconds=reporter.seconds,
            )
        )

    def _embed(self, model: Path, pixels: Pixels, reporter: ProgressReporter) -> NDArray[np.float32]:
        """float32 [n, D]"""
        device = training_device(self.settings.training_device)
        found: list[NDArray[np.float32]] = []
        done = 0
        for (batch,) in run_graph(
            model,
            (EMBEDDING,),
            _tensors(pixels),
            threads=usable_cores(),
            device="cpu" if device.type == "cpu" else "auto",
        ):
            found.append(batch.reshape(len(batch), -1))
            done += len(batch)
            reporter.progress(done, len(pixels))
        return np.concatenate(found)

    def _write(self, diagnosis: Diagnosis, dataset: Dataset, version: Version, pixels: Pixels) -> None:
        made = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        described = DiagnosedDataset(
            dataset.id, dataset.name, str(dataset.content_hash), f"{version.model}:{version.number}", made
        )
        page = diagnosis_page(diagnosis, described, pixels.__getitem__)
        report = {
            "dataset": {"id": dataset.id, "name": dataset.name, "content_hash": dataset.content_hash},
            "model": version.model,
            "version": version.number,
            "created_at": made,
            **diagnosis.to_dict(dataset.id),
        }
        self.blobs.put_bytes(diagnosis_key(dataset.id, PAGE), to_html(page).encode())
        self.blobs.put_bytes(diagnosis_key(dataset.id, REPORT), orjson.dumps(report))


def list_images(folder: DatasetFolder) -> tuple[ImageList, DiagnosedImages]:
    """All images of the dataset, whatever their split, by class and content."""
    index = {label: i for i, label in enumerate(folder.labels)}
    samples = sorted(
        (sample for sample in folder.samples if sample.label in index),
        key=lambda sample: (index[sample.label], sample.sha256, sample.name),
    )
    targets = np.array([index[sample.label] for sample in samples], dtype=np.int64)
    names, hashes = tuple(sample.name for sample in samples), tuple(sample.sha256 for sample in samples)
    return (
        ImageList(tuple(map(folder.path_of, samples)), targets, names, hashes),
        DiagnosedImages(folder.labels, targets, names, hashes, tuple(sample.split for sample in samples)),
    )


def check_embedding(manifest: Manifest, version: Version, images: int) -> None:
    """Raises InvalidRequest where the version gives none, or gigabytes of them."""
    sizes = manifest.outputs.get(EMBEDDING)
    if sizes is None:
        raise InvalidRequest(
            f"model: {version.model}:{version.number} gives no embedding, which images are compared by; name "
            "another version"
        )
    numbers = int(np.prod(sizes))
    if 4 * numbers * images > MOST_EMBEDDING_BYTES:
        raise InvalidRequest(
            f"dataset: {images} images with {numbers} numbers each are more than {MOST_EMBEDDING_BYTES // 2**30} "
            "GiB; name a version with a smaller embedding, or diagnose a part of the images"
        )


def leave_out(
    images: DiagnosedImages, embedding: NDArray[np.float32], reporter: ProgressReporter
) -> HeldOut | NotHeldOut:
    classes = classes_with_enough(images.targets, images.sha256, len(images.labels))
    if len(classes) < 2:
        return not_enough_classes(len(classes))
    if not np.isfinite(embedding).all():
        return NotHeldOut("the version gives embeddings that are not finite")
    if not is_affordable(len(images), embedding.shape[1], len(classes), MOST_OF_A_HEAD):
        return NotHeldOut(
            f"{len(images)} images with {embedding.shape[1]} numbers each in {len(classes)} classes are too many "
            "to leave out each of them; a version with a smaller embedding would do it"
        )
    return leave_each_out(embedding, images.targets, images.sha256, classes, on_progress=reporter.progress)


def warnings_of(manifest: Manifest, folder: DatasetFolder, version: Version) -> list[str]:
    """Where the network itself learnt from these labels, it has got used to some of the wrong ones."""
    learnt, recipe = manifest.dataset or {}, manifest.recipe or {}
    if learnt.get("content_hash") != folder.content_hash or recipe.get("strategy") == "head":
        return []
    return [
        f"{version.model}:{version.number} learnt as a whole from these labels, so it has got used to some of the "
        "wrong ones: a version that did not learn from them finds more."
    ]


def _tensors(pixels: Pixels) -> Iterator[Tensor]:
    for place in range(len(pixels)):
        yield torch.from_numpy(pixels[place].copy())
