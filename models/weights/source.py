"""Where one set of weights comes from and what is known about it. Knows no torch and downloads nothing."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from models.errors import UnknownWeights
from models.spec import Preprocessing

IMAGENET = "imagenet"
NONE = "none"

Origin = Literal["torchvision", "timm", "keras", "file"]


@dataclass(frozen=True)
class Checksum:
    """How a file proves to be the published one.

    `sha256` is known in full; or `sha256_prefix`, the hexadecimal digits that the publisher puts into the file's
    name; or `header`, the response header in which the host states the sha256. None of them: then the publisher
    gives no checksum, the first download is taken as it is, and its sha256 is recorded and holds from then on.
    """

    sha256: str | None = None
    sha256_prefix: str | None = None
    header: str | None = None

    def describe(self) -> str:
        if self.sha256:
            return "sha256 known in full"
        if self.sha256_prefix:
            return f"sha256 begins with {self.sha256_prefix}, as the file name says"
        if self.header:
            return f"sha256 in the host's {self.header} header"
        return "none published; recorded at the first download"


@dataclass(frozen=True)
class WeightsSource:
    """A trained state for one architecture, with its provenance.

    `filename` is the path below the weights folder. `num_classes` is 0 for weights without a classifier. `params`
    are the parameters of `build` under which these weights fit. `metrics` are as published, in percent.
    """

    architecture: str
    name: str
    origin: Origin
    filename: str
    url: str | None
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    num_classes: int = 1000
    trained_on: str = "ImageNet-1k"
    checksum: Checksum = field(default_factory=Checksum)
    licence: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int | None = None
    default: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What a user is told: plain JSON types. The labels are left out for their length."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "default": self.default,
            "origin": self.origin,
            "filename": self.filename,
            "url": self.url,
            "checksum": asdict(self.checksum),
            "licence": self.licence,
            "trained_on": self.trained_on,
            "classes": self.num_classes,
            "metrics": dict(self.metrics),
            "preprocessing": self.preprocessing.to_dict(),
            "params": dict(self.params),
            "size_bytes": self.size_bytes,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "WeightsSource":
        """What `to_dict` wrote, without the labels."""
        return cls(
            architecture=values["architecture"],
            name=values["name"],
            origin=values["origin"],
            filename=values["filename"],
            url=values["url"],
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            num_classes=values["classes"],
            trained_on=values["trained_on"],
            checksum=Checksum(**values["checksum"]),
            licence=values["licence"],
            metrics=values["metrics"],
            params=values["params"],
            size_bytes=values["size_bytes"],
            default=values["default"],
            notes=tuple(values["notes"]),
        )


def choose(known: Sequence[WeightsSource], architecture: str, name: str) -> WeightsSource:
    """The one of `known` with that name; `imagenet` is the default one. Raises UnknownWeights with the names."""
    wanted = name.lower()
    for source in known:
        if source.name.lower() == wanted or (wanted == IMAGENET and source.default):
            return source
    if not known:
        raise UnknownWeights(
            f"{architecture} has no published weights, so there are none called {name!r}: "
            f"train it with weights {NONE!r}, or import a file with `fovea weights import`"
        )
    names = [source.name for source in known]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}" if near else ""
    raise UnknownWeights(f"{architecture} has no weights {name!r}{hint}. It has: {', '.join(names)}")
