"""Sets of classes: by the definition, image by image; never empty; and as often right as they say."""

import contextlib
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from torch import nn

from models.conformal import ConformalScores
from models.errors import ImageError
from models.normalise import Normalise
from models.prediction_sets import class_scores, prediction_sets
from models.preprocess import prepare
from models.training.metrics import softmax
from models.weights.loading import build_with_weights
from models.weights.store import WeightsStore


def case(seed: int, images: int, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, images)
    logits = rng.normal(size=(images, classes)) * 2
    logits[np.arange(images), targets] += rng.exponential(3, images)
    return logits.astype(np.float32), targets


def test_a_set_has_each_class_that_is_probable_enough_and_always_the_best() -> None:
    logits, _ = case(0, 200)
    threshold = 0.7
    found = prediction_sets(class_scores(logits), threshold)
    for row, probabilities in zip(found, softmax(logits), strict=True):
        likely = {k for k, p in enumerate(probabilities) if p >= np.exp(-threshold)}
        assert set(np.flatnonzero(row)) == likely | {int(probabilities.argmax())}
    assert (softmax(logits).max(axis=1) < np.exp(-threshold)).any()


def test_scores_of_logits_that_overflow_are_numbers() -> None:
    scores = class_scores(np.array([[900.0, -900.0, 0.0]], np.float32))
    assert scores.tolist() == [[0.0, 1800.0, 900.0]]


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_the_sets_hold_the_truth_as_often_as_they_say(coverage: float) -> None:
    draws, held = 600, 0
    for seed in range(draws):
        logits, targets = case(seed, 61)
        scores = class_scores(logits)
        true = scores[np.arange(61), targets]
        threshold = ConformalScores.of(true[:60].tolist()).threshold(coverage)
        held += int(prediction_sets(scores[60:], threshold)[0, targets[60]])
    assert held >= binom.ppf(1e-4, draws, coverage)


@pytest.mark.data
@pytest.mark.slow
def test_sets_of_ants_and_bees_reach_their_coverage_on_photographs_they_never_saw(
    test_data: Path,
) -> None:
    network, loaded = build_with_weights("mobilenet_v1_025", "imagenet", WeightsStore(test_data / "weights"))
    network.head = nn.Identity()
    network.eval()
    images: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    labels: dict[str, list[bool]] = {"train": [], "val": []}
    with zipfile.ZipFile(test_data / "hymenoptera.zip") as archive:
        for name in sorted(name for name in archive.namelist() if not name.endswith("/")):
            part, kind = PurePosixPath(name).parts[-3:-1]
            with contextlib.suppress(ImageError):
                images[part].append(prepare(archive.read(name), loaded.preprocessing))
                labels[part].append(kind == "bees")
    normalise = Normalise(loaded.preprocessing)
    with torch.inference_mode():
        features = {
            part: torch.cat([network(normalise(torch.from_numpy(np.stack(found[at : at + 32]))))
                             for at in range(0, len(found), 32)]).numpy()
            for part, found in images.items()
        }  # fmt: skip
    head = LogisticRegression(C=0.1, max_iter=2000).fit(features["train"], labels["train"])
    decided = head.decision_function(features["val"])
    scores, targets = class_scores(np.stack([-decided, decided], axis=1) / 2), np.array(labels["val"], np.int64)
    true = scores[np.arange(len(targets)), targets]
    order = np.random.default_rng(0).permutation(len(targets))
    calibrating, others = order[:76], order[76:]
    calibrated = ConformalScores.of(true[calibrating].tolist())
    sizes = []
    for coverage in (0.8, 0.9, 0.95):
        members = prediction_sets(scores[others], calibrated.threshold(coverage))
        held = members[np.arange(len(others)), targets[others]].sum()
        # The threshold is itself drawn, so that the number held is beta-binomial; the wide tail allows for that.
        assert held >= binom.ppf(1e-3, len(others), coverage)
        sizes.append(members.sum(axis=1).mean())
    assert 1.0 <= sizes[0] <= sizes[1] <= sizes[2] < 1.9
