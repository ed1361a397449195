"""A detector's file: what is written is what is read, and what is not the published one is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.colours import make_colour_artifact

from models.artifact import Manifest, read_manifest, write_manifest
from models.errors import ArtifactCorrupt
from models.unknown.detector import FILE, read_detector, write_score
from models.unknown.fit import fit_mahalanobis, fit_nearest
from models.unknown.scores import Score

VALUES = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
TARGETS = np.repeat([0, 1], 10)
SCORES = (fit_mahalanobis(VALUES, TARGETS), fit_nearest(VALUES, TARGETS))


def written(folder: Path, score: Score, **facts: Any) -> Manifest:
    make_colour_artifact(folder)
    write_score(score, folder / FILE)
    found = {"method": score.method, "file": FILE, "threshold": 1.5, **facts}
    outputs = {"logits": [3], "probabilities": [3], "embedding": [5]}
    manifest = dataclasses.replace(read_manifest(folder), findings={"unknown": found}, outputs=outputs)
    return write_manifest(folder, manifest)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: str(score.method))
def test_what_is_written_is_what_is_read(score: Score, tmp_path: Path) -> None:
    found = read_detector(tmp_path, written(tmp_path, score, thresholds={"int8": 2.5}), "float32")
    assert found is not None
    assert (found.output, found.threshold) == ("embedding", 1.5)
    assert np.array_equal(found.score(VALUES), score(VALUES))
    other = read_detector(tmp_path, read_manifest(tmp_path), "int8")
    assert other is not None
    assert other.threshold == 2.5


def test_the_same_arrays_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_score(SCORES[0], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    manifest = written(tmp_path, SCORES[0])
    (tmp_path / FILE).write_bytes(b"PK and more")
    with pytest.raises(ArtifactCorrupt, match="is not the published file"):
        read_detector(tmp_path, manifest, "float32")


def test_a_file_for_another_network_is_refused(tmp_path: Path) -> None:
    manifest = dataclasses.replace(written(tmp_path, SCORES[1]), outputs={"embedding": [7]})
    with pytest.raises(ArtifactCorrupt, match=r"for embeddings of \[5\], the graph gives \[7\]"):
        read_detector(tmp_path, manifest, "float32")


def test_an_older_version_has_none_and_a_newer_ones_method_is_left_out(tmp_path: Path) -> None:
    manifest = make_colour_artifact(tmp_path)
    assert read_detector(tmp_path, manifest, "float32") is None
    newer = dataclasses.replace(manifest, findings={"unknown": {"method": "of next year", "threshold": 1.0}})
    assert read_detector(tmp_path, newer, "float32") is None


def test_without_a_threshold_nobody_knows_what_is_unknown(tmp_path: Path) -> None:
    facts = {"method": "gen", "file": None, "threshold": None}
    manifest = dataclasses.replace(make_colour_artifact(tmp_path), findings={"unknown": facts})
    found = read_detector(tmp_path, manifest, "float32")
    assert found is not None
    assert found.output == "logits"
    assert [is_unknown for _, is_unknown in found.judge(np.eye(3, dtype=np.float32))] == [None] * 3
