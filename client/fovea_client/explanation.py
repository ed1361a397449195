"""Where in an image a class was seen."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fovea_client import calls
from fovea_client.answer import Json, NotFoveasAnswer
from fovea_client.call import as_json
from fovea_client.classification import form_of
from fovea_client.errors import ImageFailed
from fovea_client.image import is_many, media_type_of, source_of
from fovea_client.plan import Plan, compute
from fovea_client.prediction import ScoredClass
from fovea_client.record import Record
from fovea_client.session import Session

Method = Literal["auto", "cam", "recipro-cam", "occlusion"]
Box = tuple[float, float, float, float]
SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class WhyQuestion:
    """What is asked about every image; without a `label` about its most probable class."""

    model: str
    label: str | int | None = None
    method: str = "auto"
    precision: str = "auto"

    @property
    def params(self) -> dict[str, str | int | None]:
        return {
            "class": self.label,
            "method": None if self.method == "auto" else self.method,
            "precision": None if self.precision == "auto" else self.precision,
            "overlay": "true",
        }


@dataclass(frozen=True)
class Explanation(Record):
    """Where in an image a class was seen; where the image failed, `error` says why and the rest is empty.

    `rows` are a map over `region`, the part of the upright image that the network saw, from its top left: values
    from 0 to 1, of which 0 stands for `low` and 1 for `high`, in `unit`. `region` and `box`, the map's strongest
    part, are left, top, right and bottom in pixels of the upright image of `width` and `height`. `png` is the map
    drawn over the image, which a notebook shows.
    """

    name: str | None
    explained: ScoredClass | None = None
    method: str | None = None
    rows: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    low: float | None = field(default=None, repr=False)
    high: float | None = field(default=None, repr=False)
    unit: str | None = None
    width: int | None = None
    height: int | None = None
    region: Box | None = None
    box: Box | None = None
    error: ImageFailed | None = None
    model: str | None = None
    version: int | None = None
    precision: str | None = None
    provider: str | None = field(default=None, repr=False)
    timings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    png: bytes = field(default=b"", repr=False)

    @property
    def label(self) -> str:
        """Of the class that is explained. Raises ImageFailed."""
        if self.error:
            raise self.error
        return "" if self.explained is None else self.explained.label

    def save_png(self, path: str | os.PathLike[str]) -> Path:
        """Write the map drawn over the image; the file. Raises ImageFailed, OSError."""
        if self.error:
            raise self.error
        file = Path(path)
        file.write_bytes(self.png)
        return file

    def _repr_png_(self) -> bytes | None:
        return self.png or None


def explain(session: Session, images: Any, question: WhyQuestion) -> Plan[Any]:
    """An Explanation for one image, a list of them for several.

    Raises what `source_of` does, OSError, ApiError, Unreachable.
    """
    many = is_many(images)
    sources = [source_of(image) for image in (images if many else [images])]
    if not sources:
        return []
    loaded = yield from compute(lambda: [source.load() for source in sources])
    if many:
        call = calls.explain_many(question.model, form_of(sources, loaded), question.params)
    else:
        call = calls.explain(question.model, loaded[0], media_type_of(loaded[0]), question.params)
    names = [source.name for source in sources]
    found = yield from session.answer(call.parsed_by(as_json(lambda answer: explanations_of(answer, names))))
    return found if many else found[0]


def explanations_of(answer: Json, names: list[str | None]) -> list[Explanation]:
    """Of a whole answer, one for each image that was sent. Raises NotFoveasAnswer."""
    found = answer.get("predictions") or ()
    if len(found) != len(names):
        raise NotFoveasAnswer(f"{len(found)} explanations for {len(names)} images")
    shared = {each: answer.get(each) for each in ("model", "version", "precision", "provider")}
    shared["timings"] = answer.get("timings") or {}
    try:
        return [_explanation(one, name, shared) for one, name in zip(found, names, strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise NotFoveasAnswer(f"an explanation is incomplete: {error!r}") from error


def _explanation(found: Json, name: str | None, shared: Json) -> Explanation:
    if error := found.get("error"):
        told = ImageFailed(str(error.get("code")), str(error.get("detail")))
        return Explanation(name, error=told, raw=found, **shared)
    values, image, explained = found["map"], found["image"], found["class"]
    return Explanation(
        name,
        explained=ScoredClass.read(explained),
        method=found["method"],
        rows=tuple(tuple(row) for row in values["rows"]),
        low=values["low"],
        high=values["high"],
        unit=values["unit"],
        width=image["width"],
        height=image["height"],
        region=_box(found["region"]),
        box=_box(found["box"]),
        png=base64.b64decode(found.get("overlay") or ""),
        raw=found,
        **shared,
    )


def _box(found: Json) -> Box:
    left, top, right, bottom = (float(found[side]) for side in SIDES)
    return left, top, right, bottom
