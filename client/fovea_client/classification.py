"""Images to what is asked of them: one image as it is, many in requests that the server takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fovea_client import calls
from fovea_client.answer import Json
from fovea_client.call import Call, as_json
from fovea_client.errors import OF_ONE_IMAGE, ApiError, TooLarge
from fovea_client.image import Source, is_many, media_type_of, shown, source_of
from fovea_client.plan import Plan, compute, gather
from fovea_client.prediction import failed, predictions_of
from fovea_client.request import FormFile
from fovea_client.session import Session

OnUnknown = Literal["mark", "refuse"]
# Half of what a server takes in a request and waits for, as it comes: room for others.
IMAGES_AT_ONCE, BYTES_AT_ONCE = 32, 16 * 2**20
REQUESTS_AT_ONCE = 4
# What a prediction of a list keeps of an image that is in no file.
KEPT_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Question:
    """What is asked about every image."""

    model: str
    top_k: int = 5
    precision: str = "auto"
    coverage: float | None = None
    on_unknown: OnUnknown = "mark"

    @property
    def params(self) -> dict[str, str | int | None]:
        return {
            "top_k": self.top_k,
            "precision": None if self.precision == "auto" else self.precision,
            "coverage": None if self.coverage is None else repr(self.coverage),
            "on_unknown": None if self.on_unknown == "mark" else self.on_unknown,
        }

    def one(self, image: bytes, media_type: str) -> Call[Json]:
        return calls.classify(self.model, image, media_type, self.params)

    def many(self, images: Sequence[FormFile]) -> Call[Json]:
        return calls.classify_many(self.model, images, self.params)

    def read(self, answer: Json, sources: list[Source]) -> list[Any]:
        """One for each image that was sent. Raises NotFoveasAnswer."""
        return predictions_of(answer, sources)

    def failed(self, source: Source, code: str, detail: str) -> Any:
        return failed(source, code, detail)


def classify(session: Session, images: Any, question: Question) -> Plan[Any]:
    """What the question reads, a Prediction if nothing else, for one image; a list of them for several.

    Raises what `source_of` does, OSError for the one file that cannot be read, ApiError, Unreachable.
    """
    if not is_many(images):
        return (yield from _one(session, source_of(images), question))
    sources = [source_of(image) for image in images]
    chunks = [_chunk(session, chunk, question) for chunk in _chunks(sources)]
    return [prediction for chunk in (yield from gather(chunks, REQUESTS_AT_ONCE)) for prediction in chunk]


def form_of(sources: Sequence[Source], images: Sequence[bytes]) -> list[FormFile]:
    """Files of a form. Of a path only the file's name goes over the network."""
    return [
        ("file", (shown(Path(source.name or str(number)).name), image, media_type_of(image)))
        for number, (source, image) in enumerate(zip(sources, images, strict=True))
    ]


def _one(session: Session, source: Source, question: Question) -> Plan[Any]:
    image = yield from compute(source.load)
    kept = source if source.path else replace(source, load=lambda: image)
    call = question.one(image, media_type_of(image))
    read = as_json(lambda answer: question.read(answer, [kept]))
    (found,) = yield from session.answer(call.parsed_by(read))
    return found


def _chunks(sources: Sequence[Source]) -> list[list[Source]]:
    chunks: list[list[Source]] = []
    size = 0
    for source in sources:
        size += source.size
        if not chunks or len(chunks[-1]) == IMAGES_AT_ONCE or size > BYTES_AT_ONCE:
            chunks.append([])
            size = source.size
        chunks[-1].append(source)
    return chunks


def _chunk(session: Session, sources: list[Source], question: Question) -> Plan[list[Any]]:
    """Read here and not before, so that no more images are in memory than are on their way."""
    loaded = yield from compute(lambda: [_loaded(source) for source in sources])
    readable = [(source, image) for source, image in zip(sources, loaded, strict=True) if isinstance(image, bytes)]
    answered = iter((yield from _sent(session, readable, question)))
    return [
        next(answered) if isinstance(image, bytes) else question.failed(source, "unreadable_file", _reason(image))
        for source, image in zip(sources, loaded, strict=True)
    ]


def _sent(session: Session, images: list[tuple[Source, bytes]], question: Question) -> Plan[list[Any]]:
    """In one request, in halves where the server, or the key, takes fewer or less at once."""
    if not images:
        return []
    sources = [_kept(source, image) for source, image in images]
    form = form_of(sources, [image for _, image in images])
    call = question.many(form)
    try:
        return (yield from session.answer(call.parsed_by(as_json(lambda answer: question.read(answer, sources)))))
    except ApiError as error:
        if len(images) == 1 and error.code in OF_ONE_IMAGE:
            return [question.failed(sources[0], error.code, error.detail)]
        if len(images) == 1 or not (isinstance(error, TooLarge) or error.code in call.gives_up_at):
            raise
    half = len(images) // 2
    first = yield from _sent(session, images[:half], question)
    return first + (yield from _sent(session, images[half:], question))


def _loaded(source: Source) -> bytes | OSError:
    try:
        return source.load()
    except OSError as error:
        return error


def _reason(error: Any) -> str:
    return error.strerror or str(error)


def _kept(source: Source, image: bytes) -> Source:
    """What a prediction remembers of its image: where it lies, or itself if it is small."""
    if source.path:
        return source
    return replace(source, load=(lambda: image) if len(image) <= KEPT_BYTES else _forgotten)


def _forgotten() -> bytes:
    return b""
