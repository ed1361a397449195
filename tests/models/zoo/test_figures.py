"""The papers' and lectures' figures must come out of the networks; a printed figure that is a slip is named."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.layer_table import LayerRow, NetworkSummary
from models.summary import summarize_architecture
from models.zoo import registry

WEIGHTED = ("Conv2d", "Linear")
# Table 1 of the paper: block -> output, parameters in thousands, operations in millions.
TABLE_1 = {
    "3a": ((28, 28, 256), 159, 128),
    "3b": ((28, 28, 480), 380, 304),
    "4a": ((14, 14, 512), 364, 73),
    "4b": ((14, 14, 512), 437, 88),
    "4c": ((14, 14, 512), 463, 100),
    "4d": ((14, 14, 528), 580, 119),
    "4e": ((14, 14, 832), 840, 170),
    "5a": ((7, 7, 832), 1072, 54),
    "5b": ((7, 7, 1024), 1388, 71),
}
# Figure 5 of the paper. The projections of 4c and 4d are 96 wide, for their 128 would give 608 maps.
FIGURE_5 = {
    "3a": (28, 256), "3b": (28, 320), "3c": (14, 576), "4a": (14, 576), "4b": (14, 576), "4c": (14, 576),
    "4d": (14, 576), "4e": (7, 1024), "5a": (7, 1024), "5b": (7, 1024),
}  # fmt: skip


@functools.cache
def table(name: str, **params) -> NetworkSummary:
    return summarize_architecture(name, **params)


def rows(name: str, *kinds: str, **params) -> list[LayerRow]:
    return [row for row in table(name, **params).layers if row.kind in kinds]


def map_of(row: LayerRow) -> tuple[int, ...]:
    """Height, width, channels, as the papers write it; or the units alone."""
    _, *shape = row.output
    return (*shape[1:], shape[0]) if len(shape) == 3 else tuple(shape)


def weights_of(name: str) -> list[int]:
    """The weights of each convolution and full connection, without biases."""
    network = registry.build(name) if name != "vgg16" else _on_meta(name)
    return [m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def _on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return registry.build(name)


def ends(name: str, suffix: str) -> LayerRow:
    return next(row for row in table(name).layers if row.name.endswith(suffix))


class TestLeNet5:
    def test_its_layers_have_456_2416_48120_10164_and_850_parameters_on_colour_images_and_10_classes(self):
        """A lecture's table prints 48,210 for the third: a slip, (400 + 1) * 120 is 48,120."""
        layers = rows("lenet5", *WEIGHTED, num_classes=10)
        assert [row.parameters for row in layers] == [456, 2_416, 48_120, 10_164, 850]
        assert (400 + 1) * 120 == 48_120 != 48_210

    def test_its_maps_are_28x28x6_14x14x6_10x10x16_and_5x5x16(self):
        maps = [map_of(row) for row in rows("lenet5", "Conv2d", "AvgPool2d")]
        assert maps == [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16)]


class TestAlexNet2012:
    def test_its_maps_on_227x227_are_those_of_the_lectures(self):
        maps = [map_of(row) for row in rows("alexnet_2012", "Conv2d", "MaxPool2d", "Linear")]
        assert maps == [
            (55, 55, 96), (27, 27, 96), (27, 27, 256), (13, 13, 256), (13, 13, 384), (13, 13, 384),
            (13, 13, 256), (6, 6, 256), (4096,), (4096,), (1000,),
        ]  # fmt: skip

    def test_its_first_layer_has_34848_weights(self):
        assert weights_of("alexnet_2012")[0] == 34_848 == 11 * 11 * 3 * 96

    def test_with_two_towers_it_has_the_papers_60_million_parameters(self):
        assert round(table("alexnet_2012", towers=2).parameters / 1e6) == 61
        assert round(table("alexnet_2012").parameters / 1e6) == 62

    def test_its_normalisation_is_the_papers(self):
        """b = a / (2 + 1e-4 * sum of 5 squares)^0.75; PyTorch divides its alpha by 5."""
        norm = next(m for m in registry.build("alexnet_2012").modules() if isinstance(m, nn.LocalResponseNorm))
        a = torch.rand(1, 7, 1, 1) * 100
        middle = a[0, 3] / (2 + 1e-4 * (a[0, 1:6] ** 2).sum()) ** 0.75
        assert torch.allclose(norm(a)[0, 3], middle)


class TestZFNet:
    def test_it_begins_with_7x7_at_stride_2(self):
        first = rows("zfnet", "Conv2d")[0]
        assert (first.kernel, first.stride, map_of(first)) == ((7, 7), (2, 2), (110, 110, 96))

    def test_layers_three_to_five_have_512_1024_512_filters_by_default_and_384_384_256_as_in_figure_3(self):
        """Both are published; the wider one, of the paper's table 2 and the lectures, is the default here."""
        assert [map_of(row)[2] for row in rows("zfnet", "Conv2d")][2:] == [512, 1024, 512]
        assert [map_of(row)[2] for row in rows("zfnet", "Conv2d", widths="figure-3")][2:] == [384, 384, 256]

    def test_its_maps_are_those_of_figure_3(self):
        assert [map_of(row)[:2] for row in rows("zfnet", "Conv2d", "MaxPool2d")] == [
            (110, 110), (55, 55), (26, 26), (13, 13), (13, 13), (13, 13), (13, 13), (6, 6),
        ]  # fmt: skip


class TestVGG:
    @pytest.mark.parametrize(
        ("name", "millions"),
        [("vgg11", 133), ("vgg11_lrn", 133), ("vgg13", 133), ("vgg16_c", 134), ("vgg16", 138), ("vgg19", 144)],
    )
    def test_a_to_e_have_the_parameters_of_the_papers_table_2(self, name, millions):
        assert round(table(name).parameters / 1e6) == millions

    def test_d_has_the_weights_of_the_lectures_in_each_layer(self):
        assert weights_of("vgg16") == [
            1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648, 2_359_296, 2_359_296, 2_359_296,
            2_359_296, 2_359_296, 102_760_448, 16_777_216, 4_096_000,
        ]  # fmt: skip

    def test_most_memory_is_in_the_first_layers_and_most_parameters_in_the_first_full_connection(self):
        counted = rows("vgg16", "Conv2d", "MaxPool2d", "Linear")
        activations = sum(row.memory_bytes for row in counted)
        assert sum(row.memory_bytes for row in counted[:2]) > 0.4 * activations
        full = ends("vgg16", "classifier.0")
        assert full.parameters > 0.7 * table("vgg16").parameters

    def test_a_forward_pass_of_d_keeps_15_million_activations_where_a_lecture_prints_24(self):
        """The lecture's own rows add up to 15.2 M values (61 MB as float32): its total of 24 M is a slip."""
        counted = rows("vgg16", "Conv2d", "MaxPool2d", "Linear")
        values = sum(math.prod(row.output) for row in counted) + 224 * 224 * 3
        assert round(values / 1e6, 1) == 15.2
        assert table("vgg16").memory_bytes + table("vgg16").input_bytes - 4 * values == 4 * 7 * 7 * 512  # avgpool

    def test_c_has_1x1_convolutions_as_the_last_of_its_later_blocks(self):
        kernels = [row.kernel[0] for row in rows("vgg16_c", "Conv2d")]
        assert kernels == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]


class TestGoogLeNet:
    def block(self, name: str) -> nn.Module:
        return _on_meta("googlenet").get_submodule(f"inception{name}")

    def weights(self, name: str, kernel: int) -> int:
        """Of a block's convolutions, if its third branch ended in `kernel` x `kernel`."""
        total = 0
        for path, module in self.block(name).named_modules():
            if isinstance(module, nn.Conv2d):
                window = kernel * kernel if path == "branch3.1.conv" else math.prod(module.kernel_size)
                total += module.in_channels * module.out_channels * window
        return total

    def test_its_maps_are_those_of_table_1(self):
        assert map_of(ends("googlenet", "conv1.conv")) == (112, 112, 64)
        assert map_of(ends("googlenet", "conv3.conv")) == (56, 56, 192)
        for name, (output, _, _) in TABLE_1.items():
            network = _on_meta("googlenet").eval()
            found = {}
            network.get_submodule(f"inception{name}").register_forward_hook(
                lambda _, __, out, found=found: found.update(shape=tuple(out.shape))
            )
            network(torch.empty(1, 3, 224, 224, device="meta"))
            _, channels, height, width = found["shape"]
            assert (height, width, channels) == output, name

    @pytest.mark.parametrize("name", TABLE_1)
    def test_each_block_costs_the_operations_of_table_1_when_its_5x5_branch_is_5x5(self, name):
        """All but 5a: its 54 M (and 1072 K) do not follow from the filters in the same row, which give 51 M."""
        (height, width, _), _, millions = TABLE_1[name]
        found = self.weights(name, 5) * height * width / 1e6
        assert found == pytest.approx(51.1 if name == "5a" else millions, abs=1)

    @pytest.mark.parametrize("name", TABLE_1)
    def test_each_block_has_the_parameters_of_table_1_in_units_of_1024(self, name):
        """Four rows of the table do not follow from their own filters: 4c gives 497, 4d 590, 5a 1018, 5b 1409."""
        _, thousands, _ = TABLE_1[name]
        slips = {"4c": 497.5, "4d": 590.5, "5a": 1018, "5b": 1409}
        assert self.weights(name, 5) / 1024 == pytest.approx(slips.get(name, thousands), rel=0.01)

    def test_torchvisions_5x5_branch_is_3x3_so_its_blocks_are_smaller_than_the_papers(self):
        assert self.block("3a").branch3[1].conv.kernel_size == (3, 3)
        assert self.weights("3a", 3) == 155_136 < self.weights("3a", 5) == 163_328
        held = sum(m.weight.numel() for m in self.block("3a").modules() if isinstance(m, nn.Conv2d))
        assert held == self.weights("3a", 3)
        assert any("3x3" in departure for departure in registry.get("googlenet").departures)

    def test_the_second_convolution_costs_360_million_and_the_first_more_than_the_34_printed(self):
        """112 K and 360 M come out for the 3x3 stage; 2.7 K and 34 M for 7x7x3x64 are slips: 9.2 K and 118 M."""
        second = ends("googlenet", "conv2.conv").multiply_adds + ends("googlenet", "conv3.conv").multiply_adds
        assert round(second / 1e6) == 360
        assert round(ends("googlenet", "conv1.conv").multiply_adds / 1e6) == 118


class TestInceptionV2:
    def test_its_maps_are_those_of_figure_5(self):
        network, found = _on_meta("inception_v2").eval(), {}
        for name in FIGURE_5:
            network.get_submodule(f"features.inception{name}").register_forward_hook(
                lambda _, __, out, name=name: found.update({name: (out.shape[2], out.shape[1])})
            )
        network(torch.empty(1, 3, 224, 224, device="meta"))
        assert found == FIGURE_5


class TestResNet:
    def layers(self, name: str) -> int:
        """Depth as the papers count: convolutions on the main path and full connections."""
        network = _on_meta(name)
        return sum(
            isinstance(m, nn.Conv2d | nn.Linear) for path, m in network.named_modules() if "downsample" not in path
        )

    def test_resnet_152_is_8_times_as_deep_as_vgg_19_and_takes_fewer_operations(self):
        assert (self.layers("resnet152"), self.layers("vgg19")) == (152, 19)
        assert table("resnet152").multiply_adds < table("vgg16").multiply_adds < table("vgg19").multiply_adds

    @pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
    def test_each_has_as_many_layers_as_its_name_says(self, depth):
        assert self.layers(f"resnet{depth}") == depth

    @pytest.mark.parametrize(("depth", "billions"), [(18, 1.8), (34, 3.6), (101, 7.6), (152, 11.3)])
    def test_each_costs_the_operations_of_the_papers_table_1(self, depth, billions):
        """Within 3 %, but for ResNet-50: its stride in the 3x3 convolutions (v1.5) costs 4.1 where it says 3.8."""
        assert table(f"resnet{depth}").multiply_adds / 1e9 == pytest.approx(billions, rel=0.03)


class TestMobileNet:
    def cost(self, *layers: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            nn.Sequential(*layers)(torch.rand(1, 3, 6, 6))
        return counter.get_total_flops() // 2

    def test_the_example_of_6x6x3_to_4x4x5_costs_432_and_240_multiplications_against_2160(self):
        depthwise, pointwise = nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 5, 1)
        both = self.cost(depthwise, pointwise)
        assert self.cost(depthwise) == 432
        assert both - 432 == 240
        assert both == 672
        assert self.cost(nn.Conv2d(3, 5, 3)) == 2_160
        assert both / 2_160 == pytest.approx(1 / 5 + 1 / 3**2)

    @pytest.mark.parametrize("block", range(1, 14))
    def test_every_block_costs_1_over_c_plus_1_over_f_squared_of_a_full_convolution(self, block):
        depthwise = ends("mobilenet_v1", f"features.{block}.depthwise.conv")
        pointwise = ends("mobilenet_v1", f"features.{block}.pointwise.conv")
        height, width, filters = map_of(pointwise)
        full = height * width * filters * map_of(depthwise)[2] * 9
        assert (depthwise.multiply_adds + pointwise.multiply_adds) / full == pytest.approx(1 / filters + 1 / 9)

    def test_a_quarter_of_the_width_has_475_544_values_in_its_weight_file(self):
        network = registry.build("mobilenet_v1_025")
        values = {n: v.numel() for n, v in network.state_dict().items() if not n.endswith("num_batches_tracked")}
        assert sum(values.values()) == 475_544

    @pytest.mark.parametrize(
        ("name", "madds", "millions"),
        [("", 569, 4.2), ("_075", 325, 2.6), ("_050", 149, 1.3), ("_025", 41, 0.5)],
    )
    def test_each_width_costs_what_the_papers_table_6_says(self, name, madds, millions):
        assert table(f"mobilenet_v1{name}").multiply_adds / 1e6 == pytest.approx(madds, abs=0.6)
        assert round(table(f"mobilenet_v1{name}").parameters / 1e6, 1) == millions


def test_nin_has_the_29_megabytes_that_its_authors_give():
    assert round(table("nin").parameters * 4 / 2**20) == 29


def test_maxouts_maps_are_33_and_15_wide_as_its_authors_configuration_says():
    """`partial_sum: 33` and `15` in their files only fit with pools that take the windows at the edge."""
    assert [map_of(row)[:2] for row in rows("maxout", "Conv2d")] == [(33, 33), (15, 15), (9, 9)]
