"""A user's ONNX file, read and judged before anything runs it. Called in a process that may fail: see `jail`."""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from models.devices import RUNTIME_ERRORS, open_bytes
from models.errors import ArtifactCorrupt, ModelFileRefused
from models.graph import check_graph
from models.graph_facts import shape_of
from models.uploaded.view import LARGEST_SIDE
from models.validation import shortened

Layout = Literal["nchw", "nhwc", "pixels"]
Values = Literal["logits", "probabilities"]

OLDEST_OPSET = 7
# The first whose weights need not be inputs as well; a newer one than the exports' stays as it is.
IR_VERSION = 10
# The largest networks that are known have a tenth of it.
MOST_NODES = 100_000
MOST_NAMED = 5
STANDARD = ("", "ai.onnx")
SOFTMAX, LOG_SOFTMAX, SIGMOID, CAST = "Softmax", "LogSoftmax", "Sigmoid", "Cast"
# What only hands a row on.
PASSING = frozenset({"Identity", CAST})
# What the exports of Fovea call their outputs.
LOGITS = "logits"

EXPORT = (
    "torch.onnx.export(network.eval(), (torch.zeros(2, 3, 224, 224),), 'model.onnx', dynamo=True, "
    "external_data=False, dynamic_shapes=({0: torch.export.Dim('batch')},))"
)


@dataclass(frozen=True)
class GivenInput:
    """The image that the graph takes.

    `layout` is `nchw` or `nhwc` of float32, or `pixels`: uint8 `[batch, height, width, 3]`. `batch`, `height` and
    `width` are None where they are free.
    """

    name: str
    layout: Layout
    channels: int
    batch: int | None
    height: int | None
    width: int | None


@dataclass(frozen=True)
class GivenOutput:
    """The output that classifies. `logits` is the tensor before a softmax that ends the graph, if one does.

    `values` is what the output gives, as far as the graph itself says so; `told_by` is how that is known.
    """

    name: str
    logits: str | None
    values: Values | None
    told_by: str


@dataclass(frozen=True)
class GivenGraph:
    model: ModelProto
    opset: int
    input: GivenInput
    output: GivenOutput
    operators: Counter[str]
    parameters: int

    @property
    def metadata(self) -> dict[str, str]:
        return {entry.key: entry.value for entry in self.model.metadata_props}


def read_graph(path: Path, output: str | None = None, values: str | None = None) -> GivenGraph:
    """The graph of the file, whose one input is an image and whose `output` classifies.

    Raises ModelFileRefused with what the file has, what was expected, and how to mend it.
    """
    try:
        check_graph(path)
        model = onnx.load(path, load_external_data=False)
    except ArtifactCorrupt as exc:
        raise ModelFileRefused(_worded(str(exc))) from exc
    except (DecodeError, ValueError) as exc:
        raise ModelFileRefused(
            f"{path.name} is no ONNX file, or is cut short or damaged; export or send it again"
        ) from exc
    if not model.graph.node:
        raise ModelFileRefused(f"{path.name} has a graph without a node; expected a network that classifies")
    opset = _opset_of(model)
    operators = _check_nodes(model, opset)
    _check_tensors(model.graph)
    given = _input_of(model.graph)
    chosen = _output_of(model.graph, output, values)
    parameters = sum(_count(tensor.dims) for tensor in model.graph.initializer)
    return GivenGraph(model, opset, given, chosen, operators, parameters)


@functools.cache
def newest_opset() -> int:
    """The newest that the ONNX Runtime here runs, found out by trying; it does not say so itself."""
    newest = onnx.defs.onnx_opset_version()
    for opset in range(newest, OLDEST_OPSET, -1):
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b")]
        graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "trial", ends[:1], ends[1:])
        tried = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
        try:
            open_bytes(tried.SerializeToString())
        except RUNTIME_ERRORS:
            continue
        return opset
    return OLDEST_OPSET


def nodes_of(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those of graphs within nodes as well."""
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from nodes_of(inner)


def graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _worded(said: str) -> str:
    """What `check_graph` says, with how to mend it."""
    if "another file" in said:
        return f"{said}: save it with onnx.save(onnx.load('model.onnx'), 'one.onnx'), and send one.onnx"
    if "may run for ever" in said:
        return f"{said}; expected a graph without loops, as exports of networks that classify images are"
    return f"{said}; it is cut short, damaged or of another kind: export or send it again"


def _opset_of(model: ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    newest = newest_opset()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        found = ", ".join(map(str, versions)) or "none"
        raise ModelFileRefused(
            f"the file is of opset {found}; expected {OLDEST_OPSET} to {newest}, which the ONNX Runtime here "
            "runs. "
            f"Export it with opset_version={min(20, newest)}, or convert it with onnx.version_converter"
        )
    return int(versions[0])


def _check_nodes(model: ModelProto, opset: int) -> Counter[str]:
    """How often each operator is there. Raises ModelFileRefused for those that ONNX itself does not have."""
    if model.functions:
        raise ModelFileRefused(
            f"the file has {len(model.functions)} functions of its own; expected plain operators: inline them "
            "with "
            "onnx.inliner.inline_local_functions"
        )
    operators: Counter[str] = Counter()
    foreign: list[str] = []
    for number, node in enumerate(nodes_of(model.graph)):
        if number >= MOST_NODES:
            raise ModelFileRefused(f"the graph has more than {MOST_NODES:,} nodes")
        name = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
        operators[shortened(name)] += 1
        if node.domain not in STANDARD or not onnx.defs.has(node.op_type, opset, ""):
            foreign.append(shortened(_plain(name)))
    if foreign:
        named = list(dict.fromkeys(foreign))
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        raise ModelFileRefused(
            f"the graph uses {', '.join(named[:MOST_NAMED])}{more}, which ONNX of opset {opset} does not have; "
            "expected ONNX's own operators alone: export the network without custom operators, and without the "
            "optimisations of a runtime"
        )
    return operators


def _check_tensors(graph: GraphProto) -> None:
    """A tensor that claims more than it brings is refused by name."""
    for tensor in graph.initializer:
        if tensor.raw_data and tensor.data_type not in (TensorProto.UNDEFINED, TensorProto.STRING):
            try:
                each = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            except (KeyError, TypeError, ValueError):
                continue
            # Numbers of less than a byte lie packed.
            if each > 1 and len(tensor.raw_data) != each * _count(tensor.dims):
                raise ModelFileRefused(
                    f"the tensor {shortened(tensor.name)!r} says that it is {list(tensor.dims)} and brings "
                    f"{len(tensor.raw_data):,} bytes instead of {each * _count(tensor.dims):,}; the file is "
                    "damaged"
                )


def _count(dims: Sequence[int]) -> int:
    total = 1
    for size in dims:
        total *= max(0, size)
    return total


def inputs_of(graph: GraphProto) -> list[ValueInfoProto]:
    """Those that are fed: files of old made every weight an input as well."""
    weights = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in weights]


def _input_of(graph: GraphProto) -> GivenInput:
    inputs = inputs_of(graph)
    if len(inputs) != 1:
        listed = "; ".join(_described(value) for value in inputs[:MOST_NAMED]) or "none"
        raise ModelFileRefused(
            f"the graph has {len(inputs)} inputs ({listed}); expected one, an image: make the others constants of "
            "the network before it is exported"
        )
    (value,) = inputs
    expected = (
        "expected float32 [batch, 3, height, width], [batch, height, width, 3] or the same with 1 channel, or "
        "uint8 "
        "[batch, height, width, 3]"
    )
    if value.type.WhichOneof("value") != "tensor_type" or not value.type.tensor_type.HasField("shape"):
        raise ModelFileRefused(f"the input {_described(value)} does not say that it is an image; {expected}")
    kind = value.type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.UINT8):
        half = ": export it before it is converted to float16, or convert it with keep_io_types=True"
        raise ModelFileRefused(
            f"the input is {_described(value)}; {expected}{half if kind == TensorProto.FLOAT16 else ''}"
        )
    shape = [size if isinstance(size, int) and size > 0 else None for size in shape_of(value)]
    if len(shape) != 4:
        raise ModelFileRefused(f"the input is {_described(value)}, of rank {len(shape)}; {expected}")
    batch, *rest = shape
    if kind == TensorProto.UINT8:
        if rest[2] != 3:
            raise ModelFileRefused(f"the input is {_described(value)}; {expected}")
        layout: Layout = "pixels"
        channels, sides = 3, rest[:2]
    elif rest[0] in (1, 3) and (rest[2] not in (1, 3) or rest[1] not in (1, 3)):
        layout, channels, sides = "nchw", rest[0], rest[1:]
    elif rest[2] in (1, 3):
        layout, channels, sides = "nhwc", rest[2], rest[:2]
    else:
        raise ModelFileRefused(f"the input is {_described(value)}, which has neither 3 channels nor 1; {expected}")
    if any(side is not None and side > LARGEST_SIDE for side in sides):
        raise ModelFileRefused(
            f"the input is {_described(value)}; expected sides of at most {LARGEST_SIDE} pixels"
        )
    return GivenInput(value.name, layout, channels, batch, *sides)


def _output_of(graph: GraphProto, wanted: str | None, said: str | None) -> GivenOutput:
    outputs = {value.name: value for value in graph.output}
    listed = "; ".join(_described(value) for value in list(outputs.values())[:MOST_NAMED]) or "none"
    if wanted is not None and wanted not in outputs:
        raise ModelFileRefused(f"output: there is none called {shortened(wanted)!r}; the file has {listed}")
    rows = [name for name, value in outputs.items() if len(shape_of(value)) == 2]
    unknown = [name for name, value in outputs.items() if not value.type.tensor_type.HasField("shape")]
    name = wanted or (LOGITS if LOGITS in rows else None)
    if name is None:
        candidates = rows or unknown
        if len(candidates) != 1:
            few = "none of them" if not candidates else f"{len(candidates)} of them"
            raise ModelFileRefused(
                f"the graph gives {listed}; expected one output [batch, classes], and {few} may be it"
                + ('; name it: "output": "NAME"' if candidates else ": let the network end in a row of classes")
            )
        (name,) = candidates
    value = outputs[name]
    if value.type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.UNDEFINED):
        raise ModelFileRefused(f"the output is {_described(value)}; expected float32 [batch, classes]")
    if name not in unknown and name not in rows:
        raise ModelFileRefused(
            f"the output is {_described(value)}; expected [batch, classes]: flatten it in the network"
        )
    return _ending(graph, name, said)


def _ending(graph: GraphProto, name: str, said: str | None) -> GivenOutput:
    """Whether a softmax ends the graph, or what else it is known by."""
    producer = {written: node for node in graph.node for written in node.output}
    node = producer.get(name)
    is_cast = False
    while node is not None and node.op_type in PASSING:
        is_cast = is_cast or node.op_type == CAST
        node = producer.get(node.input[0])
    if node is None:
        raise ModelFileRefused(f"no node makes the output {shortened(name)!r}; expected a network that classifies")
    if node.op_type == SOFTMAX:
        if said == LOGITS:
            raise ModelFileRefused(
                "values: got 'logits', but the graph ends in Softmax, so its output are probabilities; leave it "
                "out"
            )
        # Of a network in float16 its logits are no float32.
        logits = None if is_cast else node.input[0]
        return GivenOutput(name, logits, "probabilities", "the Softmax that ends the graph")
    if said in ("logits", "probabilities"):
        return GivenOutput(name, None, "logits" if said == LOGITS else "probabilities", "the request")
    if node.op_type == LOG_SOFTMAX:
        return GivenOutput(name, None, "logits", "the LogSoftmax that ends the graph")
    if node.op_type == SIGMOID:
        raise ModelFileRefused(
            "the graph ends in Sigmoid, which says yes or no to each class for itself; expected one class of "
            "several "
            "for each image: logits, or probabilities that add up to 1"
        )
    return GivenOutput(name, None, None, "its values")


def _plain(text: str) -> str:
    """What a file calls something, in characters that can be read."""
    return ascii(text)[1:-1]


def _described(value: ValueInfoProto) -> str:
    name = shortened(value.name)
    if value.type.WhichOneof("value") != "tensor_type":
        return f"{name!r} (no tensor)"
    tensor = value.type.tensor_type
    kind = TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type in _KINDS else "unknown"
    kind = {"float": "float32", "double": "float64"}.get(kind, kind)
    if not tensor.HasField("shape"):
        return f"{name!r} {kind} of unknown shape"
    sizes = ", ".join(shortened(_plain(str(size))) if size else "?" for size in shape_of(value)[:8])
    return f"{name!r} {kind} [{sizes}]"


_KINDS = frozenset(TensorProto.DataType.values())
