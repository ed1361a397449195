"""A real PostgreSQL server for tests: private, on a unix socket in its own folder, and on no port."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

_ADMIN = "postgres"
# PostgreSQL refuses to run as root.
_USER = "nobody" if os.geteuid() == 0 else None


@dataclass(frozen=True)
class PostgresServer:
    """The folder holds its data, log and socket; `programs` is where `initdb` and `pg_ctl` lie."""

    folder: Path
    programs: Path

    def url(self, name: str) -> str:
        return f"postgresql://{_ADMIN}@/{name}?host={self.folder}"

    def run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        options += " -c max_connections=200"
        self._call("pg_ctl", "-D", "data", "-l", "log", "-o", options, "-w", "start")

    def stop(self) -> None:
        """At once, as a crash would: clients see their connections break."""
        self._call("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def make(self) -> None:
        if _USER:
            shutil.chown(self.folder, _USER)
        self._call("initdb", "-D", "data", "-U", _ADMIN, "-A", "trust", "-E", "UTF8", "--no-sync")

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, user=_USER, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            log = self.folder / "log"
            details = log.read_text() if log.exists() else ""
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}{details}")


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not on this machine (Debian: `apt install postgresql`)")
    # Not pytest's folder: a unix socket's path may have 107 characters at most.
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="fovea-pg-")), programs)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


def _programs() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    found = shutil.which("initdb")
    candidates = [*([Path(found).resolve().parent] if found else []), *folders]
    return next((f for f in candidates if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)
