"""What a fine-tuned version is looked at for before it is published, in the order of its card."""

from models.findings.finding import Finding
from models.findings.subject import Finder, Subject
from models.unknown.find import find_detector
from workers.training.progress import ProgressReporter

FINDERS: tuple[Finder, ...] = (find_detector,)


def find_all(subject: Subject, reporter: ProgressReporter) -> list[Finding]:
    """Raises what a finder raises, and Interrupted and LeaseLost between two of them."""
    found = []
    for done, find in enumerate(FINDERS):
        reporter.progress(done, len(FINDERS))
        found.append(find(subject))
    return found
