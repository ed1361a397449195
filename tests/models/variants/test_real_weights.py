"""The hard case: MobileNet v1 0.25 with its published weights, and with a head for ants and bees."""

import contextlib
import dataclasses
import zipfile
from pathlib import PurePosixPath

import numpy as np
import onnx
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from models.errors import ImageError
from models.export import to_onnx
from models.normalise import Normalise
from models.preprocess import prepare
from models.variants.build import build
from models.variants.network import Network
from models.variants.report import Recipe
from models.weights.loading import build_with_weights
from models.weights.store import WeightsStore

pytestmark = [pytest.mark.data, pytest.mark.slow]

ANT, BEE = 310, 309


@pytest.fixture(scope="module")
def published(test_data):
    store = WeightsStore(test_data / "weights", offline=True)
    network, loaded = build_with_weights("mobilenet_v1_025", "imagenet", store)
    return network.eval(), loaded.preprocessing


@pytest.fixture(scope="module")
def insects(test_data, published):
    """Pixels and ImageNet's numbers of the training and the validation photographs."""
    found = {"train": ([], []), "val": ([], [])}
    with zipfile.ZipFile(test_data / "hymenoptera.zip") as archive:
        for name in sorted(name for name in archive.namelist() if not name.endswith("/")):
            part, kind = PurePosixPath(name).parts[-3:-1]
            # One of them is no image.
            with contextlib.suppress(ImageError):
                found[part][0].append(prepare(archive.read(name), published[1]))
                found[part][1].append(ANT if kind == "ants" else BEE)
    return {part: (np.stack(images), np.array(numbers, np.int64)) for part, (images, numbers) in found.items()}


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory, published):
    file = tmp_path_factory.mktemp("imagenet") / "model.onnx"
    to_onnx(published[0], file, preprocessing=published[1], labels=[str(n) for n in range(1000)])
    return file


@pytest.fixture(scope="module")
def ants_and_bees(tmp_path_factory, published, insects):
    network, preprocessing = published
    head, network.head = network.head, nn.Identity()
    images, numbers = insects["train"]
    with torch.inference_mode():
        parts = [network(Normalise(preprocessing)(torch.from_numpy(part))) for part in np.array_split(images, 16)]
    fitted = LogisticRegression(C=0.1, max_iter=2000).fit(torch.cat(parts).numpy(), numbers == BEE)
    network.head = nn.Linear(head.in_features, 2)
    with torch.no_grad():
        weight, bias = torch.from_numpy(fitted.coef_).float(), torch.from_numpy(fitted.intercept_).float()
        network.head.weight.copy_(torch.cat([-weight, weight]) / 2)
        network.head.bias.copy_(torch.cat([-bias, bias]) / 2)
    file = tmp_path_factory.mktemp("insects") / "model.onnx"
    to_onnx(network, file, preprocessing=preprocessing, labels=["ants", "bees"])
    network.head = head
    return file


def test_rounding_by_data_takes_away_most_of_the_noise(imagenet, insects, tmp_path):
    network = Network(imagenet, insects["train"][0][::6])
    plain = Recipe("minmax", per_channel=True, folded=("normalisation",))
    onnx.save(network.made(plain), tmp_path / "plain.onnx")
    onnx.save(network.made(dataclasses.replace(plain, rounded=True)), tmp_path / "rounded.onnx")
    assert network.noise(tmp_path / "rounded.onnx", 32) < 0.6 * network.noise(tmp_path / "plain.onnx", 32)


@pytest.mark.parametrize("classes", ["ImageNet's", "ants and bees"])
def test_a_variant_is_as_good_as_float32_or_is_refused_with_the_numbers(
    request, tmp_path, insects, test_data, published, classes
):
    images, labels = insects["val"]
    if classes == "ants and bees":
        model, labels = request.getfixturevalue("ants_and_bees"), (labels == BEE).astype(np.int64)
    else:
        model = request.getfixturevalue("imagenet")
        samples = sorted((test_data / "imagenet" / "samples").iterdir())
        images = np.concatenate([images, np.stack([prepare(s.read_bytes(), published[1]) for s in samples])])
        labels = np.concatenate([labels, [int(sample.name[:3]) for sample in samples]])
    target = tmp_path / "model.int8.onnx"
    report = build(model, target, "int8", calibration=insects["train"][0], images=images, labels=labels)
    assert report.passed == target.exists()
    assert report.images == len(images)
    # The plain recipe gives 0.77 with ImageNet's classes.
    assert max(attempt.agreement for attempt in report.tried) > (0.98 if classes == "ants and bees" else 0.88)
    if report.passed:
        assert report.reason is None
        assert report.agreement >= 0.98
        assert report.difference >= -100 / len(images)
        assert report.speedup >= 1.1
    else:
        assert any(char.isdigit() for char in report.reason)
        assert list(tmp_path.iterdir()) == []
