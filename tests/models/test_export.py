"""The export and its gate, with real networks, real photographs, and graphs that were tampered with."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from support.small_network import LABELS, TEMPERATURE, MadeArtifact, SmallNetwork, make_network
from torch import Tensor, nn

from models.errors import ExportFailed, ExportMismatch, InvalidBatch
from models.export import OPSET, export, to_onnx
from models.parity import check_parity
from models.spec import Preprocessing


@pytest.fixture(scope="module")
def graph(made_artifact: MadeArtifact) -> onnx.ModelProto:
    return onnx.load(made_artifact.folder / "model.onnx")


def shapes(values: Any) -> dict[str, tuple[int, list[int | str]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


class TestGraph:
    def test_it_takes_pixels_and_gives_logits_and_probabilities_for_any_batch(
        self, graph: onnx.ModelProto
    ) -> None:
        assert shapes(graph.graph.input) == {"image": (onnx.TensorProto.UINT8, ["batch", 32, 40, 3])}
        assert shapes(graph.graph.output) == {
            "logits": (onnx.TensorProto.FLOAT, ["batch", len(LABELS)]),
            "probabilities": (onnx.TensorProto.FLOAT, ["batch", len(LABELS)]),
            "embedding": (onnx.TensorProto.FLOAT, ["batch", 64]),
            "feature_map": (onnx.TensorProto.FLOAT, ["batch", 16, 2, 2]),
        }

    def test_it_is_valid_and_of_the_pinned_opset(self, graph: onnx.ModelProto) -> None:
        onnx.checker.check_model(graph, full_check=True)
        assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", OPSET)]

    def test_it_is_one_file(self, graph: onnx.ModelProto, made_artifact: MadeArtifact) -> None:
        assert {path.name for path in made_artifact.folder.glob("model*")} == {"model.onnx"}
        assert not any(tensor.external_data for tensor in graph.graph.initializer)

    def test_it_carries_what_it_needs_to_be_used_alone(self, made_artifact: MadeArtifact) -> None:
        session = onnxruntime.InferenceSession(
            made_artifact.folder / "model.onnx", providers=["CPUExecutionProvider"]
        )
        facts = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
        assert tuple(facts["labels"]) == LABELS
        assert Preprocessing.from_dict(facts["preprocessing"]) == made_artifact.manifest.preprocessing
        assert facts["preprocessing"]["applied_in_graph"] == ["mean", "std"]
        assert "itself divides by 255, applies mean and std" in facts["usage"]
        assert facts["temperature"] == TEMPERATURE
        assert facts["opset"] == OPSET
        assert facts["software"]["torch"] == torch.__version__.split("+")[0]

    def test_it_tells_nothing_of_the_machine_that_trained(self, made_artifact: MadeArtifact) -> None:
        content = (made_artifact.folder / "model.onnx").read_bytes()
        for secret in (b"stack_trace", b"forward(self", b"small_network.py", str(Path.home()).encode() + b"/"):
            assert secret not in content

    def test_the_whole_graph_can_run_on_one_device(self, graph: onnx.ModelProto) -> None:
        # Channels-last strides used to turn `flatten` into a gather by computed indices, with shapes on the CPU.
        assert not {"Shape", "Gather", "Loop", "If"} & {node.op_type for node in graph.graph.node}

    def test_the_auxiliary_head_is_gone(self, graph: onnx.ModelProto) -> None:
        assert not [tensor.name for tensor in graph.graph.initializer if "auxiliary" in tensor.name]


class TestTheNetworkGivenToIt:
    def test_it_stays_as_the_caller_had_it(
        self, network: SmallNetwork, preprocessing: Preprocessing, tmp_path: Path
    ) -> None:
        network.first.eval()  # as a frozen stage is, while the rest trains
        try:
            before = {name: value.clone() for name, value in network.state_dict().items()}
            to_onnx(network, tmp_path / "model.onnx", preprocessing=preprocessing, labels=LABELS)
            assert network.training
            assert not network.first.training
            assert network.depthwise.training
            assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        finally:
            network.train()

    def test_half_precision_is_exported_as_float32(
        self, preprocessing: Preprocessing, images: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        torch.manual_seed(0)
        half = SmallNetwork().bfloat16()
        assert export(half, tmp_path, preprocessing=preprocessing, labels=LABELS, images=images[:8]).passed
        assert half.head.weight.dtype == torch.bfloat16

    def test_a_grey_network_takes_colour_and_sees_luminance(
        self, preprocessing: Preprocessing, images: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        grey = make_network(preprocessing, images, channels=1)
        report = export(grey, tmp_path, preprocessing=preprocessing, labels=LABELS, images=images, channels=1)
        assert report.passed
        first = onnx.load(tmp_path / "model.onnx").graph
        assert shapes(first.input)["image"] == (onnx.TensorProto.UINT8, ["batch", 32, 40, 3])

    def test_nothing_is_printed(
        self,
        network: SmallNetwork,
        preprocessing: Preprocessing,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        to_onnx(network, tmp_path / "model.onnx", preprocessing=preprocessing, labels=LABELS)
        assert capfd.readouterr() == ("", "")

    def test_a_wrong_number_of_labels_is_refused(
        self, network: SmallNetwork, preprocessing: Preprocessing, tmp_path: Path
    ) -> None:
        with pytest.raises(ExportFailed, match="one column for each label"):
            to_onnx(network, tmp_path / "model.onnx", preprocessing=preprocessing, labels=LABELS[:-1])
        assert not (tmp_path / "model.onnx").exists()

    def test_what_torch_cannot_trace_is_refused_with_its_reason(
        self, preprocessing: Preprocessing, tmp_path: Path
    ) -> None:
        class Moody(nn.Module):
            def forward(self, image: Tensor) -> Tensor:
                if image.mean() > 0:
                    return image.mean((2, 3))
                return image.amax((2, 3))

        with pytest.raises(
            ExportFailed, match=r"torch cannot write this network as ONNX: .*data-dependent"
        ) as refusal:
            to_onnx(Moody(), tmp_path / "model.onnx", preprocessing=preprocessing, labels=LABELS[:3])
        assert "\n" not in str(refusal.value)

    def test_a_network_of_one_fixed_batch_is_refused(self, preprocessing: Preprocessing, tmp_path: Path) -> None:
        class PairsOnly(nn.Module):
            def forward(self, image: Tensor) -> Tensor:
                return image.reshape(2, -1)[:, :3]

        with pytest.raises(ExportFailed, match=r"'logits': \[2, 3\]"):
            to_onnx(PairsOnly(), tmp_path / "model.onnx", preprocessing=preprocessing, labels=LABELS[:3])


def tamper(model: Path, change: Any) -> None:
    graph = onnx.load(model)
    change(graph)
    onnx.save(graph, model)


def scale_head(graph: onnx.ModelProto, factor: float) -> None:
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("head.weight"):
            scaled = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(scaled, tensor.name))
            return
    pytest.fail("the graph has no head.weight")


class TestGate:
    def check(self, network: nn.Module, folder: Path, images: NDArray[np.uint8], **changes: Any) -> Any:
        given = {"preprocessing": Preprocessing(height=32, width=40, resize=44), "temperature": TEMPERATURE}
        return check_parity(network, folder / "model.onnx", images, **(given | changes))

    def test_a_faithful_export_passes_and_the_report_says_by_how_much(self, made_artifact: MadeArtifact) -> None:
        report = made_artifact.report
        assert report.passed
        assert report.agreement == 1.0
        assert report.images == 68
        assert report.batch_sizes == (1, 3, 8)
        assert 0 < report.max_abs_diff < 1e-3
        assert report.to_dict()["passed"] is True
        assert json.loads(json.dumps(report.to_dict())) == made_artifact.manifest.parity

    def test_the_logits_of_these_tests_are_far_from_zero(
        self, made_artifact: MadeArtifact, images: NDArray[np.uint8]
    ) -> None:
        # Near zero the gate would compare nothing but its absolute tolerance.
        session = onnxruntime.InferenceSession(
            made_artifact.folder / "model.onnx", providers=["CPUExecutionProvider"]
        )
        logits = session.run(["logits"], {"image": images})[0]
        assert np.abs(logits).max() > 3
        assert len(set(logits.argmax(1))) > 1

    @pytest.mark.parametrize("factor", [1.01, -1.0, 0.0, math.nan])
    def test_a_graph_with_other_weights_does_not_pass(
        self, network: SmallNetwork, artifact: Path, images: NDArray[np.uint8], factor: float
    ) -> None:
        tamper(artifact / "model.onnx", lambda graph: scale_head(graph, factor))
        with pytest.raises(ExportMismatch, match="does not compute what torch computes") as refusal:
            self.check(network, artifact, images)
        assert refusal.value.report["passed"] is False
        assert refusal.value.report["beyond_tolerance"] > 0

    def test_a_turned_answer_shows_as_lost_agreement(
        self, network: SmallNetwork, artifact: Path, images: NDArray[np.uint8]
    ) -> None:
        tamper(artifact / "model.onnx", lambda graph: scale_head(graph, -1.0))
        with pytest.raises(ExportMismatch) as refusal:
            self.check(network, artifact, images)
        assert refusal.value.report["agreement"] < 0.5
        assert refusal.value.report["max_abs_diff"] > 1

    def test_another_normalisation_does_not_pass(
        self, network: SmallNetwork, artifact: Path, images: NDArray[np.uint8]
    ) -> None:
        other = Preprocessing(height=32, width=40, resize=44, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        with pytest.raises(ExportMismatch):
            self.check(network, artifact, images, preprocessing=other)

    def test_another_temperature_does_not_pass(
        self, network: SmallNetwork, artifact: Path, images: NDArray[np.uint8]
    ) -> None:
        with pytest.raises(ExportMismatch) as refusal:
            self.check(network, artifact, images, temperature=TEMPERATURE * 1.01)
        assert refusal.value.report["beyond_tolerance"] == 0
        assert refusal.value.report["max_probability_diff"] > 1e-4

    def test_a_graph_that_is_wrong_for_one_batch_size_only_does_not_pass(
        self, network: SmallNetwork, artifact: Path, images: NDArray[np.uint8]
    ) -> None:
        # Adds the batch size minus one to every logit: right at batch 1, wrong at 3 and 8.
        def add_batch_size(graph: onnx.ModelProto) -> None:
            constants = {"zero": np.array([0]), "one": np.array(1.0, np.float32)}
            graph.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in constants.items())
            for node in graph.graph.node:
                node.output[:] = ["true_logits" if name == "logits" else name for name in node.output]
                node.input[:] = ["true_logits" if name == "logits" else name for name in node.input]
            graph.graph.node.extend(
                [
                    onnx.helper.make_node("Shape", ["image"], ["n"], start=0, end=1),
                    onnx.helper.make_node("Cast", ["n"], ["n_float"], to=onnx.TensorProto.FLOAT),
                    onnx.helper.make_node("Sub", ["n_float", "one"], ["excess"]),
                    onnx.helper.make_node("Add", ["true_logits", "excess"], ["logits"]),
                ]
            )

        tamper(artifact / "model.onnx", add_batch_size)
        assert self.check(network, artifact, images, batch_sizes=(1,)).passed
        with pytest.raises(ExportMismatch):
            self.check(network, artifact, images, batch_sizes=(1, 3))

    def test_a_network_that_gives_nan_does_not_pass(
        self, preprocessing: Preprocessing, images: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        network = make_network(preprocessing, images)
        with torch.no_grad():
            network.head.bias[0] = math.nan
        with pytest.raises(ExportMismatch) as refusal:
            export(network, tmp_path, preprocessing=preprocessing, labels=LABELS, images=images)
        assert refusal.value.report["beyond_tolerance"] >= 68 * 3
        # Databases and JSON parsers refuse NaN.
        assert refusal.value.report["max_abs_diff"] is None
        json.dumps(refusal.value.report, allow_nan=False)

    def test_few_images_are_repeated_to_fill_the_largest_batch(
        self, network: SmallNetwork, artifact: Path, images: NDArray[np.uint8]
    ) -> None:
        report = self.check(network, artifact, images[:2])
        assert report.passed
        assert report.images == 2

    def test_it_needs_images(self, network: SmallNetwork, artifact: Path, images: NDArray[np.uint8]) -> None:
        with pytest.raises(InvalidBatch, match="needs real images"):
            self.check(network, artifact, images[:0])
