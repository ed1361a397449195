"""What was seen in an image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fovea_client.answer import Json, NotFoveasAnswer
from fovea_client.errors import ImageFailed
from fovea_client.image import Source
from fovea_client.record import Record, part, parts
from fovea_client.words import percent


@dataclass(frozen=True)
class ScoredClass(Record):
    """One class of a model; `probability` is from 0 to 1."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class PredictionSet(Record):
    """The classes that hold the truth with a probability of `coverage`, best first; there is always one."""

    coverage: float
    classes: tuple[ScoredClass, ...] = field(metadata=parts(ScoredClass))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(found.label for found in self.classes)


@dataclass(frozen=True)
class Unknown(Record):
    """How foreign an image is to the version, on that version's own scale: unknown above `threshold`.

    `is_unknown` is None where the version has no threshold.
    """

    score: float
    threshold: float | None = None
    is_unknown: bool | None = None


@dataclass(frozen=True)
class Prediction(Record):
    """`classes` has the most probable first; where the image failed there are none, and `error` says why.

    `set` is there where a `coverage` was asked for. `unknown` says whether it shows any of the classes; None of a
    version that cannot tell. `name` is the file's. `model`, `version`, `precision` and `provider` are what
    answered. A notebook shows it with the image.
    """

    name: str | None
    classes: tuple[ScoredClass, ...] = field(default=(), metadata=parts(ScoredClass))
    error: ImageFailed | None = None
    unknown: Unknown | None = field(default=None, metadata=part(Unknown))
    model: str | None = None
    version: int | None = None
    precision: str | None = None
    provider: str | None = field(default=None, repr=False)
    timings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    source: Source | None = field(default=None, repr=False, compare=False)
    set: PredictionSet | None = field(default=None, metadata=part(PredictionSet))

    @property
    def best(self) -> ScoredClass:
        """The most probable class. Raises ImageFailed."""
        if self.error:
            raise self.error
        return self.classes[0]

    @property
    def label(self) -> str:
        """The most probable class's. Raises ImageFailed."""
        return self.best.label

    @property
    def probability(self) -> float:
        """The most probable class's, from 0 to 1. Raises ImageFailed."""
        return self.best.probability

    def __repr__(self) -> str:
        name = f"{self.name}: " if self.name else ""
        best = ", ".join(f"{found.label} {percent(found.probability)}" for found in self.classes)
        foreign = "none of these: " if self.unknown and self.unknown.is_unknown and not self.error else ""
        return f"<Prediction {name}{foreign}{self.error or best}>"

    def _repr_html_(self) -> str:
        from fovea_client.html import prediction_table

        return prediction_table(self)


def predictions_of(answer: Json, sources: list[Source]) -> list[Prediction]:
    """Of a whole answer, one for each image that was sent. Raises NotFoveasAnswer."""
    shared = {name: answer.get(name) for name in ("model", "version", "precision", "provider")}
    timings = answer.get("timings") or {}
    found = answer.get("predictions") or ()
    if len(found) != len(sources):
        raise NotFoveasAnswer(f"{len(found)} predictions for {len(sources)} images")
    return [_prediction(one, source, shared, timings) for one, source in zip(found, sources, strict=True)]


def prediction_of_line(found: Json) -> Prediction:
    """Of a line of a job's results. Raises NotFoveasAnswer."""
    error = found.get("error")
    told = ImageFailed(str(error.get("code")), str(error.get("detail"))) if error else None
    return Prediction.read({**found, "classes": found.get("classes") or ()}, name=found.get("path"), error=told)


def failed(source: Source, code: str, detail: str) -> Prediction:
    return Prediction(source.name, error=ImageFailed(code, detail), source=source)


def _prediction(found: Json, source: Source, shared: Json, timings: Json) -> Prediction:
    error = found.get("error")
    told = ImageFailed(str(error.get("code")), str(error.get("detail"))) if error else None
    known = {"name": source.name, "error": told, "source": source, "timings": timings, **shared}
    return Prediction.read({**found, "classes": found.get("classes") or ()}, **known)
