"""Whether an ONNX file is a graph as the exports write them: it ends, and all of it lies in its own file.

Read from the protocol buffer itself, without its weights: serving has no onnx package, and ONNX Runtime would load
a graph that loops for ever, and name folders of this machine where weights are said to lie elsewhere.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from models.errors import ArtifactCorrupt
from models.protobuf import VARINT, Span, fields, messages

# These run a graph of their own as often as a value says, which a file may set to for ever.
LOOPS = frozenset({b"Loop", b"Scan", b"SequenceMap"})
DEEPEST = 50

# Numbers of fields in onnx.proto.
MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 5, 15
FUNCTION_NODE = 7
NODE_OPERATOR, NODE_ATTRIBUTE = 4, 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
SPARSE_PARTS = (1, 2)
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14


def check_graph(path: Path) -> None:
    """Raises ArtifactCorrupt for a graph with loops, with weights in other files, or that is none."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data, path.name).model()
    except (ValueError, OSError) as exc:
        # An empty file cannot be mapped.
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise ArtifactCorrupt(f"{path.name} is no ONNX file: {reason}") from exc


class _Walk:
    """Through the messages that matter; a message is where it begins and ends in the file."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self._data = data
        self._name = name

    def model(self) -> None:
        for number, span in self._messages((0, len(self._data))):
            if number == MODEL_GRAPH:
                self._graph(span, 0)
            elif number == MODEL_FUNCTIONS:
                for inner, node in self._messages(span):
                    if inner == FUNCTION_NODE:
                        self._node(node, 0)

    def _graph(self, graph: Span, depth: int) -> None:
        if depth > DEEPEST:
            raise ValueError(f"its graphs are nested more than {DEEPEST} deep")
        for number, span in self._messages(graph):
            if number == GRAPH_NODE:
                self._node(span, depth)
            elif number == GRAPH_INITIALIZER:
                self._tensor(span)
            elif number == GRAPH_SPARSE:
                self._sparse(span)

    def _node(self, node: Span, depth: int) -> None:
        for number, (begin, end) in self._messages(node):
            if number == NODE_OPERATOR and self._data[begin:end] in LOOPS:
                operator = self._data[begin:end].decode()
                raise ArtifactCorrupt(f"{self._name} has the operator {operator}, which may run for ever")
            if number == NODE_ATTRIBUTE:
                self._attribute((begin, end), depth)

    def _attribute(self, attribute: Span, depth: int) -> None:
        for number, span in self._messages(attribute):
            if number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                self._graph(span, depth + 1)
            elif number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                self._tensor(span)

    def _sparse(self, sparse: Span) -> None:
        for number, span in self._messages(sparse):
            if number in SPARSE_PARTS:
                self._tensor(span)

    def _tensor(self, tensor: Span) -> None:
        for number, kind, span in fields(self._data, tensor):
            is_location = number == TENSOR_LOCATION and kind == VARINT and self._data[span[0] : span[1]] != b"\0"
            if number == TENSOR_EXTERNAL or is_location:
                raise ArtifactCorrupt(f"{self._name} has weights in another file; all of it must be in one")

    def _messages(self, message: Span) -> Iterator[tuple[int, Span]]:
        return messages(self._data, message)
