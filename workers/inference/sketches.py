"""Which of the loaded models are looked at for drift, and by what."""

import structlog

from models.drift.reference import FINDING, reference_of
from models.drift.sketcher import Sketcher, sketcher_of
from models.predictor import Predictor

log = structlog.get_logger()


def model_sketcher(predictor: Predictor) -> Sketcher | None:
    """None where the version has nothing to be compared with."""
    findings = predictor.manifest.findings
    found = sketcher_of(reference_of({"findings": findings}), len(predictor.labels), predictor.outputs)
    if found is None and "reference" in findings.get(FINDING, {}):
        log.warning("drift.reference_unusable", model=predictor.manifest.model, precision=predictor.precision)
    return found
