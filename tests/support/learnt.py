"""Versions whose manifests say what they learnt from, as a fine-tune writes it, and the datasets for them."""

from typing import Any

from support.colours import LABELS, make_colour_artifact, picture
from support.world import World, archive_of

from models.training.split import split_dataset
from storage.ids import new_id
from storage.registry import Version
from workers.inference.ingest import IngestJob
from workers.inference.labelled import LabelledDataset, LabelledDatasets

PER_CLASS = 10


def learnt_dataset(world: World, *, seed: int = 0) -> LabelledDataset:
    files = {
        f"{colour}/{i}.png": picture(colour, noise=1 + i + 1000 * k + 100_000 * seed)
        for k, colour in enumerate(LABELS)
        for i in range(PER_CLASS)
    }
    job, dataset = world.upload(archive_of(files))
    world.run(job, IngestJob(world.datasets, world.blobs, world.folder / "scratch"))
    return datasets_of(world).open(dataset.id)


def datasets_of(world: World) -> LabelledDatasets:
    return LabelledDatasets(world.datasets, world.blobs, world.folder / "cache")


def learnt_version(
    world: World,
    dataset: LabelledDataset | None,
    *,
    seed: int = 0,
    started_from: Version | None = None,
    **changes: Any,
) -> Version:
    """The next of the model `m`."""
    artifact = f"models/m/{new_id('job')}"
    folder = world.folder / artifact
    manifest = make_colour_artifact(folder).to_dict()
    if dataset:
        split = split_dataset(dataset.folder, fraction=0.2, seed=seed)
        manifest["dataset"] = {
            "id": dataset.id,
            "name": dataset.name,
            "content_hash": dataset.folder.content_hash,
            "split": split.describe(),
            "validation_hash": split.validation.content_hash,
            **changes,
        }
    manifest["weights"] = {"origin": "torchvision"}
    if started_from:
        manifest["weights"] = {
            "origin": "model",
            "model": started_from.model,
            "version": started_from.number,
            "sha256": manifest["files"]["model.onnx"]["sha256"],
            "weights": started_from.manifest["weights"],
        }
    world.blobs.put_folder(artifact, folder)
    return world.registry.add_version("m", artifact=artifact, manifest=manifest, size_bytes=1)
