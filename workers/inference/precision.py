"""In which precision a worker serves a model: the one that is fastest here, of those that passed their gate."""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from models.artifact import FLOAT32
from models.devices import CPU
from models.predictor import Predictor
from workers.inference.speed import Run, shortest

AUTO: Final = "auto"

# A processor computes in eight bits and only stores sixteen; with a GPU's provider it is the other way round.
VARIANT_OF_CPU, VARIANT_OF_GPU = "int8", "fp16"
IMAGES_ON_CPU, IMAGES_ON_GPU = 1, 16
# A variant that is hardly faster is not worth answers that differ.
WORTH_ANOTHER_ANSWER = 0.95

log = structlog.get_logger()


def load_fastest(precisions: Sequence[str], load: Callable[[str], Predictor]) -> Predictor:
    """The version loaded in the fastest of `precisions`, which `load` loads; the others are closed again.

    Each is timed on this machine, in turns. Raises what `load` raises, and PredictionFailed.
    """
    exact = load(FLOAT32)
    is_cpu = exact.provider == CPU
    variant = VARIANT_OF_CPU if is_cpu else VARIANT_OF_GPU
    if variant not in precisions:
        return exact
    other = load(variant)
    images = IMAGES_ON_CPU if is_cpu else IMAGES_ON_GPU
    exact_s, other_s = shortest([Run(exact, images), Run(other, images)])
    is_faster = other_s <= WORTH_ANOTHER_ANSWER * exact_s
    log.info(
        "model.precision_chosen",
        model=exact.manifest.model,
        precision=variant if is_faster else FLOAT32,
        float32_ms=round(exact_s * 1e3, 2),
        variant_ms=round(other_s * 1e3, 2),
        provider=exact.provider,
    )
    chosen, left = (other, exact) if is_faster else (exact, other)
    left.close()
    return chosen
