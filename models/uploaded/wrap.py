"""A user's graph as the artifact's: prepared pixels in, logits and probabilities out, for any batch.

In front of it stands what `models.normalise` does in training, behind it a softmax. The network itself is as it
was, but for the sizes that say how many images there are.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.feature_outputs import add_feature_outputs
from models.graph_facts import BATCH, describe, shape_of
from models.spec import EMBEDDING, FEATURE_MAP, INPUT, LOGITS, LUMINANCE, OUTPUTS, PROBABILITIES, Preprocessing
from models.uploaded.graph import IR_VERSION, GivenGraph, graphs_of, inputs_of

RESERVED = (INPUT, LOGITS, PROBABILITIES, EMBEDDING, FEATURE_MAP)
OWN = "fovea."
# Smaller than any probability that float32 can tell from nothing, so that its logarithm is finite.
LEAST = 1e-30


@dataclass(frozen=True)
class Way:
    """`copies`: how a fixed batch is made free; `features`: what `models.feature_outputs` finds is given, too."""

    copies: bool
    features: bool


# In this order, until one passes the gate.
WAYS = (Way(copies=True, features=True), Way(copies=False, features=True), Way(copies=False, features=False))


def wrapped(
    given: GivenGraph,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    *,
    probabilities: bool,
    temperature: float = 1.0,
    way: Way,
) -> tuple[ModelProto, dict[str, list[int]]]:
    """The artifact's graph, and its outputs with their sizes for one image.

    `probabilities`: the output that classifies gives those, and no softmax of the file's own is before them.
    """
    model = ModelProto(ir_version=max(given.model.ir_version, IR_VERSION))
    model.opset_import.append(helper.make_opsetid("", given.opset))
    model.graph.CopyFrom(given.model.graph)
    graph = model.graph
    graph.name = "fovea"
    _forget_notes(graph)
    image, answer = given.input.name, given.output.logits or given.output.name
    # The sizes of a file's outputs are known where those of what is between are not.
    graph.value_info.extend(graph.output)
    del graph.output[:]
    _keep_what_leads_to(graph, answer)
    weights = {value.name for value in graph.input} - {value.name for value in inputs_of(given.model.graph)}
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
    names = _free_names(graph, (*RESERVED, *{n for n in _names(graph) if n.startswith(OWN)}))
    _rename(graph, names)
    image, answer = names.get(image, image), names.get(answer, answer)
    _free_batch(graph, image, given.input.batch, copies=way.copies)
    _put_before(graph, image, given, preprocessing)
    _put_behind(graph, answer, len(labels), probabilities=probabilities, temperature=temperature)
    _forget_unused(graph)
    outputs = {name: [len(labels)] for name in OUTPUTS}
    model = _with_shapes(model)
    if way.features:
        with_features = copy.deepcopy(model)
        found = add_feature_outputs(with_features)
        if all(_is_known(value) for value in with_features.graph.output):
            model, outputs = with_features, outputs | found
    describe(model, labels=labels, preprocessing=preprocessing, temperature=temperature, opset=given.opset)
    return model, outputs


def _forget_notes(graph: GraphProto) -> None:
    """Source lines and folders of the machine that exported are nobody else's business."""
    graph.doc_string = ""
    graph.ClearField("metadata_props")
    for part in (*graph.node, *graph.input, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
        tensor.ClearField("metadata_props")
    for node in graph.node:
        for inner in graphs_of(node):
            _forget_notes(inner)


def _read_by(node: NodeProto) -> set[str]:
    """What the node reads, the graphs within it as well."""
    read = set(node.input)
    for inner in graphs_of(node):
        read.update(value.name for value in inner.output)
        for each in inner.node:
            read |= _read_by(each)
    return read


def _keep_what_leads_to(graph: GraphProto, tensor: str) -> None:
    """Drops what only other outputs need, as classifiers that help in training."""
    needed = {tensor}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed |= _read_by(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _forget_unused(graph: GraphProto) -> None:
    """Tensors that nothing reads any more."""
    read = {name for node in graph.node for name in _read_by(node)}
    used = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(used)


def _names(graph: GraphProto) -> set[str]:
    names = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    names |= {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    for node in graph.node:
        names.update((*node.input, *node.output))
        for inner in graphs_of(node):
            names |= _names(inner)
    return names


def _free_names(graph: GraphProto, reserved: Sequence[str]) -> dict[str, str]:
    """Other names for tensors that are called as the artifact's own are."""
    taken = _names(graph)
    free: dict[str, str] = {}
    for name in taken.intersection(reserved):
        other = f"given.{name}"
        while other in taken:
            other = f"given.{other}"
        taken.add(other)
        free[name] = other
    return free


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            for place, name in enumerate(tensors):
                tensors[place] = names.get(name, name)
        for inner in graphs_of(node):
            _rename(inner, names)


def _free_batch(graph: GraphProto, image: str, fixed: int | None, *, copies: bool) -> None:
    """Any number of images instead of a fixed one; the parity gate says whether that is the same network.

    Sizes that the exporter has noted for the fixed one are forgotten, and a constant shape that begins with the
    number of images takes it from the tensor instead: its own first size where it `copies`, else what is left.
    """
    (value,) = (value for value in graph.input if value.name == image)
    first = value.type.tensor_type.shape.dim[0]
    called = first.dim_param
    first.Clear()
    first.dim_param = BATCH
    if fixed is None and called:
        for noted in graph.value_info:
            for size in noted.type.tensor_type.shape.dim:
                if size.dim_param == called:
                    size.dim_param = BATCH
        return
    del graph.value_info[:]
    constants = _constants(graph)
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or len(node.input) != 2 or node.input[1] not in constants:
            continue
        sizes = [int(size) for size in numpy_helper.to_array(constants[node.input[1]]).ravel()]
        if len(sizes) < 2 or sizes[0] != fixed or 0 in sizes:
            continue
        for attribute in [attribute for attribute in node.attribute if attribute.name == "allowzero"]:
            node.attribute.remove(attribute)
        free = f"{OWN}shape.{number}"
        shape = np.array([0 if copies or -1 in sizes else -1, *sizes[1:]], np.int64)
        graph.initializer.append(numpy_helper.from_array(shape, free))
        node.input[1] = free


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    made = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in graph.initializer}


def _put_before(graph: GraphProto, image: str, given: GivenGraph, preprocessing: Preprocessing) -> None:
    """From uint8 `[batch, height, width, 3]` to what the file takes, as `models.normalise` does it."""
    (value,) = (value for value in graph.input if value.name == image)
    graph.input.remove(value)
    shape: list[str | int | None] = [BATCH, preprocessing.height, preprocessing.width, 3]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
    if given.input.layout == "pixels":
        _rename(graph, {image: INPUT})
        return
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    scale, shift = 1 / (255 * std), -mean / std
    first = given.input.layout == "nchw"

    def constant(name: str, array: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), f"{OWN}{name}"))
        return f"{OWN}{name}"

    floats = f"{OWN}floats"
    before: list[NodeProto] = []
    if first or given.input.channels == 1:
        before.append(helper.make_node("Transpose", [INPUT], [f"{OWN}turned"], perm=[0, 3, 1, 2]))
    before.append(
        helper.make_node("Cast", [before[-1].output[0] if before else INPUT], [floats], to=TensorProto.FLOAT)
    )
    if given.input.channels == 1:
        grey = np.array(LUMINANCE)
        weight = constant("scale", (grey * scale).reshape(1, 3, 1, 1))
        bias = constant("shift", [(grey * shift).sum()])
        made = image if first else f"{OWN}grey"
        before.append(helper.make_node("Conv", [floats, weight, bias], [made]))
        if not first:
            # One channel is where it is, wherever that is.
            before.append(helper.make_node("Transpose", [made], [image], perm=[0, 2, 3, 1]))
    else:
        form = (1, 3, 1, 1) if first else (1, 1, 1, 3)
        before.append(helper.make_node("Mul", [floats, constant("scale", scale.reshape(form))], [f"{OWN}scaled"]))
        before.append(helper.make_node("Add", [f"{OWN}scaled", constant("shift", shift.reshape(form))], [image]))
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _put_behind(graph: GraphProto, answer: str, classes: int, *, probabilities: bool, temperature: float) -> None:
    """Logits under that name, and what they come to."""
    nodes = graph.node
    if probabilities:
        graph.initializer.append(numpy_helper.from_array(np.array(LEAST, np.float32), f"{OWN}least"))
        nodes.append(helper.make_node("Max", [answer, f"{OWN}least"], [f"{OWN}positive"]))
        nodes.append(helper.make_node("Log", [f"{OWN}positive"], [LOGITS]))
    else:
        _rename(graph, {answer: LOGITS})
    tempered = LOGITS
    if temperature != 1.0:
        graph.initializer.append(numpy_helper.from_array(np.array(temperature, np.float32), f"{OWN}temperature"))
        tempered = f"{OWN}tempered"
        nodes.append(helper.make_node("Div", [LOGITS, f"{OWN}temperature"], [tempered]))
    nodes.append(helper.make_node("Softmax", [tempered], [PROBABILITIES], axis=1))
    for name in OUTPUTS:
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, classes]))


def _with_shapes(model: ModelProto) -> ModelProto:
    """The same with the sizes of what is between, as far as they can be told; only features need them."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return model


def _is_known(value: onnx.ValueInfoProto) -> bool:
    batch, *sizes = shape_of(value) or [""]
    return batch == BATCH and all(isinstance(size, int) and size > 0 for size in sizes)
