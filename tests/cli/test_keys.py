"""Keys are made, listed and revoked on the database, and open what their scopes say."""

import getpass
import json
import subprocess
import sys
from pathlib import Path

from storage.audit import AuditLog
from storage.database import open_database
from storage.keys import KeyRing


def fovea_keys(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", "keys", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_key_lives_from_its_making_to_its_revoking(tmp_path: Path) -> None:
    made = fovea_keys("create", "laptop", "--scope", "classify", "--scope", "train", "--data", str(tmp_path))
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    database = open_database(f"sqlite:///{tmp_path / 'fovea.db'}")
    key = KeyRing(database).verify(token)
    assert key is not None
    assert (key.name, key.scopes) == ("laptop", ("classify", "train"))

    (listed,) = json.loads(fovea_keys("list", "--json", "--data", str(tmp_path)).stdout)
    assert (listed["prefix"], listed["state"]) == (key.prefix, "usable")
    assert (listed["last_used_at"], listed["limits"]) == (None, {})
    assert token.split(".")[1] not in json.dumps(listed)

    assert fovea_keys("revoke", token, "--data", str(tmp_path)).returncode == 0
    assert KeyRing(database).verify(token) is None
    entries = AuditLog(database).list(10).items
    assert [(entry.action, entry.actor, entry.actor_name) for entry in entries] == [
        ("key.revoke", "cli", getpass.getuser()),
        ("key.create", "cli", getpass.getuser()),
    ]
    database.close()


def test_limits_are_given_shown_changed_and_forgotten(tmp_path: Path) -> None:
    folder = ("--data", str(tmp_path))
    token = fovea_keys("create", "--requests-per-second", "5", "--bytes-stored", "0", *folder).stdout.strip()

    def limits(*options: str) -> str:
        return fovea_keys("limits", token, *options, *folder).stdout.partition(": ")[2].strip()

    assert limits("--jobs-waiting", "3") == "5 requests/s, 3 jobs waiting, no limit on bytes stored"
    database = open_database(f"sqlite:///{tmp_path / 'fovea.db'}")
    (key,) = KeyRing(database).list()
    KeyRing(database).record_use([key.prefix])
    database.close()
    headings, listed = fovea_keys("list", *folder).stdout.splitlines()
    assert headings.split()[-3:] == ["last", "used", "limits"]
    assert listed.endswith("5 requests/s, 3 jobs waiting, no limit on bytes stored")
    assert limits("--reset", "--images-in-flight", "2") == "2 images in flight"
    assert limits("--reset") == limits() == "as the gateway is set"
    assert fovea_keys("limits", "000000000000", *folder).returncode == 1


def test_an_unknown_scope_and_an_unknown_folder_are_refused(tmp_path: Path) -> None:
    wrong = fovea_keys("create", "--scope", "everything", "--data", str(tmp_path))
    assert wrong.returncode == 2
    assert "everything" in wrong.stderr
    missing = fovea_keys("list", "--data", str(tmp_path / "nowhere"))
    assert missing.returncode == 1
    assert missing.stderr.startswith(f"fovea: there is no data folder {tmp_path / 'nowhere'}")
    assert not (tmp_path / "nowhere").exists()
