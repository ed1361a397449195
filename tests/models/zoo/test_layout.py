"""Networks taken apart: backbone and head, stages, classifiers, first convolution."""

import pytest
import torch
from torch import nn

from models.errors import InvalidArchitecture
from models.zoo import registry
from models.zoo.layout import (
    classifiers,
    logits_of,
    replace_first_convolution,
    replace_head,
    split_network,
    stages,
)

# One of each family with a layout of its own; the slow tests go over the whole registry.
NAMES = (
    "lenet5", "alexnet_2012", "zfnet", "nin", "nin_cifar", "maxout", "inception_v2", "mobilenet_v1_025", "convnet",
    "alexnet", "googlenet", "inception_v3", "resnet18", "squeezenet1_1", "densenet121", "mobilenet_v2",
    "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny",
    "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t", "timm/resnet18", "timm/vit_tiny_patch16_224",
    "timm/convnext_atto",
)  # fmt: skip


def size_for(name: str) -> int:
    takes = registry.get(name).input
    return takes.size if takes.fixed else max(takes.minimum, min(takes.size, 64))


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_the_backbones_features_is_the_network(name):
    network = registry.build(name, 5).eval()
    image = torch.rand(2, 3, size_for(name), size_for(name))
    backbone, head = split_network(network)
    with torch.no_grad():
        expected, features = network(image), backbone.eval()(image)
        assert torch.equal(head(features), expected)
    if name.startswith(("nin", "squeezenet")):
        assert features.dim() == 4
    else:
        assert isinstance(head, nn.Linear)
        assert features.shape == (2, head.in_features)


@pytest.mark.parametrize("name", NAMES)
def test_stages_and_heads_hold_every_parameter_once(name):
    network = registry.build(name, 5)
    layout = registry.get(name).layout
    parts = [
        *stages(network),
        split_network(network).head,
        *(network.get_submodule(path) for path in layout.auxiliary),
    ]
    held = [p for part in parts for p in part.parameters()]
    assert len({id(p) for p in held}) == len(held)
    left = [n for n, p in network.named_parameters() if id(p) not in {id(q) for q in held}]
    # A transformer's class token, positions and patches belong to no block.
    beginnings = ("class_token", "conv_proj", "encoder.pos_embedding", "cls_token", "pos_embed")
    assert all(name.startswith(beginnings) for name in left), left
    assert len(stages(network)) >= 3


def test_stages_begin_where_the_resolution_falls():
    network = registry.build("resnet18", 5)
    names = {id(module): name for name, module in network.named_modules()}
    assert [[names[id(m)] for m in stage] for stage in stages(network)] == [
        ["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"],
    ]  # fmt: skip


def test_training_the_head_alone_trains_the_network():
    network = registry.build("lenet5", 3).eval()
    backbone, head = split_network(network)
    labels = torch.arange(12) % 3
    images = torch.rand(12, 3, 32, 32) + labels.reshape(-1, 1, 1, 1)
    with torch.no_grad():
        features = backbone(images)
        before = nn.functional.cross_entropy(network(images), labels)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), labels).backward()
        optimizer.step()
    assert nn.functional.cross_entropy(network(images), labels) < before - 0.01


def test_splitting_leaves_the_network_whole():
    network = registry.build("mobilenet_v2", 5)
    before = [name for name, _ in network.named_modules()]
    split_network(network)
    assert [name for name, _ in network.named_modules()] == before
    assert isinstance(network.classifier[1], nn.Linear)


@pytest.mark.parametrize("name", ["lenet5", "googlenet", "inception_v3", "squeezenet1_1", "nin_cifar", "maxvit_t"])
def test_a_new_head_serves_another_class_count_in_all_classifiers(name):
    network = replace_head(registry.build(name, 5), 9)
    size = size_for(name)
    with torch.no_grad():
        assert network.eval()(torch.rand(2, 3, size, size)).shape == (2, 9)
    counts = {
        m.out_features if isinstance(m, nn.Linear) else m.out_channels for m in classifiers(network).values()
    }
    assert counts == {9}


def test_auxiliary_heads_answer_while_training_only():
    network = registry.build("googlenet", 4)
    image = torch.rand(2, 3, 96, 96)
    output = network.train()(image)
    assert len(output) == 3
    assert logits_of(output).shape == (2, 4)
    assert isinstance(network.eval()(image), torch.Tensor)


def test_a_first_convolution_for_other_channels_keeps_its_shape():
    network = registry.build("resnet18", 5)
    replace_first_convolution(network, 4)
    assert network.conv1.weight.shape == (64, 4, 7, 7)
    assert network.conv1.bias is None
    with pytest.raises(InvalidArchitecture, match="no convolution"):
        replace_first_convolution(nn.Linear(1, 1), 4)


def test_a_head_that_is_a_convolution_on_the_pooled_map_takes_features_all_the_same():
    network = registry.build("timm/dla46_c", 5).eval()
    image = torch.rand(2, 3, 64, 64)
    backbone, head = split_network(network)
    with torch.no_grad():
        features = backbone.eval()(image)
        assert features.shape == (2, 256)
        assert torch.equal(head(features), network(image))


def test_a_network_that_answers_by_several_heads_is_not_taken_apart():
    network = registry.build("timm/levit_128s", 5)
    with pytest.raises(InvalidArchitecture, match="does not classify by one head"):
        split_network(network)
    assert set(classifiers(network)) == {"head.linear", "head_dist.linear"}
    assert replace_head(network, 9).eval()(torch.rand(2, 3, 224, 224)).shape == (2, 9)


def test_stages_of_a_timm_network_without_timms_grouping_begin_where_the_resolution_falls():
    network = registry.build("timm/pit_ti_224", 5)
    assert len(stages(network)) >= 2
    head = {id(p) for p in split_network(network).head.parameters()}
    assert not head & {id(p) for stage in stages(network) for p in stage.parameters()}
