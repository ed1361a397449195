"""Finds what a version's sets of classes are calibrated by, and how large they are: `models.conformal`.

The scores come of the logits as they are, at temperature 1: nothing was fitted on the validation images to make
them, so that all of these calibrate. Where a test split exists it measures what the sets reach; else the
validation images do, each by sets that the other folds calibrate.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from models.card.blocks import Block, Paragraph, Table, percent
from models.conformal import CONFORMAL, ConformalScores, images_needed
from models.errors import CoverageUnavailable
from models.findings.finding import Finding
from models.findings.subject import Subject
from models.prediction_sets import class_scores, prediction_sets
from models.training.embedded import EmbeddedImages
from models.training.metrics import wilson_interval
from models.training.seeds import derive_seed

COVERAGES = (0.8, 0.9, 0.95, 0.99)
FOLDS = 10
# Of a class with fewer, its share says little.
FEWEST_OF_CLASS = 20
HEADING = "Sets of classes"

Scores = NDArray[np.float64]
Targets = NDArray[np.int64]


@dataclass(frozen=True)
class ReachedCoverage:
    """What sets of `coverage` reached on `images`: the share that hold the truth, and how many classes they have.

    `single` is the share of the sets that have one class. `lowest` is the share that hold the truth in the class
    where it is lowest, of those with `FEWEST_OF_CLASS` images; None without any.
    """

    coverage: float
    images: int
    reached: float
    mean_size: float
    single: float
    lowest: float | None
    lowest_label: str | None


def find_prediction_sets(subject: Subject) -> Finding:
    """Calibrates on the validation images."""
    validation, test = subject.embedded.validation, subject.embedded.test
    labels = subject.inputs.split.labels
    if not _is_usable(validation):
        reason = "The logits of the validation images are not all numbers, so nothing can be calibrated."
        return Finding(CONFORMAL, {"images": 0, "reason": reason}, HEADING, [Paragraph(reason)])
    scores, targets = class_scores(validation.logits), validation.targets
    calibrated = ConformalScores.of(true_scores(scores, targets).tolist())
    measured_on, reached = "validation", []
    for coverage in COVERAGES:
        if _is_usable(test):
            measured_on = "test"
            found = measure(coverage, calibrated, class_scores(test.logits), test.targets, labels)
        else:
            found = cross_fitted(coverage, scores, targets, labels, seed=subject.seed)
        if found:
            reached.append(found)
    facts = {
        **calibrated.to_facts(),
        "highest_coverage": calibrated.highest_coverage,
        "measured_on": measured_on,
        "reached": [asdict(found) for found in reached],
    }
    return Finding(CONFORMAL, facts, HEADING, _blocks(calibrated, measured_on, reached, subject))


def true_scores(scores: Scores, targets: Targets) -> Scores:
    """Of `[n, classes]` those of the true classes, `[n]`."""
    return scores[np.arange(len(targets)), targets]


def measure(
    coverage: float, calibrated: ConformalScores, scores: Scores, targets: Targets, labels: tuple[str, ...]
) -> ReachedCoverage | None:
    """On images that calibrated nothing; None where too few calibrate for so much."""
    try:
        threshold = calibrated.threshold(coverage)
    except CoverageUnavailable:
        return None
    return _summary(coverage, prediction_sets(scores, threshold), targets, labels)


def cross_fitted(
    coverage: float, scores: Scores, targets: Targets, labels: tuple[str, ...], *, seed: int
) -> ReachedCoverage | None:
    """Each image by the set that the other folds calibrate; None where these are too few for so much."""
    if len(targets) < 2:
        return None
    order = np.random.default_rng(derive_seed("conformal", seed)).permutation(len(targets))
    members = np.zeros(scores.shape, bool)
    for fold in np.array_split(order, min(FOLDS, len(targets))):
        others = np.delete(np.arange(len(targets)), fold)
        calibrated = ConformalScores.of(true_scores(scores[others], targets[others]).tolist())
        try:
            members[fold] = prediction_sets(scores[fold], calibrated.threshold(coverage))
        except CoverageUnavailable:
            return None
    return _summary(coverage, members, targets, labels)


def _is_usable(images: EmbeddedImages) -> bool:
    return len(images) > 0 and bool(np.isfinite(images.logits).all())


def _summary(
    coverage: float, members: NDArray[np.bool_], targets: Targets, labels: tuple[str, ...]
) -> ReachedCoverage:
    held, sizes = members[np.arange(len(targets)), targets], members.sum(axis=1)
    counts = np.bincount(targets, minlength=len(labels))
    shares = np.bincount(targets, weights=held, minlength=len(labels)) / counts.clip(min=1)
    shares[counts < FEWEST_OF_CLASS] = np.inf
    lowest = int(shares.argmin()) if np.isfinite(shares).any() else None
    return ReachedCoverage(
        coverage=coverage,
        images=len(targets),
        reached=float(held.mean()),
        mean_size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
        lowest=None if lowest is None else float(shares[lowest]),
        lowest_label=None if lowest is None else labels[lowest],
    )


def _blocks(
    calibrated: ConformalScores, measured_on: str, reached: list[ReachedCoverage], subject: Subject
) -> list[Block]:
    said = Paragraph(
        "Asked with a coverage, such as ?coverage=0.95, it answers the smallest set of classes that holds the "
        f"truth with that probability, calibrated by its {calibrated.images} validation images: good for a "
        f"coverage of {calibrated.highest_coverage:g} at the most. The promise is for images like these, all "
        "classes together; a single class may be held less often."
    )
    if not reached:
        fewest = images_needed(COVERAGES[0])
        return [said, Paragraph(f"To measure what it reaches takes more than {fewest} validation images.")]
    how = (
        f"Measured on the {reached[0].images} test images, which calibrated nothing."
        if measured_on == "test"
        else f"Measured on the {reached[0].images} validation images, each by the other folds; its own choice of "
        "images makes the share come out near what is asked, so look at the sizes."
    )
    if len(subject.trained.result.history) > 1:
        how += " The validation images also chose the epoch that was kept, so this is a little flattering."
    rows = [
        [
            percent(found.coverage),
            percent(found.reached),
            " – ".join(map(percent, wilson_interval(round(found.reached * found.images), found.images))),
            f"{found.mean_size:.2f}",
            percent(found.single),
            "–" if found.lowest is None else f"{percent(found.lowest)} ({found.lowest_label})",
        ]
        for found in reached
    ]
    header = ["Asked", "Reached", "95 % interval", "Mean size", "Of one class", "Lowest of a class"]
    return [said, Table(header, rows, numbers_from=0), Paragraph(how)]
