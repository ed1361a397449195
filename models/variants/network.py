"""A float32 model as recipes need it: its graph prepared, and what calibration images show of it."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from models.variants.attempts import with_facts_of
from models.variants.equalisation import equalise
from models.variants.gate import answers
from models.variants.int8 import prepared, quantised
from models.variants.patches import convolutions, read_patches
from models.variants.pixels import FOLDED, Entry, drop_unused, fold_normalisation
from models.variants.ranges import Feed, Observer, Seen
from models.variants.report import Recipe
from models.variants.rounding import Rounding


@dataclass(frozen=True)
class Graph:
    """A prepared float32 graph, and how images are fed to it."""

    model: onnx.ModelProto
    entry: Entry


class Network:
    """`calibration` are uint8 `[n, height, width, 3]`; `pulse` is called for each that is looked at.

    What ONNX Runtime's tools raise, its methods raise.
    """

    def __init__(
        self, model: Path, calibration: NDArray[np.uint8], pulse: Callable[[], None] = lambda: None
    ) -> None:
        self._pulse = pulse
        self._file = model
        self._original = onnx.load(model)
        self._calibration = calibration

    def made(self, recipe: Recipe) -> onnx.ModelProto:
        """The INT8 graph by the recipe."""
        key = FOLDED in recipe.folded, recipe.equalised
        graph = self._graph(*key)
        calibrator = recipe.calibrator or "minmax"
        seen = self._seen(*key, calibrator != "minmax")
        made = quantised(
            graph.model,
            graph.entry,
            {name: activation.range_by(calibrator) for name, activation in seen.items()},
            per_channel=recipe.per_channel,
            float_nodes=recipe.float_nodes,
        )
        if recipe.rounded:
            self._rounding(*key).apply(made)
        return with_facts_of(self._original, made)

    @functools.cached_property
    def folds(self) -> bool:
        """Whether the normalisation can be folded into the first convolution."""
        return self._graph(True, False).entry.zero_point is not None

    def first_nodes(self, count: int) -> tuple[str, ...]:
        """All nodes up to the `count`-th convolution and what cuts its output; with 0, those before the first."""
        names: list[str] = []
        found = 0
        nodes = self._graph(False, False).model.graph.node
        for node in nodes:
            is_cut = node.op_type in ("Relu", "Clip") and found == count and names[-1:] == [_maker(nodes, node)]
            if (found == count and not is_cut and count) or (not count and node.op_type == "Conv"):
                break
            names.append(node.name)
            found += node.op_type == "Conv"
        return tuple(names)

    def weighing_nodes(self, recipe: Recipe) -> list[tuple[str, ...]]:
        """Each node with weights, with what cuts its output."""
        nodes = self._graph(FOLDED in recipe.folded, recipe.equalised).model.graph.node
        return [
            (node.name, *(n.name for n in nodes if n.op_type in ("Relu", "Clip") and n.input[0] == node.output[0]))
            for node in nodes
            if node.op_type in ("Conv", "Gemm", "MatMul")
        ]

    def probes(self, count: int) -> NDArray[np.uint8]:
        return self._calibration[: max(count, 1)]

    def noise(self, variant: Path, count: int) -> float:
        """The logits' root mean squared error over their standard deviation, on `count` calibration images."""
        self._pulse()
        expected = self._expected(count)
        difference = answers(variant, self.probes(count)).logits - expected
        return float(np.sqrt((difference.astype(np.float64) ** 2).mean()) / max(float(expected.std()), 1e-12))

    @functools.cache  # noqa: B019 one for each attempt to make a variant, gone with it
    def _expected(self, count: int) -> NDArray[np.float32]:
        return answers(self._file, self.probes(count)).logits

    @functools.cache  # noqa: B019
    def _graph(self, folded: bool, equalised: bool) -> Graph:
        model = onnx.ModelProto()
        if equalised:
            plain = self._graph(folded, False)
            model.CopyFrom(plain.model)
            equalise(model, self._seen(folded, False, False))
            drop_unused(model)
            return Graph(model, plain.entry)
        model.CopyFrom(self._original)
        entry = fold_normalisation(model) if folded else Entry(self._original.graph.input[0])
        return Graph(prepared(model), entry)

    @functools.cache  # noqa: B019
    def _seen(self, folded: bool, equalised: bool, histograms: bool) -> dict[str, Seen]:
        graph = self._graph(folded, equalised)
        return Observer(graph.model).observe(lambda: self._feeds(graph), histograms=histograms)

    @functools.cache  # noqa: B019
    def _rounding(self, folded: bool, equalised: bool) -> Rounding:
        graph = self._graph(folded, equalised)
        layers = convolutions(graph.model)
        return Rounding(graph.model, layers, read_patches(graph.model, layers, lambda: self._feeds(graph)))

    def _feeds(self, graph: Graph) -> Iterable[Feed]:
        for at in range(len(self._calibration)):
            self._pulse()
            yield graph.entry.feed(self._calibration[at : at + 1])


def _maker(nodes: Iterable[onnx.NodeProto], node: onnx.NodeProto) -> str | None:
    return next((n.name for n in nodes if node.input[0] in n.output), None)
