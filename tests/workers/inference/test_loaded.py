"""Loaded models: loaded once, warmed, kept within a budget, never closed under a user; on real ONNX artifacts."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.colours import make_colour_artifact

from models.errors import ArtifactNotFound
from models.predictor import Predictor
from workers.inference.loaded import LoadedModels


class Loader:
    """Loads real artifacts from a folder, counting; `memory` stands for their size."""

    def __init__(self, folder: Path, memory: int = 10) -> None:
        self.folder = folder
        self.memory = memory
        self.loads: list[str] = []
        self.made: dict[str, Predictor] = {}

    def __call__(self, artifact: str, precision: str) -> Predictor:
        self.loads.append(artifact)
        time.sleep(0.05)
        predictor = Predictor(self.folder / artifact, precision=precision or "int8")
        predictor.memory_bytes = self.memory
        self.made[artifact] = predictor
        return predictor


Make = Callable[..., tuple[LoadedModels, Loader]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LoadedModels] = []

    def make_models(*artifacts: str, budget: int = 25, memory: int = 10) -> tuple[LoadedModels, Loader]:
        for artifact in artifacts:
            make_colour_artifact(tmp_path / artifact, variants={"int8": False})
        loader = Loader(tmp_path, memory)
        made.append(LoadedModels(loader, budget))
        return made[-1], loader

    yield make_models
    for models in made:
        models.close()


def use(models: LoadedModels, artifact: str, precision: str = "") -> str:
    """Its precision."""
    with models.hold(artifact, precision) as held:
        held.predictor.warm_up([1])
        return held.predictor.precision


def test_a_model_is_loaded_once_however_many_wait_for_it(make: Make) -> None:
    models, loader = make("a")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: use(models, "a"), range(16)))
    assert loader.loads == ["a"]


def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_later(make: Make, tmp_path: Path) -> None:
    models, _ = make()

    def attempt(_: int) -> bool:
        with pytest.raises(ArtifactNotFound):
            use(models, "a")
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(attempt, range(4)))
    make_colour_artifact(tmp_path / "a", variants={"int8": False})
    use(models, "a")
    assert models.artifacts() == ("a",)


def test_the_least_recently_used_goes_when_the_budget_is_full(make: Make) -> None:
    models, loader = make("a", "b", "c")
    for artifact in ("a", "b", "a", "c"):
        use(models, artifact)
    assert models.artifacts() == ("a", "c")
    use(models, "b")
    assert loader.loads == ["a", "b", "c", "b"]


def test_a_model_larger_than_the_budget_is_served_alone(make: Make) -> None:
    models, _ = make("a", "b", memory=100)
    use(models, "a")
    use(models, "b")
    assert models.artifacts() == ("b",)


def test_an_evicted_model_is_closed_by_its_last_user(make: Make) -> None:
    models, loader = make("a", "b", budget=10)
    with models.hold("a") as held:
        use(models, "b")
        assert models.artifacts() == ("b",)
        held.predictor.warm_up([1])
    with pytest.raises(Exception, match="closed"):
        loader.made["a"].warm_up([1])


def test_each_precision_is_a_model_of_its_own_and_none_is_loaded_twice(make: Make) -> None:
    models, loader = make("a")
    assert [use(models, "a", precision) for precision in ("", "float32", "int8", "float32")] == [
        "int8", "float32", "int8", "float32",
    ]  # fmt: skip
    assert loader.loads == ["a", "a"]
    assert models.artifacts() == ("a",)
