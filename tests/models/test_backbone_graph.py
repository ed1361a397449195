"""A backbone's graph: what it computes, the head that is put onto it, and what is kept of it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from models.backbone_graph import BackboneGraphs, backbone_graph
from models.devices import open_session
from models.errors import ExportFailed, ExportMismatch
from models.export import to_onnx
from models.normalise import Normalise
from models.parity import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, check_parity
from models.spec import Preprocessing
from models.training.backbone import identity_of
from models.weights.loading import default_preprocessing
from models.zoo.layout import split_network
from models.zoo.registry import build, get

VIEW = Preprocessing(height=32, width=32, resize=36, mean=(0.5, 0.5, 0.5), std=(0.5, 0.4, 0.3))
LABELS = ("ant", "bee", "wasp")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Batch normalisation with statistics of its own, so that folding it changes every convolution."""
    torch.manual_seed(1)
    found = build("mobilenet_v1_025", num_classes=len(LABELS))
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    return found.eval()


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    fetch(BackboneGraphs(folder / "kept"), network, folder / "backbone.onnx")
    return folder / "backbone.onnx"


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(5)
    return build("lenet5", num_classes=len(LABELS)).eval()


def fetch(graphs: BackboneGraphs, network: nn.Module, into: Path) -> None:
    backbone = split_network(network).backbone
    graphs.fetch(backbone, VIEW, identity_of(backbone, VIEW), into)


def teach(network: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    head = split_network(network).head
    nn.init.normal_(head.weight, std=0.3)
    nn.init.normal_(head.bias)


def test_features_are_torchs_within_the_parity_tolerance(
    network: nn.Module, graph: Path, pictures: NDArray[np.uint8]
) -> None:
    with torch.inference_mode():
        expected = split_network(network).backbone(Normalise(VIEW)(torch.from_numpy(pictures))).numpy()
    (found,) = open_session(graph, device="cpu").session.run(None, {"image": pictures})
    assert expected.std() > 0.01
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(expected)).all()


def test_a_head_on_it_makes_what_a_whole_export_makes(
    network: nn.Module, graph: Path, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    teach(network, seed=2)
    answers = {}
    for name, backbone in (("whole", None), ("put together", graph)):
        model = tmp_path / f"{name}.onnx"
        to_onnx(network, model, preprocessing=VIEW, labels=LABELS, temperature=1.7, backbone=backbone)
        assert check_parity(network, model, pictures, preprocessing=VIEW, temperature=1.7).passed
        answers[name] = open_session(model, device="cpu").session.run(None, {"image": pictures})
    for whole, put_together in zip(*answers.values(), strict=True):
        assert np.array_equal(whole, put_together)
    whole_graph, put_graph = (onnx.load(tmp_path / f"{name}.onnx") for name in answers)
    onnx.checker.check_model(put_graph, full_check=True)
    assert [node.op_type for node in put_graph.graph.node] == [node.op_type for node in whole_graph.graph.node]
    facts = [{p.key: p.value for p in graph.metadata_props} for graph in (put_graph, whole_graph)]
    assert facts[0] == facts[1]


def test_another_networks_backbone_does_not_pass_the_gate(
    network: nn.Module, graph: Path, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    other = build("mobilenet_v1_025", num_classes=len(LABELS)).eval()
    teach(other, seed=2)
    to_onnx(other, tmp_path / "model.onnx", preprocessing=VIEW, labels=LABELS, backbone=graph)
    with pytest.raises(ExportMismatch):
        check_parity(other, tmp_path / "model.onnx", pictures, preprocessing=VIEW)


def test_it_is_exported_once_for_every_head_and_anew_for_other_weights(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = BackboneGraphs(tmp_path / "kept")
    exported: list[nn.Module] = []

    def counted(backbone: nn.Module, preprocessing: Preprocessing) -> onnx.ModelProto:
        exported.append(backbone)
        return backbone_graph(backbone, preprocessing)

    monkeypatch.setattr("models.backbone_graph.backbone_graph", counted)
    for seed in (1, 2):
        teach(small, seed)
        fetch(graphs, small, tmp_path / f"{seed}.onnx")
    assert len(exported) == 1
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()
    fetch(graphs, build("lenet5", num_classes=len(LABELS)), tmp_path / "other.onnx")
    assert len(exported) == 2
    assert (tmp_path / "other.onnx").read_bytes() != (tmp_path / "1.onnx").read_bytes()


def test_a_damaged_one_is_made_anew_with_the_same_bits(small: nn.Module, tmp_path: Path) -> None:
    graphs = BackboneGraphs(tmp_path / "kept")
    fetch(graphs, small, tmp_path / "first.onnx")
    (kept,) = graphs.folder.iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    fetch(graphs, small, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == content == (tmp_path / "first.onnx").read_bytes()
    assert [file.read_bytes() for file in graphs.folder.iterdir()] == [content]


def test_features_that_are_no_row_and_heads_that_are_no_layer_are_refused(
    graph: Path, small: nn.Module, tmp_path: Path
) -> None:
    convolutional = build("squeezenet1_1", num_classes=3).eval()
    with pytest.raises(ExportFailed, match="a row for each image"):
        backbone_graph(split_network(convolutional).backbone, Preprocessing(height=64, width=64, resize=64))
    with pytest.raises(ExportFailed, match="expected a linear layer"):
        to_onnx(convolutional, tmp_path / "model.onnx", preprocessing=VIEW, labels=LABELS, backbone=graph)
    with pytest.raises(ExportFailed, match="the head reads 84 numbers"):
        to_onnx(small, tmp_path / "model.onnx", preprocessing=VIEW, labels=LABELS, backbone=graph)


@pytest.mark.registry
@pytest.mark.parametrize(
    "name", ["resnet18", "googlenet", "inception_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121",
             "maxout", "vit_b_32", "swin_t"]
)  # fmt: skip
def test_other_families_have_such_graphs_too(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole, view = build(name, num_classes=3).eval(), default_preprocessing(get(name))
    backbone = split_network(whole).backbone
    BackboneGraphs(tmp_path).fetch(backbone, view, identity_of(backbone, view), tmp_path / "backbone.onnx")
    seen = np.random.default_rng(0).integers(0, 256, (9, view.height, view.width, 3), dtype=np.uint8)
    model = tmp_path / "model.onnx"
    to_onnx(whole, model, preprocessing=view, labels=LABELS, temperature=1.3, backbone=tmp_path / "backbone.onnx")
    assert check_parity(whole, model, seen, preprocessing=view, temperature=1.3).passed
