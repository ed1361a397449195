"""What the zoo knows about an architecture before it is built. Knows no torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.errors import InvalidArchitecture

Source = Literal["ours", "torchvision", "timm"]
Grouping = Literal["stride", "quarters", "timm"]


@dataclass(frozen=True)
class Paper:
    """The publication that defines an architecture. `url` is its arXiv page, DOI or proceedings page."""

    title: str
    year: int
    url: str


@dataclass(frozen=True)
class InputSize:
    """The height and width, in pixels, that a network takes.

    `size` is the paper's or the weights' own. Other sizes are allowed from `minimum` up in steps of `multiple`,
    unless `fixed`: then layers are sized for `size`, and `reason` says which. `parameter` names the parameter of
    `build` that makes the network for another size.
    """

    size: int = 224
    minimum: int = 32
    multiple: int = 1
    fixed: bool = False
    reason: str = ""
    parameter: str = ""

    def under(self, params: Mapping[str, Any]) -> "InputSize":
        """The sizes of a network built with these parameters."""
        given = params.get(self.parameter) if self.parameter else None
        return dataclasses.replace(self, size=given) if isinstance(given, int) else self

    def check(self, name: str, height: int, width: int) -> None:
        """Raises InvalidArchitecture, with the rule and its reason, where the network cannot take that size."""
        because = f": {self.reason}" if self.reason else ""
        if self.fixed and (height, width) != (self.size, self.size):
            raise InvalidArchitecture(
                f"{name} takes {self.size}x{self.size} images only, got {height}x{width}{because}"
            )
        if min(height, width) < self.minimum:
            raise InvalidArchitecture(
                f"{name} takes images of at least {self.minimum}x{self.minimum}, got {height}x{width}{because}"
            )
        if height % self.multiple or width % self.multiple:
            raise InvalidArchitecture(
                f"{name} takes sizes that are multiples of {self.multiple}, got {height}x{width}{because}"
            )


@dataclass(frozen=True)
class Layout:
    """Where the parts of a network are, as dotted module names.

    `head` maps features to logits; it is the one part that changes with the number of classes, beside the
    `auxiliary` heads, which exist in training only. `trunk` names the blocks of the backbone in the order in which
    data flows through them; `features.*` stands for all children of `features`, `*` for those of the network, and
    classifiers are left out by themselves. `grouping` says how blocks make stages: a stage begins where the
    resolution falls (`stride`), or blocks of equal resolution are dealt into four (`quarters`). `backbone` is set
    where the network is that module followed by the head and nothing else; otherwise the backbone is the network
    with the head taken out. Not `separable` is a network whose answer is made by several heads together.
    """

    head: str
    trunk: tuple[str, ...] = ()
    grouping: Grouping = "stride"
    auxiliary: tuple[str, ...] = ()
    backbone: str = ""
    separable: bool = True


@dataclass(frozen=True)
class Architecture:
    """One entry of the zoo. `parameters` maps each accepted parameter of `build` to what it does."""

    name: str
    family: str
    source: Source
    year: int | None
    paper: Paper | None
    layout: Layout
    input: InputSize = field(default_factory=InputSize)
    parameters: Mapping[str, str] = field(default_factory=dict)
    departures: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What a user is told: plain JSON types, without the layout."""
        return {
            "name": self.name,
            "family": self.family,
            "source": self.source,
            "year": self.year,
            "paper": None if self.paper is None else dataclasses.asdict(self.paper),
            "input": dataclasses.asdict(self.input),
            "parameters": dict(self.parameters),
            "departures": list(self.departures),
        }
