"""Variants of a small network, made with ONNX Runtime's own tools."""

import dataclasses
import json
import shutil

import numpy as np
import onnx
import pytest

from models.artifact import MODEL, Manifest, write_manifest
from models.errors import ArtifactCorrupt, InvalidBatch
from models.predictor import Predictor
from models.spec import Preprocessing
from models.variants import gate
from models.variants.build import build
from models.variants.report import VariantReport


@pytest.fixture(scope="module")
def int8(tmp_path_factory, model, calibration, judged, labels):
    target = tmp_path_factory.mktemp("int8") / "model.int8.onnx"
    watched = []
    report = build(
        model,
        target,
        "int8",
        calibration=calibration,
        images=judged,
        labels=labels,
        watcher=lambda done, total: watched.append((done, total)),
    )
    return target, report, watched


def test_the_report_survives_its_way_through_json(int8):
    _, report, _ = int8
    assert VariantReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    assert VariantReport.from_dict({**report.to_dict(), "added_later": 1}) == report


def test_an_int8_variant_answers_as_float32_does(int8):
    _, report, _ = int8
    assert report.agreement >= 0.98
    assert abs(report.accuracy - report.accuracy_float32) <= 0.02
    assert report.passed
    assert report.reason is None
    assert report.speedup > 1.1
    assert (report.images, report.calibration_images) == (68, 34)


def test_the_file_is_there_if_and_only_if_it_passed(int8):
    target, report, watched = int8
    assert target.exists() == report.passed
    assert sorted({done for done, _ in watched}) == list(range(len(report.tried) + 2))
    assert [done for done, _ in watched] == sorted(done for done, _ in watched)
    assert all(done <= total for done, total in watched)
    assert report.tried[-1].passed == report.passed
    assert [path.name for path in target.parent.iterdir()] == ([target.name] if report.passed else [])


def test_a_float16_variant_loads_as_the_model_of_its_artifact(tmp_path, model, calibration, judged, labels):
    report = build(model, tmp_path / MODEL, "fp16", calibration=calibration, images=judged, labels=labels)
    assert report.passed
    assert report.agreement >= 0.98
    assert report.seconds is report.speedup is None
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / MODEL).metadata_props}
    assert metadata == {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    labels_of_model = json.loads(metadata["labels"])
    preprocessing = Preprocessing(height=64, width=80, resize=88)
    write_manifest(tmp_path, Manifest("small", tuple(labels_of_model), preprocessing, "small"))
    found = Predictor(tmp_path, device="cpu").predict(judged)
    assert found.logits.dtype == np.float32
    expected = gate.answers(model, judged).logits
    assert np.abs(found.logits - expected).max() < 0.05 * expected.std()


def test_what_fails_the_gate_leaves_no_file_and_says_what_was_tried(
    monkeypatch, tmp_path, model, calibration, judged, labels
):
    """A bar that no variant can pass."""
    monkeypatch.setattr(gate, "LEAST_SPEEDUP", 1e9)
    monkeypatch.setattr(gate, "MOST_ROUNDS", 8)
    report = build(
        model, tmp_path / "m.onnx", "int8", calibration=calibration, images=judged, labels=labels, budget_s=0
    )
    assert not report.passed
    assert "times as fast as float32" in report.reason
    assert [attempt.passed for attempt in report.tried] == [False]
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_quantised_is_a_refused_report(
    monkeypatch, tmp_path, model, calibration, judged, labels
):
    """A graph that runs but whose shapes no tool can infer: an operator of ONNX Runtime's own."""
    graph = onnx.load(model)
    softmax = graph.graph.node[-1]
    own = onnx.helper.make_node("Gelu", [softmax.input[0]], ["gelu"], domain="com.microsoft", name="own")
    graph.graph.node.insert(len(graph.graph.node) - 1, own)
    softmax.input[0] = "gelu"
    graph.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(graph, tmp_path / "own.onnx")
    target = tmp_path / "out" / "m.onnx"
    report = build(tmp_path / "own.onnx", target, "int8", calibration=calibration, images=judged, labels=labels)
    assert target.exists() == report.passed


@pytest.mark.parametrize("at", [0, 1])
def test_what_a_watcher_raises_ends_the_work_and_leaves_no_file(tmp_path, model, calibration, judged, labels, at):
    def cancel(done, _total):
        if done == at:
            raise InterruptedError("cancelled")

    target = tmp_path / "m.onnx"
    with pytest.raises(InterruptedError, match="cancelled"):
        build(model, target, "int8", calibration=calibration, images=judged, labels=labels, watcher=cancel)
    assert list(tmp_path.iterdir()) == []


def test_too_few_images_to_judge_by_are_a_refused_report(tmp_path, model, calibration, judged, labels):
    report = build(
        model, tmp_path / "m.onnx", "int8", calibration=calibration, images=judged[:20], labels=labels[:20]
    )
    assert not report.passed
    assert report.reason == "a variant is judged on at least 50 labelled images, and there are 20"
    assert report.tried == ()


def test_what_calibrated_may_not_judge(tmp_path, model, judged, labels):
    for calibration in (judged, judged[:40], judged.copy()):
        with pytest.raises(InvalidBatch, match="images that it has not seen"):
            build(model, tmp_path / "m.onnx", "int8", calibration=calibration, images=judged, labels=labels)


@pytest.mark.parametrize("precision", ["float32", "int4"])
def test_there_are_two_precisions_to_make(tmp_path, model, calibration, judged, labels, precision):
    with pytest.raises(InvalidBatch, match=f"no variant '{precision}'; make one of int8, fp16"):
        build(model, tmp_path / "m.onnx", precision, calibration=calibration, images=judged, labels=labels)


def test_a_model_that_is_none_is_said_to_be_corrupt(tmp_path, model, calibration, judged, labels):
    shutil.copy(model, tmp_path / "cut.onnx")
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:3000])
    with pytest.raises(ArtifactCorrupt):
        build(tmp_path / "cut.onnx", tmp_path / "m", "int8", calibration=calibration, images=judged, labels=labels)


def test_a_report_of_another_precision_is_damaged(int8):
    _, report, _ = int8
    with pytest.raises(ValueError, match="expected one of float32, int8, fp16"):
        VariantReport.from_dict({**report.to_dict(), "precision": "int3"})
    assert dataclasses.replace(report, precision="fp16").to_dict()["precision"] == "fp16"
