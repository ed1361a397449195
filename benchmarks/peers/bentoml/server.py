"""BentoML around the plain classifier: `bentoml serve benchmarks.peers.bentoml.server:Classify`.

What `bentoml serve` has no option for comes from the environment, as JSON in FOVEA_BENCH_SETTINGS.
"""

import json
import os
from pathlib import Path

import bentoml
from PIL.Image import Image

from benchmarks.plain import Classes, PlainClassifier

SETTINGS = json.loads(os.environ["FOVEA_BENCH_SETTINGS"])


@bentoml.service(
    name="classify",
    workers=SETTINGS["workers"],
    threads=SETTINGS["threads"] or 1,
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    traffic={"timeout": 60},
)
class Classify:
    def __init__(self) -> None:
        self._classifier = PlainClassifier(Path(os.environ["FOVEA_BENCH_ARTIFACTS"]))

    @bentoml.api
    def classify(self, image: Image, /) -> Classes:
        """The body is the image, which BentoML hands over opened, not decoded, to one of its threads."""
        return self._classifier.classify([image])[0]

    @bentoml.api
    async def classify_in_loop(self, image: Image, /) -> Classes:
        """The same in the event loop: no switch between threads, and no other request meanwhile."""
        return self._classifier.classify([image])[0]
