"""What a request to train names, looked up before a job is made: a mistake is told now, not after a queue.

What only the worker can know (whether weights fit, whether images suffice) is told by the job.
"""

import asyncio
import difflib
from typing import Any

from models.dataset import builtin
from models.errors import UnknownWeights
from models.uploaded.kind import ONNX_ARCHITECTURE, no_weights_of_a_graph
from models.validation import InvalidField, InvalidFields, shortened
from models.weights.user_weights import NAME, imported_sources
from models.zoo.catalogue import describe
from service.errors import Problem, invalid_request
from service.parts import Parts
from storage.blobs import IMAGE_FOLDER
from storage.datasets import DatasetState
from storage.errors import InvalidReference, NotFound
from storage.registry import Version


def check_architecture(name: str, params: dict[str, Any]) -> None:
    """Raises UnknownArchitecture, and Problem 422 that names a parameter which it does not have.

    What timm's networks take is timm's to say: that is told by the job.
    """
    known: dict[str, str] | None = describe(name).get("parameters")
    for param in params:
        if known is not None and param not in known:
            has = f"{name} has {', '.join(known)}" if known else f"{name} has no parameters"
            raise wrong_field(f"architecture_params.{shortened(param)}", f"no such parameter; {has}")


async def check_dataset(parts: Parts, dataset: str, *, to_learn: bool = True) -> str:
    """The id of the dataset, for the one that was given may lead to another of the same content.

    One that is still being checked will do: the job waits for it, and tells what is wrong with it then.

    Raises NotFound, and Problem 409 when it was refused or, where it is `to_learn` from or to measure by, when it
    has no labels. A built-in one is where the trainings are: to only classify it is 422.
    """
    if dataset in builtin.NAMES:
        if not to_learn:
            raise wrong_field("dataset", f"{dataset} is made by training workers only; send images of your own")
        return dataset
    found = await asyncio.to_thread(parts.datasets.get, dataset)
    if found.state is DatasetState.CHECKING:
        return found.id
    if found.state is DatasetState.REFUSED:
        why = "; ".join(found.report.get("refusals", ["see its report"]))
        raise Problem(409, "dataset_refused", f"Dataset {dataset} was refused: {why}")
    if to_learn and not found.labels:
        detail = (
            f"Dataset {dataset} was sent with labels=none: its images can be classified, not learnt from. Send "
            "them in class folders or with a manifest."
        )
        raise Problem(409, "dataset_unlabelled", detail)
    return found.id


async def check_image_folder(parts: Parts, prefix: str) -> None:
    """Whether there is such a folder of the operator's. Raises Problem 404."""
    if not await asyncio.to_thread(parts.blobs.has_folder, f"{IMAGE_FOLDER}/{prefix}".rstrip("/")):
        detail = (
            f"There is no folder {shortened(prefix)!r} below {IMAGE_FOLDER}/ of the store of files. Whoever runs "
            "this Fovea puts images there; send yours with POST /v1/datasets?labels=none."
        )
        raise Problem(404, "unknown_prefix", detail)


async def check_weights(parts: Parts, architecture: str, weights: str, *, references: bool = True) -> None:
    """Whether a worker will find these weights; `references` says whether a model's version will do as well.

    Weights of a user's own lie on the training worker's disk. Where the database is SQLite that is this machine's,
    and they are looked for; elsewhere every name that they could have passes, and the job tells.

    Raises UnknownArchitecture, UnknownWeights, NotFound for an unknown model reference, and Problem 422 where
    `imagenet` is asked for and there is none.
    """
    known: list[str] = [entry["name"] for entry in describe(architecture)["weights"]]
    wanted = weights.lower()
    if wanted == "imagenet" and not known:
        hint = 'use "none" to learn from nothing, or import your own with `fovea weights import`'
        raise wrong_field("weights", f"{architecture} has no published ImageNet weights; {hint}")
    if wanted in ("imagenet", "none", *map(str.lower, known)):
        return
    if references and ("@" in weights or ":" in weights):
        _check_is_trainable(await asyncio.to_thread(parts.registry.resolve, weights))
        return
    imported = await asyncio.to_thread(_imported, parts, architecture)
    if wanted in imported or (references and await _is_model(parts, weights)):
        return
    if parts.settings.is_one_machine or not NAME.fullmatch(wanted):
        raise UnknownWeights(_no_such_weights(architecture, weights, [*known, *imported]))


def _imported(parts: Parts, architecture: str) -> list[str]:
    folder = parts.settings.weights_dir or parts.settings.data / "weights"
    return [source.name for source in imported_sources(architecture, folder)]


async def _is_model(parts: Parts, reference: str) -> bool:
    try:
        version = await asyncio.to_thread(parts.registry.resolve, reference)
    except (NotFound, InvalidReference):
        return False
    _check_is_trainable(version)
    return True


def _check_is_trainable(version: Version) -> None:
    """Raises Problem 422 for a version of which there is nothing but a graph."""
    if version.architecture == ONNX_ARCHITECTURE:
        raise wrong_field("weights", no_weights_of_a_graph(f"{version.model}:{version.number}"))


def _no_such_weights(architecture: str, weights: str, known: list[str]) -> str:
    weights = shortened(weights)
    near = difflib.get_close_matches(weights.lower(), known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    has = f"It has: {', '.join(known)}" if known else "It has none"
    return f"{architecture} has no weights {weights!r}{hint} {has}; 'none' is a network that knows nothing."


def wrong_field(field: str, message: str) -> Problem:
    """The same answer that a field of the wrong type gets."""
    return invalid_request(InvalidFields((InvalidField(f"body.{field}", message),)))
