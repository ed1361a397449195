"""A manifest and metrics as a fine-tune leaves them, and a page taken apart."""

import html.parser
from typing import Any

import numpy as np

from models.artifact import Manifest
from models.spec import Preprocessing
from models.training.metrics import Metrics, compute_metrics
from models.training.recipe import DEFAULT

REGRESSION = {"l2": 0.1, "augmented": True, "trials": []}


class Reading(html.parser.HTMLParser):
    """Tags with their attributes, and all text, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def metrics_of(labels: tuple[str, ...], images: int = 30, temperature: float = 1.3) -> Metrics:
    rng = np.random.default_rng(0)
    targets = np.arange(images, dtype=np.int64) % len(labels)
    logits = rng.normal(size=(images, len(labels))).astype(np.float32)
    logits[np.arange(images), targets] += 1
    names = [f"{i}<img src=x onerror=alert(2)>.png" for i in range(images)]
    return compute_metrics(logits, targets, labels, names, temperature)


def manifest_of(labels: tuple[str, ...], metrics: Metrics, **recipe: Any) -> Manifest:
    split = {part: dict.fromkeys(labels, 9) for part in ("train", "validation", "test")}
    return Manifest(
        model="bugs",
        labels=labels,
        preprocessing=Preprocessing(32, 32, 32),
        architecture="lenet5",
        weights={
            "origin": "keras", "name": "imagenet", "sha256": "ab" * 32, "licence": "Apache-2.0",
            "trained_sha256": "0123456789abcdef",
        },
        dataset={
            "id": "ds_1", "name": "Bugs & <b>beetles</b>", "content_hash": "cd" * 32,
            "split": {"origin": "given", **split},
        },
        recipe={
            **DEFAULT.model_dump(), "name": "default", "strategy": "head", "strategy_reason": "Few images.",
            "logistic_regression": REGRESSION, **recipe,
        },
        seed=3,
        metrics={**metrics.summary(), "baseline_accuracy": 0.25, "best_epoch": 2, "stopped": "patience"},
        calibration={
            "temperature": 1.3, "fitted_temperature": 1.3, "loss_before": 1.0, "loss_cross_validated": 0.9,
            "error_before": 0.2, "error_fitted": 0.1,
        },
        parity={"agreement": 1.0, "images": 30, "batch_sizes": [1, 3, 8], "max_abs_diff": 1e-6},
        created_at="2026-11-05T23:10:00Z",
    )  # fmt: skip
