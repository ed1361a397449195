"""Checkpoints among the blobs: another machine goes on from them, and an older copy never wins."""

from pathlib import Path

import pytest
import torch

from models.training.checkpoint import RECORD, Checkpoint, Checkpoints
from storage.blobs import BlobStore
from workers.training.mirror import MirroredCheckpoints

PREFIX = "jobs/job_1/checkpoints"


def at(epoch: int, step: int = 0) -> Checkpoint:
    return Checkpoint({"w": torch.full((2,), float(epoch))}, {}, {"progress": {"epoch": epoch, "step": step}})


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore((tmp_path / "blobs").as_uri())


def newest_epoch(checkpoints: MirroredCheckpoints) -> int:
    newest = checkpoints.newest()
    return -1 if newest is None else int(newest.record["progress"]["epoch"])


def mirrored(blobs: BlobStore, folder: Path, is_last: bool = True, attempt: str = "first") -> MirroredCheckpoints:
    return MirroredCheckpoints(
        Checkpoints(folder, "mine"), blobs, PREFIX, attempt=attempt, is_last=lambda: is_last
    )


def test_another_machine_goes_on_from_the_copy(blobs: BlobStore, tmp_path: Path) -> None:
    mirrored(blobs, tmp_path / "here").save(at(3))
    assert newest_epoch(mirrored(blobs, tmp_path / "there")) == 3


def test_what_is_further_wins_whatever_its_number(blobs: BlobStore, tmp_path: Path) -> None:
    mirrored(blobs, tmp_path / "here").save(at(9))
    there = Checkpoints(tmp_path / "there", "mine")
    for epoch in (1, 2, 3):
        there.save(at(epoch))
    assert newest_epoch(mirrored(blobs, there.folder)) == 9


def test_an_older_copy_is_left_where_it_is(blobs: BlobStore, tmp_path: Path) -> None:
    mirrored(blobs, tmp_path / "here").save(at(2, step=5))
    there = Checkpoints(tmp_path / "there", "mine")
    there.save(at(2, step=6))
    assert newest_epoch(mirrored(blobs, there.folder)) == 2
    assert len(list(there.folder.iterdir())) == 1


def test_copies_keep_a_distance_and_leave_one(blobs: BlobStore, tmp_path: Path) -> None:
    last = False
    checkpoints = MirroredCheckpoints(
        Checkpoints(tmp_path / "here", "mine"), blobs, PREFIX, attempt="first", is_last=lambda: last
    )
    for epoch in (1, 2, 3):
        checkpoints.save(at(epoch))
    assert newest_epoch(mirrored(blobs, tmp_path / "a")) == 1
    last = True
    checkpoints.save(at(4))
    assert newest_epoch(mirrored(blobs, tmp_path / "b")) == 4
    assert sum(key.endswith(RECORD) for key in blobs.list(PREFIX)) == 1


def test_an_attempt_that_was_overtaken_takes_nothing_from_its_successor(blobs: BlobStore, tmp_path: Path) -> None:
    overtaken = mirrored(blobs, tmp_path / "here", attempt="first")
    overtaken.save(at(3))
    successor = mirrored(blobs, tmp_path / "there", attempt="second")
    assert newest_epoch(successor) == 3
    successor.save(at(7))
    overtaken.save(at(4))
    assert newest_epoch(mirrored(blobs, tmp_path / "elsewhere", attempt="third")) == 7


def test_copies_of_earlier_attempts_are_not_gathered(blobs: BlobStore, tmp_path: Path) -> None:
    for n, attempt in enumerate(("a", "b", "c", "d"), start=1):
        machine = mirrored(blobs, tmp_path / attempt, attempt=attempt)
        assert newest_epoch(machine) == (n - 1 or -1)
        machine.save(at(n))
    assert len(blobs.folders(PREFIX)) == 2


def test_copies_of_the_first_release_are_found(blobs: BlobStore, tmp_path: Path) -> None:
    """They are named by their number alone, and the newest is not always the one with the highest."""
    local = Checkpoints(tmp_path / "there", "mine")
    for number, epoch in ((7, 2), (3, 5)):
        blobs.put_folder(f"{PREFIX}/{number}", local.save(at(epoch)), last=RECORD)
    assert newest_epoch(mirrored(blobs, tmp_path / "here")) == 5


def test_a_torn_copy_is_not_used(blobs: BlobStore, tmp_path: Path) -> None:
    mirrored(blobs, tmp_path / "here").save(at(3))
    weights = next(key for key in blobs.list(PREFIX) if key.endswith("weights.safetensors"))
    blobs.put_bytes(weights, b"torn")
    assert mirrored(blobs, tmp_path / "there").newest() is None


def test_without_blobs_the_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("in the way")
    checkpoints = mirrored(BlobStore((tmp_path / "a file").as_uri()), tmp_path / "here")
    checkpoints.save(at(1))
    assert newest_epoch(checkpoints) == 1
