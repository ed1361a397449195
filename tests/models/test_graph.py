"""Versions whose files have the right checksums and are still a stranger's: refused with a reason, never run."""

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.attacks.artifacts import GRAPHS, MANIFESTS, good_graph, write_graph, write_with_manifest
from support.attacks.attack import mutated

from models.artifact import MODEL
from models.errors import ArtifactCorrupt, PredictionFailed
from models.graph import check_graph
from models.predictor import Predictor

# With "logits" as a name that is no text.
NOT_UTF8 = good_graph().replace(b"logits", b"\xff\xfegits")


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (GRAPHS["a loop without end"](), "operator Loop, which may run for ever"),
        (GRAPHS["weights in /etc/passwd"](), "weights in another file"),
        (NOT_UTF8, "no text|cannot be loaded"),
        (b"", "no ONNX file"),
        (b"\x3b" * 1_000, "no ONNX file"),
    ],
    ids=["loop", "external", "not UTF-8", "empty", "groups"],
)
def test_a_graph_that_no_export_writes_is_refused(tmp_path: Path, graph: bytes, said: str) -> None:
    with pytest.raises(ArtifactCorrupt, match=said) as caught:
        Predictor(write_graph(tmp_path, graph), device="cpu")
    assert str(tmp_path) not in str(caught.value)
    assert "/etc" not in str(caught.value)


def test_a_graph_that_answers_for_fewer_images_than_it_was_given_fails(tmp_path: Path) -> None:
    predictor = Predictor(write_graph(tmp_path, GRAPHS["fewer answers than images"]()), device="cpu")
    with pytest.raises(PredictionFailed, match=r"answered logits \[\(1, 3\)\] for 2 images"):
        predictor.predict(np.zeros((2, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("what", ["deep", "an infinite number"])
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, what: str) -> None:
    with pytest.raises(ArtifactCorrupt):
        Predictor(write_with_manifest(tmp_path, MANIFESTS[what]), device="cpu")


def test_whatever_the_bytes_the_walk_ends_with_a_reason(tmp_path: Path) -> None:
    for seed in range(500):
        (tmp_path / MODEL).write_bytes(mutated(good_graph(), random.Random(seed)))
        with suppress(ArtifactCorrupt):
            check_graph(tmp_path / MODEL)
