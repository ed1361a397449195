"""How good the result of a fine-tune is, on each part of the dataset that was held out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.training.calibrate import Calibration, calibrate
from models.training.loop import evaluate
from models.training.metrics import Metrics, compute_metrics
from models.training.progress import Watcher
from models.training.split import Split
from models.training.train import TrainedModel


@dataclass(frozen=True)
class FinetuneMetrics:
    """`baseline` is the accuracy of always answering the training images' most frequent class."""

    calibration: Calibration
    validation: Metrics
    test: Metrics | None
    baseline: float

    @property
    def headline(self) -> Metrics:
        """Those of the test images, which had no say in the training, where there are any; else of validation."""
        return self.test or self.validation

    def summary(self) -> dict[str, Any]:
        """The single numbers: those of the headline, and of both parts by name."""
        return {
            **self.headline.summary(),
            "measured_on": "test" if self.test else "validation",
            "baseline_accuracy": self.baseline,
            "validation": self.validation.summary(),
            "test": self.test.summary() if self.test else None,
        }


def evaluate_model(trained: TrainedModel, split: Split, watcher: Watcher) -> FinetuneMetrics:
    """Calibrates on the validation images, and measures both parts with the temperature found."""
    logits = evaluate(trained.network, trained.validation, watcher)
    targets = split.validation.targets
    calibration = calibrate(logits, targets)
    temperature = calibration.temperature
    validation = compute_metrics(logits, targets, split.labels, split.validation.names, temperature)
    test = None
    if len(split.test):
        logits = evaluate(trained.network, trained.test, watcher)
        test = compute_metrics(logits, split.test.targets, split.labels, split.test.names, temperature)
    most_frequent = np.bincount(split.train.targets).argmax()
    measured = split.test if len(split.test) else split.validation
    return FinetuneMetrics(calibration, validation, test, float(np.mean(measured.targets == most_frequent)))
