"""A small trained-like network as an artifact holds it, with images to calibrate and images to judge by."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.small_network import LABELS, TEMPERATURE, make_network

from models.export import to_onnx
from models.photographs import photographs
from models.served import Served
from models.spec import Preprocessing

PREPROCESSING = Preprocessing(height=32, width=40, resize=44)


@pytest.fixture(scope="session")
def pictures() -> NDArray[np.uint8]:
    """136 views: each of 68 photographs, and its mirror image."""
    views = photographs(PREPROCESSING)
    return np.concatenate([views, views[:, :, ::-1]])


@pytest.fixture(scope="session")
def calibration(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pictures[::2]


@pytest.fixture(scope="session")
def judged(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pictures[1::2]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, calibration: NDArray[np.uint8]) -> Path:
    file = tmp_path_factory.mktemp("float32") / "model.onnx"
    network = make_network(PREPROCESSING, calibration)
    to_onnx(network, file, preprocessing=PREPROCESSING, labels=LABELS, temperature=TEMPERATURE)
    return file


@pytest.fixture(scope="session")
def labels(judged: NDArray[np.uint8], calibration: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What the network answers, but for every tenth image: so that it is right in nine of ten."""
    served = Served(make_network(PREPROCESSING, calibration), PREPROCESSING, temperature=TEMPERATURE)
    with torch.inference_mode():
        found = served(torch.from_numpy(judged))[0].argmax(1).numpy().astype(np.int64)
    found[::10] = (found[::10] + 1) % len(LABELS)
    return found
