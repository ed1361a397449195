"""The embedding and the feature map that a graph gives beside its answer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.devices import open_session
from models.feature_outputs import add_feature_outputs
from models.normalise import Normalise
from models.served import Served
from models.spec import EMBEDDING, FEATURE_MAP, LOGITS, OUTPUTS, Preprocessing
from models.tracing import trace
from models.zoo.registry import build

VIEW = Preprocessing(height=32, width=32, resize=32)
PLAIN = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())


class Permuted(nn.Module):
    """Its maps have their channels last, as those of Swin transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.head = PLAIN, nn.Linear(4, 2)

    def forward(self, image: Tensor) -> Tensor:
        last = self.maps(image).permute(0, 2, 3, 1).contiguous()
        answer: Tensor = self.head(torch.nn.functional.layer_norm(last, (4,)).mean((1, 2)))
        return answer


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.maps, self.one, self.other = PLAIN, nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, image: Tensor) -> Tensor:
        pooled = self.maps(image).mean((2, 3))
        answer: Tensor = self.one(pooled) + self.other(pooled)
        return answer


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def exported(network: nn.Module) -> tuple[onnx.ModelProto, dict[str, list[int]]]:
    graph = trace(Served(network, VIEW), VIEW, OUTPUTS)
    return graph, add_feature_outputs(graph)


def run(
    graph: onnx.ModelProto, folder: Path, pictures: NDArray[np.uint8], *names: str
) -> list[NDArray[np.float32]]:
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, folder / "model.onnx")
    session = open_session(folder / "model.onnx", device="cpu").session
    return list(session.run(names, {"image": pictures}))


def normalised(pictures: NDArray[np.uint8]) -> Tensor:
    return Normalise(VIEW)(torch.from_numpy(pictures)).float()


def test_they_are_what_the_network_computes_on_its_way(tmp_path: Path, pictures: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    network = build("lenet5", num_classes=3).eval()
    graph, outputs = exported(network)
    assert outputs == {EMBEDDING: [84], FEATURE_MAP: [16, 5, 5]}
    embedding, logits = run(graph, tmp_path, pictures, EMBEDDING, LOGITS)
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        np.testing.assert_allclose(head(torch.from_numpy(embedding)), logits, atol=1e-5)


def test_where_a_convolution_classifies_the_embedding_is_the_mean_of_its_map(
    tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    graph, outputs = exported(build("nin_cifar", num_classes=3).eval())
    assert outputs == {EMBEDDING: [192], FEATURE_MAP: [192, 8, 8]}
    embedding, feature_map = run(graph, tmp_path, pictures, EMBEDDING, FEATURE_MAP)
    np.testing.assert_allclose(embedding, feature_map.mean((2, 3)), atol=1e-5)


def test_a_map_with_its_channels_last_is_given_with_its_channels_first(
    tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    network = Permuted().eval()
    graph, outputs = exported(network)
    assert outputs == {EMBEDDING: [4], FEATURE_MAP: [4, 15, 15]}
    embedding, feature_map = run(graph, tmp_path, pictures, EMBEDDING, FEATURE_MAP)
    np.testing.assert_allclose(embedding, feature_map.mean((2, 3)), atol=1e-5)
    with torch.no_grad():
        maps = network.maps(normalised(pictures)).permute(0, 2, 3, 1)
        expected = torch.nn.functional.layer_norm(maps, (4,)).permute(0, 3, 1, 2)
    np.testing.assert_allclose(feature_map, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "outputs"),
    [
        pytest.param(TwoHeads(), {}, id="two-heads"),
        pytest.param(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU(), nn.Linear(8, 2)),
                     {EMBEDDING: [8]}, id="no-convolution"),
    ],
)  # fmt: skip
def test_a_network_has_only_those_that_mean_something(
    network: nn.Module, outputs: dict[str, list[int]], tmp_path: Path, pictures: NDArray[np.uint8]
) -> None:
    graph, found = exported(network.eval())
    assert found == outputs
    assert {value.name for value in graph.graph.output} == {*OUTPUTS, *outputs}
    run(graph, tmp_path, pictures, *OUTPUTS)
