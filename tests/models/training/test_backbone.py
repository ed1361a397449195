"""Features by ONNX Runtime: those of torch, in their order, and the same bits with any number of threads."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.teaching import CPU
from torch import Tensor, nn

from models.backbone_graph import BackboneGraphs
from models.devices import open_session
from models.errors import PredictionFailed
from models.parity import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from models.spec import Preprocessing
from models.training.backbone import Backbone, OnnxBackbone, TorchBackbone, identity_of
from models.training.errors import OutOfMemory
from models.zoo.layout import split_network
from models.zoo.registry import build

VIEW = Preprocessing(height=32, width=32, resize=36)
COUNT = 45


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return split_network(build("lenet5", num_classes=3).eval()).backbone


@pytest.fixture(scope="module")
def graph(module: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    BackboneGraphs(folder / "kept").fetch(module, VIEW, identity_of(module, VIEW), folder / "backbone.onnx")
    return folder / "backbone.onnx"


def pictures() -> Iterator[Tensor]:
    drawn = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    return iter(torch.from_numpy(drawn))


def features(backbone: Backbone) -> Tensor:
    return torch.cat(list(backbone.features(pictures())))


def test_they_are_torchs_within_the_parity_tolerance_and_in_order(module: nn.Module, graph: Path) -> None:
    expected = features(TorchBackbone(module, VIEW, CPU))
    found = features(OnnxBackbone(graph, "lenet5", threads=2))
    assert len({row.numpy().tobytes() for row in expected}) == COUNT
    assert ((found - expected).abs() <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * expected.abs()).all()


def test_the_number_of_threads_changes_no_bit(graph: Path) -> None:
    assert torch.equal(
        features(OnnxBackbone(graph, "lenet5", threads=1)), features(OnnxBackbone(graph, "lenet5", threads=4))
    )


def test_torch_has_its_threads_again_afterwards(graph: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen = [torch.get_num_threads() for _ in OnnxBackbone(graph, "lenet5", threads=2).features(pictures())]
        assert set(seen) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_images_of_another_size_are_an_error_that_says_so(graph: Path) -> None:
    wrong = torch.zeros(16, 16, 3, dtype=torch.uint8)
    with pytest.raises(PredictionFailed, match=r"(?s)failed on 1 images: .*Got: 16 Expected: 32"):
        list(OnnxBackbone(graph, "lenet5", threads=1).features([wrong]))


def test_a_batch_that_does_not_fit_goes_through_in_parts(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = features(OnnxBackbone(graph, "lenet5", threads=1))
    room = 2

    def short_of_memory(model: Path, **how: Any) -> SimpleNamespace:
        session = open_session(model, **how).session

        def run(outputs: list[str], given: dict[str, Any]) -> Any:
            if len(given["image"]) > room:
                raise RuntimeError("Failed to allocate memory for requested buffer of size 4096")
            return session.run(outputs, given)

        return SimpleNamespace(session=SimpleNamespace(run=run), provider="CPUExecutionProvider")

    monkeypatch.setattr("models.training.graph_run.open_session", short_of_memory)
    in_parts = features(OnnxBackbone(graph, "lenet5", threads=1))
    assert torch.allclose(in_parts, whole, atol=1e-5)
    room = 0
    with pytest.raises(OutOfMemory, match="one image does not fit"):
        features(OnnxBackbone(graph, "lenet5", threads=1))


def test_what_computed_features_is_part_of_whose_they_are(module: nn.Module, graph: Path) -> None:
    torchs = TorchBackbone(module, VIEW, CPU).identity
    assert OnnxBackbone(graph, torchs, threads=1).identity != torchs
    assert OnnxBackbone(graph, torchs, threads=1).identity == OnnxBackbone(graph, torchs, threads=4).identity
