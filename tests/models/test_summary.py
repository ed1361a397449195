"""The layer table against what the libraries publish, and in its three forms."""

import json

import pytest
import torch
import torchvision
from torch import nn

from models.errors import InvalidArchitecture, UnknownArchitecture
from models.layer_table import NetworkSummary
from models.summary import summarize, summarize_architecture
from models.zoo import registry
from models.zoo.catalogue import describe
from models.zoo.receptive_field import ReceptiveFields, field_of, mark_image

QUICK = (
    "squeezenet1_1",
    "resnet18",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "vit_b_32",
    "swin_t",
    "inception_v3",
)


def published(name: str, size: int) -> dict[str, float]:
    """What torchvision says of a network at an image size: parameters, and operations in units of 1e9."""
    for weights in torchvision.models.get_model_weights(name):
        if weights.transforms().crop_size == [size]:
            return {"parameters": weights.meta["num_params"], "operations": weights.meta["_ops"]}
    raise LookupError(f"torchvision publishes nothing of {name} at {size}")


@pytest.mark.parametrize("name", QUICK)
def test_parameters_and_multiply_adds_are_those_that_torchvision_publishes(name):
    size = registry.get(name).input.size
    summary, said = summarize_architecture(name), published(name, size)
    assert summary.parameters == said["parameters"]
    assert summary.multiply_adds / 1e9 == pytest.approx(said["operations"], abs=0.002, rel=0.001)


@pytest.mark.parametrize("name", [n for n in registry.names() if registry.get(n).source == "torchvision"])
def test_the_catalogues_totals_are_those_that_torchvision_publishes(name):
    totals = describe(name)["totals"]
    said = published(name, totals["input"][-1])
    without = totals["auxiliary_parameters"] if name == "googlenet" else 0  # torchvision leaves its heads out
    assert totals["parameters"] - without == said["parameters"]
    assert totals["multiply_adds"] / 1e9 == pytest.approx(said["operations"], abs=0.002, rel=0.001)


@pytest.mark.parametrize("name", [*QUICK, "googlenet", "maxout", "nin", "maxvit_t", "convnext_tiny"])
def test_the_rows_hold_every_parameter_once(name):
    summary = summarize_architecture(name)
    assert sum(row.parameters for row in summary.layers) == summary.parameters


def test_a_batch_multiplies_shapes_memory_and_multiply_adds_but_no_parameters():
    one, eight = summarize_architecture("resnet18"), summarize_architecture("resnet18", batch=8)
    assert eight.layers[0].output == (8, 64, 112, 112)
    assert eight.memory_bytes == 8 * one.memory_bytes
    assert eight.multiply_adds == 8 * one.multiply_adds
    assert eight.parameters == one.parameters


def test_memory_is_that_of_a_real_forward_pass():
    """Outputs of the layers as float32, and none for layers that work in place."""
    network = registry.build("alexnet_2012", 10).eval()
    sizes: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.LocalResponseNorm | nn.Linear):
            module.register_forward_hook(lambda _, __, out: sizes.append(out.nbytes))
    with torch.no_grad():
        network(torch.rand(1, 3, 227, 227))
    assert summarize_architecture("alexnet_2012", num_classes=10).memory_bytes == sum(sizes)


def test_receptive_fields_are_those_that_are_known_for_vgg_and_resnet():
    vgg = {row.name: row.receptive_field for row in summarize_architecture("vgg16").layers}
    assert vgg["features.0"] == (3, 3)
    assert vgg["features.28"] == (196, 196)
    assert vgg["features.30"] == (212, 212)
    assert vgg["classifier.0"] == (404, 404)
    resnet = {row.name: row.receptive_field for row in summarize_architecture("resnet50").layers}
    assert resnet["layer4.2.bn3"] == (427, 427)


def test_a_receptive_field_is_the_window_whose_change_is_felt():
    """Against the truth: the pixels of the image that the middle value's gradient reaches."""
    for name, size in (("inception_v2", 224), ("shufflenet_v2_x0_5", 224)):
        network = registry.build(name).eval()
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.05)
        stage = {"inception_v2": "features.inception3b", "shufflenet_v2_x0_5": "stage2.3"}[name]
        image = torch.rand(1, 3, size, size, requires_grad=True)
        mark_image(image)
        seen = {}
        network.get_submodule(stage).register_forward_hook(lambda _, __, out, seen=seen: seen.update(out=out))
        with ReceptiveFields():
            network(image)
        out = seen["out"]
        middle = out.shape[-1] // 2
        (gradient,) = torch.autograd.grad(out[0, :, middle, middle].sum(), image)
        touched = gradient[0].abs().sum(0).nonzero()
        extent = (touched.max(0).values - touched.min(0).values + 1).tolist()
        field = field_of(out)
        assert field is not None
        assert all(real <= claimed for real, claimed in zip(extent, field.size, strict=True))
        assert extent[0] >= 0.8 * field.size[0]  # maxima hide some of the edge


def test_attention_has_no_receptive_field_and_its_products_are_counted_outside_the_layers():
    summary = summarize_architecture("vit_b_32")
    assert summary.layers[0].receptive_field == (32, 32)
    assert summary.layers[-1].receptive_field is None
    assert summary.outside_multiply_adds > 0
    counted = sum(row.multiply_adds for row in summary.layers)
    assert counted + summary.outside_multiply_adds == summary.multiply_adds


def test_auxiliary_heads_are_listed_without_output_and_counted_apart():
    summary = summarize_architecture("googlenet")
    auxiliary = [row for row in summary.layers if row.name.startswith("aux")]
    assert auxiliary
    assert all(row.output is None and row.multiply_adds == 0 for row in auxiliary)
    assert sum(row.parameters for row in auxiliary) == summary.auxiliary_parameters
    assert summary.parameters - summary.auxiliary_parameters == 6_624_904


def test_summarizing_leaves_the_network_as_it_was():
    network = registry.build("lenet5").train()
    summarize(network, 32)
    assert network.training
    assert all(p.device.type == "cpu" for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_grey_images_and_other_sizes_and_class_counts():
    summary = summarize_architecture("mobilenet_v1", 128, 2, num_classes=5, channels=1)
    assert summary.input == (2, 1, 128, 128)
    assert summary.layers[-1].output == (2, 5)


def test_a_size_that_the_network_does_not_take_is_refused_with_the_reason():
    with pytest.raises(InvalidArchitecture, match=r"227x227 images only, got 224x224.*6x6"):
        summarize_architecture("alexnet_2012", 224)
    with pytest.raises(UnknownArchitecture):
        summarize_architecture("resnet19")


def test_the_table_as_text_markdown_and_json():
    summary = summarize_architecture("lenet5", num_classes=10)
    text = summary.to_text()
    assert "features.0  Conv2d" in text
    assert "456" in text
    assert "parameters: 62,006" in text
    markdown = summary.to_markdown().splitlines()
    assert markdown[1].count("---") == 10
    assert len([line for line in markdown if line.startswith("|")]) == 2 + len(summary.layers)
    values = json.loads(summary.to_json())
    assert values["layers"][0]["output"] == [1, 6, 28, 28]
    assert NetworkSummary.from_dict(values) == summary
