"""The pattern language, and networks made from it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.errors import InvalidArchitecture
from models.zoo import registry
from models.zoo.pattern import MAX_LAYERS, parse


def names(pattern: str) -> list[str]:
    return [step.name for step in parse(pattern)]


def kinds(network: nn.Module) -> list[str]:
    flat = [*network.features, *network.neck, network.head]
    return [type(m).__name__ for m in flat if not isinstance(m, nn.Flatten)]


def build(pattern: str, **params) -> nn.Module:
    return registry.build("convnet", 5, pattern=pattern, **params)


def test_repetition_is_written_out():
    assert names("INPUT -> [[CONV -> RELU]*2 -> POOL]*2 -> [FC -> RELU]*1 -> FC") == [
        "INPUT",
        *["CONV", "RELU", "CONV", "RELU", "POOL"] * 2,
        "FC",
        "RELU",
        "FC",
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("INPUT -> FC", ["INPUT", "FC"]),
        ("input->conv→relu -> fc", ["INPUT", "CONV", "RELU", "FC"]),
        ("INPUT -> [CONV -> RELU] -> FC", ["INPUT", "CONV", "RELU", "FC"]),
        ("INPUT -> [CONV -> RELU]*0 -> [FC -> RELU]*2 -> FC", ["INPUT", "FC", "RELU", "FC", "RELU", "FC"]),
        ("INPUT\n -> [[[CONV]*1]*2]*1\n -> FC", ["INPUT", "CONV", "CONV", "FC"]),
    ],
)
def test_what_parses(pattern, expected):
    assert names(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "character", "said"),
    [
        ("", 1, "ends where a layer"),
        ("CONV -> FC", 1, "begins with INPUT"),
        ("INPUT -> CONV", 10, "ends with FC"),
        ("INPUT -> CONV -> INPUT -> FC", 18, "INPUT cannot follow CONV"),
        ("INPUT -> FC -> CONV -> FC", 16, "CONV cannot follow FC"),
        ("INPUT -> RELU -> FC", 10, "RELU cannot follow INPUT"),
        ("INPUT -> [CONV -> RELU]*2 -> POOL? -> FC", 30, "write POOL, or leave it out"),
        ("INPUT -> [CONV -> RELU -> FC", 29, "expected for the [ at character 10"),
        ("INPUT -> CONV] -> FC", 14, "expected -> or the end"),
        ("INPUT -> [CONV]*x -> FC", 17, "expected a number after *"),
        ("INPUT -> [CONV]* -> FC", 18, "expected a number after *"),
        ("INPUT -> CONV CONV -> FC", 15, "expected -> or the end"),
        ("INPUT -> DROPOUT -> FC", 10, "expected INPUT, CONV, RELU, POOL, FC"),
        ("INPUT -> ; -> FC", 10, "no meaning"),
        ("INPUT -> [CONV]*99999999999999999999 -> FC", 17, f"more than {MAX_LAYERS} layers"),
        ("INPUT -> " + "[" * 40, 30, "brackets inside each other"),
    ],
)
def test_what_does_not_parse_is_refused_with_its_place(pattern, character, said):
    with pytest.raises(InvalidArchitecture) as error:
        parse(pattern)
    text = str(error.value)
    assert said in text
    assert f"at character {character}:" in text
    _, shown, arrow = text.split("\n")
    start = max(0, character - 1 - 70)
    assert arrow.index("^") - 2 == character - 1 - start
    assert shown[2:] == pattern[start : character - 1 + 70].replace("\n", " ")


@given(st.text("INPUTCOVRELFC[]*->0123 ?", max_size=60))
def test_any_text_parses_or_is_refused(text):
    try:
        steps = parse(text)
    except InvalidArchitecture:
        return
    assert steps[0].name == "INPUT"
    assert steps[-1].name == "FC"


def test_a_network_has_the_layers_of_its_pattern():
    network = build("INPUT -> [CONV -> RELU -> POOL]*2 -> [FC -> RELU]*1 -> FC")
    assert kinds(network) == ["Conv2d", "ReLU", "MaxPool2d"] * 2 + ["Linear", "ReLU", "Linear"]
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_values_for_each_layer_are_taken_in_the_order_of_the_pattern():
    network = build(
        "INPUT -> [CONV -> RELU]*2 -> POOL -> [FC -> RELU]*2 -> FC",
        filters=[8, 16], kernel=[5, 3], stride=[2, 1], padding=[2, 0], pool_kernel=3, pool_stride=1,
        units=[40, 20], input_size=21,
    )  # fmt: skip
    first, second = (m for m in network.features if isinstance(m, nn.Conv2d))
    assert (first.out_channels, first.kernel_size, first.stride, first.padding) == (8, (5, 5), (2, 2), (2, 2))
    assert (second.out_channels, second.kernel_size, second.stride, second.padding) == (16, (3, 3), (1, 1), (0, 0))
    assert [m.out_features for m in network.neck if isinstance(m, nn.Linear)] == [40, 20]
    assert network(torch.rand(1, 3, 21, 21)).shape == (1, 5)


def test_filters_double_after_every_pool_by_default():
    network = build("INPUT -> [CONV -> RELU -> POOL]*6 -> FC", input_size=64)
    assert [m.out_channels for m in network.features if isinstance(m, nn.Conv2d)] == [32, 64, 128, 256, 512, 512]


def test_a_3x3_filter_at_stride_3_on_a_7x7_input_gives_233_and_is_refused():
    with pytest.raises(InvalidArchitecture) as error:
        build("INPUT -> CONV -> RELU -> FC", kernel=3, stride=3, padding=0, input_size=7)
    text = str(error.value)
    assert "CONV 1 does not fit the 7x7 map" in text
    assert "(N - F + 2P)/S + 1 = (7 - 3 + 2*0)/3 + 1 = 2.33, which is no whole number" in text
    assert "at character 10" in text


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_same_filter_fits_at_strides_that_divide(stride):
    assert build("INPUT -> CONV -> FC", kernel=3, stride=stride, padding=0, input_size=7) is not None


def test_a_pool_that_leaves_a_rest_is_refused():
    with pytest.raises(InvalidArchitecture, match=r"POOL 2 does not fit the 7x7 map.* = 3\.50"):
        build("INPUT -> [CONV -> POOL]*2 -> FC", input_size=14)


def test_a_window_larger_than_its_map_is_refused():
    with pytest.raises(InvalidArchitecture, match=r"POOL 6 does not fit the 1x1 map.*larger than the padded map"):
        build("INPUT -> [CONV -> POOL]*6 -> FC", input_size=32)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"filters": [8, 8, 8]}, "filters has 3 values for 2 CONV layers; give one number or 2"),
        ({"kernel": 0}, "kernel holds 0, expected whole numbers 1 to"),
        ({"padding": -1}, "padding holds -1, expected whole numbers 0 to"),
        ({"units": "many"}, "units is 'many', expected a whole number or a list"),
        ({"stride": [1, True]}, "stride holds True"),
        ({"filters": [8, 1.5]}, r"filters holds 1\.5"),
        ({"input_size": 0}, "input_size holds 0"),
        ({"pattern": 5}, "pattern is 5, expected text"),
    ],
)
def test_values_that_are_no_sizes_are_refused(params, said):
    pattern = params.pop("pattern", "INPUT -> [CONV -> RELU]*2 -> FC -> FC")
    with pytest.raises(InvalidArchitecture, match=said):
        build(pattern, **params)


def test_a_network_too_large_to_build_is_refused_before_it_takes_memory():
    with pytest.raises(InvalidArchitecture, match=r"makes? [\d,]+ parameters, at most 300,000,000"):
        build("INPUT -> CONV -> FC -> FC", filters=4096, units=65_536, input_size=1024)
