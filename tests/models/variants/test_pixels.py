"""The normalisation inside the first convolution."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.variants.gate import answers
from models.variants.int8 import prepared
from models.variants.pixels import Entry, fold_normalisation, read_images
from models.variants.ranges import Observer


@pytest.fixture
def graph(model):
    return onnx.load(model)


def test_the_graph_then_reads_pixels_and_answers_nearly_the_same(graph, model, judged, tmp_path):
    """Nearly: at the border of an image a padded pixel is the mean colour, to within a few levels."""
    entry = fold_normalisation(graph)
    assert 100 < entry.zero_point < 130
    assert [node.op_type for node in graph.graph.node[:1]] == ["Conv"]
    read_images(graph, entry)
    onnx.checker.check_model(graph)
    onnx.save(graph, tmp_path / "folded.onnx")
    found, expected = answers(tmp_path / "folded.onnx", judged).logits, answers(model, judged).logits
    assert np.abs(found - expected).max() < 0.1 * expected.std()


def test_in_the_middle_of_an_image_it_is_the_same(graph, judged):
    first = graph.graph.node[4]
    assert first.op_type == "Conv"
    expected = run(graph, first.output[0], {"image": judged[:4]})
    entry = fold_normalisation(graph)
    found = run(graph, first.output[0], entry.feed(judged[:4]))
    assert np.abs(found - expected)[:, :, 1:-1, 1:-1].max() < 1e-4
    assert np.abs(found - expected).max() > 1e-3


@pytest.mark.parametrize("reader", ["Relu", "Conv and Relu"])
def test_a_graph_that_begins_otherwise_stays_as_it_is(graph, reader):
    nodes = graph.graph.node
    added = helper.make_node("Relu", [nodes[4].input[0]], ["cut"])
    if reader == "Relu":
        nodes[4].input[0] = "cut"
    nodes.insert(4, added)
    before = graph.SerializeToString()
    entry = fold_normalisation(graph)
    assert entry.zero_point is None
    assert entry.feed(np.zeros((1, 8, 8, 3), np.uint8)).keys() == {"image"}
    assert graph.SerializeToString() == before


def test_what_was_not_folded_needs_nothing_back(graph):
    before = graph.SerializeToString()
    read_images(graph, Entry(graph.graph.input[0]))
    assert graph.SerializeToString() == before


def test_a_grey_network_is_folded_too(graph, judged):
    """It begins with a convolution that makes the luminance, and has neither Mul nor Add."""
    nodes = graph.graph.node
    mul, add = nodes[2], nodes[3]
    weight = numpy_helper.from_array(np.full((3, 3, 1, 1), 0.01, np.float32), "luminance")
    graph.graph.initializer.append(weight)
    nodes.insert(2, helper.make_node("Conv", [mul.input[0], "luminance"], [add.output[0]], name="grey"))
    nodes.remove(mul)
    nodes.remove(add)
    expected = run(graph, add.output[0], {"image": judged[:2]})
    entry = fold_normalisation(graph)
    assert entry.zero_point is not None
    assert np.allclose(run(graph, add.output[0], entry.feed(judged[:2])), expected, atol=1e-4)


def run(graph, output, feed):
    """One activation."""
    ready = prepared(graph)
    observer = Observer(ready)
    assert output in observer.names
    return dict(observer._values(lambda: [feed]))[output]
