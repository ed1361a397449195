"""A classify job: many images, or one whose client does not wait, in chunks through the engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from storage.blobs import BlobStore
from storage.registry import ModelRegistry
from workers.contract import encode
from workers.inference.bulk import Held
from workers.inference.engine import Engine

CHUNK = 16


@dataclass(frozen=True)
class Classification:
    """The request names a model's version, the blobs of the images (`images` under `prefix`) and `top_k`."""

    registry: ModelRegistry
    blobs: BlobStore
    engine: Engine

    def __call__(self, held: Held) -> dict[str, Any]:
        """The job's result: a prediction for each image in the order sent."""
        request = held.request
        images: list[str] = request["images"]
        version = self.registry.get_version(request["model"], request["version"])
        predictions: list[dict[str, Any]] = []
        provider = ""
        for chunk in _chunks(images):
            contents = [self.blobs.get_bytes(key) for key in chunk]
            result = self.engine.classify(version.artifact, contents, request["top_k"])
            provider = result.provider
            predictions += [
                {
                    "classes": None if outcome.error else encode(outcome)["classes"],
                    "error": {"code": outcome.error, "detail": outcome.detail} if outcome.error else None,
                }
                for outcome in result.outcomes
            ]
            held.progress(phase="classifying", done=len(predictions), total=len(images))
        named = [{"name": n, **p} for n, p in zip(request["names"], predictions, strict=True)]
        return {
            "model": version.model,
            "version": version.number,
            "provider": provider,
            "predictions": named,
        }


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]
