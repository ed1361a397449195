"""What a frozen backbone sees in each image, computed once for each view and kept by content.

A view is the plain image or one variation of it. With the backbone frozen, training its head on these features is
training the whole network on those images, at a thousandth of the cost.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.training.augment import Transform
from models.training.backbone import Backbone
from models.training.disk import writing
from models.training.kept_rows import KeptRows
from models.training.pixels import Pixels
from models.training.progress import OnProgress
from models.training.recipe import Augmentation
from models.training.seeds import derive_seed
from models.training.split import ImageList
from system.files import written_whole


@dataclass(frozen=True)
class View:
    """How an image is shown: `number` 0 is plain, the others are variations drawn by `seed`."""

    number: int
    transform: Transform
    augmentation: Augmentation | None = None
    seed: int = 0

    def describe(self) -> str:
        if self.augmentation is None:
            return "plain"
        return json.dumps([self.number, self.seed, self.augmentation.model_dump()], sort_keys=True)


class FeatureCache:
    """Features by what they are features of; files under one folder, each written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> Tensor | None:
        file = self.folder / f"{key}.safetensors"
        try:
            # The files that were used last stay longest.
            os.utime(file)
            return load_file(file)["features"]
        except FileNotFoundError:
            return None

    def load_rows(self, rows: KeptRows, sha256: Sequence[str]) -> dict[int, Tensor]:
        """By the place of each of these images what is kept of it in the features of other lists."""
        found: dict[int, Tensor] = {}
        for shared in rows.shared(sha256):
            features = self.load(shared.key)
            if features is not None and max(shared.theirs) < len(features):
                found |= dict(zip(shared.ours, features[shared.theirs], strict=True))
        return found

    def store(self, key: str, features: Tensor) -> None:
        """Raises OSError on a full disk."""
        with written_whole(self.folder / f"{key}.safetensors") as part, writing(part):
            save_file({"features": features.contiguous()}, part)


@dataclass(frozen=True)
class FeatureExtractor:
    """A backbone that looks at images, and where its features are kept."""

    backbone: Backbone
    cache: FeatureCache

    def extract(
        self, images: ImageList, pixels: Pixels, views: Sequence[View], on_progress: OnProgress | None = None
    ) -> Tensor:
        """float32 [views, n, features...] on the CPU; computes only what is not kept already of an image and view.

        Raises OutOfMemory when not even one image fits.
        """
        found: list[Tensor] = []
        for i, view in enumerate(views):
            key = hashlib.sha256(
                f"features/2/{self.backbone.identity}/{images.content_hash}/{view.describe()}".encode()
            ).hexdigest()
            rows = KeptRows(self.cache.folder, f"features/2/{self.backbone.identity}/{view.describe()}")
            features = self.cache.load(key)
            if features is None:
                kept = self.cache.load_rows(rows, images.sha256)
                features = self._compute(images, pixels, view, kept, on_progress, i, len(views))
                self.cache.store(key, features)
                rows.write(key, images.sha256)
            else:
                rows.touch(key)
            found.append(features)
            if on_progress is not None:
                on_progress((i + 1) * len(images), len(views) * len(images))
        return torch.stack(found)

    def _compute(
        self,
        images: ImageList,
        pixels: Pixels,
        view: View,
        kept: dict[int, Tensor],
        on_progress: OnProgress | None,
        number: int,
        count: int,
    ) -> Tensor:
        """Of each image whose place is not among the `kept`, and those."""
        missing = [i for i in range(len(images)) if i not in kept]
        found = dict(kept)
        shown = (_show(view, images.sha256[i], pixels, i) for i in missing)
        places = iter(missing)
        for features in self.backbone.features(shown):
            found |= dict(zip(itertools.islice(places, len(features)), features, strict=True))
            if on_progress is not None:
                on_progress(number * len(images) + len(found), count * len(images))
        return torch.stack([found[i] for i in range(len(images))])


def _show(view: View, sha256: str, pixels: Pixels, index: int) -> Tensor:
    """uint8 [height, width, 3]; what a variation draws depends on the image's content and the view alone."""
    image = torch.from_numpy(pixels[index].copy()).permute(2, 0, 1)
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(derive_seed("view", view.seed, view.number, sha256))
        return view.transform(image).permute(1, 2, 0)
