"""In which precision a worker serves a model: the one that is fastest here, of those that passed their gate."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from models.artifact import FLOAT32
from models.devices import CPU
from models.predictor import Predictor

AUTO: Final = "auto"

# A processor computes in eight bits and only stores sixteen; with a GPU's provider it is the other way round.
VARIANT_OF_CPU, VARIANT_OF_GPU = "int8", "fp16"
IMAGES = {CPU: 1}
IMAGES_ON_GPU = 8
ROUNDS = 5
# A variant that is hardly faster is not worth answers that differ.
WORTH_ANOTHER_ANSWER = 0.95

log = structlog.get_logger()


def load_fastest(precisions: Sequence[str], load: Callable[[str], Predictor]) -> Predictor:
    """The version loaded in the fastest of `precisions`, which `load` loads; the others are closed again.

    Each is timed on this machine, in turns. Raises what `load` raises, and PredictionFailed.
    """
    exact = load(FLOAT32)
    variant = VARIANT_OF_CPU if exact.provider == CPU else VARIANT_OF_GPU
    if variant not in precisions:
        return exact
    other = load(variant)
    seconds = _seconds([exact, other])
    ratio = seconds[1] / seconds[0]
    is_faster = ratio <= WORTH_ANOTHER_ANSWER
    log.info(
        "model.precision_chosen",
        model=exact.manifest.model,
        precision=variant if is_faster else FLOAT32,
        float32_ms=round(seconds[0] * 1e3, 2),
        variant_ms=round(seconds[1] * 1e3, 2),
        provider=exact.provider,
    )
    chosen, left = (other, exact) if is_faster else (exact, other)
    left.close()
    return chosen


def _seconds(predictors: Sequence[Predictor]) -> list[float]:
    """The shortest run of each: whatever else the machine does makes runs longer, and never shorter."""
    images = IMAGES.get(predictors[0].provider, IMAGES_ON_GPU)
    best = [float("inf")] * len(predictors)
    for predictor in predictors:
        predictor.warm_up([images])
    for _ in range(ROUNDS):
        for place, predictor in enumerate(predictors):
            began = time.perf_counter()
            predictor.warm_up([images])
            best[place] = min(best[place], time.perf_counter() - began)
    return best
