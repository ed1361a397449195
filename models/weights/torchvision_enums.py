"""torchvision's weight enums as weights sources. Downloads nothing."""

import math
import re
from typing import Any

import torchvision

from models.spec import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing
from models.weights.source import Checksum, WeightsSource

# torchvision's files end in the first digits of their sha256: resnet18-f37072fd.pth.
DIGITS = re.compile(r"-([0-9a-f]{8,64})\.")
HALF = (0.5, 0.5, 0.5)
# torchvision renormalises inside these networks from ImageNet's mean and deviation to [-1, 1], under which they
# were trained. Here the preprocessing says so instead, which is the same sum and also works in grey.
TRAINED_ON_MINUS_ONE_TO_ONE = ("googlenet", "inception_v3")
SWAG_LICENCE = "CC-BY-NC-4.0"
SIZED_BY_PARAMETER = {"vit": "image_size"}


def torchvision_sources(architecture: str) -> list[WeightsSource]:
    """Every published set of weights of a torchvision architecture that can classify; its default is marked."""
    enum = torchvision.models.get_model_weights(architecture)
    default = getattr(enum, "DEFAULT", None)
    # VGG-16's IMAGENET1K_FEATURES has no values in its full connections, so it fits the network and is useless.
    usable = [entry for entry in enum if entry.meta["categories"] is not None]
    return [_source(architecture, entry, entry is default) for entry in usable]


def _source(architecture: str, entry: Any, default: bool) -> WeightsSource:
    meta = entry.meta
    filename = entry.url.rpartition("/")[2]
    digits = DIGITS.search(filename)
    preprocessing = _preprocessing(architecture, entry.transforms())
    trained_on, accuracy = next(iter(meta["_metrics"].items()))
    size_mib = meta.get("_file_size")
    return WeightsSource(
        architecture=architecture,
        name=entry.name.lower(),
        origin="torchvision",
        filename=filename,
        url=entry.url,
        preprocessing=preprocessing,
        labels=tuple(meta["categories"]),
        num_classes=len(meta["categories"]),
        trained_on=trained_on.replace("ImageNet-1K", "ImageNet-1k"),
        checksum=Checksum(sha256_prefix=digits.group(1) if digits else None),
        licence=SWAG_LICENCE if "license" in meta else None,
        metrics=dict(accuracy),
        params=_params(architecture, preprocessing),
        size_bytes=math.floor(size_mib * 2**20) if size_mib else None,
        default=default,
        notes=tuple(text for text in (" ".join(meta.get("_docs", "").split()),) if text),
    )


def _preprocessing(architecture: str, transforms: Any) -> Preprocessing:
    (size,) = transforms.crop_size
    (resize,) = transforms.resize_size
    interpolation: Interpolation = transforms.interpolation.value
    half = architecture in TRAINED_ON_MINUS_ONE_TO_ONE
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if half and (mean, std) != (IMAGENET_MEAN, IMAGENET_STD):
        raise ValueError(f"torchvision changed the preprocessing of {architecture} to {mean}, {std}")
    return Preprocessing(
        height=size,
        width=size,
        resize=resize,
        interpolation=interpolation,
        mean=HALF if half else (mean[0], mean[1], mean[2]),
        std=HALF if half else (std[0], std[1], std[2]),
    )


def _params(architecture: str, preprocessing: Preprocessing) -> dict[str, Any]:
    """Vision transformers are built for one size; weights for another than 224 need that network."""
    for prefix, parameter in SIZED_BY_PARAMETER.items():
        if architecture.startswith(prefix) and preprocessing.height != 224:
            return {parameter: preprocessing.height}
    return {}
