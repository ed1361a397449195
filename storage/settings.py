"""Where the database and the blobs lie, as every process that opens them reads it from its environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class StorageSettings(BaseSettings):
    """Every field can be set by an environment variable of its name with the prefix `FOVEA_`."""

    model_config = SettingsConfigDict(env_prefix="FOVEA_", extra="ignore")

    data: Path = Field(Path("data"), description="Folder of caches and, by default, database, blobs and weights.")
    database_url: str = Field("", description="SQLAlchemy URL; SQLite under `data` when empty.")
    blobs_url: str = Field(
        "", description="fsspec URL of artifacts and datasets; a folder under `data` when empty."
    )

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data.absolute() / 'fovea.db'}"

    @property
    def blobs(self) -> str:
        return self.blobs_url or (self.data.absolute() / "blobs").as_uri()
