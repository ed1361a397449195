"""How many images of a batch a core classifies in one run: measured when a model is loaded.

It depends on the network and on the machine. With single images all cores end at the same time, and many networks
gain nothing by more; MobileNet v2 gains a twentieth by two, ResNet-18 a tenth by four. One with large dense layers
reads all of them in every run: of AlexNet's 240 MB an image cost 23 ms alone and 11 among four.
"""

from collections.abc import Mapping

from models.devices import CPU
from models.predictor import Predictor
from workers.inference.speed import Run, shortest

SIZES = (1, 2, 4)
# What an image of a run has to cost at most, of what it costs in the next smaller one.
WORTH_WAITING = 0.98
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
    seconds = shortest([Run(predictor, size) for size in SIZES], ROUNDS)
    return worthwhile({size: run / size for size, run in zip(SIZES, seconds, strict=True)})


def worthwhile(seconds: Mapping[int, float]) -> int:
    """The size to take of those that are given, from the smallest on, each with what an image of it costs."""
    chosen, *larger = seconds
    for size in larger:
        if seconds[size] < WORTH_WAITING * seconds[chosen]:
            chosen = size
    return chosen


def split(images: int, size: int | None, cores: int) -> list[range]:
    """The places of a batch as parts of at most `size`, no larger than keeps all cores busy."""
    most = max(1, images if size is None else min(size, -(-images // cores)))
    return [range(start, min(start + most, images)) for start in range(0, images, most)]
