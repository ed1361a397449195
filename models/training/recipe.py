"""How to train: one frozen, validated object, and the presets it starts from. Knows no torch.

Every field carries its own bounds, so that the message for a wrong value names the field, what was given and
what was expected.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from models.training.errors import InvalidRecipe


@dataclass(frozen=True)
class Choice:
    names: tuple[str, ...]

    def check(self, path: str, value: object) -> object:
        if value not in self.names:
            raise InvalidRecipe(path, f"got {value!r}, expected one of {', '.join(self.names)}")
        return value


@dataclass(frozen=True)
class Number:
    """A number in `[low, high]`; `whole` allows integers only, `optional` also null."""

    low: float
    high: float
    whole: bool = False
    optional: bool = False

    def check(self, path: str, value: object) -> object:
        if value is None and self.optional:
            return None
        kind = "a whole number" if self.whole else "a number"
        expected = f"expected {kind} from {self.low:g} to {self.high:g}" + (" or null" if self.optional else "")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidRecipe(path, f"got {value!r}, {expected}")
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise InvalidRecipe(path, f"got {value!r}, {expected}")
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Switch:
    def check(self, path: str, value: object) -> object:
        if not isinstance(value, bool):
            raise InvalidRecipe(path, f"got {value!r}, expected true or false")
        return value


def _choice(default: str, *names: str) -> Any:
    return field(default=default, metadata={"rule": Choice(names)})


def _whole(default: int | None, low: float, high: float, *, optional: bool = False) -> Any:
    return field(default=default, metadata={"rule": Number(low, high, whole=True, optional=optional)})


def _number(default: float | None, low: float, high: float, *, optional: bool = False) -> Any:
    return field(default=default, metadata={"rule": Number(low, high, optional=optional)})


def _switch(default: bool) -> Any:
    return field(default=default, metadata={"rule": Switch()})


@dataclass(frozen=True)
class Augmentation:
    """What a training image may look like. Lengths are fractions of the image, angles are degrees.

    `crop`: `resized` cuts an area of at least `min_area` and scales it (Szegedy et al. 2014), `random` cuts the
    input's size at a random place (Krizhevsky et al. 2012), `centre` takes what serving would take.
    `colour_pca` is the standard deviation of the shifts along the principal colours of the training images.
    """

    crop: str = _choice("resized", "resized", "random", "centre")
    min_area: float = _number(0.35, 0.05, 1.0)
    mirror: bool = _switch(True)
    rotation: float = _number(0.0, 0.0, 180.0)
    translation: float = _number(0.0, 0.0, 0.5)
    stretch: float = _number(0.0, 0.0, 0.5)
    shear: float = _number(0.0, 0.0, 45.0)
    colour_pca: float = _number(0.0, 0.0, 1.0)
    brightness: float = _number(0.2, 0.0, 1.0)
    contrast: float = _number(0.2, 0.0, 1.0)
    saturation: float = _number(0.2, 0.0, 1.0)
    hue: float = _number(0.0, 0.0, 0.5)
    erasing: float = _number(0.0, 0.0, 1.0)
    mixup: float = _number(0.0, 0.0, 10.0)
    cutmix: float = _number(0.0, 0.0, 10.0)


@dataclass(frozen=True)
class Recipe:
    """How to train.

    `epochs` is the most that are run. `learning_rate` is the head's; the backbone's is `backbone_rate` times it.
    `weight_decay` spares biases and normalisation. `dropout` replaces the architecture's own where it is given.
    `class_balance` makes up for unequal classes: by the loss (`weights`) or by drawing (`sampler`).
    `batch_norm`: `frozen` keeps the running statistics of the weights that training starts from; `auto` does so
    whenever there are any. `patience` is how many epochs without improvement end the training.
    `head`: how a head on a frozen backbone is solved: `regression` is the exact L2-regularised optimum with the
    strength found by cross-validation on the training images, `gradient` runs this recipe's optimiser on the
    cached features; `auto` takes the regression while it is affordable. `head_views` is how many augmented views
    of each image the head sees beside the plain one.
    """

    epochs: int = _whole(30, 1, 1000)
    batch_size: int = _whole(32, 1, 4096)
    optimizer: str = _choice("adamw", "adamw", "sgd")
    learning_rate: float = _number(1e-3, 1e-7, 10.0)
    backbone_rate: float = _number(0.1, 0.0, 1.0)
    momentum: float = _number(0.9, 0.0, 0.999)
    weight_decay: float = _number(0.01, 0.0, 1.0)
    schedule: str = _choice("cosine", "cosine", "step", "plateau", "constant")
    schedule_epochs: int = _whole(10, 1, 1000)
    schedule_factor: float = _number(0.1, 0.001, 0.999)
    warmup_epochs: float = _number(1.0, 0.0, 50.0)
    dropout: float | None = _number(None, 0.0, 0.95, optional=True)
    label_smoothing: float = _number(0.05, 0.0, 0.5)
    class_balance: str = _choice("none", "none", "weights", "sampler")
    batch_norm: str = _choice("auto", "auto", "frozen", "trained")
    mixed_precision: str = _choice("auto", "auto", "off")
    clip_norm: float | None = _number(1.0, 1e-3, 1e6, optional=True)
    patience: int | None = _whole(8, 1, 1000, optional=True)
    head: str = _choice("auto", "auto", "regression", "gradient")
    head_views: int = _whole(4, 0, 32)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


DEFAULT = Recipe()

# Krizhevsky, Sutskever and Hinton 2012, sections 4 and 5. Their rate was divided by ten three times, by hand,
# whenever the validation error stopped improving.
ALEXNET_2012 = Recipe(
    epochs=90,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.01,
    backbone_rate=1.0,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="plateau",
    schedule_epochs=5,
    schedule_factor=0.1,
    warmup_epochs=0.0,
    dropout=0.5,
    label_smoothing=0.0,
    batch_norm="trained",
    mixed_precision="off",
    clip_norm=None,
    patience=None,
    head="gradient",
    augmentation=Augmentation(
        crop="random", mirror=True, colour_pca=0.1, brightness=0.0, contrast=0.0, saturation=0.0
    ),
)

Fields = TypeVar("Fields", Augmentation, Recipe)

PRESETS: Mapping[str, Recipe] = {"default": DEFAULT, "alexnet-2012": ALEXNET_2012}


def read_recipe(value: object, path: str = "recipe") -> Recipe:
    """A recipe from a request: a preset's name, or an object that overrides single fields of one.

    `{"preset": "alexnet-2012", "epochs": 10}` starts from that preset, without `preset` from `default`.
    Raises InvalidRecipe, which names the field.
    """
    if value is None:
        return DEFAULT
    if isinstance(value, str):
        return _preset(value, path)
    if not isinstance(value, Mapping):
        raise InvalidRecipe(
            path, f"got {value!r}, expected a preset ({', '.join(PRESETS)}) or an object of fields"
        )
    overrides = dict(value)
    base = _preset(overrides.pop("preset", "default"), f"{path}.preset")
    return _override(base, overrides, path)


def _preset(name: object, path: str) -> Recipe:
    if not isinstance(name, str) or name not in PRESETS:
        raise InvalidRecipe(path, f"got {name!r}, expected one of {', '.join(PRESETS)}, or an object of fields")
    return PRESETS[name]


def _override(base: Fields, values: Mapping[str, object], path: str) -> Fields:
    known = {f.name: f for f in dataclasses.fields(base)}
    checked: dict[str, Any] = {}
    for name, value in values.items():
        where = f"{path}.{name}"
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(known)}"
            raise InvalidRecipe(where, f"there is no such field; {hint}")
        checked[name] = _checked(known[name], getattr(base, name), value, where)
    return dataclasses.replace(base, **checked)


def _checked(known: "dataclasses.Field[Any]", current: object, value: object, where: str) -> object:
    if isinstance(current, Augmentation):
        if not isinstance(value, Mapping):
            raise InvalidRecipe(where, f"got {value!r}, expected an object of fields")
        return _override(current, value, where)
    rule: Choice | Number | Switch = known.metadata["rule"]
    return rule.check(where, value)
