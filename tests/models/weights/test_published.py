"""What is published: torchvision's enums, Keras' files, timm's hub."""

import pytest

from models.errors import UnknownArchitecture
from models.spec import Preprocessing
from models.weights.labels import imagenet_labels
from models.weights.published import resolve, sources
from models.weights.torchvision_enums import torchvision_sources
from models.zoo import registry

TORCHVISION = [name for name in registry.names() if registry.get(name).source == "torchvision"]


def test_every_torchvision_classifier_has_weights_with_a_checksum_labels_and_accuracy():
    for name in TORCHVISION:
        published = torchvision_sources(name)
        assert published, name
        assert sum(source.default for source in published) == 1, name
        for source in published:
            assert len(source.labels) == source.num_classes == 1000
            assert len(source.checksum.sha256_prefix or "") >= 8, source.url
            assert source.url.startswith("https://download.pytorch.org/models/")
            assert 40 < source.metrics["acc@1"] < 90


def test_imagenet_is_the_default_and_names_are_told_apart_without_regard_to_case():
    assert resolve("resnet50").name == "imagenet1k_v2"
    assert resolve("resnet50", "IMAGENET1K_V1").name == "imagenet1k_v1"
    assert resolve("mobilenet_v1_025").filename == "mobilenet_2_5_224_tf.h5"


def test_the_preprocessing_of_torchvision_travels_with_the_weights():
    assert resolve("resnet50", "imagenet1k_v1").preprocessing == Preprocessing(224, 224, 256)
    assert resolve("resnet50", "imagenet1k_v2").preprocessing.resize == 232
    assert resolve("efficientnet_b0").preprocessing.interpolation == "bicubic"


@pytest.mark.parametrize(("name", "size"), [("googlenet", 224), ("inception_v3", 299)])
def test_networks_trained_on_minus_one_to_one_say_so(name, size):
    """torchvision renormalises inside these two; here the preprocessing gives what it computes."""
    preprocessing = resolve(name).preprocessing
    assert preprocessing.height == size
    assert (preprocessing.mean, preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)


def test_torchvisions_renormalisation_equals_the_preprocessing():
    import torch

    network = registry.build("googlenet", 10)
    network.transform_input = True
    pixels = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (Preprocessing().mean, Preprocessing().std))
    inside = network._transform_input((pixels - mean) / std)
    assert torch.allclose(inside, (pixels - 0.5) / 0.5, atol=1e-6)


def test_the_labels_are_torchvisions_and_all_different():
    assert imagenet_labels() == resolve("resnet18").labels
    assert len(set(imagenet_labels())) == 1000


def test_only_the_checksum_that_was_seen_is_given_for_keras_files():
    known = {source.architecture: source.checksum.sha256 for n in registry.names() for source in _keras(n)}
    assert [name for name, sha256 in known.items() if sha256] == ["mobilenet_v1_025"]
    assert len(known) == 4


def _keras(name):
    return [source for source in sources(name) if source.origin == "keras"]


def test_timms_weights_are_found_by_tag_with_licence_and_preprocessing():
    by_name = {source.name: source for source in sources("timm/resnet18")}
    assert by_name["a1_in1k"].default
    assert by_name["a1_in1k"].preprocessing.resize == 235
    assert by_name["fb_swsl_ig1b_ft_in1k"].licence == "cc-by-nc-4.0"
    assert resolve("timm/vit_base_patch16_224", "augreg_in21k").labels[0] != imagenet_labels()[0]


def test_a_tag_in_the_architecture_is_refused_with_the_right_way_to_say_it():
    with pytest.raises(UnknownArchitecture, match="the architecture is timm/resnet18, its weights are 'a1_in1k'"):
        sources("timm/resnet18.a1_in1k")


def test_an_architecture_without_weights_has_none():
    assert sources("lenet5") == []
