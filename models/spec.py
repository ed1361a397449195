"""The values that travel with a model: how its images are prepared and what its outputs mean. Knows no torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from models.errors import InvalidPreprocessing

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Fit = Literal["crop", "squash"]

# A graph's input and outputs by name; every model has the first two outputs.
INPUT = "image"
LOGITS, PROBABILITIES, EMBEDDING, FEATURE_MAP = "logits", "probabilities", "embedding", "feature_map"
OUTPUTS = (LOGITS, PROBABILITIES)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Rec. 601, as Pillow's mode L has it: what a network of one channel sees of a colour.
LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to the network's input.

    Outside the graph (`models.preprocess`): with `fit="crop"` the shorter side is resized to `resize` pixels and
    the central `height` x `width` is cut out; with `fit="squash"` the image is resized to `height` x `width`
    whatever its aspect. Inside the graph: `(pixel / 255 - mean) / std` for each channel, RGB; nobody who feeds the
    graph applies `mean` and `std` again.

    Raises InvalidPreprocessing for a view that is larger than what was resized, and for values without a meaning.
    """

    height: int = 224
    width: int = 224
    resize: int = 256
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise InvalidPreprocessing(f"height {self.height} and width {self.width} must be at least 1")
        if self.fit not in get_args(Fit):
            raise InvalidPreprocessing(f"fit is {self.fit!r}; it must be one of {get_args(Fit)}")
        if self.interpolation not in get_args(Interpolation):
            raise InvalidPreprocessing(
                f"interpolation is {self.interpolation!r}; it must be one of {get_args(Interpolation)}"
            )
        if self.fit == "crop" and self.resize < max(self.height, self.width):
            raise InvalidPreprocessing(
                f"resize={self.resize} is smaller than the {self.height}x{self.width} cut out of it: "
                f"give resize >= {max(self.height, self.width)}, or fit='squash'"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise InvalidPreprocessing(
                f"mean {self.mean} and std {self.std} need three values each (red, green, blue), std > 0"
            )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        known = {f.name for f in dataclasses.fields(cls)}
        kept: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known
        }
        return cls(**kept)
