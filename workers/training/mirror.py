"""Copies of checkpoints among the blobs, so that another machine can go on where this one stopped."""

import json
import shutil
import time

import structlog

from models.training.checkpoint import RECORD, Checkpoints
from storage.blobs import BlobStore
from storage.errors import StorageError

# Checkpoints are written at every epoch; an upload may take longer than an epoch does.
INTERVAL_S = 30.0

log = structlog.get_logger()


class Mirror:
    """Keeps the newest checkpoint under `prefix`; a failed upload is logged, for the local one is still there."""

    def __init__(self, blobs: BlobStore, prefix: str) -> None:
        self._blobs, self._prefix = blobs, prefix
        self._last = 0.0

    def saved(self, checkpoints: Checkpoints, force: bool) -> None:
        """Uploads the newest checkpoint; without `force`, not if one was uploaded a moment ago."""
        if not force and time.monotonic() - self._last < INTERVAL_S:
            return
        folder = checkpoints.newest_folder()
        if folder is None:
            return
        try:
            self._blobs.put_folder(f"{self._prefix}/{folder.name}", folder, last=RECORD)
            for older in self._names() - {folder.name}:
                self._blobs.delete_prefix(f"{self._prefix}/{older}")
        except StorageError as error:
            log.warning("checkpoint.not_mirrored", reason=str(error))
        self._last = time.monotonic()

    def fetch_newer(self, checkpoints: Checkpoints) -> None:
        """Brings the mirrored checkpoint here where it is further than the local ones."""
        try:
            for name in sorted(self._names(), reverse=True):
                if not name.isdecimal() or not self._blobs.exists(f"{self._prefix}/{name}/{RECORD}"):
                    continue
                record = json.loads(self._blobs.get_bytes(f"{self._prefix}/{name}/{RECORD}"))
                if _place(record) > _local(checkpoints):
                    self._fetch(name, checkpoints)
                return
        except (StorageError, ValueError, KeyError) as error:
            log.warning("checkpoint.not_fetched", reason=str(error))

    def _fetch(self, name: str, checkpoints: Checkpoints) -> None:
        with checkpoints.incoming() as folder:
            for key in self._blobs.list(f"{self._prefix}/{name}"):
                with self._blobs.open(key) as source, (folder / key.rpartition("/")[2]).open("wb") as target:
                    shutil.copyfileobj(source, target)
        log.info("checkpoint.fetched", checkpoint=name)

    def _names(self) -> set[str]:
        return {key[len(self._prefix) + 1 :].split("/")[0] for key in self._blobs.list(self._prefix)}


def _local(checkpoints: Checkpoints) -> tuple[int, int]:
    folder = checkpoints.newest_folder()
    return (-1, -1) if folder is None else _place(json.loads((folder / RECORD).read_text()))


def _place(record: dict[str, dict[str, int]]) -> tuple[int, int]:
    return record["progress"]["epoch"], record["progress"]["step"]
