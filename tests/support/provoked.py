"""Errors as they really come about: each function gets an empty folder of its own, and raises."""

import errno
import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from redis import Redis, RedisError
from safetensors.torch import save_file
from support.colours import LABELS, SIZE, make_colour_artifact, picture
from support.model_files import WRONG, enormous, onnx_file, write
from support.world import archive_of

from models import errors as model_errors
from models.artifact import FLOAT32
from models.conformal import ConformalScores
from models.dataset import errors as dataset_errors
from models.dataset.folder import DatasetFolder, LabelledImage, write_dataset
from models.dataset.ingest import ingest
from models.dataset.limits import Limits
from models.devices import resolve
from models.predictor import Predictor
from models.preprocess import prepare
from models.spec import Preprocessing
from models.training.errors import InvalidRecipe, RankKilled, RankLost, UntrainableDataset
from models.training.parallel import death_of
from models.training.rank_processes import Gone
from models.training.recipe import read_recipe
from models.training.split import split_dataset
from models.uploaded.facts import Said
from models.uploaded.jail import prepare as in_jail
from models.uploaded.prepare import prepared
from models.weights.importer import import_weights
from models.weights.keras import read_keras
from models.weights.reading import read_state
from models.weights.source import WeightsSource, choose
from models.weights.store import WeightsStore
from models.zoo.catalogue import describe
from models.zoo.registry import build
from storage import errors as storage_errors
from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.database import Database, migrate, open_database
from storage.datasets import DatasetRegistry
from storage.job_ledger import Idempotency, JobLedger
from storage.owner import Owner
from storage.reference import Reference, check_model_name
from storage.registry import ModelRegistry
from workers.jobs.failure import InvalidRequest, ProcessCrashed, ProcessKilled, Quarantined
from workers.training.dataset import open_dataset

Provoke = Callable[[Path], object]
RESNET = WeightsSource.from_dict(describe("resnet18")["weights"][0])


# Model files


def external_data(folder: Path) -> None:
    prepared(write(folder, WRONG["external data of this machine"][0]()), folder / "made.onnx", {})


def truncated_model(folder: Path) -> None:
    prepared(write(folder, onnx_file()[:-100]), folder / "made.onnx", {})


def enormous_model(folder: Path) -> None:
    in_jail(write(folder, enormous(2**20, 2**20)), folder / "made.onnx", Said(["a", "b", "c"], "imagenet"))


def unlabelled_model(folder: Path) -> None:
    prepared(write(folder, onnx_file()), folder / "made.onnx", {"preprocessing": "imagenet"})


# Weights


def no_weights(folder: Path) -> None:
    WeightsStore(folder, offline=True).pull(RESNET)


def weights_on_no_mirror(folder: Path) -> None:
    WeightsStore(folder, "ftp://mirror.example/srv").pull(RESNET)


def weights_folder_that_is_none(folder: Path) -> None:
    (folder / "file").write_text("x")
    WeightsStore(folder / "file", "http://mirror.example/srv").pull(RESNET)


def other_weights(folder: Path) -> None:
    (folder / RESNET.filename).write_bytes(b"other bytes")
    WeightsStore(folder, offline=True).pull(RESNET)


def file_of_weights(name: str, content: bytes | None) -> Provoke:
    def provoke(folder: Path) -> None:
        if content is not None:
            (folder / name).write_bytes(content)
        read_state(folder / name)

    return provoke


def keras_file_that_is_a_folder(folder: Path) -> None:
    (folder / "weights.h5").mkdir()
    read_keras(folder / "weights.h5")


def keras_file_without_a_layer(folder: Path) -> None:
    with h5py.File(folder / "weights.h5", "w") as file:
        file.create_dataset("dense/dense/kernel:0", data=np.zeros(1))
    read_state(folder / "weights.h5")


def weights_of_another_network(folder: Path) -> None:
    save_file({"x": torch.zeros(1)}, folder / "mine.safetensors")
    import_weights(folder / "mine.safetensors", "lenet5", "mine", WeightsStore(folder / "weights"))


def weights_under_a_wrong_name(folder: Path) -> None:
    import_weights(folder / "mine.safetensors", "lenet5", "NO NAME", WeightsStore(folder / "weights"))


# Datasets


def archive(files: Mapping[str, bytes] | bytes, limits: Limits | None = None) -> Provoke:
    def provoke(folder: Path) -> None:
        (folder / "archive").write_bytes(files if isinstance(files, bytes) else archive_of(files))
        ingest(folder / "archive", folder / "dataset", limits=limits)

    return provoke


def dataset(folder: Path, labels: tuple[str, ...] = LABELS) -> DatasetFolder:
    images = [
        LabelledImage(picture(label, noise=n + 1), label, None, f"{n}.png") for label in labels for n in range(2)
    ]
    return write_dataset(folder / "dataset", images)


def dataset_twice(folder: Path) -> None:
    dataset(folder)
    dataset(folder)


def damaged_dataset(name: str, content: bytes | None) -> Provoke:
    def provoke(folder: Path) -> None:
        path = dataset(folder).path
        put(path / name, content)
        DatasetFolder.open(path)

    return provoke


def dataset_without_its_files(folder: Path) -> None:
    made = dataset(folder)
    made.path_of(made.samples[0]).unlink()
    made.verify()


def dataset_that_is_being_checked(folder: Path) -> None:
    datasets = DatasetRegistry(database(folder))
    datasets.add("mine", dataset_id="ds_1", prefix="datasets/ds_1")
    open_dataset("ds_1", datasets, FolderCache(blobs(folder), folder / "cache", 1), folder / "cache")


# Artifacts


def damaged_artifact(name: str, content: bytes | None, *, check: bool = False) -> Provoke:
    def provoke(folder: Path) -> None:
        make_colour_artifact(folder / "version")
        put(folder / "version" / name, content)
        Predictor(folder / "version", device="cpu", check=check)

    return provoke


def predictor(folder: Path, precision: str = FLOAT32) -> Predictor:
    make_colour_artifact(folder / "version")
    return Predictor(folder / "version", precision=precision, device="cpu")


def output_that_there_is_not(folder: Path) -> None:
    predictor(folder).run(np.zeros((1, SIZE, SIZE, 3), np.uint8), ("embedding",))


def closed_predictor(folder: Path) -> None:
    closed = predictor(folder)
    closed.close()
    closed.warm_up()


# What is kept


def blobs(folder: Path) -> BlobStore:
    return BlobStore(str(folder / "blobs"))


def database(folder: Path, revision: str = "head") -> Database:
    url = f"sqlite:///{folder}/fovea.db"
    migrate(url, revision)
    return open_database(url)


def registry(folder: Path) -> ModelRegistry:
    """With `colours@production` at version 1."""
    manifest = make_colour_artifact(folder / "version")
    made = ModelRegistry(database(folder))
    made.add_version("colours", artifact="models/colours/1/", manifest=manifest.to_dict(), size_bytes=1)
    made.set_alias("colours", "production", 1)
    return made


def two_jobs_of_a_key_that_may_have_one(folder: Path) -> None:
    ledger = JobLedger(database(folder))
    for _ in range(2):
        ledger.create("publish", {}, owner=Owner("key", most_waiting=1))


def one_key_for_two_requests(folder: Path) -> None:
    ledger = JobLedger(database(folder))
    for fingerprint in ("first", "second"):
        ledger.create("ingest", {}, idempotency=Idempotency("POST /v1/datasets", "key", fingerprint))


def blobs_where_a_file_lies(folder: Path) -> None:
    (folder / "blobs").write_text("x")
    blobs(folder).put_bytes("key", b"x")


def folder_without_its_mark(folder: Path) -> None:
    (folder / "version").mkdir()
    blobs(folder).put_folder("models/x", folder / "version")


def file_that_is_no_database(folder: Path) -> None:
    (folder / "fovea.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    open_database(f"sqlite:///{folder}/fovea.db").ping()


def database_that_was_never_migrated(folder: Path) -> None:
    JobLedger(open_database(f"sqlite:///{folder}/fovea.db")).get("job_1")


def newer_database(folder: Path) -> None:
    database(folder).close()
    with sqlite3.connect(folder / "fovea.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    database(folder)


def put(path: Path, content: bytes | None) -> None:
    """The file with that content, or no file."""
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def folders_in(text: str) -> list[str]:
    """What reads as an absolute path of a machine; of a URL, the path is none."""
    return re.findall(r"(?<![\w.:/])/[\w.-]+/[^\s'\"]*", text)


def raised(error: BaseException) -> Provoke:
    def provoke(_folder: Path) -> None:
        raise error

    return provoke


# Under the class that the tables of errors know; what comes may be one of its subclasses.
PROVOKED: Mapping[type[BaseException], tuple[Provoke, ...]] = {
    model_errors.ModelFileRefused: (external_data, truncated_model, enormous_model),
    model_errors.UploadFactsMissing: (unlabelled_model,),
    model_errors.WeightsNotFound: (
        no_weights,
        weights_on_no_mirror,
        weights_folder_that_is_none,
        file_of_weights("weights.pth", None),
    ),
    model_errors.WeightsCorrupt: (
        other_weights,
        *(file_of_weights(f"weights{kind}", b"x") for kind in (".pth", ".safetensors", ".h5", ".doc")),
        keras_file_that_is_a_folder,
        keras_file_without_a_layer,
    ),
    model_errors.WeightsMismatch: (weights_of_another_network,),
    model_errors.WeightsError: (weights_under_a_wrong_name,),
    model_errors.UnknownWeights: (lambda _: choose((), "lenet5", "imagenet"),),
    model_errors.UnknownArchitecture: (lambda _: describe("lenet6"), lambda _: build("lenet6")),
    model_errors.InvalidArchitecture: (lambda _: build("convnet", pattern="INPUT -> NOTHING"),),
    InvalidRecipe: (lambda _: read_recipe({"epochs": 0}),),
    InvalidRequest: (dataset_that_is_being_checked,),
    dataset_errors.DatasetRefused: (archive({"red/1.png": b"x", "green/1.png": b"x"}),),
    dataset_errors.UnsafeArchive: (archive({"../red.png": b"x"}),),
    dataset_errors.LimitExceeded: (archive({"red/1.png": b"x", "red/2.png": b"x"}, Limits(members=1)),),
    dataset_errors.ArchiveError: tuple(map(archive, (b"no archive", b"PK\x03\x04 and no more", b"\x1f\x8bxx"))),
    dataset_errors.LayoutUnclear: (archive({"train/red.png": picture("red")}),),
    UntrainableDataset: (lambda folder: split_dataset(dataset(folder, LABELS[:1]), fraction=0.2, seed=0),),
    dataset_errors.DatasetError: (
        dataset_twice,
        dataset_without_its_files,
        *(damaged_dataset("dataset.json", content) for content in (None, b"no JSON", b"{}")),
        damaged_dataset("dataset.json", b'{"format": 9, "labels": [], "content_hash": "", "bytes": 0}'),
        *(damaged_dataset("samples.jsonl", content) for content in (None, b"no JSON", b"")),
    ),
    model_errors.ImageError: (lambda _: prepare(picture("red")[:60], Preprocessing()),),
    model_errors.ImageTooManyPixels: (lambda _: prepare(picture("red"), Preprocessing(), max_pixels=10),),
    MemoryError: (raised(MemoryError()),),
    model_errors.DeviceUnavailable: (lambda _: resolve("tpu"),),  # type: ignore[arg-type]
    model_errors.ArtifactError: (
        *(damaged_artifact("model.onnx", content) for content in (b"", b"no graph")),
        damaged_artifact("model.onnx", b"no graph", check=True),
        damaged_artifact("model.onnx", None, check=True),
        *(damaged_artifact("manifest.json", content) for content in (None, b"no JSON", b"\xff", b"{}")),
    ),
    model_errors.PredictionFailed: (closed_predictor,),
    model_errors.InvalidBatch: (lambda folder: predictor(folder).predict(np.zeros((1, 2, 2, 3), np.uint8)),),
    model_errors.ModelError: (lambda _: Preprocessing(resize=1),),
    storage_errors.NotFound: (
        lambda folder: blobs(folder).get_bytes("models/x"),
        lambda folder: JobLedger(database(folder)).get("job_1"),
    ),
    storage_errors.Conflict: (one_key_for_two_requests,),
    storage_errors.InvalidName: (lambda _: check_model_name("NO NAME"),),
    storage_errors.InvalidReference: (lambda _: Reference.parse("a@b@c"),),
    storage_errors.InvalidCursor: (lambda folder: JobLedger(database(folder)).list(1, cursor="x"),),
    storage_errors.InUse: (lambda folder: registry(folder).delete_model("colours"),),
    storage_errors.NoEarlierVersion: (
        lambda folder: registry(folder).rollback("colours", "production", present=1, to=2),
    ),
    storage_errors.TooManyJobs: (two_jobs_of_a_key_that_may_have_one,),
    storage_errors.StorageQuota: (
        lambda folder: DatasetRegistry(database(folder)).check_quota(Owner("key", most_bytes=1), added=2),
    ),
    storage_errors.DatabaseUnavailable: (file_that_is_no_database,),
    storage_errors.SchemaMismatch: (
        database_that_was_never_migrated,
        lambda folder: database(folder, "0001").check_tables(),
        newer_database,
    ),
    storage_errors.BlobsUnavailable: (blobs_where_a_file_lies,),
    RedisError: (lambda folder: Redis(unix_socket_path=str(folder / "nobody.sock")).ping(),),
    storage_errors.StorageError: (folder_without_its_mark,),
    OSError: (
        lambda folder: (folder / "none").read_bytes(),
        raised(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/fovea/file")),
    ),
    model_errors.PrecisionUnavailable: (lambda folder: predictor(folder, "int8"),),
    model_errors.OutputUnavailable: (output_that_there_is_not,),
    model_errors.CoverageUnavailable: (lambda _: ConformalScores.of([0.1]).threshold(0.95),),
    model_errors.ModelQuarantined: (raised(model_errors.ModelQuarantined("SIGSEGV")),),
    ProcessKilled: (raised(ProcessKilled()),),
    ProcessCrashed: (raised(ProcessCrashed("exit code 1")),),
    RankLost: (raised(death_of("Rank 1 of the 2 that trained together", Gone("SIGSEGV", killed=False))),),
    RankKilled: (raised(death_of("Rank 1 of the 2 that trained together", Gone("SIGKILL", killed=True))),),
    Quarantined: (raised(Quarantined("It was killed.", "It was killed again.")),),
}
