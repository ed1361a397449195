"""Two more outputs of a graph that classifies: what its last layer reads, and the last feature map before that.

They are found in the graph itself, so that every network has them for whose shape they mean something.
"""

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from models.graph_facts import BATCH, shape_of
from models.spec import EMBEDDING, FEATURE_MAP, LOGITS

CLASSIFIERS = frozenset({"Gemm", "MatMul", "Conv"})
GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool"})
MEANS = frozenset({"ReduceMean", "ReduceMax"})
# What may stand between a map and the row that is made of it, beside a global mean.
COLLAPSES = frozenset({"AveragePool", "MaxPool", "Conv", "Flatten", "Reshape"})
PER_CHANNEL, CHANNELS_LAST = (2, 3), (1, 2)

Shape = list[int | str]


def add_feature_outputs(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Makes the graph give `embedding` and `feature_map` as well, in place; their sizes without the batch.

    `embedding`, float32 `[batch, D]`, is what the layer with one output for each class reads; where that is a
    convolution on a map, it is the map's mean. `feature_map`, float32 `[batch, C, h, w]`, is the last one that the
    embedding is made of by pooling or flattening. A network without such a layer, or without such a map, as a
    transformer that classifies by a token, is left without.
    """
    graph = _Graph(model.graph)
    read = graph.read_by_classifier()
    if read is None:
        return {}
    shape = graph.shape(read)
    feature_map = None
    if len(shape) == 4 and _is_map(shape):
        feature_map, embedding = read, graph.mean_of(read)
    elif len(shape) == 4:
        feature_map, embedding = graph.map_before(read), graph.flattened(read)
    elif len(shape) == 2:
        feature_map, embedding = graph.map_before(read), read
    else:
        return {}
    named = {EMBEDDING: embedding} | ({FEATURE_MAP: feature_map} if feature_map else {})
    return {name: graph.give(tensor, name) for name, tensor in named.items()}


class _Graph:
    """Nodes in their topological order, and which tensors change with the image's pixels."""

    def __init__(self, proto: GraphProto) -> None:
        self._proto = proto
        self._nodes: list[NodeProto] = list(proto.node)
        self._producer = {name: node for node in self._nodes for name in node.output}
        self._shapes = {value.name: shape_of(value) for value in (*proto.value_info, *proto.output)}
        self._changing = {value.name for value in proto.input}
        for node in self._nodes:
            # How many images there are says nothing about them.
            if node.op_type != "Shape" and self._changing.intersection(node.input):
                self._changing.update(node.output)

    def shape(self, tensor: str) -> Shape:
        """Empty where it is not known."""
        return self._shapes.get(tensor, [])

    def read_by_classifier(self) -> str | None:
        """What the last layer with weights reads; None where more than one leads to the logits."""
        tensor = LOGITS
        while node := self._producer.get(tensor):
            inputs = self._changing_inputs(node)
            if len(inputs) != 1:
                return None
            (tensor,) = inputs
            if node.op_type in CLASSIFIERS:
                return tensor
        return None

    def map_before(self, tensor: str) -> str | None:
        """The last feature map `[batch, C, h, w]` that all of the tensor is made of, and nothing but that."""
        for found in self._passed_by_all(tensor):
            if not _is_map(self.shape(found)):
                continue
            readers = [node for node in self._nodes if found in node.input and self._leads_to(node, tensor)]
            if not self._is_convolved(found) or not all(self._collapses(node) for node in readers):
                return None
            if all(node.op_type in MEANS and self._axes(node) == CHANNELS_LAST for node in readers):
                return self._channels_first(found)
            return found
        return None

    def mean_of(self, feature_map: str) -> str:
        pooled = f"{feature_map}.mean"
        self._append("GlobalAveragePool", feature_map, pooled)
        return self.flattened(pooled, like=feature_map)

    def flattened(self, tensor: str, like: str | None = None) -> str:
        flat = f"{tensor}.flat"
        self._append("Flatten", tensor, flat, axis=1)
        self._shapes[flat] = self.shape(like or tensor)[:2]
        return flat

    def give(self, tensor: str, name: str) -> list[int]:
        """Make the tensor an output of that name; its sizes without the batch."""
        for node in self._proto.node:
            for names in (node.input, node.output):
                for place, found in enumerate(names):
                    if found == tensor:
                        names[place] = name
        for value in list(self._proto.value_info):
            if value.name in (tensor, name):
                self._proto.value_info.remove(value)
        shape = self.shape(tensor)
        self._proto.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return [size for size in shape[1:] if isinstance(size, int)]

    def _changing_inputs(self, node: NodeProto) -> set[str]:
        return self._changing.intersection(node.input)

    def _passed_by_all(self, tensor: str) -> Iterator[str]:
        """From the tensor back: those through which every way from the image to it leads."""
        needed = {tensor}
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed -= set(node.output)
                needed |= self._changing_inputs(node)
                if len(needed) == 1:
                    yield next(iter(needed))

    def _leads_to(self, node: NodeProto, tensor: str) -> bool:
        reached = set(node.output)
        for other in self._nodes:
            if reached.intersection(other.input):
                reached.update(other.output)
        return tensor in reached

    def _is_convolved(self, tensor: str) -> bool:
        """Of a network that flattens the image itself there is no feature map."""
        return any(node.op_type == "Conv" and self._leads_to(node, tensor) for node in self._nodes)

    def _collapses(self, node: NodeProto) -> bool:
        """Whether the node makes of a map one number or one row for each channel, or one row for all."""
        if node.op_type in MEANS:
            return self._axes(node) in (PER_CHANNEL, CHANNELS_LAST)
        return node.op_type in GLOBAL_POOLS or (
            node.op_type in COLLAPSES and len(self.shape(node.output[0])) in (2, 4)
        )

    def _axes(self, node: NodeProto) -> tuple[int, ...]:
        """Those that it reduces, counted from the front, of a tensor of rank four."""
        given: list[int] = [axis for a in node.attribute if a.name == "axes" for axis in a.ints]
        if len(node.input) > 1:
            given = [
                int(axis)
                for tensor in self._proto.initializer
                if tensor.name == node.input[1]
                for axis in numpy_helper.to_array(tensor).ravel()
            ]
        return tuple(sorted(axis % 4 for axis in given))

    def _channels_first(self, tensor: str) -> str:
        batch, height, width, channels = self.shape(tensor)
        moved = f"{tensor}.channels_first"
        self._append("Transpose", tensor, moved, perm=[0, 3, 1, 2])
        self._shapes[moved] = [batch, channels, height, width]
        return moved

    def _append(self, operator: str, read: str, written: str, **attributes: Any) -> None:
        self._proto.node.append(helper.make_node(operator, [read], [written], **attributes))


def _is_map(shape: Shape) -> bool:
    """Whether there is more than a row for each image."""
    return len(shape) == 4 and shape[0] == BATCH and sum(size != 1 for size in shape[1:]) > 1
