"""How many images of a batch a core classifies in one run: measured when a model is loaded.

It depends on the network and on the machine. Most networks gain nothing from a larger run, and with single images
all cores end at the same time. But one with large dense layers reads all of them in every run: of AlexNet's 240 MB
an image cost 23 ms alone and 11 among four.
"""

from models.devices import CPU
from models.predictor import Predictor
from workers.inference.speed import Run, shortest

LARGER = 4
# What a larger run has to cost for each image, of what it costs alone.
WORTH_WAITING = 0.85
# The sizes that CUDA runs what the gateway sends with its own settings in.
GPU_WARM_UP = (1, 4, 16)
# Somebody waits for the model.
ROUNDS = 2


def warmed_up(predictor: Predictor) -> int | None:
    """Run empty images, so that the first request pays for no allocation; the size of a part, None for no limit.

    Raises PredictionFailed.
    """
    if predictor.provider != CPU:
        predictor.warm_up(GPU_WARM_UP)
        return None
    alone, together = shortest([Run(predictor, 1), Run(predictor, LARGER)], ROUNDS)
    return LARGER if together / LARGER < WORTH_WAITING * alone else 1


def split(images: int, size: int | None, cores: int) -> list[range]:
    """The places of a batch as parts of at most `size`, no larger than keeps all cores busy."""
    most = max(1, images if size is None else min(size, -(-images // cores)))
    return [range(start, min(start + most, images)) for start in range(0, images, most)]
