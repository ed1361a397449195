"""How a worker comes to a model: in which precision, and for how long its files are in use."""

import gc
from pathlib import Path

import pytest
from support.colours import make_colour_artifact

from models.artifact import PrecisionChoice
from models.errors import ArtifactNotFound, PrecisionUnavailable
from storage.cache import HeldFolder
from workers.inference.loaded import LoadedModels
from workers.inference.loader import PredictorLoader


class Held(HeldFolder):
    """Noted in `in_use` until it is released."""

    in_use: set[str]

    def release(self) -> None:
        self.in_use.discard(self.path.name)


def loader_of(
    folder: Path, precision: PrecisionChoice = "auto", in_use: set[str] | None = None
) -> PredictorLoader:
    noted = set() if in_use is None else in_use

    def hold(artifact: str) -> HeldFolder:
        noted.add(artifact)
        held = Held(folder / artifact)
        held.in_use = noted
        return held

    return PredictorLoader(hold, "cpu", intra_op_threads=1, cuda_memory_bytes=0, precision=precision)


def test_a_loaded_model_keeps_its_folder_until_it_is_evicted(tmp_path: Path) -> None:
    """Another copy is to go from the disk, however long ago this one was read."""
    in_use: set[str] = set()
    for artifact in "ab":
        make_colour_artifact(tmp_path / artifact)
    models = LoadedModels(loader_of(tmp_path, in_use=in_use), memory_budget=1)
    for artifact in "ab":
        with models.hold(artifact):
            assert artifact in in_use
    assert in_use == {"b"}
    with pytest.raises(ArtifactNotFound), models.hold("none"):
        pass
    assert in_use == {"b"}
    models.close()
    del models
    gc.collect()
    assert in_use == set()


@pytest.mark.parametrize(("is_slow", "precision"), [(True, "int8"), (False, "float32")])
def test_the_fastest_here_is_served_of_those_that_passed(tmp_path: Path, is_slow: bool, precision: str) -> None:
    make_colour_artifact(tmp_path / "a", is_slow=is_slow, variants={"int8": not is_slow})
    assert loader_of(tmp_path)("a").precision == precision


def test_a_variant_for_another_device_is_not_even_tried(tmp_path: Path) -> None:
    make_colour_artifact(tmp_path / "a", is_slow=True, variants={"fp16": False})
    assert loader_of(tmp_path)("a").precision == "float32"


@pytest.mark.parametrize("variants", [{}, {"int8": True}])
def test_a_worker_may_be_told_one_precision_and_serves_float32_where_that_is_missing(
    tmp_path: Path, variants: dict[str, bool]
) -> None:
    make_colour_artifact(tmp_path / "a", variants=variants)
    assert loader_of(tmp_path, "int8")("a").precision == ("int8" if variants else "float32")
    assert loader_of(tmp_path, "float32")("a").precision == "float32"


def test_what_is_asked_for_is_served_or_refused_and_never_another(tmp_path: Path) -> None:
    make_colour_artifact(tmp_path / "a", variants={"int8": True})
    load = loader_of(tmp_path)
    assert load("a", "int8").precision == "int8"
    with pytest.raises(PrecisionUnavailable, match=r"in float32, int8; not in fp16"):
        load("a", "fp16")
