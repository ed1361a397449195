"""What the card says of a version's detector, and where that ends."""

from collections.abc import Mapping
from typing import Any

from models.card.blocks import Block, Caution, Cell, Paragraph, Table, percent
from models.unknown.separation import BACKGROUND, HELD_OUT, NONE

HEADING = "How it knows that it does not know"
NAMES = {
    "mahalanobis": "Mahalanobis distance of the embedding to the nearest class",
    "nearest": "distance of the embedding to the nearest training image",
    "gen": "generalised entropy (GEN) of the answer",
}
KINDS = {HELD_OUT: "classes held out", BACKGROUND: "other pictures", NONE: "its none images"}


def blocks(facts: Mapping[str, Any]) -> list[Block]:
    """Of a fine-tuned version."""
    rate, images = facts["false_alarm_rate"], facts["threshold_images"]
    chosen = facts["separation"][facts["method"]]
    kinds = [kind for kind in KINDS if any(found.get(kind) is not None for found in facts["separation"].values())]
    rows: list[list[Cell]] = [
        [NAMES[method], *(_decimals(found.get(kind)) for kind in kinds)]
        for method, found in facts["separation"].items()
    ]
    said: list[Block] = [
        Paragraph(
            f"Each answer has a score of how foreign the image is: the {NAMES[facts['method']]}. Above "
            f"{facts['threshold']:.4g} the image counts as unknown. The threshold is set for false alarms of at "
            f"most {percent(rate)} on new images like the {images} validation images."
        ),
        Table(["score", *(f"AUROC, {KINDS[kind]}" for kind in kinds)], rows, numbers_from=1),
        Paragraph(
            "The AUROC is how often an image that shows none of the classes gets a higher score than a validation "
            "image. For classes held out the score is fitted without a class, or a fifth of many, and shown its "
            "training images; the network has learnt that class all the same. Other pictures are "
            f"{facts['background_images']} crops of three photographs. The first row was chosen by these figures."
        ),
    ]
    if (marked := facts["none_marked"]) is not None:
        said.append(
            Paragraph(
                f"Of the {facts['none_images']['validation']} none images that validate {percent(marked)} are "
                f"marked as unknown (AUROC {_decimals(facts['none_auroc'])})."
            )
        )
    if images < facts["fewest_images"]:
        said.append(
            Caution(
                f"{images} validation images are too few for a threshold at {percent(rate)}, which takes "
                f"{facts['fewest_images']}: it is the largest score among them, and false alarms on new images "
                f"may be up to {percent(1 / (images + 1))}."
            )
        )
    weakest = min((value for value in chosen.values() if value is not None), default=None)
    if weakest is not None and weakest < 0.8:
        said.append(
            Caution(
                "What resembles its classes is told apart less well than other pictures are: do not rely on it to "
                "find a new class among similar ones."
            )
        )
    return said


def published_blocks() -> list[Block]:
    """Of published weights and of uploaded models."""
    return [
        Paragraph(
            f"Each answer has a score of how foreign the image is: the {NAMES['gen']}. It reads the answer alone, "
            "for of the images that these weights learnt from none is here, so it is weaker than the score of a "
            "fine-tuned version, which reads the embedding (OpenOOD v1.5, ImageNet, ResNet-50: AUROC 0.77 for "
            "near and 0.90 for far images, to 0.79 and 0.91)."
        ),
        Caution("There are no images to set a threshold by, so no answer is marked as unknown: compare scores."),
    ]


def _decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
