"""Weights rounded by what they do."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.variants import patches
from models.variants.int8 import prepared
from models.variants.network import Network
from models.variants.ranges import Observer
from models.variants.report import Recipe
from models.variants.rounding import round_rows


@pytest.fixture(scope="module")
def int8_network(model, calibration):
    return Network(model, calibration)


def test_the_error_on_the_inputs_is_smaller_than_that_of_the_nearest_levels():
    rng = np.random.default_rng(0)
    inputs = rng.random((500, 3)) @ rng.random((3, 24)) + 0.05 * rng.random((500, 24))
    rows = 20 * rng.standard_normal((1, 40, 24))
    covariance = np.cov(inputs.T, bias=True)[None]
    rounded = round_rows(rows, covariance)
    assert (rounded == np.rint(rounded)).all()
    assert np.abs(rounded).max() <= 127
    assert error(rounded, rows, covariance) < 0.2 * error(np.rint(rows), rows, covariance)


def test_inputs_that_are_independent_leave_the_nearest_levels():
    rows = 20 * np.random.default_rng(0).standard_normal((2, 5, 9))
    assert (round_rows(rows, np.stack([np.eye(9)] * 2)) == np.rint(rows)).all()


def test_inputs_that_were_never_seen_leave_the_nearest_levels():
    rows = 20 * np.random.default_rng(0).standard_normal((1, 5, 9))
    assert (round_rows(rows, np.zeros((1, 9, 9))) == np.rint(rows)).all()


def test_more_inputs_than_a_block_are_rounded_as_one_after_the_other():
    rng = np.random.default_rng(1)
    inputs = rng.random((400, 5)) @ rng.random((5, 150)) + 0.05 * rng.random((400, 150))
    covariance = np.cov(inputs.T, bias=True)[None]
    rows = 20 * rng.standard_normal((1, 10, 150))
    rounded = round_rows(rows, covariance)
    assert error(rounded, rows, covariance) < 0.2 * error(np.rint(rows), rows, covariance)


def test_patches_are_what_a_convolution_reads(monkeypatch, model, calibration):
    """Where all of them are taken, weights times the mean patch are the mean output, but for the bias."""
    monkeypatch.setattr(patches, "SAMPLES", 10**6)
    graph = prepared(onnx.load(model))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    nodes = {node.name: node for node in graph.graph.node}
    layers = patches.convolutions(graph)
    feeds = [{"image": calibration[at : at + 1]} for at in range(2)]
    found = patches.read_patches(graph, layers, lambda: feeds)
    seen = Observer(graph).observe(lambda: feeds, histograms=False)
    assert {layer.groups for layer in layers} == {1, 32}
    for layer in layers:
        rows = weights[layer.weight].reshape(layer.groups, -1, layer.size)
        mean = (rows @ found[layer.node].mean[:, :, None]).reshape(-1) + weights[nodes[layer.node].input[2]]
        assert np.allclose(mean, seen[nodes[layer.node].output[0]].mean, atol=1e-3)


def test_a_whole_network_is_nearer_to_float32_by_it(int8_network, tmp_path):
    plain = Recipe("minmax", per_channel=True, folded=("normalisation",))
    rounded = Recipe("minmax", per_channel=True, folded=("normalisation",), rounded=True)
    assert noise(int8_network, rounded, tmp_path) < noise(int8_network, plain, tmp_path)


def noise(int8_network, recipe, folder):
    onnx.save(int8_network.made(recipe), folder / "made.onnx")
    return int8_network.noise(folder / "made.onnx", 34)


def error(rounded, rows, covariance):
    difference = rounded - rows
    return float(np.einsum("goi,gij,goj->", difference, covariance, difference))
