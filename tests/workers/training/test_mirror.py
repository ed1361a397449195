"""Checkpoints among the blobs: another machine goes on from them, and an older copy never wins."""

from pathlib import Path

import pytest
import torch

from models.training.checkpoint import RECORD, Checkpoint, Checkpoints
from storage.blobs import BlobStore
from workers.training.mirror import Mirror

PREFIX = "jobs/job_1/checkpoints"


def at(epoch: int, step: int = 0) -> Checkpoint:
    return Checkpoint({"w": torch.full((2,), float(epoch))}, {}, {"progress": {"epoch": epoch, "step": step}})


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore((tmp_path / "blobs").as_uri())


def newest_epoch(checkpoints: Checkpoints) -> int:
    newest = checkpoints.newest()
    return -1 if newest is None else int(newest.record["progress"]["epoch"])


def test_another_machine_goes_on_from_the_copy(blobs: BlobStore, tmp_path: Path) -> None:
    here, there = (Checkpoints(tmp_path / place, "mine") for place in ("here", "there"))
    here.save(at(3))
    Mirror(blobs, PREFIX).saved(here, True)
    Mirror(blobs, PREFIX).fetch_newer(there)
    assert newest_epoch(there) == 3


def test_what_is_further_wins_whatever_its_number(blobs: BlobStore, tmp_path: Path) -> None:
    here, there = (Checkpoints(tmp_path / place, "mine") for place in ("here", "there"))
    here.save(at(9))
    Mirror(blobs, PREFIX).saved(here, True)
    for epoch in (1, 2, 3):
        there.save(at(epoch))
    Mirror(blobs, PREFIX).fetch_newer(there)
    assert newest_epoch(there) == 9


def test_an_older_copy_is_left_where_it_is(blobs: BlobStore, tmp_path: Path) -> None:
    here, there = (Checkpoints(tmp_path / place, "mine") for place in ("here", "there"))
    here.save(at(2, step=5))
    Mirror(blobs, PREFIX).saved(here, True)
    there.save(at(2, step=6))
    Mirror(blobs, PREFIX).fetch_newer(there)
    assert len(list(there.folder.iterdir())) == 1


def test_uploads_keep_a_distance_and_leave_one_copy(blobs: BlobStore, tmp_path: Path) -> None:
    checkpoints, mirror = Checkpoints(tmp_path / "here", "mine"), Mirror(blobs, PREFIX)
    for epoch in (1, 2, 3):
        checkpoints.save(at(epoch))
        mirror.saved(checkpoints, False)
    assert newest_in(blobs, tmp_path / "a") == 1
    mirror.saved(checkpoints, True)
    assert newest_in(blobs, tmp_path / "b") == 3
    assert sum(key.endswith(RECORD) for key in blobs.list(PREFIX)) == 1


def newest_in(blobs: BlobStore, folder: Path) -> int:
    checkpoints = Checkpoints(folder, "mine")
    Mirror(blobs, PREFIX).fetch_newer(checkpoints)
    return newest_epoch(checkpoints)


def test_a_torn_copy_is_not_used(blobs: BlobStore, tmp_path: Path) -> None:
    here, there = (Checkpoints(tmp_path / place, "mine") for place in ("here", "there"))
    here.save(at(3))
    Mirror(blobs, PREFIX).saved(here, True)
    weights = next(key for key in blobs.list(PREFIX) if key.endswith("weights.safetensors"))
    blobs.put_bytes(weights, b"torn")
    Mirror(blobs, PREFIX).fetch_newer(there)
    assert there.newest() is None


def test_without_blobs_the_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("in the way")
    checkpoints = Checkpoints(tmp_path / "here", "mine")
    checkpoints.save(at(1))
    mirror = Mirror(BlobStore((tmp_path / "a file").as_uri()), PREFIX)
    mirror.saved(checkpoints, True)
    mirror.fetch_newer(checkpoints)
    assert newest_epoch(checkpoints) == 1
