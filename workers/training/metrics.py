"""How good the result of a fine-tune is, on each part of the dataset that was held out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.training.calibrate import fit_temperature
from models.training.evaluate import Evaluation, measure
from models.training.loop import evaluate
from models.training.progress import Watcher
from models.training.split import Split
from models.training.train import TrainedModel


@dataclass(frozen=True)
class FinetuneMetrics:
    """`baseline` is the accuracy of always answering the training images' most frequent class."""

    temperature: float
    validation: Evaluation
    test: Evaluation | None
    baseline: float

    @property
    def headline(self) -> Evaluation:
        """Those of the test images, which had no say in the training, where there are any; else of validation."""
        return self.test or self.validation

    def summary(self) -> dict[str, Any]:
        """The single figures: those of the headline, and of both parts by name."""
        return {
            **self.headline.summary(),
            "measured_on": "test" if self.test else "validation",
            "baseline_accuracy": self.baseline,
            "validation": self.validation.summary(),
            "test": self.test.summary() if self.test else None,
        }


def compute_metrics(trained: TrainedModel, split: Split, watcher: Watcher) -> FinetuneMetrics:
    """Fits the temperature on the validation images, and measures both parts with it."""
    logits = evaluate(trained.network, trained.validation, watcher)
    targets = split.validation.targets
    temperature = fit_temperature(logits, targets)
    validation = measure(logits, targets, split.labels, split.validation.names, temperature)
    test = None
    if len(split.test):
        logits = evaluate(trained.network, trained.test, watcher)
        test = measure(logits, split.test.targets, split.labels, split.test.names, temperature)
    most_frequent = np.bincount(split.train.targets).argmax()
    judged = split.test if len(split.test) else split.validation
    return FinetuneMetrics(temperature, validation, test, float(np.mean(judged.targets == most_frequent)))
