"""Settings come from the environment, else from files: a URL with a password need not be in a variable."""

from pathlib import Path

import pytest

from service.settings import GatewaySettings
from storage.settings import StorageSettings
from workers.settings import WorkerSettings


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FOVEA_DATABASE_URL", "FOVEA_BROKER_URL", "FOVEA_TRANSIT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FOVEA_SECRETS_DIR", str(tmp_path))
    (tmp_path / "fovea_database_url").write_text("postgresql://fovea:secret@database/fovea\n")
    (tmp_path / "fovea_broker_url").write_text("redis://:secret@broker:6379/0\n")
    (tmp_path / "another_program").write_text("nothing of ours")
    return tmp_path


@pytest.mark.parametrize("settings", [GatewaySettings, WorkerSettings])
def test_every_process_reads_its_urls_from_secret_files(
    secrets: Path, settings: type[GatewaySettings | WorkerSettings]
) -> None:
    read = settings()

    assert read.database == "postgresql://fovea:secret@database/fovea"
    assert read.broker_url == read.transit == "redis://:secret@broker:6379/0"


def test_the_environment_comes_before_a_secret_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_DATABASE_URL", "sqlite:////data/fovea.db")

    assert StorageSettings().database == "sqlite:////data/fovea.db"


def test_without_a_folder_of_secrets_the_defaults_hold(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_SECRETS_DIR", str(secrets / "nowhere"))

    assert StorageSettings(data=secrets).database == f"sqlite:///{secrets}/fovea.db"
