"""The files of a deleted dataset that revisions share: kept for them, and gone once none of them holds the image.

The database says which prefixes are kept for which datasets (`storage.kept_files`); which of the files there these
need is read from their lists.
"""

from dataclasses import dataclass

import orjson

from models.dataset.places import SAMPLES, file_name, thumbnail_name
from storage.blobs import BlobStore
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from storage.errors import NotFound
from storage.kept_files import KeptPrefix


@dataclass(frozen=True)
class SharedFiles:
    """Deletes what nobody needs; whatever is killed in between, the next call goes on with it."""

    datasets: DatasetRegistry
    blobs: BlobStore

    def release(self, deleted: Dataset) -> None:
        """Of a dataset whose row is gone: its files, but those that others share. Raises BlobsUnavailable."""
        if all(kept.prefix != deleted.prefix for kept in self.datasets.kept.list()):
            self.blobs.delete_prefix(f"datasets/{deleted.id}")
        self.settle()

    def settle(self) -> None:
        """Look at the kept prefixes of which somebody who shared them is gone. Raises BlobsUnavailable."""
        for kept in self.datasets.kept.list():
            if kept.changed_at is not None:
                self._settle(kept)

    def _settle(self, kept: KeptPrefix) -> None:
        users = self.datasets.kept.users(kept.prefix)
        if not users:
            self.blobs.delete_prefix(f"datasets/{kept.dataset}")
            self.datasets.kept.forget(kept)
            return
        # One that is being checked takes its images from one that is ready, and that stays until then.
        ready = [prefix for prefix, state in users.items() if state == DatasetState.READY]
        try:
            needed = set[str]().union(*(self._names_in(prefix) for prefix in ready))
        except NotFound:
            # Deleted in this very moment: whoever did that has left word to look again.
            return
        if not needed:
            return
        sizes = self.blobs.sizes(kept.prefix)
        kept_sizes = {key: size for key, size in sizes.items() if key[len(kept.prefix) + 1 :] in needed}
        self.blobs.delete_files(sizes.keys() - kept_sizes.keys())
        self.datasets.kept.settled(kept, sum(kept_sizes.values()))

    def _names_in(self, prefix: str) -> set[str]:
        """Of the files and thumbnails of a dataset's images, wherever they lie."""
        lines = self.blobs.get_bytes(f"{prefix}/{SAMPLES}").splitlines()
        hashes = [orjson.loads(line)["sha256"] for line in lines]
        return {name(sha256) for sha256 in hashes for name in (file_name, thumbnail_name)}
