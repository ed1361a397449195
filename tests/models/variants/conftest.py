"""A network that integers are faster for, as an artifact holds it, and images to calibrate and to judge by."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.photographs import photographs
from models.spec import Preprocessing
from models.variants.gate import answers

PREPROCESSING = Preprocessing(height=64, width=80, resize=88)
LABELS = ("ant", "bee", "crane", "Ærø", "maillot", "maillot")
TEMPERATURE = 1.7
FLOAT = TensorProto.FLOAT


class Writer:
    """Writes a graph in the form of the exporter's, node by node: it need not be traced, which takes seconds.

    Each convolution is scaled so that its outputs have mean 0 and variance 1 on the images, as batch normalisation
    leaves them.
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = images
        self._draw = np.random.default_rng(3)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values: list[onnx.ValueInfoProto] = []

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"node_{output}", **attributes))
        return output

    def constant(self, name: str, values: object, kind: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def convolution(
        self, source: str, name: str, shape: tuple[int, int, int], stride: int = 1, groups: int = 1
    ) -> str:
        channels, outputs, kernel = shape
        weight = self._draw.standard_normal((outputs, channels // groups, kernel, kernel))
        form = {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": groups}
        found = self._tried(source, weight, form)
        spread, mean = found.std((0, 2, 3)), found.mean((0, 2, 3))
        inputs = [
            source,
            self.constant(f"{name}.weight", weight / spread[:, None, None, None]),
            self.constant(f"{name}.bias", -mean / spread),
        ]
        return self.node("Conv", inputs, name, **form)

    def run(self, output: str) -> NDArray[np.float32]:
        session = onnxruntime.InferenceSession(
            self.model([output]).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        found: NDArray[np.float32] = session.run([output], {"image": self._images})[0]
        return found

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        shape = ["batch", PREPROCESSING.height, PREPROCESSING.width, 3]
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, shape)
        given = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "main_graph", [image], given, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def _tried(self, source: str, weight: NDArray[np.float64], form: dict[str, object]) -> NDArray[np.float32]:
        self.constant("trial.weight", weight)
        self.node("Conv", [source, "trial.weight"], "trial", **form)
        found = self.run("trial")
        self.nodes.pop()
        self.constants.pop()
        return found


def make_model(images: NDArray[np.uint8]) -> onnx.ModelProto:
    """What variants meet: strides, a depthwise convolution, both kinds of cut, a residual and a linear head."""
    to = Writer(images)
    std, mean = np.asarray(PREPROCESSING.std), np.asarray(PREPROCESSING.mean)
    to.constant("scale", (1 / (255 * std)).reshape(1, 3, 1, 1))
    to.constant("shift", (-mean / std).reshape(1, 3, 1, 1))
    to.constant("zero", 0)
    to.constant("six", 6)
    at = to.node("Transpose", ["image"], "permuted", perm=[0, 3, 1, 2])
    at = to.node("Cast", [at], "pixels_float", to=FLOAT)
    at = to.node("Add", [to.node("Mul", [at, "scale"], "scaled"), "shift"], "normalised")
    at = to.node("Clip", [to.convolution(at, "first", (3, 32, 3), 2), "zero", "six"], "first_cut")
    at = to.node("Clip", [to.convolution(at, "depthwise", (32, 32, 3), groups=32), "zero", "six"], "depthwise_cut")
    narrow = to.node("Relu", [to.convolution(at, "pointwise", (32, 64, 1))], "pointwise_cut")
    wide = to.node("Relu", [to.convolution(narrow, "wide", (64, 64, 3))], "wide_cut")
    at = to.node("Add", [narrow, wide], "residual")
    at = to.node("Relu", [to.convolution(at, "wider", (64, 96, 3), 2)], "wider_cut")
    to.constant("sides", [2, 3], np.int64)
    to.constant("flat", [-1, 96], np.int64)
    features = to.node("Reshape", [to.node("ReduceMean", [at, "sides"], "mean", keepdims=1), "flat"], "features")
    # Logits far apart, as a trained network's are.
    weight = 40 * np.random.default_rng(4).standard_normal((len(LABELS), 96)) / 96**0.5
    to.constant("head.weight", weight)
    to.constant("head.bias", -(to.run(features) @ weight.T).mean(0))
    to.node("Gemm", [features, "head.weight", "head.bias"], "logits", transB=1)
    to.constant("temperature", TEMPERATURE)
    to.node("Softmax", [to.node("Div", ["logits", "temperature"], "divided")], "probabilities", axis=1)
    made = to.model(["logits", "probabilities"])
    for value in made.graph.output:
        value.CopyFrom(helper.make_tensor_value_info(value.name, FLOAT, ["batch", len(LABELS)]))
    facts = {"labels": list(LABELS), "preprocessing": PREPROCESSING.to_dict(), "temperature": TEMPERATURE}
    helper.set_model_props(made, {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()})
    return onnx.shape_inference.infer_shapes(made)


@pytest.fixture(scope="session")
def pictures() -> NDArray[np.uint8]:
    """136 views: each of 68 photographs, and its mirror image."""
    views = photographs(PREPROCESSING)
    return np.concatenate([views, views[:, :, ::-1]])


@pytest.fixture(scope="session")
def calibration(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pictures[::4]


@pytest.fixture(scope="session")
def judged(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pictures[1::2]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, calibration: NDArray[np.uint8]) -> Path:
    file = tmp_path_factory.mktemp("float32") / "model.onnx"
    onnx.save(make_model(calibration), file)
    return file


@pytest.fixture(scope="session")
def labels(judged: NDArray[np.uint8], model: Path) -> NDArray[np.int64]:
    """What the network answers, but for every tenth image: so that it is right in nine of ten."""
    found = answers(model, judged).logits.argmax(1).astype(np.int64)
    found[::10] = (found[::10] + 1) % len(LABELS)
    return found
