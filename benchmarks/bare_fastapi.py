"""The reference peer: FastAPI with ONNX Runtime inside the same process, one process per core, and nothing else.

What many write first. No queue, no limits, no versions, no health: it shows what HTTP alone costs in Python.
Served by `uvicorn benchmarks.bare_fastapi:create_app --factory`.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request

from benchmarks.artifacts import FOVEA
from benchmarks.limit import CLASSIFIERS
from models.artifact import read_manifest

ARTIFACTS = "FOVEA_BENCH_ARTIFACTS"
LOOP = "FOVEA_BENCH_LOOP"
TOP_K = 5


def create_app() -> FastAPI:
    """One route that answers as the real service does, with the loop that the environment names inside."""
    folder = Path(os.environ[ARTIFACTS])
    classifier = CLASSIFIERS[os.environ[LOOP]](folder)
    labels = read_manifest(folder / FOVEA).labels
    app = FastAPI()

    @app.post("/classify")
    async def classify(request: Request) -> list[dict[str, Any]]:
        # In the event loop: with one process per core a thread could only add a switch.
        (logits,) = classifier.infer(classifier.prepare(await request.body()))
        exponentials = np.exp(logits - logits.max())
        probabilities = exponentials / exponentials.sum()
        best = np.argsort(-probabilities)[:TOP_K]
        return [
            {"index": int(index), "label": labels[index], "probability": float(probabilities[index])}
            for index in best
        ]

    return app
