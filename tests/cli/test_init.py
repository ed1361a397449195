"""What a compose project needs before its first start is made once, by the command and by the script alike."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.command import fovea

from storage.database import migrate, open_database
from storage.keys import KeyRing

ROOT = Path(__file__).parent.parent.parent
Init = Callable[[Path], str]


def by_command(folder: Path) -> str:
    done = fovea("init", "--folder", str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_script(folder: Path) -> str:
    script = ["sh", ROOT / "docker/init.sh", folder]
    return subprocess.run(script, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/env.template").write_bytes((ROOT / "docker/env.template").read_bytes())
    return tmp_path


@pytest.fixture(params=[by_command, by_script])
def init(request: pytest.FixtureRequest) -> Init:
    found: Init = request.param
    return found


def secret(clone: Path, name: str) -> str:
    return (clone / "secrets" / name).read_text().strip()


def test_both_write_the_same_files(tmp_path: Path) -> None:
    names = []
    for number, init in enumerate((by_command, by_script)):
        folder = tmp_path / str(number)
        (folder / "docker").mkdir(parents=True)
        (folder / "docker/env.template").write_bytes((ROOT / "docker/env.template").read_bytes())
        init(folder)
        names.append({(path.relative_to(folder), oct(path.stat().st_mode)) for path in folder.rglob("*")})

    assert names[0] == names[1]
    by_python, by_sh = ((tmp_path / str(number) / ".env").read_text() for number in (0, 1))
    assert by_python == by_sh


def test_the_urls_hold_the_passwords_of_the_servers(clone: Path, init: Init) -> None:
    init(clone)

    database = urlsplit(secret(clone, "database_url"))
    assert (database.username, database.password) == ("fovea", secret(clone, "postgres_password"))
    for name, host in (("broker_url", "broker"), ("transit_url", "transit")):
        url = urlsplit(secret(clone, name))
        assert (url.hostname, url.password) == (host, secret(clone, "redis_password"))


def test_secrets_are_long_and_random(clone: Path, init: Init) -> None:
    init(clone)

    # 32 random bytes as base64url; its characters mean nothing in a URL.
    passwords = [secret(clone, name) for name in ("postgres_password", "redis_password", "grafana_password")]
    assert {len(password) for password in passwords} == {43}
    assert all(character.isalnum() or character in "-_" for password in passwords for character in password)
    keys = [secret(clone, name) for name in ("admin_key", "metrics_key")]
    assert len({*passwords, *keys}) == 5


def test_nobody_else_enters_the_folder_and_containers_read_its_files(clone: Path, init: Init) -> None:
    init(clone)

    assert (clone / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (clone / "secrets").iterdir()} == {0o444}


def test_what_is_there_is_never_written_again(clone: Path, init: Init) -> None:
    (clone / ".env").write_text("FOVEA_PORT=9000\n")
    (clone / "secrets").mkdir()
    (clone / "secrets/postgres_password").write_text("mine\n")
    init(clone)
    first = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    assert "wrote" not in init(clone)

    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == first
    assert (clone / ".env").read_text() == "FOVEA_PORT=9000\n"
    assert urlsplit(secret(clone, "database_url")).password == "mine"


def test_another_folder_than_a_clone_is_refused(tmp_path: Path) -> None:
    done = fovea("init", "--folder", str(tmp_path))

    assert done.returncode == 1
    assert f"{tmp_path} is no copy of Fovea" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_first_keys_open_once_the_database_is_migrated(
    clone: Path, init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(clone)
    monkeypatch.setenv("FOVEA_DATABASE_URL", f"sqlite:///{clone / 'fovea.db'}")
    files = [f"--{name}-key={clone / 'secrets' / f'{name}_key'}" for name in ("admin", "metrics")]
    for _ in range(2):
        done = fovea("migrate", *files)
        assert done.returncode == 0, done.stderr

    opened = open_database(f"sqlite:///{clone / 'fovea.db'}")
    ring = KeyRing(opened)
    admin, metrics = (ring.verify(secret(clone, name)) for name in ("admin_key", "metrics_key"))
    opened.close()
    assert admin is not None
    assert admin.scopes == ("admin",)
    assert metrics is not None
    assert metrics.scopes == ()


def test_a_key_file_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'fovea.db'}"
    monkeypatch.setenv("FOVEA_DATABASE_URL", url)
    migrate(url)
    done = fovea("migrate", "--admin-key", str(tmp_path / "nowhere"))

    assert done.returncode == 1
    assert "nowhere" in done.stderr
