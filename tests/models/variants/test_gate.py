"""The gate, with real graphs: one that is damaged, one that is slow, one that answers with no numbers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.errors import ArtifactCorrupt, InvalidBatch, PredictionFailed
from models.variants.gate import Gate, judge, paired_interval, seconds_an_image


def test_a_graph_that_answers_the_same_is_refused_for_its_speed_alone(model, judged, labels):
    verdict = judge(model, model, judged, labels)
    assert not verdict.passed
    assert verdict.agreement == 1
    assert verdict.difference == 0
    assert verdict.accuracy == verdict.accuracy_float32 == pytest.approx(0.9, abs=0.01)
    assert "times as fast as float32" in verdict.reason
    assert ";" not in verdict.reason


def test_where_speed_is_measured_elsewhere_it_passes(model, judged, labels):
    verdict = judge(model, model, judged, labels, measure_speed=False)
    assert verdict.passed
    assert verdict.reason is verdict.speedup is verdict.seconds is None


def test_a_damaged_graph_is_refused_with_the_numbers(model, judged, labels, tmp_path):
    verdict = judge(model, with_weights(model, tmp_path, lambda w: w + 0.3 * w.std()), judged, labels)
    assert not verdict.passed
    assert verdict.agreement < 0.98
    assert f"{verdict.agreement:.2%} of its answers agree" in verdict.reason
    assert f"{-verdict.difference:.2f} points below" in verdict.reason
    low, high = verdict.difference_interval
    assert low < verdict.difference < high


def test_one_that_is_less_sure_of_itself_is_refused_for_its_calibration(model, judged, labels, tmp_path):
    """All answers stay as they are."""
    graph = onnx.load(model)
    gemm = next(node for node in graph.graph.node if node.op_type == "Gemm")
    for tensor in graph.graph.initializer:
        if tensor.name in gemm.input[1:]:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / 20, tensor.name))
    onnx.save(graph, tmp_path / "unsure.onnx")
    verdict = judge(model, tmp_path / "unsure.onnx", judged, labels, measure_speed=False)
    assert verdict.agreement == 1
    assert verdict.reason.startswith("its calibration error is")


def test_one_without_finite_answers_is_no_variant(model, judged, labels, tmp_path):
    with pytest.raises(PredictionFailed, match="not finite"):
        judge(model, with_weights(model, tmp_path, lambda w: w * np.float32(np.nan)), judged, labels)


def test_what_is_no_graph_is_said_to_be_none(model, judged, labels, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ArtifactCorrupt, match=r"broken\.onnx"):
        judge(model, tmp_path / "broken.onnx", judged, labels)


def test_it_wants_enough_images_with_a_label_each(model, judged, labels):
    with pytest.raises(InvalidBatch, match="at least 50 labelled images, and 49 were given"):
        Gate(model, judged[:49], labels[:49])
    with pytest.raises(InvalidBatch, match="a label for each"):
        Gate(model, judged, labels[:-1])


def test_a_graph_that_does_more_is_measured_to_be_slower(model, judged, tmp_path):
    graph = onnx.load(model)
    nodes = graph.graph.node
    softmax = nodes[-1]
    last = softmax.input[0]
    ones = numpy_helper.from_array(np.eye(6, 2000, dtype=np.float32), "spread")
    back = numpy_helper.from_array(np.eye(2000, 6, dtype=np.float32), "back")
    square = numpy_helper.from_array(np.eye(2000, dtype=np.float32), "square")
    graph.graph.initializer.extend([ones, back, square])
    extra = [
        helper.make_node("MatMul", [last, "spread"], ["w"]),
        helper.make_node("MatMul", ["w", "square"], ["s"]),
    ]
    extra.append(helper.make_node("MatMul", ["s", "back"], ["b"]))
    softmax.input[0] = "b"
    del nodes[-1]
    nodes.extend([*extra, softmax])
    onnx.save(graph, tmp_path / "slow.onnx")
    reference, slow = seconds_an_image(model, tmp_path / "slow.onnx", judged)
    assert slow > reference


def test_the_interval_of_a_difference_holds_it_and_narrows_with_more_images():
    rng = np.random.default_rng(0)
    before = rng.random(1000) < 0.7
    after = np.where(rng.random(1000) < 0.05, ~before, before)
    true_share = 100 * (0.3 * 0.05 - 0.7 * 0.05)
    low, high = paired_interval(before, after)
    assert low < true_share < high
    wide_low, wide_high = paired_interval(before[:50], after[:50])
    assert wide_high - wide_low > 2 * (high - low)
    same_low, same_high = paired_interval(before[:50], before[:50])
    assert same_low == -same_high < 0


def with_weights(model: Path, folder: Path, change) -> Path:
    graph = onnx.load(model)
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4 and values.size > 500:
            tensor.CopyFrom(numpy_helper.from_array(change(values).astype(np.float32), tensor.name))
    onnx.save(graph, folder / "changed.onnx")
    return folder / "changed.onnx"
