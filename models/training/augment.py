"""Augmentation: from a stored canvas to the network's input. Knows no files and no labels.

Everything works on uint8 [3, height, width] and draws from torch's CPU generator; `mix` works on whole batches of
normalised floats.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from models.spec import Preprocessing
from models.training.recipe import Augmentation

Transform = Callable[[Tensor], Tensor]
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

GREY = [128, 128, 128]


class ColourPCA(v2.Transform):  # type: ignore[misc]  # torchvision ships no types
    """Adds to every pixel the principal colours, each by a random share of its strength (Krizhevsky et al. 2012).

    `axes` is float32 [3, 3]: column i is the i-th eigenvector of the colours' covariance times its eigenvalue,
    for colours on the scale 0 to 1, as in every implementation since; the paper names no scale.
    """

    def __init__(self, axes: Tensor, sigma: float) -> None:
        super().__init__()
        self.axes = axes
        self.sigma = sigma

    def make_params(self, _flat_inputs: list[Any]) -> dict[str, Any]:
        return {"shift": 255 * self.axes @ (torch.randn(3) * self.sigma)}

    def transform(self, inpt: Tensor, params: dict[str, Tensor]) -> Tensor:
        shift: Tensor = params["shift"]
        return (inpt.float() + shift.view(3, 1, 1)).round().clamp(0, 255).to(torch.uint8)


def principal_colours(images: Tensor) -> Tensor:
    """The `axes` of ColourPCA from a sample of training images, uint8 [n, 3, height, width]."""
    pixels = images.permute(0, 2, 3, 1).reshape(-1, 3).double() / 255
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T))
    axes: Tensor = vectors * values.clamp(min=0)
    return axes.float()


def train_transform(augmentation: Augmentation, preprocessing: Preprocessing, colours: Tensor | None) -> Transform:
    """The random transform of one canvas into one training image of the network's size."""
    size = (preprocessing.height, preprocessing.width)
    a = augmentation
    steps: list[v2.Transform] = []
    if a.rotation or a.translation or a.stretch or a.shear:
        steps.append(
            v2.RandomAffine(
                a.rotation,
                translate=(a.translation, a.translation) if a.translation else None,
                scale=(1 - a.stretch, 1 + a.stretch) if a.stretch else None,
                shear=(-a.shear, a.shear, -a.shear, a.shear) if a.shear else None,
                interpolation=v2.InterpolationMode.BILINEAR,
            )
        )
    if a.crop == "resized":
        steps.append(v2.RandomResizedCrop(size, scale=(a.min_area, 1.0), antialias=True))
    else:
        steps.append(v2.RandomCrop(size) if a.crop == "random" else v2.CenterCrop(size))
    if a.mirror:
        steps.append(v2.RandomHorizontalFlip())
    if a.brightness or a.contrast or a.saturation or a.hue:
        steps.append(v2.ColorJitter(a.brightness, a.contrast, a.saturation, a.hue))
    if a.colour_pca and colours is not None:
        steps.append(ColourPCA(colours, a.colour_pca))
    if a.erasing:
        steps.append(v2.RandomErasing(p=a.erasing, value=GREY))
    transform: Transform = v2.Compose(steps)
    return transform


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """The middle of a canvas: what serving would show the network."""
    transform: Transform = v2.CenterCrop((preprocessing.height, preprocessing.width))
    return transform


def mixup_cutmix(augmentation: Augmentation, classes: int) -> Mix | None:
    """Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019), drawn evenly where both are on.

    Float [n, 3, h, w] and int64 [n] -> float images and float32 [n, classes] labels; None where both are off.
    """
    choices: list[v2.Transform] = []
    if augmentation.mixup:
        choices.append(v2.MixUp(alpha=augmentation.mixup, num_classes=classes))
    if augmentation.cutmix:
        choices.append(v2.CutMix(alpha=augmentation.cutmix, num_classes=classes))
    if not choices:
        return None
    mix: Mix = v2.RandomChoice(choices) if len(choices) > 1 else choices[0]
    return mix
