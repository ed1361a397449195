"""Every classifier of torchvision under its own name, with what torchvision does not carry: paper and layout.

Networks are built untrained; weights are `models.weights`' business.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torchvision
from torch import nn

from models.errors import InvalidArchitecture
from models.zoo.architecture import Architecture, InputSize, Layout, Paper
from models.zoo.layout import replace_first_convolution
from models.zoo.registry import register

ANY_SIZE = InputSize(224)
FIVE_HALVINGS = "the resolution is halved five times"
DROPOUT = {"dropout": "probability before the classifier"}


@dataclass(frozen=True)
class TorchvisionFamily:
    """What is alike in all names that match `pattern`."""

    pattern: str
    family: str
    paper: Paper
    layout: Layout
    input: InputSize = ANY_SIZE
    parameters: Mapping[str, str] = field(default_factory=dict)
    departures: tuple[str, ...] = ()


FAMILIES = (
    TorchvisionFamily(
        r"alexnet",
        "AlexNet",
        Paper(
            "One weird trick for parallelizing convolutional neural networks",
            2014,
            "https://arxiv.org/abs/1404.5997",
        ),
        Layout("classifier.6", ("features.*", "avgpool", "classifier.*")),
        InputSize(224, minimum=63, reason="its pools need at least 63 pixels"),
        DROPOUT,
        (
            "the one-tower AlexNet of 2014: 64 first filters and no local response normalisation; "
            "`alexnet_2012` is the one of 2012",
        ),
    ),
    TorchvisionFamily(
        r"vgg\d+(_bn)?",
        "VGG",
        Paper(
            "Very Deep Convolutional Networks for Large-Scale Image Recognition",
            2014,
            "https://arxiv.org/abs/1409.1556",
        ),
        Layout("classifier.6", ("features.*", "avgpool", "classifier.*")),
        InputSize(224, minimum=32, reason=FIVE_HALVINGS),
        DROPOUT,
        ("an adaptive average pool before the first full connection allows sizes other than 224x224",),
    ),
    TorchvisionFamily(
        r"googlenet",
        "Inception",
        Paper("Going Deeper with Convolutions", 2014, "https://arxiv.org/abs/1409.4842"),
        Layout("fc", ("*",), auxiliary=("aux1", "aux2")),
        ANY_SIZE,
        {
            **DROPOUT,
            "dropout_aux": "probability in the auxiliary classifiers",
            "aux_logits": "auxiliary classifiers while training, default true",
        },
        (
            "batch normalisation follows every convolution and replaces the paper's local response normalisation",
            "the 5x5 branches are 3x3 convolutions, a known slip of torchvision's that its weights depend on",
            "dropout before the classifier is 0.2 where the paper has 0.4",
        ),
    ),
    TorchvisionFamily(
        r"inception_v3",
        "Inception",
        Paper(
            "Rethinking the Inception Architecture for Computer Vision", 2015, "https://arxiv.org/abs/1512.00567"
        ),
        Layout("fc", ("*",), auxiliary=("AuxLogits",)),
        InputSize(299, minimum=75, reason="its unpadded convolutions and pools consume 75 pixels"),
        {**DROPOUT, "aux_logits": "an auxiliary classifier while training, default true"},
    ),
    TorchvisionFamily(
        r"resnet\d+",
        "ResNet",
        Paper("Deep Residual Learning for Image Recognition", 2015, "https://arxiv.org/abs/1512.03385"),
        Layout("fc", ("*",)),
        departures=("in bottlenecks the stride is in the 3x3 convolution, not in the first 1x1 (ResNet v1.5)",),
    ),
    TorchvisionFamily(
        r"resnext.*",
        "ResNeXt",
        Paper(
            "Aggregated Residual Transformations for Deep Neural Networks",
            2016,
            "https://arxiv.org/abs/1611.05431",
        ),
        Layout("fc", ("*",)),
    ),
    TorchvisionFamily(
        r"wide_resnet.*",
        "Wide ResNet",
        Paper("Wide Residual Networks", 2016, "https://arxiv.org/abs/1605.07146"),
        Layout("fc", ("*",)),
        departures=("only the inner 3x3 filters of ResNet's bottlenecks are widened, by two",),
    ),
    TorchvisionFamily(
        r"squeezenet.*",
        "SqueezeNet",
        Paper(
            "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
            2016,
            "https://arxiv.org/abs/1602.07360",
        ),
        Layout("classifier", ("features.*",), backbone="features"),
        InputSize(224, minimum=21, reason="its pools need at least 21 pixels"),
        DROPOUT,
    ),
    TorchvisionFamily(
        r"densenet\d+",
        "DenseNet",
        Paper("Densely Connected Convolutional Networks", 2016, "https://arxiv.org/abs/1608.06993"),
        Layout("classifier", ("features.*",)),
        InputSize(224, minimum=29, reason=FIVE_HALVINGS),
        {"drop_rate": "dropout after each dense layer, default 0"},
    ),
    TorchvisionFamily(
        r"mobilenet_v2",
        "MobileNet v2",
        Paper("MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, "https://arxiv.org/abs/1801.04381"),
        Layout("classifier.1", ("features.*",)),
        parameters={**DROPOUT, "width_mult": "multiplier of every layer's filters, default 1.0"},
    ),
    TorchvisionFamily(
        r"mobilenet_v3.*",
        "MobileNet v3",
        Paper("Searching for MobileNetV3", 2019, "https://arxiv.org/abs/1905.02244"),
        Layout("classifier.3", ("features.*", "classifier.*")),
        parameters=DROPOUT,
    ),
    TorchvisionFamily(
        r"shufflenet.*",
        "ShuffleNet v2",
        Paper(
            "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
            2018,
            "https://arxiv.org/abs/1807.11164",
        ),
        Layout("fc", ("*",)),
    ),
    TorchvisionFamily(
        r"mnasnet.*",
        "MNASNet",
        Paper(
            "MnasNet: Platform-Aware Neural Architecture Search for Mobile",
            2018,
            "https://arxiv.org/abs/1807.11626",
        ),
        Layout("classifier.1", ("layers.*",)),
        parameters=DROPOUT,
    ),
    TorchvisionFamily(
        r"efficientnet_b\d",
        "EfficientNet",
        Paper(
            "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
            2019,
            "https://arxiv.org/abs/1905.11946",
        ),
        Layout("classifier.1", ("features.*",)),
        parameters=DROPOUT,
    ),
    TorchvisionFamily(
        r"efficientnet_v2.*",
        "EfficientNet v2",
        Paper("EfficientNetV2: Smaller Models and Faster Training", 2021, "https://arxiv.org/abs/2104.00298"),
        Layout("classifier.1", ("features.*",)),
        parameters=DROPOUT,
    ),
    TorchvisionFamily(
        r"regnet.*",
        "RegNet",
        Paper("Designing Network Design Spaces", 2020, "https://arxiv.org/abs/2003.13678"),
        Layout("fc", ("stem", "trunk_output.*")),
    ),
    TorchvisionFamily(
        r"convnext.*",
        "ConvNeXt",
        Paper("A ConvNet for the 2020s", 2022, "https://arxiv.org/abs/2201.03545"),
        Layout("classifier.2", ("features.*", "classifier.*")),
        InputSize(224, minimum=32, reason=FIVE_HALVINGS),
    ),
    TorchvisionFamily(
        r"vit.*",
        "Vision Transformer",
        Paper(
            "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
            2020,
            "https://arxiv.org/abs/2010.11929",
        ),
        Layout("heads.head", ("encoder.layers.*", "encoder.ln"), grouping="quarters"),
        InputSize(
            224,
            fixed=True,
            reason="there is one trained position per patch; give image_size to build another",
            parameter="image_size",
        ),
        {**DROPOUT, "image_size": "height and width of the images, a multiple of the patch, default 224"},
    ),
    TorchvisionFamily(
        r"swin_v2.*",
        "Swin Transformer v2",
        Paper("Swin Transformer V2: Scaling Up Capacity and Resolution", 2021, "https://arxiv.org/abs/2111.09883"),
        Layout("head", ("features.*", "norm")),
        InputSize(256, minimum=32, reason=FIVE_HALVINGS),
        DROPOUT,
    ),
    TorchvisionFamily(
        r"swin_[tsb]",
        "Swin Transformer",
        Paper(
            "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
            2021,
            "https://arxiv.org/abs/2103.14030",
        ),
        Layout("head", ("features.*", "norm")),
        InputSize(224, minimum=32, reason=FIVE_HALVINGS),
        DROPOUT,
    ),
    TorchvisionFamily(
        r"maxvit.*",
        "MaxViT",
        Paper("MaxViT: Multi-Axis Vision Transformer", 2022, "https://arxiv.org/abs/2204.01697"),
        Layout("classifier.5", ("stem", "blocks.*", "classifier.*")),
        InputSize(
            224,
            fixed=True,
            reason="its partitions are sized for it; give input_size to build another",
            parameter="input_size",
        ),
        {"input_size": "height and width of the images, a multiple of 224, default 224"},
    ),
)


def _register_all() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        register(_entry(name), _builder(name))


def _entry(name: str) -> Architecture:
    facts = _family_of(name)
    return Architecture(
        name=name,
        family=facts.family,
        source="torchvision",
        year=facts.paper.year,
        paper=facts.paper,
        layout=facts.layout,
        input=_input_of(name, facts.input),
        parameters=facts.parameters,
        departures=facts.departures,
    )


def _input_of(name: str, family: InputSize) -> InputSize:
    """The family's rule at the size of the network's default weights: EfficientNet's grows from B0 to B7."""
    default = getattr(torchvision.models.get_model_weights(name), "DEFAULT", None)
    if family.fixed or default is None:
        return family
    size: int = default.transforms.keywords["crop_size"]
    return dataclasses.replace(family, size=size)


def _family_of(name: str) -> TorchvisionFamily:
    for facts in FAMILIES:
        if re.fullmatch(facts.pattern, name):
            return facts
    raise InvalidArchitecture(f"torchvision's {name} belongs to no family known here; add it to FAMILIES")


def _builder(name: str) -> Callable[..., nn.Module]:
    def build(num_classes: int, channels: int, **params: Any) -> nn.Module:
        if name in ("googlenet", "inception_v3"):
            params = {"aux_logits": True, "init_weights": True, **params}
        if name == "maxvit_t" and isinstance(size := params.get("input_size"), int):
            params = {**params, "input_size": (size, size)}
        try:
            network: nn.Module = torchvision.models.get_model(
                name, weights=None, num_classes=num_classes, **params
            )
        except (TypeError, ValueError, RuntimeError, AssertionError) as exc:
            raise InvalidArchitecture(f"torchvision cannot build {name} with {params}: {exc}") from exc
        replace_first_convolution(network, channels)
        return network

    return build


_register_all()
