"""FastAPI with ONNX Runtime inside the same process and nothing else: what many write first.

No queue, no limits, no versions, no health: it shows what HTTP alone costs in Python.
"""

import os
from pathlib import Path

from fastapi import FastAPI, Request

from benchmarks.plain import Classes, PlainClassifier


def create_app() -> FastAPI:
    classifier = PlainClassifier(Path(os.environ["FOVEA_BENCH_ARTIFACTS"]))
    app = FastAPI()

    @app.post("/classify")
    async def classify(request: Request) -> Classes:
        # In the event loop: with one process per core a thread could only add a switch.
        return classifier.classify([await request.body()])[0]

    return app
