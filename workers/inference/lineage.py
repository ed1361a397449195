"""Which images a version has learnt from, as far as that is written down: in its training and in those before.

An image counts by its bytes: the same picture in another file is another image here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.dataset.builtin import DIGITS
from models.dataset.errors import DatasetError
from models.training.errors import UntrainableDataset
from models.training.split import split_again
from storage.errors import NotFound
from storage.registry import ModelRegistry, Version
from workers.inference.labelled import LabelledDataset, LabelledDatasets

FROM_MODEL = "model"


@dataclass(frozen=True)
class Learnt:
    """The sha256 of the images, and in words what is not known."""

    images: frozenset[str]
    gaps: tuple[str, ...]


@dataclass
class Lineage:
    """Looks into the datasets that versions learnt from, each once; `evaluated` is at hand already."""

    registry: ModelRegistry
    datasets: LabelledDatasets
    evaluated: LabelledDataset
    _images: dict[tuple[str, str], frozenset[str] | None] = field(default_factory=dict, init=False)

    def learnt_by(self, version: Version) -> Learnt:
        """Raises BlobsUnavailable."""
        images: set[str] = set()
        gaps: list[str] = []
        manifest: Mapping[str, Any] = version.manifest
        if not manifest.get("dataset") and (manifest.get("weights") or {}).get("origin") != FROM_MODEL:
            gaps.append("its weights come from elsewhere, and what they learnt from is not known here")
        while True:
            if described := manifest.get("dataset"):
                found = self._training_images(described)
                if found is None:
                    gaps.append(
                        f"dataset {described.get('name') or described.get('id')!r}, which it learnt from, "
                        "is not there any more"
                    )
                else:
                    images |= found
            weights = manifest.get("weights") or {}
            if weights.get("origin") != FROM_MODEL:
                return Learnt(frozenset(images), tuple(gaps))
            started = self._started_from(weights)
            if started is None:
                gaps.append(f"{weights.get('model')}:{weights.get('version')}, which it started from, is deleted")
                # What that one started from is written down with it.
                started = {"weights": weights.get("weights")}
            manifest = started

    def _started_from(self, weights: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The manifest of the version that weights come from; None where that is gone."""
        try:
            manifest = self.registry.get_version(str(weights["model"]), int(weights["version"])).manifest
        except (NotFound, KeyError, ValueError):
            return None
        is_the_same = manifest.get("files", {}).get("model.onnx", {}).get("sha256") == weights.get("sha256")
        return manifest if is_the_same else None

    def _training_images(self, described: Mapping[str, Any]) -> frozenset[str] | None:
        origin = str((described.get("split") or {}).get("origin"))
        key = (str(described.get("content_hash")), origin)
        if key not in self._images:
            self._images[key] = self._of_split(described, origin)
        return self._images[key]

    def _of_split(self, described: Mapping[str, Any], origin: str) -> frozenset[str] | None:
        """The images of the split's training part: all of the dataset where nobody can make that split again."""
        dataset = self._dataset(described)
        if dataset is None:
            return None
        everything = frozenset(sample.sha256 for sample in dataset.folder.samples)
        try:
            split = split_again(dataset.folder, origin)
        except UntrainableDataset:
            return everything
        if described.get("validation_hash") not in (None, split.validation.content_hash):
            return everything
        return frozenset((*split.train.sha256, *split.foreign.train.sha256))

    def _dataset(self, described: Mapping[str, Any]) -> LabelledDataset | None:
        content_hash = described.get("content_hash")
        if content_hash == self.evaluated.folder.content_hash:
            return self.evaluated
        try:
            if described.get("id") == DIGITS:
                return self.datasets.open(DIGITS)
            return self.datasets.of_content(str(content_hash))
        except (NotFound, DatasetError):
            return None
