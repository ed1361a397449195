"""Where the database and the blobs lie, as every process that opens them reads it from its environment."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from storage.errors import InvalidSettings

# Where Docker and others mount secrets as files.
SECRETS_FOLDER = "/run/secrets"


class Settings(BaseSettings):
    """Every field is read from the variable `FOVEA_...` of its name, else from a secret file of that name.

    A URL with a password does not belong into a container's environment, which `docker inspect` shows. Fields that
    may hold one are left out where settings are printed. Raises InvalidSettings.
    """

    model_config = SettingsConfigDict(env_prefix="FOVEA_", extra="ignore")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidSettings(_faults(type(self), error)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class calls it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        folder = Path(os.environ.get("FOVEA_SECRETS_DIR", SECRETS_FOLDER))
        if not folder.is_dir():
            return init_settings, env_settings
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, folder)


class StorageSettings(Settings):
    """Every field can be set by an environment variable of its name with the prefix `FOVEA_`."""

    data: Path = Field(Path("data"), description="Folder of caches and, by default, database, blobs and weights.")
    database_url: str = Field("", repr=False, description="SQLAlchemy URL; SQLite under `data` when empty.")
    blobs_url: str = Field(
        "", repr=False, description="fsspec URL of artifacts and datasets; a folder under `data` when empty."
    )

    artifact_cache_bytes: int = Field(
        20 * 2**30,
        gt=0,
        description="Budget of remote artifacts and datasets copied here; least recent go first.",
    )

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data.absolute() / 'fovea.db'}"

    @property
    def blobs(self) -> str:
        return self.blobs_url or (self.data.absolute() / "blobs").as_uri()


def _faults(kind: type[Settings], error: ValidationError) -> str:
    told = []
    for fault in error.errors(include_url=False, include_context=False):
        name = ".".join(map(str, fault["loc"]))
        field = kind.model_fields.get(name)
        # A validator of ours names what was given itself.
        is_ours = fault["type"] == "value_error"
        given = f", not {str(fault['input'])[:80]!r}" if field is not None and field.repr and not is_ours else ""
        said = fault["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        told.append(f"FOVEA_{name.upper()}: {said}{given}")
    return "; ".join(told)
