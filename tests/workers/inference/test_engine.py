"""Batches through loaded models: every image its own outcome, in its own place; on real ONNX artifacts."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.colours import LABELS, make_colour_artifact, picture

from models.predictor import Predictor
from workers.inference.answers import Asked
from workers.inference.engine import DeadlinePassed, Engine
from workers.inference.loaded import LoadedModels

MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[MakeEngine]:
    engines: list[Engine] = []

    def make(*artifacts: str, budget: int = 2**30) -> Engine:
        for artifact in artifacts:
            make_colour_artifact(tmp_path / artifact)
        models = LoadedModels(lambda artifact, _: Predictor(tmp_path / artifact), budget)
        engines.append(Engine(models, concurrency=2, max_pixels=10_000))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def test_a_batch_is_answered_in_its_order_with_each_images_own_error(make_engine: MakeEngine) -> None:
    engine = make_engine("a")
    images = [
        picture("blue"),
        picture("red")[:50],
        picture("green"),
        picture("red", size=(200, 200)),
        picture("red"),
    ]
    result = engine.classify("a", images, Asked(2))
    assert [outcome.classes[0].label if outcome.classes else outcome.error for outcome in result.outcomes] == [
        "blue",
        "image_unreadable",
        "green",
        "image_too_large",
        "red",
    ]
    assert result.provider == "CPUExecutionProvider"
    assert result.decode_ms > 0
    assert result.inference_ms > 0


def test_a_batch_without_a_readable_image_has_only_errors(make_engine: MakeEngine) -> None:
    engine = make_engine("a")
    result = engine.classify("a", [b"", b"no"], Asked(5))
    assert {outcome.error for outcome in result.outcomes} == {"image_unreadable"}


def test_top_k_larger_than_the_classes_gives_them_all(make_engine: MakeEngine) -> None:
    engine = make_engine("a")
    (outcome,) = engine.classify("a", [picture("green")], Asked(1000)).outcomes
    assert sorted(score.label for score in outcome.classes) == sorted(LABELS)


def test_batches_run_at_once_without_mixing_their_answers(make_engine: MakeEngine) -> None:
    engine = make_engine("a", "b", budget=1)
    failures: list[str] = []

    def hammer(colour: str, artifact: str) -> None:
        for _ in range(30):
            result = engine.classify(artifact, [picture(colour)] * 5, Asked(1))
            failures.extend(o.classes[0].label for o in result.outcomes if o.classes[0].label != colour)

    threads = [threading.Thread(target=hammer, args=(c, a)) for c in LABELS for a in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_is_costly_is_decoded_apart_and_answered_in_its_place(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limit at nothing every image is; each answer is the same as without."""
    engine = make_engine("colours")
    images = [picture("blue"), b"no image", picture("red"), picture("green", size=(400, 400))]
    usual = engine.classify("colours", images, Asked(1)).outcomes
    monkeypatch.setattr("workers.inference.engine.COSTLY_PIXELS", 0)
    assert engine.classify("colours", images, Asked(1)).outcomes == usual
    assert [outcome.error for outcome in usual] == [None, "image_unreadable", None, "image_too_large"]


def test_a_batch_is_given_up_once_nobody_waits_for_it(make_engine: MakeEngine) -> None:
    engine = make_engine("colours")
    with pytest.raises(DeadlinePassed):
        engine.classify("colours", [picture("blue")] * 5, Asked(1), deadline=time.time() - 1)
    with pytest.raises(DeadlinePassed):
        engine.classify("colours", [picture("blue")], Asked(1), deadline=time.time() - 1, suspects=[0])
