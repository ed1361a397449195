"""What is known of a variant: how it was made, what the gate measured, and what else was tried. Knows no onnx."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from models.artifact import Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# How the range of an activation is taken from what calibration saw: all of it, or what leaves the least error.
Calibrator = Literal["minmax", "percentile", "mse"]


@dataclass(frozen=True)
class Recipe:
    """How a variant was made.

    `folded` names what went into other operators ("normalisation": into the first convolution, which then reads
    the pixels themselves). `equalised`: the ranges of an activation's channels were balanced (Nagel et al. 2019).
    `rounded`: weights were rounded by what they do on calibration images (GPTQ, Frantar et al. 2022), and biases
    take the mean error that stays. `float_nodes` stay in float32. `calibrator` is None where nothing was
    calibrated.
    """

    calibrator: Calibrator | None = None
    per_channel: bool = False
    equalised: bool = False
    rounded: bool = False
    folded: tuple[str, ...] = ()
    float_nodes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        kept = _known(cls, values)
        for name in ("folded", "float_nodes"):
            kept[name] = tuple(str(value) for value in kept.get(name, ()))
        return cls(**kept)

    def __str__(self) -> str:
        if self.calibrator is None:
            return "float16"
        parts = [self.calibrator, "per channel" if self.per_channel else "per tensor"]
        parts += ["equalised"] if self.equalised else []
        parts += ["rounded by data"] if self.rounded else []
        parts += [f"{name} folded" for name in self.folded]
        parts += [f"{len(self.float_nodes)} nodes in float32"] if self.float_nodes else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Attempt:
    """One recipe and what it gave; the numbers are None where it could not be made, and `why` says why."""

    recipe: Recipe
    passed: bool
    why: str | None = None
    accuracy: float | None = None
    agreement: float | None = None
    calibration_error: float | None = None
    speedup: float | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        kept = _known(cls, values)
        return cls(**{**kept, "recipe": Recipe.from_dict(kept["recipe"])})


@dataclass(frozen=True)
class VariantReport:
    """What the gate says of a variant, and, where it did not pass, of the attempt that came nearest.

    `accuracy` and `agreement` (answers with the same first class as float32) are fractions of the `images` that
    were judged; `difference` is accuracy minus that of float32 in points, and `difference_interval` where it lies
    with a confidence of 95 % over all such images. `calibration_error` is the expected calibration error. Seconds
    are processor time of one image, on one thread, the least of interleaved runs; None where they could not be
    measured here.
    """

    precision: Precision
    passed: bool
    reason: str | None
    images: int
    calibration_images: int
    accuracy_float32: float | None = None
    accuracy: float | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    agreement: float | None = None
    calibration_error_float32: float | None = None
    calibration_error: float | None = None
    seconds_float32: float | None = None
    seconds: float | None = None
    speedup: float | None = None
    recipe: Recipe | None = None
    tried: tuple[Attempt, ...] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        values = dataclasses.asdict(self)
        values["tried"] = [_listed(attempt) for attempt in values["tried"]]
        values["recipe"] = None if self.recipe is None else _listed(values["recipe"])
        values["difference_interval"] = None if self.difference_interval is None else [*self.difference_interval]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`; fields of a later release are ignored.

        Raises ValueError, TypeError or KeyError for anything else: whoever reads a manifest says what is damaged.
        """
        kept = _known(cls, values)
        if kept["precision"] not in PRECISIONS:
            raise ValueError(f"the precision is {kept['precision']!r}; expected one of {', '.join(PRECISIONS)}")
        if kept.get("recipe") is not None:
            kept["recipe"] = Recipe.from_dict(kept["recipe"])
        if kept.get("difference_interval") is not None:
            low, high = kept["difference_interval"]
            kept["difference_interval"] = (float(low), float(high))
        kept["tried"] = tuple(Attempt.from_dict(attempt) for attempt in kept.get("tried", ()))
        return cls(**kept)


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    """With lists for tuples at every depth, as JSON has them."""
    found = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {name: _listed(value) if isinstance(value, dict) else value for name, value in found.items()}
