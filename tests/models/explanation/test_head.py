"""The head cut out of a graph: it computes what the whole network computes, and says whether its map is exact."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.quadrants import make_quadrants
from torch import nn

from models.artifact import MODEL
from models.devices import open_session
from models.errors import ExplanationUnavailable
from models.explanation.head import Head
from models.explanation.maps import class_activation_map
from models.export import to_onnx
from models.photographs import photographs
from models.spec import FEATURE_MAP, LOGITS, Preprocessing
from models.zoo.registry import build, get


@pytest.mark.parametrize(
    ("name", "is_additive"),
    [("lenet5", False), ("nin_cifar", True), ("mobilenet_v1_025", True), ("mobilenet_v3_small", False)],
)
def test_it_computes_what_the_network_computes_behind_its_map(
    tmp_path: Path, name: str, is_additive: bool
) -> None:
    torch.manual_seed(0)
    size = get(name).input.size
    view = Preprocessing(size, size, size)
    outputs = to_onnx(build(name, 3).eval(), tmp_path / MODEL, preprocessing=view, labels=["a", "b", "c"])
    head = Head(tmp_path / MODEL, outputs[FEATURE_MAP])
    session = open_session(tmp_path / MODEL, device="cpu").session
    maps, logits = session.run([FEATURE_MAP, LOGITS], {"image": photographs(view, 3)})
    np.testing.assert_allclose(head.logits(maps), logits, atol=1e-5)
    assert head.is_additive == is_additive


def test_a_map_with_its_channels_last_is_cut_before_it_is_turned(tmp_path: Path) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps, self.head = nn.Conv2d(3, 4, 3, stride=4), nn.Linear(4, 2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            last = self.maps(image).permute(0, 2, 3, 1).contiguous()
            answer: torch.Tensor = self.head(nn.functional.layer_norm(last, (4,)).mean((1, 2)))
            return answer

    view = Preprocessing(32, 32, 32)
    outputs = to_onnx(Last().eval(), tmp_path / MODEL, preprocessing=view, labels=["a", "b"])
    head = Head(tmp_path / MODEL, outputs[FEATURE_MAP])
    session = open_session(tmp_path / MODEL, device="cpu").session
    maps, logits = session.run([FEATURE_MAP, LOGITS], {"image": photographs(view, 3)})
    np.testing.assert_allclose(head.logits(maps), logits, atol=1e-5)


def test_behind_pooling_and_one_linear_layer_the_map_is_that_of_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("mobilenet_v1_025", 3).eval()
    view = Preprocessing()
    outputs = to_onnx(network, tmp_path / MODEL, preprocessing=view, labels=["a", "b", "c"])
    head = Head(tmp_path / MODEL, outputs[FEATURE_MAP])
    session = open_session(tmp_path / MODEL, device="cpu").session
    (maps,) = session.run([FEATURE_MAP], {"image": photographs(view, 1)})
    weights = [module for module in network.modules() if isinstance(module, nn.Linear)][-1].weight.detach().numpy()
    expected = np.einsum("c,chw->hw", weights[1], maps[0])
    found = class_activation_map(head, maps[0], 1)
    np.testing.assert_allclose(found.low + found.values * (found.high - found.low), expected, atol=1e-5)


def test_a_graph_whose_classes_do_not_come_from_its_map_alone_has_no_head(tmp_path: Path) -> None:
    make_quadrants(tmp_path)
    graph = onnx.load(tmp_path / MODEL)
    node = next(node for node in graph.graph.node if "logits" in node.output)
    graph.graph.node.remove(node)
    graph.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["floats"], ["brightness"], keepdims=0),
            onnx.helper.make_node("Add", ["embedding", "brightness"], ["logits"]),
        ]
    )
    onnx.save(graph, tmp_path / MODEL)
    with pytest.raises(ExplanationUnavailable, match="image too"):
        Head(tmp_path / MODEL, [3, 4, 4])


def test_of_a_file_that_is_no_graph_nothing_is_cut(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(b"\x0f\xff")
    with pytest.raises(ExplanationUnavailable, match="cannot be read"):
        Head(tmp_path / MODEL, [3, 4, 4])
