"""A trainer's world for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trainer import Trainer

from models.training.digits import open_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in dataset, made once."""
    return open_digits(tmp_path_factory.mktemp("digits") / "digits").path


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    world = Trainer(tmp_path / "data")
    yield world
    world.close()
