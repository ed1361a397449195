"""Fine-tunes from row to version, in this process: what is published, what is refused, and with which words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sqlalchemy import update
from support.colours import LABELS, picture
from support.teaching import colour_dataset
from support.trainer import QUICK, Trainer
from torch import nn

from models.artifact import read_manifest, verify
from models.dataset.folder import LabelledImage, write_dataset
from models.export import to_onnx
from models.neighbours.neighbours import open_neighbours
from models.predictor import Predictor
from models.preprocess import prepare
from models.unknown.detector import read_detector
from storage.blobs import BlobStore
from storage.clock import from_now
from storage.datasets import DatasetState
from storage.errors import Conflict, NotFound
from storage.job_ledger import Attempt, Job, JobLedger, JobState
from storage.registry import ModelRegistry
from storage.tables import JobRow
from workers.training.export import Exporter

COLOURS: dict[str, Any] = {
    "model": "colours",
    "architecture": "lenet5",
    "weights": "none",
    "recipe": {
        "epochs": 4,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "patience": None,
        "augmentation": {"brightness": 0, "contrast": 0, "saturation": 0},
    },
}


@pytest.fixture
def dataset(trainer: Trainer, tmp_path: Path) -> str:
    return trainer.add_dataset(colour_dataset(tmp_path / "colours", per_class=10))


def colours(trainer: Trainer, dataset: str, **changes: Any) -> Job:
    return trainer.run_here(trainer.create(**{**COLOURS, "dataset": dataset, **changes}))


def error_of(job: Job) -> tuple[str, str]:
    assert job.state == JobState.FAILED
    assert job.error is not None
    return job.error["code"], job.error["detail"]


def exporting(then: Callable[[Path], None]) -> Exporter:
    """The export, and what a test does with the artifact's folder between it and the parity gate."""

    def export(network: nn.Module, file: Path, **how: Any) -> dict[str, list[int]]:
        outputs = to_onnx(network, file, **how)
        then(file.parent)
        return outputs

    return export


def no_models(trainer: Trainer) -> bool:
    return not trainer.registry.list_models(10).items


def test_a_dataset_becomes_a_served_version(trainer: Trainer, dataset: str) -> None:
    job = colours(trainer, dataset, promote="always")
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)
    assert job.result is not None
    assert (job.result["model"], job.result["version"], job.result["promoted"]) == ("colours", 1, True)
    assert job.result["metrics"]["accuracy"] == 1.0
    assert job.result["strategy"]["strategy"] == "full"
    version = trainer.registry.resolve("colours")
    assert version.aliases == ("production",)
    folder = trainer.blobs.folder_of(version.artifact)
    assert folder is not None
    manifest = verify(folder)
    assert {"model.onnx", "weights.safetensors", "card.md", "card.html"} <= set(manifest.files)
    predictor = Predictor(folder, device="cpu")
    seen = np.stack([prepare(picture(colour, noise=777), manifest.preprocessing) for colour in LABELS])
    answers = [predictor.labels[i] for i in predictor.predict(seen).probabilities.argmax(1)]
    assert answers == list(LABELS)


def test_the_manifest_says_where_the_version_comes_from(trainer: Trainer, dataset: str) -> None:
    colours(trainer, dataset, seed=3)
    manifest = trainer.registry.resolve("colours").manifest
    assert (manifest["dataset"]["id"], manifest["dataset"]["name"]) == (dataset, "a dataset")
    assert manifest["dataset"]["split"]["validation"] == dict.fromkeys(sorted(LABELS), 2)
    assert manifest["recipe"]["epochs"] == 4
    assert (manifest["seed"], manifest["weights"]["origin"]) == (3, "none")
    assert manifest["parity"]["passed"]
    assert manifest["outputs"] == {
        "logits": [3], "probabilities": [3], "embedding": [84], "feature_map": [16, 5, 5],
    }  # fmt: skip
    assert len(manifest["metrics"]["history"]) == 4
    assert manifest["metrics"]["validation"]["confusion"] == np.diag([2, 2, 2]).tolist()
    assert manifest["calibration"]["temperature"] > 0
    assert (manifest["findings"]["conformal"]["images"], len(manifest["findings"]["conformal"]["scores"])) == (
        6,
        6,
    )
    assert "would flatter" in manifest["findings"]["learning_curve"]["reason"]


def test_progress_tells_the_phases_in_their_order(trainer: Trainer, dataset: str) -> None:
    job = colours(trainer, dataset)
    phases = [event.data["phase"] for event in trainer.ledger.events(job.id) if event.kind == "progress"]
    assert list(dict.fromkeys(phases)) == [
        "preparing", "training", "evaluating", "exporting", "verifying", "examining", "publishing",
    ]  # fmt: skip
    epochs = [event.data for event in trainer.ledger.events(job.id) if event.data.get("validation_accuracy")]
    assert {"epoch", "epochs", "loss", "accuracy", "images_per_second", "eta_s"} <= set(epochs[-1])
    assert epochs[-1]["strategy_reason"].startswith("There are no weights")


def test_nothing_of_an_ended_job_stays_behind(trainer: Trainer, dataset: str) -> None:
    job = colours(trainer, dataset)
    assert not (trainer.settings.data / "work" / job.id).exists()
    assert not trainer.blobs.list(f"jobs/{job.id}")


def test_a_graph_that_was_tampered_with_is_not_published(trainer: Trainer, dataset: str) -> None:
    def tamper(folder: Path) -> None:
        graph = onnx.load(folder / "model.onnx")
        weight = max(graph.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.5, weight.name))
        onnx.save(graph, folder / "model.onnx")

    job = trainer.run_here(trainer.create(**{**COLOURS, "dataset": dataset}), exporter=exporting(tamper))
    code, detail = error_of(job)
    assert code == "export_mismatch"
    assert "the largest difference is" in detail
    assert no_models(trainer)
    assert not trainer.blobs.list("models")


@pytest.mark.slow
def test_a_version_is_promoted_only_if_it_is_better_on_the_same_images(trainer: Trainer, dataset: str) -> None:
    poor = {**COLOURS["recipe"], "epochs": 1, "learning_rate": 1e-6, "optimizer": "sgd"}
    first = colours(trainer, dataset, promote="if_better", recipe=poor)
    assert first.result is not None
    assert first.result["promotion"]["reason"] == "There was no production version."
    second = colours(trainer, dataset, promote="if_better")
    assert second.result is not None
    assert second.result["promotion"]["promoted"]
    assert second.result["promotion"]["previous_accuracy"] == pytest.approx(first.result["metrics"]["accuracy"])
    third = colours(trainer, dataset, promote="if_better", recipe=poor)
    assert third.result is not None
    assert third.result["promotion"]["reason"].startswith("Not better: ")
    assert trainer.registry.resolve("colours@production").number == 2
    card = trainer.blobs.get_bytes(f"{trainer.registry.resolve('colours:3').artifact}/card.md").decode()
    assert "| version 1 |" in card
    assert "| version 2 | lenet5 | none | 100.0 % |" in card


def test_without_being_asked_nothing_is_promoted(trainer: Trainer, dataset: str) -> None:
    job = colours(trainer, dataset)
    assert job.result is not None
    assert not job.result["promoted"]
    assert trainer.registry.resolve("colours").aliases == ()


def test_learning_on_keeps_what_was_known_and_grows(trainer: Trainer, tmp_path: Path, dataset: str) -> None:
    two = colour_dataset(tmp_path / "two", per_class=10, labels=("red", "blue"))
    assert colours(trainer, trainer.add_dataset(two)).state == JobState.SUCCEEDED
    job = colours(trainer, dataset, weights="colours@latest", strategy="head")
    assert job.state == JobState.SUCCEEDED, job.error
    version = trainer.registry.resolve("colours")
    assert version.number == 2
    assert version.labels == ("blue", "green", "red")
    assert version.manifest["weights"]["model"] == "colours"
    assert version.manifest["weights"]["labels_kept"] == ["blue", "red"]
    assert version.manifest["recipe"]["logistic_regression"]["l2"] > 0
    assert job.result is not None
    assert job.result["metrics"]["accuracy"] > 0.8
    phases = [event.data["phase"] for event in trainer.ledger.events(job.id) if event.kind == "progress"]
    assert "extracting" in phases


@pytest.mark.parametrize("head", ["regression", pytest.param("gradient", marks=pytest.mark.slow)])
def test_a_head_learns_from_cached_features(trainer: Trainer, dataset: str, head: str) -> None:
    colours(trainer, dataset)
    recipe = {**COLOURS["recipe"], "head": head, "head_views": 2, "learning_rate": 0.05}
    for _ in range(2):
        job = colours(trainer, dataset, weights="colours:1", strategy="head", recipe=recipe)
        assert job.result is not None, job.error
        assert job.result["metrics"]["accuracy"] == 1.0
    features = list((trainer.settings.cache / "features").glob("*.safetensors"))
    assert len(features) == 4  # plain and two variations of the training images, plain validation images
    assert len(list((trainer.settings.cache / "backbones").iterdir())) == 1
    assert trainer.trained_sha256("colours:2") == trainer.trained_sha256("colours:3")


def test_the_recipe_of_2012_trains(trainer: Trainer, dataset: str) -> None:
    job = colours(trainer, dataset, recipe={"preset": "alexnet-2012", "epochs": 2})
    assert job.state == JobState.SUCCEEDED, job.error
    recipe = trainer.registry.resolve("colours").manifest["recipe"]
    assert (recipe["batch_size"], recipe["schedule"], recipe["augmentation"]["colour_pca"]) == (
        128,
        "plateau",
        0.1,
    )


@pytest.mark.parametrize("strategy", [pytest.param("partial", marks=pytest.mark.slow), "full"])
def test_a_backbone_is_tuned_from_a_models_weights(trainer: Trainer, dataset: str, strategy: str) -> None:
    colours(trainer, dataset)
    job = colours(trainer, dataset, weights="colours", strategy=strategy)
    assert job.result is not None, job.error
    assert job.result["strategy"]["strategy"] == strategy
    assert job.result["metrics"]["accuracy"] == 1.0


def test_a_dataset_with_one_class_is_refused(trainer: Trainer, tmp_path: Path) -> None:
    one = trainer.add_dataset(colour_dataset(tmp_path / "one", per_class=5, labels=("red",)))
    code, detail = error_of(colours(trainer, one))
    assert (code, "1 class(es)" in detail) == ("dataset_unusable", True)


def test_a_class_that_cannot_be_learnt_is_named(trainer: Trainer, tmp_path: Path) -> None:
    images = [LabelledImage(picture("red", noise=i), "red", None, str(i)) for i in (1, 2, 3)]
    lone = write_dataset(tmp_path / "lone", [*images, LabelledImage(picture("blue"), "blue", None, "b")])
    code, detail = error_of(colours(trainer, trainer.add_dataset(lone)))
    assert (code, "'blue' has one image" in detail) == ("dataset_unusable", True)


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        ({"dataset": "builtin:letters"}, "not_found", "builtin:letters"),
        ({"architecture": "lenet6"}, "unknown_architecture", "lenet5"),
        ({"weights": "colours@nowhere"}, "unknown_weights", "colours"),
        (
            {"architecture": "mobilenet_v1_025", "weights": "imagenet"},
            "weights_not_found",
            "mobilenet_2_5_224_tf.h5",
        ),
        ({"recipe": {"epochs": -1}}, "invalid_request", "recipe.epochs: got -1"),
        ({"architecture_params": {"depth": 9}}, "invalid_architecture", "depth"),
        ({"strategy": "tail"}, "invalid_request", "strategy"),
    ],
)
def test_what_is_wrong_is_said_in_the_job(
    trainer: Trainer, dataset: str, change: dict[str, Any], code: str, part: str
) -> None:
    found, detail = error_of(colours(trainer, **{"dataset": dataset, **change}))
    assert (found, part in detail) == (code, True), detail
    assert no_models(trainer)


def test_a_dataset_that_is_not_ready_is_refused(trainer: Trainer, tmp_path: Path) -> None:
    refused = trainer.add_dataset(colour_dataset(tmp_path / "d", per_class=4), DatasetState.REFUSED)
    code, detail = error_of(colours(trainer, refused))
    assert (code, "refused" in detail) == ("invalid_request", True)


def test_a_damaged_dataset_is_said_to_be_unusable(trainer: Trainer, dataset: str) -> None:
    row = trainer.datasets.get(dataset)
    image = next(key for key in trainer.blobs.list(row.prefix) if "/files/" in key)
    trainer.blobs.put_bytes(image, b"no picture any more")
    code, _ = error_of(colours(trainer, dataset))
    assert code == "dataset_unusable"


def test_a_repeated_attempt_publishes_one_version(trainer: Trainer, dataset: str) -> None:
    """An attempt of the release before published and died before it ended the job; the next finds its version."""
    job = trainer.create(**{**COLOURS, "dataset": dataset})

    def publish_and_die(_folder: Path) -> None:
        attempt_prefix = f"models/colours/{job.id}/0dead000"
        trainer.blobs.put_bytes(f"{attempt_prefix}/manifest.json", json.dumps({}).encode())
        trainer.registry.add_version(
            "colours", artifact=attempt_prefix, manifest={"labels": ["a"]}, size_bytes=1, job_id=job.id
        )

    ended = trainer.run_here(job, exporter=exporting(publish_and_die))
    assert ended.result is not None
    assert ended.result["version"] == 1
    versions = trainer.registry.list_versions("colours", 10).items
    assert [v.number for v in versions] == [1]
    assert trainer.blobs.list(f"models/colours/{job.id}") == [f"models/colours/{job.id}/0dead000/manifest.json"]


def test_a_version_its_alias_and_the_jobs_end_are_one_step(
    trainer: Trainer, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies before the commit: nothing was published. The next attempt publishes once."""
    job = trainer.create(**{**COLOURS, "dataset": dataset, "promote": "always"})

    def die(*_: object, **__: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as broken:
        broken.setattr(JobLedger, "succeed", die)
        with pytest.raises(SystemExit):
            trainer.run_here(job)
    assert no_models(trainer)
    assert trainer.ledger.get(job.id).state == JobState.RUNNING

    with trainer.database.session() as session:
        session.execute(update(JobRow).values(lease_until=from_now(-1)))
    ended = trainer.run_here(job)
    assert ended.state == JobState.SUCCEEDED
    version = trainer.registry.resolve("colours@production")
    assert (version.number, version.job_id) == (1, job.id)
    assert {key.split("/")[3] for key in trainer.blobs.list("models")} == {version.artifact.rpartition("/")[2]}


@pytest.mark.slow
def test_the_files_of_a_version_that_never_came_are_deleted(
    trainer: Trainer, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Conflict("the model was changed")

    monkeypatch.setattr(ModelRegistry, "add_version", refuse)
    job = trainer.create(**{**COLOURS, "dataset": dataset})
    for _ in range(3):
        job = trainer.run_here(job)
    assert job.state == JobState.FAILED
    assert not trainer.blobs.list("models")


def test_an_attempt_that_lost_its_job_publishes_nothing(trainer: Trainer, dataset: str) -> None:
    job = trainer.create(**{**COLOURS, "dataset": dataset})

    def be_overtaken(_folder: Path) -> None:
        with trainer.database.session() as session:
            row = session.get(JobRow, job.id)
            assert row is not None
            token = str(row.token)
        trainer.ledger.end_cancelled(Attempt(trainer.ledger.get(job.id), token))

    ended = trainer.run_here(job, exporter=exporting(be_overtaken))
    assert ended.state == JobState.CANCELLED
    with pytest.raises(NotFound):
        trainer.registry.resolve("colours")
    assert not trainer.blobs.list("models")


@pytest.mark.slow
def test_the_starter_request_is_understood(trainer: Trainer, digits: Path) -> None:
    trainer.use_digits(digits)
    job = trainer.run_here(trainer.create(**QUICK))
    assert job.result is not None
    assert job.result["metrics"]["measured_on"] == "test"
    assert job.result["metrics"]["accuracy"] > 0.6


def test_a_production_version_that_cannot_be_measured_costs_no_training(trainer: Trainer, dataset: str) -> None:
    first = colours(trainer, dataset, promote="always")
    assert first.state == JobState.SUCCEEDED
    damaged = trainer.registry.resolve("colours@production").artifact
    trainer.blobs.put_bytes(f"{damaged}/model.onnx", b"no graph any more")
    second = colours(trainer, dataset, promote="if_better")
    assert second.result is not None
    assert (second.result["version"], second.result["promoted"]) == (2, False)
    assert second.result["promotion"]["reason"] == "Version 1 in production could not be measured."


@pytest.mark.slow
def test_a_version_that_went_into_production_meanwhile_is_left_there(
    trainer: Trainer, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = {**COLOURS["recipe"], "epochs": 1, "learning_rate": 1e-6, "optimizer": "sgd"}
    for _ in range(2):
        colours(trainer, dataset, recipe=poor)
    trainer.registry.set_alias("colours", "production", 1)

    def move(_folder: Path) -> None:
        """Somebody promotes by hand while the new version is compared with the first."""
        original = BlobStore.put_folder

        def put_folder(self: BlobStore, *args: Any, **options: Any) -> None:
            trainer.registry.set_alias("colours", "production", 2)
            original(self, *args, **options)

        monkeypatch.setattr(BlobStore, "put_folder", put_folder)

    job = trainer.create(**{**COLOURS, "dataset": dataset, "promote": "if_better"})
    ended = trainer.run_here(job, exporter=exporting(move))
    assert ended.result is not None
    assert not ended.result["promoted"]
    assert "moved meanwhile" in ended.result["promotion"]["reason"]
    assert trainer.registry.resolve("colours@production").number == 2


@pytest.mark.slow
def test_parameters_that_the_version_to_start_from_does_not_have_are_named(trainer: Trainer, dataset: str) -> None:
    pattern = "INPUT -> [CONV -> RELU -> POOL]*2 -> FC"
    convnet = {"architecture": "convnet", "architecture_params": {"pattern": pattern}}
    assert colours(trainer, dataset, **convnet).state == JobState.SUCCEEDED
    other = {**convnet, "architecture_params": {"pattern": pattern.replace("2", "3")}}
    code, detail = error_of(colours(trainer, dataset, **other, weights="colours:1"))
    assert code == "invalid_request"
    assert detail.startswith("architecture_params.pattern: got ")
    assert colours(trainer, dataset, architecture="convnet", weights="colours:1").state == JobState.SUCCEEDED


def test_the_training_images_can_be_searched_for_the_most_similar(trainer: Trainer, dataset: str) -> None:
    colours(trainer, dataset)
    version = trainer.registry.resolve("colours")
    folder = trainer.blobs.folder_of(version.artifact)
    assert folder is not None
    found = version.manifest["findings"]["neighbours"]
    split = version.manifest["dataset"]["split"]
    assert found == {
        "images": sum(split["train"].values()),
        "of": sum(split["train"].values()),
        "dimensions": 84,
        "metric": "cosine",
        "asked": sum(split["validation"].values()),
        "nearest": 5,
        "majority_accuracy": 1.0,
    }
    predictor = Predictor(folder, device="cpu")
    image = prepare(picture("green", noise=777), predictor.preprocessing)
    (near,) = open_neighbours(folder, 84).nearest(predictor.run(image[None], ["embedding"])[0], 3)
    assert [one.label for one in near] == ["green"] * 3
    assert "mostly images of their own class" in (folder / "card.md").read_text("utf-8")


def test_a_version_knows_that_it_does_not_know_and_none_is_no_class(trainer: Trainer, tmp_path: Path) -> None:
    images = [
        LabelledImage(picture(colour, noise=1 + i + 100 * k), label, None, f"{label}/{i}.png")
        for k, (label, colour) in enumerate(zip(("red", "green", "none"), LABELS, strict=True))
        for i in range(10)
    ]
    job = colours(trainer, trainer.add_dataset(write_dataset(tmp_path / "with-none", images)))
    assert (job.state, job.error) == (JobState.SUCCEEDED, None)
    version = trainer.registry.resolve("colours")
    assert version.labels == ("green", "red")
    assert version.manifest["dataset"]["split"]["none"] == {"train": 8, "validation": 2, "test": 0}
    facts = version.manifest["findings"]["unknown"]
    assert facts["none_images"] == {"train": 8, "validation": 2}
    assert facts["separation"][facts["method"]]["none"] is not None
    assert (facts["threshold_images"], facts["fewest_images"]) == (4, 19)
    folder = tmp_path / "artifact"
    folder.mkdir()
    keys = trainer.blobs.list(version.artifact)
    trainer.blobs.get_files([(key, folder / key.rpartition("/")[2]) for key in keys])
    detector = read_detector(folder, read_manifest(folder), "float32")
    assert detector is not None
    assert detector.threshold == facts["threshold"]
    card = (folder / "card.md").read_text()
    assert "How it knows that it does not know" in card
    assert "4 validation images are too few" in card
