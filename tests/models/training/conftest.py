"""Small real things to train on: coloured pictures as a dataset, digits, and networks that are quick."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.teaching import colour_dataset

from models.dataset.folder import DatasetFolder
from models.training.digits import open_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    return open_digits(tmp_path_factory.mktemp("digits") / "dataset")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    return colour_dataset(tmp_path_factory.mktemp("colours") / "dataset", per_class=12)


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    np.random.seed(0)
    torch.manual_seed(0)
