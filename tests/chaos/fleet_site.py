"""Processes as on hosts of their own: PostgreSQL, S3, and two Redis servers that are reached through proxies."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from chaos.site import Site
from chaos.store import S3Store
from s3fs import S3FileSystem
from support.fleet import MODULES
from support.gated_s3 import GatedS3
from support.postgres import PostgresServer, running_postgres
from support.proxy import Proxy

from cli.up.redis_server import broker_arguments, find_redis, transit_arguments
from storage.database import migrate


@dataclass
class FleetSite(Site):
    name = "fleet"
    postgres: PostgresServer = field(init=False)
    _servers: ExitStack = field(default_factory=ExitStack)

    @property
    def database_url(self) -> str:
        return self.postgres.url("fovea")

    @property
    def redis(self) -> Mapping[str, Path]:
        return {name: self._sockets / f"{name}.sock" for name in ("broker", "transit")}

    @property
    def data_folders(self) -> list[Path]:
        return [self.folder / role / "data" for role in MODULES]

    def start(self) -> None:
        """Raises pytest's Skipped where PostgreSQL or moto is missing."""
        pytest.importorskip("moto", reason="moto is not installed: `uv pip install s3fs 'moto[server]'`")
        self.weights.mkdir(exist_ok=True)
        # A unix socket's path may have 107 characters at most.
        self._sockets = Path(self._servers.enter_context(tempfile.TemporaryDirectory(prefix="fovea-chaos-")))
        self.postgres = self._servers.enter_context(running_postgres())
        self.postgres.run("CREATE DATABASE fovea")
        migrate(self.database_url)
        s3 = GatedS3().start()
        self._servers.callback(s3.stop)
        # The test reads the store by itself, too.
        os.environ.update(s3.environment)
        # fsspec keeps the client of the seed before, which knows another address.
        S3FileSystem.clear_instance_cache()
        self.store = S3Store(s3, s3.make_bucket())
        for name, socket in self.redis.items():
            (self.folder / name).mkdir()
            self.keep(name, lambda name=name: self._start_redis(name))  # type: ignore[misc]
            self.wait_until(socket.exists, f"{name}'s socket", 20)
            self.proxies[name] = Proxy(socket).start()
            self._servers.callback(self.proxies[name].stop)
        for role in MODULES:
            self.keep(role, lambda role=role: self._start_host(role))  # type: ignore[misc]

    def stop(self) -> None:
        self.end_kept(["gateway", "training", "inference", "transit", "broker"])

    def remove(self) -> None:
        self._servers.close()

    def _start_redis(self, name: str) -> "subprocess.Popen[bytes]":
        binary, socket = find_redis(), self.redis[name]
        if name == "broker":
            command = broker_arguments(binary, socket, self.folder / name)
        else:
            command = transit_arguments(binary, socket)
        return self.spawn(name, command, {**os.environ, "CHAOS_RUN": self.run_id})

    def _start_host(self, role: str) -> "subprocess.Popen[bytes]":
        folder = self.folder / role
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        own = {
            **self.environment(),
            **self.store.server.environment,  # type: ignore[union-attr]
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "FOVEA_DATA": str(folder / "data"),
            "FOVEA_PORT": str(self.port),
            "FOVEA_DATABASE_URL": self.database_url,
            "FOVEA_BLOBS_URL": self.store.url,
            "FOVEA_BROKER_URL": f"redis://127.0.0.1:{self.proxies['broker'].port}/0",
            "FOVEA_TRANSIT_URL": f"redis://127.0.0.1:{self.proxies['transit'].port}/0",
        }
        return self.spawn(role, [sys.executable, "-m", MODULES[role]], own)
