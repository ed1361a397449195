"""Weights of an INT8 graph rounded by what they do on calibration images, and not each to its nearest level.

GPTQ (Frantar et al. 2022): one weight after the other is rounded, and those that are still to come take over the
error as far as the inputs that they weigh correlate. What stays of the mean goes into the bias.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from threadpoolctl import threadpool_limits

from models.variants.patches import Convolution, Moments

HIGHEST = 127
# A share of the mean variance is added to each variance, so that what was never seen stays bounded.
DAMPING = 0.01
# Columns of which the errors are carried on to the others at once.
BLOCK = 64


class Rounding:
    """For the layers of one float32 graph; what was rounded once is not rounded again, for the same scales."""

    def __init__(
        self, graph: onnx.ModelProto, layers: Iterable[Convolution], moments: Mapping[str, Moments]
    ) -> None:
        weights = {tensor.name: tensor for tensor in graph.graph.initializer}
        self._layers = [(layer, moments[layer.node]) for layer in layers if layer.node in moments]
        self._weights = {layer.node: numpy_helper.to_array(weights[layer.weight]) for layer, _ in self._layers}
        self._known: dict[tuple[str, bytes], tuple[NDArray[np.int8], NDArray[np.float64]]] = {}

    def apply(self, made: onnx.ModelProto) -> None:
        """Round the weights of an INT8 graph of it anew, and correct its biases."""
        constants = {tensor.name: tensor for tensor in made.graph.initializer}
        producers = {name: node for node in made.graph.node for name in node.output}
        nodes = {node.name: node for node in made.graph.node}
        for layer, seen in self._layers:
            node = nodes.get(layer.node)
            if node is None:
                continue
            source, entry = producers.get(node.input[1]), producers.get(node.input[0])
            if source is None or entry is None or {source.op_type, entry.op_type} != {"DequantizeLinear"}:
                continue
            try:
                rounded, lost = self._rounded(layer, seen, numpy_helper.to_array(constants[source.input[1]]))
            except np.linalg.LinAlgError:
                # Of inputs that say too little of it the weights stay at their nearest levels.
                continue
            constants[source.input[0]].CopyFrom(numpy_helper.from_array(rounded, source.input[0]))
            _correct_bias(node, producers, constants, lost)

    def _rounded(
        self, layer: Convolution, seen: Moments, scale: NDArray[np.float32]
    ) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """The weights in levels, and what each output lacks on the mean patch."""
        key = layer.node, scale.tobytes()
        if key not in self._known:
            weight = self._weights[layer.node].astype(np.float64)
            rows = weight.reshape(layer.groups, -1, layer.size)
            scales = np.broadcast_to(scale.astype(np.float64).reshape(-1, 1), (len(weight), 1))
            scales = scales.reshape(layer.groups, -1, 1)
            with threadpool_limits(1):
                rounded = round_rows(rows / scales, seen.covariance)
            lost = ((rows - rounded * scales) @ seen.mean[:, :, None]).reshape(-1)
            self._known[key] = rounded.astype(np.int8).reshape(weight.shape), lost
        return self._known[key]


def round_rows(rows: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """`rows` `[groups, outputs, size]` in levels, to whole ones; `covariance` is `[groups, size, size]`."""
    groups, _, size = rows.shape
    variances = np.einsum("gii->gi", covariance)
    damped = covariance.copy()
    damped[:, np.arange(size), np.arange(size)] += (DAMPING * variances.mean(axis=1) + 1e-12)[:, None]
    # Those of the largest variance first: they leave their errors to the others.
    order = np.argsort(-variances, axis=1)
    at = np.arange(groups)[:, None]
    left = np.take_along_axis(rows, order[:, None, :], axis=2)
    inverse = np.linalg.inv(damped[at[:, :, None], order[:, :, None], order[:, None, :]])
    factor = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    rounded = np.empty_like(left)
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        errors = np.empty((*left.shape[:2], end - start))
        for column in range(start, end):
            rounded[:, :, column] = np.clip(np.rint(left[:, :, column]), -HIGHEST, HIGHEST)
            error = (left[:, :, column] - rounded[:, :, column]) / factor[:, column, column][:, None]
            left[:, :, column:end] -= error[:, :, None] * factor[:, column, None, column:end]
            errors[:, :, column - start] = error
        left[:, :, end:] -= errors @ np.ascontiguousarray(factor[:, start:end, end:])
    result = np.empty_like(rounded)
    np.put_along_axis(result, np.broadcast_to(order[:, None, :], rounded.shape), rounded, axis=2)
    return result


def _correct_bias(
    node: onnx.NodeProto,
    producers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
    lost: NDArray[np.float64],
) -> None:
    """Add what the rounded weights lack on the mean patch; a bias is a whole number of input x weight levels."""
    source = producers.get(node.input[2]) if len(node.input) > 2 else None
    if source is None or source.op_type != "DequantizeLinear":
        return
    scale = numpy_helper.to_array(constants[source.input[1]]).astype(np.float64)
    bias = constants[source.input[0]]
    values = numpy_helper.to_array(bias).astype(np.float64) + np.rint(lost / scale)
    limits = np.iinfo(np.int32)
    bias.CopyFrom(
        numpy_helper.from_array(np.clip(values, limits.min, limits.max).astype(np.int32), source.input[0])
    )
