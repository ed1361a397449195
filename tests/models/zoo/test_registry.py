"""The registry: names, refusals, and what every architecture must be able to do, on a cheap subset."""

import pytest
import torch
from torch import nn

from models.errors import InvalidArchitecture, UnknownArchitecture
from models.zoo import registry
from models.zoo.architecture import Architecture, Layout

OURS = [name for name in registry.names() if registry.get(name).source == "ours"]


def entry(name: str) -> Architecture:
    return Architecture(name, "Test", "ours", 2000, None, Layout("head"))


def test_every_name_of_the_design_is_there():
    resnets = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    vggs = [f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")]
    wanted = {
        "lenet5", "alexnet_2012", "alexnet", "zfnet", "vgg11_lrn", "vgg16_c", "nin", "maxout", "googlenet",
        "inception_v2", "inception_v3", "mobilenet_v1", "mobilenet_v1_075", "mobilenet_v1_050", "mobilenet_v1_025",
        "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "convnet", *vggs, *resnets,
    }  # fmt: skip
    assert wanted <= set(registry.names())


def test_every_classifier_of_torchvision_is_there():
    import torchvision

    assert set(torchvision.models.list_models(module=torchvision.models)) <= set(registry.names())


def test_names_are_sorted():
    assert registry.names() == sorted(registry.names())


def test_a_name_is_registered_once():
    with pytest.raises(InvalidArchitecture, match="lenet5 is registered twice"):
        registry.register(entry("lenet5"), nn.Identity)


def test_every_architecture_has_a_paper_and_every_one_of_ours_says_where_it_departs():
    for name in registry.names():
        found = registry.get(name)
        assert found.paper is not None
        assert found.paper.url.startswith("https://")
        assert found.year == found.paper.year
        if found.source == "ours" and name != "convnet":
            assert found.departures, name


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownArchitecture, match="did you mean resnet18"):
        registry.build("resnet81")
    with pytest.raises(UnknownArchitecture, match="timm/resnet18"):
        registry.build("timm/resnet81")


def test_an_unknown_parameter_is_answered_with_the_known_ones():
    with pytest.raises(InvalidArchitecture, match="lenet5 does not take depth; it takes: activation, pool"):
        registry.build("lenet5", depth=3)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("lenet5", {"activation": "gelu"}, "expected tanh or relu"),
        ("alexnet_2012", {"towers": 3}, "expected 1 or 2"),
        ("zfnet", {"widths": "wide"}, "table-2"),
        ("mobilenet_v1", {"width": 0}, "width is 0"),
        ("maxout", {"dropout_input": 1.0}, "dropout_input is 1.0"),
        ("vit_b_16", {"image_size": 225}, "torchvision cannot build vit_b_16"),
        ("timm/resnet18", {"depth": 3}, "timm cannot build resnet18"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_with_what_was_given(name, params, said):
    with pytest.raises(InvalidArchitecture, match=said):
        registry.build(name, **params)


@pytest.mark.parametrize("count", [{"num_classes": 0}, {"channels": 0}, {"num_classes": -3}])
def test_counts_below_one_are_refused(count):
    with pytest.raises(InvalidArchitecture, match="at least 1"):
        registry.build("lenet5", **count)


def test_a_network_remembers_what_it_was_built_from():
    made = registry.built(registry.build("lenet5", 7, 1, pool="max"))
    assert (made.architecture.name, made.num_classes, made.channels, made.params) == (
        "lenet5",
        7,
        1,
        {"pool": "max"},
    )
    with pytest.raises(InvalidArchitecture, match="Linear of unknown architecture"):
        registry.built(nn.Linear(1, 1))


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_of_ours_answers_for_any_class_count_in_grey_and_in_colour(name, channels):
    size = registry.get(name).input.size
    with torch.device("meta"):
        network = registry.build(name, 7, channels).eval()
        assert network(torch.empty(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", [n for n in OURS if not registry.get(n).input.fixed])
def test_the_smallest_size_that_each_of_ours_claims_works(name):
    size = registry.get(name).input.minimum
    with torch.device("meta"):
        network = registry.build(name, 3).eval()
        assert network(torch.empty(1, 3, size, size + 5)).shape == (1, 3)


@pytest.mark.parametrize("name", [n for n in OURS if registry.get(n).input.fixed])
def test_a_fixed_size_is_refused_otherwise_with_its_reason(name):
    found = registry.get(name)
    with pytest.raises(InvalidArchitecture, match=r"first full connection|C5|full maxout layer"):
        found.input.check(name, found.input.size + 1, found.input.size)
    found.input.check(name, found.input.size, found.input.size)


def test_sizes_below_the_minimum_and_off_the_grid_are_refused():
    with pytest.raises(
        InvalidArchitecture, match="at least 32x32, got 31x64: the resolution is halved five times"
    ):
        registry.get("vgg11").input.check("vgg11", 31, 64)


def test_a_parameter_can_set_the_size():
    takes = registry.get("vit_b_16").input.under({"image_size": 384})
    takes.check("vit_b_16", 384, 384)
    with pytest.raises(InvalidArchitecture, match="384x384 images only, got 224x224"):
        takes.check("vit_b_16", 224, 224)
    assert registry.build("maxvit_t", 2, input_size=448) is not None


def test_timms_networks_are_built_by_name():
    network = registry.build("timm/mobilenetv4_conv_small", 5, 1).eval()
    assert network(torch.rand(2, 1, 64, 64)).shape == (2, 5)
    assert registry.get("timm/vit_tiny_patch16_224").input.fixed


def test_lenet_in_the_papers_form_and_in_todays():
    paper = [type(m).__name__ for m in registry.build("lenet5").features]
    today = [type(m).__name__ for m in registry.build("lenet5", activation="relu", pool="max").features]
    assert paper == ["Conv2d", "Tanh", "AvgPool2d"] * 2
    assert today == ["Conv2d", "ReLU", "MaxPool2d"] * 2
