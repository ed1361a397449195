"""The images that taught a version, and those that judged it, as the version sees them: wrong labels first."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.card.diagnosed import diagnosis_blocks
from models.dataset.sample import SPLITS
from models.diagnosis.diagnose import NotHeldOut, diagnose, not_enough_classes
from models.diagnosis.held_out import (
    HeldOut,
    classes_with_enough,
    held_out_of,
    is_affordable,
    leave_each_out,
)
from models.diagnosis.images import DiagnosedImages, PixelsOf
from models.diagnosis.report import Diagnosis
from models.findings.finding import Finding
from models.findings.subject import Subject
from models.training.embedded import EmbeddedImages

NAME, HEADING = "diagnosis", "Images to look at again"
# Of one look at all images by a head, and of comparing them: some seconds. A `diagnose` job takes more time.
MOST_OF_A_HEAD, MOST_OF_COMPARING = 1e8, 1e11
IN_THE_MANIFEST = 12


def examine_images(subject: Subject) -> Finding:
    """Where the head was solved exactly, its cross-validation is what training images are judged by."""
    embedded = subject.embedded
    parts = [part for part in (embedded.train, embedded.validation, embedded.test) if len(part)]
    images = _images(subject, parts)
    embedding = _joined([part.embedding for part in parts])
    learnt = subject.trained.head is None and subject.trained.features is None
    diagnosis = diagnose(
        images,
        embedding,
        _held_out(subject, parts, images, embedding),
        _pixels(subject, parts),
        most_multiply_adds=MOST_OF_COMPARING,
        warnings=[_learnt_from_labels()] if learnt else (),
    )
    return Finding(NAME, _facts(diagnosis), HEADING, diagnosis_blocks(diagnosis, _pixels(subject, parts)))


def _held_out(
    subject: Subject,
    parts: Sequence[EmbeddedImages],
    images: DiagnosedImages,
    embedding: NDArray[np.float32] | None,
) -> HeldOut | NotHeldOut:
    classes = classes_with_enough(images.targets, images.sha256, len(images.labels))
    if len(classes) < 2:
        return not_enough_classes(len(classes))
    of_training = _held_out_by_the_fit(subject)
    if of_training is not None:
        # What validates and tests is judged by the version itself, which did not learn from it.
        rest = [part.logits / subject.temperature for part in parts[1:]]
        targets = subject.embedded.train.targets
        calibrated = held_out_of(of_training, np.arange(len(targets)), np.arange(len(images.labels)), targets)
        return calibrated.followed_by(rest, images.targets)
    if embedding is None or not np.isfinite(embedding).all():
        return NotHeldOut("the version gives no embeddings that a head could be fitted to")
    if not is_affordable(len(images), embedding.shape[1], len(classes), MOST_OF_A_HEAD):
        return NotHeldOut(
            f"to leave out each of {len(images)} images would take too long within a fine-tune; a diagnosis of "
            "the dataset does it"
        )
    return leave_each_out(embedding, images.targets, images.sha256, classes, search=False)


def _held_out_by_the_fit(subject: Subject) -> NDArray[np.float32] | None:
    """Logits of the training images, float32 [m, classes], where each was left out and each class has enough."""
    head, train = subject.trained.head, subject.embedded.train
    if head is None or head.held_out is None or len(train) != len(train.images):
        return None
    labels = subject.inputs.split.labels
    enough = classes_with_enough(train.targets, train.images.sha256, len(labels))
    return head.held_out.numpy() if len(enough) == len(labels) else None


def _images(subject: Subject, parts: Sequence[EmbeddedImages]) -> DiagnosedImages:
    embedded = subject.embedded
    names = dict(zip(map(id, (embedded.train, embedded.validation, embedded.test)), SPLITS, strict=True))
    rows = [(part, row) for part in parts for row in part.rows.tolist()]
    return DiagnosedImages(
        subject.inputs.split.labels,
        np.concatenate([part.targets for part in parts]),
        tuple(part.images.names[row] for part, row in rows),
        tuple(part.images.sha256[row] for part, row in rows),
        tuple(names[id(part)] for part, _ in rows),
    )


def _pixels(subject: Subject, parts: Sequence[EmbeddedImages]) -> PixelsOf:
    """As serving prepares them: of training images the middle of what is kept."""
    inputs, how = subject.inputs, subject.inputs.preprocessing
    of_part = {
        id(subject.embedded.train): inputs.train,
        id(subject.embedded.validation): inputs.validation,
        id(subject.embedded.test): inputs.test,
    }
    places = [(of_part[id(part)], row) for part in parts for row in part.rows.tolist()]

    def pixels(place: int) -> NDArray[np.uint8]:
        prepared, row = places[place]
        found = prepared[row]
        top, left = (found.shape[0] - how.height) // 2, (found.shape[1] - how.width) // 2
        return found[top : top + how.height, left : left + how.width]

    return pixels


def _joined(embeddings: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    found = [embedding.reshape(len(embedding), -1) for embedding in embeddings if embedding is not None]
    return np.concatenate(found) if found and len(found) == len(embeddings) else None


def _learnt_from_labels() -> str:
    return (
        "The whole network learnt from these labels, so it has got used to some of the wrong ones: a diagnosis of "
        "the dataset by a version that did not learn from it finds more."
    )


def _facts(diagnosis: Diagnosis) -> dict[str, Any]:
    """Counts, and the first of the wrong labels."""
    found = diagnosis.to_dict()
    kinds = ("wrong_labels", "outliers", "near_duplicates", "without_influence", "overlapping_classes")
    facts: dict[str, Any] = {name: found[name] for name in ("images", "classes", "warnings", "few_images")}
    for kind in kinds:
        facts[kind] = {name: value for name, value in found[kind].items() if name != "entries"}
    entries = found["wrong_labels"]["entries"][:IN_THE_MANIFEST]
    facts["wrong_labels"]["entries"] = [
        {name: value for name, value in entry.items() if name != "thumbnail"} for entry in entries
    ]
    return facts
