"""Checkpoints that are also copied among the blobs, so that another machine can go on where this one stopped."""

import json
import shutil
import time
from collections.abc import Callable

import structlog

from models.training.checkpoint import RECORD, Checkpoint, Checkpoints
from storage.blobs import BlobStore
from storage.errors import StorageError

# Checkpoints are written at every epoch; an upload may take longer than an epoch does.
INTERVAL_S = 30.0

log = structlog.get_logger()


class MirroredCheckpoints:
    """Checkpoints in a folder here, of which the newest is kept under `prefix` too.

    Every attempt's copies have names of their own, so that one that was overtaken takes none from its successor.
    Once `is_last` is true, a checkpoint is copied however recent the copy before is: the next attempt may be on
    another machine. A copy that fails is logged, for the local one is still there.
    """

    def __init__(
        self, local: Checkpoints, blobs: BlobStore, prefix: str, *, attempt: str, is_last: Callable[[], bool]
    ) -> None:
        self.local, self._blobs, self._prefix = local, blobs, prefix
        self._attempt, self._is_last = attempt, is_last
        self._copied_at = 0.0

    def save(self, checkpoint: Checkpoint) -> None:
        """Raises OSError on a full disk."""
        self.local.save(checkpoint)
        self.copy()

    def newest(self) -> Checkpoint | None:
        """The newest of both places; what is further among the blobs is fetched."""
        self.fetch()
        return self.local.newest()

    def copy(self) -> None:
        """Copies the newest of the folder, unless it is too soon after the copy before."""
        if not self._is_last() and time.monotonic() - self._copied_at < INTERVAL_S:
            return
        folder = self.local.newest_folder()
        if folder is None:
            return
        try:
            name = f"{self._attempt}-{folder.name}"
            self._blobs.put_folder(f"{self._prefix}/{name}", folder, last=RECORD)
            for other in self._blobs.folders(self._prefix):
                if other.startswith(f"{self._attempt}-") and other != name:
                    self._blobs.delete_prefix(f"{self._prefix}/{other}")
        except StorageError as error:
            log.warning("checkpoint.not_mirrored", reason=str(error))
        self._copied_at = time.monotonic()

    def fetch(self) -> None:
        """Brings what is further among the blobs into the folder."""
        try:
            # Not by their numbers: another machine may have begun to count anew.
            copies = {
                name: _position(json.loads(self._blobs.get_bytes(f"{self._prefix}/{name}/{RECORD}")))
                for name in self._blobs.folders(self._prefix)
                if self._blobs.exists(f"{self._prefix}/{name}/{RECORD}")
            }
            if not copies:
                return
            newest = max(copies, key=copies.__getitem__)
            if copies[newest] > self._local_position():
                self._fetch(newest)
            # This attempt has only just begun, so that no later one can have made any of these.
            for name in set(self._blobs.folders(self._prefix)) - {newest}:
                self._blobs.delete_prefix(f"{self._prefix}/{name}")
        except (StorageError, ValueError, KeyError) as error:
            log.warning("checkpoint.not_fetched", reason=str(error))

    def _fetch(self, name: str) -> None:
        with self.local.incoming() as folder:
            for key in self._blobs.list(f"{self._prefix}/{name}"):
                with self._blobs.open(key) as source, (folder / key.rpartition("/")[2]).open("wb") as target:
                    shutil.copyfileobj(source, target)
        log.info("checkpoint.fetched", checkpoint=name)

    def _local_position(self) -> tuple[int, int]:
        folder = self.local.newest_folder()
        return (-1, -1) if folder is None else _position(json.loads((folder / RECORD).read_text()))


def _position(record: dict[str, dict[str, int]]) -> tuple[int, int]:
    return record["progress"]["epoch"], record["progress"]["step"]
