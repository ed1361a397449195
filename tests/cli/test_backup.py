"""`fovea backup` and `fovea restore` as commands: a whole data folder through one file."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

from storage.blobs import BlobStore
from storage.database import migrate, open_database
from storage.registry import ModelRegistry


def fovea(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments], capture_output=True, text=True, check=False
    )


def furnish(data: Path) -> None:
    url = f"sqlite:///{data / 'fovea.db'}"
    migrate(url)
    BlobStore(str(data / "blobs")).put_bytes("models/ants/1/manifest.json", b"{}")
    database = open_database(url)
    manifest = {"labels": ["ant"]}
    ModelRegistry(database).add_version("ants", artifact="models/ants/1", manifest=manifest, size_bytes=2)
    database.close()


def model_of(data: Path) -> str:
    database = open_database(f"sqlite:///{data / 'fovea.db'}")
    try:
        return ModelRegistry(database).resolve("ants").artifact
    finally:
        database.close()


def test_a_data_folder_goes_through_one_file_into_another(tmp_path: Path) -> None:
    furnish(tmp_path / "old")
    (tmp_path / "backups").mkdir()
    made = fovea("backup", str(tmp_path / "backups"), "--data", str(tmp_path / "old"), "--json")
    assert made.returncode == 0, made.stderr
    summary = json.loads(made.stdout)
    assert (summary["rows"]["versions"], summary["blobs"]) == (1, 1)
    (file,) = (tmp_path / "backups").iterdir()
    assert summary["file"] == str(file)

    back = fovea("restore", str(file), "--data", str(tmp_path / "new"))
    assert back.returncode == 0, back.stderr
    assert "1 models, 1 versions" in back.stdout
    assert model_of(tmp_path / "new") == "models/ants/1"
    assert (tmp_path / "new/blobs/models/ants/1/manifest.json").read_bytes() == b"{}"

    again = fovea("restore", str(file), "--data", str(tmp_path / "new"))
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert fovea("restore", str(file), "--data", str(tmp_path / "new"), "--force").returncode == 0


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path) -> None:
    furnish(tmp_path / "old")
    (tmp_path / "taken").write_text("mine")
    data = ("--data", str(tmp_path / "old"))
    for arguments, said in (
        (("backup", str(tmp_path / "taken"), *data), "never overwritten"),
        (("backup", str(tmp_path / "no" / "where"), *data), "no folder"),
        (("backup", str(tmp_path / "b.tar"), "--data", str(tmp_path / "none")), "no Fovea"),
        (("restore", str(tmp_path / "taken"), "--data", str(tmp_path / "new")), "cannot be read as a backup"),
    ):
        done = fovea(*arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "taken").read_text() == "mine"
    assert not (tmp_path / "none").exists()


def test_a_running_fovea_is_not_restored_into(tmp_path: Path) -> None:
    furnish(tmp_path / "old")
    made = fovea("backup", str(tmp_path / "b.tar"), "--data", str(tmp_path / "old"))
    assert made.returncode == 0, made.stderr
    (tmp_path / "new").mkdir()
    with (tmp_path / "new" / "fovea.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps({"pid": 1}))
        lock.flush()
        refused = fovea("restore", str(tmp_path / "b.tar"), "--data", str(tmp_path / "new"), "--force")
    assert refused.returncode == 1
    assert "in use" in refused.stderr
