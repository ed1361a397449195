"""Loaded models: loaded once, warmed, kept within a budget, never closed under a user; on real ONNX artifacts."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.colours import LABELS, make_colour_artifact, picture

from models.errors import ArtifactNotFound
from models.predictor import Predictor
from storage.cache import HeldFolder
from workers.inference.engine import DeadlinePassed, Engine
from workers.inference.loader import predictor_loader


class Loader:
    """Loads real artifacts from a folder, counting; `memory` stands for their size."""

    def __init__(self, folder: Path, memory: int = 10) -> None:
        self.folder = folder
        self.memory = memory
        self.loads: list[str] = []
        self.made: dict[str, Predictor] = {}

    def __call__(self, artifact: str) -> Predictor:
        self.loads.append(artifact)
        time.sleep(0.05)
        predictor = Predictor(self.folder / artifact)
        predictor.memory_bytes = self.memory
        self.made[artifact] = predictor
        return predictor


MakeEngine = Callable[..., tuple[Engine, Loader]]


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[MakeEngine]:
    engines: list[Engine] = []

    def make(*artifacts: str, budget: int = 25, memory: int = 10) -> tuple[Engine, Loader]:
        for artifact in artifacts:
            make_colour_artifact(tmp_path / artifact)
        loader = Loader(tmp_path, memory)
        engines.append(Engine(loader, concurrency=2, memory_budget=budget, max_pixels=10_000))
        return engines[-1], loader

    yield make
    for engine in engines:
        engine.close()


def test_a_batch_is_answered_in_its_order_with_each_images_own_error(make_engine: MakeEngine) -> None:
    engine, _ = make_engine("a")
    images = [
        picture("blue"),
        picture("red")[:50],
        picture("green"),
        picture("red", size=(200, 200)),
        picture("red"),
    ]
    result = engine.classify("a", images, 2)
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
    engine, _ = make_engine("a")
    result = engine.classify("a", [b"", b"no"], 5)
    assert {outcome.error for outcome in result.outcomes} == {"image_unreadable"}


def test_top_k_larger_than_the_classes_gives_them_all(make_engine: MakeEngine) -> None:
    engine, _ = make_engine("a")
    (outcome,) = engine.classify("a", [picture("green")], 1000).outcomes
    assert sorted(score.label for score in outcome.classes) == sorted(LABELS)


def test_a_model_is_loaded_once_however_many_wait_for_it(make_engine: MakeEngine) -> None:
    engine, loader = make_engine("a")
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: engine.classify("a", [picture("red")], 1), range(16)))
    assert loader.loads == ["a"]
    assert {result.outcomes[0].classes[0].label for result in results} == {"red"}


def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_later(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine, _ = make_engine()

    def attempt(_: int) -> bool:
        with pytest.raises(ArtifactNotFound):
            engine.classify("a", [picture("red")], 1)
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(attempt, range(4)))
    make_colour_artifact(tmp_path / "a")
    assert engine.classify("a", [picture("red")], 1).outcomes[0].error is None
    assert engine.loaded() == ("a",)


def test_the_least_recently_used_model_goes_when_the_budget_is_full(make_engine: MakeEngine) -> None:
    engine, loader = make_engine("a", "b", "c")
    for artifact in ("a", "b", "a", "c"):
        engine.classify(artifact, [picture("red")], 1)
    assert engine.loaded() == ("a", "c")
    engine.classify("b", [picture("red")], 1)
    assert loader.loads == ["a", "b", "c", "b"]


def test_a_model_larger_than_the_budget_is_served_alone(make_engine: MakeEngine) -> None:
    engine, _ = make_engine("a", "b", memory=100)
    engine.classify("a", [picture("red")], 1)
    assert engine.classify("b", [picture("blue")], 1).outcomes[0].classes[0].label == "blue"
    assert engine.loaded() == ("b",)


def test_an_evicted_model_is_closed_by_its_last_user(make_engine: MakeEngine) -> None:
    engine, loader = make_engine("a", "b", budget=10)
    with engine.model("a") as held:
        engine.classify("b", [picture("red")], 1)
        assert engine.loaded() == ("b",)
        held.predictor.warm_up([1])
    with pytest.raises(Exception, match="closed"):
        loader.made["a"].warm_up([1])


def test_batches_run_at_once_without_mixing_their_answers(make_engine: MakeEngine) -> None:
    engine, _ = make_engine("a", "b", budget=10)
    failures: list[str] = []

    def hammer(colour: str, artifact: str) -> None:
        for _ in range(30):
            result = engine.classify(artifact, [picture(colour)] * 5, 1)
            failures.extend(o.classes[0].label for o in result.outcomes if o.classes[0].label != colour)

    threads = [threading.Thread(target=hammer, args=(c, a)) for c in LABELS for a in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_loaded_model_keeps_its_folder_until_it_is_evicted(tmp_path: Path) -> None:
    """Another copy is to go from the disk, however long ago this one was read."""
    in_use: set[str] = set()

    class Noted(HeldFolder):
        def release(self) -> None:
            in_use.discard(self.path.name)

    def hold(artifact: str) -> HeldFolder:
        in_use.add(artifact)
        return Noted(tmp_path / artifact)

    for artifact in "ab":
        make_colour_artifact(tmp_path / artifact)
    load = predictor_loader(hold, device="cpu", intra_op_threads=1, cuda_memory_bytes=0)
    engine = Engine(load, concurrency=1, memory_budget=1, max_pixels=10_000)
    engine.classify("a", [picture("red")], 1)
    assert in_use == {"a"}
    engine.classify("b", [picture("red")], 1)
    assert in_use == {"b"}
    with pytest.raises(ArtifactNotFound):
        engine.classify("none", [picture("red")], 1)
    assert in_use == {"b"}
    engine.close()
    del engine
    gc.collect()
    assert in_use == set()


def test_what_is_costly_is_decoded_apart_and_answered_in_its_place(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limit at nothing every image is; each answer is the same as without."""
    engine, _ = make_engine("colours")
    images = [picture("blue"), b"no image", picture("red"), picture("green", size=(400, 400))]
    usual = engine.classify("colours", images, 1).outcomes
    monkeypatch.setattr("workers.inference.engine.COSTLY_PIXELS", 0)
    assert engine.classify("colours", images, 1).outcomes == usual
    assert [outcome.error for outcome in usual] == [None, "image_unreadable", None, "image_too_large"]


def test_a_batch_is_given_up_once_nobody_waits_for_it(make_engine: MakeEngine) -> None:
    engine, _ = make_engine("colours")
    with pytest.raises(DeadlinePassed):
        engine.classify("colours", [picture("blue")] * 5, 1, deadline=time.time() - 1)
    with pytest.raises(DeadlinePassed):
        engine.classify("colours", [picture("blue")], 1, deadline=time.time() - 1, suspects=[0])
