"""What a version makes of an image, and the images that it was taught which are most like it."""

import binascii
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fovea_client import calls
from fovea_client.answer import Json, NotFoveasAnswer
from fovea_client.call import Call
from fovea_client.classification import Question
from fovea_client.errors import ImageFailed
from fovea_client.image import Source
from fovea_client.record import READ, Record, parts
from fovea_client.request import FormFile


def _numbers(encoded: str) -> "array[float]":
    """Of float32, little-endian, in base64."""
    numbers = array("f", binascii.a2b_base64(encoded))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


@dataclass(frozen=True)
class Embedded(Record):
    """`embedding` has the network's numbers as float32, empty where the image failed, and `error` says why.

    `numpy.asarray(found.embedding)` makes an array of it. `name` is the file's. `model`, `version`, `precision`
    and `provider` are what answered.
    """

    name: str | None
    embedding: "array[float]" = field(default_factory=lambda: array("f"), repr=False, metadata={READ: _numbers})
    error: ImageFailed | None = None
    model: str | None = None
    version: int | None = None
    precision: str | None = None
    provider: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SimilarImage(Record):
    """A training image. `distance` is the cosine distance of the embeddings, from 0.

    `name` is the path that it was sent under and `thumbnail` where its picture is, which
    `fovea.datasets.thumbnail(dataset, sha256)` fetches; None where the dataset was deleted.
    """

    label: str
    distance: float
    sha256: str = field(repr=False)
    name: str | None
    thumbnail: str | None = field(repr=False)


@dataclass(frozen=True)
class SimilarTo(Record):
    """`similar` has the nearest training image first; where the image failed there are none, and `error` says why.

    `dataset` is what they are of: its `id`, `name` and `state`. `name` is the file's. `model`, `version`,
    `precision` and `provider` are what answered.
    """

    name: str | None
    similar: tuple[SimilarImage, ...] = field(default=(), metadata=parts(SimilarImage))
    error: ImageFailed | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: str | None = None
    version: int | None = None
    precision: str | None = None
    provider: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class EmbedQuestion(Question):
    @property
    def params(self) -> dict[str, str | int | None]:
        return {"precision": super().params["precision"], "encoding": "base64"}

    def one(self, image: bytes, media_type: str) -> Call[Json]:
        return self.many([("file", ("image", image, media_type))])

    def many(self, images: Sequence[FormFile]) -> Call[Json]:
        return calls.embed(self.model, images, self.params)

    def read(self, answer: Json, sources: list[Source]) -> list[Any]:
        return _each(Embedded, answer, sources, ())

    def failed(self, source: Source, code: str, detail: str) -> Any:
        return Embedded(source.name, error=ImageFailed(code, detail))


@dataclass(frozen=True)
class SimilarQuestion(Question):
    k: int = 5

    @property
    def params(self) -> dict[str, str | int | None]:
        return {"precision": super().params["precision"], "k": self.k}

    def one(self, image: bytes, media_type: str) -> Call[Json]:
        return self.many([("file", ("image", image, media_type))])

    def many(self, images: Sequence[FormFile]) -> Call[Json]:
        return calls.similar(self.model, images, self.params)

    def read(self, answer: Json, sources: list[Source]) -> list[Any]:
        return _each(SimilarTo, answer, sources, ("dataset",))

    def failed(self, source: Source, code: str, detail: str) -> Any:
        return SimilarTo(source.name, error=ImageFailed(code, detail))


def _each(kind: type[Record], answer: Json, sources: list[Source], more: Sequence[str]) -> list[Any]:
    """Of a whole answer, one for each image that was sent. Raises NotFoveasAnswer."""
    shared = {name: answer.get(name) for name in ("model", "version", "precision", "provider", *more)}
    found = answer.get("predictions") or ()
    if len(found) != len(sources):
        raise NotFoveasAnswer(f"{len(found)} predictions for {len(sources)} images")
    return [_one(kind, one, source, shared) for one, source in zip(found, sources, strict=True)]


def _one(kind: type[Record], found: Json, source: Source, shared: Json) -> Record:
    error = found.get("error")
    told = ImageFailed(str(error.get("code")), str(error.get("detail"))) if error else None
    given = {name: value for name, value in found.items() if value is not None}
    return kind.read(given, **{"name": source.name, "error": told, **shared})
