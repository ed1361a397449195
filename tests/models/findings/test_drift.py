"""The reference that a fine-tune leaves: of its validation images, by the probabilities that are served."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from models.drift.comparison import compare
from models.drift.reference import FEWEST_REFERENCE_IMAGES, reference_of
from models.drift.sketcher import Sketcher
from models.findings.drift import find_drift_reference
from models.findings.subject import Subject
from models.training.embedded import EmbeddedImages

LABELS = ("ants", "bees", "wasps")


def subject(count: int, *, has_embedding: bool = True, temperature: float = 2.0) -> Subject:
    """Of a subject what the finder looks at."""
    rng = np.random.default_rng(count)
    logits = rng.normal(0, 3, (count, 3)).astype(np.float32)
    embedding = rng.normal(size=(count, 50)).astype(np.float32) if has_embedding else None
    validation = EmbeddedImages(cast(Any, None), np.arange(count), logits, embedding)
    return cast(
        Subject,
        SimpleNamespace(
            embedded=SimpleNamespace(validation=validation),
            inputs=SimpleNamespace(split=SimpleNamespace(labels=LABELS)),
            temperature=temperature,
        ),
    )


@pytest.mark.parametrize("has_embedding", [True, False])
def test_what_is_served_of_the_validation_images_is_no_drift_from_it(has_embedding: bool) -> None:
    looked_at = subject(120, has_embedding=has_embedding)
    finding = find_drift_reference(looked_at)
    reference = reference_of({"findings": {finding.name: finding.facts}})
    assert reference
    assert (finding.name, reference.images) == ("drift", 120)
    assert (reference.embedding is not None) == has_embedding
    validation = looked_at.embedded.validation
    scaled = np.exp(validation.logits / 2.0)
    served = {"probabilities": (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)}
    if validation.embedding is not None:
        served["embedding"] = validation.embedding
    sketcher = Sketcher(reference)
    sketcher.add(served)
    sketch = sketcher.take()
    assert sketch
    assert compare(reference, sketch).distance == 0


def test_the_temperature_counts() -> None:
    served = [find_drift_reference(subject(120, temperature=t)).facts["reference"] for t in (1.0, 2.0)]
    assert served[0]["quantities"][0]["edges"] != served[1]["quantities"][0]["edges"]


def test_too_few_images_are_said_to_be() -> None:
    few = find_drift_reference(subject(FEWEST_REFERENCE_IMAGES - 1))
    assert "reference" not in few.facts
    assert "too few" in few.facts["missing"]
    assert reference_of({"findings": {"drift": few.facts}}) is None
    assert "reference" in find_drift_reference(subject(FEWEST_REFERENCE_IMAGES)).facts
