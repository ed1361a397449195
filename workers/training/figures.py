"""How good the result of a fine-tune is, on each split that was held out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.training.calibrate import Calibration, calibrate
from models.training.data import Plan
from models.training.loop import evaluate
from models.training.metrics import Metrics, compute_metrics
from workers.training.learning import Learnt
from workers.training.reporter import Reporter


@dataclass(frozen=True)
class Figures:
    """`baseline` is the accuracy of always answering the training images' most frequent class."""

    calibration: Calibration
    validation: Metrics
    test: Metrics | None
    baseline: float

    @property
    def temperature(self) -> float:
        return self.calibration.temperature

    @property
    def judged(self) -> Metrics:
        """The split that had no say in the training where there is one, else the validation split."""
        return self.test or self.validation

    def summary(self) -> dict[str, Any]:
        """The single figures: those of the judged split, and of both by name."""
        return {
            **self.judged.summary(),
            "measured_on": "test" if self.test else "validation",
            "baseline_accuracy": self.baseline,
            "validation": self.validation.summary(),
            "test": self.test.summary() if self.test else None,
        }


def assess(learnt: Learnt, division: Plan, reporter: Reporter) -> Figures:
    """Calibrates on the validation images and measures every split that was held out."""
    logits = evaluate(learnt.network, learnt.validation, reporter)
    calibration = calibrate(logits, division.validation.targets)
    temperature = calibration.temperature
    validation = compute_metrics(
        logits, division.validation.targets, division.labels, division.validation.names, temperature
    )
    test = None
    if len(division.test):
        test = compute_metrics(
            evaluate(learnt.network, learnt.test, reporter),
            division.test.targets,
            division.labels,
            division.test.names,
            temperature,
        )
    most_frequent = np.bincount(division.train.targets).argmax()
    judged = division.test if len(division.test) else division.validation
    return Figures(calibration, validation, test, float(np.mean(judged.targets == most_frequent)))
