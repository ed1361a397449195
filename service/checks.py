"""What a request to train names, looked up before a job is made: a mistake is told now, not after a queue.

What only the worker can know (whether weights fit, whether images suffice) is told by the job.
"""

import asyncio
from typing import Any

from models.dataset import builtin
from models.zoo.catalogue import describe
from service.errors import Problem
from service.parts import Parts
from storage.datasets import DatasetState


def check_architecture(name: str, params: dict[str, Any]) -> None:
    """Raises UnknownArchitecture, and Problem 422 that names a parameter which it does not have.

    What timm's networks take is timm's to say: that is told by the job.
    """
    known: dict[str, str] | None = describe(name).get("parameters")
    for param in params:
        if known is not None and param not in known:
            has = f"{name} has {', '.join(known)}" if known else f"{name} has no parameters"
            raise wrong_field(f"architecture_params.{param}", f"no such parameter; {has}")


async def check_dataset(parts: Parts, dataset: str) -> str:
    """The id of the dataset, for the one that was given may lead to another of the same content.

    Raises NotFound, and Problem 409 while it is being checked or when it was refused.
    """
    if dataset in builtin.NAMES:
        return dataset
    found = await asyncio.to_thread(parts.datasets.get, dataset)
    if found.state is DatasetState.CHECKING:
        detail = f"Dataset {dataset} is still being checked; wait until its state is ready."
        raise Problem(409, "dataset_not_ready", detail, {"Retry-After": "1"})
    if found.state is DatasetState.REFUSED:
        why = "; ".join(found.report.get("refusals", ["see its report"]))
        raise Problem(409, "dataset_refused", f"Dataset {dataset} was refused: {why}")
    return found.id


async def check_weights(parts: Parts, architecture: str, weights: str) -> None:
    """Raises UnknownArchitecture, NotFound for an unknown model reference, Problem 422 where there are none."""
    known: list[dict[str, Any]] = describe(architecture)["weights"]
    if weights == "imagenet" and not known:
        hint = 'use "none" to learn from nothing, or import your own with `fovea weights import`'
        raise wrong_field("weights", f"{architecture} has no published ImageNet weights; {hint}")
    if "@" in weights or ":" in weights:
        await asyncio.to_thread(parts.registry.resolve, weights)


def wrong_field(field: str, message: str) -> Problem:
    """The same answer that a field of the wrong type gets."""
    faults = [{"field": f"body.{field}", "message": message}]
    return Problem(422, "invalid_request", f"body.{field}: {message}", extra={"errors": faults})
