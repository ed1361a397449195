"""INT8 graphs of the small network: what is in them, and what ONNX Runtime makes of them."""

import collections

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from models.graph import check_graph
from models.variants.gate import answers
from models.variants.network import Network
from models.variants.report import Recipe

PLAIN = Recipe("minmax", per_channel=True)


@pytest.fixture(scope="module")
def int8_network(model, calibration):
    return Network(model, calibration)


def test_all_of_it_is_integers_from_the_pixels_to_the_head(int8_network, tmp_path):
    made = int8_network.made(Recipe("minmax", per_channel=True, folded=("normalisation",)))
    found = as_loaded(made, tmp_path)
    assert found["QLinearConv"] == 5
    assert found["QLinearAdd"] == found["QGemm"] == 1
    assert not found.keys() & {"Conv", "Clip", "Relu", "Cast", "Mul", "Add", "Gemm"}
    check_graph(tmp_path / "made.onnx")


def test_the_first_nodes_can_stay_in_float32(int8_network, tmp_path):
    names = int8_network.first_nodes(2)
    found = as_loaded(int8_network.made(Recipe("minmax", per_channel=True, float_nodes=names)), tmp_path)
    assert (found["Conv"], found["QLinearConv"]) == (2, 3)
    assert found["Mul"] == found["Cast"] == 1
    assert int8_network.first_nodes(0) == names[:4]
    assert int8_network.first_nodes(1) == names[:6]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_node_in_the_middle_that_is_left_in_float32_stays_in_float32(int8_network, tmp_path, at):
    """ONNX Runtime would make it an INT8 one of its own, with one scale for all weights."""
    names = int8_network.weighing_nodes(PLAIN)[at]
    found = as_loaded(int8_network.made(Recipe("minmax", per_channel=True, float_nodes=names)), tmp_path)
    assert found["Conv"] == 1


def test_equalised_it_answers_as_before(int8_network, tmp_path, model, judged):
    recipe = Recipe("minmax", per_channel=True, folded=("normalisation",), equalised=True, rounded=True)
    onnx.save(int8_network.made(recipe), tmp_path / "made.onnx")
    found, expected = answers(tmp_path / "made.onnx", judged).logits, answers(model, judged).logits
    # What exceeds the range that calibration saw of its channel is cut, so that single logits may be far off.
    assert np.sqrt(((found - expected) ** 2).mean()) < 0.1 * expected.std()


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "mse"])
def test_every_calibrator_gives_one_that_answers_as_float32(int8_network, tmp_path, model, judged, calibrator):
    onnx.save(int8_network.made(Recipe(calibrator, per_channel=True)), tmp_path / "made.onnx")
    found, expected = answers(tmp_path / "made.onnx", judged).logits, answers(model, judged).logits
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.95


def test_more_outputs_stay_and_are_floats(model, calibration, judged, tmp_path):
    """An embedding and a feature map, which quantised activations are."""
    graph = onnx.load(model)
    gemm = next(node for node in graph.graph.node if node.op_type == "Gemm")
    last = [node for node in graph.graph.node if node.op_type == "Relu"][-1]
    for name, kind in ((gemm.input[0], ["batch", 96]), (last.output[0], ["batch", 96, 16, 20])):
        graph.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, kind))
    kept = [value for value in graph.graph.value_info if value.name not in (gemm.input[0], last.output[0])]
    del graph.graph.value_info[:]
    graph.graph.value_info.extend(kept)
    onnx.save(graph, tmp_path / "four.onnx")
    recipe = Recipe("minmax", per_channel=True, folded=("normalisation",), equalised=True, rounded=True)
    onnx.save(Network(tmp_path / "four.onnx", calibration).made(recipe), tmp_path / "made.onnx")
    for found, expected in zip(
        run(tmp_path / "made.onnx", judged), run(tmp_path / "four.onnx", judged), strict=True
    ):
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()


def run(file, images):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[2:]


def as_loaded(made, folder):
    """How often each operator is there when ONNX Runtime has optimised the graph."""
    onnx.save(made, folder / "made.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(folder / "made.onnx", options, providers=["CPUExecutionProvider"])
    return collections.Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)
