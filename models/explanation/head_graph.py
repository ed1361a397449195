"""The part of a graph behind its last feature map, as a graph of its own.

Serving has no onnx package, and an artifact holds its weights once, so the head is cut out of the model's file
when it is first needed: nodes and weights are copied as they are written there, between a new input and the
logits.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import ExplanationUnavailable
from models.protobuf import Data, Span, field, fields, messages, number_at
from models.spec import FEATURE_MAP, LOGITS

# Numbers of fields in onnx.proto.
MODEL_IR_VERSION, MODEL_GRAPH, MODEL_OPSET, MODEL_FUNCTIONS = 1, 7, 8, 25
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 4, 5
TENSOR_NAME, VALUE_NAME, VALUE_TYPE = 8, 1, 2
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_GRAPH, ATTRIBUTE_INTS, ATTRIBUTE_GRAPHS = 1, 3, 6, 8, 11
TYPE_TENSOR, TENSOR_ELEMENT, TENSOR_SHAPE, SHAPE_SIZE, SIZE_VALUE, SIZE_NAME = 1, 1, 2, 1, 1, 2
FLOAT = 1

CHANNELS_FIRST_OF_LAST = [0, 3, 1, 2]
ROWS = "rows"


@dataclass(frozen=True)
class HeadGraph:
    """An ONNX file's `content`. Its one input is float32 `[rows, C, h, w]`, or `[rows, h, w, C]` where
    `channels_last`; its output `logits`, float32 `[rows, classes]`."""

    content: bytes
    given: str
    channels_last: bool


@dataclass(frozen=True)
class _Node:
    span: Span
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def cut_head(model: Path, sizes: Sequence[int]) -> HeadGraph:
    """Of a graph that gives `feature_map` with those sizes, `[C, h, w]`, for each image.

    Raises ExplanationUnavailable where the logits are made of anything beside that map.
    """
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cut(data).head(sizes)
    except ValueError as exc:
        raise ExplanationUnavailable(f"{model.name} cannot be read: {exc}") from exc


class _Cut:
    def __init__(self, data: Data) -> None:
        self._data = data
        self._model = [(number, span) for number, _, span in fields(data, (0, len(data)))]
        graphs = [span for number, span in self._model if number == MODEL_GRAPH]
        if len(graphs) != 1:
            raise ValueError(f"it has {len(graphs)} graphs")
        self._graph = list(messages(data, graphs[0]))
        self._nodes = [self._node(span) for number, span in self._graph if number == GRAPH_NODE]

    def head(self, sizes: Sequence[int]) -> HeadGraph:
        given, channels_last = self._cut_at()
        kept, needed = self._behind(given)
        initializers = [
            span
            for number, span in self._graph
            if number == GRAPH_INITIALIZER and self._text(span, TENSOR_NAME) in needed
        ]
        made = {name for written, node in kept for name in node.outputs}
        known = made | {given, ""} | {self._text(span, TENSOR_NAME) for span in initializers}
        if missing := needed - known:
            raise ExplanationUnavailable(
                f"its classes do not come from its last feature map alone: {', '.join(sorted(missing))} too"
            )
        outputs = [
            self._copied(span)
            for number, span in self._graph
            if number == GRAPH_OUTPUT and self._text(span, VALUE_NAME) == LOGITS
        ]
        channels, height, width = sizes
        shape = (height, width, channels) if channels_last else (channels, height, width)
        graph = b"".join(
            (
                *(field(GRAPH_NODE, written) for written, _ in kept),
                field(GRAPH_NAME, "head"),
                *(field(GRAPH_INITIALIZER, self._copied(span)) for span in initializers),
                field(GRAPH_INPUT, _floats(given, shape)),
                *(field(GRAPH_OUTPUT, output) for output in outputs),
            )
        )
        about = b"".join(
            field(MODEL_IR_VERSION, number_at(self._data, span))
            if number == MODEL_IR_VERSION
            else field(number, self._copied(span))
            for number, span in self._model
            if number in (MODEL_IR_VERSION, MODEL_OPSET, MODEL_FUNCTIONS)
        )
        return HeadGraph(about + field(MODEL_GRAPH, graph), given, channels_last)

    def _cut_at(self) -> tuple[str, bool]:
        """The map's name, and whether that has its channels last: then `feature_map` is made of it beside the way
        to the logits."""
        maker = next((node for node in self._nodes if FEATURE_MAP in node.outputs), None)
        if maker is None:
            raise ExplanationUnavailable("its graph gives no feature map")
        is_read = any(FEATURE_MAP in node.inputs for node in self._nodes)
        if not is_read and maker.operator == "Transpose" and self._order(maker) == CHANNELS_FIRST_OF_LAST:
            return maker.inputs[0], True
        return FEATURE_MAP, False

    def _behind(self, given: str) -> tuple[list[tuple[bytes, _Node]], set[str]]:
        """The nodes between the map and the logits in their order, as they are to be written; all they read."""
        needed, kept = {LOGITS}, list[tuple[bytes, _Node]]()
        for node in reversed(self._nodes):
            if not needed.intersection(node.outputs) or given in node.outputs:
                continue
            if self._has_graphs(node):
                raise ExplanationUnavailable(f"its head has the operator {node.operator}, which has its own graph")
            if node.operator == "Shape" and self._is_batch(node):
                # How many images there are is how many maps there are.
                node = _Node(node.span, node.operator, (given,), node.outputs)
            kept.append((self._written(node), node))
            needed.update(node.inputs)
        return kept[::-1], needed

    def _node(self, span: Span) -> _Node:
        inputs, outputs, operator = [], [], ""
        for number, place in messages(self._data, span):
            if number == NODE_INPUT:
                inputs.append(self._decoded(place))
            elif number == NODE_OUTPUT:
                outputs.append(self._decoded(place))
            elif number == NODE_OPERATOR:
                operator = self._decoded(place)
        return _Node(span, operator, tuple(inputs), tuple(outputs))

    def _written(self, node: _Node) -> bytes:
        rest = (
            field(number, self._copied(place))
            for number, place in messages(self._data, node.span)
            if number != NODE_INPUT
        )
        return b"".join((*(field(NODE_INPUT, name) for name in node.inputs), *rest))

    def _attributes(self, node: _Node) -> dict[str, list[tuple[int, Span]]]:
        return {
            self._text(place, ATTRIBUTE_NAME): [(n, span) for n, _, span in fields(self._data, place)]
            for number, place in messages(self._data, node.span)
            if number == NODE_ATTRIBUTE
        }

    def _has_graphs(self, node: _Node) -> bool:
        parts = [number for found in self._attributes(node).values() for number, _ in found]
        return ATTRIBUTE_GRAPH in parts or ATTRIBUTE_GRAPHS in parts

    def _is_batch(self, node: _Node) -> bool:
        """Whether it tells the first size only."""
        values = {
            name: number_at(self._data, span)
            for name, found in self._attributes(node).items()
            for number, span in found
            if number == ATTRIBUTE_INT
        }
        return values.get("start", 0) == 0 and values.get("end") == 1

    def _order(self, node: _Node) -> list[int]:
        order: list[int] = []
        for number, span in self._attributes(node).get("perm", ()):
            if number == ATTRIBUTE_INTS:
                order.append(number_at(self._data, span))
        return order

    def _text(self, message: Span, field_number: int) -> str:
        found = (place for number, place in messages(self._data, message) if number == field_number)
        place = next(found, None)
        return "" if place is None else self._decoded(place)

    def _decoded(self, span: Span) -> str:
        return self._copied(span).decode()

    def _copied(self, span: Span) -> bytes:
        return self._data[span[0] : span[1]]


def _floats(name: str, sizes: Sequence[int]) -> bytes:
    """A ValueInfoProto: float32 `[rows, *sizes]`."""
    each = (field(SIZE_NAME, ROWS), *(field(SIZE_VALUE, size) for size in sizes))
    shape = b"".join(field(SHAPE_SIZE, size) for size in each)
    tensor = field(TENSOR_ELEMENT, FLOAT) + field(TENSOR_SHAPE, shape)
    return field(VALUE_NAME, name) + field(VALUE_TYPE, field(TYPE_TENSOR, tensor))
