"""Similar images in the worker: opened with the first question, closed with the model, counted in its memory."""

import hashlib
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.colours import LABELS, make_colour_artifact, picture
from support.taught import make_taught_artifact

from models.errors import OutputUnavailable
from models.predictor import Predictor
from workers.inference.answers import Asked
from workers.inference.engine import Engine
from workers.inference.loaded import LoadedModels

TAUGHT = {
    hashlib.sha256(data).hexdigest(): (label, data)
    for label in LABELS
    for data in (picture(label, noise=seed) for seed in range(1, 6))
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    make_taught_artifact(tmp_path / "taught", TAUGHT, {"id": "ds_x"})
    make_colour_artifact(tmp_path / "plain")
    models = LoadedModels(lambda name, _: Predictor(tmp_path / name, device="cpu"), memory_budget=2**30)
    made = Engine(models, concurrency=2, max_pixels=10_000)
    yield made
    made.close()


def test_each_image_of_a_batch_has_its_own(engine: Engine) -> None:
    images = [picture(LABELS[n % 3], noise=100 + n) for n in range(9)] + [b"no image"]
    outcomes = engine.classify("taught", images, Asked(1, similar=2)).outcomes
    assert [[near.label for near in one.similar or ()] for one in outcomes[:9]] == [
        [LABELS[n % 3]] * 2 for n in range(9)
    ]
    assert (outcomes[9].similar, outcomes[9].error) == (None, "image_unreadable")
    assert all(one.outputs is None for one in outcomes)


def test_whoever_does_not_ask_opens_nothing(engine: Engine) -> None:
    (outcome,) = engine.classify("taught", [picture("red")], Asked(1)).outcomes
    assert outcome.similar is None
    with engine.models.hold("taught") as held:
        assert held.neighbours is None


def test_a_version_without_them_cannot_be_asked(engine: Engine) -> None:
    with pytest.raises(OutputUnavailable):
        engine.classify("plain", [picture("red")], Asked(1, similar=1))


def test_they_count_as_memory_and_go_with_their_model(engine: Engine) -> None:
    engine.classify("taught", [picture("red")], Asked(1, similar=1))
    with engine.models.hold("taught") as held:
        assert held.neighbours is not None
        assert held.memory_bytes == held.predictor.memory_bytes + len(TAUGHT) * (32 + 4)
        known = weakref.ref(held.neighbours)
    del held
    engine.models.memory_budget = 1
    engine.classify("plain", [picture("red")], Asked(1))
    assert engine.models.artifacts() == ("plain",)
    assert known() is None
