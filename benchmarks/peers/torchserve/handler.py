"""TorchServe's handler around the plain classifier: a batch of requests in, one answer for each out."""

import os
from pathlib import Path
from typing import Any

from benchmarks.plain import Classes, PlainClassifier


class Handler:
    """Named in the archive's manifest. TorchServe calls both methods in a process of their own."""

    def initialize(self, _context: Any) -> None:
        self._classifier = PlainClassifier(Path(os.environ["FOVEA_BENCH_ARTIFACTS"]))

    def handle(self, requests: list[dict[str, Any]], _context: Any) -> list[Classes]:
        return self._classifier.classify([bytes(request["body"]) for request in requests])
