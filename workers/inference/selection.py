"""Which images an evaluation measures by: decided once, whatever happens to its attempts and to other datasets.

The first attempt writes the list down, and its name into the job's progress, which is fenced.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from models.evaluation.report import SPLIT_WORDS
from models.validation import shortened
from storage.blobs import BlobStore
from storage.registry import ModelRegistry, Version
from workers.contract.jobs.evaluate import EvaluateRequest
from workers.inference.labelled import LabelledDataset, LabelledDatasets
from workers.inference.lineage import Learnt, Lineage
from workers.inference.listing import ListedImage
from workers.jobs.attempt import RunningAttempt
from workers.jobs.failure import InvalidRequest

SHOWN = 3


@dataclass(frozen=True)
class LabelledImage(ListedImage):
    """An image of a dataset, and its class."""

    label: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Seen:
    """How many of the images a version is known to have learnt from, and why there may be more."""

    images: int
    gaps: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """`images` in the order of their paths, and what each version has seen of them. `name` is what the job's
    progress has as `selection`."""

    name: str
    images: tuple[LabelledImage, ...]
    seen: tuple[Seen, ...]


def decided_selection(
    attempt: RunningAttempt,
    request: EvaluateRequest,
    versions: Sequence[Version],
    dataset: LabelledDataset,
    *,
    datasets: LabelledDatasets,
    registry: ModelRegistry,
    blobs: BlobStore,
) -> Selection:
    """What an earlier attempt decided, or now this one.

    Raises InvalidRequest where there is nothing to measure by, BlobsUnavailable, LeaseLost and Interrupted.
    """
    name = attempt.job.progress.get("selection")
    if isinstance(name, str):
        return _parsed(name, blobs.get_bytes(_key(attempt, name)))
    attempt.report({"phase": "selecting"})
    lineage = Lineage(registry, datasets, dataset)
    learnt = [lineage.learnt_by(version) for version in versions]
    selection = _selected(attempt.short_id, request, dataset, learnt)
    for version in versions:
        check_labels(version, {image.label for image in selection.images})
    blobs.put_bytes(_key(attempt, selection.name), _text(selection))
    attempt.report({"phase": "measuring", "done": 0, "selection": selection.name})
    return selection


def class_indices(labels: Sequence[str]) -> dict[str, int]:
    """By label; one that two classes share says nothing about which of them is meant."""
    counts = Counter(labels)
    return {label: i for i, label in enumerate(labels) if counts[label] == 1}


def check_labels(version: Version, labels: set[str]) -> None:
    """Raises InvalidRequest where the version knows none of the labels."""
    if not labels & class_indices(version.labels).keys():
        raise InvalidRequest(
            f"dataset: none of the labels of its images ({_some(sorted(labels))}) is one of "
            f"{version.model}:{version.number}'s ({_some(version.labels)})"
        )


def _selected(
    name: str, request: EvaluateRequest, dataset: LabelledDataset, learnt: Sequence[Learnt]
) -> Selection:
    seen = frozenset[str]().union(*(of_version.images for of_version in learnt))
    split = "val" if request.split == "validation" else request.split
    samples = [
        sample
        for sample in dataset.folder.samples
        if split in ("all", sample.split) or (split == "unseen" and sample.sha256 not in seen)
    ]
    if not samples:
        if split == "unseen":
            raise InvalidRequest(
                f"split: the versions learnt from every image of {dataset.id}; measure by another dataset, or by "
                "what they have seen, with all"
            )
        raise InvalidRequest(f"split: there are no images in {SPLIT_WORDS[request.split]}")
    sizes = dataset.sizes()
    images = (
        LabelledImage(
            sample.name,
            key := dataset.key_of(sample),
            sizes.get(key, 0),
            label=sample.label,
            sha256=sample.sha256,
        )
        for sample in samples
    )
    ordered = tuple(sorted(images, key=lambda image: (image.path, image.sha256)))
    return Selection(
        name,
        ordered,
        tuple(Seen(sum(image.sha256 in found.images for image in ordered), found.gaps) for found in learnt),
    )


def _some(labels: Sequence[str]) -> str:
    return ", ".join(map(shortened, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")


def _key(attempt: RunningAttempt, name: str) -> str:
    return f"jobs/{attempt.job.id}/selections/{name}.jsonl"


def _text(selection: Selection) -> bytes:
    head = orjson.dumps([asdict(seen) for seen in selection.seen])
    return b"\n".join([head, *(orjson.dumps(asdict(image)) for image in selection.images)]) + b"\n"


def _parsed(name: str, content: bytes) -> Selection:
    head, *lines = (orjson.loads(line) for line in content.splitlines())
    return Selection(
        name,
        tuple(LabelledImage(**line) for line in lines),
        tuple(Seen(seen["images"], tuple(seen["gaps"])) for seen in head),
    )
