"""The windows of a graph's tensors are exactly the pixels that their values depend on, wherever those lie."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from models.filters.deep_layers import choose_layers
from models.filters.graph_windows import WHOLE, trace_windows
from models.filters.window import Box, Windows, shown_part
from models.spec import INPUT, Preprocessing
from models.tracing import trace

HEIGHT, WIDTH = 40, 32
VIEW = Preprocessing(height=HEIGHT, width=WIDTH, resize=40)


class Pixels(nn.Module):
    """The layers, for prepared pixels."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        values: Tensor = self.layers(image.permute(0, 3, 1, 2).contiguous().float())
        return values


class Shuffled(nn.Module):
    """Channels dealt anew, as ShuffleNet does it."""

    def forward(self, maps: Tensor) -> Tensor:
        batch, channels, height, width = maps.shape
        return maps.reshape(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(maps.shape)


class ChannelsLast(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(channels), nn.Linear(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        return self.linear(self.norm(maps.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class Sum(nn.Module):
    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.one(maps) + self.other(maps)
        return found


class Patchwork(nn.Module):
    """Four neighbours become channels of one, as where Swin merges patches."""

    def forward(self, maps: Tensor) -> Tensor:
        parts = [maps[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return torch.cat(parts, dim=1)


class Gated(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * torch.sigmoid(self.gate(maps.mean((2, 3), keepdim=True)))


STACKS: dict[str, list[nn.Module]] = {
    "one convolution": [nn.Conv2d(3, 2, 3)],
    "padding and stride": [nn.Conv2d(3, 2, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1)],
    "a pool between": [nn.Conv2d(3, 2, 3, padding=1), nn.AvgPool2d(3, 2, padding=1), nn.Conv2d(2, 2, 3, stride=2)],
    "normalised across channels": [nn.Conv2d(3, 4, 3, stride=2), nn.LocalResponseNorm(3), nn.Conv2d(4, 2, 3)],
    "uneven": [nn.Conv2d(3, 2, (3, 5), stride=(1, 2), padding=(0, 2)), nn.Conv2d(2, 2, (2, 3), padding=(1, 0))],
    "dilated": [nn.Conv2d(3, 2, 3, dilation=2, padding=2), nn.Conv2d(2, 2, 3, stride=3, dilation=(1, 2))],
    "padded on two sides": [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 2, 3, stride=2), nn.Conv2d(2, 2, 3)],
    "cropped": [nn.Conv2d(3, 2, 3, padding=1), nn.ZeroPad2d((-3, 0, -2, -1)), nn.Conv2d(2, 2, 3, stride=2)],
    "residual": [Sum(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 2, 2, stride=2)],
    "shuffled": [nn.Conv2d(3, 4, 3, stride=2), Shuffled(), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 1)],
    "channels last": [nn.Conv2d(3, 4, 4, stride=4), ChannelsLast(4), nn.Conv2d(4, 4, 3, padding=1)],
    "merged patches": [nn.Conv2d(3, 2, 2, stride=2), Patchwork(), nn.Conv2d(8, 2, 3, padding=1)],
}  # fmt: skip


def traced(network: nn.Module) -> onnx.ModelProto:
    return trace(network.eval(), VIEW, ["answer"])


def dependence(network: Pixels, row: int, column: int) -> Box:
    """The pixels whose change changes a value, by its gradient."""
    image = torch.rand(1, HEIGHT, WIDTH, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image)[0, :, row, column].sum(), image)
    rows, columns = (gradient[0].abs().sum((2, axis)).nonzero().flatten() for axis in (1, 0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def inside(box: Box) -> Box:
    return Box(max(box.top, 0), max(box.left, 0), min(box.bottom, HEIGHT), min(box.right, WIDTH))


@pytest.mark.parametrize("name", STACKS)
def test_every_window_is_the_pixels_that_the_value_depends_on(name: str) -> None:
    torch.manual_seed(0)
    network = Pixels(*STACKS[name])
    # Without negative values no activation hides what a value depends on.
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 1)
    windows = trace_windows(traced(network))["answer"]
    assert isinstance(windows, Windows)
    assert (windows.axes, windows.gated) == ((2, 3), False)
    height, width = network(torch.rand(1, HEIGHT, WIDTH, 3)).shape[2:]
    for row in (0, 1, height // 2, height - 1):
        for column in (0, 1, width // 2, width - 1):
            assert dependence(network, row, column) == inside(windows.at(row, column)), (row, column)


def test_a_gate_that_looks_at_the_whole_image_leaves_the_window_and_is_told() -> None:
    plain, gated = (
        trace_windows(traced(Pixels(nn.Conv2d(3, 4, 3, stride=2), between, nn.Conv2d(4, 2, 3))))["answer"]
        for between in (nn.ReLU(), Gated(4))
    )
    assert isinstance(plain, Windows)
    assert isinstance(gated, Windows)
    assert (plain.size, plain.start, plain.gated) == ((7, 7), (0, 0), False)
    assert (gated.size, gated.start, gated.gated) == ((7, 7), (0, 0), True)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)], WHOLE),
        ([nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 38 * 30, 5)], None),
        ([nn.Conv2d(3, 4, 8, stride=8), nn.Flatten(2), nn.TransformerEncoderLayer(20, 2, 8)], None),
        ([nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3)], None),
    ],
)
def test_where_no_window_belongs_to_a_value_none_is_claimed(layers: list[nn.Module], expected: Any) -> None:
    assert trace_windows(traced(Pixels(*layers)))["answer"] is expected


@pytest.mark.parametrize(
    ("padding", "kernel", "start"),
    [("SAME_UPPER", 3, 0), ("SAME_LOWER", 3, -1), ("SAME_UPPER", 4, -1), ("SAME_LOWER", 5, -2), ("VALID", 5, 0)],
)
def test_padding_that_a_graph_leaves_to_its_reader_is_known(padding: str, kernel: int, start: int) -> None:
    """A kernel of three that steps by two needs one more pixel on an even map: after it, or before."""
    size = [1, 3, HEIGHT, HEIGHT]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["floats"], ["pixels"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["pixels", "weight"], ["answer"], auto_pad=padding, strides=[2, 2]),
        ],
        "padded",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", HEIGHT, HEIGHT, 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((2, 3, kernel, kernel), np.float32), "weight")],
        value_info=[helper.make_tensor_value_info("pixels", TensorProto.FLOAT, size)],
    )
    windows = trace_windows(helper.make_model(graph))["answer"]
    assert isinstance(windows, Windows)
    assert (windows.size, windows.start) == ((kernel, kernel), (start, start))


def test_of_a_window_larger_than_half_of_the_image_the_middle_is_shown() -> None:
    assert shown_part(Box(-3, 4, 13, 20), 32, 40) == Box(-3, 4, 13, 20)
    assert shown_part(Box(0, 0, 20, 10), 32, 40) == Box(2, 0, 18, 10)
    assert shown_part(Box(-30, 10, 10, 60), 32, 40) == Box(0, 20, 16, 40)


def test_layers_are_spread_over_the_resolutions_and_depthwise_ones_are_passed_over() -> None:
    def block(channels: int, out: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, out, 1),
            nn.ReLU(),
        ]

    network = Pixels(
        nn.Conv2d(3, 4, 3, padding=1), *block(4, 6, 1), *block(6, 8, 2), *block(8, 9, 2), nn.Flatten()
    )
    choice = choose_layers(traced(network))
    assert [(layer.channels, layer.kernel, layer.map) for layer in choice.layers] == [
        (6, (1, 1), (40, 32)),
        (8, (1, 1), (20, 16)),
        (9, (1, 1), (10, 8)),
    ]
    assert choice.left_out == ""


def test_what_cannot_be_shown_is_counted() -> None:
    network = Pixels(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 5, 3))
    choice = choose_layers(traced(network))
    assert [layer.channels for layer in choice.layers] == [4]
    assert "Nothing is shown of 2 of its convolutions" in choice.left_out
