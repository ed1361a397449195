"""A training worker's world for a test: its own database, blobs and folders, and the runner as a real process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.dataset.folder import DatasetFolder
from models.dataset.places import MANIFEST
from storage.blobs import BlobStore
from storage.database import Database, migrate, open_database
from storage.datasets import DatasetRegistry, DatasetState
from storage.ids import new_id
from storage.job_ledger import Attempt, Job, JobLedger
from storage.registry import ModelRegistry
from workers.settings import WorkerSettings
from workers.training.export import Exporter
from workers.training.process import STARTING_S
from workers.training.runner import run

# LeNet-5 learning for a few epochs; the digits are the dataset that every installation has.
QUICK = {
    "model": "digits",
    "dataset": "builtin:digits",
    "architecture": "lenet5",
    "weights": "none",
    "recipe": {
        "epochs": 3,
        "batch_size": 64,
        "patience": None,
        "augmentation": {"crop": "centre", "mirror": False},
    },
}


@dataclass
class Trainer:
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = WorkerSettings(
            data=self.folder,
            weights_dir=self.weights_folder,
            training_device="cpu",
            offline=True,
            training_threads=1,
        )
        migrate(self.settings.database)
        self.database: Database = open_database(self.settings.database)
        self.ledger = JobLedger(self.database)
        self.registry = ModelRegistry(self.database)
        self.datasets = DatasetRegistry(self.database)
        self.blobs = BlobStore(self.settings.blobs)

    @property
    def weights_folder(self) -> Path:
        return Path(self.environment.get("FOVEA_WEIGHTS_DIR", self.folder / "weights"))

    def add_dataset(self, dataset: DatasetFolder, state: DatasetState = DatasetState.READY) -> str:
        dataset_id = new_id("ds")
        self.blobs.put_folder(f"datasets/{dataset_id}", dataset.path, last=MANIFEST)
        self.datasets.add(
            "a dataset",
            prefix=f"datasets/{dataset_id}",
            dataset_id=dataset_id,
            content_hash=dataset.content_hash,
            state=state,
            labels=dataset.labels,
        )
        return dataset_id

    def use_digits(self, made: Path) -> None:
        """Saves the seconds that making the built-in dataset takes."""
        shutil.copytree(made, self.settings.cache / "builtin" / "digits")

    def create(self, kind: str = "finetune", **request: Any) -> Job:
        return self.ledger.create(kind, request)

    def take(self, job: Job) -> Attempt:
        """As the worker takes a job before it starts the runner."""
        attempt = self.ledger.take(job.id, "here", self.settings.lease_s + STARTING_S)
        assert attempt is not None
        return attempt

    def start(self, job: Job, **environment: str) -> subprocess.Popen[bytes]:
        """The runner as the worker would start it, its output in `runner.log`."""
        attempt = self.take(job)
        with (self.folder / "runner.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.training.runner"],
                env=self.process_environment(environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdin
        with process.stdin as given:
            given.write(json.dumps({"job": job.id, "token": attempt.token}).encode())
        return process

    def process_environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        # torch sets this for the process that imports it, which here is the tests' own, too.
        inherited = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
        return {
            **inherited,
            "FOVEA_DATA": str(self.folder),
            "FOVEA_TRAINING_DEVICE": "cpu",
            "FOVEA_TRAINING_THREADS": "1",
            "FOVEA_OFFLINE": "true",
            "FOVEA_WEIGHTS_DIR": str(self.weights_folder),
            **self.environment,
            **(more or {}),
        }

    def run_here(self, job: Job, exporter: Exporter | None = None) -> Job:
        """Sees a job through in this process, which has torch already."""
        run(job.id, self.take(job).token, self.settings, exporter=exporter)
        return self.ledger.get(job.id)

    def run(self, job: Job, **environment: str) -> Job:
        """Sees a job through in a process of its own."""
        code = self.start(job, **environment).wait(240)
        assert code == 0, self.log()
        return self.ledger.get(job.id)

    def log(self) -> str:
        return (self.folder / "runner.log").read_text()

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout_s} s for {what}")
            time.sleep(0.02)

    def progress(self, job: Job) -> dict[str, Any]:
        return self.ledger.get(job.id).progress

    def wait_for_phase(self, job: Job, phase: str, epoch: int = 0) -> None:
        self.wait_until(
            lambda: self.progress(job).get("phase") == phase and self.progress(job).get("epoch", 0) >= epoch,
            f"phase {phase}, epoch {epoch}",
        )

    def trained_sha256(self, reference: str = "digits") -> str:
        return str(self.registry.resolve(reference).manifest["weights"]["trained_sha256"])

    def close(self) -> None:
        self.database.close()


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGKILL) -> int:
    process.send_signal(how)
    return process.wait(60)
