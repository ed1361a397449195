"""What served images will be compared with, to see whether they are still what a version was validated on."""

from models.card.blocks import Paragraph
from models.drift.describe import describe
from models.drift.reference import FEWEST_REFERENCE_IMAGES, FINDING
from models.findings.finding import Finding
from models.findings.subject import Subject
from models.training.metrics import softmax

HEADING = "Drift"


def find_drift_reference(subject: Subject) -> Finding:
    """Sketches the validation images, by the probabilities that are served in float32."""
    validation = subject.embedded.validation
    images = len(validation)
    if images < FEWEST_REFERENCE_IMAGES:
        missing = (
            f"There are {images} validation images, too few to compare served ones with; it takes "
            f"{FEWEST_REFERENCE_IMAGES}."
        )
        return Finding(FINDING, {"images": images, "missing": missing}, HEADING, [Paragraph(missing)])
    probabilities = softmax(validation.logits / subject.temperature).astype("float32")
    reference = describe(probabilities, validation.embedding, subject.inputs.split.labels)
    beside = "" if reference.embedding is None else " and the mean embedding"
    text = (
        f"While the version is served, its answers are compared with those for its {images:,} validation images: "
        f"{len(reference.quantities)} quantities{beside}. No image is kept. See `fovea models drift`."
    )
    return Finding(FINDING, {"images": images, "reference": reference.to_dict()}, HEADING, [Paragraph(text)])
