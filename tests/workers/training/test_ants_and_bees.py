"""The acceptance of transfer learning: real photographs, real weights, the default recipe, three seeds."""

import statistics
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trainer import Trainer

from models.dataset.folder import LabelledImage, write_dataset
from models.errors import ImageError
from models.predictor import Predictor
from models.preprocess import prepare
from storage.jobs import JobState

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Iterator[Trainer]:
    world = Trainer(tmp_path_factory.mktemp("ants"), {"FOVEA_WEIGHTS_DIR": str(test_data / "weights")})
    yield world
    world.close()


@pytest.fixture(scope="module")
def dataset(trainer: Trainer, test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dataset") / "ants-bees"
    return trainer.add_dataset(write_dataset(folder, photographs(test_data / "hymenoptera.zip")))


def photographs(archive: Path) -> Iterator[LabelledImage]:
    """What of the archive decodes, with its own split."""
    from models.spec import Preprocessing

    with zipfile.ZipFile(archive) as members:
        for name in members.namelist():
            *_, split, label, file = ["", "", *name.split("/")]
            if split not in ("train", "val") or not file:
                continue
            data = members.read(name)
            try:
                prepare(data, Preprocessing(8, 8, 8))
            except ImageError:
                continue
            yield LabelledImage(data, label, "train" if split == "train" else "val", name)


def test_ants_and_bees_are_told_apart(trainer: Trainer, dataset: str) -> None:
    request = {"model": "ants-bees", "dataset": dataset, "architecture": "mobilenet_v1_025"}
    accuracies, seconds = [], []
    for seed in (0, 1, 2):
        started = time.monotonic()
        job = trainer.run(trainer.create(**request, seed=seed, promote="if_better"))
        seconds.append(time.monotonic() - started)
        assert job.state == JobState.SUCCEEDED, job.error
        assert job.result is not None
        assert job.result["strategy"]["strategy"] == "head"
        assert job.result["metrics"]["images"] == 153
        accuracies.append(job.result["metrics"]["accuracy"])
    print(f"ants and bees: {accuracies}, {[round(s, 1) for s in seconds]} s")
    assert statistics.median(accuracies) >= 0.88
    scratch = trainer.run(trainer.create(**request, weights="none", recipe={"epochs": 3, "warmup_epochs": 0}))
    assert scratch.result is not None
    assert scratch.result["metrics"]["accuracy"] < statistics.median(accuracies) - 0.1
    card = trainer.blobs.get_bytes(f"{trainer.registry.resolve('ants-bees:4').artifact}/card.md").decode()
    assert f"| version 1 | mobilenet_v1_025 | imagenet | {100 * accuracies[0]:.1f} % |" in card
    assert (
        f"| this one | mobilenet_v1_025 | no weights | {100 * scratch.result['metrics']['accuracy']:.1f} % |"
        in card
    )


def test_published_weights_tell_the_samples_apart(trainer: Trainer, test_data: Path) -> None:
    job = trainer.run(trainer.create("publish", model="imagenet", architecture="mobilenet_v1_025"))
    assert job.state == JobState.SUCCEEDED, job.error
    version = trainer.registry.resolve("imagenet@production")
    predictor = Predictor(trainer.blobs.fetch_folder(version.artifact, trainer.settings.cache), device="cpu")
    right = 0
    for photograph in sorted((test_data / "imagenet" / "samples").glob("*.JPEG")):
        answer = predictor.predict(prepare(photograph, predictor.preprocessing)[None])
        right += int(answer.probabilities.argmax()) == int(photograph.name[:3])
    assert 60 <= right <= 62


def test_a_published_version_can_be_learnt_on_from(trainer: Trainer, dataset: str) -> None:
    """It has no copy of its weights: they are taken from where it took them."""
    published = trainer.run(trainer.create("publish", model="zoo", architecture="mobilenet_v1_025"))
    assert published.state == JobState.SUCCEEDED, published.error
    job = trainer.run(
        trainer.create(model="from-zoo", dataset=dataset, architecture="mobilenet_v1_025", weights="zoo:1")
    )
    assert job.result is not None, job.error
    assert job.result["metrics"]["accuracy"] > 0.85
    assert trainer.registry.resolve("from-zoo").manifest["weights"]["labels_kept"] == []
