"""The zoo: a dict from name to architecture and builder. Knows no weights and no files.

A family file registers its builders with the decorator; the files in `FAMILIES` are imported on first use.
"""

import difflib
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from models.errors import InvalidArchitecture, UnknownArchitecture
from models.zoo.architecture import Architecture, InputSize, Layout, Paper, Source

Builder = Callable[..., nn.Module]
AnyBuilder = TypeVar("AnyBuilder", bound=Builder)

FAMILIES = (
    "lenet",
    "alexnet",
    "zfnet",
    "vgg",
    "nin",
    "maxout",
    "inception_v2",
    "mobilenet_v1",
    "convnet",
    "torchvision_families",
)
TIMM_PREFIX = "timm/"

_REGISTERED: dict[str, tuple[Architecture, Builder]] = {}


@dataclass(frozen=True)
class Built:
    """What a network was built from; `build` leaves it on the network, where the layout's functions find it."""

    architecture: Architecture
    num_classes: int
    channels: int
    params: dict[str, Any] = field(default_factory=dict)


def register(entry: Architecture, builder: Builder) -> None:
    """Adds an architecture. Raises InvalidArchitecture if the name is taken."""
    if entry.name in _REGISTERED:
        raise InvalidArchitecture(f"the architecture {entry.name} is registered twice; give one another name")
    _REGISTERED[entry.name] = (entry, builder)


def architecture(
    name: str,
    *,
    family: str,
    paper: Paper,
    layout: Layout,
    input_size: InputSize,
    source: Source = "ours",
    parameters: Mapping[str, str] | None = None,
    departures: tuple[str, ...] = (),
) -> Callable[[AnyBuilder], AnyBuilder]:
    """Registers the decorated builder, which is called as `builder(num_classes=, channels=, **parameters)`."""
    entry = Architecture(
        name=name,
        family=family,
        source=source,
        year=paper.year,
        paper=paper,
        layout=layout,
        input=input_size,
        parameters=dict(parameters or {}),
        departures=departures,
    )

    def keep(builder: AnyBuilder) -> AnyBuilder:
        register(entry, builder)
        return builder

    return keep


def names() -> list[str]:
    """The registered names, sorted; timm's are not among them (`timm.list_models()` has those)."""
    _load_families()
    return sorted(_REGISTERED)


def get(name: str) -> Architecture:
    """The architecture of that name. Raises UnknownArchitecture with the nearest names."""
    return _find(name)[0]


def build(name: str, num_classes: int = 1000, channels: int = 3, **params: Any) -> nn.Module:
    """A network with fresh weights: float32 [batch, channels, height, width] -> logits [batch, num_classes].

    Raises UnknownArchitecture, and InvalidArchitecture where a parameter is unknown or does not fit.
    """
    entry, builder = _find(name)
    unknown = sorted(set(params) - set(entry.parameters))
    if unknown and entry.source != "timm":
        accepted = ", ".join(sorted(entry.parameters)) or "none"
        raise InvalidArchitecture(f"{name} does not take {', '.join(unknown)}; it takes: {accepted}")
    for label, value in (("num_classes", num_classes), ("channels", channels)):
        if value < 1:
            raise InvalidArchitecture(f"{name}: {label} must be at least 1, got {value}")
    network = builder(num_classes=num_classes, channels=channels, **params)
    network.built = Built(entry, num_classes, channels, dict(params))  # type: ignore[assignment]
    return network


def built(network: nn.Module) -> Built:
    """What `network` was built from. Raises InvalidArchitecture for a network that `build` did not make."""
    found = getattr(network, "built", None)
    if not isinstance(found, Built):
        raise InvalidArchitecture(
            f"a {type(network).__name__} of unknown architecture: make networks with models.zoo.registry.build"
        )
    return found


def _find(name: str) -> tuple[Architecture, Builder]:
    _load_families()
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name.startswith(TIMM_PREFIX):
        # Imported here because timm registers its 1,400 models at import, which costs seconds.
        from models.zoo.timm_models import find

        return find(name)
    near = difflib.get_close_matches(name, list(_REGISTERED), n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UnknownArchitecture(f"no architecture is called {name!r}{hint} (timm's are written timm/NAME)")


@functools.cache
def _load_families() -> None:
    for family in FAMILIES:
        importlib.import_module(f"models.zoo.{family}")
