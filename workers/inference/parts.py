"""How many images of a batch a core classifies in one run: measured when a model is loaded.

It depends on the network and on the machine. Most networks gain nothing from a larger run, and with single images
all cores end at the same time. But one with large dense layers reads all of them in every run: of AlexNet's 240 MB
an image cost 23 ms alone and 11 among four.
"""

import time

from models.devices import CPU
from models.predictor import Predictor

LARGER = 4
# What a larger run has to cost for each image, of what it costs alone.
WORTH_WAITING = 0.85
GPU_WARM_UP = (1, 2, 8)


def warmed_up(predictor: Predictor) -> int | None:
    """Run empty images, so that the first request pays for no allocation; the size of a part, None for no limit.

    Raises PredictionFailed.
    """
    if predictor.provider != CPU:
        predictor.warm_up(GPU_WARM_UP)
        return None
    alone, among_others = _seconds(predictor, 1), _seconds(predictor, LARGER)
    return LARGER if among_others < WORTH_WAITING * alone else 1


def split(images: int, size: int | None, cores: int) -> list[range]:
    """The places of a batch as parts of at most `size`, no larger than keeps all cores busy."""
    most = max(1, images if size is None else min(size, -(-images // cores)))
    return [range(start, min(start + most, images)) for start in range(0, images, most)]


def _seconds(predictor: Predictor, images: int) -> float:
    """For each image of a run of so many, that is not the first one."""
    predictor.warm_up([images])
    began = time.perf_counter()
    predictor.warm_up([images])
    return (time.perf_counter() - began) / images
