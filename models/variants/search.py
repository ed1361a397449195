"""The recipes of an INT8 variant, in the order in which they are tried."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from models.variants.attempts import Attempts, with_facts_of
from models.variants.int8 import prepared, quantised
from models.variants.pixels import FOLDED, Entry, fold_normalisation
from models.variants.ranges import Feed, Observer, Seen
from models.variants.report import Recipe

Watcher = Callable[[int, int], None]


def search(
    attempts: Attempts, model: Path, calibration: NDArray[np.uint8], deadline: float, watcher: Watcher | None
) -> None:
    """Try one recipe after the other until one passes or the time is up."""
    network = _Network(model, calibration)
    recipes = network.recipes()
    for number, recipe in enumerate(recipes):
        if number and time.monotonic() > deadline:
            return
        verdict = attempts.attempt(recipe, functools.partial(network.made, recipe))
        if watcher is not None:
            watcher(number + 1, len(recipes))
        if verdict is not None and verdict.passed:
            return


class _Network:
    """The float32 graph, prepared, and what its activations are like; both are found when first asked for."""

    def __init__(self, model: Path, calibration: NDArray[np.uint8]) -> None:
        self.original = onnx.load(model)
        graph = onnx.ModelProto()
        graph.CopyFrom(self.original)
        self.entry: Entry = fold_normalisation(graph)
        self._folded = graph
        self._calibration = calibration
        self._ready: tuple[onnx.ModelProto, dict[str, Seen]] | None = None

    def recipes(self) -> list[Recipe]:
        folded = () if self.entry.zero_point is None else (FOLDED,)
        plain = Recipe("minmax", per_channel=True, folded=folded)
        return [
            plain,
            dataclasses.replace(plain, calibrator="mse"),
            dataclasses.replace(plain, calibrator="percentile"),
            dataclasses.replace(plain, per_channel=False),
        ]

    def made(self, recipe: Recipe) -> onnx.ModelProto:
        graph, seen = self._observed()
        ranges = {name: activation.range_by(recipe.calibrator or "minmax") for name, activation in seen.items()}
        made = quantised(graph, self.entry, ranges, per_channel=recipe.per_channel, float_nodes=recipe.float_nodes)
        return with_facts_of(self.original, made)

    def _observed(self) -> tuple[onnx.ModelProto, dict[str, Seen]]:
        if self._ready is None:
            graph = prepared(self._folded)
            self._ready = graph, Observer(graph).observe(self._feeds, histograms=True)
        return self._ready

    def _feeds(self) -> Iterable[Feed]:
        return (self.entry.feed(self._calibration[at : at + 1]) for at in range(len(self._calibration)))
