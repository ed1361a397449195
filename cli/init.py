"""`fovea init`: what a compose project needs before its first start, made once: `.env` and `secrets/`.

`docker/init.sh` does the same on a host without Python.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from system.files import written_whole

TEMPLATE = Path("docker/env.template")
# Nobody else enters the folder; its files are read by containers whose users own nothing on the host.
PRIVATE_FOLDER, READABLE = 0o700, 0o444


def init(
    folder: Annotated[
        Path, typer.Option(help="A copy of Fovea: the folder with docker-compose.yml.", show_default="this one")
    ] = Path(),
) -> None:
    """Write `.env` and `secrets/` for docker compose, with random passwords and keys. Never overwrites."""
    from cli.errors import CliError, FileNotWritten

    folder = folder.absolute()
    if not (folder / TEMPLATE).is_file():
        raise CliError(f"{folder} is no copy of Fovea: it has no {TEMPLATE}; name the folder with --folder")
    print(f"{folder}:")
    try:
        (folder / "secrets").mkdir(exist_ok=True)
        (folder / "secrets").chmod(PRIVATE_FOLDER)
        for name, value in _secrets(folder / "secrets"):
            _write_once(folder, f"secrets/{name}", value + "\n", READABLE)
        settings = (folder / TEMPLATE).read_text("utf-8").replace("@cores@", str(os.cpu_count() or 1))
        _write_once(folder, ".env", settings, 0o644)
    except OSError as error:
        raise FileNotWritten(f"{error.filename} cannot be written: {error.strerror}") from error
    print(
        "\nNext:\n  docker compose up -d --wait\n"
        '  curl -H "Authorization: Bearer $(cat secrets/admin_key)" http://127.0.0.1:8000/v1/models'
    )


def _secrets(folder: Path) -> Iterator[tuple[str, str]]:
    """The URLs hold the passwords that lie beside them, also those that were there before."""
    from storage.keys import new_token

    yield "postgres_password", secrets.token_urlsafe(32)
    yield "redis_password", secrets.token_urlsafe(32)
    postgres = (folder / "postgres_password").read_text().strip()
    redis = (folder / "redis_password").read_text().strip()
    yield "database_url", f"postgresql://fovea:{postgres}@database/fovea"
    yield "broker_url", f"redis://:{redis}@broker:6379/0"
    yield "transit_url", f"redis://:{redis}@transit:6379/0"
    yield "admin_key", new_token()
    yield "metrics_key", new_token()
    yield "grafana_password", secrets.token_urlsafe(32)


def _write_once(folder: Path, name: str, text: str, mode: int) -> None:
    path = folder / name
    if path.exists():
        print(f"  kept   {name}")
        return
    with written_whole(path) as part:
        # Nobody else may read it while it is being written, nor afterwards what is not for them.
        part.touch(0o600)
        part.write_text(text, encoding="utf-8")
        part.chmod(mode)
    print(f"  wrote  {name}")
