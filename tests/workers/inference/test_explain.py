"""Explanations through an engine: precisions, deadlines and what the memory of a head counts to."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.quadrants import halves, make_quadrants

from models.artifact import FLOAT32, MODEL, model_file, read_manifest, write_manifest
from models.predictor import Predictor
from workers.contract.messages import Explain
from workers.inference.engine import DeadlinePassed, Engine
from workers.inference.explain import explain
from workers.inference.loaded import LoadedModels


@pytest.fixture
def image() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(halves("red", "green")).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    make_quadrants(tmp_path / "pooled")
    make_quadrants(tmp_path / "dense", pooled=False)

    def load(artifact: str, precision: str) -> Predictor:
        return Predictor(tmp_path / artifact, precision=precision or FLOAT32)

    engine = Engine(LoadedModels(load, 2**30), concurrency=1, max_pixels=10_000)
    yield engine
    engine.close()


def test_the_map_is_in_the_precision_that_was_asked_for_and_the_head_in_float32(
    engine: Engine, tmp_path: Path, image: bytes
) -> None:
    folder = tmp_path / "pooled"
    (folder / model_file("int8")).write_bytes((folder / MODEL).read_bytes())
    manifest = read_manifest(folder)
    manifest.variants["int8"] = {"precision": "int8", "passed": True}
    write_manifest(folder, manifest)
    for precision, ran in (("", FLOAT32), ("int8", "int8")):
        result = explain(engine, "pooled", [image], Explain(1), precision=precision)
        assert result.precision == ran
        (outcome,) = result.outcomes
        assert outcome.explanation is not None
        assert outcome.explanation.method == "cam"
        assert outcome.outputs is None


def test_the_head_is_cut_once_and_counts_as_memory_of_its_model(engine: Engine, image: bytes) -> None:
    with engine.models.hold("dense", FLOAT32) as held:
        before = held.memory_bytes
        explain(engine, "dense", [image], Explain())
        head = held.head
        assert head is not None
        assert held.memory_bytes == before + head.memory_bytes
        explain(engine, "dense", [image], Explain())
        assert held.head is head


def test_occlusion_needs_no_head(engine: Engine, image: bytes) -> None:
    with engine.models.hold("dense", FLOAT32) as held:
        (outcome,) = explain(engine, "dense", [image], Explain(0, "occlusion")).outcomes
        assert held.head is None
    assert outcome.explanation is not None
    rows = np.array(outcome.explanation.rows)
    assert rows[:, :4].sum() > rows[:, 4:].sum()


def test_a_deadline_ends_it_between_two_images(engine: Engine, image: bytes) -> None:
    with pytest.raises(DeadlinePassed):
        explain(engine, "pooled", [image], Explain(method="occlusion"), deadline=time.time() - 1)


def test_a_suspected_image_is_decoded_apart_for_its_drawing_too(engine: Engine, image: bytes) -> None:
    why = Explain(1, overlay=True)
    here, apart = (
        explain(engine, "pooled", [image], why, suspects=suspects).outcomes[0] for suspects in ((), (0,))
    )
    assert here == apart
    assert here.explanation is not None
    assert here.explanation.overlay
