"""What the activations of a network are like on calibration images: ranges, means and how they are spread.

ONNX Runtime's own calibrators keep every value that they have seen, and give one kind of range for each run. Here
memory is that of one image, and one pass gives what every recipe asks for.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto

from models.variants.report import Calibrator

Feed = Mapping[str, NDArray[Any]]
Range = tuple[float, float]

BINS = 2048
# How much of the mass a percentile range holds.
KEPT = 0.9999
# Shares of the whole range among which the one of the least squared error is looked for.
SHARES = np.linspace(1.0, 0.3, 36)
LEVELS = 255


@dataclass
class Seen:
    """One activation, by channel where it has some (axis 1): float32 `[channels]`, else `[1]`."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    count: int
    histogram: NDArray[np.int64] | None = None

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.total / max(self.count, 1)

    @property
    def square(self) -> NDArray[np.float64]:
        """The mean of the squares."""
        return self.squares / max(self.count, 1)

    @property
    def whole(self) -> Range:
        """Of all channels; zero is always within, since padding must be exact."""
        return min(0.0, float(self.low.min())), max(0.0, float(self.high.max()))

    def range_by(self, calibrator: Calibrator) -> Range:
        if calibrator == "minmax" or self.histogram is None:
            return self.whole
        by = _percentile if calibrator == "percentile" else _least_error
        return by(self, self.histogram)


class Observer:
    """Runs a float32 graph with all its activations as outputs, one image at a time."""

    def __init__(self, model: onnx.ModelProto, threads: int = 0) -> None:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        del exposed.graph.output[:]
        exposed.graph.output.extend(activations(model))
        self.names = [value.name for value in exposed.graph.output]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def observe(self, feeds: Callable[[], Iterable[Feed]], *, histograms: bool) -> dict[str, Seen]:
        """Ranges and means of all activations; with `histograms`, a second run over the same images for those."""
        seen: dict[str, Seen] = {}
        for name, value in self._values(feeds):
            _extend(seen, name, value)
        if histograms:
            for name, value in self._values(feeds):
                if name in seen:
                    _count(seen[name], value)
        return seen

    def _values(self, feeds: Callable[[], Iterable[Feed]]) -> Iterable[tuple[str, NDArray[np.float32]]]:
        for feed in feeds():
            yield from zip(self.names, self._session.run(self.names, dict(feed)), strict=True)
            yield from feed.items()


def activations(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Everything that a node of the graph gives as floats, the graph's outputs included."""
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    given = [name for node in model.graph.node for name in node.output if name in known]
    return [known[n] for n in given if known[n].type.tensor_type.elem_type == TensorProto.FLOAT]


def _channels(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `[channels, values]`; what has no channels counts as one."""
    if value.ndim < 2 or not value.size:
        return value.reshape(1, -1)
    return np.moveaxis(value, 1, 0).reshape(value.shape[1], -1)


def _extend(seen: dict[str, Seen], name: str, value: NDArray[Any]) -> None:
    if not value.size or value.dtype != np.float32:
        return
    rows = _channels(value)
    low, high, total = rows.min(axis=1), rows.max(axis=1), rows.sum(axis=1, dtype=np.float64)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    known = seen.get(name)
    if known is None:
        seen[name] = Seen(low, high, total, squares, rows.shape[1])
        return
    known.low, known.high = np.minimum(known.low, low), np.maximum(known.high, high)
    known.total, known.squares = known.total + total, known.squares + squares
    known.count += rows.shape[1]


def _count(seen: Seen, value: NDArray[Any]) -> None:
    found, _ = np.histogram(value, BINS, range=_edges(seen))
    seen.histogram = found if seen.histogram is None else seen.histogram + found


def _edges(seen: Seen) -> Range:
    low, high = seen.whole
    return (low, high) if high > low else (low, low + 1e-6)


def _percentile(seen: Seen, histogram: NDArray[np.int64]) -> Range:
    edges = np.linspace(*_edges(seen), BINS + 1)
    mass = np.cumsum(histogram) / max(int(histogram.sum()), 1)
    low = edges[int(np.searchsorted(mass, (1 - KEPT) / 2))]
    high = edges[min(int(np.searchsorted(mass, 1 - (1 - KEPT) / 2)) + 1, BINS)]
    return min(0.0, float(low)), max(0.0, float(high))


def _least_error(seen: Seen, histogram: NDArray[np.int64]) -> Range:
    """The part of the range that leaves the least squared error of 8 bits: rounding within, cutting without."""
    low, high = _edges(seen)
    edges = np.linspace(low, high, BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    best, least = (low, high), np.inf
    for share in SHARES:
        scale = (high - low) * share / LEVELS
        zero_point = np.rint(-low * share / scale)
        levels = np.clip(np.rint(centres / scale) + zero_point, 0, LEVELS)
        error = float((histogram * (centres - (levels - zero_point) * scale) ** 2).sum())
        if error < least:
            best, least = (low * share, high * share), error
    return best
