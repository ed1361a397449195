"""Finds whether twice as many images would make the version better: `models.training.learning_curve`."""

from dataclasses import asdict

import numpy as np

from models.card.blocks import Block, Paragraph, Plots, percent
from models.card.plots import images_curve
from models.findings.finding import Finding
from models.findings.subject import Subject
from models.training.embedded import EmbeddedImages
from models.training.learning_curve import (
    FEWEST_PER_CLASS,
    FrozenFeatures,
    LearningCurve,
    is_affordable,
    learning_curve,
)

NAME, HEADING = "learning_curve", "How many images are enough"


def find_learning_curve(subject: Subject) -> Finding:
    """Measured on the test images where there are any, else on the validation images."""
    head, embedded = subject.trained.head, subject.embedded
    if head is None:
        return _left_out(
            "more than a head that is solved was trained, so that heads on parts of the images would flatter it; "
            "a fine-tune with the strategy `head` has a curve"
        )
    measured_on, measured = ("test", embedded.test) if len(embedded.test) else ("validation", embedded.validation)
    train, seen = _features(embedded.train), _features(measured)
    if train is None or seen is None:
        return _left_out("there are no features of the images")
    if not (np.isfinite(train.features).all() and np.isfinite(seen.features).all()):
        return _left_out("the features of the images are not all numbers")
    classes = len(subject.inputs.split.labels)
    if not is_affordable(len(train), train.features.shape[1], classes):
        return _left_out(f"{len(train)} images of {classes} classes would take too long")
    curve = learning_curve(train, seen, classes, l2=head.l2, seed=subject.seed)
    if curve is None:
        return _left_out(f"it takes {4 * FEWEST_PER_CLASS} training images of a class, on average")
    facts = {
        "measured_on": measured_on,
        "images": len(seen),
        "points": [asdict(point) for point in curve.points],
        "gain_of_twice_as_many": curve.gain,
        "interval": [curve.low, curve.high],
        "told": told(curve),
    }
    return Finding(NAME, facts, HEADING, _blocks(curve, measured_on, len(seen)))


def told(curve: LearningCurve) -> str:
    """In a sentence."""
    interval = f"95 % interval: {_points(curve.low)} to {_points(curve.high)}"
    if curve.more_may_not_help:
        return f"More of the same may not help: twice as many add {_points(curve.gain)} points ({interval})."
    return f"Twice as many images would add about {_points(curve.gain)} points of accuracy ({interval})."


def _blocks(curve: LearningCurve, measured_on: str, images: int) -> list[Block]:
    whole = curve.points[-1]
    return [
        Paragraph(told(curve)),
        Plots(
            [images_curve(curve)],
            f"Accuracy on the {images} {measured_on} images by the number of training images of a class; "
            "the bars reach from the lowest to the highest of the draws.",
        ),
        Paragraph(
            "Heads were fitted on halves, quarters and smaller parts of the training images, drawn several times, "
            f"without augmented views; with all of them such a head reaches {percent(whole.accuracy)}. The "
            "forecast is that of a power law, with and without an error that no number of images removes, and "
            "supposes more images like these: others, or better labels, may help more."
        ),
    ]


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _features(part: EmbeddedImages) -> FrozenFeatures | None:
    return None if part.embedding is None or not len(part) else FrozenFeatures(part.embedding, part.targets)


def _left_out(reason: str) -> Finding:
    return Finding(NAME, {"reason": reason}, HEADING, [Paragraph(f"Left out: {reason}.")])
