"""Publishing the real MobileNet weights: the good path, a corrupted copy, an absent file, and learning on."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cards import Reading
from support.trainer import Trainer

from models.dataset.folder import LabelledImage, write_dataset
from models.errors import ImageError
from models.preprocess import prepare
from models.spec import Preprocessing
from storage.job_ledger import Job, JobState

FILE = "mobilenet_2_5_224_tf.h5"
SHA256 = "4519e3005c17d74f5f453a75412ebb4b98afc2e31c5038fc85b13997b37ac7bf"


def publish(trainer: Trainer) -> Job:
    job = trainer.create("publish", model="imagenet", architecture="mobilenet_v1_025", weights="imagenet")
    return trainer.run_here(job)


@pytest.mark.slow
@pytest.mark.data
def test_the_real_file_becomes_a_version_with_its_provenance(trainer: Trainer, test_data: Path) -> None:
    trainer.weights_folder.mkdir(parents=True)
    (trainer.weights_folder / FILE).symlink_to(test_data / "weights" / FILE)
    ended = publish(trainer)
    assert ended.state == JobState.SUCCEEDED, ended.error
    manifest = trainer.registry.resolve("imagenet").manifest
    assert manifest["weights"]["sha256"] == SHA256
    assert manifest["weights"]["verified_by"] == "the sha256 known to Fovea"
    assert manifest["weights"]["licence"] == "Apache-2.0"
    assert manifest["parity"]["passed"]
    assert manifest["labels"][207] == "golden retriever"


@pytest.mark.slow
@pytest.mark.data
def test_its_card_says_where_it_comes_from_and_what_nobody_measured(trainer: Trainer, test_data: Path) -> None:
    trainer.weights_folder.mkdir(parents=True)
    (trainer.weights_folder / FILE).symlink_to(test_data / "weights" / FILE)
    assert publish(trainer).state == JobState.SUCCEEDED
    version = trainer.registry.resolve("imagenet")
    assert {"card.md", "card.html"} <= set(version.manifest["files"])
    markdown = trainer.blobs.get_bytes(f"{version.artifact}/card.md").decode()
    for said in (
        "**50.6 % top-1 accuracy on ImageNet-1k, as its publishers state it**", "It was not measured here.",
        "(2017)", "<https://arxiv.org/abs/1704.04861>", "Apache-2.0", SHA256, "the sha256 known to Fovea", FILE,
        "224x224 pixels, RGB: the middle of the image with its shorter side at 256; bilinear", "0.5, 0.5, 0.5",
        "nothing was measured", "calibration was not fitted", "| parameters | 470,072 |", "207 golden retriever",
        "| head | Linear | 1x1000 |", "100% of 68 images agree at batch 1, 3, 8",
    ):  # fmt: skip
        assert said in markdown, said
    page = Reading(trainer.blobs.get_bytes(f"{version.artifact}/card.html").decode())
    assert [link["href"] for link in page.all("a")] == [
        "https://arxiv.org/abs/1704.04861",
        f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/{FILE}",
    ]
    assert len(page.all("details")) == 2
    assert all(label in page.text for label in version.labels)


@pytest.mark.data
def test_a_corrupted_copy_fails_the_job_with_both_checksums_and_makes_no_version(
    trainer: Trainer, test_data: Path
) -> None:
    content = bytearray((test_data / "weights" / FILE).read_bytes())
    content[1_000_000] ^= 1
    trainer.weights_folder.mkdir(parents=True)
    (trainer.weights_folder / FILE).write_bytes(content)
    ended = publish(trainer)
    assert ended.state == JobState.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "weights_corrupt"
    assert SHA256 in ended.error["detail"]
    assert not trainer.registry.list_models(10, None).items


def test_weights_that_are_not_there_fail_the_job_with_the_file_and_where_it_is_published(trainer: Trainer) -> None:
    ended = publish(trainer)
    assert ended.state == JobState.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "weights_not_found"
    detail = ended.error["detail"]
    assert f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/{FILE}" in detail
    assert str(trainer.weights_folder) not in detail


@pytest.mark.data
@pytest.mark.slow
def test_a_published_version_can_be_learnt_on_from(trainer: Trainer, test_data: Path) -> None:
    """It has no copy of its weights: they are taken from where it took them."""
    trainer.weights_folder.mkdir(parents=True)
    (trainer.weights_folder / FILE).symlink_to(test_data / "weights" / FILE)
    assert publish(trainer).state == JobState.SUCCEEDED
    dataset = write_dataset(trainer.folder / "ants-bees", photographs(test_data / "hymenoptera.zip"))
    job = trainer.create(
        model="from-zoo",
        dataset=trainer.add_dataset(dataset),
        architecture="mobilenet_v1_025",
        weights="imagenet:1",
    )
    ended = trainer.run(job)
    assert ended.result is not None, ended.error
    assert ended.result["metrics"]["accuracy"] > 0.85
    assert trainer.registry.resolve("from-zoo").manifest["weights"]["labels_kept"] == []


def photographs(archive: Path) -> Iterator[LabelledImage]:
    """What of the archive decodes, with its own split."""
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
