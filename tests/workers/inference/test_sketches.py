"""What an engine answers is sketched beside it, in the same run of the network, at the price of microseconds."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.drifting import make_drifting_artifact, pictures

from models.artifact import Manifest, read_manifest, write_manifest
from models.predictor import Predictor
from workers.inference.answers import Asked
from workers.inference.engine import Engine
from workers.inference.loaded import LoadedModels
from workers.inference.sketches import model_sketcher


class Counting(Predictor):
    """Notes which outputs each run was asked for."""

    asked: list[tuple[str, ...]]

    def run(self, images, outputs):  # type: ignore[no-untyped-def]
        self.__dict__.setdefault("asked", []).append(tuple(outputs))
        return super().run(images, outputs)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    make_drifting_artifact(folder)
    return folder


@pytest.fixture
def engine(artifact: Path) -> Iterator[Engine]:
    models = LoadedModels(lambda _, __: Counting(artifact, device="cpu"), 2**30, model_sketcher)
    made = Engine(models, concurrency=2, max_pixels=10_000)
    yield made
    made.close()


def held_sketcher(engine: Engine):  # type: ignore[no-untyped-def]
    with engine.models.hold("a") as held:
        return held.sketcher


def test_a_batch_is_sketched_in_the_run_that_answers_it(engine: Engine) -> None:
    result = engine.classify("a", pictures(10), Asked(1))
    assert result.sketch
    assert result.sketch.images == 10
    with engine.models.hold("a") as held:
        runs = [asked for asked in held.predictor.asked if "embedding" in asked]  # type: ignore[attr-defined]
    assert set(runs) == {("probabilities", "embedding")}


def test_what_cannot_be_decoded_is_in_no_sketch(engine: Engine) -> None:
    result = engine.classify("a", [*pictures(3), b"no picture"], Asked(1))
    assert result.sketch
    assert result.sketch.images == 3


def test_a_sketch_comes_once_a_second_and_then_has_all(engine: Engine) -> None:
    assert engine.classify("a", pictures(4), Asked(1)).sketch
    assert engine.classify("a", pictures(5), Asked(1)).sketch is None
    held_sketcher(engine).interval_s = 0
    third = engine.classify("a", pictures(6), Asked(1)).sketch
    assert third
    assert third.images == 11


def test_threads_that_answer_at_once_lose_none(engine: Engine) -> None:
    engine.classify("a", pictures(1), Asked(1))
    images = pictures(20)
    threads = [
        threading.Thread(target=lambda: [engine.classify("a", images, Asked(1)) for _ in range(10)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held_sketcher(engine).interval_s = 0
    last = engine.classify("a", images[:1], Asked(1)).sketch
    assert last
    assert last.images == 4 * 10 * 20 + 1


def test_loading_alone_is_not_sketched(engine: Engine) -> None:
    assert engine.classify("a", [], Asked(1)).sketch is None


def changed(artifact: Path, folder: Path, findings: dict[str, dict[str, object]]) -> Manifest:
    for file in artifact.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return write_manifest(folder, replace(read_manifest(artifact), findings=findings))


@pytest.mark.parametrize("finding", [{}, {"missing": "why"}, {"reference": {}}, {"reference": {"images": 5}}])
def test_without_a_reference_that_can_be_read_it_answers_all_the_same(
    artifact: Path, tmp_path: Path, finding: dict[str, object]
) -> None:
    changed(artifact, tmp_path, {"drift": finding})
    engine = Engine(
        LoadedModels(lambda _, __: Predictor(tmp_path, device="cpu"), 2**30, model_sketcher), 1, max_pixels=10_000
    )
    try:
        result = engine.classify("a", pictures(2), Asked(1))
    finally:
        engine.close()
    assert result.sketch is None
    assert all(outcome.error is None for outcome in result.outcomes)
