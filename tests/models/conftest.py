"""A real artifact of a small network, made once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.small_network import LABELS, TEMPERATURE, MadeArtifact, SmallNetwork, make_network

from models.artifact import Manifest, software_versions, write_manifest
from models.export import export
from models.photographs import photographs
from models.spec import Preprocessing


@pytest.fixture(scope="session")
def preprocessing() -> Preprocessing:
    return Preprocessing(height=32, width=40, resize=44)


@pytest.fixture(scope="session")
def images(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    return photographs(preprocessing)


@pytest.fixture(scope="session")
def network(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> SmallNetwork:
    """In training mode, as a training loop leaves it."""
    return make_network(preprocessing, images)


@pytest.fixture(scope="session")
def made_artifact(
    tmp_path_factory: pytest.TempPathFactory,
    network: SmallNetwork,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
) -> MadeArtifact:
    folder = tmp_path_factory.mktemp("artifact")
    report = export(
        network, folder, preprocessing=preprocessing, labels=LABELS, images=images, temperature=TEMPERATURE
    )
    (folder / "card.md").write_text("# ants and bees\n")
    (folder / "plots").mkdir()
    (folder / "plots" / "curve.svg").write_text("<svg/>")
    manifest = Manifest(
        model="ants-bees",
        labels=LABELS,
        preprocessing=preprocessing,
        architecture="small",
        software=software_versions(),
        calibration={"temperature": TEMPERATURE},
        parity=report.to_dict(),
    )
    return MadeArtifact(folder, write_manifest(folder, manifest), report)


@pytest.fixture
def artifact(made_artifact: MadeArtifact, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made_artifact.folder, tmp_path / "artifact"))
