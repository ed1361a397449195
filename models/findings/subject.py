"""What is looked at once a version is trained, and by what."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from models.findings.finding import Finding
from models.training.embedded import EmbeddedSplit
from models.training.inputs import TrainingInputs
from models.training.recipe import Recipe
from models.training.train import TrainedModel


@dataclass(frozen=True)
class Subject:
    """A trained network with its images, between its export and its publication.

    `folder` is the artifact's, where `model` is the graph already; a look may add files to it. `network` is on the
    CPU, `preprocessing` that of `inputs`. `embedded` is what the version makes of the images. `temperature` is the
    one that is served. `cache` is the worker's, for what can be made again.
    """

    folder: Path
    model: Path
    architecture: str
    network: nn.Module
    inputs: TrainingInputs
    trained: TrainedModel
    embedded: EmbeddedSplit
    temperature: float
    recipe: Recipe
    seed: int
    cache: Path
    threads: int


class Finder(Protocol):
    def __call__(self, subject: Subject) -> Finding:
        """Where there is too little to find anything by, the finding's facts and blocks say what is missing.

        Raises OSError on a full disk. It says of every figure on which images it was measured.
        """
        ...
