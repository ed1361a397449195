"""How long a model takes on this machine, beside whatever else the machine does."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from models.devices import CPU
from models.predictor import Predictor

ROUNDS = 3


class Run(NamedTuple):
    """So many images at once."""

    predictor: Predictor
    images: int


def shortest(runs: Sequence[Run], rounds: int = ROUNDS) -> list[float]:
    """The shortest time of each run, in seconds, after one that does not count; all are taken in turns.

    On a CPU it is the calling thread's processor time, for the wall clock would count what others do meanwhile.
    Raises PredictionFailed.
    """
    best = [float("inf")] * len(runs)
    for predictor, images in runs:
        predictor.warm_up([images])
    for _ in range(rounds):
        for place, (predictor, images) in enumerate(runs):
            clock = time.thread_time if predictor.provider == CPU else time.perf_counter
            began = clock()
            predictor.warm_up([images])
            best[place] = min(best[place], clock() - began)
    return best
