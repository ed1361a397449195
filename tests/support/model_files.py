"""ONNX files as people send them, good ones and wrong ones, made with onnx.helper."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from support.attacks.artifacts import external, looping, nested

FLOAT, FLOAT16, UINT8, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64
SIZE = 32
LABELS = ("ant", "bee", "crane")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIEW: dict[str, Any] = {"mean": MEAN, "std": STD}
Shape = Sequence[int | str | None]
Nodes = Sequence[Any]


def weights(classes: int = 3, channels: int = 3, kind: Any = np.float32) -> list[TensorProto]:
    """Drawn once and for all, and so large that classes are far apart."""
    random = np.random.default_rng(7)
    arrays = {
        "filters": random.normal(0, 0.4, (8, channels, 3, 3)),
        "head": random.normal(0, 3, (8, classes)),
        "bias": random.normal(0, 0.1, (classes,)),
    }
    return [numpy_helper.from_array(array.astype(kind), name) for name, array in arrays.items()]


def body(read: str = "image", scores: str = "scores") -> list[Any]:
    return [
        helper.make_node("Conv", [read, "filters"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "head", "bias"], [scores]),
    ]


def onnx_file(
    nodes: Nodes | None = None,
    *,
    shape: Shape = ("n", 3, SIZE, SIZE),
    kind: int = FLOAT,
    more_inputs: Nodes = (),
    tensors: Nodes | None = None,
    outputs: Nodes | None = None,
    opset: int = 17,
    ir_version: int = 9,
    domains: Sequence[str] = (),
    read: str = "image",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    graph = helper.make_graph(
        list(nodes or body()),
        "net",
        [helper.make_tensor_value_info(read, kind, shape), *more_inputs],
        list(outputs or [helper.make_tensor_value_info("scores", FLOAT, [shape[0] if shape else "n", 3])]),
        list(weights() if tensors is None else tensors),
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model: ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    if metadata:
        helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def ended(*operators: str, **attributes: Any) -> bytes:
    """The network with these operators behind its scores."""
    names = ["scores", *(f"step{i}" for i in range(len(operators) - 1)), "answer"]
    more = [
        helper.make_node(operator, [names[i]], [names[i + 1]], **attributes)
        for i, operator in enumerate(operators)
    ]
    return onnx_file([*body(), *more], outputs=[helper.make_tensor_value_info("answer", FLOAT, ["n", 3])])


def by_hand() -> bytes:
    """A softmax of Exp, ReduceSum and Div, as older exporters write it."""
    more = [
        helper.make_node("Exp", ["scores"], ["powers"]),
        helper.make_node("ReduceSum", ["powers", "axis"], ["sum"], keepdims=1),
        helper.make_node("Div", ["powers", "sum"], ["answer"]),
    ]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    return onnx_file(
        [*body(), *more],
        tensors=[*weights(), axis],
        outputs=[helper.make_tensor_value_info("answer", FLOAT, ["n", 3])],
    )


def channels_last() -> bytes:
    turn = helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2])
    return onnx_file([turn, *body("turned")], shape=("n", SIZE, SIZE, 3))


def pixels() -> bytes:
    """8-bit pixels, which the graph normalises as it likes."""
    before = [
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["floats"], to=FLOAT),
        helper.make_node("Mul", ["floats", "by"], ["small"]),
    ]
    by = numpy_helper.from_array(np.array(1 / 127, np.float32), "by")
    return onnx_file([*before, *body("small")], shape=(None, SIZE, SIZE, 3), kind=UINT8, tensors=[*weights(), by])


def fixed(batch: int, *, with_rest: bool = False) -> bytes:
    """A batch of a fixed size, which a constant shape on the way repeats."""
    shape = numpy_helper.from_array(np.array([batch, -1 if with_rest else 8], np.int64), "shape")
    nodes = [
        helper.make_node("Reshape", ["pooled", "shape"], ["features"]) if node.op_type == "Flatten" else node
        for node in body()
    ]
    return onnx_file(nodes, shape=(batch, 3, SIZE, SIZE), tensors=[*weights(), shape])


def stuck() -> bytes:
    """A batch of one that a constant beside the image keeps: as the class token of a transformer does."""
    token = numpy_helper.from_array(np.ones((1, 1, SIZE, SIZE), np.float32), "token")
    joined = helper.make_node("Concat", ["image", "token"], ["joined"], axis=1)
    return onnx_file([joined, *body("joined")], shape=(1, 3, SIZE, SIZE), tensors=[*weights(channels=4), token])


def of_old() -> bytes:
    """Weights that are inputs as well, as the third version of the format had it."""
    inputs = [helper.make_tensor_value_info(t.name, FLOAT, list(t.dims)) for t in weights()]
    return onnx_file(more_inputs=inputs, ir_version=3, opset=9)


def names_of_ours() -> bytes:
    """Tensors within that are called as the artifact's inputs and outputs are."""
    names = {"image": "x", "maps": "image", "active": "logits", "pooled": "probabilities", "features": "embedding"}
    nodes = body()
    for node in nodes:
        for tensors in (node.input, node.output):
            for place, name in enumerate(tensors):
                tensors[place] = names.get(name, name)
    return onnx_file(nodes, read="x")


def helpers() -> bytes:
    """A second output that only training needs."""
    more = helper.make_node("Gemm", ["features", "head", "bias"], ["auxiliary"], alpha=2.0)
    outputs = [helper.make_tensor_value_info(name, FLOAT, ["n", 3]) for name in ("auxiliary", "scores")]
    return onnx_file([*body(), more], outputs=outputs)


def branching() -> bytes:
    """An `If` whose branches read the network's tensors."""
    scores = [helper.make_tensor_value_info("inner", FLOAT, None)]
    branches = [
        helper.make_graph([helper.make_node(operator, ["scores"], ["inner"])], operator, [], scores)
        for operator in ("Identity", "Neg")
    ]
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    node = helper.make_node("If", ["always"], ["answer"], then_branch=branches[0], else_branch=branches[1])
    return onnx_file(
        [*body(), node],
        tensors=[*weights(), always],
        outputs=[helper.make_tensor_value_info("answer", FLOAT, ["n", 3])],
    )


def mixing() -> bytes:
    """Each image's answer depends on those beside it, as batch normalisation in training mode has it."""
    more = [
        helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["mean", "half"], ["part"]),
        helper.make_node("Sub", ["scores", "part"], ["answer"]),
    ]
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    return onnx_file(
        [*body(), *more],
        tensors=[*weights(), half],
        outputs=[helper.make_tensor_value_info("answer", FLOAT, ["n", 3])],
    )


def enormous(*shape: int) -> bytes:
    more = [
        helper.make_node("ConstantOfShape", ["large"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["scores", "sum"], ["answer"]),
    ]
    large = numpy_helper.from_array(np.array(shape, np.int64), "large")
    return onnx_file(
        [*body(), *more],
        tensors=[*weights(), large],
        outputs=[helper.make_tensor_value_info("answer", FLOAT, ["n", 3])],
    )


def laborious(side: int, times: int) -> bytes:
    """Products of large matrices, one after the other."""
    more = [helper.make_node("RandomUniform", [], ["a0"], shape=[side, side])]
    more += [helper.make_node("MatMul", [f"a{i}", f"a{i}"], [f"a{i + 1}"]) for i in range(times)]
    more += [
        helper.make_node("ReduceMax", [f"a{times}"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "none"], ["nothing"]),
        helper.make_node("Add", ["scores", "nothing"], ["answer"]),
    ]
    none = numpy_helper.from_array(np.array(0, np.float32), "none")
    return onnx_file(
        [*body(), *more],
        tensors=[*weights(), none],
        outputs=[helper.make_tensor_value_info("answer", FLOAT, ["n", 3])],
    )


def functions(levels: int) -> bytes:
    """Functions that call each other twice: as plain operators 2^levels of them."""
    ids = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = [
        helper.make_function("own", "f0", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], ids),
        *(
            helper.make_function(
                "own",
                f"f{i}",
                ["x"],
                ["y"],
                [
                    helper.make_node(f"f{i - 1}", ["x"], ["z"], domain="own"),
                    helper.make_node(f"f{i - 1}", ["z"], ["y"], domain="own"),
                ],
                ids,
            )
            for i in range(1, levels)
        ),
    ]
    nodes = [*body(), helper.make_node(f"f{levels - 1}", ["scores"], ["answer"], domain="own")]
    outputs = [helper.make_tensor_value_info("answer", FLOAT, ["n", 3])]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", FLOAT, ["n", 3, SIZE, SIZE])], outputs, weights()
    )
    return bytes(helper.make_model(graph, functions=made, opset_imports=ids, ir_version=9).SerializeToString())


def lying(dims: Sequence[int]) -> bytes:
    claim = TensorProto(name="bias", data_type=FLOAT, dims=dims, raw_data=bytes(12))
    return onnx_file(tensors=[*weights()[:2], claim])


def answering_with(scores: Nodes, tensors: Nodes = ()) -> bytes:
    return onnx_file(
        [*body(), *scores],
        tensors=[*weights(), *tensors],
        outputs=[helper.make_tensor_value_info("answer", FLOAT, ["n", 3])],
    )


def one_column() -> bytes:
    return onnx_file(tensors=weights(1), outputs=[helper.make_tensor_value_info("scores", FLOAT, ["n", 1])])


NOT_A_NUMBER = numpy_helper.from_array(np.array(np.nan, np.float32), "nan")
NOTHING = numpy_helper.from_array(np.array(0, np.float32), "none")
HALF = onnx_file(
    kind=FLOAT16,
    tensors=weights(kind=np.float16),
    outputs=[helper.make_tensor_value_info("scores", FLOAT16, ["n", 3])],
)
# What each says that it is, in words that its sender can act on.
WRONG: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "external data": (lambda: external("weights.bin"), r"weights in another file.*onnx\.save"),
    "external data of this machine": (lambda: external("/etc/passwd"), "weights in another file"),
    "a custom operator": (
        lambda: onnx_file([*body(), helper.make_node("Run", ["scores"], ["x"], domain="evil")], domains=["evil"]),
        r"uses evil\.Run, which ONNX of opset 17 does not have.*without custom operators",
    ),
    "an operator of a runtime": (
        lambda: onnx_file(
            [*body(), helper.make_node("FusedConv", ["image", "filters"], ["x"], domain="com.microsoft")],
            domains=["com.microsoft"],
        ),
        r"com\.microsoft\.FusedConv.*optimisations of a runtime",
    ),
    "an operator that there is not": (
        lambda: onnx_file([*body(), helper.make_node("Nothing", ["scores"], ["x"])]),
        "uses Nothing, which ONNX of opset 17 does not have",
    ),
    "an operator within an If": (
        lambda: branching().replace(b"Neg", b"Nog"),
        "uses Nog, which",
    ),
    "two inputs": (
        lambda: onnx_file(more_inputs=[helper.make_tensor_value_info("mask", FLOAT, ["n", 1])]),
        r"2 inputs \('image' float32 \[n, 3, 32, 32\]; 'mask' float32 \[n, 1\]\); expected one, an image",
    ),
    "no input": (
        lambda: onnx_file(
            shape=(1, 3, SIZE, SIZE),
            tensors=[*weights(), numpy_helper.from_array(np.zeros((1, 3, SIZE, SIZE), np.float32), "image")],
        ),
        r"0 inputs \(none\); expected one, an image",
    ),
    "float16": (lambda: HALF, r"'image' float16 \[n, 3, 32, 32\]; expected float32.*keep_io_types"),
    "text": (
        lambda: onnx_file(kind=TensorProto.STRING),
        r"'image' string \[n, 3, 32, 32\]; expected float32",
    ),
    "rank 3": (lambda: onnx_file(shape=("n", SIZE, SIZE)), r"of rank 3; expected float32 \[batch, 3,"),
    "no shape": (
        lambda: onnx_file(shape=None),  # type: ignore[arg-type]
        "does not say that it is an image",
    ),
    "five channels": (lambda: onnx_file(shape=("n", 5, SIZE, SIZE)), "neither 3 channels nor 1"),
    "8-bit pixels with channels first": (
        lambda: onnx_file(shape=("n", 3, SIZE, SIZE), kind=UINT8),
        r"'image' uint8 \[n, 3, 32, 32\]; expected float32",
    ),
    "a side of a hundred thousand": (
        lambda: onnx_file(shape=("n", 3, 100_000, SIZE)),
        "expected sides of at most 4096 pixels",
    ),
    "any size": (
        lambda: onnx_file(shape=("n", 3, "h", "w")),
        r"preprocessing\.height: .*any size; give the height",
    ),
    "an output of rank 4": (
        lambda: onnx_file(body()[:3], outputs=[helper.make_tensor_value_info("pooled", FLOAT, ["n", 8, 1, 1])]),
        r"gives 'pooled' float32 \[n, 8, 1, 1\]; expected one output \[batch, classes\]",
    ),
    "two outputs": (helpers, r"2 of them may be it; name it: \"output\": \"NAME\""),
    "an output of whole numbers": (
        lambda: onnx_file(
            [*body(), helper.make_node("Cast", ["scores"], ["answer"], to=INT64)],
            outputs=[helper.make_tensor_value_info("answer", INT64, ["n", 3])],
        ),
        r"'answer' int64 \[n, 3\]; expected float32 \[batch, classes\]",
    ),
    "one column": (one_column, r"float32 \[1, 1\]; expected float32 with two columns or more"),
    "yes or no": (lambda: ended("Sigmoid"), "ends in Sigmoid, which says yes or no"),
    "opset of the future": (lambda: onnx_file(opset=999), r"of opset 999; expected 7 to \d+"),
    "opset of the past": (lambda: onnx_file(opset=5), r"of opset 5; expected 7 to \d+"),
    "no opset": (lambda: onnx_file().replace(b"B\x04\n\x00\x10\x11", b""), "of opset none; expected 7 to"),
    "cut short": (lambda: onnx_file()[:-200], "goes past its end; it is cut short, damaged"),
    "no protobuf": (lambda: b"\x08\x07" + b"\xff" * 500, "no ONNX file"),
    "a field of 2 GB": (lambda: b"\x08\x07\x3a\xff\xff\xff\xff\x07", "goes past its end"),
    "a tensor of 2 GB": (lambda: lying([2**29]), r"'bias' says that it is \[536870912\] and brings 12 bytes"),
    "a tensor of 2^66 values": (lambda: lying([2**33, 2**33]), "brings 12 bytes instead of"),
    "a loop without end": (
        lambda: looping(2**62),
        "operator Loop, which may run for ever; expected a graph without",
    ),
    "functions of functions": (lambda: functions(40), "40 functions of its own; expected plain operators"),
    "no node": (
        lambda: onnx_file(
            [helper.make_node("Identity", ["image"], ["x"])],
        ).replace(b"Identity", b"Identitx"),
        "uses Identitx",
    ),
    "chance": (
        lambda: answering_with(
            [
                helper.make_node("RandomNormalLike", ["scores"], ["noise"]),
                helper.make_node("Add", ["scores", "noise"], ["answer"]),
            ]
        ),
        "answers otherwise when it is given the same image again",
    ),
    "NaN": (
        lambda: answering_with([helper.make_node("Add", ["scores", "nan"], ["answer"])], [NOT_A_NUMBER]),
        "infinite values or NaN",
    ),
    "always the same": (
        lambda: answering_with([helper.make_node("Mul", ["scores", "none"], ["answer"])], [NOTHING]),
        "answers the same for 16 different photographs",
    ),
    "weights that do not fit": (
        lambda: onnx_file(tensors=weights(channels=4)),
        "ONNX Runtime refuses the file|fails on",
    ),
    "If in If": (lambda: nested(12), "0 inputs|preprocessing|answers"),
}


def write(folder: Path, content: bytes, name: str = "model.onnx") -> Path:
    (folder / name).write_bytes(content)
    return folder / name
