"""The everyday subset of what `test_registry_slow` proves of every architecture."""

import pytest
import torch
from support.zoo import CLASSES, check_export, check_round_trip, check_training_step, real_images

from models.zoo import registry

SMALL = {"lenet5": 32, "mobilenet_v1_025": 96, "convnet": 32, "nin_cifar": 32, "squeezenet1_1": 64}
TRAINED = {**SMALL, "googlenet": 96, "inception_v2": 64, "maxout": 32, "resnet18": 64, "timm/resnet18": 64}


@pytest.mark.parametrize("name", TRAINED)
def test_it_learns_from_one_step_and_keeps_its_weights(name, tmp_path):
    torch.manual_seed(0)
    images = real_images(TRAINED[name])
    network = registry.build(name, CLASSES)
    check_training_step(network, images)
    check_round_trip(network, tmp_path, images)


@pytest.mark.parametrize("name", ["lenet5", "nin_cifar"])
def test_it_exports_and_passes_the_parity_gate(name, tmp_path):
    torch.manual_seed(0)
    size = SMALL[name]
    images = real_images(size)
    check_export(registry.build(name, CLASSES), tmp_path, size, images)


@pytest.mark.slow
def test_auxiliary_heads_vanish_in_the_export(tmp_path):
    import onnx

    torch.manual_seed(0)
    network = registry.build("googlenet", CLASSES).train()
    images = real_images(64)
    check_export(network, tmp_path, 64, images)
    held = {tensor.name for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert not [name for name in held if "aux" in name]
    assert len(network.train()(torch.rand(2, 3, 64, 64))) == 3
