"""A backup is a stranger's file: whatever is wrong with it is said, and nothing of it is left behind."""

from pathlib import Path

import pytest
from support.attacks.backups import WRONG, good_backup, members, packed

from storage.blobs import BlobStore
from storage.database import open_database
from storage.errors import BackupUnusable, BlobsUnavailable, SchemaMismatch
from storage.restore import restore_backup
from storage.rows import is_empty


def nothing(_count: int, _total: int) -> None:
    pass


class Target:
    """A Fovea to restore into, which does not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/fovea.db"
        self.blobs = BlobStore(str(folder / "blobs"))

    def restore(self, file: Path, *, force: bool = False) -> None:
        restore_backup(self.url, self.blobs, file, nothing, force=force)

    def is_empty(self) -> bool:
        database = open_database(self.url)
        try:
            with database.session(read_only=True) as session:
                return is_empty(session) and not self.blobs.list()
        finally:
            database.close()


# A few of each kind; all of them, and many more, in tests/fuzz.
KINDS = (
    "record b'[]'", "no revision", "line b'5'", "a column that there is not", "a file was changed",
    "a symbolic link", "a file at 'blobs/../x'", "an alias at no version", "a job's state is unknown",
    "revision '9999'",
)  # fmt: skip


@pytest.mark.parametrize("wrong", KINDS)
def test_what_is_wrong_is_said_before_anything_is_changed(wrong: str, tmp_path: Path) -> None:
    target = Target(tmp_path / "new")
    (tmp_path / "wrong.tar").write_bytes(WRONG[wrong]())
    with pytest.raises((BackupUnusable, SchemaMismatch)):
        target.restore(tmp_path / "wrong.tar")
    assert not target.blobs.list()


def test_after_a_failed_restore_the_good_backup_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(tmp_path / "new")
    (tmp_path / "good.tar").write_bytes(good_backup())
    put, count = target.blobs.put_file, 0

    def full(key: str, path: Path) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise BlobsUnavailable("No space left on device")
        put(key, path)

    monkeypatch.setattr(target.blobs, "put_file", full)
    with pytest.raises(BlobsUnavailable):
        target.restore(tmp_path / "good.tar")
    assert target.is_empty()

    monkeypatch.undo()
    target.restore(tmp_path / "good.tar")
    assert not target.is_empty()


def test_a_restore_that_was_killed_is_begun_again_without_force(tmp_path: Path) -> None:
    """It leaves files of the backup and no rows; those of another Fovea are refused as before."""
    target = Target(tmp_path / "new")
    (tmp_path / "good.tar").write_bytes(good_backup())
    key, content = next((name, data) for name, data in members().items() if name.startswith("blobs/"))
    target.blobs.put_bytes(key.removeprefix("blobs/"), content[:1])
    target.restore(tmp_path / "good.tar")
    assert target.blobs.get_bytes(key.removeprefix("blobs/")) == content


def test_what_was_there_stays_when_a_restore_by_force_is_refused(tmp_path: Path) -> None:
    target = Target(tmp_path / "new")
    (tmp_path / "good.tar").write_bytes(good_backup())
    target.restore(tmp_path / "good.tar")
    before = {key: target.blobs.get_bytes(key) for key in target.blobs.list()}
    parts = members()
    (tmp_path / "wrong.tar").write_bytes(packed({**parts, "rows.jsonl": parts["rows.jsonl"] + b"5\n"}))
    with pytest.raises(BackupUnusable, match="damaged"):
        target.restore(tmp_path / "wrong.tar", force=True)
    assert {key: target.blobs.get_bytes(key) for key in target.blobs.list()} == before
    assert not target.is_empty()
