"""Of a fine-tuned version its training images' embeddings, and whether an image's nearest are of its class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.card.blocks import Block, Paragraph
from models.findings.finding import Finding
from models.findings.subject import Subject
from models.neighbours.neighbours import FINDING, Neighbours, write_neighbours

HEADING = "Similar images"
NEAREST = 5
# Validation images that are asked for, evenly over the classes; of 100,000 training images one takes some ms.
MOST_ASKED = 200
NO_EMBEDDING = "the network's graph has no embedding: no layer reads one row of numbers and gives the classes"


def find_neighbours(subject: Subject) -> Finding:
    """Writes the files that `/similar` searches into the artifact. Raises OSError on a full disk."""
    train, validation = subject.embedded.train, subject.embedded.validation
    if train.embedding is None or not len(train):
        facts: dict[str, Any] = {"images": 0, "reason": NO_EMBEDDING}
        return Finding(FINDING, facts, HEADING, [Paragraph(f"None can be named: {NO_EMBEDDING}.")])
    written = write_neighbours(
        subject.folder,
        train.embedding.reshape(len(train), -1),
        [train.images.sha256[row] for row in train.rows.tolist()],
        train.targets,
        subject.inputs.split.labels,
        threads=subject.threads,
    )
    images, numbers = written.index.shape
    facts = {"images": images, "of": len(train.images), "dimensions": numbers, "metric": "cosine"}
    text = f"The nearest of {images:,} training images can be asked for (`/similar`)."
    if validation.embedding is not None and len(validation):
        rows = np.linspace(0, len(validation) - 1, min(MOST_ASKED, len(validation))).round().astype(int)
        truth = [written.labels[target] for target in validation.targets[rows].tolist()]
        share = share_by_majority(written, validation.embedding[rows], truth)
        facts |= {"asked": len(rows), "nearest": NEAREST, "majority_accuracy": share}
        text += (
            f" Of {len(rows)} validation images {share:.1%} have mostly images of their own class among the "
            f"{min(NEAREST, images)} nearest."
        )
    blocks: list[Block] = [Paragraph(text)]
    return Finding(FINDING, facts, HEADING, blocks)


def share_by_majority(neighbours: Neighbours, embeddings: NDArray[np.float32], truth: list[str]) -> float:
    """The share of images, 0 to 1, whose true label most of the nearest have; of equally many, the nearer's."""
    right = 0
    for near, label in zip(neighbours.nearest(embeddings, NEAREST), truth, strict=True):
        labels = [neighbour.label for neighbour in near]
        right += max(labels, key=labels.count) == label
    return round(right / len(truth), 4)
