"""Fovea's readers of strangers' files by family of attack, and the errors that each documents."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from support.model_files import LABELS, VIEW

from models.dataset.errors import DatasetError, LayoutUnclear
from models.dataset.ingest import ingest, ingest_unlabelled
from models.dataset.limits import MIB, Limits
from models.dataset.manifest import parse_manifest
from models.dataset.picture import look
from models.errors import (
    ArtifactError,
    ExportFailed,
    ExportMismatch,
    ImageError,
    PredictionFailed,
    UploadError,
    WeightsError,
)
from models.predictor import Predictor
from models.preprocess import prepare
from models.spec import Preprocessing
from models.uploaded.prepare import prepared
from models.weights.importer import import_weights
from models.weights.store import WeightsStore
from storage.blobs import BlobStore
from storage.errors import BackupUnusable, SchemaMismatch
from storage.restore import restore_backup
from workers.contract.messages import (
    ClassifyBatch,
    ClassifyReply,
    Heartbeat,
    InvalidMessage,
    RunJob,
    decode,
    encode,
)

LIMITS = Limits(total_bytes=256 * MIB, member_bytes=16 * MIB)
SMALL = Preprocessing(height=24, width=24, resize=32)
MESSAGES = (ClassifyBatch, ClassifyReply, Heartbeat, RunJob)


def read_archive(path: Path, box: Path) -> None:
    """With labels and without; how it ends is told of the first."""
    try:
        ingest(path, box / "dataset", limits=LIMITS, threads=1)
    finally:
        with suppress(DatasetError):
            ingest_unlabelled(path, box / "images", limits=LIMITS, threads=1)
            shutil.rmtree(box / "images")


def read_image(path: Path, _box: Path) -> None:
    data = path.read_bytes()
    try:
        look(data)
    finally:
        prepare(data, SMALL)


def read_weights(path: Path, box: Path) -> None:
    import_weights(path, "lenet5", "mine", WeightsStore(box / "weights", offline=True))


def read_model_file(path: Path, box: Path) -> None:
    said = {"labels": list(LABELS), "preprocessing": VIEW}
    try:
        prepared(path, box / "made.onnx", said)
    except BaseException:
        # The job's folder goes with the job.
        (box / "made.onnx").unlink(missing_ok=True)
        raise


def read_artifact(path: Path, _box: Path) -> None:
    predictor = Predictor(path, device="cpu")
    shape = (2, predictor.preprocessing.height, predictor.preprocessing.width, 3)
    found = predictor.predict(np.zeros(shape, np.uint8))
    if found.probabilities.shape != (2, len(predictor.labels)):
        raise AssertionError(f"it answered {found.probabilities.shape}")


def read_backup(path: Path, box: Path) -> None:
    blobs = BlobStore(str(box / "blobs"))
    try:
        restore_backup(f"sqlite:///{box / 'fovea.db'}", blobs, path, lambda *_: None)
    except (BackupUnusable, SchemaMismatch) as error:
        if blobs.list():
            raise AssertionError(f"it left {blobs.list()[:5]}") from error
        # The file is the user's own, and is called by its name; the database and its folders are made in any case.
        for made in sorted(box.rglob("*"), reverse=True):
            made.rmdir() if made.is_dir() else made.unlink()
        raise type(error)(str(error).replace(str(path), path.name)) from error


def read_manifest(path: Path, _box: Path) -> None:
    parse_manifest(path.name, path.read_bytes())


def read_value(path: Path, _box: Path) -> None:
    """What stands in Redis, as each kind of message; what one of them takes has to be written again."""
    data = path.read_bytes()
    refusals = []
    for kind in MESSAGES:
        try:
            encode(decode(kind, data))
        except InvalidMessage as error:
            refusals.append(error)
    if len(refusals) == len(MESSAGES):
        raise refusals[0]


READERS: dict[str, tuple[Any, tuple[type[BaseException], ...]]] = {
    "model file": (read_model_file, (ExportFailed, ExportMismatch, UploadError, MemoryError)),
    "archive": (read_archive, (DatasetError,)),
    "image": (read_image, (ImageError,)),
    "weights": (read_weights, (WeightsError,)),
    "artifact": (read_artifact, (ArtifactError, PredictionFailed)),
    "backup": (read_backup, (BackupUnusable, SchemaMismatch)),
    "manifest": (read_manifest, (LayoutUnclear,)),
    "redis": (read_value, (InvalidMessage,)),
}
