"""What a fine-tuned version is looked at for before it is published, in the order of its card."""

import threading

from models.diagnosis.labels import import_confident_learning
from models.findings.conformal import find_prediction_sets
from models.findings.diagnosis import examine_images
from models.findings.drift import find_drift_reference
from models.findings.filters import find_filters
from models.findings.finding import Finding
from models.findings.learning_curve import find_learning_curve
from models.findings.neighbours import find_neighbours
from models.findings.subject import Finder, Subject
from models.findings.unknown import find_detector
from workers.training.progress import ProgressReporter

FINDERS: tuple[Finder, ...] = (
    find_detector,
    find_prediction_sets,
    find_drift_reference,
    examine_images,
    find_learning_curve,
    find_neighbours,
    find_filters,
)


def get_ready_to_find() -> None:
    """Has another thread import what takes long."""
    threading.Thread(target=import_confident_learning, name="findings", daemon=True).start()


def find_all(subject: Subject, reporter: ProgressReporter) -> list[Finding]:
    """Raises what a finder raises, and Interrupted and LeaseLost between two of them."""
    found = []
    for done, find in enumerate(FINDERS):
        reporter.progress(done, len(FINDERS))
        found.append(find(subject))
    return found
