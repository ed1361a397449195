"""Versions as a stranger's backup brings them: their checksums are right, and their graphs are anything."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper
from support.attacks.attack import Attack, mutations
from support.colours import LABELS, SIZE, make_colour_artifact

from models.artifact import MANIFEST, MODEL, Manifest, write_manifest
from models.spec import Preprocessing

FAMILY = "artifact"
FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64
IMAGE = [helper.make_tensor_value_info("image", UINT8, ["batch", SIZE, SIZE, 3])]
ANSWERS = [helper.make_tensor_value_info(name, FLOAT, ["batch", 3]) for name in ("logits", "probabilities")]
MANIFEST_OF = Manifest("colours", LABELS, Preprocessing(SIZE, SIZE, SIZE, fit="squash"), "colours")
# What comes of this is the answer.
MEANS = [
    helper.make_node("Cast", ["image"], ["pixels"], to=FLOAT),
    helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
]
AXES = helper.make_tensor("axes", INT64, [2], [1, 2])


def model(
    nodes: list[Any],
    initializers: list[Any] | None = None,
    inputs: Any = None,
    outputs: Any = None,
    domains: tuple[str, ...] = (),
) -> bytes:
    graph = helper.make_graph(nodes, "attack", inputs or IMAGE, outputs or ANSWERS, initializers or [])
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def answering(*between: Any, value: str = "means", initializers: tuple[Any, ...] = (), **options: Any) -> bytes:
    """A graph that answers with `value`, which nodes before it make."""
    ends = [
        helper.make_node("Identity", [value], ["logits"]),
        helper.make_node("Softmax", [value], ["probabilities"]),
    ]
    return model([*MEANS, *between, *ends], [AXES, *initializers], **options)


def of_shape(*shape: int) -> bytes:
    """Something of that shape is made and summed up on the way."""
    return answering(
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        helper.make_node("Add", ["means", "sum"], ["answer"]),
        value="answer",
        initializers=(helper.make_tensor("shape", INT64, [len(shape)], shape),),
    )


def looping(times: int) -> bytes:
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes"], ["on"]), helper.make_node("Add", ["state", "state"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("number", INT64, []),
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, None),
        ],
    )
    return answering(
        helper.make_node("Loop", ["times", "", "means"], ["answer"], body=body),
        value="answer",
        initializers=(helper.make_tensor("times", INT64, [], [times]),),
    )


def external(location: str, offset: int = 0, length: int = 12) -> bytes:
    """Weights that lie in another file, which the graph names."""
    weights = TensorProto(name="scale", data_type=FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        weights.external_data.add(key=key, value=value)
    return answering(
        helper.make_node("Mul", ["means", "scale"], ["answer"]), value="answer", initializers=(weights,)
    )


def lying(dims: list[int], raw: bytes) -> bytes:
    weights = TensorProto(name="scale", data_type=FLOAT, dims=dims, raw_data=raw)
    return answering(
        helper.make_node("Mul", ["means", "scale"], ["answer"]), value="answer", initializers=(weights,)
    )


def nested(levels: int) -> bytes:
    """`If` in `If` in `If`."""
    condition = helper.make_tensor("condition", TensorProto.BOOL, [], [True])
    out = [helper.make_tensor_value_info("inner", FLOAT, None)]
    body = helper.make_graph([helper.make_node("Identity", ["means"], ["inner"])], "inner", [], out)
    for _ in range(levels):
        node = helper.make_node("If", ["condition"], ["inner"], then_branch=body, else_branch=body)
        body = helper.make_graph([node], "outer", [], out)
    return answering(*body.node, value="inner", initializers=(condition,))


GRAPHS: Mapping[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no graph": lambda: b"no graph",
    "zeros": lambda: bytes(1_000),
    "an endless varint": lambda: b"\x3a" + b"\xff" * 1_000,
    "a field of 2 GB": lambda: b"\x3a\xff\xff\xff\xff\x07",
    "groups in groups": lambda: b"\x3b" * 100_000,
    "no nodes": lambda: model([]),
    "an operator that there is not": lambda: answering(
        helper.make_node("Nothing", ["means"], ["answer"]), value="answer"
    ),
    "an operator of a foreign domain": lambda: answering(
        helper.make_node("Run", ["means"], ["answer"], domain="evil"), value="answer", domains=("evil",)
    ),
    "a circle": lambda: answering(
        helper.make_node("Add", ["means", "b"], ["a"]), helper.make_node("Add", ["a", "means"], ["b"]), value="a"
    ),
    "another input": lambda: model(
        [
            helper.make_node("Cast", ["other"], ["logits"], to=FLOAT),
            helper.make_node("Cast", ["other"], ["probabilities"], to=FLOAT),
        ],
        inputs=[helper.make_tensor_value_info("other", UINT8, ["batch", 3])],
    ),
    "two inputs": lambda: answering(inputs=[*IMAGE, helper.make_tensor_value_info("more", FLOAT, [1])]),
    "a batch of one": lambda: answering(
        inputs=[helper.make_tensor_value_info("image", UINT8, [1, SIZE, SIZE, 3])]
    ),
    "another size": lambda: answering(inputs=[helper.make_tensor_value_info("image", UINT8, ["batch", 8, 8, 3])]),
    "an input of text": lambda: answering(
        inputs=[helper.make_tensor_value_info("image", TensorProto.STRING, ["batch", SIZE, SIZE, 3])]
    ),
    "one output": lambda: answering(outputs=ANSWERS[:1]),
    "outputs of five classes": lambda: answering(
        outputs=[helper.make_tensor_value_info(name, FLOAT, ["batch", 5]) for name in ("logits", "probabilities")]
    ),
    "outputs that say nothing of their shape": lambda: answering(
        outputs=[helper.make_tensor_value_info(name, FLOAT, None) for name in ("logits", "probabilities")]
    ),
    "fewer answers than images": lambda: answering(
        helper.make_node("ReduceMean", ["means", "first"], ["answer"], keepdims=1),
        value="answer",
        initializers=(helper.make_tensor("first", INT64, [1], [0]),),
    ),
    "a division of whole numbers by nothing": lambda: answering(
        helper.make_node("Cast", ["means"], ["whole"], to=INT64),
        helper.make_node("Div", ["whole", "none"], ["broken"]),
        helper.make_node("Cast", ["broken"], ["answer"], to=FLOAT),
        value="answer",
        initializers=(helper.make_tensor("none", INT64, [], [0]),),
    ),
    "NaN": lambda: answering(
        helper.make_node("Mul", ["means", "none"], ["answer"]),
        value="answer",
        initializers=(helper.make_tensor("none", FLOAT, [], [float("nan")]),),
    ),
    "a gather far outside": lambda: answering(
        helper.make_node("Gather", ["means", "far"], ["answer"], axis=1),
        value="answer",
        initializers=(helper.make_tensor("far", INT64, [3], [2**40, -(2**40), 5]),),
    ),
    "a reshape to nothing": lambda: answering(
        helper.make_node("Reshape", ["means", "shape"], ["answer"]),
        value="answer",
        initializers=(helper.make_tensor("shape", INT64, [2], [7, 10**9]),),
    ),
    **{
        f"{' x '.join(map(str, shape))} values": partial(of_shape, *shape)
        for shape in ((10**4,), (10**6, 10**6), (2**31, 2**31), (-5,), (2**62, 2**62))
    },
    "a loop of 5": partial(looping, 5),
    "a loop without end": partial(looping, 2**62),
    "If in If": partial(nested, 12),
    **{
        f"weights in {location[-30:]}": partial(external, location)
        for location in (
            "weights.bin",
            "../../../../../../etc/passwd",
            "/etc/passwd",
            "/dev/zero",
            "manifest.json",
            "",
            "a\x00b",
        )
    },
    "weights far behind a file's end": lambda: external("manifest.json", 2**62, 2**62),
    "weights of fewer bytes than they say": lambda: lying([10**9], b"1234"),
    "weights of a size below none": lambda: lying([-1], bytes(12)),
    "weights of a size that overflows": lambda: lying([2**33, 2**33], b""),
    "weights of more bytes than they say": lambda: lying([3], bytes(10**6)),
}

MANIFESTS: Mapping[str, bytes | Callable[[dict[str, Any]], object]] = {
    "nothing": b"",
    "no JSON": b"no JSON",
    "no text": b"\xff\xfe",
    "deep": b"[" * 200_000,
    "a list": b"[]",
    "no fields": b"{}",
    "format 2": lambda values: values.update(format=2),
    "no labels": lambda values: values.pop("labels"),
    "labels a number": lambda values: values.update(labels=5),
    "one label": lambda values: values.update(labels=["red"]),
    "a million labels": lambda values: values.update(labels=["x"] * 10**6),
    "labels of every kind": lambda values: values.update(labels=[None, {"a": 1}, []]),
    "no preprocessing": lambda values: values.pop("preprocessing"),
    "preprocessing a list": lambda values: values.update(preprocessing=[]),
    "an image of a billion pixels": lambda values: values["preprocessing"].update(height=10**5, width=10**5),
    "an image of text": lambda values: values["preprocessing"].update(height="x"),
    "an image below nothing": lambda values: values["preprocessing"].update(height=-1),
    "files a list": lambda values: values.update(files=[]),
    "a file outside": lambda values: values["files"].update({"../../x": {"sha256": "0" * 64, "bytes": 1}}),
    "no model": lambda values: values["files"].pop(MODEL),
    "a wrong sha256": lambda values: values["files"][MODEL].update(sha256="0" * 64),
    "a huge number": lambda values: values["files"][MODEL].update(bytes=10**400),
    "an infinite number": lambda values: values["files"][MODEL].update(bytes=float("inf")),
}


def write_graph(folder: Path, graph: bytes) -> Path:
    (folder / "version").mkdir()
    (folder / "version" / MODEL).write_bytes(graph)
    write_manifest(folder / "version", MANIFEST_OF)
    return folder / "version"


def write_with_manifest(folder: Path, change: bytes | Callable[[dict[str, Any]], object]) -> Path:
    make_colour_artifact(folder / "version")
    target = folder / "version" / MANIFEST
    if isinstance(change, bytes):
        target.write_bytes(change)
    else:
        values = json.loads(target.read_text())
        change(values)
        target.write_text(json.dumps(values))
    return folder / "version"


def good_graph() -> bytes:
    return answering()


def attacks(scale: int) -> Iterator[Attack]:
    for name, graph in GRAPHS.items():
        yield Attack(FAMILY, name, lambda folder, g=graph: write_graph(folder, g()))  # type: ignore[misc]
    for name, change in MANIFESTS.items():
        yield Attack(FAMILY, f"manifest: {name}", lambda folder, c=change: write_with_manifest(folder, c))  # type: ignore[misc]
    for damaged in mutations(FAMILY, MODEL, {"graph": good_graph}, 25 * scale):
        yield Attack(
            FAMILY, damaged.name, lambda folder, d=damaged: write_graph(folder, d.make(folder).read_bytes())
        )  # type: ignore[misc]
