"""Real handwritten digits as a user's files, and what is done with them through the published port."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from log import StepFailed, require
from project import Project, wait_until

from cli.dataset_upload import ready_dataset

MODEL = "digits"
# Enough epochs to be killed in the midst of.
LONG = {"epochs": 25, "patience": None}


@dataclass(frozen=True)
class Digits:
    folder: Path

    @classmethod
    def write(cls, folder: Path) -> "Digits":
        subprocess.run([sys.executable, "-m", "cli.demo_digits", folder, "2", folder / "cache"], check=True)
        return cls(folder)

    def upload(self, project: Project) -> str:
        with project.client() as client:
            return ready_dataset(client, self.folder / "0-9")

    @property
    def unseen(self) -> list[Path]:
        """Test images, named `digit-LABEL-NUMBER.png`."""
        return sorted((self.folder / "unseen").iterdir())

    def classify(self, project: Project, model: str = MODEL) -> list[str]:
        """The label of each of the unseen digits."""
        with project.client() as client:
            return [client.classify(path, model=model, top_k=1).label for path in self.unseen]

    def check(self, project: Project, model: str = MODEL) -> None:
        """At least 8 of 10 are named rightly. Raises StepFailed."""
        expected = [path.name.split("-")[1] for path in self.unseen]
        right = sum(map(str.__eq__, expected, self.classify(project, model)))
        require(right >= 0.8 * len(expected), f"{model} named {right} of {len(expected)} digits rightly")


def finetune(project: Project, dataset: str, **fields: Any) -> str:
    """The id of a new job."""
    what: dict[str, Any] = {"architecture": "lenet5", "weights": "none", "variants": "none"}
    with project.client() as client:
        return client.finetune(model=MODEL, dataset=dataset, **what, **fields).id


def wait_for_epoch(project: Project, job: str, epoch: int) -> None:
    def trained() -> bool:
        with project.client() as client:
            now = client.jobs.get(job)
        if now.is_over:
            raise StepFailed(f"job {job} was over before it could be killed: {now.state} {now.error}")
        return bool(now.progress.get("epoch", 0) >= epoch)

    wait_until(trained, f"epoch {epoch} of {job}", 90)


def first_epoch(project: Project, job: str, attempt: int) -> int:
    """The first epoch that the attempt ended, by the log of the training worker."""
    (container,) = project.containers("worker-training")
    for line in project.run("docker", "logs", container["Id"]).stderr.splitlines():
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        if (said.get("job"), said.get("attempt"), said["event"]) == (job, attempt, "training.epoch"):
            return int(said["epoch"])
    raise StepFailed(f"attempt {attempt} of {job} ended no epoch")


def wait_for_success(project: Project, job: str, *, attempts: int, timeout_s: float = 180) -> dict[str, Any]:
    """The job's result; it has to have taken so many attempts, neither fewer nor more."""

    def over() -> bool:
        with project.client() as client:
            return client.jobs.get(job).is_over

    wait_until(over, f"the end of {job}", timeout_s)
    with project.client() as client:
        ended = client.jobs.get(job)
    require(ended.state == "succeeded", f"job {job} ended as {ended.state}: {ended.error}")
    require(ended.attempt == attempts, f"job {job} took {ended.attempt} attempts, not {attempts}")
    return dict(ended.result or {})
